//! The task that reads the log.
//!
//! What has come at once is taken together: all of it is applied, whoever listens is told, what it killed is cut in one pass, and
//! only then does the index say that it has got there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::clock::SharedClock;
use crate::domain::{Change, Claims, Position};
use crate::index::{Index, Progress};
use crate::live::Live;
use crate::store::{Backoff, Event, SharedLog, StoreError};
use crate::sync::load::Loading;
use crate::sync::{OnChange, Settings};

/// How much is taken together, at most.
const TOGETHER: usize = 1_000;

pub(super) struct Following {
    pub(super) log: SharedLog,
    pub(super) index: Arc<Index>,
    pub(super) live: Arc<Live>,
    pub(super) clock: SharedClock,
    pub(super) on_change: OnChange,
    pub(super) loading: Loading,
    pub(super) settings: Settings,
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
        let mut backoff = Backoff::new(Duration::from_millis(100), self.settings.longest_pause);
        let mut broken = false;
        loop {
            let Err(error) = self.read(&mut backoff, &mut broken).await;
            if !broken {
                tracing::error!(%error, cause = error.source_text(), "the log cannot be read; trying again");
                broken = true;
            }
            if self.loading.failed(&error) {
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Reads until the log fails.
    async fn read(&mut self, backoff: &mut Backoff, broken: &mut bool) -> Result<Infallible, StoreError> {
        let mut events = self.log.follow(self.from()).await?.ready_chunks(TOGETHER);
        let mut applied = Applied::default();
        while let Some(some) = events.next().await {
            for event in some {
                match event {
                    Ok(Event::Loading(_)) if !self.loading.done() => self.index.clear(),
                    Ok(Event::Loading(_)) => {}
                    Ok(Event::Change(change)) => self.apply(change, &mut applied),
                    Ok(Event::CaughtUp(position)) => {
                        self.settle(&mut applied);
                        self.caught_up(position, &mut applied);
                        backoff.reset();
                        if std::mem::take(broken) {
                            tracing::info!(%position, "in step with the log again");
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
        Err(StoreError::Unavailable("the log ended".into()))
    }

    fn from(&self) -> Position {
        if self.loading.done() { self.index.position() } else { Position::START }
    }

    fn apply(&mut self, change: Change, applied: &mut Applied) {
        if change.cause.is_none() {
            self.index.apply(&change);
            applied.anew = true;
            return self.loading.count();
        }
        // Told a second time before the first was settled, it must not bring back what was lifted in between.
        if self.loading.done() && applied.changes.last().is_some_and(|last| change.position <= last.position) {
            return;
        }
        self.index.apply(&change);
        (self.on_change)(&change);
        applied.changes.push(change);
    }

    /// Cuts what the news has killed; then whoever waits for it to be applied may go on.
    fn settle(&self, applied: &mut Applied) {
        let Some(last) = applied.changes.last().map(|last| last.position) else { return };
        self.live.cut(&applied.changes, self.is_dead());
        applied.changes.clear();
        // Before the first load is done, positions come in no order.
        if self.loading.done() {
            self.index.advance(last);
        }
    }

    fn caught_up(&mut self, position: Position, applied: &mut Applied) {
        if std::mem::take(&mut applied.anew) {
            self.live.sweep(self.is_dead());
        }
        self.index.advance(position);
        self.index.note(Progress::CaughtUp);
        self.loading.finish();
    }

    fn is_dead(&self) -> impl Fn(&Claims) -> bool {
        let now = self.clock.now();
        move |claims| self.index.covers(claims, now)
    }
}
