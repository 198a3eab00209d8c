//! Where objects come from.

use margay_api::load::{Key, Object};
use std::sync::Arc;

pub mod folder;
mod ledger;

/// An object came, changed or went.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectEvent {
    /// It is in force like this now.
    Apply(Arc<Object>),
    /// It is gone.
    Delete(Key),
}
