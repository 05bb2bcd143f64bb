//! The threads that serve connections, one a core, each with a runtime of its own: what begins on one ends on it, and nothing
//! of a request is handed from core to core.
//!
//! A connection goes to the worker that has the fewest. The kernel's own way to spread them (`SO_REUSEPORT`) would be cheaper
//! by one hand-over a connection, but it spreads by chance, which is uneven where clients keep few connections; and it lets
//! two programs share a port where one of them was started by mistake.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Which worker's thread this is, counted from 0; 0 on any other thread.
pub fn worker() -> usize {
    WORKER.get()
}

/// How many workers a process has: as many as it may use cores.
#[must_use]
pub fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The threads that serve connections. Dropping the last clone ends them, and whatever still runs there.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Team>);

#[derive(Debug)]
struct Team {
    members: Box<[Member]>,
    over: watch::Sender<bool>,
}

#[derive(Debug)]
struct Member {
    runtime: Handle,
    /// Connections it serves now.
    load: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A worker's burden by one connection, as long as this lives.
struct Burden(Arc<AtomicUsize>);

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// The system gives no threads, or no means to watch sockets with.
    pub fn start() -> io::Result<Self> {
        let over = watch::Sender::new(false);
        let members: io::Result<_> = (0..workers()).map(|at| Member::start(at, over.subscribe())).collect();
        Ok(Self(Arc::new(Team { members: members?, over })))
    }

    /// Serves a connection on the worker that has the fewest.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let least = self.0.members.iter().min_by_key(|member| member.load.load(Ordering::Relaxed));
        let Some(member) = least else { return };
        member.load.fetch_add(1, Ordering::Relaxed);
        let burden = Burden(member.load.clone());
        // Who drains holds the connection, so the task is awaited by that. No block of our own around it: that would have room for
        // the connection twice.
        drop(member.runtime.spawn(connection.map(|()| drop(burden))));
    }
}

impl Member {
    fn start(at: usize, mut over: watch::Receiver<bool>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let work = move || {
            WORKER.set(at);
            // An error says that the sender is gone, which is as good.
            let _ = runtime.block_on(over.wait_for(|over| *over));
        };
        let thread = thread::Builder::new().name(format!("worker-{at}")).spawn(work)?;
        Ok(Self { runtime: handle, load: Arc::default(), thread: Some(thread) })
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.over.send_replace(true);
        let own = thread::current().id();
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            // One that drops what it runs, this among it, cannot wait for itself.
            if thread.thread().id() != own {
                // It ends; that it panicked was said when it did.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_evenly_and_stay_where_they_are() {
        let workers = Workers::start().unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        for _ in 0..4 * super::workers() {
            let told = told.clone();
            workers.spawn(async move {
                let before = worker();
                tokio::task::yield_now().await;
                told.send((before, worker())).unwrap();
                std::future::pending().await
            });
        }
        let mut served = vec![0; super::workers()];
        for _ in 0..4 * super::workers() {
            let (before, after) = heard.recv().await.unwrap();
            assert_eq!(before, after);
            served[before] += 1;
        }
        assert!(served.iter().all(|count| *count == 4), "{served:?}");
        drop(told);
        drop(workers);
        assert!(heard.recv().await.is_none(), "what ran there is over");
    }
}
