//! felix as a process, in namespaces of its own.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod cni;
mod stream;
mod support;
