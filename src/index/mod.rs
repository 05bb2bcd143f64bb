//! Which tokens are dead, in memory: exact, and cheap enough to be asked on every request.
//!
//! Revocations are kept by *shape*, the set of names their selectors ask for. A check hashes the token's values of each
//! shape in use and looks once, so its cost grows with the shapes, of which there are few, not with the revocations.
//! Nothing here forgets by capacity: an entry leaves when it is lifted or has expired.
//!
//! What writes is for `sync` alone. When all that stands is read anew, it is gathered aside and takes the place of what was
//! there in one step, so that nothing is missing meanwhile. Readers take no lock but that of one shard, for one look-up;
//! the list of shapes is replaced, never locked.

mod check;
mod freshness;
mod generation;
mod mark;
mod marks;
mod shape;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::domain::{Change, Checkpoint, Memo, Position, Proof, Revocation, Selector, Shape, Timestamp};
use crate::index::freshness::Words;
use crate::index::mark::Mark;
use crate::index::marks::Marks;
use crate::index::shape::ShapeHasher;

pub use freshness::{Freshness, Phase, Progress, Standing};

/// The revocations in force.
pub struct Index {
    shapes: ArcSwap<Vec<Arc<Marks>>>,
    /// What this index is called in what is remembered of it.
    id: u64,
    /// Another number after every change that may speak against a token: see `check`.
    generation: AtomicU64,
    /// Held while the marks change; readers never ask for it.
    writer: Mutex<Writer>,
    /// The first shapes that were ever in use, for the writer; a shape that comes back has the number it had.
    numbered: Mutex<Vec<Shape>>,
    secret: [u8; 16],
    position: watch::Sender<Position>,
    checkpoint: watch::Sender<Checkpoint>,
    rewinds: AtomicU64,
    /// When it was rewound last, in milliseconds of the monotonic clock and one more; 0 for never.
    rewound_at: AtomicU64,
    freshness: Words,
    /// Whether other replicas must know of us too.
    beats: bool,
    max_staleness: Duration,
    clock: SharedClock,
}

/// What is for whoever changes the marks.
#[derive(Default)]
struct Writer {
    /// All that stands, as far as it was read anew.
    aside: Option<Vec<Arc<Marks>>>,
}

impl Index {
    /// An empty index of a log that nobody else reads, not in step yet. `secret` keys its hashes: 128 random bits, for this
    /// process alone. Without proof for `max_staleness` it says that it is stale.
    #[must_use]
    pub fn new(clock: SharedClock, max_staleness: Duration, secret: [u8; 16]) -> Arc<Self> {
        Self::make(clock, max_staleness, secret, false)
    }

    /// The same of a log that replicas share: it is in step only while they also know that it is there.
    #[must_use]
    pub fn shared(clock: SharedClock, max_staleness: Duration, secret: [u8; 16]) -> Arc<Self> {
        Self::make(clock, max_staleness, secret, true)
    }

    fn make(clock: SharedClock, max_staleness: Duration, secret: [u8; 16], beats: bool) -> Arc<Self> {
        Arc::new(Self {
            shapes: ArcSwap::default(),
            id: generation::next(),
            generation: AtomicU64::new(generation::next()),
            writer: Mutex::default(),
            numbered: Mutex::default(),
            secret,
            position: watch::Sender::new(Position::START),
            checkpoint: watch::Sender::new(Checkpoint::START),
            rewinds: AtomicU64::new(0),
            rewound_at: AtomicU64::new(0),
            freshness: Words::new(),
            beats,
            max_staleness,
            clock,
        })
    }

