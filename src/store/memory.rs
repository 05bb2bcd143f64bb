//! A store in this process's memory: the contract at its plainest, for tests and for trying things out. Nothing survives
//! the process, so nothing that matters may be kept in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Ending, Entry, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::decide::{Write, decide, told};
use crate::store::feed::{self, NewsPage, Pages, Source, StatePage};
use crate::store::memory_sessions::Inventory;
use crate::store::query::change;
use crate::store::replicas::LocalReplicas;
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, Beat, ENDED_RETENTION, EventStream, Page, Replica,
    ReplicaTable, RevocationLog, RevocationQuery, StoreError,
};

/// How many selectors or changes a page of the feed has; few in tests, which thus turn pages.
const PAGE: usize = if cfg!(test) { 100 } else { 500 };

/// Revocations and audit records in memory.
pub(super) struct MemoryLog {
    rows: Arc<Rows>,
    /// Wakes the followers; `None` once the log is closed. Held for a moment, never across an await.
    wake: Mutex<Option<watch::Sender<Position>>>,
    replicas: LocalReplicas,
    clock: SharedClock,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryLog")
    }
}

impl MemoryLog {
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        let wake = watch::Sender::new(Position::START);
        let replicas = LocalReplicas::new(clock.clone());
        Arc::new(Self { rows: Arc::default(), wake: Mutex::new(Some(wake)), replicas, clock })
    }

    /// What `call` makes of the waker, unless the log is closed.
    fn open<T>(&self, call: impl FnOnce(&watch::Sender<Position>) -> T) -> Result<T, StoreError> {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        wake.as_ref().map(call).ok_or_else(StoreError::closed)
    }

    /// What `call` makes of the table, unless the log is closed.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Table) -> T) -> Result<T, StoreError> {
        self.open(|_| call(&mut self.rows.table()))
    }
}

#[async_trait]
impl RevocationLog for MemoryLog {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.open(|wake| {
            let mut table = self.rows.table();
            feed::reached(batch.seen, table.head)?;
            let appended = table.append(&batch);
            wake.send_replace(appended.position);
            Ok(appended)
        })?
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        let (pages, clock) = (self.rows.clone(), self.clock.clone());
        self.open(|wake| feed::follow(Source { pages, wake: wake.subscribe(), poll: feed::BEAT, clock }, from))
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.open(|_| self.rows.table().rows.get(&id).map(|row| row.held.clone()))
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        let mut held = self.open(|_| self.rows.table().unended(&selector.canonical()))?;
        held.retain(|held| held.stands(now));
        Ok(held)
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.open(|_| self.rows.table().search(query))
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.open(|_| self.rows.table().forget(now))
    }

    async fn close(&self) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl AuditTrail for MemoryLog {
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.open(|_| records.into_iter().for_each(|record| self.rows.table().note(record)))
    }

    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.open(|_| self.rows.table().trail(query))
    }
}

#[async_trait]
impl ReplicaTable for MemoryLog {
    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        self.open(|_| feed::reached(beat.checkpoint, self.rows.table().head).map(|_| self.replicas.beat(beat)))?
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.open(|_| self.replicas.replicas())
    }

    async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.open(|_| self.replicas.leave(id))
    }
}

/// The table, shared with the followers. Held for the length of one call, never across an await.
#[derive(Default)]
struct Rows(Mutex<Table>);

impl Rows {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pages for Rows {
    async fn head(&self, from: Checkpoint) -> Result<Checkpoint, StoreError> {
        feed::reached(from, self.table().head)
    }

    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError> {
        let table = self.table();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let selectors: Vec<&String> =
            table.unended.range::<str, _>((from, Bound::Unbounded)).map(|(selector, _)| selector).take(PAGE).collect();
        let resume = selectors.last().filter(|_| selectors.len() == PAGE).map(|last| (*last).clone());
        let changes = selectors.iter().filter_map(|selector| change(table.unended(selector), None)).collect();
        Ok(StatePage { changes, resume })
    }

    async fn news(&self, after: Checkpoint) -> Result<NewsPage, StoreError> {
        let table = self.table();
        feed::reached(after, table.head)?;
        let changed: Vec<&Recorded> = table.after(after.position).take(PAGE).collect();
        let more = changed.len() == PAGE;
        let upto = changed.last().filter(|_| more).map_or(table.head, |last| last.position);
        let news = |held: &Recorded| change(table.unended(&held.revocation.selector.canonical()), Some(held));
        Ok(NewsPage { changes: changed.into_iter().filter_map(news).collect(), upto: upto.into(), more })
    }
}

#[derive(Default)]
pub(super) struct Table {
    rows: HashMap<RevocationId, Row>,
    positions: BTreeMap<Position, RevocationId>,
    /// The rows without an ending, by canonical selector.
    unended: BTreeMap<String, Vec<RevocationId>>,
    audit: Vec<AuditRecord>,
    head: Position,
    pub(super) inventory: Inventory,
}

struct Row {
    held: Recorded,
    ended_at: Option<Timestamp>,
}

impl Table {
    fn append(&mut self, batch: &Batch) -> Appended {
        let mut dispositions = Vec::with_capacity(batch.entries.len());
        let mut audit = batch.audit.iter();
        for entry in &batch.entries {
            let decision = decide(entry, self.known(entry), batch.now, &mut self.head);
            decision.writes.into_iter().for_each(|write| self.write(write, batch.now));
            if let Some(record) = audit.next().filter(|_| !decision.repeated) {
                self.note(told(record, &decision.disposition));
            }
            dispositions.push(decision.disposition);
        }
        audit.for_each(|record| self.note(record.clone()));
        Appended { position: self.head, dispositions }
    }

