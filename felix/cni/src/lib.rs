//! The CNI protocol (specification 1.1.0, and down to 0.3.1), and what the plugin and felix say to each other.
//!
//! The plugin reads a [`Request`] as the runtime gives it, hands it to felix as a [`wire::Call`], and prints the
//! answer in the form of the request's [`Version`].

pub mod error;
pub mod request;
pub mod result;
pub mod version;
pub mod wire;

pub use error::{Code, Refusal};
pub use request::{Request, Verb};
pub use result::Attached;
pub use version::Version;
