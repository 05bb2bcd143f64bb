//! The task that reads the log.
//!
//! What has come at once is taken together: all of it is applied, whoever listens is told, what it killed is cut in one pass, and
//! only then does the index say that it has got there. What is seen goes into the ledger too, where there is one. When the
//! log no longer tells what changed since, all that stands is read anew; when it lost data, that is put back first.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;

use crate::clock::SharedClock;
use crate::domain::{Change, Checkpoint, Claims, Position, Proof, Recorded};
use crate::index::{Index, Phase, Progress};
use crate::live::Live;
use crate::store::{Backoff, Event, SharedLog, StoreError};
use crate::sync::heal::Healing;
use crate::sync::ledger::Ledger;
use crate::sync::load::Loading;
use crate::sync::observer::Observer;
use crate::sync::{OnChange, Settings};
use crate::telemetry::Metrics;

/// How much is taken together, at most.
const TOGETHER: usize = 1_000;

pub(super) struct Following {
    pub(super) log: SharedLog,
    pub(super) index: Arc<Index>,
    pub(super) live: Arc<Live>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) observer: Arc<Observer>,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) on_change: OnChange,
    pub(super) loading: Loading,
    pub(super) settings: Settings,
    /// Told when somebody else found that the log lost data.
    pub(super) doubt: Arc<Notify>,
    pub(super) state: State,
}

/// What is to be done next.
#[derive(Default)]
pub(super) struct State {
    /// Where to read on; the start: all that stands.
    pub(super) from: Checkpoint,
    /// All that stands is being read.
    reading_all: bool,
    /// What the log lost, while that is not known to be back.
    pub(super) healing: Healing,
}

/// What was applied and is not settled yet.
#[derive(Default)]
struct Applied {
    changes: Vec<Change>,
    /// Something was loaded, of which nobody can say when it came about.
    anew: bool,
}

impl Following {
    pub(super) async fn run(mut self) {
        self.recall().await;
        self.observer.look();
        let mut backoff = Backoff::new(Duration::from_millis(100), self.settings.longest_pause);
        let mut broken = false;
        loop {
            let Err(error) = self.go_on(&mut backoff, &mut broken).await else { continue };
            self.observer.look();
            if matches!(error, StoreError::Trimmed(_)) {
                tracing::warn!(%error, "all that stands is read anew");
                self.state.from = Checkpoint::START;
            } else if !self.lost(&error) && !std::mem::replace(&mut broken, true) {
                tracing::error!(%error, cause = error.source_text(), "the log cannot be read; trying again");
            }
            self.loading.failed(&error);
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Puts back what is to be put back, then reads until the log fails, or until someone doubts it.
    async fn go_on(&mut self, backoff: &mut Backoff, broken: &mut bool) -> Result<(), StoreError> {
        if self.state.healing.is_due() {
            self.heal().await?;
        }
        let mut events = self.log.follow(self.state.from).await?.ready_chunks(TOGETHER);
        let mut applied = Applied::default();
        loop {
            let some = tokio::select! {
                some = events.next() => some.ok_or_else(|| StoreError::Unavailable("the log ended".into()))?,
                () = self.doubt.notified(), if !self.state.reading_all => return Ok(()),
            };
            for event in some {
                match event {
                    Ok(Event::Loading(head)) => self.begin(head),
                    Ok(Event::Change(change)) => self.apply(change, &mut applied),
                    Ok(Event::CaughtUp(proof)) => {
                        self.settle(&mut applied);
                        self.caught_up(proof, &mut applied).await?;
                        backoff.reset();
                        if std::mem::take(broken) {
                            tracing::info!(position = %proof.checkpoint.position, "the log can be read again");
                        }
                    }
                    Err(error) => {
                        self.settle(&mut applied);
                        return Err(error);
                    }
                }
            }
            self.settle(&mut applied);
        }
    }

    /// All that stands is about to come.
    fn begin(&mut self, head: Position) {
        self.state.reading_all = true;
        self.loading.begin();
        self.observer.saw(head);
        self.index.reload();
        if let Some(ledger) = &self.ledger {
            ledger.reload();
        }
    }

    fn apply(&mut self, change: Change, applied: &mut Applied) {
        let Some(cause) = &change.cause else {
            self.index.apply(&change);
            for standing in &change.standing {
                self.keep(&Recorded { revocation: standing.clone(), position: change.position, ending: None });
            }
            applied.anew = true;
            return self.loading.count();
        };
        // Told a second time, before or after the first was settled, it must not bring back what was lifted in between.
        let reached = applied.changes.last().map_or(self.index.position(), |last| last.position);
        if change.position <= reached {
            return;
        }
        self.observer.saw(change.position);
        self.index.apply(&change);
        self.keep(cause);
        (self.on_change)(&change);
        applied.changes.push(change);
    }

    /// Notes in the ledger what was seen.
    fn keep(&mut self, recorded: &Recorded) {
        self.state.healing.saw(recorded);
        if let Some(ledger) = &self.ledger {
            ledger.add(recorded.clone(), self.clock.now());
        }
    }

    /// Cuts what the news has killed; then whoever waits for it to be applied may go on.
    fn settle(&self, applied: &mut Applied) {
        let Some(last) = applied.changes.last().map(|last| last.position) else { return };
        self.live.cut(&applied.changes, self.is_dead());
        applied.changes.clear();
        // While all that stands is being read, its first part says nothing of the rest.
        if !self.state.reading_all {
            self.index.advance(last);
        }
    }

    async fn caught_up(&mut self, proof: Proof, applied: &mut Applied) -> Result<(), StoreError> {
        if self.state.reading_all {
            self.believe(proof).await?;
        }
        if std::mem::take(&mut applied.anew) {
            self.live.sweep(self.is_dead());
        }
        self.observer.saw(proof.checkpoint.position);
        self.observer.look();
        self.index.caught_up(proof);
        self.observer.look();
        self.state.from = proof.checkpoint;
        self.loading.finish();
        if let Some(ledger) = &self.ledger {
            ledger.reached(proof.checkpoint, self.clock.now());
            self.compact(ledger);
        }
        Ok(())
    }

    /// All that stands was read: what was known before and is not in it goes, unless that is a loss.
    async fn believe(&mut self, proof: Proof) -> Result<(), StoreError> {
        let before = self.index.position();
        if proof.checkpoint.position < before {
            return Err(StoreError::Lost(format!("it ends at {}, before {before}", proof.checkpoint.position)));
        }
        if self.index.freshness().phase == Phase::Healing {
            self.assure().await?;
            self.healed();
        }
        self.index.reloaded();
        if let Some(ledger) = &self.ledger {
            ledger.reloaded();
        }
        self.state.reading_all = false;
        Ok(())
    }

    /// Whether the log lost data that can be put back; then that is done next.
    fn lost(&mut self, error: &StoreError) -> bool {
        let lost = matches!(error, StoreError::Lost(_)) && self.ledger.is_some();
        if lost {
            tracing::error!(%error, "what this replica knows is put back");
            self.index.note(Progress::Lost);
            self.state.healing.begin();
        }
        lost
    }

    /// Has the ledger written anew when that is worth it, aside.
    fn compact(&self, ledger: &Arc<Ledger>) {
        let Some(compaction) = ledger.due() else { return };
        let (ledger, now) = (ledger.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = ledger.compact(compaction, now) {
                tracing::error!(%error, "the ledger is damaged in memory, and stays as it is");
            }
        });
    }

    fn is_dead(&self) -> impl Fn(&Claims) -> bool {
        let now = self.clock.now();
        move |claims| self.index.covers(claims, now)
    }
}
