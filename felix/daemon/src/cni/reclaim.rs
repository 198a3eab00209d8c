//! Takes back addresses that no DEL will come for.
//!
//! A runtime that lost its state never asks to detach what it had. An attachment whose pod has no object and whose link
//! is gone, both at two looks in a row, is detached as by DEL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use margay_cni::request::Attachment;
use margay_netlink::Connection;

use super::attach::Attacher;

/// How often to look.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for as long as the process lives.
pub(super) fn run(attacher: &Arc<Attacher>) {
    let mut seen = BTreeSet::new();
    loop {
        std::thread::sleep(LOOK);
        let gone = look(attacher);
        for attachment in gone.intersection(&seen) {
            tracing::warn!(
                container = attachment.container,
                "an attachment has neither pod nor link, and no DEL came: its addresses are free"
            );
            attacher.delete(attachment);
        }
        seen = gone;
    }
}

/// Complete attachments without pod and without link.
fn look(attacher: &Attacher) -> BTreeSet<Attachment> {
    let podless = attacher.podless();
    if podless.is_empty() {
        return BTreeSet::new();
    }
    let links = match Connection::open().and_then(|mut connection| connection.links()) {
        Ok(links) => links,
        Err(error) => {
            tracing::warn!(%error, "links cannot be read");
            return BTreeSet::new();
        }
    };
    let there: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
    podless
        .into_iter()
        .filter(|record| !there.contains(record.link.as_str()))
        .map(|record| record.attachment)
        .collect()
}
