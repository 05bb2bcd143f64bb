//! In step with the log, or not: a state, what moves it, and what it means for a token the index does not know.
//!
//! Being in step has to be proved again and again, from two sides: that the log was read to its end, and, where replicas
//! share a log, that the others still count on us. A replica they believe dead is not waited for, so it must not serve.
//! The older of the two proofs counts. No proof for `max_staleness` and the index no longer claims to know, whatever the
//! reason: a store that is down, a follower that hangs, a process that was stopped for an hour. A proof is as old as the
//! question, not as its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How the index came to hold what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The first full load is not done, and nothing is remembered.
    Loading,
    /// It holds what a snapshot remembered; the log has proved none of it yet.
    Remembered,
    /// It follows the log.
    Following,
    /// The log lost data, which is being put back. What the log says meanwhile proves nothing.
    Healing,
}

/// How the index stands to the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// How it came to hold what it holds.
    pub phase: Phase,
    /// The reading of the monotonic clock when the log was asked for what it then gave to its end.
    pub read: Option<Duration>,
    /// The same of the beat that was acknowledged last.
    pub beat: Option<Duration>,
}

/// What `sync` learned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// A snapshot was loaded.
    Remembered,
    /// The log was read to its end.
    CaughtUp {
        /// The reading of the monotonic clock before it was asked.
        as_of: Duration,
    },
    /// A beat was acknowledged: other replicas know that we are there.
    Beaten {
        /// The reading of the monotonic clock before it was sent.
        as_of: Duration,
    },
    /// The log lost data.
    Lost,
    /// What was lost stands again, and all of the log was read since.
    Healed,
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

impl Standing {
    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::InStep => "in_step",
            Self::Stale => "stale",
        }
    }
}

impl Freshness {
    /// Before anything.
    pub const START: Self = Self { phase: Phase::Loading, read: None, beat: None };

    /// The state after `progress`. Proofs may come in any order; the latest question counts.
    #[must_use]
    pub fn after(self, progress: Progress) -> Self {
        match (progress, self.phase) {
            (Progress::Remembered, Phase::Loading) => Self { phase: Phase::Remembered, ..self },
            (Progress::Remembered, _) | (Progress::CaughtUp { .. } | Progress::Beaten { .. }, Phase::Healing) => self,
            (Progress::CaughtUp { as_of }, _) => {
                Self { phase: Phase::Following, read: self.read.max(Some(as_of)), ..self }
            }
            (Progress::Beaten { as_of }, _) => Self { beat: self.beat.max(Some(as_of)), ..self },
            // Before the first load nothing is held that could have been lost.
            (Progress::Lost, Phase::Loading) => self,
            (Progress::Lost, _) => Self { phase: Phase::Healing, ..self },
            (Progress::Healed, Phase::Healing) => Self { phase: Phase::Following, ..self },
            (Progress::Healed, _) => self,
        }
    }

    /// When it was last proved; `None` if never. A log that nobody else reads needs no beats.
    #[must_use]
    pub fn proved(self, beats: bool) -> Option<Duration> {
        if beats { self.read.zip(self.beat).map(|(read, beat)| read.min(beat)) } else { self.read }
    }

    /// What it means at `elapsed`.
    #[must_use]
    pub fn standing(self, elapsed: Duration, max_staleness: Duration, beats: bool) -> Standing {
        match (self.phase, self.proved(beats)) {
            (Phase::Loading, _) => Standing::Loading,
            (_, Some(at)) if elapsed.saturating_sub(at) <= max_staleness => Standing::InStep,
            _ => Standing::Stale,
        }
    }
}

/// The state in two words, so that a request reads it without a lock: the phase with the last read, and the last beat. Each
/// side has one writer.
#[derive(Debug)]
pub(super) struct Words {
    read: AtomicU64,
    beat: AtomicU64,
}

/// Where a word holds its phase: above 2⁶² milliseconds, which no clock reaches.
const PHASE_SHIFT: u32 = 62;

impl Words {
    pub(super) const fn new() -> Self {
        Self { read: AtomicU64::new(0), beat: AtomicU64::new(0) }
    }

    pub(super) fn load(&self) -> Freshness {
        let read = self.read.load(Ordering::Acquire);
        let phase = match read >> PHASE_SHIFT {
            0 => Phase::Loading,
            1 => Phase::Remembered,
            2 => Phase::Following,
            _ => Phase::Healing,
        };
        Freshness { phase, read: unpack(read), beat: unpack(self.beat.load(Ordering::Acquire)) }
    }

    pub(super) fn note(&self, progress: Progress) {
        let freshness = self.load().after(progress);
        if let Progress::Beaten { .. } = progress {
            self.beat.fetch_max(pack(freshness.beat), Ordering::AcqRel);
            return;
        }
        let phase: u64 = match freshness.phase {
            Phase::Loading => 0,
            Phase::Remembered => 1,
            Phase::Following => 2,
            Phase::Healing => 3,
        };
        self.read.store(phase << PHASE_SHIFT | pack(freshness.read), Ordering::Release);
    }
}

/// Whole milliseconds, one more than there are, so that 0 is none. What is cut off makes a proof older, never younger.
fn pack(at: Option<Duration>) -> u64 {
    let millis = |at: Duration| u64::try_from(at.as_millis()).unwrap_or(u64::MAX).min((1 << PHASE_SHIFT) - 2) + 1;
    at.map_or(0, millis)
}

