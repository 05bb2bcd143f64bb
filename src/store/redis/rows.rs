//! A revocation and an audit record as bytes, and back. What cannot be read back is reported with its position, never
//! skipped: a row that is skipped is a token that passes.
//!
//! A row is its position (eight bytes, set by the script that writes it), the length of its selector (two bytes), the
//! selector's canonical text, and the rest. Scripts read the first three.

use serde::{Deserialize, Serialize};

use crate::domain::{Cutoff, Ending, Lift, Position, Reach, Recorded, Revocation, RevocationId, Selector, Timestamp};
use crate::store::{AuditRecord, BoxError, StoreError};

/// How many bytes a position has.
pub(super) const POSITION_BYTES: usize = 8;
/// How many bytes an id has.
const ID_BYTES: usize = 16;

/// What is left of a row beside position and selector.
#[derive(Deserialize, Serialize)]
struct Rest<'a> {
    reach: u8,
    until: Option<u64>,
    created_at: u64,
    expires_at: Option<u64>,
    actor: &'a str,
    reason: Option<&'a str>,
    #[serde(borrow)]
    named_for: Option<std::borrow::Cow<'a, str>>,
    ending: Option<End<'a>>,
}

#[derive(Deserialize, Serialize)]
enum End<'a> {
    Lifted(u64, &'a str),
    Superseded(u128),
}

/// The bytes of an id.
pub(super) fn id_bytes(id: RevocationId) -> [u8; ID_BYTES] {
    id.bits().to_be_bytes()
}

/// The id of these bytes.
pub(super) fn id(bytes: &[u8]) -> Result<RevocationId, BoxError> {
    Ok(RevocationId::from_random(u128::from_be_bytes(bytes.try_into()?)))
}

/// A row's bytes behind the position.
pub(super) fn body(held: &Recorded) -> Result<Vec<u8>, StoreError> {
    let revocation = &held.revocation;
    let selector = revocation.selector.canonical();
    let length = u16::try_from(selector.len()).map_err(|error| cannot_write(error.into()))?;
    let rest = Rest {
        reach: revocation.reach.bits(),
        until: match revocation.cutoff {
            Cutoff::Until(last) => Some(last.as_secs()),
            Cutoff::Absolute => None,
        },
        created_at: revocation.created_at.as_secs(),
        expires_at: revocation.expires_at.map(Timestamp::as_secs),
        actor: &revocation.actor,
        reason: revocation.reason.as_deref(),
        named_for: revocation.named_for.as_ref().map(|selector| selector.canonical().into()),
        ending: held.ending.as_ref().map(end),
    };
    let mut body = Vec::with_capacity(2 + selector.len() + 64);
    body.extend(length.to_be_bytes());
    body.extend(selector.as_bytes());
    postcard::to_extend(&rest, body).map_err(|error| cannot_write(error.into()))
}

fn end(ending: &Ending) -> End<'_> {
    match ending {
        Ending::Lifted(lift) => End::Lifted(lift.at.as_secs(), &lift.actor),
        Ending::Superseded(by) => End::Superseded(by.bits()),
    }
}

fn cannot_write(error: BoxError) -> StoreError {
    StoreError::Corrupt(Position::START, error)
}

/// Where a row's last change stands in the log.
pub(super) fn position(row: &[u8]) -> Position {
    let bytes = row.first_chunk::<POSITION_BYTES>().copied().unwrap_or_default();
    Position::new(u64::from_be_bytes(bytes))
}

/// Reads a row.
pub(super) fn recorded(id: RevocationId, row: &[u8]) -> Result<Recorded, StoreError> {
    read(id, row).map_err(|error| StoreError::Corrupt(position(row), error))
}

fn read(id: RevocationId, row: &[u8]) -> Result<Recorded, BoxError> {
    let short = "the row is cut short";
    let (length, text) = row.get(POSITION_BYTES..).and_then(<[u8]>::split_first_chunk).ok_or(short)?;
    let (selector, rest) = text.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(short)?;
    let rest: Rest<'_> = postcard::from_bytes(rest)?;
    let revocation = Revocation {
        id,
        selector: serde_json::from_slice::<Selector>(selector)?,
        reach: Reach::from_bits(rest.reach),
        cutoff: rest.until.map_or(Cutoff::Absolute, |last| Cutoff::Until(Timestamp::from_secs(last))),
        created_at: Timestamp::from_secs(rest.created_at),
        expires_at: rest.expires_at.map(Timestamp::from_secs),
        actor: rest.actor.into(),
        reason: rest.reason.map(Into::into),
        named_for: rest.named_for.as_deref().map(serde_json::from_str).transpose()?,
    };
    let ending = rest.ending.map(|end| match end {
        End::Lifted(at, actor) => Ending::Lifted(Lift { at: Timestamp::from_secs(at), actor: actor.into() }),
        End::Superseded(by) => Ending::Superseded(RevocationId::from_random(by)),
    });
    Ok(Recorded { revocation, position: position(row), ending })
}

