//! The body of an answer: nothing, a short text of ours, or the upstream's stream with what it holds.
//!
//! A stream keeps its upstream connection until the last piece is out; only then may the connection serve another request. Dropped
//! before, for whatever reason, it takes the connection with it. A stream that breaks off ends in an error, so that the client
//! sees a truncated answer as truncated. One that is tied to a lease ends with it: not a byte more is asked of the upstream, whose
//! side is let go at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};

use crate::gateway::ending::Ending;
use crate::gateway::headers;
use crate::gateway::idle::Idle;
use crate::gateway::pool::Loan;
use crate::live::{Cut, Lease, Side};
use crate::net;

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
    loan: Option<Loan>,
    tie: Option<Tie>,
    /// How it broke off, to be told once what came before is out: an error throws away what was not sent yet.
    fault: Option<BodyError>,
}

/// What ends a stream before its end, and how.
#[derive(Debug)]
struct Tie {
    lease: Lease,
    ending: Ending,
}

/// What came of asking a stream for more.
enum Progress {
    /// As it is.
    Polled(Poll<Option<Result<Frame<Bytes>, BodyError>>>),
    /// Its token is dead.
    Over,
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
    /// The token died that opened it.
    #[error("the token is no longer valid")]
    Cut,
}

impl Body {
    /// No body.
    pub const EMPTY: Self = Self(Kind::Done);

    /// A text of ours.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }

    /// The upstream's body; `loan` is given back when it has ended.
    pub(super) fn stream(incoming: Incoming, idle: Idle, loan: Loan) -> Self {
        if incoming.is_end_stream() {
            loan.finish();
            return Self::EMPTY;
        }
        Self(Kind::Stream(Box::new(Stream { incoming, idle, loan: Some(loan), tie: None, fault: None })))
    }

    /// The same body, which goes on only as long as `lease` lasts. To be called by the task that answers the request.
    pub(super) fn tied(mut self, lease: Lease, ending: Ending) -> Self {
        if let Kind::Stream(stream) = &mut self.0 {
            net::tie(lease.term());
            stream.tie = Some(Tie { lease, ending });
        }
        self
    }
}

impl Tie {
    fn poll_cut(&self, cx: &Context<'_>) -> Poll<Cut> {
        self.lease.term().poll_cut(Side::Answer, cx)
    }

    fn is_cut(&self) -> bool {
        self.lease.term().cut().is_some()
    }
}

impl Stream {
    fn finish(&mut self) {
        if let Some(loan) = self.loan.take() {
            loan.finish();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.tie.as_ref().is_some_and(Tie::is_cut) {
            return Progress::Over;
        }
        if let Some(fault) = self.fault.take() {
            return Progress::Polled(Poll::Ready(Some(Err(fault))));
        }
        let mut beside = match &mut self.loan {
            Some(loan) => loan.drive(cx),
            None => Context::from_waker(cx.waker()),
        };
        match Pin::new(&mut self.incoming).poll_frame(&mut beside) {
            Poll::Ready(Some(Ok(frame))) => Progress::Polled(Poll::Ready(Some(Ok(self.pass(frame))))),
            Poll::Ready(Some(Err(error))) => {
                self.fault = Some(BodyError::Broken(error));
                cx.waker().wake_by_ref();
                Progress::Polled(Poll::Pending)
            }
            Poll::Ready(None) => {
                self.finish();
                Progress::Polled(Poll::Ready(None))
            }
            Poll::Pending if self.tie.as_ref().is_some_and(|tie| tie.poll_cut(cx).is_ready()) => Progress::Over,
            Poll::Pending if self.idle.poll_expired(cx).is_ready() => {
                Progress::Polled(Poll::Ready(Some(Err(BodyError::Stalled))))
            }
            Poll::Pending => Progress::Polled(Poll::Pending),
        }
    }

    fn pass(&mut self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        self.idle.note_progress();
        if let Some(trailers) = frame.trailers_mut() {
            headers::clean_answer(trailers);
        }
        if let (Some(tie), Some(data)) = (&mut self.tie, frame.data_ref()) {
            tie.ending.note(data);
        }
        if self.incoming.is_end_stream() {
            self.finish();
        }
        frame
    }

    /// What is left to be said when the token is dead.
    fn last_words(&self) -> Result<Frame<Bytes>, BodyError> {
        self.tie.as_ref().and_then(|tie| tie.ending.last_words()).ok_or(BodyError::Cut)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.0 {
            Kind::Done => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Stream(stream) => match stream.poll(cx) {
                Progress::Polled(polled) => polled,
                Progress::Over => {
                    let last = stream.last_words();
                    // The upstream's side goes now, whenever the client takes the last words.
                    self.0 = Kind::Done;
                    return Poll::Ready(Some(last));
                }
            },
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
