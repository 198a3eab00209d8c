//! Putting the parts together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use margay_dataplane::local;
use margay_dataplane::ruleset::LINK_PREFIX;
use margay_ipam::allocator::Allocator;
use margay_netlink::{Batch, Connection, Link as Found, LinkRef, NextHop, RouteKind};
use margay_sync::replica::Replica;
use margay_sync::status::{Drift, Link};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cni::attach::Attacher;
use crate::cni::forget::{Forgetter, forget};
use crate::core::{Core, Input, Known, nat};
use crate::health::{Metrics, What};
use crate::host::{Host, Order, PodLink, Repair};
use crate::journal::{Journal, Record};
use crate::locks::Locks;
use crate::pods::{COOL_DOWN, Pods};
use crate::routes::PROTOCOL;
use crate::saver::Saver;
use crate::settings::Args;
use crate::sync::{Client, Controller};
use crate::view::View;
use crate::{bgp, clock, cni, control, disk, health, names, nft, privileges, sync};

/// How many inputs may wait for the core; whoever has more waits too.
const INPUTS: usize = 256;

/// Runs until SIGTERM or SIGINT; the kernel stays as it is then.
///
/// # Errors
/// Whatever keeps felix from starting.
pub fn run(args: Args) -> anyhow::Result<()> {
    let begun = clock::now();
    // Files and sockets are for root alone.
    umask(Mode::from_bits_truncate(0o077));
    for folder in [&args.state, &args.run] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    privileges::drop_all_but_needed()?;
    forward_packets();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let saver = Saver::start()?;
    runtime.block_on(work(args, begun, saver.clone()))?;
    // Whatever is still running ends with the process; what should be on the disk must get there.
    saver.flush();
    tracing::info!("felix ends; the kernel stays as it is");
    Ok(())
}

async fn work(args: Args, begun: std::time::Instant, saver: Saver) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let journal = Journal::open(&args.state)?;
    let snapshot = args.state.join("snapshot.json");
    let replica = sync::load(&snapshot).unwrap_or_default();
    let (records, links) = take_stock(&journal)?;
    let metrics = Arc::new(Metrics::new());
    let (inputs, core_inputs) = mpsc::channel(INPUTS);
    let known = Known::from_snapshot(replica.state(), replica.revision().cloned());
    let repaired = repairs(&inputs, &metrics);
    let (host, _) = Host::start(links, known.blocks(), metrics.routes.clone(), repaired)?;
    if let Some(network) = &replica.state().network {
        host.order(Order::Node(network.addresses.clone()));
    }
    let nft = start_nft(&replica, &records, args.table, &inputs, &metrics)?;
    let (view_sender, view) = watch::channel(Arc::default());
    let addresses_file = args.state.join("addresses.json");
    let mut core = Core {
        pods: pods(&addresses_file, records),
        nft: nft.clone(),
        host: host.clone(),
        saver: saver.clone(),
        addresses_file,
        save_at: None,
        own: inputs.downgrade(),
        latency: metrics.latency.clone(),
        view: view_sender,
        state: known,
    };
    core.begin();
    start_core(core, core_inputs)?;

    let (settings, to_speak) = watch::channel(bgp::settings(&args.node(), &view.borrow()));
    let (learned, routes) = mpsc::channel(64);
    let (told, bgp_status) = watch::channel(margay_bgpd::Status::default());
    tokio::spawn(margay_bgpd::run(to_speak, learned, told));
    tokio::spawn(bgp::steer(args.node(), view.clone(), settings));
    tokio::spawn(bgp::hand_on(routes, bgp_status.clone(), host.clone()));

    let (link, link_state) = watch::channel(Link::Unknown);
    let client = Client {
        controller: Controller {
            address: args.controller.clone(),
            node: args.node(),
            ca: args.ca.clone(),
            token_file: args.token_file.clone(),
        },
        replica,
        anew: false,
        snapshot,
        save_at: None,
        not_before: begun,
        saver,
        core: inputs.clone(),
        view: view.clone(),
        bgp: bgp_status.clone(),
        link,
    };
    tokio::spawn(client.run());
    let looked_up = health::Sources {
        metrics,
        view: view.clone(),
        bgp: bgp_status.clone(),
        link: link_state.clone(),
        nft: nft.clone(),
    };
    health::start(args.health, looked_up)?;
    let listener = cni::listen(&args.run.join("felix.sock"))?;
    let shown = control::Sources {
        view: view.clone(),
        bgp: bgp_status,
        link: link_state,
        host: host.clone(),
        nft,
    };
    tokio::spawn(control::serve(listener, shown));
    let ending = inputs.clone();
    let attacher = Arc::new(Attacher {
        core: inputs,
        host: host.clone(),
        journal,
        view: view.clone(),
        locks: Locks::default(),
        forgetter: Forgetter::start()?,
        clean: Mutex::default(),
    });
    let cni_socket = args.run.join("cni.sock");
    tokio::task::spawn_blocking(move || cni::start(&cni_socket, attacher)).await??;
    tracing::info!(node = args.node, "felix serves CNI");
    tokio::spawn(say_when_in_force(view, begun));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    host.order(Order::Stop);
    let (reply, done) = oneshot::channel();
    if ending.send(Input::Save(reply)).await.is_ok() {
        let _ = done.await;
    }
    Ok(())
}

