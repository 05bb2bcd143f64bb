//! The stream a follower reads: the state in pages, then the news. The same for every adapter that can read its table by
//! selector and by position; a commit only wakes the stream, the table informs it, so that nothing is lost when a
//! follower is slow, and no queue grows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use crate::domain::{Change, Position};
use crate::store::{Event, EventStream, StoreError};

/// How often the log is read though nothing woke us: the proof of being in step.
const BEAT: Duration = Duration::from_secs(1);

/// A log that can be read in pages.
#[async_trait]
pub(super) trait Pages: Send + Sync + 'static {
    /// The log's end.
    async fn head(&self) -> Result<Position, StoreError>;

    /// Some of what stands, whole selectors in order, from behind the selector `after` on.
    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError>;

    /// Some of what changed after `after`, in order.
    async fn news(&self, after: Position) -> Result<NewsPage, StoreError>;
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
    pub(super) upto: Position,
    /// Whether more is there already.
    pub(super) more: bool,
}

/// Where a follower is.
enum Stage {
    Start(Position),
    Loading { head: Position, after: Option<String> },
    Tailing { at: Position, waiting: bool },
}

/// The stream from `from` on. `wake` changes after each commit; when its sender is gone, the log is closed.
pub(super) fn follow(pages: Arc<impl Pages>, wake: watch::Receiver<Position>, from: Position) -> EventStream {
    let reader = Reader { pages, wake };
    stream::try_unfold((reader, Stage::Start(from)), |(mut reader, stage)| async move {
        let (events, stage) = reader.step(stage).await?;
        Ok(Some((stream::iter(events.into_iter().map(Ok)), (reader, stage))))
    })
    .try_flatten()
    .boxed()
}

struct Reader<P> {
    pages: Arc<P>,
    wake: watch::Receiver<Position>,
}

impl<P: Pages> Reader<P> {
    async fn step(&mut self, stage: Stage) -> Result<(Vec<Event>, Stage), StoreError> {
        match stage {
            Stage::Start(from) => self.start(from).await,
            Stage::Loading { head, after } => self.load(head, after).await,
            Stage::Tailing { at, waiting } => self.tail(at, waiting).await,
        }
    }

    async fn start(&self, from: Position) -> Result<(Vec<Event>, Stage), StoreError> {
        let head = self.pages.head().await?;
        if from > head {
            let text = format!("the log ends at {head}, before {from}, which was seen already: it lost data");
            return Err(StoreError::Unusable(text, None));
        }
        if from == Position::START {
            return Ok((vec![Event::Loading(head)], Stage::Loading { head, after: None }));
        }
        Ok((Vec::new(), Stage::Tailing { at: from, waiting: false }))
    }

    async fn load(&self, head: Position, after: Option<String>) -> Result<(Vec<Event>, Stage), StoreError> {
        let page = self.pages.state(after.as_deref()).await?;
        let events = page.changes.into_iter().map(Event::Change).collect();
        let next = match page.resume {
            Some(last) => Stage::Loading { head, after: Some(last) },
            None => Stage::Tailing { at: head, waiting: false },
        };
        Ok((events, next))
    }

    async fn tail(&mut self, at: Position, waiting: bool) -> Result<(Vec<Event>, Stage), StoreError> {
        if waiting {
            self.wait().await?;
        }
        // Before the read, so that a commit during it wakes us again.
        self.wake.borrow_and_update();
        let page = self.pages.news(at).await?;
        let mut events: Vec<Event> = page.changes.into_iter().map(Event::Change).collect();
        if !page.more {
            events.push(Event::CaughtUp(page.upto));
        }
        Ok((events, Stage::Tailing { at: page.upto, waiting: !page.more }))
    }

    /// Until something was committed, or a beat has passed.
    async fn wait(&mut self) -> Result<(), StoreError> {
        tokio::time::timeout(BEAT, self.wake.changed()).await.unwrap_or(Ok(())).map_err(|_| StoreError::closed())
    }
}
