//! A request's body on its way up: bounded in size and silence, its trailers cleaned, its end known.
//!
//! One that is tied to a lease ends with it. Whether it came to its end decides what may happen to the connection that carried it, so the far side of the exchange shares
//! its [`Progress`]. A request without a body costs nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use crate::gateway::headers::Hygiene;
use crate::gateway::idle::Idle;
use crate::gateway::refusal::Refusal;
use crate::live::{Lease, Side};
use crate::net;

/// How far an upload has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU8,
    pieces: AtomicU64,
}

const COMPLETE: u8 = 1;
const STALLED: u8 = 2;
const TOO_LARGE: u8 = 3;
const BROKEN: u8 = 4;
const CUT: u8 = 5;

impl Progress {
    /// Whether all of it was handed to the upstream's connection.
    pub(super) fn is_complete(&self) -> bool {
        self.state.load(Ordering::Acquire) == COMPLETE
    }

    /// How many pieces have gone up.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Why it ended too soon, when it did: then the client is to blame, not the upstream.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.state.load(Ordering::Acquire) {
            STALLED => Some(Refusal::UploadStalled),
            TOO_LARGE => Some(Refusal::BodyTooLarge),
            // Whoever waits for the answer knows better why.
            BROKEN | CUT => Some(Refusal::UploadBroken),
            _ => None,
        }
    }

    fn end(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }
}

/// Why an upload broke off; ends the connection that carries it.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client sent nothing for too long.
    #[error("the client stopped sending")]
    Stalled,
    /// More than the limit.
    #[error("the request's body is too large")]
    TooLarge,
    /// The client's connection, or its framing, broke.
    #[error("the request's body broke off")]
    Broken(#[source] hyper::Error),
    /// The request's token died.
    #[error("the request's token is no longer valid")]
    Cut,
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Upload(Source);

#[derive(Debug)]
enum Source {
    Empty,
    /// What was read already.
    Whole(Bytes),
    Streaming(Box<Streaming>),
}

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    progress: Arc<Progress>,
    hygiene: Arc<Hygiene>,
    idle: Idle,
    remaining_bytes: Option<u64>,
    lease: Option<Lease>,
    /// Whether the task that sends it ends with the lease.
    is_tied: bool,
}

impl Upload {
    /// No body.
    pub(super) const EMPTY: Self = Self(Source::Empty);

    /// A body that was read before.
    pub(super) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::EMPTY } else { Self(Source::Whole(bytes)) }
    }

    /// Sends `incoming` up, as long as `lease` lasts. `limit_bytes` bounds it, `idle` its silence.
    pub(super) fn new(
        incoming: Incoming,
        hygiene: &Arc<Hygiene>,
        limit_bytes: Option<u64>,
        idle: Idle,
        lease: Option<&Lease>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::EMPTY;
        }
        let (progress, hygiene) = (Arc::default(), hygiene.clone());
        let (remaining_bytes, lease) = (limit_bytes, lease.cloned());
        let streaming = Streaming { incoming, progress, hygiene, idle, remaining_bytes, lease, is_tied: false };
        Self(Source::Streaming(Box::new(streaming)))
    }

    /// Its progress; `None` when there is nothing to send.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match &self.0 {
            Source::Streaming(streaming) => Some(streaming.progress.clone()),
            Source::Empty | Source::Whole(_) => None,
        }
    }
}

impl Streaming {
    fn pass(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        self.progress.pieces.fetch_add(1, Ordering::Relaxed);
        self.idle.note_progress();
        if let (Some(remaining), Some(data)) = (&mut self.remaining_bytes, frame.data_ref()) {
            match remaining.checked_sub(data.len() as u64) {
                Some(left) => *remaining = left,
                None => return Err(self.fail(TOO_LARGE, UploadError::TooLarge)),
            }
        }
        if let Some(trailers) = frame.trailers_mut() {
            self.hygiene.clean_trailers(trailers);
        }
        if self.incoming.is_end_stream() {
            self.progress.end(COMPLETE);
        }
        Ok(frame)
    }

    /// Whether its token is dead. The task is tied as soon as it is one that can be: where the upstream takes nothing, nobody
    /// asks here again.
    fn poll_cut(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Some(lease) = &self.lease else { return Poll::Pending };
        self.is_tied = self.is_tied || net::tie(lease.term());
        lease.term().poll_cut(Side::Upload, cx).map(drop)
    }

    fn fail(&self, state: u8, error: UploadError) -> UploadError {
        self.progress.end(state);
        error
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let streaming = match &mut self.0 {
            Source::Empty => return Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Source::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Source::Streaming(streaming) => streaming,
        };
        if streaming.poll_cut(cx).is_ready() {
            return Poll::Ready(Some(Err(streaming.fail(CUT, UploadError::Cut))));
        }
        match Pin::new(&mut streaming.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(streaming.pass(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(streaming.fail(BROKEN, UploadError::Broken(error))))),
            Poll::Ready(None) => {
                streaming.progress.end(COMPLETE);
                Poll::Ready(None)
            }
            Poll::Pending if streaming.idle.poll_expired(cx).is_ready() => {
                Poll::Ready(Some(Err(streaming.fail(STALLED, UploadError::Stalled))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Whole(_) => false,
            Source::Streaming(streaming) => streaming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streaming(streaming) => streaming.incoming.size_hint(),
        }
    }
}
