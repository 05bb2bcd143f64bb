//! A bound on silence: how long a body may bring nothing, and how long its exchange may last.
//!
//! The timer is made the first time something is waited for, so that a body that arrives with its head costs none, and is moved
//! on only when waiting begins again, which tokio does without a lock.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Watches over the pieces of one body.
#[derive(Debug)]
pub(super) struct Idle {
    bound: Duration,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

impl Idle {
    /// Silence for `bound`, or life beyond `deadline`, is too long.
    pub(super) const fn new(bound: Duration, deadline: Option<Instant>) -> Self {
        Self { bound, deadline, timer: None, moved: false }
    }

    /// Something came.
    pub(super) const fn note_progress(&mut self) {
        self.moved = true;
    }

    /// Ready when it has been silent for too long. To be asked whenever there is nothing yet.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = |bound| {
            let until = Instant::now() + bound;
            self.deadline.map_or(until, |deadline| until.min(deadline))
        };
        let timer = match &mut self.timer {
            Some(timer) => {
                if std::mem::take(&mut self.moved) {
                    timer.as_mut().reset(until(self.bound));
                }
                timer
            }
            none => {
                self.moved = false;
                none.insert(Box::pin(tokio::time::sleep_until(until(self.bound))))
            }
        };
        timer.as_mut().poll(cx)
    }
}
