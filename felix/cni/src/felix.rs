//! The conversation with felix.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use margay_cni::wire::{Answer, Call};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::sandbox::Sandbox;

/// Why there is no answer, in words.
#[derive(Debug)]
pub(crate) struct Away(pub(crate) String);

/// Octets that hold most answers, so that they are read at once.
const USUAL_ANSWER: usize = 4096;

/// Makes a call and waits for the answer, at most so long.
pub(crate) fn call(
    socket: &Path,
    call: &Call,
    sandbox: Option<&Sandbox>,
    patience: Duration,
) -> Result<Answer, Away> {
    let shown = socket.display();
    let away = |error: std::io::Error| {
        let kind = error.kind();
        Away(if kind == ErrorKind::NotFound {
            format!("{shown} does not exist: felix is not running")
        } else if kind == ErrorKind::ConnectionRefused {
            format!("nobody listens on {shown}: felix is not running")
        } else if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            format!("no answer on {shown} within {} s", patience.as_secs())
        } else if matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
            format!("felix went away in the middle of the call ({shown})")
        } else {
            format!("cannot talk on {shown}: {error}")
        })
    };
    let mut stream = UnixStream::connect(socket).map_err(away)?;
    stream.set_read_timeout(Some(patience)).map_err(away)?;
    stream.set_write_timeout(Some(patience)).map_err(away)?;
    let octets = serde_json::to_vec(call)
        .map_err(|error| Away(format!("cannot write down the call: {error}")))?;
    let descriptors: Vec<RawFd> = sandbox.map_or_else(Vec::new, |sandbox| {
        vec![sandbox.namespace.as_raw_fd(), sandbox.netlink.as_raw_fd()]
    });
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() {
        &[]
    } else {
        &control[..]
    };
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(&octets)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|errno| away(errno.into()))?;
    stream.write_all(&octets[sent..]).map_err(away)?;
    stream.shutdown(Shutdown::Write).map_err(away)?;
    let mut answer = Vec::with_capacity(USUAL_ANSWER);
    stream.read_to_end(&mut answer).map_err(away)?;
    if answer.is_empty() {
        return Err(Away(format!(
            "felix went away in the middle of the call ({shown})"
        )));
    }
    serde_json::from_slice(&answer).map_err(|error| {
        Away(format!(
            "the answer on {shown} is not felix': {error}; are plugin and felix of the same version?"
        ))
    })
}
