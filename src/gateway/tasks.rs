//! Tasks that live no longer than whoever needs them: a connection's driver ends when the connection is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::{AbortHandle, JoinSet};

use crate::net;

/// One task, aborted when this is dropped.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    /// Starts `future`.
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The tasks hyper needs for one HTTP/2 connection. They hold the executor themselves, so it is the owner's part to call
/// [`Tasks::abort_all`].
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Ends them all.
    pub(super) fn abort_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is let go, so that the set is no larger than the connection's streams.
        while tasks.try_join_next().is_some() {}
        // An upload whose token died ends here also when its upstream takes nothing.
        let work = net::until_blown(Box::pin(future));
        tasks.spawn(async {
            let _ = work.await;
        });
    }
}
