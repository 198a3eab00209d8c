//! The only place where felix looks at a clock.

use std::time::{Duration, Instant, SystemTime};

/// Now, for measuring.
#[expect(clippy::disallowed_methods, reason = "this is felix' clock function")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, for people and for what outlives a restart.
#[expect(clippy::disallowed_methods, reason = "this is felix' clock function")]
pub(crate) fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// A time since 1970 as RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let milliseconds = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Year, month and day of a day since 1970, counted in years that begin in March, so that the leap day is the last.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468; // since 0000-03-01
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day_of_month)
}

#[cfg(test)]
mod tests;
