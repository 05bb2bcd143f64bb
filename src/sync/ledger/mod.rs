//! What a replica has seen of a shared log, so that it can give it back: the log may be emptied, restored from an old backup,
//! or replaced by a copy that lagged behind, and nothing may be un-revoked by that.
//!
//! Records are only ever added, the newest one of a revocation counts: what stands, and what has ended not long ago, so that
//! an old backup does not bring back what was lifted. They lie in compressed blocks that never change; when there are twice
//! as many as need be, they are written anew. The index keeps 128-bit hashes, of which nothing could be put back; this costs
//! some fifty bytes a revocation. The same blocks are the local snapshot.

mod block;
mod compact;
mod latest;
mod record;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Checkpoint, Recorded, Timestamp};

pub(in crate::sync) use block::{Block, BlockError, finish};
pub(in crate::sync) use latest::Latest;
pub(in crate::sync) use record::Kept;

/// What the records are written in.
pub(in crate::sync) const VERSION: u16 = record::VERSION;

/// All that was seen.
#[derive(Default)]
pub(in crate::sync) struct Ledger {
    /// Held for the time of adding a record, or a block's packing at most.
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    blocks: Vec<Arc<Block>>,
    /// In so many of the first blocks no revocation has two records.
    distinct: usize,
    /// Records that are not packed yet, one behind the other.
    open: Vec<u8>,
    open_records: u32,
    records: u64,
    /// How many records there were when each was needed last.
    needed: u64,
    /// Where the blocks begin that were added since a reload began, while it lasts.
    reload: Option<usize>,
    /// Blocks before this one hold nothing that stands: a reload has told of it anew, or else it ended unseen.
    outdated: usize,
    compacting: bool,
    checkpoint: Checkpoint,
    proved_at: Timestamp,
    revision: u64,
}

/// The ledger as it stood at a moment.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Image {
    /// The records, the oldest first.
    pub(in crate::sync) blocks: Vec<Arc<Block>>,
    /// In so many of the first blocks no revocation has two records.
    pub(in crate::sync) distinct: usize,
    /// What so many of the first blocks say to be standing was not told of again when all was; it stands no more.
    pub(in crate::sync) outdated: usize,
    /// How many records there are.
    pub(in crate::sync) records: u64,
    /// Everything up to here is in it.
    pub(in crate::sync) checkpoint: Checkpoint,
    /// When that was known to be all.
    pub(in crate::sync) proved_at: Timestamp,
    /// Differs when anything was added since.
    pub(in crate::sync) revision: u64,
}

impl Ledger {
    /// Takes over what was written down, before anything else.
    pub(in crate::sync) fn recall(&self, image: Image) {
        let Image { blocks, distinct, outdated, records, checkpoint, proved_at, revision } = image;
        let known = Pages { distinct, outdated, checkpoint, proved_at, ..Pages::default() };
        *self.pages() = Pages { blocks, records, needed: records, revision, ..known };
    }

    /// Adds what was seen of one revocation.
    pub(in crate::sync) fn add(&self, recorded: Recorded, seen_at: Timestamp) {
        let mut pages = self.pages();
        record::encode(&Kept { recorded, seen_at }, &mut pages.open);
        pages.open_records += 1;
        pages.records += 1;
        pages.revision += 1;
        if pages.open.len() >= block::FULL_BYTES {
            pages.close();
        }
    }

    /// Notes that everything up to `checkpoint` is in it, and that there was nothing else at `now`.
    pub(in crate::sync) fn reached(&self, checkpoint: Checkpoint, now: Timestamp) {
        let mut pages = self.pages();
        (pages.checkpoint, pages.proved_at) = (checkpoint, now);
    }

    /// All that stands is about to be told anew.
    pub(in crate::sync) fn reload(&self) {
        let mut pages = self.pages();
        pages.close();
        pages.reload = Some(pages.blocks.len());
    }

    /// All that stands was told anew, so what was seen before and was not told of again stands no more.
    pub(in crate::sync) fn reloaded(&self) {
        let mut pages = self.pages();
        if let Some(from) = pages.reload.take() {
            pages.outdated = from;
            if from == 0 {
                // A first load tells of everything once.
                pages.needed = pages.records;
            }
        }
    }

    /// The ledger as it stands now.
    pub(in crate::sync) fn image(&self) -> Image {
        self.pages().image()
    }

    /// Differs when anything was added since, and when all of it was known last.
    pub(in crate::sync) fn revision(&self) -> (u64, Timestamp) {
        let pages = self.pages();
        (pages.revision, pages.proved_at)
    }

    /// How many records it has, and how many bytes they take.
    pub(in crate::sync) fn size(&self) -> (u64, usize) {
        let pages = self.pages();
        (pages.records, pages.open.capacity() + pages.blocks.iter().map(|block| block.bytes()).sum::<usize>())
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Packs what is not packed yet.
    fn close(&mut self) {
        if self.open_records > 0 {
            let block = Block::pack(&self.open, std::mem::take(&mut self.open_records));
            self.blocks.push(Arc::new(block));
            self.open.clear();
        }
    }

    fn image(&mut self) -> Image {
        self.close();
        let Self { distinct, outdated, records, checkpoint, proved_at, revision, .. } = *self;
        Image { blocks: self.blocks.clone(), distinct, outdated, records, checkpoint, proved_at, revision }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, bytes) = self.size();
        f.debug_struct("Ledger").field("records", &records).field("bytes", &bytes).finish_non_exhaustive()
    }
}
