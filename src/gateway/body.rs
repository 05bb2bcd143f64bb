//! The body of an answer: nothing, a short text of ours, or the upstream's stream with what it holds.
//!
//! A stream keeps its upstream connection until the last piece is out; only then may the connection serve another request. Dropped
//! before, for whatever reason, it takes the connection with it. A stream that breaks off ends in an error, so that the client
//! sees a truncated answer as truncated.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};

use crate::gateway::headers;
use crate::gateway::idle::Idle;
use crate::gateway::pool::Lease;

/// The body of an answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Done,
    Whole(Bytes),
    Stream(Box<Stream>),
}

#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    idle: Idle,
    lease: Option<Lease>,
}

/// Why an answer broke off after it had begun.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's connection ended too soon, or its framing is wrong.
    #[error("the upstream's answer broke off")]
    Broken(#[source] hyper::Error),
    /// The upstream sent nothing for too long, or the exchange lasted too long.
    #[error("the upstream stopped sending")]
    Stalled,
}

impl Body {
    /// No body.
    pub const EMPTY: Self = Self(Kind::Done);

    /// A text of ours.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }

    /// The upstream's body; `lease` is given back when it has ended.
    pub(super) fn stream(incoming: Incoming, idle: Idle, lease: Lease) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return Self::EMPTY;
        }
        Self(Kind::Stream(Box::new(Stream { incoming, idle, lease: Some(lease) })))
    }
}

impl Stream {
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle.note_progress();
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_answer(trailers);
                }
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if self.idle.poll_expired(cx).is_ready() => Poll::Ready(Some(Err(BodyError::Stalled))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.0 {
            Kind::Done => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Stream(stream) => stream.poll(cx),
        };
        let is_over = match &polled {
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Ready(Some(Ok(_))) => matches!(self.0, Kind::Whole(_)),
            Poll::Pending => false,
        };
        if is_over {
            self.0 = Kind::Done;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Done => true,
            Kind::Whole(_) => false,
            Kind::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Done => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}
