//! Follows the log into the index: the index's only writer.
//!
//! In order: news is applied, whoever listens is told, and only then does the index say that it has got there; so an
//! answer that waits for a position comes after everything the change brings about. While the log cannot be read, the
//! index keeps what it knows, and by its own clock stops claiming to be in step.

mod load;
#[cfg(test)]
mod tests;
mod upkeep;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::{Change, Position};
use crate::index::{Index, Progress};
use crate::store::{Backoff, Event, SharedLog, StoreError};
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
    /// The longest pause before the log is asked again.
    pub longest_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expire_every: Duration::from_secs(30),
            keep_expired: Duration::from_secs(3_600),
            publish_every: Duration::from_secs(5),
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
    /// Starts to follow `log` into `index`, and to drop from both what has expired.
    #[must_use]
    pub fn start(
        log: SharedLog,
        index: Arc<Index>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        on_change: OnChange,
        settings: Settings,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (told, load) = watch::channel(Load::Running);
        let upkeep = Upkeep { log: log.clone(), index: index.clone(), clock, metrics, settings };
        let following = Following { log, index, on_change, loading: Loading::new(told), settings };
        let tasks = vec![
            tokio::spawn(until(stopped.clone(), following.run())),
            tokio::spawn(until(stopped.clone(), upkeep.clone().expire())),
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

/// The task that reads the log.
struct Following {
    log: SharedLog,
    index: Arc<Index>,
    on_change: OnChange,
    loading: Loading,
    settings: Settings,
}

impl Following {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), self.settings.longest_pause);
        let mut broken = false;
        loop {
            let Err(error) = self.read(&mut backoff, &mut broken).await;
            if !broken {
                tracing::error!(%error, cause = error.source_text(), "the log cannot be read; trying again");
                broken = true;
            }
            if self.loading.failed(&error) {
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Reads until the log fails.
    async fn read(&mut self, backoff: &mut Backoff, broken: &mut bool) -> Result<std::convert::Infallible, StoreError> {
        let mut events = self.log.follow(self.from()).await?;
        while let Some(event) = events.next().await {
            if let Event::CaughtUp(position) = self.take(event?) {
                self.caught_up(position);
                backoff.reset();
                if std::mem::take(broken) {
                    tracing::info!(%position, "in step with the log again");
                }
            }
        }
        Err(StoreError::Unavailable("the log ended".into()))
    }

    fn from(&self) -> Position {
        if self.loading.done() { self.index.position() } else { Position::START }
    }

    fn take(&mut self, event: Event) -> Event {
        match &event {
            Event::Loading(_) if !self.loading.done() => self.index.clear(),
            Event::Change(change) => self.apply(change),
            Event::Loading(_) | Event::CaughtUp(_) => {}
        }
        event
    }

    fn apply(&mut self, change: &Change) {
        self.index.apply(change);
        if change.cause.is_none() {
            return self.loading.count();
        }
        (self.on_change)(change);
        // Before the first load is done, positions come in no order.
        if self.loading.done() {
            self.index.advance(change.position);
        }
    }

    fn caught_up(&mut self, position: Position) {
        self.index.advance(position);
        self.index.note(Progress::CaughtUp);
        self.loading.finish();
    }
}
