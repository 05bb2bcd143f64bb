//! The life of a request at a token endpoint: read whole, judged by the refresh token it carries, sent on as it came, and
//! its answer written down before it is handed out.
//!
//! Three answers are never mixed up: a dead refresh token is `invalid_grant` and the upstream hears nothing of it; what
//! nobody can tell or write down just now is 503; everything else is the upstream's, byte for byte.

use std::sync::Arc;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use tokio::time::timeout;

use crate::admission::{Admitted, Redeemable, Stop};
use crate::domain::{BearerToken, Claims, Denial, Session, Timestamp, TokenKind};
use crate::gateway::body::Body;
use crate::gateway::refusal::{Refusal, UpstreamFault};
use crate::gateway::route::Route;
use crate::gateway::story::Story;
use crate::gateway::token_endpoint::head::{self, Way};
use crate::gateway::token_endpoint::kept::Kept;
use crate::gateway::token_endpoint::lesson::{Exchange, Origin};
use crate::gateway::token_endpoint::reply::{self, Taught};
use crate::gateway::token_endpoint::request::{self, MAX_BODY_BYTES, RequestFault, TokenRequest};
use crate::gateway::token_endpoint::{Learn, Rotation, TokenEndpoint};
use crate::gateway::upload::Upload;
use crate::gateway::upstream::Outgoing;
use crate::gateway::{Gateway, path};
use crate::live::Lease;
use crate::sessions::{self, Claim, Lesson, Used};

/// The longest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// One request at a token endpoint, and what was found out before it was read.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Visit {
    /// Where.
    pub(in crate::gateway) endpoint: Arc<TokenEndpoint>,
    /// The route that leads there.
    pub(in crate::gateway) route: Arc<Route>,
    /// Leave to pass on that route.
    pub(in crate::gateway) admitted: Admitted,
    /// Who came.
    pub(in crate::gateway) from: Origin,
    /// When.
    pub(in crate::gateway) arrived: Timestamp,
}

/// A request that was read, ready to go on.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) visit: Visit,
    pub(super) asked: TokenRequest,
    /// What is to be exchanged, where it is a known session's.
    pub(super) subject: Option<Redeemable>,
    pub(super) outgoing: Outgoing,
}

/// A refresh token that may be redeemed.
#[derive(Clone, Debug)]
pub(super) struct Redeeming {
    pub(super) token: BearerToken,
    pub(super) redeemable: Redeemable,
}

impl Gateway {
    /// The token endpoint that a path is, in whatever spelling.
    pub(in crate::gateway) fn token_endpoint(&self, path: &str) -> Option<&Arc<TokenEndpoint>> {
        if self.token_endpoints.is_empty() {
            return None;
        }
        let path = path::normalise(path).ok()?;
        self.token_endpoints.iter().find(|endpoint| endpoint.path.is_meant_by(&path))
    }

    /// A request's visit to a token endpoint, before it is read.
    pub(in crate::gateway) fn visit<B>(
        &self,
        endpoint: &Arc<TokenEndpoint>,
        (route, admitted): (&Arc<Route>, &Admitted),
        request: &Request<B>,
    ) -> Visit {
        let from = self.origin(request);
        let (endpoint, route, admitted) = (endpoint.clone(), route.clone(), admitted.clone());
        Visit { endpoint, route, admitted, from, arrived: self.clock.now() }
    }

    fn origin<B>(&self, request: &Request<B>) -> Origin {
        let address = self.client_address(request);
        let user_agent = request.headers().get(USER_AGENT).map(|value| sessions::readable(value.as_bytes()));
        Origin { address, user_agent, client: super::basic::client(request.headers()) }
    }

