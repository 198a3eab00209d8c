//! Everything from an API server.

use anyhow::Context;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::ground::{Ground, IndexThread, Parts, Running, index, taken_in};
use crate::cluster::leader;
use crate::cluster::review::Reviewer;
use crate::cluster::writer::Writer;
use crate::identity::Identity;
use crate::replicas::{Place, Replicas};
use crate::sources::{Pages, kubernetes};
use crate::{allocate, cluster};

/// Lists all kinds; then what follows them.
pub(super) async fn parts(ground: &Ground, cluster: Cluster, port: u16) -> anyhow::Result<Parts> {
    let Cluster {
        kubeconfig,
        namespace,
        identity,
        agents,
    } = cluster;
    let client = cluster::client(kubeconfig.as_deref()).await?;
    let credentials = cluster::authority::open(&client, &namespace).await?;
    let IndexThread {
        index,
        inputs,
        thread: index_thread,
    } = index(
        ground,
        "the Kubernetes API".to_owned(),
        namespace.clone(),
        allocate::Claims::new(),
    )?;
    let (synced, all_listed) = oneshot::channel();
    let source = kubernetes::start(&client, &namespace, index.clone(), synced);
    all_listed.await.context("the watches ended")?;
    let objects = Pages::Kubernetes(source.pages());
    let (pages, (claim, requests)) = taken_in(&index, objects).await?;
    let claims = {
        let (client, identity, index) = (client.clone(), identity.clone(), index.clone());
        async move { cluster::claims::run(client, &identity, inputs, requests, index).await }
    };
    let replicas = Replicas::new(credentials.clone());
    let place = Place {
        namespace: namespace.clone(),
        identity: identity.clone(),
        port,
        index: index.clone(),
    };
    let writer = Writer {
        client: client.clone(),
        identity: identity.clone(),
        index,
        pages: source.pages(),
        stop: ground.stop.clone(),
    };
    let reviewer = Reviewer::new(client.clone(), &namespace, &agents);
    let stop = ground.stop.clone();
    let lead = async move {
        tokio::select! {
            (leads, held) = leader::compete(&client, &namespace, &identity) => {
                writer.run(leads).await;
                held.released().await;
            }
            () = stop.cancelled() => {}
        }
    };
    Ok(Parts {
        source: Running::Kubernetes(source),
        pages,
        identity: Identity::Review(Box::new(reviewer)),
        credentials,
        replicas: Some(replicas.clone()),
        claim,
        threads: vec![index_thread],
        servers: vec![
            tokio::spawn(claims),
            tokio::spawn(until(ground.stop.clone(), replicas.run(place))),
            tokio::spawn(lead),
        ],
    })
}

/// Does something until told to stop.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}
