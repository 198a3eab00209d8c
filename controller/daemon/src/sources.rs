//! Where objects come from.

use std::sync::Arc;

use margay_api::load::{Key, Object};
use margay_sync::status::ObjectsPage;

pub mod folder;
pub(crate) mod kubernetes;
mod ledger;

/// Asks a source what there is.
#[derive(Clone, Debug)]
pub(crate) enum Pages {
    /// A folder.
    Folder(folder::Pages),
    /// An API server.
    Kubernetes(kubernetes::Pages),
}

impl Pages {
    /// What the source holds, for people; `None` if it has stopped.
    pub(crate) async fn get(&self) -> Option<ObjectsPage> {
        match self {
            Self::Folder(pages) => pages.get().await,
            Self::Kubernetes(pages) => pages.get().await,
        }
    }
}

/// An object came, changed or went.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectEvent {
    /// It is in force like this now.
    Apply(Arc<Object>),
    /// It is gone.
    Delete(Key),
}
