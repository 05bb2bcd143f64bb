//! Tells people how the index stands to the log: a line and a count for each change, and how far behind it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Position;
use crate::index::{Index, Phase, Standing};
use crate::telemetry::Metrics;

pub(super) struct Observer {
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    /// How it stood when it was last looked at. Held while a line is written.
    told: Mutex<Standing>,
    /// The farthest place in the log that anybody told of.
    head: AtomicU64,
}

impl Observer {
    pub(super) fn new(index: Arc<Index>, metrics: Arc<Metrics>) -> Arc<Self> {
        let told = Mutex::new(Standing::Loading);
        Arc::new(Self { index, metrics, told, head: AtomicU64::new(0) })
    }

    /// The log goes at least up to here.
    pub(super) fn saw(&self, position: Position) {
        self.head.fetch_max(position.get(), Ordering::Relaxed);
    }

    /// The log lost data; it may be shorter than it was.
    pub(super) fn forget(&self) {
        self.head.store(0, Ordering::Relaxed);
    }

    /// Says what has changed since it was last asked.
    pub(super) fn look(&self) {
        let standing = self.index.standing();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, standing) == standing {
            return;
        }
        self.metrics.index_transition(standing.name());
        let (position, phase) = (self.index.position(), self.index.freshness().phase);
        match standing {
            Standing::InStep => tracing::info!(%position, "in step with the log"),
            // Others do not count on us yet: that is how every start goes.
            Standing::Stale if self.index.freshness().beat.is_none() && phase == Phase::Following => {}
            Standing::Stale => {
                tracing::error!(%position, ?phase, "out of step with the log: what is not known may be revoked");
            }
            Standing::Loading => {}
        }
    }

    /// Publishes how far behind the index is.
    pub(super) fn publish(&self) {
        self.look();
        let behind = self.head.load(Ordering::Relaxed).saturating_sub(self.index.position().get());
        self.metrics.index_lag(behind, self.index.unproved_for());
    }
}
