//! The only code that asks for the time; everything else takes it as an argument or takes a [`Clock`].
//!
//! Two readings, because they answer two questions: [`Clock::now`] is the wall clock, compared with what tokens say of
//! themselves; [`Clock::elapsed`] only grows, also while nobody looks and while the machine sleeps, and measures how long
//! something has been so.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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
    started: Duration,
}

impl SystemClock {
    /// A clock whose `elapsed` counts from now.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { started: since_boot() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is asked for")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_secs(since.as_secs())
    }

    fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.started)
    }
}

/// How long the machine has been up, its sleep included: a machine that is woken after an hour has been silent for an hour,
/// which `CLOCK_MONOTONIC`, and with it `std::time::Instant`, does not count.
fn since_boot() -> Duration {
    // Where there is no such clock, what grows must do.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { millis: AtomicU64::new(now.as_secs().saturating_mul(1_000)) })
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.millis.load(Ordering::SeqCst) / 1_000)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_clock_grows_from_its_start_on() {
        let clock = SystemClock::shared();
        let earlier = clock.elapsed();
        assert!(earlier < Duration::from_secs(60), "{earlier:?}");
        assert!(clock.elapsed() >= earlier);
    }

    #[test]
    fn a_clock_that_is_told_to_move_moves_by_milliseconds() {
        let clock = ManualClock::at(Timestamp::from_secs(100));
        clock.advance(Duration::from_millis(1_500));
        assert_eq!((clock.now(), clock.elapsed()), (Timestamp::from_secs(101), Duration::from_millis(101_500)));
    }
}
