//! Lines for people, who may have seen enough (`head`, a pager) before all is said.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use anyhow::Result;

/// Nobody reads on.
#[derive(Debug)]
pub(crate) struct Unread;

impl Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads on")
    }
}

impl std::error::Error for Unread {}

/// A line of the answer. What was asked for is done all the same when nobody reads on.
pub(crate) fn say(line: &str) -> Result<()> {
    match show_line(line) {
        Err(error) if error.is::<Unread>() => Ok(()),
        other => other,
    }
}

/// A line of what is only there to be looked at.
///
/// # Errors
/// [`Unread`] is one of them.
pub(crate) fn show_line(line: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        other => Ok(other?),
    }
}

/// A remark or a step that is done, on standard error.
pub(crate) fn remark(line: impl Display) {
    // Without anybody there, nobody misses it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
