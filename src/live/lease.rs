//! An exchange's right to go on. As long as one of its clones lives, the exchange is found by what kills its token.

use std::sync::Arc;

use crate::live::shard::Shard;
use crate::live::term::Term;

/// An exchange's right to go on, until its term says otherwise. Dropping the last clone is leaving.
#[derive(Debug)]
pub struct Lease {
    term: Arc<Term>,
}

impl Lease {
    /// A lease whose term takes a place in `shard`.
    pub(super) fn take(shard: &Arc<Shard>, term: impl FnOnce(usize) -> Term) -> Self {
        Self { term: shard.seat(term) }
    }

    /// How long it may go on.
    #[must_use]
    pub const fn term(&self) -> &Arc<Term> {
        &self.term
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.term.hold();
        Self { term: self.term.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.term.release();
    }
}
