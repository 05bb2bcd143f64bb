//! One request and its answer, as the connection sees them: begun, answered, finished.
//!
//! The side that reads a connection must know what the side that answers does: whether the tunnel that was asked for
//! opened, and whether the connection is idle or only waits for us. A handler that panics is answered with 500 here.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use super::framing::Fault;
use super::fuse;
use super::streams::{self, Awaited};
use crate::telemetry::Metrics;

/// An error of any kind.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What answers requests: any hyper service that cannot fail, with a body that can be moved. Never implemented by hand.
pub trait Handler:
    Service<
        Request<Incoming>,
        Response = Response<<Self as Handler>::Content>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Content: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static;
}

impl<S, B> Handler for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>
        + Send
        + Sync
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Content = B;
}

/// The exchanges of one connection.
#[derive(Debug)]
pub(super) struct Exchanges {
    begun: AtomicU64,
    answered: AtomicU64,
    finished: AtomicU64,
    tunnel: AtomicBool,
    connected: Instant,
    /// Milliseconds from `connected` to the end of the last exchange.
    quiet_since: AtomicU64,
    reader: AtomicWaker,
}

impl Exchanges {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            tunnel: AtomicBool::new(false),
            connected: Instant::now(),
            quiet_since: AtomicU64::new(0),
            reader: AtomicWaker::new(),
        })
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>) -> Exchange {
        self.begun.fetch_add(1, Ordering::AcqRel);
        Exchange(self.clone())
    }

    /// How many requests have an answer, in HTTP/1.1 the first so many.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// How many requests have had their whole answer, or will have none.
    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Whether the last answer opened a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Acquire)
    }

    /// When the last exchange ended; `None` while one is going on.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let finished = self.finished();
        let quiet = self.begun.load(Ordering::Acquire) == finished;
        quiet.then(|| self.connected + Duration::from_millis(self.quiet_since.load(Ordering::Acquire)))
    }

    /// Whom to wake when something is answered or finished.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }
}

/// One of them; it is finished when this is dropped.
#[derive(Debug)]
pub(super) struct Exchange(Arc<Exchanges>);

impl Exchange {
    /// It was answered, and that opened a tunnel or did not.
    pub(super) fn answer(&self, tunnel: bool) {
        self.0.tunnel.store(tunnel, Ordering::Release);
        self.0.answered.fetch_add(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        fuse::untie();
        let now = u64::try_from(self.0.connected.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since.fetch_max(now, Ordering::AcqRel);
        self.0.finished.fetch_add(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

/// Asks the service, and answers in its place when it panics, or when the head has more than `most_headers` fields: in
/// HTTP/2 nobody else counts them.
pub(super) async fn answer<S: Handler>(
    service: Arc<S>,
    request: Request<Incoming>,
    most_headers: usize,
    exchange: Exchange,
    metrics: Arc<Metrics>,
) -> Result<Response<AnswerBody<S::Content>>, Infallible> {
    let connect = request.method() == Method::CONNECT;
    let forks = connect || request.headers().contains_key(header::UPGRADE);
    let response = if request.headers().len() > most_headers {
        metrics.refusal(Fault::TooManyFields.reason());
        status_only(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    } else {
        ask(&*service, request, &metrics).await
    };
    let status = response.status();
    let opens = status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success());
    exchange.answer(forks && opens);
    Ok(response.map(|body| AnswerBody { body, is_torn: false, metrics, _exchange: exchange }))
}

async fn ask<S: Handler>(service: &S, request: Request<Incoming>, metrics: &Metrics) -> Response<Option<S::Content>> {
    let mut answered = pin!(service.call(request));
    // What a panic leaves half done is dropped with the future; the service itself is shared by reference only.
    let answered = std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| answered.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    });
    match answered.await {
        Some(Ok(response)) => response.map(Some),
        Some(Err(never)) => match never {},
        None => {
            panicked(metrics);
            status_only(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn panicked(metrics: &Metrics) {
    metrics.panic();
    tracing::error!("a request's handler panicked");
}

fn status_only<B>(status: StatusCode) -> Response<Option<B>> {
    let mut response = Response::new(None);
    *response.status_mut() = status;
    response
}

/// The body of an answer; the exchange is finished when it is dropped.
#[derive(Debug)]
pub(super) struct AnswerBody<B> {
    body: Option<B>,
    /// It is about to be dropped from outside, and until then neither goes on nor ends.
    is_torn: bool,
    metrics: Arc<Metrics>,
    _exchange: Exchange,
}

/// A body's code panicked half-way.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct Broken;

impl<B> Body for AnswerBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.is_torn {
            return Poll::Pending;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        streams::awaits(if matches!(polled, Ok(Poll::Pending)) { Awaited::Us } else { Awaited::Peer });
        match polled {
            Ok(Poll::Ready(Some(Err(_)))) if fuse::breaks_off() => {
                (self.body, self.is_torn) = (None, true);
                Poll::Pending
            }
            Ok(frame) => frame.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Err(_) => {
                panicked(&self.metrics);
                self.body = None;
                Poll::Ready(Some(Err(Broken.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.is_torn && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ended = || if self.is_torn { SizeHint::default() } else { SizeHint::with_exact(0) };
        self.body.as_ref().map_or_else(ended, Body::size_hint)
    }
}
