//! The tasks of HTTP/2 streams: each holds the drain, and none waits for ever for a peer that grants no window.
//!
//! A peer can ask for a long answer and then never open its flow-control window (RFC 9113 §5.2): the socket is not
//! stalled, only this stream is. The body notes who is waited for, here is waited no longer than the patience.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::{Alarm, after};
use super::drain::Hold;
use super::exchange::Exchanges;
use super::fuse;

/// Whom a stream waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Awaited {
    /// The service, or the body it gave.
    Us,
    /// The peer, to take what it was offered.
    Peer,
}

tokio::task_local! {
    /// What was noted since the stream was last looked at.
    static NOTED: Cell<Option<Awaited>>;
}

/// Notes whom the stream of this task waits for. Says nothing in HTTP/1.1, where a stream is the connection.
pub(super) fn awaits(awaited: Awaited) {
    let _ = NOTED.try_with(|noted| noted.set(Some(awaited)));
}

/// Runs streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    hold: Hold,
    exchanges: Arc<Exchanges>,
    patience: Duration,
}

impl Streams {
    pub(super) const fn new(hold: Hold, exchanges: Arc<Exchanges>, patience: Duration) -> Self {
        Self { hold, exchanges, patience }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        // Each of the layers below would hold it twice over, once as it was given and once as it is driven.
        let wait = Wait { patience: self.patience, since: None, alarm: Alarm::default() };
        let stream = Patient { stream: Box::pin(stream), wait };
        let stream = NOTED.scope(Cell::new(None), fuse::until_blown(stream));
        // A tunnel goes on when its answer has long been given, and the connection is not idle while it does.
        let exchange = self.exchanges.begin();
        let work = async move {
            let _ = stream.await;
            drop(exchange);
        };
        // The hold is what awaits the task.
        drop(tokio::spawn(self.hold.clone().until_cut(work)));
    }
}

/// Drives a stream until it ends or the peer has taken nothing for too long; dropping a stream resets it.
struct Patient<F> {
    stream: Pin<Box<F>>,
    wait: Wait,
}

impl<F: Future> Future for Patient<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Pin::new(&mut self.wait).poll(cx),
        }
    }
}

/// How long the peer has been waited for.
struct Wait {
    patience: Duration,
    since: Option<Instant>,
    alarm: Alarm,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match NOTED.try_with(Cell::take) {
            Ok(Some(Awaited::Peer)) => self.since = Some(Instant::now()),
            Ok(Some(Awaited::Us)) => self.since = None,
            // Nothing new: whoever was waited for still is.
            Ok(None) | Err(_) => {}
        }
        let Some(since) = self.since else { return Poll::Pending };
        let until = after(since, self.patience);
        self.alarm.poll(cx, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Drain;
    use hyper::rt::Executor;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_loses_its_stream_and_a_slow_service_does_not() {
        let drain = Drain::new();
        let streams = Streams::new(drain.hold(), Exchanges::new(), Duration::from_secs(30));
        streams.execute(async {
            awaits(Awaited::Peer);
            std::future::pending::<()>().await;
        });
        streams.execute(async {
            awaits(Awaited::Us);
            std::future::pending::<()>().await;
        });
        assert_eq!(drain.holders(), 3);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(drain.holders(), 2);
    }
}
