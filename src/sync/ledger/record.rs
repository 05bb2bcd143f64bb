//! A revocation as a few bytes: what the ledger and the snapshot keep of it.
//!
//! A type of its own, so that the rule may change without making what is written unreadable; [`VERSION`] says which one it
//! is. What tends to be the same in each record comes first and what never is comes last, so that compression finds long
//! repetitions; identifiers that are numbers in disguise are written as numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Cutoff, Ending, InvalidSelector, Lift, Name, Position, Reach, Recorded, Revocation, RevocationId, Selector,
    Timestamp,
};

/// The version of what is written. One that reads another version reads nothing.
pub(super) const VERSION: u16 = 1;

/// A revocation that was seen in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::sync) struct Kept {
    /// As the log held it.
    pub(in crate::sync) recorded: Recorded,
    /// When that was seen.
    pub(in crate::sync) seen_at: Timestamp,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// They are cut off, or no record at all.
    #[error("not a record")]
    Format(#[from] postcard::Error),
    /// They say what no revocation can.
    #[error("not a selector")]
    Selector(#[from] InvalidSelector),
}

#[derive(Deserialize, Serialize)]
struct Row<'a> {
    reach: u8,
    #[serde(borrow)]
    actor: &'a str,
    #[serde(borrow)]
    reason: Option<&'a str>,
    #[serde(borrow)]
    ending: Option<WrittenEnding<'a>>,
    #[serde(borrow)]
    named_for: Option<Vec<(WrittenName<'a>, Value<'a>)>>,
    cutoff: Option<u64>,
    #[serde(borrow)]
    selector: Vec<(WrittenName<'a>, Value<'a>)>,
    created_at: u64,
    /// Seconds after `created_at`; they wrap around.
    expires_in: Option<i64>,
    /// Seconds after `created_at`; they wrap around.
    seen_in: i64,
    position: u64,
    id: [u8; 16],
}

#[derive(Deserialize, Serialize)]
enum WrittenEnding<'a> {
    Lifted { at: u64, actor: &'a str },
    Superseded([u8; 16]),
}

#[derive(Deserialize, Serialize)]
enum WrittenName<'a> {
    Issuer,
    TokenId,
    TokenSha256,
    Session,
    Family,
    User,
    Temporary,
    Username,
    Client,
    KeyId,
    Claim(&'a str),
}

#[derive(Deserialize, Serialize)]
enum Value<'a> {
    Text(&'a str),
    /// A UUID in its usual spelling.
    Uuid([u8; 16]),
    /// 32 lower-case hexadecimal digits.
    Hex16([u8; 16]),
    /// 64 lower-case hexadecimal digits.
    Hex32([u8; 32]),
}

/// Writes a record behind what `out` holds.
pub(super) fn encode(kept: &Kept, out: &mut Vec<u8>) {
    let Recorded { revocation, position, ending } = &kept.recorded;
    let created_at = revocation.created_at.as_secs();
    let row = Row {
        reach: revocation.reach.bits(),
        actor: &revocation.actor,
        reason: revocation.reason.as_deref(),
        ending: ending.as_ref().map(|ending| match ending {
            Ending::Lifted(lift) => WrittenEnding::Lifted { at: lift.at.as_secs(), actor: &lift.actor },
            Ending::Superseded(by) => WrittenEnding::Superseded(by.bits().to_be_bytes()),
        }),
        named_for: revocation.named_for.as_ref().map(write_selector),
        cutoff: match revocation.cutoff {
            Cutoff::Absolute => None,
            Cutoff::Until(last) => Some(last.as_secs()),
        },
        selector: write_selector(&revocation.selector),
        created_at,
        expires_in: revocation.expires_at.map(|at| at.as_secs().wrapping_sub(created_at).cast_signed()),
        seen_in: kept.seen_at.as_secs().wrapping_sub(created_at).cast_signed(),
        position: position.get(),
        id: revocation.id.bits().to_be_bytes(),
    };
    let before = out.len();
    if postcard::to_io(&row, &mut *out).is_err() {
        // Writing to memory cannot fail; were it to, the record would be missing, not half there.
        out.truncate(before);
    }
}

