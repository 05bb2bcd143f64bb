//! Some of the open exchanges, under one lock: places that are taken, left, and taken again.
//!
//! The lock is held for a push, a removal, or to copy references; never while anything is judged or woken. As many places as
//! exchanges were ever open at once here, a pointer each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Timestamp;
use crate::live::term::Term;

/// Some of the open exchanges.
#[derive(Debug, Default)]
pub(super) struct Shard {
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    terms: Vec<Option<Arc<Term>>>,
    free: Vec<usize>,
    /// No term here ends sooner.
    soonest: Option<Timestamp>,
}

impl Shard {
    /// Takes a place for what `term` makes of its number.
    pub(super) fn seat(&self, term: impl FnOnce(usize) -> Term) -> Arc<Term> {
        let mut seats = self.lock();
        let at = seats.free.pop().unwrap_or(seats.terms.len());
        let term = Arc::new(term(at));
        match seats.terms.get_mut(at) {
            Some(seat) => *seat = Some(term.clone()),
            None => seats.terms.push(Some(term.clone())),
        }
        seats.expect(term.ends());
        term
    }

    /// Leaves a place.
    pub(super) fn leave(&self, at: usize) {
        let mut seats = self.lock();
        let left = seats.terms.get_mut(at).and_then(Option::take);
        if left.is_some() {
            seats.free.push(at);
        }
        drop(seats);
    }

    /// Copies all terms into `into`.
    pub(super) fn copy(&self, into: &mut Vec<Arc<Term>>) {
        into.extend(self.lock().terms.iter().flatten().cloned());
    }

    /// Copies the terms that are over at `now` into `into`. It looks at all of them only when one may be.
    pub(super) fn due(&self, now: Timestamp, into: &mut Vec<Arc<Term>>) {
        let mut seats = self.lock();
        if seats.soonest.is_none_or(|soonest| soonest > now) {
            return;
        }
        let Seats { terms, soonest, .. } = &mut *seats;
        let open = terms.iter().flatten().filter(|term| term.cut().is_none());
        *soonest = None;
        for term in open {
            match term.ends() {
                Some(ends) if ends <= now => into.push(term.clone()),
                Some(ends) => *soonest = Some(soonest.map_or(ends, |soonest| soonest.min(ends))),
                None => {}
            }
        }
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        let seats = self.lock();
        seats.terms.len() - seats.free.len()
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn expect(&mut self, ends: Option<Timestamp>) {
        let Some(ends) = ends else { return };
        self.soonest = Some(self.soonest.map_or(ends, |soonest| soonest.min(ends)));
    }
}
