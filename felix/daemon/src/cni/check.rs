//! CHECK: is everything as ADD made it?

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_cni::error::Code;
use margay_cni::request::Attachment;
use margay_cni::{Attached, Refusal};
use margay_netlink::{Connection, LinkRef};

use super::attach::Attacher;
use super::receive::Descriptors;
use super::sandbox;
use crate::journal::Record;

/// Looks at both ends of the pod's link.
pub(crate) fn check(
    attacher: &Attacher,
    attachment: &Attachment,
    previous: &Attached,
    descriptors: Descriptors,
) -> Result<(), Refusal> {
    let Some(record) = attacher.find(attachment) else {
        return Err(Refusal::new(
            Code::UnknownContainer,
            format!(
                "{} of container {} is not attached",
                attachment.interface, attachment.container
            ),
        ));
    };
    let told: BTreeSet<IpAddr> = previous.ips.iter().map(|ip| ip.address.addr()).collect();
    if !record.addresses.is_subset(&told) {
        return broken("prevResult has other addresses than the attachment");
    }
    host(&record)?;
    let mut inside = Connection::adopt(descriptors.netlink).map_err(unreadable)?;
    pod(&record, &mut inside)?;
    match attacher.view.borrow().trouble.clone() {
        None => Ok(()),
        Some(why) => broken(&format!(
            "the kernel has not the pod's present rules: {why}"
        )),
    }
}

fn host(record: &Record) -> Result<(), Refusal> {
    let link = Connection::open()
        .and_then(|mut connection| connection.link(&LinkRef::Name(record.link.clone())))
        .map_err(unreadable)?;
    match link {
        None => broken(&format!("the link {} is gone", record.link)),
        Some(link) if !link.up => broken(&format!("the link {} is down", record.link)),
        Some(_) => Ok(()),
    }
}

fn pod(record: &Record, inside: &mut Connection) -> Result<(), Refusal> {
    let interface = &record.attachment.interface;
    let link = inside
        .link(&LinkRef::Name(interface.clone()))
        .map_err(unreadable)?;
    let Some(link) = link else {
        return broken(&format!("{interface} is gone"));
    };
    if !link.up {
        return broken(&format!("{interface} is down"));
    }
    let addresses = inside.addresses().map_err(unreadable)?;
    for address in &record.addresses {
        if !addresses.contains(&(link.index, *address)) {
            return broken(&format!("{interface} has lost the address {address}"));
        }
    }
    let there = inside.routes(sandbox::POD_PROTOCOL).map_err(unreadable)?;
    for gateway in sandbox::gateways(record) {
        for route in sandbox::routes(gateway, link.index) {
            if !there.contains(&route) {
                return broken(&format!("the pod has lost its route to {}", route.prefix));
            }
        }
    }
    Ok(())
}

fn broken(what: &str) -> Result<(), Refusal> {
    Err(Refusal::new(Code::Broken, what))
}

fn unreadable(error: margay_netlink::Error) -> Refusal {
    Refusal::new(Code::Io, "the attachment cannot be looked at").with(error.to_string())
}
