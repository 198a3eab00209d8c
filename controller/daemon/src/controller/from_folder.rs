//! Everything from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::ground::{Ground, IndexThread, Parts, Running, index, taken_in};
use crate::identity::Identity;
use crate::index_task::Input;
use crate::sources::{Pages, folder};
use crate::tls::Credentials;
use crate::{allocate, tls, tokens};

/// The namespace that is ours where no cluster says another one.
const OWN_NAMESPACE: &str = "margay-system";

/// Takes in the whole folder; then what follows it.
pub(super) async fn parts(
    ground: &Ground,
    folder: PathBuf,
    tokens: &Path,
    tls: &Path,
) -> anyhow::Result<Parts> {
    let tokens = tokens::Tokens::open(tokens)?;
    let (_, credentials) = watch::channel(Arc::new(Credentials::alone(tls::config(tls)?)));
    let claims = allocate::load(&ground.state)?;
    let IndexThread {
        index,
        inputs,
        thread: index_thread,
    } = index(
        ground,
        folder.display().to_string(),
        OWN_NAMESPACE.to_owned(),
        claims.clone(),
    )?;
    // The source hands on the whole folder before this returns: nobody is served half of it.
    let updates = index.clone();
    let state = ground.state.clone();
    let source = tokio::task::spawn_blocking(move || {
        folder::start(&folder, &state, move |events| {
            updates.blocking_send(Input::Objects(events)).is_ok()
        })
    })
    .await
    .context("reading the folder was broken off")??;
    let objects = Pages::Folder(source.pages());
    let (pages, (claim, requests)) = taken_in(&index, objects).await?;
    let allocate_thread =
        allocate::start(&ground.state, claims, inputs, requests, move |claims| {
            // An error means that we are stopping.
            let _ = index.blocking_send(Input::Claims(claims));
        })?;
    Ok(Parts {
        source: Running::Folder(source),
        pages,
        identity: Identity::File(tokens),
        credentials,
        replicas: None,
        claim,
        threads: vec![index_thread, allocate_thread],
        servers: Vec::new(),
    })
}
