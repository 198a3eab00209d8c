//! A thread that does the same thing for many at once.
//!
//! Some requests cost the kernel the same for one as for a hundred. What is asked for while the thread is busy is done
//! together afterwards.

use std::sync::mpsc;
use std::time::Duration;

/// The handle. The thread ends when the last clone is gone.
#[derive(Debug)]
pub(crate) struct Gatherer<T, R> {
    orders: mpsc::Sender<(T, mpsc::Sender<R>)>,
}

// Derived, it would ask the same of `T` and `R`.
impl<T, R> Clone for Gatherer<T, R> {
    fn clone(&self) -> Self {
        Self {
            orders: self.orders.clone(),
        }
    }
}

/// Says what came of an order.
#[derive(Debug)]
pub(crate) struct Outcome<R>(mpsc::Receiver<R>);

impl<R> Outcome<R> {
    /// Of an order that needed nothing to be done.
    pub(crate) fn known(result: R) -> Self {
        let (done, outcome) = mpsc::channel();
        let _ = done.send(result);
        Self(outcome)
    }

    /// Waits for it; `None` if the thread has ended.
    pub(crate) fn wait(self) -> Option<R> {
        self.0.recv().ok()
    }
}

impl<T: Send + 'static, R: Clone + Send + 'static> Gatherer<T, R> {
    /// Starts the thread, in the network namespace of the caller. All who asked together get the same result. After an
    /// order it waits for others for a `pause`.
    pub(crate) fn start(
        name: &str,
        pause: Duration,
        work: impl Fn(Vec<T>) -> R + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&ordered, pause, work))?;
        Ok(Self { orders })
    }

    /// Orders something.
    pub(crate) fn order(&self, what: T) -> Outcome<R> {
        let (done, outcome) = mpsc::channel();
        // If this fails the sender is dropped, and waiting ends.
        let _ = self.orders.send((what, done));
        Outcome(outcome)
    }
}

fn run<T, R: Clone>(
    orders: &mpsc::Receiver<(T, mpsc::Sender<R>)>,
    pause: Duration,
    work: impl Fn(Vec<T>) -> R,
) {
    while let Ok(first) = orders.recv() {
        std::thread::sleep(pause);
        let (what, done): (Vec<T>, Vec<_>) =
            std::iter::once(first).chain(orders.try_iter()).unzip();
        let result = work(what);
        for done in done {
            // Who does not wait does not mind.
            let _ = done.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests;
