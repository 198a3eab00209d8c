//! The one conversion that no crate wraps.
#![expect(
    unsafe_code,
    reason = "netlink-sys takes a descriptor of somebody else only through `FromRawFd`"
)]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use netlink_sys::Socket;

/// A netlink socket that somebody else opened.
pub(crate) fn adopt(descriptor: OwnedFd) -> Socket {
    // SAFETY: the descriptor is open and ours alone (`OwnedFd`), and `into_raw_fd` gives up that ownership to
    // the socket, which closes it.
    unsafe { Socket::from_raw_fd(descriptor.into_raw_fd()) }
}
