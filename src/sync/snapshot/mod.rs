//! What a replica knows, in a file beside it, so that one that starts while the store is down still refuses what it knew.
//!
//! It is written now and then, never more than a small part of the time, and when the replica stops. A file that cannot be
//! written stops nothing; one that is damaged, foreign, too old or from the future is as good as none.

mod file;
mod format;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{Checkpoint, Timestamp};
use crate::sync::ledger::{Image, Ledger};
use crate::telemetry::Metrics;

pub(in crate::sync) use file::SnapshotError;
pub(in crate::sync) use format::FormatError;

/// Where the snapshot is, and how long it is good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// An older one is not used.
    pub max_age: Duration,
}

/// The shortest pause between two of them.
const PAUSE: Duration = Duration::from_secs(60);
/// After one that took long, the pause is so many times as long.
const PAUSE_PER_WRITE: u32 = 20;
/// When nothing has changed, it is written all the same so often, to stay young.
const REFRESH: Duration = Duration::from_secs(3_600);

/// Writes snapshots.
#[derive(Debug)]
pub(in crate::sync) struct Snapshots {
    ledger: Arc<Ledger>,
    settings: Settings,
    metrics: Arc<Metrics>,
    /// Held while one is written: there is one file.
    written: Mutex<Written>,
}

/// What was written last.
#[derive(Debug, Default)]
struct Written {
    revision: Option<(u64, Timestamp)>,
    broken: bool,
}

impl Snapshots {
    pub(in crate::sync) fn new(ledger: Arc<Ledger>, settings: Settings, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { ledger, settings, metrics, written: Mutex::default() })
    }

    /// Writes one again and again, when something has changed.
    pub(in crate::sync) async fn run(self: Arc<Self>) {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            self.clone().write().await;
            pause = PAUSE.max(began.elapsed() * PAUSE_PER_WRITE);
        }
    }

    /// Writes one, unless nothing has changed.
    pub(in crate::sync) async fn write(self: Arc<Self>) {
        // A panic in it was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || self.write_blocking()).await;
    }

    fn write_blocking(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = self.ledger.revision();
        let fresh = written.revision.is_some_and(|(last, at)| last == revision.0 && revision.1.since(at) < REFRESH);
        if fresh {
            return;
        }
        let image = self.ledger.image();
        // Before the log was read once, there is nothing to go on from.
        if image.checkpoint == Checkpoint::START {
            return;
        }
        match file::write(&self.settings.path, &image) {
            Ok(bytes) => {
                self.metrics.snapshot(bytes, image.proved_at.as_secs());
                written.revision = Some((image.revision, image.proved_at));
                if std::mem::take(&mut written.broken) {
                    tracing::info!(path = %self.settings.path.display(), "the snapshot can be written again");
                }
            }
            Err(error) => self.failed(&mut written, &error),
        }
    }

    fn failed(&self, written: &mut Written, error: &io::Error) {
        self.metrics.snapshot_failed();
        if !std::mem::replace(&mut written.broken, true) {
            let path = self.settings.path.display();
            tracing::error!(%path, %error, "the snapshot cannot be written; all else goes on");
        }
    }
}

/// Reads the snapshot, if it is one to be used; says in the log why it is not.
pub(in crate::sync) async fn read(settings: &Settings, now: Timestamp) -> Option<Image> {
    let Settings { path, max_age } = settings.clone();
    let outcome = tokio::task::spawn_blocking(move || file::read(&path, now, max_age)).await;
    match outcome {
        Ok(Ok(image)) => Some(image),
        Ok(Err(SnapshotError::Missing)) => None,
        Ok(Err(why)) => {
            tracing::warn!(path = %settings.path.display(), %why, "the snapshot is not used");
            None
        }
        Err(_) => None,
    }
}

/// Reads whatever bytes as a snapshot with all its records; answers how many there are. For tests that feed it anything.
///
/// # Errors
///
/// Why it is none, in words.
pub fn examine(mut bytes: &[u8]) -> Result<usize, String> {
    let image = format::read(&mut bytes).map_err(|error| error.to_string())?;
    let blocks = image.blocks.iter().map(|block| block.unpack().map_err(|error| FormatError::from(error).to_string()));
    blocks.map(|block| block.map(|records| records.len())).sum()
}
