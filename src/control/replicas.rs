//! Who else applies what is revoked here: all replicas of the store, and proof that every live one has got somewhere.
//!
//! The proof is what the store holds. Each replica says there which checkpoint its index shows, and the store takes no such
//! word of a checkpoint that its log does not hold. So when our own word of a position stands there beside the others',
//! theirs are about the same log; a log that lost the position has lost our word too. What is put back after that stands
//! elsewhere, so whoever waits while the index starts anew is told that it is not proved. With its data a store loses who
//! the replicas are: one that has not noticed yet may serve until its lease is over, though nothing there tells of it. For
//! so long after a loss nothing is proved.
//!
//! However many wait, one task reads the table, and only while somebody waits.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clock::SharedClock;
use crate::control::{Control, ControlError};
use crate::domain::{Position, ReplicaIdentity, Timestamp};
use crate::index::Index;
use crate::store::{Backoff, Replica, SharedReplicas};

/// How many may wait at once.
const MAX_WAITING: usize = 1_000;
/// The pause between two looks at the table.
const PAUSE: Duration = Duration::from_millis(3);
/// The longest pause while the table cannot be read.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whose confirmation an answer waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wait {
    /// This replica's; that one always is.
    #[default]
    Local,
    /// Every live one's, for so long at most.
    All(Duration),
}

/// A command before it is carried out: when it was asked for, and what its confirmation will need.
#[derive(Debug)]
pub struct Asked {
    at: Duration,
    rewinds: u64,
    wait: Wait,
    /// The place among those who wait, kept from the start so that nothing is done that could not be waited for.
    _place: Option<OwnedSemaphorePermit>,
}

/// How far a change has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spread {
    /// Whether every replica that was waited for has applied it.
    pub complete: bool,
    /// Who has, in the order in which it was learned; this replica first.
    pub confirmed: Vec<Confirmed>,
    /// The live replicas that have not, as far as they are known; none when it is complete.
    pub missing: Vec<ReplicaIdentity>,
}

/// A replica that has applied a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Confirmed {
    /// Which.
    pub replica: ReplicaIdentity,
    /// Where in the log it is, at least.
    pub position: Position,
    /// How long after the command was asked for that was known here.
    pub after: Duration,
}

/// A replica, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaStatus {
    /// Which.
    pub replica: ReplicaIdentity,
    /// Whether it is the one that was asked.
    pub own: bool,
    /// The program's version.
    pub version: String,
    /// Whether it is in step, as it said itself.
    pub standing: String,
    /// The place in the log that its index shows.
    pub position: Position,
    /// How many positions it is behind the furthest.
    pub lag: u64,
    /// Whether it may be serving: it has shown a sign of life within its lease.
    pub live: bool,
    /// How long ago that was, by the store's clock.
    pub silent: Duration,
    /// When it was started.
    pub started_at: Timestamp,
}

/// All replicas, as far as this one knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fleet {
    /// By name and id.
    pub replicas: Vec<ReplicaStatus>,
    /// Whether the store has said so just now; otherwise it is what it said last.
    pub answered: bool,
}

impl Control {
    /// Notes that a command is about to be carried out whose answer will wait so.
    ///
    /// # Errors
    ///
    /// [`ControlError::Busy`] when too many wait already.
    pub fn ask(&self, wait: Wait) -> Result<Asked, ControlError> {
        let place = match wait {
            Wait::Local => None,
            Wait::All(_) => Some(self.replicas.place()?),
        };
        Ok(Asked { at: self.clock.elapsed(), rewinds: self.index.rewinds(), wait, _place: place })
    }

    /// Waits, as `asked` says, until what stands in the log up to `position` is applied elsewhere too. To be called once
    /// this replica shows it. That somebody is missing takes nothing back.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn spread(&self, asked: &Asked, position: Position) -> Spread {
        let mut tally = Tally::new(asked, position, &self.replicas, self.clock.elapsed());
        if let Wait::All(limit) = asked.wait {
            self.replicas.wait(&mut tally, Instant::now() + limit).await;
        }
        tally.spread
    }

    /// All replicas that share the store. When that does not answer, what is known from before, and the answer says so.
    pub async fn fleet(&self) -> Fleet {
        let patience = PATIENCE.min(self.settings.timeout);
        let answered = timeout(patience, self.replicas.read()).await.is_ok_and(|answered| answered);
        let mut replicas = self.replicas.known();
        let own = &self.replicas.own;
        let position = self.index.position();
        let standing = self.index.standing().name().to_owned();
        match replicas.iter_mut().find(|replica| replica.replica.id == own.id) {
            Some(known) => {
                (known.own, known.standing) = (true, standing);
                known.position = position;
            }
            None => replicas.push(self.replicas.unannounced(standing, position)),
        }
        let furthest = replicas.iter().map(|replica| replica.position.get()).max().unwrap_or_default();
        for replica in &mut replicas {
            replica.lag = furthest.saturating_sub(replica.position.get());
        }
        Fleet { replicas, answered }
    }
}

