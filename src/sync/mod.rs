//! Follows the log into the index: the index's only writer.
//!
//! In order: news is applied, whoever listens is told, open exchanges whose tokens it kills are cut, and only then does the index
//! say that it has got there; so an answer that waits for a position comes after everything the change brings about. While the log cannot be read, the
//! index keeps what it knows, and by its own clock stops claiming to be in step.

mod following;
mod load;
#[cfg(test)]
mod tests;
mod upkeep;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::Change;
use crate::index::Index;
use crate::live::Live;
use crate::store::{SharedLog, StoreError};
use crate::sync::following::Following;
use crate::sync::load::{Load, Loading};
use crate::sync::upkeep::Upkeep;
use crate::telemetry::Metrics;

/// Called with every change that has been applied and that follows the first load. It must be quick and may not panic: the
/// follower waits for it.
pub type OnChange = Arc<dyn Fn(&Change) + Send + Sync>;

/// How often what is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How often expired revocations are dropped from the index and forgotten by the log.
    pub expire_every: Duration,
    /// How long the log keeps a revocation beyond its expiry, so that a clock that jumps ahead and back loses nothing.
    pub keep_expired: Duration,
    /// How often the index's figures are published.
    pub publish_every: Duration,
    /// How often open exchanges are looked at for tokens that have expired.
    pub cut_expired_every: Duration,
    /// The longest pause before the log is asked again.
    pub longest_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expire_every: Duration::from_secs(30),
            keep_expired: Duration::from_secs(3_600),
            publish_every: Duration::from_secs(5),
            cut_expired_every: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// Keeps an index in step with a log, for as long as it is not stopped.
pub struct Follower {
    stop: watch::Sender<bool>,
    load: watch::Receiver<Load>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("load", &*self.load.borrow()).finish_non_exhaustive()
    }
}

impl Follower {
    /// Starts to follow `log` into `index`, to drop from both what has expired, and to cut in `live` what dies.
    #[must_use]
    pub fn start(
        log: SharedLog,
        (index, live): (Arc<Index>, Arc<Live>),
        clock: SharedClock,
        metrics: Arc<Metrics>,
        on_change: OnChange,
        settings: Settings,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (told, load) = watch::channel(Load::Running);
        let (own_log, own_index, own_live) = (log.clone(), index.clone(), live.clone());
        let upkeep = Upkeep { log: own_log, index: own_index, live: own_live, clock: clock.clone(), metrics, settings };
        let following = Following { log, index, live, clock, on_change, loading: Loading::new(told), settings };
        let tasks = vec![
            tokio::spawn(until(stopped.clone(), following.run())),
            tokio::spawn(until(stopped.clone(), upkeep.clone().expire())),
            tokio::spawn(until(stopped.clone(), upkeep.clone().cut_expired())),
            tokio::spawn(until(stopped, upkeep.publish())),
        ];
        Self { stop, load, tasks: Mutex::new(tasks) }
    }

    /// Waits until the index holds all that stood in the log when it was first read; nothing may be served before.
    ///
    /// # Errors
    ///
    /// What makes loading hopeless: a damaged store, a record that cannot be read.
    pub async fn loaded(&self) -> Result<(), StoreError> {
        let mut load = self.load.clone();
        let done = load.wait_for(|load| !matches!(load, Load::Running)).await.map(|load| load.clone());
        match done {
            Ok(Load::Done) => Ok(()),
            Ok(Load::Hopeless(why)) => Err(StoreError::Unusable(why.to_string(), None)),
            _ => Err(StoreError::Unavailable("the follower was stopped".into())),
        }
    }

    /// Stops following; the index keeps what it knows.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task ends at its next await; a panic in it was reported when it happened.
            let _ = task.await;
        }
    }
}

/// Runs `work` until told to stop, or until nobody is left to tell.
async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = work => {}
    }
}
