//! How the first load goes, for those who wait for it and for the log: a load of millions takes a while, and a silent
//! program looks like a dead one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::StoreError;

/// How often a long load says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Where the first load is.
#[derive(Clone, Debug)]
pub(super) enum Load {
    /// Not done.
    Running,
    /// The log cannot be read just now; the text says why.
    Waiting(Arc<str>),
    /// Done; it stays so.
    Done,
    /// It will not be done unless someone acts; the text says why.
    Hopeless(Arc<str>),
}

/// The follower's side of it.
pub(super) struct Loading {
    told: watch::Sender<Load>,
    selectors: u64,
    said: Instant,
}

impl Loading {
    pub(super) fn new(told: watch::Sender<Load>) -> Self {
        Self { told, selectors: 0, said: Instant::now() }
    }

    pub(super) fn done(&self) -> bool {
        matches!(*self.told.borrow(), Load::Done)
    }

    /// All that stands is being read.
    pub(super) fn begin(&mut self) {
        self.selectors = 0;
        if !self.done() {
            self.told.send_replace(Load::Running);
        }
    }

    /// One more selector was loaded.
    pub(super) fn count(&mut self) {
        self.selectors += 1;
        if self.selectors.is_multiple_of(4_096) && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            tracing::info!(selectors = self.selectors, "loading revocations");
        }
    }

    /// The log was read to its end.
    pub(super) fn finish(&self) {
        if !self.done() {
            tracing::info!(selectors = self.selectors, "revocations loaded");
            self.told.send_replace(Load::Done);
        }
    }

    /// The log failed.
    pub(super) fn failed(&self, error: &StoreError) {
        if self.done() {
            return;
        }
        let why = error.to_string().into();
        let hopeless = matches!(error, StoreError::Corrupt(..) | StoreError::Unusable(..));
        self.told.send_replace(if hopeless { Load::Hopeless(why) } else { Load::Waiting(why) });
    }
}