/// Compares journal and kernel: what has no link is forgotten, links that nobody recorded are deleted.
fn take_stock(journal: &Journal) -> anyhow::Result<(Vec<Record>, Vec<PodLink>)> {
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
fn pods(file: &Path, records: Vec<Record>) -> Pods {
    let allocator = disk::get_json::<Allocator>(file).unwrap_or_else(|error| {
        tracing::warn!(%error, "it is forgotten when addresses were released");
        None
    });
    let mut pods = Pods::new(allocator.unwrap_or_else(|| Allocator::new(COOL_DOWN)));
    pods.restore(records, clock::wall().as_secs());
    pods
}

fn start_core(core: Core, inputs: mpsc::Receiver<Input>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("core".to_owned())
        .spawn(move || runtime.block_on(core.run(inputs)))?;
    Ok(())
}

fn start_nft(
    replica: &Replica,
    records: &[Record],
    ownership: nft::Ownership,
    inputs: &mpsc::Sender<Input>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<nft::Nft> {
    let attachments = records.iter().map(|record| {
        let attachment = local::Attachment {
            link: record.link.clone(),
            addresses: record.addresses.clone(),
        };
        (record.pod.clone(), attachment)
    });
    let beginning = nft::Beginning {
        policy: replica.state().policy.clone(),
        attachments: attachments.collect(),
        nat: nat(replica.state().network.as_ref()),
    };
    let settings = nft::Settings {
        table: "margay".to_owned(),
        ownership,
        now: clock::now,
    };
    let core = inputs.downgrade();
    let metrics = Arc::clone(metrics);
    let report = move |report: nft::Report| {
        let Some(core) = core.upgrade() else {
            return;
        };
        let input = match report {
            nft::Report::Started {
                adopted,
                operations,
                ownership,
            } => {
                tracing::info!(
                    adopted,
                    operations,
                    ?ownership,
                    "the rules are in the kernel"
                );
                Input::Started
            }
            nft::Report::Repaired { found, by, took } => {
                let drift = found.into_iter().map(|found| {
                    tracing::warn!(what = %found.what, name = found.name, by, "somebody changed what is ours; it is as before again");
                    note(&metrics, found.what.to_string(), found.name, by.clone(), took)
                });
                Input::Repaired(drift.collect())
            }
            nft::Report::Failed { reason, again_in } => {
                tracing::error!(reason, ?again_in, "the kernel does not take our rules");
                Input::Trouble(reason)
            }
        };
        // The writer may wait for the core here, but the core never waits for the writer.
        let _ = core.blocking_send(input);
    };
    Ok(nft::start(settings, beginning, report)?)
}

/// Tells the core of what the host's thread repaired.
fn repairs(inputs: &mpsc::Sender<Input>, metrics: &Arc<Metrics>) -> impl Fn(Repair) + Send + use<> {
    let (core, metrics) = (inputs.downgrade(), Arc::clone(metrics));
    move |Repair { what, name, took }| {
        let drift = note(&metrics, what.to_owned(), name, String::new(), took);
        if let Some(core) = core.upgrade() {
            let _ = core.blocking_send(Input::Repaired(vec![drift]));
        }
    }
}

fn note(
    metrics: &Metrics,
    what: String,
    name: String,
    by: String,
    took: std::time::Duration,
) -> Drift {
    metrics
        .repairs
        .get_or_create(&What { what: what.clone() })
        .inc();
    Drift {
        at: clock::rfc3339(clock::wall()),
        what,
        name,
        by,
        repair_microseconds: took.as_micros().try_into().unwrap_or(u64::MAX),
    }
}

/// A node that does not forward has no pod network.
fn forward_packets() {
    for path in [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        let on = std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0");
        if on {
            continue;
        }
        match std::fs::write(path, "1") {
            Ok(()) => tracing::info!(path, "forwarding was off and is on now"),
            Err(error) => {
                tracing::warn!(path, %error, "forwarding is off and cannot be turned on: pods reach nobody until you do");
            }
        }
    }
}

async fn say_when_in_force(mut view: watch::Receiver<Arc<View>>, begun: std::time::Instant) {
    let in_force = view.wait_for(|view| view.trouble.is_none() && view.realised.is_some());
    if in_force.await.is_ok() {
        let took = clock::now().saturating_duration_since(begun);
        tracing::info!(milliseconds = took.as_millis(), "the policy is in force");
    }
}
