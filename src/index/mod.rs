//! Which tokens are dead, in memory: exact, and cheap enough to be asked on every request.
//!
//! Revocations are kept by *shape*, the set of names their selectors ask for. A check hashes the token's values of each
//! shape in use and looks once, so its cost grows with the shapes, of which there are few, not with the revocations.
//! Nothing here forgets by capacity: an entry leaves when it is lifted or has expired.
//!
//! [`Index::apply`] and [`Index::expire`] are for `sync` alone. Readers take no lock but that of one shard, for one look-up;
//! the list of shapes is replaced, never locked.

mod freshness;
mod mark;
mod marks;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::domain::{Change, ClaimValues, Claims, Name, Position, Selector, Shape, Timestamp};
use crate::index::mark::Mark;
use crate::index::marks::Marks;
use crate::index::shape::ShapeHasher;

pub use freshness::{Freshness, Progress, Standing};

/// The revocations in force.
pub struct Index {
    shapes: ArcSwap<Vec<Arc<Marks>>>,
    /// Held while the marks change; readers never ask for it.
    writer: Mutex<()>,
    secret: [u8; 16],
    position: watch::Sender<Position>,
    freshness: AtomicU64,
    max_staleness: Duration,
    clock: SharedClock,
}

impl Index {
    /// An empty index, not in step yet. `secret` keys its hashes: 128 random bits, for this process alone. Without proof
    /// for `max_staleness` it says that it is stale.
    #[must_use]
    pub fn new(clock: SharedClock, max_staleness: Duration, secret: [u8; 16]) -> Arc<Self> {
        Arc::new(Self {
            shapes: ArcSwap::default(),
            writer: Mutex::new(()),
            secret,
            position: watch::Sender::new(Position::START),
            freshness: AtomicU64::new(Freshness::Loading.to_bits()),
            max_staleness,
            clock,
        })
    }

    /// Whether a token with these claims is dead, in each login it belongs to: a probe per shape in use, no I/O, no
    /// allocation.
    #[must_use]
    pub fn covers(&self, claims: &Claims, now: Timestamp) -> bool {
        let shapes = self.shapes.load();
        let dead = |claims: &Claims| shapes.iter().any(|marks| marks.covers(claims, now));
        dead(claims) && claims.twins.iter().all(|twin| dead(twin))
    }

    /// The selectors in force that cover these claims, for explaining; slower than [`Self::covers`].
    #[must_use]
    pub fn covering(&self, claims: &Claims, now: Timestamp) -> Vec<Selector> {
        let shapes = self.shapes.load();
        let candidates = shapes.iter().flat_map(|marks| {
            let selectors = selectors(marks.shape().names(), claims);
            selectors.into_iter().filter(|selector| marks.covers_by(selector, claims, now))
        });
        candidates.collect()
    }

    /// Takes over what stands for one selector. News no later than the position reached changes nothing, so that a
    /// redelivered revocation does not come back after its lift.
    pub fn apply(&self, change: &Change) {
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if change.cause.is_some() && change.position <= self.position() {
            return;
        }
        let standing: Vec<Mark> = change.standing.iter().map(Mark::from).collect();
        let shape = change.selector.shape();
        match self.marks(&shape) {
            Some(marks) => marks.replace(&change.selector, &standing),
            None if standing.is_empty() => {}
            None => self.add(shape).replace(&change.selector, &standing),
        }
    }

    /// Drops everything; for a first load that has to start over, before the index is believed.
    pub fn clear(&self) {
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.shapes.store(Arc::default());
    }

    /// Drops what has expired, and shapes that hold nothing any more. It looks at every entry, so it is for a blocking
    /// thread; readers wait for one shard at most. Returns how many selectors went.
    pub fn expire(&self, now: Timestamp) -> usize {
        let gone: usize = self.shapes.load_full().iter().map(|marks| marks.expire_words(now)).sum();
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let shapes = self.shapes.load_full();
        let gone = gone + shapes.iter().map(|marks| marks.expire_lists(now)).sum::<usize>();
        let in_use = shapes.iter().filter(|marks| marks.len() > 0).cloned().collect();
        self.shapes.store(Arc::new(in_use));
        gone
    }

    /// How many selectors are held, by shape.
    #[must_use]
    pub fn shapes(&self) -> Vec<(String, usize)> {
        self.shapes.load().iter().map(|marks| (marks.shape().to_string(), marks.len())).collect()
    }

    /// Notes that everything up to `position` is applied, and wakes whoever waits for it. It never goes back.
    pub fn advance(&self, position: Position) {
        self.position.send_if_modified(|reached| {
            let grows = position > *reached;
            *reached = position.max(*reached);
            grows
        });
    }

    /// The position applied last.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Waits until everything up to `position` is applied. Bound it: a log that cannot be read never gets there.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn reached(&self, position: Position) {
        // The sender lives as long as `self`.
        let _ = self.position.subscribe().wait_for(|reached| *reached >= position).await;
    }

    /// Whether the index may be believed when it knows nothing of a token.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let freshness = Freshness::from_bits(self.freshness.load(Ordering::Acquire));
        freshness.standing(self.clock.elapsed(), self.max_staleness)
    }

    /// Notes what `sync` learned about being in step.
    pub fn note(&self, progress: Progress) {
        let freshness = Freshness::from_bits(self.freshness.load(Ordering::Acquire));
        self.freshness.store(freshness.after(progress, self.clock.elapsed()).to_bits(), Ordering::Release);
    }

    fn marks(&self, shape: &Shape) -> Option<Arc<Marks>> {
        self.shapes.load().iter().find(|marks| marks.shape() == shape).cloned()
    }

    fn add(&self, shape: Shape) -> Arc<Marks> {
        let marks = Arc::new(Marks::new(ShapeHasher::new(shape, &self.secret)));
        let mut shapes = Vec::clone(&self.shapes.load());
        shapes.push(marks.clone());
        self.shapes.store(Arc::new(shapes));
        marks
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("shapes", &self.shapes())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// Every selector of these names that matches the claims.
fn selectors(names: &[Name], claims: &Claims) -> Vec<Selector> {
    let mut combinations: Vec<Vec<(Name, String)>> = vec![Vec::new()];
    for name in names {
        let values: Vec<String> = match claims.values(name) {
            ClaimValues::None => return Vec::new(),
            ClaimValues::One(value) => vec![value.to_owned()],
            ClaimValues::Digest(digest) => vec![digest.to_string()],
            ClaimValues::Many(values) => values.iter().map(|value| value.to_string()).collect(),
        };
        let longer = |parts: &Vec<(Name, String)>, value: &String| {
            parts.iter().cloned().chain([(name.clone(), value.clone())]).collect::<Vec<_>>()
        };
        combinations = combinations
            .iter()
            .flat_map(|parts| values.iter().map(|value| longer(parts, value)).collect::<Vec<_>>())
            .collect();
    }
    combinations.into_iter().filter_map(|parts| Selector::new(parts).ok()).collect()
}
