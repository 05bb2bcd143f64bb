//! Starting with what was known before: the snapshot fills the index and the ledger, and the log is read on from where it was
//! taken. Until the log proves it, the index refuses what it knows and claims no more.

use std::sync::Arc;

use crate::domain::{Recorded, Timestamp};
use crate::index::Index;
use crate::sync::following::Following;
use crate::sync::ledger::{BlockError, Image, Latest};
use crate::sync::snapshot;

impl Following {
    /// Takes over the snapshot, if there is one to be used.
    pub(super) async fn recall(&mut self) {
        let (Some(ledger), Some(settings)) = (self.ledger.clone(), self.settings.snapshot.clone()) else { return };
        let now = self.clock.now();
        let Some(image) = snapshot::read(&settings, now).await else { return };
        let (index, own) = (self.index.clone(), image.clone());
        let filled = tokio::task::spawn_blocking(move || fill(&index, own, now)).await;
        let path = settings.path.display();
        match filled {
            Ok(Ok(revocations)) => {
                tracing::info!(%path, revocations, position = %image.checkpoint.position, "the snapshot is remembered");
                self.state.from = image.checkpoint;
                self.index.remembered(image.checkpoint);
                ledger.recall(image);
            }
            // What was taken over so far goes with the first load, as the index does not claim to hold anything yet.
            Ok(Err(why)) => tracing::warn!(%path, %why, "the snapshot is not used"),
            Err(_) => {}
        }
    }
}

/// Fills the index with what stands; answers how many revocations do.
fn fill(index: &Arc<Index>, image: Image, now: Timestamp) -> Result<u64, BlockError> {
    let mut latest = Latest::of(image);
    let mut count = 0;
    while let Some(some) = latest.next() {
        let some = some?;
        for Recorded { revocation, .. } in some.iter().map(|kept| &kept.recorded).filter(|kept| kept.stands(now)) {
            index.remember(revocation);
            count += 1;
        }
    }
    Ok(count)
}
