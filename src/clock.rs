//! The only code that asks for the time; everything else takes it as an argument or takes a [`Clock`].
//!
//! Two readings, because they answer two questions: [`Clock::now`] is the wall clock, compared with what tokens say of
//! themselves; [`Clock::elapsed`] only grows, also while nobody looks, and measures how long something has been so.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::domain::Timestamp;

/// A source of time, shared by every part that needs one.
pub type SharedClock = Arc<dyn Clock>;

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock, in whole seconds.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point; never goes back.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose `elapsed` counts from now.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { started: Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is asked for")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_secs(since.as_secs())
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    secs: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { secs: AtomicU64::new(now.as_secs()) })
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.secs.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.secs.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.secs.load(Ordering::SeqCst))
    }
}
