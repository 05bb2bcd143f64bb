//! The stream a follower reads: the state in pages, then the news. The same for every adapter that can read its table by
//! selector and by position; a commit only wakes the stream, the table informs it, so that nothing is lost when a
//! follower is slow, and no queue grows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::domain::{Change, Checkpoint, Position, Proof};
use crate::store::{Event, EventStream, StoreError};

/// How often a log is read though nothing woke us, unless the settings say otherwise: the proof of being in step.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// A log that can be read in pages.
#[async_trait]
pub(super) trait Pages: Send + Sync + 'static {
    /// The log's end, for whoever has read up to `from`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] when the log's history does not hold `from`, [`StoreError::Trimmed`] when it begins later.
    async fn head(&self, from: Checkpoint) -> Result<Checkpoint, StoreError>;

    /// Some of what stands, whole selectors in order, from behind the selector `after` on.
    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError>;

    /// Some of what changed after `after`, in order; a page ends where a commit did.
    ///
    /// # Errors
    ///
    /// Those of [`head`](Self::head).
    async fn news(&self, after: Checkpoint) -> Result<NewsPage, StoreError>;
}

/// Some of what stands.
#[derive(Debug)]
pub(super) struct StatePage {
    pub(super) changes: Vec<Change>,
    /// The last selector, if more may follow.
    pub(super) resume: Option<String>,
}

/// Some of what changed.
#[derive(Debug)]
pub(super) struct NewsPage {
    pub(super) changes: Vec<Change>,
    /// Everything up to here is in this page or an earlier one.
    pub(super) upto: Checkpoint,
    /// Whether more is there already.
    pub(super) more: bool,
}

/// Where a follower is.
enum Stage {
    Start(Checkpoint),
    Loading { head: Checkpoint, after: Option<String> },
    Tailing { at: Checkpoint, waiting: bool },
}

/// What a stream is made of.
pub(super) struct Source<P> {
    pub(super) pages: Arc<P>,
    /// Changes after each commit; when its sender is gone, the log is closed.
    pub(super) wake: watch::Receiver<Position>,
    /// How often the log is read though nothing woke us.
    pub(super) poll: Duration,
    pub(super) clock: SharedClock,
}

/// The stream from `from` on.
pub(super) fn follow(source: Source<impl Pages>, from: Checkpoint) -> EventStream {
    stream::try_unfold((source, Stage::Start(from)), |(mut source, stage)| async move {
        let (events, stage) = source.step(stage).await?;
        Ok(Some((stream::iter(events.into_iter().map(Ok)), (source, stage))))
    })
    .try_flatten()
    .boxed()
}

/// What a log that is local to a process can say of a checkpoint: whether it has got there.
pub(super) fn reached(from: Checkpoint, head: Position) -> Result<Checkpoint, StoreError> {
    if from.position > head {
        let text = format!("the log ends at {head}, before {}, which was seen already", from.position);
        return Err(StoreError::Lost(text));
    }
    Ok(head.into())
}

impl<P: Pages> Source<P> {
    async fn step(&mut self, stage: Stage) -> Result<(Vec<Event>, Stage), StoreError> {
        match stage {
            Stage::Start(from) => self.start(from).await,
            Stage::Loading { head, after } => self.load(head, after).await,
            Stage::Tailing { at, waiting } => self.tail(at, waiting).await,
        }
    }

    async fn start(&self, from: Checkpoint) -> Result<(Vec<Event>, Stage), StoreError> {
        let head = self.pages.head(from).await?;
        if from.position == Position::START {
            return Ok((vec![Event::Loading(head.position)], Stage::Loading { head, after: None }));
        }
        Ok((Vec::new(), Stage::Tailing { at: from, waiting: false }))
    }

    async fn load(&self, head: Checkpoint, after: Option<String>) -> Result<(Vec<Event>, Stage), StoreError> {
        let page = self.pages.state(after.as_deref()).await?;
        let events = page.changes.into_iter().map(Event::Change).collect();
        let next = match page.resume {
            Some(last) => Stage::Loading { head, after: Some(last) },
            None => Stage::Tailing { at: head, waiting: false },
        };
        Ok((events, next))
    }

    async fn tail(&mut self, at: Checkpoint, waiting: bool) -> Result<(Vec<Event>, Stage), StoreError> {
        if waiting {
            self.wait().await?;
        }
        // Before the read, so that a commit during it wakes us again.
        self.wake.borrow_and_update();
        let as_of = self.clock.elapsed();
        let page = self.pages.news(at).await?;
        let mut events: Vec<Event> = page.changes.into_iter().map(Event::Change).collect();
        if !page.more {
            events.push(Event::CaughtUp(Proof { checkpoint: page.upto, as_of }));
        }
        Ok((events, Stage::Tailing { at: page.upto, waiting: !page.more }))
    }

    /// Until something was committed, or a beat has passed.
    async fn wait(&mut self) -> Result<(), StoreError> {
        tokio::time::timeout(self.poll, self.wake.changed()).await.unwrap_or(Ok(())).map_err(|_| StoreError::closed())
    }
}
