//! Writing the ledger anew without what nobody needs: older records of a revocation, what expired, what ended long ago.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::Timestamp;
use crate::sync::ledger::block::{self, Block, BlockError};
use crate::sync::ledger::latest::Latest;
use crate::sync::ledger::record;
use crate::sync::ledger::{Image, Ledger};

/// How many records more than twice what is needed are not worth the work.
const SLACK: u64 = 16_384;
/// How long what has expired is kept, should the clock have jumped ahead.
const KEEP_EXPIRED: Duration = Duration::from_secs(3_600);
/// How long what was lifted or superseded is kept, should a store be restored from a backup.
const KEEP_ENDED: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What is to be written anew.
pub(in crate::sync) struct Compaction(Image);

impl Ledger {
    /// What is to be written anew, when it is worth it; then [`Self::compact`] is to be called, on a blocking thread.
    pub(in crate::sync) fn due(&self) -> Option<Compaction> {
        let mut pages = self.pages();
        let worth = pages.outdated > 0 || pages.records > pages.needed.saturating_mul(2).saturating_add(SLACK);
        if !worth || pages.compacting || pages.reload.is_some() {
            return None;
        }
        pages.compacting = true;
        Some(Compaction(pages.image()))
    }

    /// Writes it anew. What is added meanwhile stays behind it. Damage, which only a fault of the machine can do, leaves all
    /// as it was.
    pub(in crate::sync) fn compact(&self, compaction: Compaction, now: Timestamp) -> Result<(), BlockError> {
        let image = compaction.0;
        let (replaced, outdated) = (image.blocks.len(), image.outdated);
        let rewritten = rewrite(Latest::of(image), now);
        let mut pages = self.pages();
        pages.compacting = false;
        let blocks = rewritten?;
        let kept: u64 = blocks.iter().map(|block| u64::from(block.records())).sum();
        let end = replaced.min(pages.blocks.len());
        let added = pages.blocks.split_off(end);
        let behind: u64 = added.iter().map(|block| u64::from(block.records())).sum();
        let distinct = blocks.len();
        // A reload that began, or ended, meanwhile began behind what was written anew.
        let moved = |from: usize| distinct + from.saturating_sub(replaced);
        pages.reload = pages.reload.map(moved);
        pages.outdated = if pages.outdated == outdated { 0 } else { moved(pages.outdated) };
        pages.distinct = distinct;
        pages.blocks = blocks;
        pages.blocks.extend(added);
        pages.needed = kept;
        pages.records = kept + behind + u64::from(pages.open_records);
        Ok(())
    }
}

fn rewrite(mut latest: Latest, now: Timestamp) -> Result<Vec<Arc<Block>>, BlockError> {
    let (mut blocks, mut open, mut records) = (Vec::new(), Vec::with_capacity(block::FULL_BYTES * 2), 0);
    while let Some(some) = latest.next() {
        for kept in some?.iter().filter(|kept| !kept.is_over(now, KEEP_EXPIRED, KEEP_ENDED)) {
            record::encode(kept, &mut open);
            records += 1;
            if open.len() >= block::FULL_BYTES {
                blocks.push(Arc::new(Block::pack(&open, std::mem::take(&mut records))));
                open.clear();
            }
        }
    }
    if records > 0 {
        blocks.push(Arc::new(Block::pack(&open, records)));
    }
    Ok(blocks)
}
