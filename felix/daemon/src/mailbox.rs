//! A queue into a thread that also waits for something else to become readable.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;

/// Where to put things.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: mpsc::Sender<T>,
    bell: Arc<UnixStream>,
}

/// Where to take things from; readable when there may be some.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    bell: UnixStream,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

/// A queue.
pub(crate) fn mailbox<T>() -> std::io::Result<(Sender<T>, Receiver<T>)> {
    let (ring, bell) = UnixStream::pair()?;
    ring.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    let (sender, receiver) = mpsc::channel();
    let sender = Sender {
        queue: sender,
        bell: Arc::new(ring),
    };
    let receiver = Receiver {
        queue: receiver,
        bell,
    };
    Ok((sender, receiver))
}

impl<T> Sender<T> {
    /// Puts something in; whether somebody is there to take it.
    pub(crate) fn send(&self, item: T) -> bool {
        let taken = self.queue.send(item).is_ok();
        // A full bell rings already.
        let _ = (&*self.bell).write(&[1]);
        taken
    }
}

impl<T> Receiver<T> {
    /// Everything that is there now.
    pub(crate) fn take(&mut self) -> Vec<T> {
        let mut rings = [0; 256];
        loop {
            match self.bell.read(&mut rings) {
                Ok(count) if count == rings.len() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        self.queue.try_iter().collect()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
