//! Who is connected as whom: every exchange with a token, for as long as it lasts, so that what kills the token ends it.
//!
//! A request joins *before* it is checked, `sync` changes the index *before* it cuts: whichever comes first, the other sees it,
//! since both go through the lock of one shard. What is cut is only told so; whoever holds the lease ends its side in its
//! own way. A short request pays for two locks that nobody else wants, and for no timer.
//!
//! The index decides who is dead, here is only looked up whom that concerns. Nothing here outlives its exchange but the count
//! of what each revocation cut.

mod lease;
mod shard;
mod tally;
mod term;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::{Change, Claims, Revocation, RevocationId, Timestamp};
use crate::live::shard::Shard;
use crate::live::tally::Tally;
use crate::telemetry::Metrics;

pub use lease::Lease;
pub use term::{Cut, Side, Term};

/// Enough that two requests seldom want the same lock, and that a pass holds none for long.
const SHARDS: usize = 64;
/// Up to so many changes each lease is compared with them first; beyond, the index is asked about each at once.
const FEW: usize = 8;

thread_local! {
    /// Where this thread's next lease goes.
    static NEXT: Cell<usize> = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) * 7)
    };
}

/// The exchanges that are open now. One for the process; it outlives reloads.
pub struct Live {
    shards: Box<[Arc<Shard>]>,
    /// One of them, in case of need.
    first: Arc<Shard>,
    tally: Tally,
    metrics: Arc<Metrics>,
}

impl Live {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let first: Arc<Shard> = Arc::default();
        let others = (1..SHARDS).map(|_| Arc::default());
        let shards = std::iter::once(first.clone()).chain(others).collect();
        Arc::new(Self { shards, first, tally: Tally::default(), metrics })
    }

    /// An exchange begins under a token with these claims, which ends by itself in the second `ends`. To be called before
    /// the token is checked.
    #[must_use]
    pub fn join(&self, claims: &Arc<Claims>, ends: Option<Timestamp>) -> Lease {
        let next = NEXT.with(|next| next.replace(next.get().wrapping_add(1)));
        let shard = self.shards.get(next % SHARDS).unwrap_or(&self.first);
        Lease::take(shard, |place| Term::new(claims.clone(), ends, (shard.clone(), place)))
    }

    /// Ends the exchanges that these changes concern and whose tokens are dead, as `is_dead` has it from the index, to which
    /// they were applied before. Answers how many.
    pub fn cut(&self, changes: &[Change], is_dead: impl Fn(&Claims) -> bool) -> usize {
        let news: Vec<&Revocation> = changes.iter().flat_map(news).collect();
        if news.is_empty() {
            return 0;
        }
        let few = news.len() <= FEW;
        let concerned = |claims: &Claims| !few || news.iter().any(|revocation| strikes(revocation, claims));
        self.pass(|term| {
            let claims = term.claims();
            let dead = concerned(claims) && is_dead(claims);
            dead.then(|| news.iter().find(|revocation| strikes(revocation, claims)).map(|revocation| revocation.id))
        })
    }

    /// Ends every exchange whose token is dead, whatever killed it: after the index was loaded anew, when nobody can say
    /// what changed. Answers how many.
    pub fn sweep(&self, is_dead: impl Fn(&Claims) -> bool) -> usize {
        self.pass(|term| is_dead(term.claims()).then_some(None))
    }

    /// Ends the exchanges whose tokens have expired. Answers how many.
    pub fn expire(&self, now: Timestamp) -> usize {
        let mut due = Vec::new();
        for shard in &self.shards {
            shard.due(now, &mut due);
        }
        let cut = due.iter().filter(|term| term.end(Cut::Expired)).count();
        self.metrics.cut(Cut::Expired.name(), cut);
        cut
    }

    /// How many exchanges are open under tokens that `revocation` covers.
    #[must_use]
    pub fn concerned(&self, revocation: &Revocation) -> usize {
        let mut concerned = 0;
        self.each(|term| concerned += usize::from(term.cut().is_none() && strikes(revocation, term.claims())));
        concerned
    }

    /// How many exchanges a revocation has cut here, as far as that is remembered.
    #[must_use]
    pub fn cut_by(&self, revocation: RevocationId) -> usize {
        self.tally.of(revocation)
    }

    /// How many exchanges are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken()).sum()
    }

    /// Cuts those for which `doomed` answers, with what is to blame where that is known.
    fn pass(&self, doomed: impl Fn(&Term) -> Option<Option<RevocationId>>) -> usize {
        let mut cut = 0;
        self.each(|term| {
            let Some(cause) = doomed(term) else { return };
            if term.end(Cut::Revoked) {
                cut += 1;
                cause.into_iter().for_each(|cause| self.tally.count(cause));
            }
        });
        self.metrics.cut(Cut::Revoked.name(), cut);
        cut
    }

    /// Looks at every term, with no lock held: a shard's is held only to copy what it refers to.
    fn each(&self, mut look: impl FnMut(&Term)) {
        let mut terms = Vec::new();
        for shard in &self.shards {
            shard.copy(&mut terms);
            terms.drain(..).for_each(|term| look(&term));
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("open", &self.open()).finish_non_exhaustive()
    }
}

/// What stands because of a change; the revocation that brought it about first, for it is the one to blame.
fn news(change: &Change) -> impl Iterator<Item = &Revocation> {
    let cause = change.cause.as_ref().map(|cause| cause.revocation.id);
    let (own, others): (Vec<_>, Vec<_>) = change.standing.iter().partition(|standing| Some(standing.id) == cause);
    own.into_iter().chain(others)
}

/// Whether `revocation` covers a token, in any of the logins it belongs to: whether it is dead in all is for the index to say.
fn strikes(revocation: &Revocation, claims: &Claims) -> bool {
    revocation.covers(claims) || claims.twins.iter().any(|twin| revocation.covers(twin))
}

#[cfg(test)]
mod tests;
