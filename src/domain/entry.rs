//! What the log holds, and what becomes of an entry when it meets what stands already.
//!
//! Every store adapter asks [`merge`] inside its own transaction, so that two replicas who revoke the same thing at once
//! end with the same state whichever comes first.

use crate::domain::{Position, Revocation, RevocationId, Selector, Timestamp};

/// One thing to be written to the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Take back.
    Revoke(Revocation),
    /// Undo a revocation.
    Lift {
        /// Which.
        id: RevocationId,
        /// By whom and when.
        lift: Lift,
    },
    /// Put back what a store has lost, as it was, with what ended it. Its position is given anew.
    Restore(Box<Recorded>),
}

/// The undoing of a revocation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lift {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: Box<str>,
}

/// What ended a revocation before its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Someone undid it.
    Lifted(Lift),
    /// A later one says all it said, and more.
    Superseded(RevocationId),
}

/// A revocation as the log holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// What was asked for.
    pub revocation: Revocation,
    /// Where its last change stands in the log.
    pub position: Position,
    /// What ended it, if anything did.
    pub ending: Option<Ending>,
}

impl Recorded {
    /// Whether it still refuses tokens.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.ending.is_none() && self.revocation.in_force(now)
    }
}

/// What the log made of one entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// A new revocation stands.
    Created(Recorded),
    /// What was asked for was so already, by the revocation named here; it may have been extended.
    Already(Recorded),
    /// The revocation no longer stands.
    Lifted(Recorded),
    /// There was nothing left to lift: it was lifted, superseded, or expired before.
    Ended(Recorded),
    /// No revocation has that id.
    Unknown(RevocationId),
}

impl Disposition {
    /// Its name in the audit trail, and the revocation it is about.
    #[must_use]
    pub const fn outcome(&self) -> (&'static str, RevocationId) {
        match self {
            Self::Created(held) => ("created", held.revocation.id),
            Self::Already(held) => ("already", held.revocation.id),
            Self::Lifted(held) => ("lifted", held.revocation.id),
            Self::Ended(held) => ("ended", held.revocation.id),
            Self::Unknown(id) => ("unknown", *id),
        }
    }
}

/// News for whoever follows the log: all that now stands for one selector. Applying it twice changes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where in the log.
    pub position: Position,
    /// The selector whose state this is.
    pub selector: Selector,
    /// The revocations that stand for exactly this selector; empty after a lift.
    pub standing: Vec<Revocation>,
    /// The entry that brought it about; `None` while a follower loads the state.
    pub cause: Option<Recorded>,
}

/// How an incoming revocation relates to those that stand for the same selector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Merge {
    /// One that stands says as much and is kept as long.
    Already(RevocationId),
    /// One that stands says as much but must be kept longer: until then, or for ever.
    Extend(RevocationId, Option<Timestamp>),
    /// It is news, and these add nothing beside it any more.
    Replace(Vec<RevocationId>),
}

/// Decides what becomes of `incoming` beside `standing`, the revocations in force for the same selector.
#[must_use]
pub fn merge(standing: &[Revocation], incoming: &Revocation) -> Merge {
    let mut including = standing.iter().filter(|held| held.includes(incoming));
    if let Some(held) = including.clone().find(|held| held.outlives(incoming)) {
        return Merge::Already(held.id);
    }
    if let Some(held) = including.next() {
        return Merge::Extend(held.id, incoming.expires_at);
    }
    let outdone = standing.iter().filter(|held| incoming.includes(held) && incoming.outlives(held));
    Merge::Replace(outdone.map(|held| held.id).collect())
}
