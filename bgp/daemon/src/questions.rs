//! Questions about the table, which the driver alone has.

use std::fmt;

use margay_bgp::Speaker;
use tokio::sync::{mpsc, oneshot};

/// Something to look up in the speaker. It must be quick: nothing else happens meanwhile.
pub struct Question(Box<dyn FnOnce(&Speaker) + Send>);

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

impl Question {
    pub(crate) fn answer(self, speaker: &Speaker) {
        (self.0)(speaker);
    }
}

/// Where to put questions.
#[derive(Clone, Debug)]
pub struct Questions(mpsc::Sender<Question>);

impl Questions {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(4);
        (Self(sender), receiver)
    }

    /// What `question` finds; `None` if the speaker has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Speaker) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let question = Question(Box::new(move |speaker| {
            // Whoever asked may have gone.
            let _ = sender.send(question(speaker));
        }));
        self.0.send(question).await.ok()?;
        answer.await.ok()
    }
}