/// Reads the first record of `bytes`, and gives back the rest.
pub(super) fn decode(bytes: &[u8]) -> Result<(Kept, &[u8]), RecordError> {
    let (row, rest): (Row<'_>, &[u8]) = postcard::take_from_bytes(bytes)?;
    let after = |secs: i64| Timestamp::from_secs(row.created_at.wrapping_add(secs.cast_unsigned()));
    let ending = row.ending.map(|ending| match ending {
        WrittenEnding::Lifted { at, actor } => {
            Ending::Lifted(Lift { at: Timestamp::from_secs(at), actor: actor.into() })
        }
        WrittenEnding::Superseded(by) => Ending::Superseded(id(by)),
    });
    let revocation = Revocation {
        id: id(row.id),
        selector: read_selector(row.selector)?,
        reach: Reach::from_bits(row.reach),
        cutoff: row.cutoff.map_or(Cutoff::Absolute, |last| Cutoff::Until(Timestamp::from_secs(last))),
        created_at: Timestamp::from_secs(row.created_at),
        expires_at: row.expires_in.map(after),
        actor: row.actor.into(),
        reason: row.reason.map(Into::into),
        named_for: row.named_for.map(read_selector).transpose()?,
    };
    let recorded = Recorded { revocation, position: Position::new(row.position), ending };
    Ok((Kept { recorded, seen_at: after(row.seen_in) }, rest))
}

fn id(bytes: [u8; 16]) -> RevocationId {
    RevocationId::from_random(u128::from_be_bytes(bytes))
}

fn write_selector(selector: &Selector) -> Vec<(WrittenName<'_>, Value<'_>)> {
    selector.parts().map(|(name, value)| (write_name(name), write_value(value))).collect()
}

fn read_selector(parts: Vec<(WrittenName<'_>, Value<'_>)>) -> Result<Selector, InvalidSelector> {
    Selector::new(parts.into_iter().map(|(name, value)| (read_name(&name), read_value(&value))))
}

fn write_name(name: &Name) -> WrittenName<'_> {
    match name {
        Name::Issuer => WrittenName::Issuer,
        Name::TokenId => WrittenName::TokenId,
        Name::TokenSha256 => WrittenName::TokenSha256,
        Name::Session => WrittenName::Session,
        Name::Family => WrittenName::Family,
        Name::User => WrittenName::User,
        Name::Temporary => WrittenName::Temporary,
        Name::Username => WrittenName::Username,
        Name::Client => WrittenName::Client,
        Name::KeyId => WrittenName::KeyId,
        Name::Claim(claim) => WrittenName::Claim(claim),
    }
}

fn read_name(name: &WrittenName<'_>) -> Name {
    match name {
        WrittenName::Issuer => Name::Issuer,
        WrittenName::TokenId => Name::TokenId,
        WrittenName::TokenSha256 => Name::TokenSha256,
        WrittenName::Session => Name::Session,
        WrittenName::Family => Name::Family,
        WrittenName::User => Name::User,
        WrittenName::Temporary => Name::Temporary,
        WrittenName::Username => Name::Username,
        WrittenName::Client => Name::Client,
        WrittenName::KeyId => Name::KeyId,
        WrittenName::Claim(claim) => Name::Claim((*claim).into()),
    }
}

/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn write_value(text: &str) -> Value<'_> {
    let number = match text.len() {
        36 if HYPHENS.iter().all(|at| text.as_bytes().get(*at) == Some(&b'-')) => unhex(text, true).map(Value::Uuid),
        32 => unhex(text, false).map(Value::Hex16),
        64 => unhex(text, false).map(Value::Hex32),
        _ => None,
    };
    number.unwrap_or(Value::Text(text))
}

fn read_value(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => (*text).to_owned(),
        Value::Uuid(bytes) => {
            let mut text = hex(bytes);
            HYPHENS.iter().for_each(|at| text.insert(*at, '-'));
            text
        }
        Value::Hex16(bytes) => hex(bytes),
        Value::Hex32(bytes) => hex(bytes),
    }
}

/// The bytes of lower-case hexadecimal digits, between which there may be hyphens; `None` when it is anything else.
fn unhex<const N: usize>(text: &str, hyphens: bool) -> Option<[u8; N]> {
    let mut digits = text.bytes().filter(|byte| !(hyphens && *byte == b'-'));
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
    }
    digits.next().is_none().then_some(bytes)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    // One more for each hyphen that may follow.
    let mut text = String::with_capacity(bytes.len() * 2 + HYPHENS.len());
    text.extend(digits);
    text
}

impl Kept {
    /// How long it is needed: whether what it says is over for good at `now`.
    pub(super) fn is_over(&self, now: Timestamp, keep_expired: Duration, keep_ended: Duration) -> bool {
        let expired = self.recorded.revocation.expires_at.is_some_and(|at| at.after(keep_expired) <= now);
        let ended = self.recorded.ending.is_some() && self.seen_at.after(keep_ended) <= now;
        expired || ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sync::ledger::testing::kept;

    proptest! {
        #[test]
        fn what_is_written_is_read(all in proptest::collection::vec(kept(), 0..8)) {
            let mut bytes = Vec::new();
            all.iter().for_each(|kept| encode(kept, &mut bytes));
            let mut rest = &bytes[..];
            for kept in &all {
                let (read, more) = decode(rest).unwrap();
                prop_assert_eq!(&read, kept);
                rest = more;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn whatever_is_read_is_a_record_or_none(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn every_text_comes_back(text in "[0-9a-f-]{30,40}|[0-9a-fA-F]{32}|[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\\PC{1,70}") {
            prop_assert_eq!(read_value(&write_value(&text)), text);
        }
    }
}
