//! Sends an admitted request to an upstream and brings back its answer.
//!
//! Nothing gets here without an [`Admitted`], which only admission makes. A request is sent anew only when its method is idempotent
//! and nothing of it was sent; a pooled connection that turned out dead before it was given anything was no attempt at all.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use crate::admission::{Admitted, Gate, Stop};
use crate::clock::SharedClock;
use crate::gateway::balance::{Load, Tried, Upstream};
use crate::gateway::body::Body;
use crate::gateway::headers;
use crate::gateway::identity;
use crate::gateway::idle::Idle;
use crate::gateway::pool::{Connection, Hold, Loan, SendFault};
use crate::gateway::refusal::{Refusal, UpstreamFault};
use crate::gateway::route::Route;
use crate::gateway::settings::Timeouts;
use crate::gateway::story::Story;
use crate::gateway::upload::{Progress, Upload};
use crate::live::Lease;
use crate::telemetry::Metrics;

/// How requests are forwarded, the same for all routes.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// How long each step may take.
    pub(super) timeouts: Timeouts,
    /// How often a request is sent anew.
    pub(super) retries: u32,
    /// Where failures are counted.
    pub(super) metrics: Arc<Metrics>,
    /// Measures how long upstreams take.
    pub(super) clock: SharedClock,
    /// Asked again before anything is sent.
    pub(super) gate: Arc<Gate>,
}

/// Why an attempt brought no answer.
#[derive(Debug)]
pub(super) enum Setback {
    /// The upstream's doing.
    Fault(SendFault),
    /// The token was revoked while a connection was waited for.
    Stopped(Stop),
}

impl From<SendFault> for Setback {
    fn from(fault: SendFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stop> for Setback {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Cleaned and told of this hop.
    pub(super) request: Request<Upload>,
    /// When the whole exchange must be over.
    pub(super) deadline: Option<Instant>,
    /// The exchange's right to go on.
    pub(super) lease: Option<Lease>,
}

/// What one attempt needs to know beside the request.
struct Attempt<'a> {
    admitted: &'a Admitted,
    upload: Option<&'a Arc<Progress>>,
    deadline: Option<Instant>,
    is_head: bool,
}

impl Forwarding {
    /// Sends a request to one of the route's upstreams and returns the answer with its body still to come.
    ///
    /// # Errors
    ///
    /// The upstream's fault, or the client's when its own body was in the way.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the exchange with the upstream.
    pub(super) async fn forward(
        &self,
        outgoing: Outgoing,
        route: &Route,
        admitted: &Admitted,
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let Outgoing { mut request, deadline, .. } = outgoing;
        identity::tell(request.headers_mut(), route.identity_headers.as_ref(), admitted);
        let upload = request.body().progress();
        let is_head = request.method() == Method::HEAD;
        let attempt = Attempt { admitted, upload: upload.as_ref(), deadline, is_head };
        let mut tried = Tried::default();
        let mut retries_left = if is_idempotent(request.method()) { self.retries } else { 0 };
        loop {
            let upstream = self.choose(route, &mut tried, story)?;
            let failure = match self.attempt(request, upstream, &attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Setback::Stopped(stop)) => return Err(Refusal::Stopped { stop, scope: None }),
                Err(Setback::Fault(failure)) => failure,
            };
            let blamed = upload.as_ref().and_then(|upload| upload.refusal());
            if blamed.is_none() {
                self.note_fault(upstream, failure.fault);
            }
            match failure.unsent.filter(|_| retries_left > 0) {
                Some(unsent) => request = *unsent,
                None => return Err(blamed.unwrap_or(Refusal::Upstream(failure.fault))),
            }
            retries_left -= 1;
            self.metrics.upstream_retry(upstream.label());
        }
    }

