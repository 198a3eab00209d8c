//! The one conversion that no crate wraps.
#![expect(
    unsafe_code,
    reason = "nix gives received descriptors as plain numbers"
)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of descriptors that came with a message.
pub(crate) fn received(descriptors: Vec<RawFd>) -> Vec<OwnedFd> {
    let own = |descriptor| {
        // SAFETY: the kernel has just put these descriptors into our table for this message (SCM_RIGHTS), so they are open
        // and nobody else knows them; the caller hands over the list, so each is taken once.
        unsafe { OwnedFd::from_raw_fd(descriptor) }
    };
    descriptors.into_iter().map(own).collect()
}
