//! Sessions in order: sorted sets whose members, compared byte by byte, stand as the plain rule sorts. A member is the
//! value sorted by and the session's number behind it; every score is 0. So one set serves a sort, a search for one value,
//! a span of time, and the count of each.

use crate::domain::{Session, Timestamp};
use crate::store::redis::sessions::keys::key;
use crate::store::session_query::SortValue;
use crate::store::{SortKey, Span, UNSEEN_RETENTION};

/// How many bytes of a member are the session's number.
pub(super) const NUMBER_BYTES: usize = 8;

/// Stands before a value that is not known, and so sorts first.
const UNKNOWN: u8 = 0;
/// Stands before a value.
const KNOWN: u8 = 1;
/// Ends a text. No number begins with [`ESCAPED`], so a text sorts before all that go on behind it.
const END: u8 = 0;
/// Behind a zero within a text.
const ESCAPED: u8 = 0xff;

/// A sorted set of sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Index {
    /// By what a search sorts by.
    By(SortKey),
    /// By client.
    Client,
    /// By when it may be forgotten, its tokens aside.
    Over,
    /// Those that were ended before their time, by when they expire.
    Ended,
}

impl Index {
    /// Every set.
    pub(super) const ALL: [Self; 15] = [
        Self::By(SortKey::Id),
        Self::By(SortKey::User),
        Self::By(SortKey::Username),
        Self::By(SortKey::Issuer),
        Self::By(SortKey::Parent),
        Self::By(SortKey::Domain),
        Self::By(SortKey::Address),
        Self::By(SortKey::Type),
        Self::By(SortKey::Created),
        Self::By(SortKey::Updated),
        Self::By(SortKey::Expires),
        Self::By(SortKey::TokenExpires),
        Self::Client,
        Self::Over,
        Self::Ended,
    ];

    /// Its key.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::By(SortKey::Id) => key!("sessions-by-id"),
            Self::By(SortKey::User) => key!("sessions-by-user"),
            Self::By(SortKey::Username) => key!("sessions-by-username"),
            Self::By(SortKey::Issuer) => key!("sessions-by-issuer"),
            Self::By(SortKey::Parent) => key!("sessions-by-parent"),
            Self::By(SortKey::Domain) => key!("sessions-by-domain"),
            Self::By(SortKey::Address) => key!("sessions-by-address"),
            Self::By(SortKey::Type) => key!("sessions-by-type"),
            Self::By(SortKey::Created) => key!("sessions-by-created"),
            Self::By(SortKey::Updated) => key!("sessions-by-updated"),
            Self::By(SortKey::Expires) => key!("sessions-by-expires"),
            Self::By(SortKey::TokenExpires) => key!("sessions-by-token-expires"),
            Self::Client => key!("sessions-by-client"),
            Self::Over => key!("sessions-over"),
            Self::Ended => key!("sessions-ended"),
        }
    }

    /// The member that stands for a session, if it belongs there.
    pub(super) fn member(self, session: &Session, number: u64) -> Option<Vec<u8>> {
        let member = match self {
            Self::By(sort) => place(&sort.value(session), number),
            Self::Client => place(&SortValue::Text(session.client.clone()), number),
            Self::Over => place(&time(over(session)), number),
            Self::Ended => {
                session.ended.as_ref()?;
                place(&SortKey::Expires.value(session), number)
            }
        };
        Some(member)
    }
}

/// When a session may be forgotten, its tokens aside.
pub(super) fn over(session: &Session) -> Timestamp {
    session.expires_at.unwrap_or_else(|| session.updated_at.after(UNSEEN_RETENTION))
}

/// A member: a value, and a number behind it.
pub(super) fn place(value: &SortValue, number: u64) -> Vec<u8> {
    let mut member = written(value);
    member.extend(number.to_be_bytes());
    member
}

/// A moment as a value.
pub(super) const fn time(at: Timestamp) -> SortValue {
    SortValue::Number(Some(at.as_secs()))
}

/// A value as members begin with it.
pub(super) fn written(value: &SortValue) -> Vec<u8> {
    match value {
        SortValue::Text(None) | SortValue::Number(None) => vec![UNKNOWN],
        SortValue::Text(Some(text)) => {
            let mut bytes = Vec::with_capacity(text.len() + 2 + NUMBER_BYTES);
            bytes.push(KNOWN);
            put_text(&mut bytes, text);
            bytes
        }
        SortValue::Number(Some(number)) => {
            let mut bytes = vec![KNOWN];
            bytes.extend(number.to_be_bytes());
            bytes
        }
    }
}

/// Adds a text such that it ends where it ends, and texts sort as their bytes do.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        bytes.push(byte);
        if byte == END {
            bytes.push(ESCAPED);
        }
    }
    bytes.push(END);
}