    fn known(&self, entry: &Entry) -> Vec<Recorded> {
        let (id, mut known) = match entry {
            Entry::Revoke(incoming) => (incoming.id, self.unended(&incoming.selector.canonical())),
            Entry::Lift { id, .. } => (*id, Vec::new()),
            Entry::Restore(lost) => (lost.revocation.id, Vec::new()),
        };
        known.retain(|held| held.revocation.id != id);
        known.extend(self.rows.get(&id).map(|row| row.held.clone()));
        known
    }

    fn write(&mut self, write: Write, now: Timestamp) {
        let is_new = matches!(write, Write::Insert(_));
        let (Write::Insert(held) | Write::Update(held)) = write;
        self.remove(held.revocation.id);
        self.positions.insert(held.position, held.revocation.id);
        let ended_at = held.ending.as_ref().map(|_| now);
        if ended_at.is_none() {
            let selector = held.revocation.selector.canonical();
            self.unended.entry(selector).or_default().push(held.revocation.id);
        }
        self.rows.insert(held.revocation.id, Row { held: held.clone(), ended_at });
        self.sweep(&held, is_new, now);
    }

    fn remove(&mut self, id: RevocationId) {
        let Some(Row { held, .. }) = self.rows.remove(&id) else { return };
        self.positions.remove(&held.position);
        let selector = held.revocation.selector.canonical();
        if let Some(ids) = self.unended.get_mut(&selector) {
            ids.retain(|of| *of != id);
            if ids.is_empty() {
                self.unended.remove(&selector);
            }
        }
    }

    pub(super) fn unended(&self, selector: &str) -> Vec<Recorded> {
        let ids = self.unended.get(selector).into_iter().flatten();
        ids.filter_map(|id| self.rows.get(id)).map(|row| row.held.clone()).collect()
    }

    /// That revocation and all it superseded, and what these did.
    pub(super) fn with_superseded(&self, id: RevocationId) -> HashSet<RevocationId> {
        let (mut found, mut next) = (HashSet::from([id]), vec![id]);
        while let Some(by) = next.pop() {
            let outdone = self.rows.values().filter(|row| row.held.ending == Some(Ending::Superseded(by)));
            next.extend(outdone.map(|row| row.held.revocation.id).filter(|id| found.insert(*id)));
        }
        found
    }

    fn after(&self, position: Position) -> impl Iterator<Item = &Recorded> {
        let changed = self.positions.range((Bound::Excluded(position), Bound::Unbounded));
        changed.filter_map(|(_, id)| self.rows.get(id)).map(|row| &row.held)
    }

    fn search(&self, query: &RevocationQuery) -> Page<Recorded> {
        let upto = query.before.map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = self.positions.range((Bound::Unbounded, upto)).rev();
        let rows = newest_first.filter_map(|(_, id)| self.rows.get(id)).map(|row| &row.held);
        let wanted = rows.filter(|held| query.wants(held)).take(query.limit() + 1).cloned().collect();
        Page::cut(wanted, query.limit(), |held| held.position.get())
    }

    fn forget(&mut self, now: Timestamp) -> u64 {
        let over = |row: &&Row| {
            let expires_at = row.held.revocation.expires_at;
            match (expires_at, row.ended_at) {
                (Some(expires_at), _) => expires_at <= now,
                (None, Some(ended_at)) => ended_at.after(ENDED_RETENTION) <= now,
                (None, None) => false,
            }
        };
        let gone: Vec<RevocationId> = self.rows.values().filter(over).map(|row| row.held.revocation.id).collect();
        gone.iter().for_each(|id| self.remove(*id));
        gone.len() as u64
    }

    fn note(&mut self, record: AuditRecord) {
        let sequence = self.audit.len() as u64 + 1;
        self.audit.push(AuditRecord { sequence, ..record });
    }

    fn trail(&self, query: &AuditQuery) -> Page<AuditRecord> {
        let newest_first = self.audit.iter().rev().filter(|record| query.wants(record));
        let wanted = newest_first.take(query.limit() + 1).cloned().collect();
        Page::cut(wanted, query.limit(), |record| record.sequence)
    }
}
