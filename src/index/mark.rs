//! What the index keeps of a revocation: eight bytes, when they suffice, since there may be ten million.

use crate::domain::{Cutoff, Reach, Revocation, Timestamp, TokenKind};

/// The second from which compact marks count their expiry: 2025-01-01.
const EPOCH: u64 = 1_735_689_600;
/// The compact expiry of what never expires; 29 bits reach to the year 2042.
const NEVER: u64 = (1 << 29) - 1;
/// The compact cut-off of what knows none.
const ABSOLUTE: u32 = u32::MAX;

/// One revocation without its selector: reach, cut-off, expiry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    reach: Reach,
    cutoff: Cutoff,
    expires_at: Option<Timestamp>,
}

impl Mark {
    /// What it says of a token of this kind, which stands there on the cut-off's scale.
    pub(super) fn judge(self, kind: TokenKind, standing: Option<Timestamp>, now: Timestamp) -> Verdict {
        match self.reach.contains(kind) && self.cutoff.includes(standing) {
            false => Verdict::Clear,
            true if self.in_force(now) => Verdict::Covered,
            true => Verdict::Lapsed,
        }
    }

    /// One that reaches what belongs to a login, for ever.
    #[cfg(test)]
    pub(super) fn for_logins(cutoff: Cutoff) -> Self {
        Self { reach: Reach::LOGIN, cutoff, expires_at: None }
    }

    /// Whether it still says something.
    pub(super) fn in_force(self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// What the marks say of a token; of several, the greatest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Verdict {
    /// Nothing, at whatever time they are asked.
    Clear,
    /// Nothing any more: one of them reached the token and has expired, as the clock stands now. Clocks are set back.
    Lapsed,
    /// It is dead.
    Covered,
}

impl From<&Revocation> for Mark {
    fn from(revocation: &Revocation) -> Self {
        Self { reach: revocation.reach, cutoff: revocation.cutoff, expires_at: revocation.expires_at }
    }
}

/// A mark in one word: cut-off (32 bits), expiry (29), reach (3). An empty reach says that the marks are kept elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packed(u64);

impl Packed {
    /// Stands for marks that do not fit a word.
    pub(super) const ELSEWHERE: Self = Self(0);

    /// The word for `mark`; `None` when its expiry or cut-off lies outside what a word can say.
    pub(super) fn pack(mark: Mark) -> Option<Self> {
        let cutoff = match mark.cutoff {
            Cutoff::Absolute => ABSOLUTE,
            Cutoff::Until(last) => u32::try_from(last.as_secs()).ok().filter(|secs| *secs != ABSOLUTE)?,
        };
        let expiry = match mark.expires_at {
            None => NEVER,
            Some(at) => at.as_secs().checked_sub(EPOCH).filter(|secs| *secs < NEVER)?,
        };
        let fits = !mark.reach.is_empty();
        fits.then(|| Self(u64::from(cutoff) << 32 | expiry << 3 | u64::from(mark.reach.bits())))
    }

    /// The mark; `None` when it is kept elsewhere.
    pub(super) fn unpack(self) -> Option<Mark> {
        let bits = |shift: u32, width: u32| (self.0 >> shift) & ((1 << width) - 1);
        let reach = Reach::from_bits(u8::try_from(bits(0, 3)).unwrap_or_default());
        let cutoff = match u32::try_from(bits(32, 32)).unwrap_or(ABSOLUTE) {
            ABSOLUTE => Cutoff::Absolute,
            secs => Cutoff::Until(Timestamp::from_secs(u64::from(secs))),
        };
        let expires_at = match bits(3, 29) {
            NEVER => None,
            secs => Some(Timestamp::from_secs(EPOCH + secs)),
        };
        (!reach.is_empty()).then_some(Mark { reach, cutoff, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_says_what_the_mark_said(
            reach in 0_u8..8,
            cutoff in proptest::option::of(0_u64..=u64::from(u32::MAX) + 2),
            expires in proptest::option::of(EPOCH - 2..EPOCH + NEVER + 2),
        ) {
            let mark = Mark {
                reach: Reach::from_bits(reach),
                cutoff: cutoff.map_or(Cutoff::Absolute, |secs| Cutoff::Until(Timestamp::from_secs(secs))),
                expires_at: expires.map(Timestamp::from_secs),
            };
            if let Some(packed) = Packed::pack(mark) {
                prop_assert_eq!(packed.unpack(), Some(mark));
            }
        }
    }

    #[test]
    fn elsewhere_is_no_mark() {
        assert_eq!(Packed::ELSEWHERE.unpack(), None);
    }
}
