//! What knows of sessions, wired: learning, binding, limiting, forgetting.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::config::Settings;
use crate::control::Control;
use crate::sessions::{Bindings, Book, Learner, Limits, Passwords, Tracker};
use crate::store::{Backoff, SharedSessions, StoreError};
use crate::telemetry::Metrics;

/// The parts that know of sessions. One for the process, whatever is reloaded.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) bindings: Arc<Bindings>,
    pub(super) book: Arc<Book>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) passwords: Arc<Passwords>,
    limits: Arc<Limits>,
    learner: Learner,
    /// Until the store could be asked to prolong what was answered before a crash.
    prolonging: Option<JoinHandle<()>>,
}

impl Inventory {
    /// Starts to learn. A crash may have kept answers from their clients, so the grace of what was answered begins anew.
    pub(super) async fn start(
        settings: &Settings,
        table: &SharedSessions,
        control: &Arc<Control>,
        clock: &SharedClock,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let prolonging = match longest_grace(settings) {
            Some(grace) if settings.store.backend.is_shared() => {
                Some(tokio::spawn(prolong_in_time(table.clone(), clock.clone(), grace)))
            }
            Some(grace) => {
                table.prolong(clock.now().after(grace)).await?;
                None
            }
            None => None,
        };
        let max = settings.session_limits.iter().cloned().collect();
        let limits = Limits::new(table.clone(), control.clone(), clock.clone(), max);
        let bindings = Bindings::new(table.clone());
        let book = Book::new(table.clone(), bindings.clone(), control.clone(), limits.clone(), clock.clone());
        let (tracker, sightings) = Tracker::new(&settings.sessions, metrics.clone());
        let learner = Learner::start(sightings, table.clone(), clock.clone(), Some(limits.clone()));
        let passwords = control.passwords().clone();
        passwords.configure(settings.session_passwords);
        Ok(Self { bindings, book, tracker, passwords, limits, learner, prolonging })
    }

    /// Takes over other settings.
    pub(super) fn configure(&self, settings: &Settings) {
        self.tracker.configure(&settings.sessions);
        self.passwords.configure(settings.session_passwords);
        self.limits.configure(settings.session_limits.iter().cloned().collect());
    }

    /// Writes what was learned last, and ends.
    pub(super) async fn stop(self) {
        if let Some(prolonging) = self.prolonging {
            prolonging.abort();
        }
        self.learner.stop().await;
    }
}

/// Begins the grace anew as soon as the store can be written, which may be later when it is shared: what is asked for
/// before that is not answered anyway.
async fn prolong_in_time(table: SharedSessions, clock: SharedClock, grace: Duration) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = table.prolong(clock.now().after(grace)).await {
        tracing::debug!(%error, "the grace of what was answered before the start is not begun anew yet");
        tokio::time::sleep(backoff.pause()).await;
    }
}

fn longest_grace(settings: &Settings) -> Option<Duration> {
    settings.gateway.token_endpoints.iter().map(|endpoint| endpoint.grace).max()
}
