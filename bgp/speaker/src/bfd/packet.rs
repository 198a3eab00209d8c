//! Control packets (RFC 5880 §4.1).

use std::fmt;
use std::num::NonZeroU32;

/// A session's state (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Held down on purpose.
    AdminDown,
    /// Nothing heard, or not for long enough.
    #[default]
    Down,
    /// The other side is heard, and does not hear us yet.
    Init,
    /// Both hear each other.
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Why a session left the state Up last (RFC 5880 §4.1). Codes that we do not know are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing heard for the detection time.
    pub const TIME_EXPIRED: Self = Self(1);
    /// The other side says that it is down.
    pub const NEIGHBOUR_DOWN: Self = Self(3);
    /// Taken down on purpose.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("no diagnostic"),
            1 => f.write_str("control detection time expired"),
            2 => f.write_str("echo function failed"),
            3 => f.write_str("neighbour signalled session down"),
            4 => f.write_str("forwarding plane reset"),
            5 => f.write_str("path down"),
            6 => f.write_str("concatenated path down"),
            7 => f.write_str("administratively down"),
            8 => f.write_str("reverse concatenated path down"),
            code => write!(f, "diagnostic {code}"),
        }
    }
}

/// A control packet without authentication.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags of RFC 5880 §4.1, each of its own"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender left Up last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with `is_final`.
    pub poll: bool,
    /// The answer to a poll.
    pub is_final: bool,
    /// Whether the sender's BFD outlives its control plane (the C bit).
    pub control_plane_independent: bool,
    /// Whether the sender wishes for demand mode (§6.6).
    pub demand: bool,
    /// How many packets may be lost.
    pub multiplier: u8,
    /// The sender's name for the session.
    pub my_discriminator: NonZeroU32,
    /// The receiver's name for it, if the sender knows that; else 0.
    pub your_discriminator: u32,
    /// The least interval at which the sender would send, in microseconds.
    pub desired_min_tx: u32,
    /// The least interval at which the sender can receive, in microseconds; 0 for not at all.
    pub required_min_rx: u32,
    /// The same for echo packets; 0 for not at all.
    pub required_min_echo_rx: u32,
}

/// Octets that are no packet for us (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Fewer octets than a packet has, or than it says.
    #[error("{0} octets are no whole BFD packet")]
    Length(usize),
    /// Another version than 1.
    #[error("BFD version {0} is not spoken here")]
    Version(u8),
    /// The authentication bit; we have no keys.
    #[error("the packet is authenticated, and BFD authentication is not spoken here")]
    Authentication,
    /// Detection multiplier 0.
    #[error("a detection multiplier of 0 is not allowed")]
    Multiplier,
    /// The multipoint bit.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// No name for the session.
    #[error("the sender's discriminator is 0")]
    MyDiscriminator,
    /// Our name for the session is missing although the sender has heard us.
    #[error("our discriminator is missing in a packet of state {0}")]
    YourDiscriminator(State),
}

/// Octets of a packet without authentication.
const LENGTH: usize = 24;
const LENGTH_OCTET: u8 = 24;

impl Packet {
    /// The packet in `octets`, the payload of a UDP datagram.
    ///
    /// # Errors
    /// Why it is to be discarded.
    pub fn decode(octets: &[u8]) -> Result<Self, PacketError> {
        let short = PacketError::Length(octets.len());
        let fixed: &[u8; LENGTH] = octets.first_chunk().ok_or(short)?;
        let [first, flags, multiplier, length, ..] = *fixed;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        if first >> 5 != 1 {
            return Err(PacketError::Version(first >> 5));
        }
        if length < LENGTH_OCTET || usize::from(length) > octets.len() {
            return Err(short);
        }
        if flags & 0x04 != 0 {
            return Err(PacketError::Authentication);
        }
        if multiplier == 0 {
            return Err(PacketError::Multiplier);
        }
        if flags & 0x01 != 0 {
            return Err(PacketError::Multipoint);
        }
        let state = match flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        let my_discriminator = NonZeroU32::new(word(4)).ok_or(PacketError::MyDiscriminator)?;
        let your_discriminator = word(8);
        if your_discriminator == 0 && state > State::Down {
            return Err(PacketError::YourDiscriminator(state));
        }
        Ok(Self {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: flags & 0x20 != 0,
            is_final: flags & 0x10 != 0,
            control_plane_independent: flags & 0x08 != 0,
            demand: flags & 0x02 != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: word(12),
            required_min_rx: word(16),
            required_min_echo_rx: word(20),
        })
    }

    /// The octets of the packet.
    pub fn encode(&self) -> [u8; LENGTH] {
        let state = match self.state {
            State::AdminDown => 0,
            State::Down => 1,
            State::Init => 2,
            State::Up => 3,
        };
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let mut octets = [0; LENGTH];
        octets[0] = 1 << 5 | self.diagnostic.0 & 0x1f;
        octets[1] = state << 6
            | bit(self.poll, 0x20)
            | bit(self.is_final, 0x10)
            | bit(self.control_plane_independent, 0x08)
            | bit(self.demand, 0x02);
        octets[2] = self.multiplier;
        octets[3] = LENGTH_OCTET;
        octets[4..8].copy_from_slice(&self.my_discriminator.get().to_be_bytes());
        octets[8..12].copy_from_slice(&self.your_discriminator.to_be_bytes());
        octets[12..16].copy_from_slice(&self.desired_min_tx.to_be_bytes());
        octets[16..20].copy_from_slice(&self.required_min_rx.to_be_bytes());
        octets[20..24].copy_from_slice(&self.required_min_echo_rx.to_be_bytes());
        octets
    }
}

#[cfg(test)]
mod tests;
