//! What is done now and then beside following: expired revocations leave the index and the log, exchanges whose tokens have
//! expired are cut, figures are published.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::SharedClock;
use crate::index::{Index, Standing};
use crate::live::Live;
use crate::store::SharedLog;
use crate::sync::Settings;
use crate::sync::ledger::Ledger;
use crate::sync::observer::Observer;
use crate::telemetry::Metrics;

#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) log: SharedLog,
    pub(super) index: Arc<Index>,
    pub(super) live: Arc<Live>,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) observer: Arc<Observer>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: Settings,
}

impl Upkeep {
    /// Drops what has expired, again and again.
    pub(super) async fn expire(self) {
        let mut ticks = interval(self.settings.expire_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.expire_once().await;
        }
    }

    /// Drops what has expired now: from the index at once, from the log when it cannot come back.
    pub(super) async fn expire_once(&self) {
        let (index, now) = (self.index.clone(), self.clock.now());
        let dropped = tokio::task::spawn_blocking(move || index.expire(now)).await.unwrap_or_default();
        match self.log.forget(now.before(self.settings.keep_expired)).await {
            Ok(0) if dropped == 0 => {}
            Ok(forgotten) => tracing::debug!(dropped, forgotten, "expired revocations dropped"),
            // Nothing is wrong with keeping them a while longer.
            Err(error) => tracing::warn!(%error, cause = error.source_text(), "expired revocations stay in the log"),
        }
    }

    /// Cuts what has expired, again and again: one look at all instead of a timer for each. As often it is looked at how the
    /// index stands, which changes by time alone.
    pub(super) async fn cut_expired(self) {
        let mut ticks = interval(self.settings.cut_expired_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.observer.publish();
            let cut = self.live.expire(self.clock.now());
            if cut > 0 {
                tracing::debug!(cut, "open exchanges ended with their tokens");
            }
        }
    }

    /// Publishes the index's figures, again and again.
    pub(super) async fn publish(self) {
        let mut ticks = interval(self.settings.publish_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let in_step = self.index.standing() == Standing::InStep;
            self.metrics.open_exchanges(self.live.open());
            if let Some((entries, bytes)) = self.ledger.as_ref().map(|ledger| ledger.size()) {
                self.metrics.ledger(entries, bytes);
            }
            self.metrics.index(&self.index.shapes(), self.index.position().get(), in_step);
        }
    }
}