/// What is known of a selector: the position of its last change, and the ids of its rows without an ending.
pub(super) fn unended(value: &[u8]) -> Result<Vec<RevocationId>, StoreError> {
    let ids = value.get(POSITION_BYTES..).unwrap_or_default().chunks(ID_BYTES).map(id);
    ids.collect::<Result<_, _>>().map_err(|error| StoreError::Corrupt(position(value), error))
}

#[derive(Deserialize, Serialize)]
struct Audit<'a> {
    at: u64,
    actor: &'a str,
    address: &'a str,
    action: &'a str,
    subject: &'a str,
    reason: Option<&'a str>,
    result: &'a str,
    revocation: Option<u128>,
}

/// An audit record as bytes.
pub(super) fn audit_bytes(record: &AuditRecord) -> Result<Vec<u8>, StoreError> {
    let audit = Audit {
        at: record.at.as_secs(),
        actor: &record.actor,
        address: &record.address,
        action: &record.action,
        subject: &record.subject,
        reason: record.reason.as_deref(),
        result: &record.result,
        revocation: record.revocation.map(RevocationId::bits),
    };
    postcard::to_stdvec(&audit).map_err(|error| cannot_write(error.into()))
}

/// Reads an audit record; `sequence` is its number.
pub(super) fn audit_record(sequence: u64, bytes: &[u8]) -> Result<AuditRecord, StoreError> {
    let corrupt = |error: postcard::Error| StoreError::Corrupt(Position::new(sequence), error.into());
    let audit: Audit<'_> = postcard::from_bytes(bytes).map_err(corrupt)?;
    Ok(AuditRecord {
        sequence,
        at: Timestamp::from_secs(audit.at),
        actor: audit.actor.to_owned(),
        address: audit.address.to_owned(),
        action: audit.action.to_owned(),
        subject: audit.subject.to_owned(),
        reason: audit.reason.map(ToOwned::to_owned),
        result: audit.result.to_owned(),
        revocation: audit.revocation.map(RevocationId::from_random),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::testing::{record, revocation, user};

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(
            (at, bits, reach) in any::<(u64, u128, u8)>(),
            (until, created_at, expires_at) in any::<(Option<u64>, u64, Option<u64>)>(),
            (name, actor) in ("\\PC{1,40}", "\\PC{0,20}"),
            (reason, named) in (proptest::option::of("\\PC{0,20}"), proptest::option::of("\\PC{1,20}")),
            ending in 0..3_u8,
        ) {
            prop_assume!(!name.contains('\0') && !name.is_empty());
            let selector = |name: &str| Selector::new([(crate::domain::Name::Username, name.to_owned())]).unwrap();
            let mut revocation = revocation(bits, selector(&name), 0);
            revocation.reach = Reach::from_bits(reach);
            revocation.cutoff = until.map_or(Cutoff::Absolute, |last| Cutoff::Until(Timestamp::from_secs(last)));
            revocation.created_at = Timestamp::from_secs(created_at);
            revocation.expires_at = expires_at.map(Timestamp::from_secs);
            revocation.actor = actor.into();
            revocation.reason = reason.map(Into::into);
            revocation.named_for = named.as_deref().map(selector);
            let ending = match ending {
                0 => None,
                1 => Some(Ending::Superseded(RevocationId::from_random(!bits))),
                _ => Some(Ending::Lifted(Lift { at: Timestamp::from_secs(at), actor: "ä".into() })),
            };
            let held = Recorded { revocation, position: Position::new(at), ending };
            let row = [&at.to_be_bytes()[..], &body(&held).unwrap()].concat();
            prop_assert_eq!(recorded(held.revocation.id, &row).unwrap(), held);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = recorded(RevocationId::from_random(1), &bytes);
            let _ = audit_record(1, &bytes);
            let _ = unended(&bytes);
        }
    }

    #[test]
    fn an_audit_record_is_read_as_it_was_written() {
        let mut whole = record("revoke", "ann");
        whole.reason = Some("lost".into());
        whole.revocation = Some(RevocationId::from_random(7));
        for record in [AuditRecord { sequence: 3, ..whole }, AuditRecord { sequence: 4, ..record("read", "") }] {
            assert_eq!(audit_record(record.sequence, &audit_bytes(&record).unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn a_row_that_is_cut_short_is_reported_with_its_position() {
        let held = Recorded { revocation: revocation(1, user("a"), 0), position: Position::new(9), ending: None };
        let row = [&9_u64.to_be_bytes()[..], &body(&held).unwrap()].concat();
        for length in 8..row.len() {
            let fault = recorded(held.revocation.id, &row[..length]).unwrap_err();
            assert!(matches!(fault, StoreError::Corrupt(at, _) if at == Position::new(9)), "{length}");
        }
    }
}