    /// Takes over what stands for one selector. News no later than the position reached changes nothing, so that a
    /// redelivered revocation does not come back after its lift. While all is read anew, what is read only adds: what it
    /// leaves out goes when all of it is there, see [`Self::reload`].
    pub fn apply(&self, change: &Change) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if change.cause.is_some() && change.position <= self.position() {
            return;
        }
        let standing: Vec<Mark> = change.standing.iter().map(Mark::from).collect();
        let mut adds = false;
        if let Some(aside) = &mut writer.aside {
            self.put(aside, &change.selector, &standing);
            adds = change.cause.is_none();
        }
        if adds {
            standing.iter().for_each(|mark| self.add(&change.selector, *mark));
        } else {
            self.replace(&change.selector, &standing);
        }
        self.changed();
    }

    /// Takes over one revocation beside whatever is known, as a snapshot remembers it.
    pub fn remember(&self, revocation: &Revocation) {
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(&revocation.selector, Mark::from(revocation));
        self.changed();
    }

    /// Begins to read anew all that stands; what is known stays until [`Self::reloaded`]. What was gathered by a reload that
    /// broke off is dropped. Before the index is believed nothing needs to stay, and everything goes.
    pub fn reload(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.freshness().phase == Phase::Loading {
            self.shapes.store(Arc::default());
        } else {
            writer.aside = Some(Vec::new());
        }
    }

    /// All that stands was read; what was known and does not stand any more goes.
    pub fn reloaded(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(aside) = writer.aside.take() {
            self.shapes.store(Arc::new(aside));
            self.changed();
        }
    }

    /// Drops what has expired, and shapes that hold nothing any more. It looks at every entry, so it is for a blocking
    /// thread; readers wait for one shard at most. Returns how many selectors went.
    pub fn expire(&self, now: Timestamp) -> usize {
        let gone: usize = self.shapes.load_full().iter().map(|marks| marks.expire_words(now)).sum();
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let shapes = self.shapes.load_full();
        let gone = gone + shapes.iter().map(|marks| marks.expire_lists(now)).sum::<usize>();
        let in_use: Vec<_> = shapes.iter().filter(|marks| marks.len() > 0).cloned().collect();
        if in_use.len() < shapes.len() {
            self.shapes.store(Arc::new(in_use));
        }
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

    /// Notes that the log was read to its end and all of it is applied.
    pub fn caught_up(&self, proof: Proof) {
        self.advance(proof.checkpoint.position);
        self.checkpoint.send_replace(proof.checkpoint);
        self.note(Progress::CaughtUp { as_of: proof.as_of });
    }

    /// Notes where a snapshot was taken whose revocations are remembered now; the log goes on from there.
    pub fn remembered(&self, checkpoint: Checkpoint) {
        self.position.send_replace(checkpoint.position);
        self.checkpoint.send_replace(checkpoint);
        self.note(Progress::Remembered);
    }

    /// Starts to count from the log's start again, for a log that lost data: positions of before mean nothing in it. What is
    /// known to be revoked stays.
    pub fn rewind(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.rewound_at.store(now + 1, Ordering::Release);
        self.rewinds.fetch_add(1, Ordering::AcqRel);
        self.checkpoint.send_replace(Checkpoint::START);
        self.position.send_replace(Position::START);
    }

    /// How often it was rewound: positions before and after are not of one log.
    #[must_use]
    pub fn rewinds(&self) -> u64 {
        self.rewinds.load(Ordering::Acquire)
    }

    /// How long ago that was; `None` if it never was.
    #[must_use]
    pub fn rewound_for(&self) -> Option<Duration> {
        let at = self.rewound_at.load(Ordering::Acquire).checked_sub(1).map(Duration::from_millis)?;
        Some(self.clock.elapsed().saturating_sub(at))
    }

    /// Where the log was last read to its end.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        *self.checkpoint.borrow()
    }

    /// Tells of each checkpoint that is reached.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Checkpoint> {
        self.checkpoint.subscribe()
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
        self.freshness().standing(self.clock.elapsed(), self.max_staleness, self.beats)
    }

    /// How the index stands to the log, in detail.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.freshness.load()
    }

    /// How long ago it was last proved that the index is in step; `None` if it never was.
    #[must_use]
    pub fn unproved_for(&self) -> Option<Duration> {
        let proved = self.freshness().proved(self.beats);
        proved.map(|at| self.clock.elapsed().saturating_sub(at))
    }

    /// Notes what `sync` learned about being in step.
    pub fn note(&self, progress: Progress) {
        self.freshness.note(progress);
    }

    /// Makes `standing` all that is known of a selector.
    fn replace(&self, selector: &Selector, standing: &[Mark]) {
        let shapes = self.shapes.load();
        match find(&shapes, &selector.shape()) {
            Some(marks) => marks.replace(selector, standing),
            None if standing.is_empty() => {}
            None => self.grow(selector.shape()).replace(selector, standing),
        }
    }

    /// Adds a mark to what is known of a selector.
    fn add(&self, selector: &Selector, mark: Mark) {
        let shapes = self.shapes.load();
        match find(&shapes, &selector.shape()) {
            Some(marks) => marks.add(selector, mark),
            None => self.grow(selector.shape()).add(selector, mark),
        }
    }

    /// Makes `standing` all that is gathered aside of a selector.
    fn put(&self, aside: &mut Vec<Arc<Marks>>, selector: &Selector, standing: &[Mark]) {
        let shape = selector.shape();
        if let Some(marks) = find(aside, &shape) {
            return marks.replace(selector, standing);
        }
        if !standing.is_empty() {
            let marks = self.marks(shape);
            marks.replace(selector, standing);
            aside.push(marks);
        }
    }

    /// A shape more, for readers to see.
    fn grow(&self, shape: Shape) -> Arc<Marks> {
        let marks = self.marks(shape);
        let mut shapes = Vec::clone(&self.shapes.load());
        shapes.push(marks.clone());
        self.shapes.store(Arc::new(shapes));
        marks
    }

    fn marks(&self, shape: Shape) -> Arc<Marks> {
        let mut numbered = self.numbered.lock().unwrap_or_else(PoisonError::into_inner);
        let number = numbered.iter().position(|known| *known == shape).or_else(|| {
            let next = numbered.len();
            (next < Memo::KEYS).then(|| numbered.push(shape.clone()))?;
            Some(next)
        });
        Arc::new(Marks::new(number, ShapeHasher::new(shape, &self.secret)))
    }
}

fn find<'a>(shapes: &'a [Arc<Marks>], shape: &Shape) -> Option<&'a Arc<Marks>> {
    shapes.iter().find(|marks| marks.shape() == shape)
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("shapes", &self.shapes())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
