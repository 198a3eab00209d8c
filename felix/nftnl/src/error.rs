//! What can go wrong between us and the kernel, in words.

use nix::errno::Errno;

use crate::subject::Subject;

/// A failed exchange with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call on the socket failed.
    #[error("cannot {action}: {}", words(*.errno))]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The errno.
        errno: Errno,
    },
    /// The kernel refused a message; nothing of its batch was done.
    #[error("cannot {subject}: {}{}", words(*.errno), hint(.said))]
    Refused {
        /// What the message was about.
        subject: Box<Subject>,
        /// The errno.
        errno: Errno,
        /// The kernel's own remark, often empty.
        said: String,
    },
    /// The kernel refused a batch or a request as a whole; nothing of it was done.
    #[error("the kernel refuses the {what}: {}", words(*.errno))]
    RefusedWhole {
        /// `batch`, or what was asked for.
        what: &'static str,
        /// The errno.
        errno: Errno,
    },
    /// The ruleset has another generation than the batch was made for (`ERESTART`): read it again.
    #[error("the ruleset was changed by somebody else since it was read")]
    Stale,
    /// Answers were lost because the socket's receive buffer was full (`ENOBUFS`): whether the batch was done is
    /// unknown, read it back.
    #[error("answers of the kernel were lost, the outcome is unknown")]
    AnswersLost,
    /// The ruleset kept changing while it was read.
    #[error("the ruleset changed during each of {attempts} attempts to read it")]
    Unsteady {
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel said something that cannot be read.
    #[error("cannot read the kernel's answer about {what}: {source}")]
    Decode {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
}

impl Error {
    /// The errno that the kernel or the system call gave, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. }
            | Self::Refused { errno, .. }
            | Self::RefusedWhole { errno, .. } => Some(*errno),
            Self::Stale => Some(Errno::ERESTART),
            Self::AnswersLost => Some(Errno::ENOBUFS),
            Self::Unsteady { .. } | Self::Decode { .. } => None,
        }
    }
}

/// Octets that are no message of the kernel as we know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length that does not fit.
    #[error("{what}: {says} octets expected, {has} there")]
    Length {
        /// Of what.
        what: &'static str,
        /// The length it should have.
        says: usize,
        /// The length there is.
        has: usize,
    },
    /// An attribute without which nothing makes sense is not there.
    #[error("{what} is missing")]
    Missing {
        /// Which.
        what: &'static str,
    },
    /// A number without a meaning known here.
    #[error("{what} has the unknown value {value}")]
    Value {
        /// Which.
        what: &'static str,
        /// The number.
        value: u32,
    },
    /// A name that is no UTF-8.
    #[error("{what} is not text")]
    Text {
        /// Which.
        what: &'static str,
    },
}

/// What nf_tables means by an errno, where that is not what the errno says.
const MEANINGS: [(Errno, &str); 13] = [
    (
        Errno::ENOENT,
        "no such object (or something it refers to is missing)",
    ),
    (Errno::EEXIST, "it exists already, with other properties"),
    (Errno::EBUSY, "it is still in use"),
    (
        Errno::EPERM,
        "not permitted: CAP_NET_ADMIN is missing, or another process owns the table",
    ),
    (Errno::EINVAL, "the kernel finds it invalid"),
    (Errno::EMLINK, "chains form a loop or nest too deep"),
    (
        Errno::EOPNOTSUPP,
        "this kernel, or this object, does not support it",
    ),
    (Errno::ENOMEM, "out of memory"),
    (Errno::ENOSPC, "the set is full"),
    (Errno::ERANGE, "a value is out of range"),
    (Errno::EOVERFLOW, "too many objects"),
    (
        Errno::EMSGSIZE,
        "the message is larger than the socket's send buffer",
    ),
    (Errno::ERESTART, "the ruleset was changed meanwhile"),
];

fn words(errno: Errno) -> String {
    let meaning = MEANINGS.iter().find(|(of, _)| *of == errno);
    format!(
        "{} ({errno:?})",
        meaning.map_or_else(|| errno.desc(), |(_, meaning)| meaning)
    )
}

fn hint(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!("; it says: {said}")
    }
}