    /// The upstream to ask next.
    pub(super) fn choose<'a>(
        &self,
        route: &'a Route,
        tried: &mut Tried,
        story: &mut Story,
    ) -> Result<&'a Arc<Upstream>, Refusal> {
        let chosen = route.upstreams.choose(self.clock.elapsed(), tried);
        let upstream = chosen.ok_or(Refusal::Upstream(UpstreamFault::Connect))?;
        story.met(upstream);
        Ok(upstream)
    }

    async fn attempt(
        &self,
        request: Request<Upload>,
        upstream: &Arc<Upstream>,
        attempt: &Attempt<'_>,
    ) -> Result<Response<Body>, Setback> {
        let load = Load::on(upstream);
        let connection = match upstream.pool().checkout().await {
            Ok(connection) => connection,
            Err(fault) => return Err(SendFault { fault, unsent: Some(Box::new(request)) }.into()),
        };
        self.still_admits(attempt.admitted)?;
        let is_used = connection.is_used();
        let started = self.clock.elapsed();
        let mut sent = self.exchange(connection, request, &load, attempt).await;
        if let Err(SendFault { unsent: Some(_), .. }) = &sent
            && is_used
        {
            sent = Box::pin(self.once_more(sent, &load, attempt)).await?;
        }
        let (answer, hold) = sent?;
        upstream.health().note_success();
        upstream.latency().note(self.clock.elapsed().saturating_sub(started));
        Ok(self.answer(answer, Loan::new(hold, attempt.upload.cloned(), load), attempt)?)
    }

    /// A revocation that was acknowledged while a connection was waited for stops the request here.
    pub(super) fn still_admits(&self, admitted: &Admitted) -> Result<(), Stop> {
        self.gate.still_admits(admitted, self.clock.now())
    }

    /// The pooled connection had died: nothing was tried yet, so a new one is.
    async fn once_more(&self, sent: Sent, load: &Load, attempt: &Attempt<'_>) -> Result<Sent, Stop> {
        let Err(SendFault { unsent: Some(request), .. }) = sent else { return Ok(sent) };
        let connection = match load.upstream().pool().dial().await {
            Ok(connection) => connection,
            Err(fault) => return Ok(Err(SendFault { fault, unsent: Some(request) })),
        };
        self.still_admits(attempt.admitted)?;
        Ok(self.exchange(connection, *request, load, attempt).await)
    }

    /// Sends, and waits for the answer's head: `upstream` after the last piece of the request went up.
    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Upload>,
        load: &Load,
        attempt: &Attempt<'_>,
    ) -> Sent {
        let mut alarm = connection.lend_alarm();
        let mut answered = pin!(connection.send(request, load));
        loop {
            let pieces = attempt.upload.map(|upload| upload.pieces());
            let until = Instant::now() + self.timeouts.upstream;
            let until = attempt.deadline.map_or(until, |deadline| until.min(deadline));
            let answered_or_late = std::future::poll_fn(|cx| match answered.as_mut().poll(cx) {
                Poll::Ready(sent) => Poll::Ready(Some(sent)),
                Poll::Pending => alarm.poll(cx, until).map(|()| None),
            });
            if let Some(sent) = answered_or_late.await {
                return sent.map(|(answer, hold)| (answer, hold.keeping(alarm)));
            }
            let is_over = attempt.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || pieces == attempt.upload.map(|upload| upload.pieces()) {
                return Err(SendFault { fault: UpstreamFault::Timeout, unsent: None });
            }
        }
    }

    /// Makes the upstream's answer ours to give.
    fn answer(
        &self,
        answer: Response<Incoming>,
        loan: Loan,
        attempt: &Attempt<'_>,
    ) -> Result<Response<Body>, SendFault> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for it: whatever follows on that connection is not HTTP.
            return Err(SendFault { fault: UpstreamFault::Protocol, unsent: None });
        }
        Ok(self.own(answer, loan, attempt.is_head, attempt.deadline))
    }

    /// Cleans an answer, and ties its body to the connection it comes on.
    pub(super) fn own(
        &self,
        answer: Response<Incoming>,
        loan: Loan,
        is_head: bool,
        deadline: Option<Instant>,
    ) -> Response<Body> {
        let (mut parts, incoming) = answer.into_parts();
        headers::clean_answer(&mut parts.headers);
        parts.version = Version::HTTP_11;
        // RFC 9112 §6.3: these have no body. If the upstream sends one all the same, its connection goes.
        let is_bodiless = is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = Body::stream(incoming, Idle::new(self.timeouts.body, deadline), loan);
        Response::from_parts(parts, if is_bodiless { Body::EMPTY } else { body })
    }

    /// Counts a failure, and leaves out an upstream that had too many.
    pub(super) fn note_fault(&self, upstream: &Upstream, fault: UpstreamFault) {
        self.metrics.upstream_error(upstream.label(), fault.name());
        if !fault.is_illness() {
            return;
        }
        let mut chance = [0];
        // Without randomness replicas come back in step, nothing worse.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        if upstream.health().note_failure(self.clock.elapsed(), chance.first().copied().unwrap_or_default()) {
            tracing::warn!(upstream = %upstream.label(), reason = fault.name(), "upstream left out for a while");
        }
    }
}

type Sent = Result<(Response<Incoming>, Hold), SendFault>;

/// RFC 9110 §9.2.2.
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}
