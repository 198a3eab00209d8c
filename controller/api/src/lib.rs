//! API objects: our own kinds, and the conversion of Kubernetes objects into the model.
//!
//! [`load`] reads YAML as an API server would, [`convert`] turns accepted objects into
//! `margay_policy::model` and says in words what of them cannot be used, [`world`] reads a folder.
#![forbid(unsafe_code)]

pub mod convert;
pub mod generate;
pub mod load;
mod names;
pub mod probe;
mod strict;
pub mod v1;
pub mod world;
