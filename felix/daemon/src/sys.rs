//! The calls that no crate wraps.
#![expect(
    unsafe_code,
    reason = "nix gives received descriptors as plain numbers, and has no mallopt"
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

/// Has all threads share two pools of memory: each with a pool of its own would keep what a burst of short-lived ones needed.
#[cfg(target_env = "gnu")]
pub(crate) fn share_memory() {
    // SAFETY: mallopt takes two numbers, touches nothing of ours, and may be called at any time; here no other thread exists yet.
    // If it refuses, memory is used as before.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2) };
}

/// Other libraries than glibc have one pool for all threads anyway.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn share_memory() {}
