//! In step with the log, or not: a state, what moves it, and what it means for a token the index does not know.
//!
//! Being in step has to be proved again and again. No proof for `max_staleness` and the index no longer claims to know,
//! whatever the reason: a store that is down, a follower that hangs, a process that was stopped for an hour.

use std::time::Duration;

/// How the index stands to the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// The first full load is not done.
    Loading,
    /// The log was last read to its end at this reading of the monotonic clock.
    Proved(Duration),
}

/// What `sync` learned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The log was read to its end.
    CaughtUp,
}

/// Whether the silence of the index means anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Before the first full load: nothing may pass, whatever `when_stale` says.
    Loading,
    /// What is not in the index is not revoked.
    InStep,
    /// Without proof for longer than `max_staleness`.
    Stale,
}

impl Freshness {
    /// The state after `progress`, at `elapsed` on the monotonic clock.
    #[must_use]
    pub const fn after(self, progress: Progress, elapsed: Duration) -> Self {
        match progress {
            Progress::CaughtUp => Self::Proved(elapsed),
        }
    }

    /// What it means at `elapsed`.
    #[must_use]
    pub fn standing(self, elapsed: Duration, max_staleness: Duration) -> Standing {
        match self {
            Self::Loading => Standing::Loading,
            Self::Proved(at) if elapsed.saturating_sub(at) <= max_staleness => Standing::InStep,
            Self::Proved(_) => Standing::Stale,
        }
    }

    /// The state in one word, so that a request reads it without a lock.
    pub(super) fn to_bits(self) -> u64 {
        match self {
            Self::Loading => u64::MAX,
            Self::Proved(at) => u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1),
        }
    }

    /// The reverse of [`Self::to_bits`].
    pub(super) const fn from_bits(bits: u64) -> Self {
        match bits {
            u64::MAX => Self::Loading,
            millis => Self::Proved(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn nothing_is_known_before_the_first_load() {
        assert_eq!(Freshness::Loading.standing(Duration::from_secs(1_000), MAX), Standing::Loading);
    }

    #[test]
    fn proof_lasts_for_max_staleness_and_no_longer() {
        let proved = Freshness::Loading.after(Progress::CaughtUp, Duration::from_secs(5));
        assert_eq!(proved.standing(Duration::from_secs(15), MAX), Standing::InStep);
        assert_eq!(proved.standing(Duration::from_millis(15_001), MAX), Standing::Stale);
        let again = proved.after(Progress::CaughtUp, Duration::from_secs(3_600));
        assert_eq!(again.standing(Duration::from_secs(3_600), MAX), Standing::InStep);
    }

    #[test]
    fn one_word_holds_the_state() {
        for state in
            [Freshness::Loading, Freshness::Proved(Duration::ZERO), Freshness::Proved(Duration::from_millis(77))]
        {
            assert_eq!(Freshness::from_bits(state.to_bits()), state);
        }
    }
}
