//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5882) without I/O: one session's state machine and packets.
//!
//! Asynchronous mode, both sides active, no echo, no authentication: what BGP peers use. The driver has the
//! sockets, knows whose packets they are (§6.3), and has every packet checked for its TTL (RFC 5881 §5).

mod packet;
mod session;

pub use packet::{Diagnostic, Packet, PacketError, State};
pub use session::{Action, Event, Session, Settings};
