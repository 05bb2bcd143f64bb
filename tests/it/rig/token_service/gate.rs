//! Holds answers back until a story lets them go, so that what happens in between happens for certain.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::rig::within;

/// Where a request is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// It arrived; nothing was done about it yet.
    Arrived,
    /// Its tokens are minted, the used one is used up, and nothing was answered yet.
    Minted,
    /// The head of the answer and half of its body are out.
    Halfway,
}

/// A gate across one stage; it opens for good when the story drops it.
#[derive(Debug)]
pub(crate) struct Gate(Bar);

/// The gate as requests see it.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    stage: Stage,
    waiting: Arc<Semaphore>,
    releases: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn across(stage: Stage) -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self(Bar { stage, waiting: closed(), releases: closed() })
    }

    pub(super) fn bar(&self) -> Bar {
        self.0.clone()
    }

    /// Waits until one more request stands at the gate.
    pub(crate) async fn reached(&self) {
        within("a request at the gate", self.0.waiting.acquire()).await.unwrap().forget();
    }

    /// Lets one request go on: the next one, when none is waiting.
    pub(crate) fn release(&self) {
        self.0.releases.add_permits(1);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.releases.close();
    }
}

impl Bar {
    /// Waits to be let go, if this is the stage.
    pub(super) async fn pass(&self, stage: Stage) {
        if stage != self.stage || self.releases.is_closed() {
            return;
        }
        self.waiting.add_permits(1);
        if let Ok(release) = self.releases.acquire().await {
            release.forget();
        }
    }
}
