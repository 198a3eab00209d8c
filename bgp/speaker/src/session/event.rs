//! What happens to a session, and what it wants done.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ConnectionId, Down, Failure};
use crate::types::Family;
use crate::wire::notification::Cease;
use crate::wire::{HeaderError, Notification, Open, OpenError, RefreshError, UpdateError};

/// What happens to a session; names of RFC 4271 §8.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Begin.
    ManualStart,
    /// End, and tell the peer so.
    ManualStop(Cease, Down),
    /// A dial of ours succeeded.
    TcpCrAcked(ConnectionId, IpAddr),
    /// The peer's dial was accepted.
    TcpConnectionConfirmed(ConnectionId, IpAddr),
    /// A dial failed or a connection ended.
    TcpConnectionFails(ConnectionId, Failure),
    /// An OPEN.
    BgpOpen(ConnectionId, Open),
    /// An OPEN that cannot be used.
    BgpOpenMsgErr(ConnectionId, OpenError),
    /// Not BGP.
    BgpHeaderErr(ConnectionId, HeaderError),
    /// A NOTIFICATION.
    NotifMsg(ConnectionId, Notification),
    /// A KEEPALIVE.
    KeepAliveMsg(ConnectionId),
    /// An UPDATE; its content is the RIB's business.
    UpdateMsg(ConnectionId),
    /// An UPDATE that ends the session (RFC 7606 leaves few).
    UpdateMsgErr(ConnectionId, UpdateError),
    /// A ROUTE-REFRESH; its content is the RIB's business.
    RouteRefreshMsg(ConnectionId),
    /// A ROUTE-REFRESH that cannot be one.
    RouteRefreshMsgErr(ConnectionId, RefreshError),
    /// The peer announces more prefixes than it may (RFC 4271 §6.7).
    PrefixLimit {
        /// Of this family.
        family: Family,
        /// So many it may.
        max: u32,
        /// How long to stay away; for ever if none.
        restart: Option<Duration>,
    },
    /// BFD says that the peer cannot be reached (RFC 5882 §4.2).
    BfdDown {
        /// When BFD last knew that it could. What was lost before a session began is not of this session: the peer has
        /// restarted within the detection time (RFC 5882 §4.3.2.2).
        seen_up: Instant,
    },
    /// The kernel took so many octets.
    Sent(ConnectionId, usize),
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial the peer, and call the attempt by a new [`ConnectionId`] given to [`Session::dialling`].
    Dial,
    /// Send these octets.
    Send(ConnectionId, Arc<[u8]>),
    /// End the connection once everything is sent, or the attempt at once.
    Close(ConnectionId),
    /// Routes may flow.
    Up(ConnectionId),
    /// The session is over.
    Down(Ending),
}

/// How an established session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// One side said goodbye: the peer's routes are void.
    Orderly,
    /// One side complained: the peer's routes are void unless both keep them then (RFC 8538).
    Complaint,
    /// The connection was lost; a peer that restarts gracefully forwards on (RFC 4724 §4.2).
    Lost,
}
