//! What one entry does to what the log holds: which rows change, at which positions, and what is answered. Pure, so that
//! every adapter decides alike; an adapter reads what is known, asks here, and writes, all in one transaction.

use crate::domain::{
    Disposition, Ending, Entry, Lift, Merge, Position, Recorded, Revocation, RevocationId, Timestamp, merge,
};
use crate::store::AuditRecord;

/// What is to be written for an entry, and what to answer.
#[derive(Debug)]
pub(super) struct Decision {
    /// Rows to be written, in the order of their positions.
    pub(super) writes: Vec<Write>,
    /// What became of the entry.
    pub(super) disposition: Disposition,
    /// Whether the log held this very entry already, with its audit record.
    pub(super) repeated: bool,
}

/// A row to be written.
#[derive(Debug)]
pub(super) enum Write {
    /// A row that was not there.
    Insert(Recorded),
    /// A row that is there, with another expiry, ending or position.
    Update(Recorded),
}

/// Decides on `entry`. `known` holds the row of the entry's id and the rows without an ending of its selector, as far as
/// there are any; `head` is the log's end and moves on by one for each row written.
pub(super) fn decide(entry: &Entry, known: Vec<Recorded>, now: Timestamp, head: &mut Position) -> Decision {
    match entry {
        Entry::Revoke(incoming) => revoke(incoming, known, now, head),
        Entry::Lift { id, lift } => self::lift(*id, lift, known, now, head),
        Entry::Restore(lost) => restore(lost, known, head),
    }
}

fn revoke(incoming: &Revocation, mut known: Vec<Recorded>, now: Timestamp, head: &mut Position) -> Decision {
    if let Some(held) = take(&mut known, incoming.id) {
        return Decision { writes: Vec::new(), disposition: Disposition::Created(held), repeated: true };
    }
    known.retain(|held| held.stands(now));
    let standing: Vec<Revocation> = known.iter().map(|held| held.revocation.clone()).collect();
    match merge(&standing, incoming) {
        Merge::Already(id) => match take(&mut known, id) {
            Some(held) => Decision { writes: Vec::new(), disposition: Disposition::Already(held), repeated: false },
            None => create(incoming, Vec::new(), head),
        },
        Merge::Extend(id, expires_at) => match take(&mut known, id) {
            Some(held) => extend(held, expires_at, head),
            None => create(incoming, Vec::new(), head),
        },
        Merge::Replace(outdone) => {
            known.retain(|held| outdone.contains(&held.revocation.id));
            create(incoming, known, head)
        }
    }
}

fn extend(mut held: Recorded, expires_at: Option<Timestamp>, head: &mut Position) -> Decision {
    held.revocation.expires_at = expires_at;
    held.position = step(head);
    Decision { writes: vec![Write::Update(held.clone())], disposition: Disposition::Already(held), repeated: false }
}

fn create(incoming: &Revocation, outdone: Vec<Recorded>, head: &mut Position) -> Decision {
    let superseded = outdone.into_iter().map(|held| {
        let ending = Some(Ending::Superseded(incoming.id));
        Write::Update(Recorded { position: step(head), ending, ..held })
    });
    let mut writes: Vec<Write> = superseded.collect();
    let created = Recorded { revocation: incoming.clone(), position: step(head), ending: None };
    writes.push(Write::Insert(created.clone()));
    Decision { writes, disposition: Disposition::Created(created), repeated: false }
}

fn lift(id: RevocationId, lift: &Lift, mut known: Vec<Recorded>, now: Timestamp, head: &mut Position) -> Decision {
    let Some(held) = take(&mut known, id) else {
        return Decision { writes: Vec::new(), disposition: Disposition::Unknown(id), repeated: false };
    };
    if held.ending.as_ref() == Some(&Ending::Lifted(lift.clone())) {
        return Decision { writes: Vec::new(), disposition: Disposition::Lifted(held), repeated: true };
    }
    if !held.stands(now) {
        return Decision { writes: Vec::new(), disposition: Disposition::Ended(held), repeated: false };
    }
    let lifted = Recorded { position: step(head), ending: Some(Ending::Lifted(lift.clone())), ..held };
    Decision { writes: vec![Write::Update(lifted.clone())], disposition: Disposition::Lifted(lifted), repeated: false }
}

/// What is there already is joined with what was lost: an ending is for good, and the longer expiry holds.
fn restore(lost: &Recorded, mut known: Vec<Recorded>, head: &mut Position) -> Decision {
    let Some(held) = take(&mut known, lost.revocation.id) else {
        let restored = Recorded { position: step(head), ..lost.clone() };
        let write = Write::Insert(restored.clone());
        return Decision { writes: vec![write], disposition: Disposition::Created(restored), repeated: false };
    };
    let ending = held.ending.clone().or_else(|| lost.ending.clone());
    let expires_at = later(held.revocation.expires_at, lost.revocation.expires_at);
    let mut writes = Vec::new();
    let mut joined = held.clone();
    if ending != held.ending || expires_at != held.revocation.expires_at {
        joined.revocation.expires_at = expires_at;
        joined = Recorded { position: step(head), ending, ..joined };
        writes.push(Write::Update(joined.clone()));
    }
    let repeated = writes.is_empty();
    let disposition = if joined.ending.is_some() { Disposition::Ended(joined) } else { Disposition::Already(joined) };
    Decision { writes, disposition, repeated }
}

/// The later of two expiries; none is the latest.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.zip(other).map(|(one, other)| one.max(other))
}

fn take(known: &mut Vec<Recorded>, id: RevocationId) -> Option<Recorded> {
    let at = known.iter().position(|held| held.revocation.id == id)?;
    Some(known.swap_remove(at))
}

fn step(head: &mut Position) -> Position {
    *head = head.next();
    *head
}

/// The audit record of an entry, with what became of it.
pub(super) fn told(record: &AuditRecord, disposition: &Disposition) -> AuditRecord {
    let (result, revocation) = disposition.outcome();
    AuditRecord { result: result.to_owned(), revocation: Some(revocation), ..record.clone() }
}