impl ReplicaStatus {
    fn of(replica: &Replica, age: Duration) -> Self {
        let Replica { beat, silent } = replica;
        let silent = silent.saturating_add(age);
        Self {
            replica: identity(replica),
            own: false,
            version: beat.version.to_string(),
            standing: beat.standing.to_string(),
            position: beat.checkpoint.position,
            lag: 0,
            live: silent < beat.lease,
            silent,
            started_at: beat.started_at,
        }
    }
}

fn identity(replica: &Replica) -> ReplicaIdentity {
    ReplicaIdentity { id: (*replica.beat.id).into(), name: (*replica.beat.name).into() }
}

/// What the table said.
#[derive(Debug, Default)]
struct Reading {
    replicas: Vec<Replica>,
    /// The reading of the monotonic clock when it was asked.
    as_of: Duration,
}

/// The replicas of the store, read by one for all.
#[derive(Debug)]
pub(super) struct Replicas {
    own: ReplicaIdentity,
    started_at: Timestamp,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// Reads while somebody waits; started by the first who does.
    reader: OnceLock<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    table: SharedReplicas,
    index: Arc<Index>,
    clock: SharedClock,
    /// How many wait.
    waiting: watch::Sender<usize>,
    last: watch::Sender<Arc<Reading>>,
    /// Who may be serving by what any reading said, also by one of before a loss. Held for a moment.
    remembered: Mutex<Vec<Remembered>>,
}

/// A replica that was heard of.
#[derive(Clone, Debug)]
struct Remembered {
    replica: ReplicaIdentity,
    lease: Duration,
    /// The reading of the monotonic clock at which its lease is over.
    until: Duration,
}

