//! The server for the CNI plugin's calls.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use margay_cni::error::Code;
use margay_cni::wire::{Answer, Call};
use margay_cni::{Attached, Refusal};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;

use attach::Attacher;

pub(crate) mod attach;
mod check;
pub(crate) mod configuration;
pub(crate) mod forget;
mod pace;
mod receive;
mod reclaim;
mod sandbox;
pub(crate) mod unlink;

/// Calls that are worked on at once; more wait to be accepted.
const AT_ONCE: usize = 256;
/// Threads that wait for calls when there are none: a burst of pods shall not make and end one for each call.
const SPARE: usize = 16;
/// How often to look for what the plugin noted while we did not answer.
const TOMBSTONES: Duration = Duration::from_secs(2);

/// Serves calls on a socket until the process ends.
pub(crate) fn start(path: &Path, attacher: Arc<Attacher>) -> anyhow::Result<()> {
    // What the plugin noted while we were away comes before anything new.
    attacher.bury();
    let listener = listen(path)?;
    let undertaker = Arc::clone(&attacher);
    std::thread::Builder::new()
        .name("tombstones".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(TOMBSTONES);
                undertaker.bury();
            }
        })?;
    let reclaimer = Arc::clone(&attacher);
    std::thread::Builder::new()
        .name("reclaim".to_owned())
        .spawn(move || reclaim::run(&reclaimer))?;
    let crew = Arc::new(Crew {
        listener,
        attacher,
        hands: Mutex::default(),
    });
    (0..SPARE).try_for_each(|_| crew.hire())?;
    Ok(())
}

/// Listens on a socket for root only. A socket file of a felix that is gone is replaced.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    if UnixStream::connect(path).is_ok() {
        anyhow::bail!("another felix listens on {shown}: only one can serve a node");
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {shown}"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {shown}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot keep others from {shown}"))?;
    Ok(listener)
}

/// The threads that serve calls. Each waits for one itself, so that no call is handed from thread to thread.
struct Crew {
    listener: UnixListener,
    attacher: Arc<Attacher>,
    hands: Mutex<Hands>,
}

/// How many threads there are, and how many of them wait for a call.
#[derive(Debug, Default)]
struct Hands {
    all: usize,
    idle: usize,
}

impl Crew {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another thread that waits for calls. It counts before it is there: it may have a call before we go on.
    fn hire(self: &Arc<Self>) -> std::io::Result<()> {
        self.count(1);
        let crew = Arc::clone(self);
        let thread = std::thread::Builder::new().name("cni".to_owned());
        thread
            .spawn(move || crew.work())
            .map(drop)
            .inspect_err(|_| self.count(-1))
    }

    fn count(&self, more: isize) {
        let mut hands = self.hands();
        hands.all = hands.all.saturating_add_signed(more);
        hands.idle = hands.idle.saturating_add_signed(more);
    }

    fn work(self: &Arc<Self>) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a CNI call cannot be accepted");
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            let short = {
                let mut hands = self.hands();
                hands.idle -= 1;
                hands.idle == 0 && hands.all < AT_ONCE
            };
            if short && let Err(error) = self.hire() {
                tracing::warn!(%error, "no thread for more CNI calls");
            }
            converse(stream, &self.attacher);
            let mut hands = self.hands();
            if hands.idle >= SPARE {
                hands.all -= 1;
                return;
            }
            hands.idle += 1;
        }
    }
}

/// One call and its answer.
fn converse(mut stream: UnixStream, attacher: &Attacher) {
    let caller = getsockopt(&stream, PeerCredentials);
    let from_root = caller.is_ok_and(|caller| Uid::from_raw(caller.uid()).is_root());
    let answer = if from_root {
        match receive::receive(&mut stream) {
            Ok((call, descriptors)) => return serve(&mut stream, attacher, call, descriptors),
            Err(refusal) => Answer::Refused(refusal),
        }
    } else {
        Answer::Refused(Refusal::new(Code::Io, "only root may call"))
    };
    // Whoever called may have gone.
    let _ = say(&mut stream, &answer);
}

fn serve(
    stream: &mut UnixStream,
    attacher: &Attacher,
    call: Call,
    descriptors: Option<receive::Descriptors>,
) {
    match call {
        Call::Add {
            attachment,
            sandbox,
            pod,
            dns,
        } => {
            let span = tracing::info_span!("add", pod = %format!("{}/{}", pod.namespace, pod.name), container = attachment.container);
            let _entered = span.enter();
            let added = match descriptors {
                Some(descriptors) => {
                    let answer =
                        |attached| say(stream, &Answer::Attached(Attached { dns, ..attached }));
                    attacher.add(&attachment, &pod, &sandbox, descriptors, answer)
                }
                None => Err(Refusal::new(
                    Code::Decode,
                    "ADD came without the sandbox's descriptors",
                )),
            };
            if let Err(refusal) = added {
                tracing::warn!(error = %refusal, "a pod was not attached");
                let _ = say(stream, &Answer::Refused(refusal));
            }
        }
        Call::Del { attachment } => {
            attacher.delete(&attachment);
            let _ = say(stream, &Answer::Done);
        }
        Call::Check {
            attachment,
            previous,
        } => {
            let checked = match descriptors {
                Some(descriptors) => check::check(attacher, &attachment, &previous, descriptors),
                None => Err(Refusal::new(
                    Code::Decode,
                    "CHECK came without the sandbox's descriptors",
                )),
            };
            let _ = say(stream, &done(checked));
        }
        Call::Status => {
            let _ = say(stream, &done(attacher.ready()));
        }
        Call::Gc { keep } => {
            attacher.collect(&keep);
            let _ = say(stream, &Answer::Done);
        }
    }
}

fn done(result: Result<(), Refusal>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn say(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&serde_json::to_vec(answer)?)
}
