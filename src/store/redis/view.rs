//! What was read of the log to decide about a group of batches, and what is to be written: as in one transaction, for the
//! script that writes it makes sure that nothing read here has changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use redis::pipe;

use crate::domain::{Entry, Position, Recorded, RevocationId, Timestamp};
use crate::store::decide::Write;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::{ROWS, SELECTORS};
use crate::store::redis::rows::{self, POSITION_BYTES};
use crate::store::{Batch, StoreError};

/// Stands for the log's end while it is decided: the script adds the true one to what lies beyond. No true position is so
/// great.
pub(super) const AFAR: Position = Position::new(1 << 60);

/// What is known of the log.
#[derive(Debug, Default)]
pub(super) struct View {
    rows: HashMap<RevocationId, Option<Recorded>>,
    /// The rows of a selector without an ending.
    unended: HashMap<String, Vec<RevocationId>>,
    /// The ids that were asked for, and the position of each, empty where there was none.
    pub(super) read_rows: Vec<([u8; 16], Vec<u8>)>,
    /// The selectors that were asked for, and what is kept of each.
    pub(super) read_selectors: Vec<(String, Vec<u8>)>,
    /// What is to be written: how far beyond [`AFAR`] a row's last change is, and when it ended.
    written: HashMap<RevocationId, (u64, Timestamp)>,
    changed_selectors: HashMap<String, u64>,
}

impl View {
    /// Reads all that `batches` may be compared with.
    pub(super) async fn read(connection: &Connection, batches: &[Batch]) -> Result<Self, StoreError> {
        let mut view = Self::default();
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        let (mut ids, mut selectors) = (HashSet::new(), HashSet::new());
        for entry in entries {
            match entry {
                Entry::Revoke(revocation) => {
                    ids.insert(revocation.id);
                    selectors.insert(revocation.selector.canonical());
                }
                Entry::Restore(lost) => {
                    ids.insert(lost.revocation.id);
                    selectors.insert(lost.revocation.selector.canonical());
                }
                Entry::Lift { id, .. } => drop(ids.insert(*id)),
            }
        }
        let ids: Vec<RevocationId> = ids.into_iter().collect();
        view.ask(connection, &ids, selectors.into_iter().collect(), true).await?;
        // The rest hangs on what was found: the selector of what is lifted, and what else stands for a selector.
        let found = view.rows.values().flatten().map(|held| held.revocation.selector.canonical());
        let missing = found.filter(|selector| !view.unended.contains_key(selector)).collect::<HashSet<_>>();
        if !missing.is_empty() {
            view.ask(connection, &[], missing.into_iter().collect(), false).await?;
        }
        let beside: HashSet<RevocationId> = view.unended.values().flatten().copied().collect();
        let beside: Vec<RevocationId> = beside.into_iter().filter(|id| !view.rows.contains_key(id)).collect();
        if !beside.is_empty() {
            view.ask(connection, &beside, Vec::new(), false).await?;
        }
        Ok(view)
    }

    /// Reads rows and selectors. Rows that belong to a selector that was read need not be `held_to`: they change only with
    /// it.
    async fn ask(
        &mut self,
        connection: &Connection,
        ids: &[RevocationId],
        selectors: Vec<String>,
        held_to: bool,
    ) -> Result<(), StoreError> {
        let mut question = pipe();
        if !ids.is_empty() {
            let asked = question.cmd("HMGET").arg(ROWS);
            for id in ids {
                asked.arg(&rows::id_bytes(*id)[..]);
            }
        }
        if !selectors.is_empty() {
            question.cmd("HMGET").arg(SELECTORS).arg(&selectors);
        }
        if question.is_empty() {
            return Ok(());
        }
        let mut answers = connection.pipe::<Vec<Vec<Option<Vec<u8>>>>>(&question).await?.into_iter();
        if !ids.is_empty() {
            self.take_rows(ids, answers.next().unwrap_or_default(), held_to)?;
        }
        for (selector, value) in selectors.into_iter().zip(answers.next().unwrap_or_default()) {
            let value = value.unwrap_or_default();
            self.unended.insert(selector.clone(), rows::unended(&value)?);
            self.read_selectors.push((selector, value));
        }
        Ok(())
    }

    fn take_rows(
        &mut self,
        ids: &[RevocationId],
        found: Vec<Option<Vec<u8>>>,
        held_to: bool,
    ) -> Result<(), StoreError> {
        for (id, row) in ids.iter().zip(found) {
            if held_to {
                let position = row.as_deref().and_then(|row| row.get(..POSITION_BYTES)).unwrap_or_default();
                self.read_rows.push((rows::id_bytes(*id), position.to_vec()));
            }
            let held = row.map(|row| rows::recorded(*id, &row)).transpose()?;
            self.rows.insert(*id, held);
        }
        Ok(())
    }

    /// The rows an entry is compared with.
    pub(super) fn known(&self, entry: &Entry) -> Vec<Recorded> {
        let id = match entry {
            Entry::Revoke(revocation) => revocation.id,
            Entry::Restore(lost) => lost.revocation.id,
            Entry::Lift { id, .. } => *id,
        };
        let mut ids = vec![id];
        if let Entry::Revoke(revocation) = entry {
            let beside = self.unended.get(&revocation.selector.canonical()).into_iter().flatten();
            ids.extend(beside.filter(|other| **other != id));
        }
        ids.iter().filter_map(|id| self.rows.get(id)?.clone()).collect()
    }

    /// Takes in what was decided.
    pub(super) fn write(&mut self, write: &Write, now: Timestamp) {
        let (Write::Insert(held) | Write::Update(held)) = write;
        let (id, selector) = (held.revocation.id, held.revocation.selector.canonical());
        let offset = held.position.get().saturating_sub(AFAR.get());
        let unended = self.unended.entry(selector.clone()).or_default();
        unended.retain(|other| *other != id);
        if held.ending.is_none() {
            unended.push(id);
        }
        self.rows.insert(id, Some(held.clone()));
        self.written.insert(id, (offset, now));
        self.changed_selectors.insert(selector, offset);
    }

    /// The rows to be written in the order of their places, with these and when each was written.
    pub(super) fn written(&self) -> Vec<(u64, &Recorded, Timestamp)> {
        let in_order: BTreeMap<u64, (&RevocationId, Timestamp)> =
            self.written.iter().map(|(id, (offset, now))| (*offset, (id, *now))).collect();
        let row = |(offset, (id, now))| Some((offset, self.rows.get(id)?.as_ref()?, now));
        in_order.into_iter().filter_map(row).collect()
    }

    /// The selectors to be written, the place of each one's last change, and the ids that are left of it.
    pub(super) fn selectors(&self) -> impl Iterator<Item = (&String, u64, Vec<u8>)> {
        self.changed_selectors.iter().map(|(selector, offset)| {
            let ids = self.unended.get(selector).into_iter().flatten();
            (selector, *offset, ids.flat_map(|id| rows::id_bytes(*id)).collect())
        })
    }
}
