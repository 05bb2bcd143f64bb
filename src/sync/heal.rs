//! Giving a log that lost data what this replica has seen of it.
//!
//! All replicas do so at once, each after a moment of its own; what one has put back is there already for the next. Nothing
//! that is in the ledger is taken for ended unless the log says so: when all that stands was read again, whatever was put back
//! and did not come is asked for, and if the log does not know it, it lost data once more.

use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::domain::{Checkpoint, Disposition, Entry, Recorded, RevocationId};
use crate::index::Progress;
use crate::store::{AuditRecord, Batch, StoreError};
use crate::sync::following::Following;
use crate::sync::ledger::{Kept, Latest};

/// How many are put back in one transaction.
const TOGETHER: usize = 500;

/// How far the healing is.
#[derive(Default)]
pub(super) struct Healing {
    due: bool,
    /// What stands in the log by its own word, and was not seen to stand since.
    awaited: HashSet<RevocationId>,
    restored: u64,
    already: u64,
    ended: u64,
}

impl Healing {
    /// The log lost data; what was done before counts for nothing.
    pub(super) fn begin(&mut self) {
        *self = Self { due: true, ..Self::default() };
    }

    /// Whether there is something to be put back.
    pub(super) const fn is_due(&self) -> bool {
        self.due
    }

    /// The log told of this.
    pub(super) fn saw(&mut self, recorded: &Recorded) {
        if !self.awaited.is_empty() {
            self.awaited.remove(&recorded.revocation.id);
        }
    }
}

impl Following {
    /// Puts back all that is in the ledger and not over. Broken off, it has to begin anew.
    pub(super) async fn heal(&mut self) -> Result<(), StoreError> {
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        tokio::time::sleep(self.settings.heal_within.mul_f64(random())).await;
        self.state.healing.begin();
        let outcome = self.put_back_all(Latest::of(ledger.image())).await;
        if outcome.is_err() {
            self.metrics.heal("interrupted");
        }
        outcome?;
        self.state.healing.due = false;
        self.state.from = Checkpoint::START;
        self.index.rewind();
        self.observer.forget();
        Ok(())
    }

    async fn put_back_all(&mut self, mut latest: Latest) -> Result<(), StoreError> {
        while let Some(some) = latest.next() {
            let Ok(mut some) = some.inspect_err(|error| tracing::error!(%error, "a part of the ledger is damaged"))
            else {
                continue;
            };
            let now = self.clock.now();
            some.retain(|kept| kept.recorded.revocation.in_force(now));
            for chunk in some.chunks(TOGETHER) {
                self.put_back(chunk).await?;
            }
        }
        Ok(())
    }

    async fn put_back(&mut self, chunk: &[Kept]) -> Result<(), StoreError> {
        let entries = chunk.iter().map(|kept| Entry::Restore(Box::new(kept.recorded.clone()))).collect();
        let now = self.clock.now();
        let batch = Batch { entries, audit: Vec::new(), now, seen: Checkpoint::START };
        let appended = self.log.append(batch).await?;
        let healing = &mut self.state.healing;
        for (disposition, kept) in appended.dispositions.iter().zip(chunk) {
            match disposition {
                Disposition::Created(_) => healing.restored += 1,
                Disposition::Already(_) => healing.already += 1,
                Disposition::Ended(held) => {
                    healing.ended += 1;
                    if let Some(ledger) = self.ledger.as_ref().filter(|_| kept.recorded.ending.is_none()) {
                        ledger.add(held.clone(), now);
                    }
                }
                Disposition::Lifted(_) | Disposition::Unknown(_) => {}
            }
            let stands = matches!(disposition, Disposition::Created(_) | Disposition::Already(_));
            if stands && kept.recorded.ending.is_none() {
                healing.awaited.insert(kept.recorded.revocation.id);
            }
        }
        Ok(())
    }

    /// Makes sure that the log still knows what was put back, where it did not tell of it.
    pub(super) async fn assure(&mut self) -> Result<(), StoreError> {
        let awaited: Vec<RevocationId> = self.state.healing.awaited.drain().collect();
        for id in awaited {
            if self.log.find(id).await?.is_none() {
                return Err(StoreError::Lost(format!("it does not know {id}, which was put back")));
            }
        }
        Ok(())
    }

    /// What was lost is back, and all that stands was read since.
    pub(super) fn healed(&mut self) {
        let Healing { restored, already, ended, .. } = std::mem::take(&mut self.state.healing);
        tracing::warn!(restored, already, ended, "the store is healed: what this replica knew stands in it again");
        self.metrics.heal("done");
        self.metrics.healed_entries("restored", restored);
        self.metrics.healed_entries("already", already);
        self.metrics.healed_entries("ended", ended);
        self.index.note(Progress::Healed);
        self.tell_the_trail(format!("restored {restored}, already {already}, ended {ended}"));
    }

    /// Has the audit trail say so; that it cannot is no reason not to go on.
    fn tell_the_trail(&self, result: String) {
        let now = self.clock.now();
        let record = AuditRecord {
            sequence: 0,
            at: now,
            actor: format!("replica {}", self.settings.replica),
            address: "-".to_owned(),
            action: "heal".to_owned(),
            subject: "store".to_owned(),
            reason: Some("the store lost data".to_owned()),
            result,
            revocation: None,
        };
        let batch = Batch { entries: Vec::new(), audit: vec![record], now, seen: Checkpoint::START };
        let log = self.log.clone();
        tokio::spawn(async move {
            if let Err(error) = log.append(batch).await {
                tracing::warn!(%error, "the audit trail does not tell that the store was healed");
            }
        });
    }
}

/// A number from 0 up to 1, so that replicas do not all begin at once.
fn random() -> f64 {
    let mut bytes = [0_u8; 4];
    let filled = SystemRandom::new().fill(&mut bytes).is_ok();
    if filled { f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0) } else { 0.0 }
}

/// The longest moment a replica waits before it heals.
pub(super) const WITHIN: Duration = Duration::from_secs(1);
