//! Stands between a connection and hyper's HTTP/1.1 parser, and lets only lawful requests through.
//!
//! hyper repairs some of what we must refuse: it takes bare LF for a line end, drops `Content-Length` beside
//! `Transfer-Encoding`, and has no timeout while nothing has been said. So a head is withheld here until it is whole and
//! [`Framing`] has found it lawful; of an unlawful one hyper sees not a byte, only [`UNLAWFUL`], which it answers with 400
//! after the answers to the requests before it, and closes. A fault within a body is an error of that body.
//!
//! After a request that asks for a tunnel (`Upgrade`, `CONNECT`) the next bytes wait for the answer: they are the tunnel's
//! when it opened, and a head when it did not. Nobody guesses (compare CVE-2026-2833).
//!
//! Bytes are judged in hyper's own buffer and copied only when a head comes in pieces.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::{Alarm, after};
use super::exchange::Exchanges;
use super::framing::{Bounds, Fault, Framing, Step};
use super::held::{Held, UNLAWFUL, too_large};
use super::settings::Timeouts;
use crate::telemetry::Metrics;

/// How much is read ahead while a tunnel is undecided.
const AHEAD_BYTES: usize = 16 * 1024;

/// How long a peer that closed its side may wait for the answer. It may have shut down only its sending half, or be gone;
/// only time tells.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// How long what a peer still sends is read and thrown away once we have closed, so that the system does not reset the
/// connection under an answer that is on its way (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Awaited {
    /// A whole head: the first one, or the rest of one.
    Head,
    /// The next request.
    Request,
    /// More of a body.
    Content,
    /// Our own answer.
    Answer,
    /// Whatever a tunnel brings, or the word whether there is one.
    Anything,
}

/// A connection whose requests are lawful.
#[derive(Debug)]
pub(super) struct HeadGuard<T> {
    io: T,
    framing: Framing,
    exchanges: Arc<Exchanges>,
    metrics: Arc<Metrics>,
    timeouts: Timeouts,
    most_headers: usize,
    held: Held,
    refused: Option<Fault>,
    /// Since when what is waited for now has been.
    waiting: Option<(Awaited, Instant)>,
    written: Instant,
    alarm: Alarm,
    ended: Option<Instant>,
    shut: Option<Instant>,
}