/// The number that a member ends with.
pub(super) fn number_of(member: &[u8]) -> Option<u64> {
    member.last_chunk::<NUMBER_BYTES>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A stretch of a sorted set, as `ZRANGEBYLEX` takes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Range {
    /// Of which set.
    pub(super) index: Index,
    /// Where it begins.
    pub(super) min: Vec<u8>,
    /// Where it ends.
    pub(super) max: Vec<u8>,
}

impl Range {
    /// The whole set.
    pub(super) fn all(index: Index) -> Self {
        Self { index, min: b"-".to_vec(), max: b"+".to_vec() }
    }

    /// Those with exactly this value.
    pub(super) fn of(index: Index, value: &SortValue) -> Self {
        let written = written(value);
        let max = match value {
            // Numbers of sessions never begin with that byte; what goes on behind a zero does.
            SortValue::Text(Some(_)) => bound(b'(', &written, &[ESCAPED]),
            SortValue::Number(Some(number)) => match number.checked_add(1) {
                Some(next) => bound(b'(', &self::written(&SortValue::Number(Some(next))), &[]),
                None => b"+".to_vec(),
            },
            SortValue::Text(None) | SortValue::Number(None) => vec![b'(', KNOWN],
        };
        Self { index, min: bound(b'[', &written, &[]), max }
    }

    /// Those with a time in `span`; `None` if that is all of time.
    pub(super) fn within(index: Index, span: Span) -> Option<Self> {
        let since = span.since.map_or_else(|| vec![KNOWN], |at| written(&time(at)));
        let max = span.until.map(|at| bound(b'(', &written(&time(at)), &[]));
        let whole = span.since.is_none() && span.until.is_none();
        (!whole).then(|| Self { index, min: bound(b'[', &since, &[]), max: max.unwrap_or_else(|| b"+".to_vec()) })
    }

    /// Those with a time up to `last`, inclusive.
    pub(super) fn upto(index: Index, last: Timestamp) -> Self {
        Self { max: Self::of(index, &time(last)).max, index, min: vec![b'[', KNOWN] }
    }

    /// What comes after `member`.
    pub(super) fn beyond(mut self, member: &[u8], descending: bool) -> Self {
        let side = if descending { &mut self.max } else { &mut self.min };
        *side = bound(b'(', member, &[]);
        self
    }
}

fn bound(sign: u8, bytes: &[u8], more: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(bytes.len() + more.len() + 1);
    bound.push(sign);
    bound.extend(bytes);
    bound.extend(more);
    bound
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = SortValue> {
        let letter = prop::sample::select(vec!['\0', '\u{1}', 'a', 'b', 'ÿ', '\u{10ffff}']);
        let text = prop::collection::vec(letter, 0..4).prop_map(|letters| letters.into_iter().collect::<String>());
        prop::option::of(text).prop_map(|text| SortValue::Text(text.map(String::into_boxed_str)))
    }

    fn number() -> impl Strategy<Value = SortValue> {
        let some = prop_oneof![0..3_u64, Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()];
        prop::option::of(some).prop_map(SortValue::Number)
    }

    fn sequence() -> impl Strategy<Value = u64> {
        prop_oneof![0..3_u64, 250..260_u64, Just(u64::MAX >> 1)]
    }

    fn both() -> impl Strategy<Value = (SortValue, SortValue)> {
        prop_oneof![(value(), value()), (number(), number())]
    }

    /// Whether Redis would find `member` within.
    fn holds(range: &Range, member: &[u8]) -> bool {
        let side = |bound: &[u8]| match bound {
            b"-" => (Ordering::Greater, true),
            b"+" => (Ordering::Less, true),
            [sign, bytes @ ..] => (member.cmp(bytes), *sign == b'['),
            [] => unreachable!(),
        };
        let ((min, open), (max, closed)) = (side(&range.min), side(&range.max));
        (min.is_gt() || open && min.is_eq()) && (max.is_lt() || closed && max.is_eq())
    }

    proptest! {
        #[test]
        fn members_stand_as_their_values_do((one, other) in both(), (first, second) in (sequence(), sequence())) {
            let expected = (&one, first).cmp(&(&other, second));
            prop_assert_eq!(place(&one, first).cmp(&place(&other, second)), expected);
            prop_assert_eq!(number_of(&place(&one, first)), Some(first));
        }

        #[test]
        fn a_range_holds_what_has_its_value_and_nothing_else((one, other) in both(), number in sequence()) {
            let range = Range::of(Index::Client, &one);
            prop_assert!(holds(&range, &place(&one, number)));
            prop_assert_eq!(holds(&range, &place(&other, number)), one == other);
        }

        #[test]
        fn a_range_of_times_holds_what_lies_in_the_span(
            (since, until) in (prop::option::of(0..5_u64), prop::option::of(0..5_u64)),
            at in prop::option::of(0..5_u64),
            number in sequence(),
        ) {
            let time = |secs: Option<u64>| secs.map(Timestamp::from_secs);
            let member = place(&SortValue::Number(at), number);
            let within = since.is_none_or(|since| at.is_some_and(|at| at >= since))
                && until.is_none_or(|until| at.is_some_and(|at| at < until));
            match Range::within(Index::Over, Span { since: time(since), until: time(until) }) {
                Some(range) => prop_assert_eq!(holds(&range, &member), within),
                None => prop_assert!(since.is_none() && until.is_none()),
            }
            if let Some(last) = until {
                let range = Range::upto(Index::Over, Timestamp::from_secs(last));
                prop_assert_eq!(holds(&range, &member), at.is_some_and(|at| at <= last));
            }
        }
    }
}
