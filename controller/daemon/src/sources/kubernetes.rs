//! An API server as the source: every kind watched, reduced at the door, handed on as changes.
//!
//! Each kind has a task that follows its watch; one task keeps the [`book`] of what is known and sends
//! what differs to the index. A watch that begins anew lists everything once more: what it lists
//! is compared with the book and what it does not list is deleted at its end, so nothing is ever gone in
//! between.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use margay_api::load::Object;
use margay_api::v1::{BgpFilter, BgpPeer, IpBlock, IpPool, NetworkConfig};
use margay_sync::status::ObjectsPage;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::info;

use self::book::{Book, Output};
use self::watch::{Notice, follow};
use crate::index_task::Input;

mod book;
mod reduce;
mod watch;

/// Notices that may wait before watches do.
const QUEUE: usize = 256;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `v1` Node.
    Node,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    NetworkPolicy,
    /// `margay.io/v1alpha1` `IPPool`.
    IpPool,
    /// `margay.io/v1alpha1` `IPBlock`.
    IpBlock,
    /// `margay.io/v1alpha1` `BGPPeer`.
    BgpPeer,
    /// `margay.io/v1alpha1` `BGPFilter`.
    BgpFilter,
    /// `v1` Secret of our own namespace: passwords.
    Secret,
    /// `margay.io/v1alpha1` `NetworkConfig`.
    NetworkConfig,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 10] = [
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::NetworkPolicy,
        Self::IpPool,
        Self::IpBlock,
        Self::BgpPeer,
        Self::BgpFilter,
        Self::Secret,
        Self::NetworkConfig,
    ];

    /// Its name in the API.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::IpPool => "IPPool",
            Self::IpBlock => "IPBlock",
            Self::BgpPeer => "BGPPeer",
            Self::BgpFilter => "BGPFilter",
            Self::Secret => "Secret",
            Self::NetworkConfig => "NetworkConfig",
        }
    }
}

/// The running source; its tasks end with it.
#[derive(Debug)]
pub(crate) struct Handle {
    tasks: JoinSet<()>,
    pages: Pages,
}

/// Asks the source what there is.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    requests: mpsc::Sender<Request>,
}

/// What can be asked, each with where the answer goes.
#[derive(Debug)]
enum Request {
    Page(oneshot::Sender<ObjectsPage>),
    Troubled(oneshot::Sender<Vec<Trouble>>),
    Uids(
        BTreeSet<Subject>,
        oneshot::Sender<BTreeMap<Subject, String>>,
    ),
}

/// Kind, namespace and name.
pub(crate) type Subject = (&'static str, String, String);

/// An object that cannot be used as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its namespace; empty if it has none.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Why it is not in force as it stands.
    pub(crate) refused: Option<String>,
    /// What in it fails closed.
    pub(crate) problems: Vec<String>,
}

impl Pages {
    /// What the source holds, for people; `None` if it has stopped.
    pub(crate) async fn get(&self) -> Option<ObjectsPage> {
        self.ask(Request::Page).await
    }

    /// Objects with problems.
    pub(crate) async fn troubled(&self) -> Option<Vec<Trouble>> {
        self.ask(Request::Troubled).await
    }

    /// The uids of these objects, as far as they are known.
    pub(crate) async fn uids(
        &self,
        wanted: BTreeSet<Subject>,
    ) -> Option<BTreeMap<Subject, String>> {
        self.ask(|answer| Request::Uids(wanted, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, page) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        page.await.ok()
    }
}

impl Handle {
    /// A way to ask what there is.
    pub(crate) fn pages(&self) -> Pages {
        self.pages.clone()
    }

    /// Ends all tasks.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Follows everything; `synced` is told once each kind was listed whole.
pub(crate) fn start(
    client: &Client,
    own_namespace: &str,
    index: mpsc::Sender<Input>,
    synced: oneshot::Sender<()>,
) -> Handle {
    let (notices, inbox) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    let send = |kind| (kind, notices.clone());
    tasks.spawn(follow(
        Api::<Node>::all(client.clone()),
        send(Kind::Node),
        reduce::node,
    ));
    tasks.spawn(follow(
        Api::<Namespace>::all(client.clone()),
        send(Kind::Namespace),
        reduce::namespace,
    ));
    tasks.spawn(follow(
        Api::<Pod>::all(client.clone()),
        send(Kind::Pod),
        reduce::pod,
    ));
    tasks.spawn(follow(
        Api::<NetworkPolicy>::all(client.clone()),
        send(Kind::NetworkPolicy),
        reduce::network_policy,
    ));
    tasks.spawn(follow(
        Api::<DeserializeGuard<IpPool>>::all(client.clone()),
        send(Kind::IpPool),
        |guard| reduce::ours(guard, Object::IpPool),
    ));
    tasks.spawn(follow(
        Api::<DeserializeGuard<IpBlock>>::all(client.clone()),
        send(Kind::IpBlock),
        reduce::block,
    ));
    tasks.spawn(follow(
        Api::<DeserializeGuard<BgpPeer>>::all(client.clone()),
        send(Kind::BgpPeer),
        |guard| reduce::ours(guard, Object::BgpPeer),
    ));
    tasks.spawn(follow(
        Api::<DeserializeGuard<BgpFilter>>::all(client.clone()),
        send(Kind::BgpFilter),
        |guard| reduce::ours(guard, Object::BgpFilter),
    ));
    tasks.spawn(follow(
        Api::<Secret>::namespaced(client.clone(), own_namespace),
        send(Kind::Secret),
        reduce::secret,
    ));
    tasks.spawn(follow(
        Api::<DeserializeGuard<NetworkConfig>>::all(client.clone()),
        send(Kind::NetworkConfig),
        |guard| reduce::ours(guard, Object::NetworkConfig),
    ));
    let (requests, asked) = mpsc::channel(4);
    tasks.spawn(keep(inbox, asked, index, synced));
    Handle {
        tasks,
        pages: Pages { requests },
    }
}

/// Keeps the book.
async fn keep(
    mut notices: mpsc::Receiver<(Kind, Notice)>,
    mut requests: mpsc::Receiver<Request>,
    index: mpsc::Sender<Input>,
    synced: oneshot::Sender<()>,
) {
    let mut book = Book::default();
    let mut synced = Some(synced);
    let mut batch = Vec::with_capacity(QUEUE);
    loop {
        tokio::select! {
            taken = notices.recv_many(&mut batch, QUEUE) => {
                if taken == 0 {
                    return;
                }
            }
            Some(request) = requests.recv() => {
                // Who asked may have gone.
                match request {
                    Request::Page(answer) => drop(answer.send(book.page())),
                    Request::Troubled(answer) => drop(answer.send(book.troubled())),
                    Request::Uids(wanted, answer) => drop(answer.send(book.uids(wanted))),
                }
                continue;
            }
        }
        let mut objects = Vec::new();
        let mut blocks = Vec::new();
        for (kind, notice) in batch.drain(..) {
            for output in book.note(kind, notice) {
                match output {
                    Output::Object(event) => objects.push(event),
                    Output::Block(block, node) => blocks.push((block, node)),
                }
            }
        }
        // The index refuses nothing unless we are stopping.
        if !blocks.is_empty() && index.send(Input::Blocks(blocks)).await.is_err() {
            return;
        }
        if !objects.is_empty() && index.send(Input::Objects(objects)).await.is_err() {
            return;
        }
        if synced.is_some() && Kind::ALL.iter().all(|kind| book.is_listed(*kind)) {
            info!(objects = book.len(), "everything is listed");
            if let Some(synced) = synced.take() {
                let _ = synced.send(());
            }
        }
    }
}