impl<T> HeadGuard<T> {
    /// Guards `io`, of which `ahead` was read already, since `connected`.
    pub(super) fn new(
        io: T,
        (ahead, connected): (Vec<u8>, Instant),
        bounds: Bounds,
        timeouts: Timeouts,
        exchanges: Arc<Exchanges>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            io,
            framing: Framing::new(bounds),
            exchanges,
            metrics,
            timeouts,
            most_headers: bounds.headers,
            held: Held::new(ahead),
            refused: None,
            waiting: Some((Awaited::Head, connected)),
            written: connected,
            alarm: Alarm::default(),
            ended: None,
            shut: None,
        }
    }

    /// Whether an answer is still owed.
    fn owes(&self) -> bool {
        self.framing.heads() > self.exchanges.finished()
    }

    /// Judges what is held. True when some of it may go.
    fn judge_held(&mut self, cx: &Context<'_>) -> io::Result<bool> {
        if self.framing.at_fork() {
            // Before we look, so that no answer is missed.
            self.exchanges.watch(cx);
            if self.exchanges.answered() >= self.framing.heads() {
                self.framing.decide(self.exchanges.is_tunnel());
            }
        }
        if self.held.cleared == 0 {
            match self.framing.step(self.held.rest()) {
                Step::Pass(length) => (self.held.cleared, self.waiting) = (length, None),
                Step::Wait | Step::Hold => {}
                Step::Refuse(fault) => self.refuse(fault)?,
            }
        }
        Ok(self.held.cleared > 0)
    }

    /// Judges the bytes that were read into hyper's own buffer, from `start` on; takes away what may not go.
    fn judge_in_place(&mut self, out: &mut ReadBuf<'_>, start: usize) {
        let mut lawful = start;
        while let Step::Pass(length) = self.framing.step(out.filled().get(lawful..).unwrap_or_default()) {
            lawful += length;
            self.waiting = None;
        }
        self.held.bytes.extend_from_slice(out.filled().get(lawful..).unwrap_or_default());
        out.set_filled(lawful);
    }

    /// Puts something in the place of an unlawful head, or fails an unlawful body.
    fn refuse(&mut self, fault: Fault) -> io::Result<()> {
        let anew = self.refused.replace(fault).is_none();
        if anew {
            self.metrics.refusal(fault.reason());
            tracing::debug!(fault = fault.reason(), "a request was refused for its framing");
        }
        if !self.framing.in_head() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        if anew {
            self.held.replace(if fault.is_size() { too_large(self.most_headers) } else { UNLAWFUL.to_vec() });
        }
        Ok(())
    }

    fn awaited(&self) -> Awaited {
        if self.framing.is_tunnel() || self.framing.at_fork() {
            Awaited::Anything
        } else if !self.framing.in_head() {
            Awaited::Content
        } else if self.owes() {
            Awaited::Answer
        } else if self.framing.heads() == 0 || !self.held.rest().is_empty() {
            Awaited::Head
        } else {
            Awaited::Request
        }
    }

    /// What is waited for now, and when that will have been too long.
    fn due(&mut self) -> Option<(Awaited, Instant)> {
        let awaited = self.awaited();
        let since = match self.waiting {
            Some((same, since)) if same == awaited => since,
            _ => Instant::now(),
        };
        self.waiting = Some((awaited, since));
        let patience = match awaited {
            Awaited::Head => self.timeouts.header,
            Awaited::Request => self.timeouts.idle,
            Awaited::Content => self.timeouts.body,
            // Our own time is not the peer's fault. We look again, since nobody tells when the answer is complete.
            Awaited::Answer => return Some((awaited, after(Instant::now(), self.timeouts.idle))),
            Awaited::Anything => return None,
        };
        let quiet = self.exchanges.quiet_since().filter(|_| awaited == Awaited::Request);
        // A peer that still takes an answer is not idle.
        let since = quiet.map_or(since, |quiet| quiet.max(self.written));
        Some((awaited, after(since, patience)))
    }

    /// Nothing came: ready when that has been so for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((awaited, until)) = self.due() {
            ready!(self.alarm.poll(cx, until));
            match awaited {
                Awaited::Answer | Awaited::Anything => {}
                // To hyper the peer has just gone, between two requests.
                Awaited::Head | Awaited::Request => return Poll::Ready(Ok(())),
                Awaited::Content => {
                    let stopped = io::Error::new(io::ErrorKind::TimedOut, "the body stopped coming");
                    return Poll::Ready(Err(stopped));
                }
            }
        }
        Poll::Pending
    }

    /// The peer sends no more. Passed on at once, unless an answer is owed that it may still wait for.
    fn poll_end(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<io::Result<()>> {
        // Before we look, so that no answer's end is missed.
        self.exchanges.watch(cx);
        if (self.framing.in_head() || self.framing.at_fork()) && self.owes() {
            ready!(self.alarm.poll(cx, after(since, HALF_CLOSED)));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything the peer sent was taken in, so that closing resets nothing.
    fn is_spent(&self) -> bool {
        let between = (self.framing.in_head() && self.refused.is_none()) || self.framing.is_tunnel();
        (self.ended.is_some() && self.refused.is_none()) || (between && self.held.rest().is_empty())
    }
}

impl<T: AsyncRead + Unpin> HeadGuard<T> {
    /// Reads on, into `out` where that will do; true when something new is there to be judged or given.
    fn poll_more(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.framing.is_tunnel() || (self.held.rest().is_empty() && !self.framing.at_fork()) {
            let start = out.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
            if out.filled().len() == start {
                self.ended = Some(Instant::now());
            } else {
                self.judge_in_place(out, start);
            }
            return Poll::Ready(Ok(()));
        }
        if self.framing.at_fork() && self.held.rest().len() >= AHEAD_BYTES {
            return Poll::Pending;
        }
        self.held.make_room();
        // The future has no state of its own, so a fresh one each time loses nothing.
        if ready!(pin!(self.io.read_buf(&mut self.held.bytes)).poll(cx))? == 0 {
            self.ended = Some(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadGuard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            if this.judge_held(cx)? {
                this.held.give(out);
                return Poll::Ready(Ok(()));
            }
            if this.refused.is_some() {
                return Poll::Ready(Ok(()));
            }
            if let Some(since) = this.ended {
                return this.poll_end(cx, since);
            }
            match this.poll_more(cx, out) {
                Poll::Pending => return this.poll_patience(cx),
                Poll::Ready(done) => done?,
            }
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> HeadGuard<T> {
    /// Reads and forgets until the peer closes too.
    fn poll_linger(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<io::Result<()>> {
        let mut scratch = [0; 8 * 1024];
        // A peer that sends without end must not keep the task; the alarm bounds how long it is listened to.
        for _ in 0..16 {
            if self.alarm.poll(cx, after(since, LINGER)).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch));
            if read.is_err() || scratch.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadGuard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.written = Instant::now();
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.written = Instant::now();
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let since = match this.shut {
            Some(since) => since,
            None => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                *this.shut.insert(Instant::now())
            }
        };
        if this.is_spent() {
            return Poll::Ready(Ok(()));
        }
        this.poll_linger(cx, since)
    }
}

#[cfg(test)]
#[path = "head_guard_tests.rs"]
mod tests;
