//! What a transaction is about to write to the log: entries are compared with what stands, in memory, and what came of all of
//! them is written at once. However many entries there are, it takes three questions to the server. Nothing here commits.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::{Row, query};

use crate::domain::{Ending, Entry, Recorded, RevocationId, Selector, Timestamp};
use crate::store::decide::{Write, decide, told};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::history::History;
use crate::store::postgres::rows::{BEHIND_REVOCATION, hash, id_column, recorded, revocation_columns};
use crate::store::postgres::sessions;
use crate::store::postgres::write;
use crate::store::{Appended, AuditRecord, Batch, StoreError};

/// A row as it will be.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) held: Recorded,
    pub(super) ended_at: Option<Timestamp>,
    /// Whether another row without an ending has, or had, the same selector.
    pub(super) crowded: bool,
    pub(super) change: Change,
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    None,
    Insert,
    Update,
}

/// The rows that a transaction knows, and what it does to them.
#[derive(Debug)]
pub(super) struct Drafts {
    pub(super) rows: HashMap<RevocationId, Draft>,
    /// Those without an ending.
    beside: HashMap<Selector, Vec<RevocationId>>,
    /// What the trail says of it.
    pub(super) notes: Vec<AuditRecord>,
    /// Each step, in order, and when it was asked for.
    pub(super) writes: Vec<(Write, Timestamp)>,
}

/// Carries out batches, each as a whole or not at all, and answers each. One whose replica has read another log is refused.
pub(super) async fn append(
    connection: &mut PgConnection,
    batches: &[&Batch],
    notes: Vec<AuditRecord>,
) -> Result<(History, Vec<Result<Appended, StoreError>>), Failure> {
    let mut history = History::hold(connection, batches.iter().map(|batch| batch.seen)).await?;
    let before = history.head;
    let mut drafts = Drafts::read(connection, batches, notes).await?;
    let answers = batches.iter().map(|batch| {
        history.holds(batch.seen)?;
        Ok(drafts.take(batch, &mut history))
    });
    let answers = answers.collect();
    write::write(connection, &drafts, before, &mut history.head).await?;
    sessions::carry_over(connection, &drafts.writes).await?;
    Ok((history, answers))
}

impl Drafts {
    /// The rows that the entries are compared with. Asked for once the log's end is held, by a statement of its own, which
    /// therefore sees what everyone before us has committed.
    async fn read(connection: &mut PgConnection, batches: &[&Batch], notes: Vec<AuditRecord>) -> Result<Self, Failure> {
        // Never a join: of a table that was not looked at yet, the planner goes through all rows for each that is wanted.
        const KNOWN: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            ", crowded FROM portcullis.revocations WHERE id = ANY($1::bytea[]) UNION ALL SELECT ",
            revocation_columns!(),
            ", crowded FROM portcullis.revocations WHERE key = ANY($2::bigint[]) AND ended_at IS NULL"
        );
        let mut drafts = Self { rows: HashMap::new(), beside: HashMap::new(), notes, writes: Vec::new() };
        let (ids, keys) = wanted(batches);
        if ids.is_empty() {
            return Ok(drafts);
        }
        for row in query(KNOWN).bind(ids).bind(keys).fetch_all(connection).await? {
            drafts.know(recorded(&row)?, row.try_get(BEHIND_REVOCATION)?);
        }
        Ok(drafts)
    }

    fn know(&mut self, held: Recorded, crowded: bool) {
        let id = held.revocation.id;
        if self.rows.contains_key(&id) {
            return;
        }
        if held.ending.is_none() {
            self.beside.entry(held.revocation.selector.clone()).or_default().push(id);
        }
        self.rows.insert(id, Draft { held, ended_at: None, crowded, change: Change::None });
    }

    /// Carries out one batch; the log's end moves on with each row written.
    fn take(&mut self, batch: &Batch, history: &mut History) -> Appended {
        let head = &mut history.head.position;
        let mut dispositions = Vec::with_capacity(batch.entries.len());
        let mut audit = batch.audit.iter();
        for entry in &batch.entries {
            let decision = decide(entry, self.known(entry), batch.now, head);
            for write in decision.writes {
                self.draft(&write, batch.now);
                self.writes.push((write, batch.now));
            }
            if let Some(record) = audit.next().filter(|_| !decision.repeated) {
                self.notes.push(told(record, &decision.disposition));
            }
            dispositions.push(decision.disposition);
        }
        self.notes.extend(audit.cloned());
        Appended { position: *head, dispositions }
    }

    /// The row of the entry's id, and those without an ending of its selector, in order.
    fn known(&self, entry: &Entry) -> Vec<Recorded> {
        let (id, selector) = subject(entry);
        let beside = selector.and_then(|selector| self.beside.get(selector)).into_iter().flatten().copied();
        let ids = [id].into_iter().chain(beside.filter(|other| *other != id));
        let mut known: Vec<Recorded> = ids.filter_map(|id| self.rows.get(&id)).map(|row| row.held.clone()).collect();
        known.sort_by_key(|held| held.position);
        known
    }

    fn draft(&mut self, write: &Write, now: Timestamp) {
        let (held, change) = match write {
            Write::Insert(held) => (held, Change::Insert),
            Write::Update(held) => (held, Change::Update),
        };
        let ended_at = held.ending.as_ref().map(|ending| match ending {
            Ending::Lifted(lift) => lift.at,
            Ending::Superseded(_) => now,
        });
        let id = held.revocation.id;
        let earlier = self.rows.get(&id);
        let change = if earlier.is_some_and(|row| row.change == Change::Insert) { Change::Insert } else { change };
        let crowded = earlier.is_some_and(|row| row.crowded);
        self.rows.insert(id, Draft { held: held.clone(), ended_at, crowded, change });
        self.place(held);
    }

    /// Keeps account of which rows without an ending share a selector.
    fn place(&mut self, held: &Recorded) {
        let id = held.revocation.id;
        let beside = self.beside.entry(held.revocation.selector.clone()).or_default();
        beside.retain(|other| *other != id);
        if held.ending.is_some() {
            return;
        }
        beside.push(id);
        if beside.len() < 2 {
            return;
        }
        for id in &*beside {
            let Some(row) = self.rows.get_mut(id).filter(|row| !row.crowded) else { continue };
            row.crowded = true;
            if row.change == Change::None {
                row.change = Change::Update;
            }
        }
    }
}

/// The ids and the keys of the rows that the entries are compared with.
fn wanted(batches: &[&Batch]) -> (Vec<Vec<u8>>, Vec<i64>) {
    let entries = || batches.iter().flat_map(|batch| &batch.entries);
    let ids: HashSet<RevocationId> = entries().map(|entry| subject(entry).0).collect();
    let keys: HashSet<i64> =
        entries().filter_map(|entry| subject(entry).1).map(|selector| hash(&selector.canonical())).collect();
    (ids.into_iter().map(id_column).collect(), keys.into_iter().collect())
}

/// Which revocation an entry is about, and which selector's rows count.
fn subject(entry: &Entry) -> (RevocationId, Option<&Selector>) {
    match entry {
        Entry::Revoke(incoming) => (incoming.id, Some(&incoming.selector)),
        Entry::Lift { id, .. } => (*id, None),
        Entry::Restore(lost) => (lost.revocation.id, Some(&lost.revocation.selector)),
    }
}