    /// Takes one request at a token endpoint from arrival to answer.
    pub(in crate::gateway) async fn at_token_endpoint(
        self: &Arc<Self>,
        request: Request<Incoming>,
        visit: Visit,
        lease: Option<Lease>,
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let has_body = !hyper::body::Body::is_end_stream(request.body());
        let judged = head::judge(&visit.endpoint, request.method(), request.uri().query(), request.headers(), has_body);
        let media = match judged.map_err(|fault| wrong(&visit, fault))? {
            Way::PassBy => return self.pass(request, &visit.route, (&visit.admitted, lease), story).await,
            Way::Read(media) => media,
        };
        let (parts, incoming) = request.into_parts();
        let bytes = self.whole(&visit, incoming).await?;
        let asked = request::read(&visit.endpoint, media, &bytes).map_err(|fault| wrong(&visit, fault))?;
        let subject = self.subject(&visit, &asked).await?;
        let redeeming = self.judged(&visit, &asked).await?;
        let client = super::rotate::client_of(&visit, &parts.headers, &asked);
        let outgoing = self.outgoing(parts, bytes, story)?;
        let call = Call { visit, asked, subject, outgoing };
        let kept = match redeeming {
            Some(redeeming) if call.visit.endpoint.rotation != Rotation::Off => {
                self.rotate(call, redeeming, client, story).await?
            }
            redeeming => self.exchange(call, redeeming.as_ref(), None, story).await?,
        };
        Ok(kept.response())
    }

    /// The request's body, within its bounds of size and time.
    async fn whole(&self, visit: &Visit, incoming: Incoming) -> Result<Bytes, Refusal> {
        let read = timeout(self.forwarding.timeouts.body, Limited::new(incoming, MAX_BODY_BYTES).collect()).await;
        match read.map_err(|_| Refusal::UploadStalled)? {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(wrong(visit, RequestFault::TooLarge)),
            Err(_) => Err(Refusal::UploadBroken),
        }
    }

    /// The token of a known session that is to be exchanged for others, which will be that session's; if nothing known
    /// speaks against it, nor against the others (RFC 8693). Known is what was handed out here: only that has a family. What
    /// an assertion says of itself is its client's to write.
    async fn subject(&self, visit: &Visit, asked: &TokenRequest) -> Result<Option<Redeemable>, Refusal> {
        let mut subject = None;
        for token in &asked.exchanged {
            let judged = self.gate.redeem(&visit.endpoint.issuer, token, TokenKind::Access, visit.arrived).await;
            let redeemable = judged.map_err(|stop| self.dead(visit, stop))?;
            subject = subject.or(Some(redeemable).filter(|redeemable| redeemable.claims().family.is_some()));
        }
        Ok(subject)
    }

    /// The refresh token, if there is one and nothing known speaks against it.
    async fn judged(&self, visit: &Visit, asked: &TokenRequest) -> Result<Option<Redeeming>, Refusal> {
        let Some(token) = asked.refresh_token.clone() else { return Ok(None) };
        if visit.endpoint.presented != TokenKind::Refresh {
            // It is not used up, nor does it hand out another: nothing more is asked of it.
            return match self.gate.refuse_revoked(&token, visit.arrived).await {
                Ok(()) => Ok(None),
                Err(stop) => Err(self.dead(visit, stop)),
            };
        }
        let judged = self.gate.redeem(&visit.endpoint.issuer, &token, TokenKind::Refresh, visit.arrived).await;
        let redeemable = judged.map_err(|stop| self.dead(visit, stop))?;
        Ok(Some(Redeeming { token, redeemable }))
    }

