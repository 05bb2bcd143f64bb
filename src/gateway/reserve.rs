//! The idle HTTP/1.1 connections of one upstream, apart for each worker: a connection stays where its socket is watched, and
//! no two workers want the same lock.
//!
//! Nobody looks at an idle connection but whoever takes it, and a sweep once a second that closes those that are too old or were
//! closed by the upstream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::SharedClock;
use crate::gateway::connect::Http1;
use crate::net;

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// Idle connections.
#[derive(Debug)]
pub(super) struct Reserve {
    shelves: Box<[Arc<Shelf>]>,
    most: usize,
    clock: SharedClock,
}

/// Those of one worker.
#[derive(Debug)]
struct Shelf {
    /// Held to push, pop or move connections, never while one is polled.
    idle: Mutex<Vec<Idle>>,
    is_swept: AtomicBool,
    age: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Duration,
}

impl Reserve {
    /// Room for at most `most` connections, none of them idle for longer than `age`.
    pub(super) fn new(most: usize, age: Duration, clock: SharedClock) -> Self {
        let workers = net::workers();
        let shelf = || Shelf { idle: Mutex::default(), is_swept: AtomicBool::new(false), age };
        let shelves = (0..workers).map(|_| Arc::new(shelf())).collect();
        Self { shelves, most: most.div_ceil(workers).max(1), clock }
    }

    /// The connection that was used last, so that those not needed grow old and go.
    pub(super) fn take(&self) -> Option<Http1> {
        let shelf = self.shelf()?;
        let oldest = shelf.oldest(&self.clock);
        loop {
            let Idle { mut connection, since } = shelf.lock().pop()?;
            if since >= oldest && connection.is_free() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection, if there is room. To be called within a runtime.
    pub(super) fn put(&self, connection: Http1) {
        let Some(shelf) = self.shelf().filter(|_| !connection.is_closed()) else { return };
        let since = self.clock.elapsed();
        let mut idle = shelf.lock();
        if idle.len() >= self.most {
            return;
        }
        idle.push(Idle { connection, since });
        drop(idle);
        if !shelf.is_swept.swap(true, Ordering::Relaxed) {
            drop(tokio::spawn(sweep(Arc::downgrade(shelf), self.clock.clone())));
        }
    }

    fn shelf(&self) -> Option<&Arc<Shelf>> {
        self.shelves.get(net::worker() % self.shelves.len())
    }

    /// How many connections wait for use.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.lock().len()).sum()
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been idle since before this is too old.
    fn oldest(&self, clock: &SharedClock) -> Duration {
        clock.elapsed().saturating_sub(self.age)
    }
}

/// Closes what is of no use any more, for as long as anything is idle.
async fn sweep(shelf: Weak<Shelf>, clock: SharedClock) {
    loop {
        sleep(SWEEP).await;
        let Some(shelf) = shelf.upgrade() else { return };
        let oldest = shelf.oldest(&clock);
        let mut idle = std::mem::take(&mut *shelf.lock());
        idle.retain_mut(|held| held.since >= oldest && held.connection.is_free());
        let mut now_idle = shelf.lock();
        // What came meanwhile is newer.
        idle.append(&mut now_idle);
        *now_idle = idle;
        if now_idle.is_empty() {
            shelf.is_swept.store(false, Ordering::Relaxed);
            return;
        }
    }
}
