//! Routes into the kernel: our batches beside BIRD's kernel protocol, both timed by the kernel's own
//! notifications, from the first to the last.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net};
use margay_netlink::{Batch, Connection, NextHop, Route, RouteKind};
use margay_tests::lab::guard::Scratch;
use margay_tests::lab::{ip, netns::Netns};
use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::report::{Report, Row, now};

const ROUTES: u32 = 100_000;
const GATEWAYS: u32 = 200;
const PROTOCOL: u8 = 180;
const PATIENCE: Duration = Duration::from_mins(1);

/// Routes per second, 100,000 of them through 200 gateways.
///
/// # Errors
/// If the namespaces or BIRD cannot be had.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..3 {
        ours.push(rate(|_, _| {
            let mut connection = Connection::open()?;
            let mut batch = Batch::new();
            for n in 0..ROUTES {
                batch.put_route(&route(n));
            }
            connection.run(batch)?;
            Ok(None)
        })?);
        theirs.push(rate(|scratch, netns| Ok(Some(bird(scratch, netns)?)))?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    report.add(Row {
        what: "100,000 routes into the kernel".to_owned(),
        ours,
        peer: Some(theirs),
        peer_name: "BIRD".to_owned(),
        unit: "routes/s",
        reach: "≥ 1.5 ×".to_owned(),
        reached: ours >= 1.5 * theirs,
    });
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn prefix(n: u32) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + n * 64), 26)
}

fn gateway(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xac10_0002 + n % GATEWAYS)
}

fn route(n: u32) -> Route {
    let via = NextHop::via(IpAddr::V4(gateway(n)));
    Route {
        prefix: IpNet::V4(prefix(n)),
        protocol: PROTOCOL,
        metric: None,
        kind: RouteKind::Unicast([via].into()),
    }
}

/// Routes per second that `enter` puts into a fresh namespace.
fn rate(enter: impl FnOnce(&Scratch, &Netns) -> Result<Option<Child>> + Send) -> Result<f64> {
    let scratch = Scratch::new();
    let netns = scratch.netns("r")?;
    ip::batch(
        netns.name(),
        &[
            "link add name up type veth peer name down".to_owned(),
            "address add 172.16.0.1/16 dev up".to_owned(),
            "link set dev up up".to_owned(),
            "link set dev down up".to_owned(),
        ],
    )?;
    netns.run(|| {
        let notifications = Notifications::open()?;
        let counting = std::thread::spawn(move || notifications.count());
        let child = enter(&scratch, &netns);
        let counted = counting.join().expect("counting does not panic");
        if let Some(mut child) = child? {
            child.kill()?;
            child.wait()?;
        }
        Ok(f64::from(ROUTES - 1) / counted?.as_secs_f64())
    })
}

fn bird(scratch: &Scratch, netns: &Netns) -> Result<Child> {
    let mut config =
        "router id 172.16.0.1;\nprotocol device {}\nprotocol kernel { ipv4 { export all; }; }\n\
                      protocol static { ipv4;\n"
            .to_owned();
    for n in 0..ROUTES {
        writeln!(config, "route {} via {};", prefix(n), gateway(n))?;
    }
    config.push_str("}\n");
    let file = scratch.folder().join("bird.conf");
    fs::write(&file, config)?;
    Command::new("ip")
        .args(["netns", "exec", netns.name(), "bird", "-f", "-c"])
        .arg(&file)
        .arg("-s")
        .arg(scratch.folder().join("bird.ctl"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start bird: install the package bird2")
}

/// Notifications of new IPv4 routes in the thread's namespace.
struct Notifications(Socket);

impl Notifications {
    fn open() -> Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::RAW,
            Some(libc::NETLINK_ROUTE.into()),
        )?;
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::RcvBufForce,
            &(512 << 20),
        )?;
        let group = 1 << (libc::RTNLGRP_IPV4_ROUTE - 1);
        nix::sys::socket::bind(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            &nix::sys::socket::NetlinkAddr::new(0, group),
        )?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// From the first to the last of [`ROUTES`] notifications.
    fn count(&self) -> Result<Duration> {
        let mut seen = 0;
        let mut first: Option<Instant> = None;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = nix::sys::socket::recv(
                std::os::fd::AsRawFd::as_raw_fd(&self.0),
                &mut buffer,
                nix::sys::socket::MsgFlags::empty(),
            )
            .context("the kernel tells of no more routes")?;
            let at = now();
            let mut rest = &buffer[..length];
            while let Some((header, _)) = rest.split_first_chunk::<6>() {
                let size =
                    u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                if u16::from_ne_bytes([header[4], header[5]]) == libc::RTM_NEWROUTE {
                    seen += 1;
                }
                if size < 16 {
                    bail!("a notification of {size} octets");
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
            let start = *first.get_or_insert(at);
            if seen >= ROUTES {
                return Ok(at.duration_since(start));
            }
        }
    }
}