    /// The request as it goes to the upstream: the very bytes that were read, and an answer asked for that can be read.
    fn outgoing(&self, parts: Parts, bytes: Bytes, story: &mut Story) -> Result<Outgoing, Refusal> {
        let (mut request, deadline) = self.cleaned(Request::from_parts(parts, ()), story)?;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Outgoing { request: request.map(|()| Upload::whole(bytes)), deadline, lease: None })
    }

    /// Sends a request on, and writes down what its answer taught before it is handed out. With a claim, the refresh token
    /// is used up by an answer that brings another.
    pub(super) async fn exchange(
        &self,
        call: Call,
        redeeming: Option<&Redeeming>,
        claim: Option<&Claim>,
        story: &mut Story,
    ) -> Result<Kept, Refusal> {
        let Call { visit, asked, subject, outgoing } = call;
        let kept = self.answered(&visit, outgoing, claim, story).await?;
        let presented = redeeming.map(|redeeming| &redeeming.redeemable).or(subject.as_ref());
        let presented = presented.map(|redeemable| &**redeemable.claims());
        let lesson = taught(&visit, &asked, &kept)?.and_then(|taught| self.lesson(&visit, &taught, presented));
        let used =
            redeeming.zip(claim).filter(|_| lesson.as_ref().is_some_and(|lesson| brings_another(lesson, presented)));
        if let (Some(claim), None) = (claim, used) {
            self.book.release(claim).await;
        }
        let Some(lesson) = lesson else { return Ok(kept) };
        let known = presented.map(|presented| known_by_now(presented, &lesson));
        // A login that was never seen does not begin by a refresh that is dead: nobody gets what it brought, and what it
        // would be known by is younger than it is.
        let is_unseen = used.is_none() && presented.is_some_and(|presented| presented.family.is_none());
        if is_unseen && known.as_ref().is_some_and(|known| self.gate.is_revoked(known, self.clock.now())) {
            return Err(self.dead(&visit, Stop::Denied(Denial::Revoked)));
        }
        let tells_more = presented.is_some_and(|presented| tells_more(&lesson, presented));
        self.write_down(&visit, lesson, used, &kept).await?;
        if tells_more {
            self.book.forget_what_was_looked_up();
        }
        // A session that ended while the upstream was asked ends here: nobody gets what it brought.
        if known.is_some_and(|known| self.gate.is_revoked(&known, self.clock.now())) {
            return Err(self.dead(&visit, Stop::Denied(Denial::Revoked)));
        }
        Ok(kept)
    }

    /// The upstream's answer. What was never sent is redeemed by nobody: its claim is given up, so that its client may come
    /// again from another address.
    async fn answered(
        &self,
        visit: &Visit,
        outgoing: Outgoing,
        claim: Option<&Claim>,
        story: &mut Story,
    ) -> Result<Kept, Refusal> {
        let answer = self.forwarding.forward(outgoing, &visit.route, &visit.admitted, story).await;
        if let (Some(claim), Err(refusal)) = (claim, &answer)
            && is_unsent(refusal)
        {
            self.book.release(claim).await;
        }
        collected(answer?).await
    }

    async fn write_down(
        &self,
        visit: &Visit,
        lesson: Lesson,
        used: Option<(&Redeeming, &Claim)>,
        kept: &Kept,
    ) -> Result<(), Refusal> {
        let answer = (used.is_some() && visit.endpoint.rotation == Rotation::Enforce).then(|| kept.to_bytes());
        let used = used.map(|(redeeming, claim)| Used {
            token: &redeeming.token,
            claim,
            answer: answer.as_deref(),
            grace: visit.endpoint.grace,
        });
        self.book.learn(lesson, used).await.map_err(|error| {
            tracing::error!(%error, cause = error.source_text(), "tokens are withheld: they cannot be written down");
            unwritten()
        })?;
        self.metrics.token_endpoint(&visit.endpoint.issuer_name, "learned");
        Ok(())
    }

    /// What the answer is to be remembered for.
    fn lesson(&self, visit: &Visit, taught: &Taught, presented: Option<&Claims>) -> Option<Lesson> {
        let facts = self.gate.issuer(&visit.endpoint.issuer)?;
        let read = |token: &Option<BearerToken>, kind| {
            let claims = self.gate.peek(&visit.endpoint.issuer, token.as_ref()?, kind);
            claims.inspect_err(|denial| tracing::warn!(%denial, "a token handed out is none that would be let in")).ok()
        };
        let exchange = Exchange {
            endpoint: &visit.endpoint,
            taught,
            presented,
            access: read(&taught.access_token, TokenKind::Access),
            refresh: read(&taught.refresh_token, TokenKind::Refresh),
            from: &visit.from,
            leeway: facts.leeway,
            refresh_lifetime: facts.max_refresh_token_lifetime,
            now: self.clock.now(),
        };
        exchange.lesson()
    }

    /// The refusal of a refresh token: for a dead one the answer that its client understands.
    pub(super) fn dead(&self, visit: &Visit, stop: Stop) -> Refusal {
        let Stop::Denied(denial) = stop else { return Refusal::Stopped { stop, scope: None } };
        self.metrics.token_endpoint(&visit.endpoint.issuer_name, "dead");
        Refusal::Grant { denial, dialect: visit.endpoint.dialect }
    }
}

