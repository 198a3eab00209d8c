//! How restarts are bridged.

use std::time::Duration;

use super::Switch;
use crate::wire::RESTART_TIME;

/// Graceful restart of a session (RFC 4724), both roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartSettings {
    /// Whether we keep the routes of a peer that restarts, and ask the same of it.
    pub graceful: Switch,
    /// Within how many seconds we are back, 1 to 4095: what our OPEN says.
    pub time: u16,
    /// Whether routes are kept after a NOTIFICATION and a hold timer too (RFC 8538), if the peer can. Then a host that is
    /// really dead keeps its routes for the restart time as well.
    pub notification: Switch,
    /// How long stale routes are kept at the lowest preference once the restart time is over (RFC 9494);
    /// not at all if none. At most 2^24 − 1 seconds.
    pub long_lived: Option<Duration>,
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self {
            graceful: Switch::On,
            time: RESTART_TIME,
            notification: Switch::Off,
            long_lived: None,
        }
    }
}

/// How long the first routes after the start wait, so that peers that kept ours meanwhile hear of everything at once
/// (`Selection_Deferral_Timer`, RFC 4724 §4.1). A peer that does not restart gracefully, or restarts itself, is not
/// waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// For everybody together, at most.
    pub most: Duration,
    /// For a peer whose session does not come up, at most.
    pub absent: Duration,
}

impl Deferral {
    /// Half a minute for those who are not there yet, six for everybody.
    pub const USUAL: Self = Self {
        most: Duration::from_mins(6),
        absent: Duration::from_secs(30),
    };
}
