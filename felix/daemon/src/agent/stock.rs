//! What was attached before we started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use margay_dataplane::ruleset::LINK_PREFIX;
use margay_ipam::allocator::Allocator;
use margay_netlink::{Batch, Connection, Link as Found, LinkRef, NextHop, RouteKind};

use crate::cni::forget::forget;
use crate::host::PodLink;
use crate::journal::{Journal, Record};
use crate::pods::{COOL_DOWN, Pods};
use crate::routes::PROTOCOL;
use crate::{clock, disk, names};

/// Compares journal and kernel: what has no link is forgotten, links that nobody recorded are deleted.
pub(super) fn take_stock(journal: &Journal) -> anyhow::Result<(Vec<Record>, Vec<PodLink>)> {
    let mut connection = Connection::open()?;
    let mut there: BTreeMap<String, Found> = connection
        .links()?
        .into_iter()
        .filter(|link| link.name.starts_with(LINK_PREFIX))
        .map(|link| (link.name.clone(), link))
        .collect();
    rebuild(journal, &mut connection, &there)?;
    let (mut records, mut links) = (Vec::new(), Vec::new());
    let mut lost = BTreeSet::new();
    for record in journal.records()? {
        if let Some(link) = there.remove(&record.link) {
            links.push(PodLink {
                name: record.link.clone(),
                index: link.index,
                pod_mac: names::pod_mac(&record.attachment),
                addresses: record.addresses.clone(),
            });
            records.push(record);
        } else {
            let (pod, link) = (&record.pod, &record.link);
            tracing::info!(%pod, link, "an attachment has lost its link and is forgotten");
            lost.extend(&record.addresses);
            journal.remove(&record.attachment)?;
        }
    }
    if let Err(error) = forget(&lost) {
        tracing::warn!(%error, "connections of pods that are gone stay");
    }
    for name in there.into_keys() {
        tracing::info!(
            link = name,
            "a link that belongs to no attachment is deleted"
        );
        let mut batch = Batch::new();
        batch.delete_link(&LinkRef::Name(name));
        if let Err(error) = connection.run(batch) {
            tracing::warn!(%error, "a left-over link stays");
        }
    }
    Ok((records, links))
}

/// Writes records for links that have none and whose notes tell what they belong to: the journal was lost.
fn rebuild(
    journal: &Journal,
    connection: &mut Connection,
    links: &BTreeMap<String, Found>,
) -> anyhow::Result<()> {
    let recorded: BTreeSet<String> = journal.records()?.into_iter().map(|r| r.link).collect();
    let lost: Vec<&Found> = links
        .values()
        .filter(|link| !link.alias.is_empty() && !recorded.contains(&link.name))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let routes = connection.routes(PROTOCOL)?;
    for link in lost {
        let own = RouteKind::Unicast([NextHop::on(link.index)].into());
        let addresses = routes.iter().filter(|route| route.kind == own);
        let addresses = addresses.map(|route| route.prefix.addr()).collect();
        if let Some(record) = Record::rebuild(&link.name, &link.alias, addresses) {
            tracing::warn!(pod = %record.pod, link = record.link, "the record of an attachment was lost and is rebuilt");
            journal.write(&record)?;
            journal.keep(&record)?;
        }
    }
    Ok(())
}

/// The attachments of before, with the allocator's memory of which addresses were free how long.
pub(super) fn pods(file: &Path, records: Vec<Record>) -> Pods {
    let allocator = disk::get_json::<Allocator>(file).unwrap_or_else(|error| {
        tracing::warn!(%error, "it is forgotten when addresses were released");
        None
    });
    let mut pods = Pods::new(allocator.unwrap_or_else(|| Allocator::new(COOL_DOWN)));
    pods.restore(records, clock::wall().as_secs());
    pods
}
