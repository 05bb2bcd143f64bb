//! Reading the ledger: of each revocation the newest record, and no other.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::sync::ledger::Image;
use crate::sync::ledger::block::{Block, BlockError};
use crate::sync::ledger::record::Kept;

/// Goes through an image from its end to its start, a block at a time.
pub(in crate::sync) struct Latest {
    blocks: Vec<Arc<Block>>,
    distinct: usize,
    outdated: usize,
    seen: HashSet<u128, BuildHasherDefault<IdHasher>>,
}

impl Latest {
    pub(in crate::sync) fn of(image: Image) -> Self {
        let Image { blocks, distinct, outdated, .. } = image;
        Self { blocks, distinct, outdated, seen: HashSet::default() }
    }

    /// The newest records in the next block, in no order; `None` when there are no more blocks.
    pub(in crate::sync) fn next(&mut self) -> Option<Result<Vec<Kept>, BlockError>> {
        let block = self.blocks.pop()?;
        let mut all = match block.unpack() {
            Ok(all) => all,
            Err(error) => return Some(Err(error)),
        };
        let (distinct, outdated) = (self.blocks.len() < self.distinct, self.blocks.len() < self.outdated);
        all.reverse();
        all.retain(|kept| {
            let id = kept.recorded.revocation.id.bits();
            // Where each has one record, what comes later here cannot be older, and need not be remembered.
            let newest = if distinct { !self.seen.contains(&id) } else { self.seen.insert(id) };
            newest && !(outdated && kept.recorded.ending.is_none())
        });
        Some(Ok(all))
    }
}

/// An id's random bits are its hash.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let word = bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        self.0 ^= word;
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = (id as u64) ^ ((id >> 64) as u64);
    }
}
