//! `margayctl page SOCKET PAGE`: one page of a daemon's unix socket, as it is.
//!
//! Not for people: a margayctl outside of the cluster starts it in a daemon's pod.

use std::path::PathBuf;

use clap::Args;

use crate::client::Socket;
use crate::output::Answer;

#[derive(Args)]
pub(crate) struct Page {
    /// The unix socket
    socket: PathBuf,
    /// What to ask it for
    page: String,
}

/// The page.
///
/// # Errors
/// Those of [`Socket::text`].
pub(crate) async fn run(page: &Page) -> anyhow::Result<Answer> {
    let socket = Socket::new(page.socket.clone(), "the daemon");
    Ok(Answer::plain(socket.text(&page.page).await?))
}