fn wrong(visit: &Visit, fault: RequestFault) -> Refusal {
    Refusal::TokenRequest { fault, dialect: visit.endpoint.dialect }
}

/// Whether the upstream heard nothing of a request that was refused in its name. `POST` is not sent a second time.
const fn is_unsent(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Stopped { .. } | Refusal::Upstream(UpstreamFault::Connect | UpstreamFault::ConnectTimeout)
    )
}

/// What cannot be written down is not handed out.
pub(super) const fn unwritten() -> Refusal {
    Refusal::Stopped { stop: Stop::Blind("what is known of sessions cannot be written"), scope: None }
}

/// The upstream's answer, whole.
async fn collected(answer: Response<Body>) -> Result<Kept, Refusal> {
    let (parts, body) = answer.into_parts();
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(whole) => Ok(Kept::new(parts.status, parts.headers, whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::Upstream(UpstreamFault::Protocol)),
        Err(_) => Err(Refusal::Upstream(UpstreamFault::Reset)),
    }
}

/// What the answer teaches; `None` when it hands out no token. What looks like tokens and cannot be read is not handed out,
/// since it could never be taken back.
fn taught(visit: &Visit, asked: &TokenRequest, kept: &Kept) -> Result<Option<Taught>, Refusal> {
    if !kept.status().is_success() || visit.endpoint.learn == Learn::default() {
        return Ok(None);
    }
    let is_plain = kept.header(&CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    let is_json = kept.header(&CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
    if is_plain && !is_json && !looks_like_an_object(kept.body()) {
        return Ok(None);
    }
    let read = is_plain.then(|| reply::learn(&visit.endpoint, asked, kept.body()));
    match read {
        Some(Ok(taught)) => Ok(taught),
        Some(Err(fault)) => {
            tracing::error!(%fault, issuer = %visit.endpoint.issuer_name, "an answer of a token endpoint is withheld");
            Err(Refusal::Upstream(UpstreamFault::Protocol))
        }
        None => Err(Refusal::Upstream(UpstreamFault::Protocol)),
    }
}

/// Whether clients that do not look at the content type would read a JSON object.
fn looks_like_an_object(body: &[u8]) -> bool {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().starts_with(b"{")
}

/// Whether a refresh token was handed out that is not the one presented.
fn brings_another(lesson: &Lesson, presented: Option<&Claims>) -> bool {
    let is_another = |digest| presented.is_some_and(|presented| presented.digest != digest);
    lesson.tokens.iter().any(|token| token.kind == TokenKind::Refresh && is_another(token.digest))
}

/// Whether the answer says whose session it is and that was not known, so that other tokens of it are known by less.
fn tells_more(lesson: &Lesson, presented: &Claims) -> bool {
    let Session { user, username, client, .. } = &lesson.session;
    let pairs = [(user, &presented.user), (username, &presented.username), (client, &presented.client)];
    pairs.into_iter().any(|(told, known)| told.is_some() && known.is_none())
}

/// What is known of a refresh token once its answer has come. One that nobody saw issued counts as older than any cut-off.
fn known_by_now(presented: &Claims, lesson: &Lesson) -> Claims {
    let session = &lesson.session;
    Claims {
        session: Some(session.key.id.clone()),
        family: Some(lesson.family.clone()),
        user: presented.user.clone().or_else(|| session.user.clone()),
        username: presented.username.clone().or_else(|| session.username.clone()),
        client: presented.client.clone().or_else(|| session.client.clone()),
        ..presented.clone()
    }
}