fn unpack(word: u64) -> Option<Duration> {
    let millis = word & ((1 << PHASE_SHIFT) - 1);
    millis.checked_sub(1).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn nothing_is_known_before_the_first_load() {
        let beaten = Freshness::START.after(Progress::Beaten { as_of: secs(1_000) });
        assert_eq!(beaten.standing(secs(1_000), MAX, true), Standing::Loading);
        assert_eq!(Freshness::START.after(Progress::Lost), Freshness::START);
    }

    #[test]
    fn proof_lasts_for_max_staleness_and_no_longer() {
        let proved = Freshness::START.after(Progress::CaughtUp { as_of: secs(5) });
        assert_eq!(proved.standing(secs(15), MAX, false), Standing::InStep);
        assert_eq!(proved.standing(Duration::from_millis(15_001), MAX, false), Standing::Stale);
        let again = proved.after(Progress::CaughtUp { as_of: secs(3_600) });
        assert_eq!(again.standing(secs(3_600), MAX, false), Standing::InStep);
    }

    #[test]
    fn an_answer_that_lay_about_proves_what_was_so_when_it_was_asked_for() {
        let proved = Freshness::START.after(Progress::CaughtUp { as_of: secs(100) });
        let stopped = proved.after(Progress::CaughtUp { as_of: secs(101) });
        assert_eq!(stopped.standing(secs(3_700), MAX, false), Standing::Stale);
        assert_eq!(stopped.after(Progress::CaughtUp { as_of: secs(50) }), stopped, "and nothing older");
    }

    #[test]
    fn whoever_is_believed_dead_is_not_in_step() {
        let read = Freshness::START.after(Progress::CaughtUp { as_of: secs(20) });
        assert_eq!(read.standing(secs(20), MAX, true), Standing::Stale);
        let beaten = read.after(Progress::Beaten { as_of: secs(15) });
        assert_eq!(beaten.standing(secs(25), MAX, true), Standing::InStep);
        assert_eq!(beaten.standing(secs(26), MAX, true), Standing::Stale);
    }

    #[test]
    fn what_is_remembered_is_stale_until_it_is_proved() {
        let remembered = Freshness::START.after(Progress::Remembered);
        assert_eq!(remembered.standing(secs(0), MAX, false), Standing::Stale);
        let proved = remembered.after(Progress::CaughtUp { as_of: secs(1) });
        assert_eq!(proved.standing(secs(1), MAX, false), Standing::InStep);
    }

    #[test]
    fn while_the_log_is_healed_it_proves_nothing() {
        let proved = Freshness::START.after(Progress::CaughtUp { as_of: secs(1) });
        let healing = proved.after(Progress::Lost).after(Progress::CaughtUp { as_of: secs(9) });
        assert_eq!(healing.standing(secs(11), MAX, false), Standing::InStep, "as long as the last proof lasts");
        assert_eq!(healing.standing(secs(12), MAX, false), Standing::Stale);
        let healed = healing.after(Progress::Healed).after(Progress::CaughtUp { as_of: secs(12) });
        assert_eq!(healed.standing(secs(12), MAX, false), Standing::InStep);
    }

    fn progress() -> impl Strategy<Value = Progress> {
        let as_of = || (0_u64..40).prop_map(|secs| Duration::from_millis(secs * 500));
        prop_oneof![
            1 => Just(Progress::Remembered),
            4 => as_of().prop_map(|as_of| Progress::CaughtUp { as_of }),
            4 => as_of().prop_map(|as_of| Progress::Beaten { as_of }),
            1 => Just(Progress::Lost),
            1 => Just(Progress::Healed),
        ]
    }

    /// What a history means, told from the history alone.
    fn model(history: &[Progress], elapsed: Duration, beats: bool) -> Standing {
        let known = |progress: &Progress| matches!(progress, Progress::Remembered | Progress::CaughtUp { .. });
        if !history.iter().any(known) {
            return Standing::Loading;
        }
        let accepted = |at: &usize| {
            let since_loss = history[..*at]
                .iter()
                .enumerate()
                .rfind(|(loss, progress)| matches!(progress, Progress::Lost) && history[..*loss].iter().any(known));
            since_loss.is_none_or(|(loss, _)| history[loss..*at].contains(&Progress::Healed))
        };
        let counted = |of: fn(&Progress) -> Option<Duration>| {
            (0..history.len()).filter(accepted).filter_map(|at| of(&history[at])).any(|at| elapsed <= at + MAX)
        };
        let read = counted(|progress| if let Progress::CaughtUp { as_of } = progress { Some(*as_of) } else { None });
        let beat = counted(|progress| if let Progress::Beaten { as_of } = progress { Some(*as_of) } else { None });
        if read && (beat || !beats) { Standing::InStep } else { Standing::Stale }
    }

    proptest! {
        #[test]
        fn any_history_means_what_the_plain_model_says(
            history in proptest::collection::vec(progress(), 0..24),
            elapsed in 0_u64..60,
            beats: bool,
        ) {
            let elapsed = Duration::from_millis(elapsed * 500);
            let words = Words::new();
            let mut state = Freshness::START;
            for progress in &history {
                words.note(*progress);
                state = state.after(*progress);
                prop_assert_eq!(words.load(), state, "two words hold the state");
            }
            prop_assert_eq!(state.standing(elapsed, MAX, beats), model(&history, elapsed, beats), "{:?}", history);
        }
    }
}
