//! Follows the log into the index: the index's only writer.
//!
//! In order: news is applied, whoever listens is told, open exchanges whose tokens it kills are cut, and only then does the index
//! say that it has got there; so an answer that waits for a position comes after everything the change brings about. While the log cannot be read, the
//! index keeps what it knows, and by its own clock stops claiming to be in step.
//!
//! A log that replicas share may lose data, by a failover, a restored backup, an emptied server. Each replica keeps what it
//! has seen, see `ledger`, and gives it back. The same in a file, see [`snapshot`], lets one start while the log is down.

mod following;
mod heal;
mod heartbeat;
mod ledger;
mod load;
#[cfg(test)]
mod loss_tests;
mod observer;
mod recall;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod upkeep;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::Change;
use crate::index::Index;
use crate::live::Live;
use crate::store::{SharedLog, StoreError};
use crate::sync::following::{Following, State};
use crate::sync::ledger::Ledger;
use crate::sync::load::{Load, Loading};
use crate::sync::observer::Observer;
use crate::sync::snapshot::Snapshots;
use crate::sync::upkeep::Upkeep;
use crate::telemetry::Metrics;

pub use heartbeat::{Heartbeat, HeartbeatSettings};

/// Called with every change that has been applied and that follows the first load. It must be quick and may not panic: the
/// follower waits for it.
pub type OnChange = Arc<dyn Fn(&Change) + Send + Sync>;

/// How often what is done, and what is remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
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
    /// Whether what is seen is kept, to be given back to a log that lost it: for one that replicas share.
    pub remember: bool,
    /// Where what is seen is written down, which needs it to be kept.
    pub snapshot: Option<snapshot::Settings>,
    /// The longest moment before a log that lost data is healed, so that replicas do not all begin at once.
    pub heal_within: Duration,
    /// What this replica is called in the audit trail.
    pub replica: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expire_every: Duration::from_secs(30),
            keep_expired: Duration::from_secs(3_600),
            publish_every: Duration::from_secs(5),
            cut_expired_every: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
            remember: false,
            snapshot: None,
            heal_within: heal::WITHIN,
            replica: "portcullis".into(),
        }
    }
}

/// Keeps an index in step with a log, for as long as it is not stopped.
pub struct Follower {
    stop: watch::Sender<bool>,
    load: watch::Receiver<Load>,
    doubt: Arc<Notify>,
    snapshots: Option<Arc<Snapshots>>,
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
        let observer = Observer::new(index.clone(), metrics.clone());
        let ledger = (settings.remember || settings.snapshot.is_some()).then(Arc::<Ledger>::default);
        let snapshots = ledger
            .clone()
            .zip(settings.snapshot.clone())
            .map(|(ledger, snapshot)| Snapshots::new(ledger, snapshot, metrics.clone()));
        let doubt = Arc::new(Notify::new());
        let upkeep = Upkeep {
            log: log.clone(),
            index: index.clone(),
            live: live.clone(),
            ledger: ledger.clone(),
            observer: observer.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            settings: settings.clone(),
        };
        let loading = Loading::new(told);
        let (own, state) = (doubt.clone(), State::default());
        let following = Following {
            log,
            index,
            live,
            clock,
            metrics,
            observer,
            ledger,
            on_change,
            loading,
            settings,
            doubt: own,
            state,
        };
        let mut tasks = vec![
            tokio::spawn(until(stopped.clone(), following.run())),
            tokio::spawn(until(stopped.clone(), upkeep.clone().expire())),
            tokio::spawn(until(stopped.clone(), upkeep.clone().cut_expired())),
            tokio::spawn(until(stopped.clone(), upkeep.publish())),
        ];
        if let Some(snapshots) = snapshots.clone() {
            tasks.push(tokio::spawn(until(stopped, snapshots.run())));
        }
        Self { stop, load, doubt, snapshots, tasks: Mutex::new(tasks) }
    }

    /// Waits until the index holds all that stood in the log when it was first read; nothing may be served before.
    ///
    /// # Errors
    ///
    /// What makes loading hopeless: a damaged store, a record that cannot be read.
    pub async fn loaded(&self) -> Result<(), StoreError> {
        let mut load = self.load.clone();
        let over = |load: &Load| matches!(load, Load::Done | Load::Hopeless(_));
        let done = load.wait_for(over).await.map(|load| load.clone());
        match done {
            Ok(Load::Done) => Ok(()),
            Ok(Load::Hopeless(why)) => Err(StoreError::Unusable(why.to_string(), None)),
            _ => Err(StoreError::Unavailable("the follower was stopped".into())),
        }
    }

    /// Waits until the index holds all that stood in the log when it was first read, or until it is known that this takes
    /// longer: at most `limit`. For a log that replicas share, which may be down when one of them starts.
    ///
    /// # Errors
    ///
    /// What makes loading hopeless, when that shows at once.
    pub async fn attempted(&self, limit: Duration) -> Result<(), StoreError> {
        let mut load = self.load.clone();
        let tried = load.wait_for(|load| !matches!(load, Load::Running));
        match tokio::time::timeout(limit, tried).await.map(|load| load.map(|load| load.clone())) {
            Ok(Ok(Load::Hopeless(why))) => Err(StoreError::Unusable(why.to_string(), None)),
            Ok(Ok(Load::Waiting(why))) => {
                tracing::warn!(%why, "starting without the store; it is asked again and again");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Why the first load is not done, if that is known.
    #[must_use]
    pub fn obstacle(&self) -> Option<Arc<str>> {
        match &*self.load.borrow() {
            Load::Waiting(why) | Load::Hopeless(why) => Some(why.clone()),
            Load::Running | Load::Done => None,
        }
    }

    /// Has the log looked at anew, at once: somebody else found that it does not know what this replica has seen.
    #[must_use]
    pub fn doubt(&self) -> Arc<Notify> {
        self.doubt.clone()
    }

    /// Stops following; the index keeps what it knows, and so does the snapshot.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task ends at its next await; a panic in it was reported when it happened.
            let _ = task.await;
        }
        if let Some(snapshots) = self.snapshots.clone() {
            snapshots.write().await;
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
