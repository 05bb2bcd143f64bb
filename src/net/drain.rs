//! Stopping: tell everyone, wait for them, and at last cut them off.
//!
//! Whoever does work that shutdown should wait for keeps a [`Hold`]. Connections, streams and tunnels all do, so that no
//! task is without an owner: [`Drain::finish`] awaits them all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long those that were cut get to notice.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Open,
    Draining,
    Cut,
}

/// Begins and awaits the end of everything that holds it; clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    // Everyone who is waited for subscribes, so the channel itself keeps count.
    phase: Arc<watch::Sender<Phase>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Open)) }
    }

    /// Something to wait for, until it is dropped.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold { phase: self.phase.subscribe() }
    }

    /// Runs `work` as a task of its own that is waited for, and that is dropped where it stands when the limit is reached.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let hold = self.hold();
        // The hold is what awaits the task.
        drop(tokio::spawn(hold.until_cut(work)));
    }

    /// Asks everyone to come to an end: no new connections, no new requests on old ones.
    pub fn begin(&self) {
        self.phase.send_if_modified(|phase| {
            let begins = *phase == Phase::Open;
            if begins {
                *phase = Phase::Draining;
            }
            begins
        });
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// How many hold it now.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.phase.receiver_count()
    }

    /// Begins the end, waits until nobody holds on, at most for `limit`, and then cuts the rest. Answers how many were cut.
    pub async fn finish(&self, limit: Duration) -> usize {
        self.begin();
        if timeout(limit, self.phase.closed()).await.is_ok() {
            return 0;
        }
        let cut = self.holders();
        self.phase.send_replace(Phase::Cut);
        if timeout(LAST_WORDS, self.phase.closed()).await.is_err() {
            tracing::warn!(left = self.holders(), "some tasks did not end when they were cut");
        }
        cut
    }
}

/// Keeps a drain from finishing, and knows when to stop.
#[derive(Clone, Debug)]
pub struct Hold {
    phase: watch::Receiver<Phase>,
}

impl Hold {
    /// Whether the end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Waits for the end to begin: time to say goodbye.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits for the limit: time to stop where one stands.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    /// Does `work`, unless it is cut.
    pub async fn until_cut(mut self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.cut() => {}
        }
    }

    async fn reached(&mut self, wanted: Phase) {
        if self.phase.wait_for(|phase| *phase >= wanted).await.is_err() {
            // Nobody is left who could begin the end.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn finishing_waits_for_those_who_hold_on() {
        let drain = Drain::new();
        let (finish_work, work) = oneshot::channel::<()>();
        drain.spawn(async move {
            let _ = work.await;
        });
        let finished = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finish(Duration::from_secs(60)).await }
        });
        drain.hold().draining().await;
        assert!(!finished.is_finished());
        finish_work.send(()).unwrap();
        assert_eq!(finished.await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_cuts_those_who_do_not_end() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        let mut tunnel = drain.hold();
        let told = tokio::spawn(async move {
            tunnel.draining().await;
            tunnel.cut().await;
        });
        assert_eq!(drain.finish(Duration::from_secs(30)).await, 2);
        told.await.unwrap();
        assert_eq!(drain.holders(), 0);
    }
}
