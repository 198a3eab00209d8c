//! Putting the parts together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use margay_dataplane::local;
use margay_policy::model::NodeName;
use margay_sync::message::{Change, NodeState, Revision};
use margay_sync::status::{Drift, Link};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cni::attach::Attacher;
use crate::cni::forget::Forgetter;
use crate::cni::unlink::Unlinker;
use crate::core::{Core, Input, Known, nat};
use crate::health::{Metrics, What};
use crate::host::{Host, Order, Repair};
use crate::journal::{Journal, Record};
use crate::locks::Locks;
use crate::saver::Saver;
use crate::settings::Args;
use crate::sync::kept::{self, Kept};
use crate::sync::{Client, Controller};
use crate::view::View;
use crate::{bgp, clock, cni, control, health, nft, privileges, sys};

mod stock;

use stock::{pods, take_stock};

/// How long the addresses of pods that go are gathered: less than their links take to go.
const FAREWELL: Duration = Duration::from_millis(10);
/// How many inputs may wait for the core; whoever has more waits too.
const INPUTS: usize = 256;

/// Runs until SIGTERM or SIGINT; the kernel stays as it is then.
///
/// # Errors
/// Whatever keeps felix from starting.
pub fn run(args: Args) -> anyhow::Result<()> {
    let begun = clock::now();
    sys::share_memory();
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
    let kept = args.state.join("stream.jsonl");
    let replica = kept::load(&kept).unwrap_or_default();
    let (records, links) = take_stock(&journal)?;
    let metrics = Arc::new(Metrics::new());
    let (inputs, mut core_inputs) = mpsc::channel(INPUTS);
    let (view_sender, view) = watch::channel(Arc::default());
    let (told, bgp_status) = watch::channel(margay_bgpd::Status::default());
    let (link, link_state) = watch::channel(Link::Unknown);
    let (mut state, mut revision) = (replica.state().clone(), replica.revision().cloned());
    let client = Client {
        controller: Controller {
            address: args.controller.clone(),
            node: args.node(),
            ca: args.ca.clone(),
            token_file: args.token_file.clone(),
        },
        replica,
        anew: false,
        kept: Kept::new(kept, saver.clone()),
        core: inputs.clone(),
        view: view.clone(),
        bgp: bgp_status.clone(),
        link,
        messages: metrics.messages.clone(),
    };
    tokio::spawn(client.run());
    if revision.is_none() && !records.is_empty() {
        let pods = records.len();
        tracing::warn!(
            pods,
            "the policy of running pods is unknown; the kernel stays as it is until the controller tells"
        );
        tokio::select! {
            first = first_state(&mut core_inputs, &mut state) => revision = first,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
    let known = Known::from_snapshot(&state, revision);
    let repaired = repairs(&inputs, &metrics);
    let (host, _) = Host::start(
        links,
        (known.blocks(), known.aggregates()),
        metrics.routes.clone(),
        repaired,
    )?;
    if let Some(network) = &state.network {
        host.order(Order::Node(network.addresses.clone()));
    }
    let nft = start_nft(state, &records, args.table, &inputs, &metrics)?;
    let addresses_file = args.state.join("addresses.json");
    let mut core = Core {
        pods: pods(&addresses_file, records),
        nft: nft.clone(),
        host: host.clone(),
        saver,
        addresses_file,
        save_at: None,
        own: inputs.downgrade(),
        latency: metrics.latency.clone(),
        view: view_sender,
        state: known,
    };
    core.begin();
    start_core(core, core_inputs)?;

    let questions = speak(args.node(), &view, told, &bgp_status, &host);
    let served = Served {
        inputs: inputs.clone(),
        journal,
        metrics,
        view: view.clone(),
        bgp: bgp_status,
        questions,
        link: link_state,
        host: host.clone(),
        nft,
    };
    serve(&args, served).await?;
    tokio::spawn(say_when_in_force(view, begun));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    host.order(Order::Stop);
    let (reply, done) = oneshot::channel();
    if inputs.send(Input::Save(reply)).await.is_ok() {
        let _ = done.await;
    }
    Ok(())
}

/// Starts BGP.
fn speak(
    node: NodeName,
    view: &watch::Receiver<Arc<View>>,
    told: watch::Sender<margay_bgpd::Status>,
    status: &watch::Receiver<margay_bgpd::Status>,
    host: &Host,
) -> margay_bgpd::Questions {
    let steering = bgp::Steering::new(node, &view.borrow());
    let (settings, to_speak) = watch::channel(steering.used().clone());
    let (learned, routes) = mpsc::channel(64);
    let (questions, asked) = margay_bgpd::Questions::new();
    tokio::spawn(margay_bgpd::run_with_questions(
        to_speak, learned, told, asked,
    ));
    tokio::spawn(bgp::steer(
        steering,
        view.clone(),
        status.clone(),
        settings,
        questions.clone(),
    ));
    let kernel = host.clone();
    let order = move |order| kernel.order(order);
    tokio::spawn(bgp::hand_on(routes, status.clone(), bgp::GRACE, order));
    questions
}

/// What is served to others.
struct Served {
    inputs: mpsc::Sender<Input>,
    journal: Journal,
    metrics: Arc<Metrics>,
    view: watch::Receiver<Arc<View>>,
    bgp: watch::Receiver<margay_bgpd::Status>,
    questions: margay_bgpd::Questions,
    link: watch::Receiver<Link>,
    host: Host,
    nft: nft::Nft,
}

/// Opens health, the socket of `margayctl`, and that of the plugin.
async fn serve(args: &Args, served: Served) -> anyhow::Result<()> {
    let Served {
        inputs,
        journal,
        metrics,
        view,
        bgp,
        questions,
        link,
        host,
        nft,
    } = served;
    let looked_up = health::Sources {
        metrics,
        view: view.clone(),
        bgp: bgp.clone(),
        link: link.clone(),
        nft: nft.clone(),
    };
    health::start(args.health, looked_up)?;
    let listener = cni::listen(&args.run.join("felix.sock"))?;
    let shown = control::Sources {
        view: view.clone(),
        bgp,
        questions,
        link,
        host: host.clone(),
        nft,
    };
    tokio::spawn(control::serve(listener, shown));
    let attacher = Arc::new(Attacher {
        core: inputs,
        host,
        journal,
        view,
        locks: Locks::default(),
        forgetter: Forgetter::start(Duration::ZERO)?,
        farewells: Forgetter::start(FAREWELL)?,
        unlinker: Unlinker::start()?,
        clean: Mutex::default(),
    });
    let cni_socket = args.run.join("cni.sock");
    let socket = cni_socket.clone();
    tokio::task::spawn_blocking(move || cni::start(&socket, attacher)).await??;
    if let Some(path) = &args.cni_config {
        cni::configuration::put(path, &cni_socket, &args.state)?;
    }
    tracing::info!(node = args.node, "felix serves CNI");
    Ok(())
}

/// Waits for the first that the controller tells, and takes it over.
async fn first_state(
    inputs: &mut mpsc::Receiver<Input>,
    state: &mut NodeState,
) -> Option<Revision> {
    while let Some(input) = inputs.recv().await {
        if let Input::Changes(changes, revision) = input {
            for change in changes {
                match change {
                    Change::Policy(change) => state.policy.apply(&change),
                    Change::Network(network) => state.network = network,
                }
            }
            return Some(revision);
        }
    }
    None
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
    state: NodeState,
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
        nat: nat(state.network.as_ref()),
        policy: state.policy,
        attachments: attachments.collect(),
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
