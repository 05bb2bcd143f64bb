//! How long to wait before a store is asked again: longer each time, up to a bound, and never the same for two replicas,
//! so that they do not all come back at once.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Growing, jittered pauses.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses of about `first`, then twice that and so on, never above `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause: between half and all of what is due.
    pub fn pause(&mut self) -> Duration {
        let due = self.next.min(self.longest);
        self.next = due.saturating_mul(2);
        due.mul_f64(0.5 + jitter() / 2.0)
    }

    /// Starts over after a success.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A number from 0 up to 1; 0 in the unlikely case that the system has no randomness.
fn jitter() -> f64 {
    let mut bytes = [0_u8; 4];
    let filled = SystemRandom::new().fill(&mut bytes).is_ok();
    if filled { f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_bound_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for most in [100, 200, 300, 300] {
            let pause = backoff.pause();
            assert!(pause >= Duration::from_millis(most / 2) && pause <= Duration::from_millis(most), "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