impl Replicas {
    pub(super) fn new(own: ReplicaIdentity, table: SharedReplicas, index: Arc<Index>, clock: SharedClock) -> Self {
        let (waiting, last) = (watch::Sender::new(0), watch::Sender::default());
        let started_at = clock.now();
        let shared = Arc::new(Shared { table, index, clock, waiting, last, remembered: Mutex::default() });
        Self { own, started_at, shared, places: Arc::new(Semaphore::new(MAX_WAITING)), reader: OnceLock::new() }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, ControlError> {
        self.places.clone().try_acquire_owned().map_err(|_| ControlError::Busy)
    }

    /// Reads the table; whether it answered.
    async fn read(&self) -> bool {
        self.shared.read().await
    }

    /// Who may be serving, by all that was heard.
    fn remembered(&self) -> Vec<Remembered> {
        self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the table said last, as it looks by now.
    fn known(&self) -> Vec<ReplicaStatus> {
        let last = self.shared.last.borrow().clone();
        let age = self.shared.clock.elapsed().saturating_sub(last.as_of);
        last.replicas.iter().map(|replica| ReplicaStatus::of(replica, age)).collect()
    }

    /// This replica, of which the store knows nothing yet.
    fn unannounced(&self, standing: String, position: Position) -> ReplicaStatus {
        ReplicaStatus {
            replica: self.own.clone(),
            own: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            standing,
            position,
            lag: 0,
            live: false,
            silent: Duration::ZERO,
            started_at: self.started_at,
        }
    }

    /// Takes in what the table says until the tally is settled, or it is `deadline`.
    async fn wait(&self, tally: &mut Tally<'_>, deadline: Instant) {
        tally.look_back(&self.known());
        let mut readings = self.shared.last.subscribe();
        let _counted = Counted::new(&self.shared.waiting);
        self.reader.get_or_init(|| JoinSet::from_iter([self.shared.clone().run()]));
        while let Ok(Ok(())) = timeout_at(deadline, readings.changed()).await {
            let reading = readings.borrow_and_update().clone();
            if tally.take(&reading, self.shared.clock.elapsed(), self.shared.index.rewinds()) {
                return;
            }
        }
    }
}

impl Shared {
    /// Reads the table again and again while somebody waits.
    async fn run(self: Arc<Self>) {
        let mut waiting = self.waiting.subscribe();
        let mut backoff = Backoff::new(PAUSE, LONGEST_PAUSE);
        // The sender lives as long as `self`.
        while waiting.wait_for(|waiting| *waiting > 0).await.is_ok() {
            if timeout(PATIENCE, self.read()).await.is_ok_and(|answered| answered) {
                backoff.reset();
                sleep(PAUSE).await;
            } else {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// Notes who may be serving, and until when.
    fn remember(&self, replicas: &[Replica], as_of: Duration) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let spoke = |id: &str| replicas.iter().any(|replica| *replica.beat.id == *id);
        remembered.retain(|known| known.until > as_of && !spoke(&known.replica.id));
        let live = replicas.iter().filter(|replica| replica.is_live());
        remembered.extend(live.map(|replica| Remembered {
            replica: identity(replica),
            lease: replica.beat.lease,
            until: as_of.saturating_add(replica.beat.lease).saturating_sub(replica.silent),
        }));
    }

    async fn read(&self) -> bool {
        let as_of = self.clock.elapsed();
        let Ok(replicas) = self.table.replicas().await else { return false };
        self.remember(&replicas, as_of);
        self.last.send_replace(Arc::new(Reading { replicas, as_of }));
        true
    }
}

/// One who waits, as long as it lives.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

/// What one who waits has learned.
struct Tally<'a> {
    asked: &'a Asked,
    position: Position,
    own: &'a ReplicaIdentity,
    replicas: &'a Replicas,
    spread: Spread,
}

impl<'a> Tally<'a> {
    /// This replica shows it already.
    fn new(asked: &'a Asked, position: Position, replicas: &'a Replicas, now: Duration) -> Self {
        let own = &replicas.own;
        let shown = position.max(replicas.shared.index.position());
        let confirmed = Confirmed { replica: own.clone(), position: shown, after: now.saturating_sub(asked.at) };
        let complete = asked.wait == Wait::Local;
        let spread = Spread { complete, confirmed: vec![confirmed], missing: Vec::new() };
        Self { asked, position, own, replicas, spread }
    }

    /// Who is waited for, as far as an older reading tells: the table may not answer in time.
    fn look_back(&mut self, known: &[ReplicaStatus]) {
        let awaited = known.iter().filter(|other| other.live && other.replica.id != self.own.id);
        self.spread.missing = awaited.map(|other| other.replica.clone()).collect();
    }

    /// Takes in a reading; whether there is nothing more to learn.
    fn take(&mut self, reading: &Reading, now: Duration, rewinds: u64) -> bool {
        let reached = |replica: &Replica| replica.beat.checkpoint.position >= self.position;
        let known: Vec<&Arc<str>> = self.spread.confirmed.iter().map(|confirmed| &confirmed.replica.id).collect();
        let news = self.others(reading).filter(|other| reached(other) && other.is_live());
        let news = news.filter(|other| !known.iter().any(|id| ***id == *other.beat.id)).map(|other| Confirmed {
            replica: identity(other),
            position: other.beat.checkpoint.position,
            after: now.saturating_sub(self.asked.at),
        });
        let news: Vec<Confirmed> = news.collect();
        let behind = self.others(reading).filter(|other| other.is_live() && !reached(other));
        self.spread.missing = behind.map(identity).collect();
        self.spread.confirmed.extend(news);
        // A log that went back says nothing of what we wrote: whoever stands beyond it may never have seen it.
        if rewinds != self.asked.rewinds {
            self.spread.missing = self.others(reading).filter(|other| other.is_live()).map(identity).collect();
            self.spread.confirmed.truncate(1);
            return true;
        }
        let unheard = self.unheard(reading);
        let vouched = reading.replicas.iter().any(|replica| *replica.beat.id == *self.own.id && reached(replica));
        self.spread.complete = vouched && self.spread.missing.is_empty() && unheard.is_none();
        self.spread.missing.extend(unheard.into_iter().flatten());
        self.spread.complete
    }

    /// After a loss, while somebody may still serve who has not noticed: those known from before who have not spoken since.
    fn unheard(&self, reading: &Reading) -> Option<Vec<ReplicaIdentity>> {
        let ago = self.replicas.shared.index.rewound_for()?;
        let remembered = self.replicas.remembered();
        let leases = reading.replicas.iter().map(|replica| replica.beat.lease);
        let longest = leases.chain(remembered.iter().map(|known| known.lease)).max().unwrap_or_default();
        if ago >= longest {
            return None;
        }
        let spoke = |id: &str| reading.replicas.iter().any(|replica| *replica.beat.id == *id);
        let silent =
            remembered.into_iter().filter(|known| known.replica.id != self.own.id && !spoke(&known.replica.id));
        Some(silent.map(|known| known.replica).collect())
    }

    fn others<'r>(&self, reading: &'r Reading) -> impl Iterator<Item = &'r Replica> + use<'r, 'a> {
        let own = self.own;
        reading.replicas.iter().filter(move |replica| *replica.beat.id != *own.id)
    }
}
