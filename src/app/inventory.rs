//! What knows of sessions, wired: learning, binding, limiting, forgetting.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::config::Settings;
use crate::control::Control;
use crate::sessions::{Bindings, Book, Learner, Limits, Passwords, Tracker};
use crate::store::{SharedSessions, StoreError};
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
        if let Some(grace) = longest_grace(settings) {
            table.prolong(clock.now().after(grace)).await?;
        }
        let max = settings.session_limits.iter().cloned().collect();
        let limits = Limits::new(table.clone(), control.clone(), clock.clone(), max);
        let bindings = Bindings::new(table.clone());
        let book = Book::new(table.clone(), bindings.clone(), control.clone(), limits.clone(), clock.clone());
        let (tracker, sightings) = Tracker::new(&settings.sessions, metrics.clone());
        let learner = Learner::start(sightings, table.clone(), clock.clone(), Some(limits.clone()));
        let passwords = control.passwords().clone();
        passwords.configure(settings.session_passwords);
        Ok(Self { bindings, book, tracker, passwords, limits, learner })
    }

    /// Takes over other settings.
    pub(super) fn configure(&self, settings: &Settings) {
        self.tracker.configure(&settings.sessions);
        self.passwords.configure(settings.session_passwords);
        self.limits.configure(settings.session_limits.iter().cloned().collect());
    }

    /// Writes what was learned last, and ends.
    pub(super) async fn stop(self) {
        self.learner.stop().await;
    }
}

fn longest_grace(settings: &Settings) -> Option<Duration> {
    settings.gateway.token_endpoints.iter().map(|endpoint| endpoint.grace).max()
}
