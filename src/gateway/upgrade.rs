//! From HTTP to another protocol: HTTP/1.1 upgrades (RFC 9110 §7.8) and extended CONNECT (RFC 8441), in any combination.
//!
//! A tunnel opens only when the route names the protocol and the upstream has really agreed to it; a refused upgrade leaves an
//! ordinary answer. What a client offers that the route does not name is not passed on, and `h2c` never is: a second HTTP inside a
//! tunnel would carry requests that nobody checks.

use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::timeout;

use crate::admission::Admitted;
use crate::gateway::balance::{Load, Tried, Upstream};
use crate::gateway::body::Body;
use crate::gateway::pool::{Hold, Loan, SendFault, StreamPlace};
use crate::gateway::refusal::{Form, Refusal, UpstreamFault};
use crate::gateway::route::Route;
use crate::gateway::settings::Scheme;
use crate::gateway::story::Story;
use crate::gateway::tunnel::{Ends, Tunnels};
use crate::gateway::upload::Upload;
use crate::gateway::upstream::{Forwarding, Outgoing};
use crate::gateway::{framing, headers, identity, websocket};
use crate::live::Lease;

const WEBSOCKET: &str = "websocket";

/// A client's wish to go on in another protocol.
#[derive(Debug)]
pub(super) struct Wish {
    /// Which, as the route names it.
    protocol: Box<str>,
    /// How it is asked.
    asked: Asked,
    /// The client's side, once answered.
    client: OnUpgrade,
}

#[derive(Debug)]
enum Asked {
    /// By `Upgrade`; a WebSocket with its key.
    Upgrade { key: Option<HeaderValue> },
    /// By extended CONNECT.
    Connect,
}

/// Takes the wish out of a request, if it has one that its route grants.
///
/// # Errors
///
/// A handshake that is not well-formed, or an extended CONNECT for a protocol the route does not name.
pub(super) fn wish(request: &mut Request<Incoming>, route: &Route) -> Result<Option<Wish>, Refusal> {
    if framing::is_extended_connect(request) {
        return connect_wish(request, route).map(Some);
    }
    let Some(protocol) = offered(request, route) else { return Ok(None) };
    let key = websocket::key(request.headers());
    let is_websocket = &*protocol == WEBSOCKET;
    let well_formed =
        request.body().is_end_stream() && (!is_websocket || (key.is_some() && request.method() == Method::GET));
    if !well_formed {
        return Err(Refusal::Form(Form::Handshake));
    }
    let asked = Asked::Upgrade { key: key.filter(|_| is_websocket) };
    Ok(Some(Wish { protocol, asked, client: hyper::upgrade::on(request) }))
}

/// The first protocol offered that the route names (RFC 9110 §7.8: `Upgrade` counts only when `Connection` lists it).
fn offered<B>(request: &Request<B>, route: &Route) -> Option<Box<str>> {
    let fields = request.headers();
    let asks = request.version() == Version::HTTP_11
        && fields.contains_key(UPGRADE)
        && headers::listed(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
    if !asks {
        return None;
    }
    headers::listed(fields, &UPGRADE).find_map(|offer| granted(route, offer))
}

fn connect_wish(request: &mut Request<Incoming>, route: &Route) -> Result<Wish, Refusal> {
    let asked = request.extensions_mut().remove::<Protocol>();
    let protocol = asked.and_then(|protocol| granted(route, protocol.as_str())).ok_or(Refusal::Form(Form::Connect))?;
    Ok(Wish { protocol, asked: Asked::Connect, client: hyper::upgrade::on(request) })
}

fn granted(route: &Route, offer: &str) -> Option<Box<str>> {
    route.upgrades.iter().find(|named| named.eq_ignore_ascii_case(offer)).cloned()
}

/// The upstream's answer to a handshake.
struct Handshake {
    answer: Response<Incoming>,
    hold: Hold,
    /// The key it had to answer.
    key: Option<HeaderValue>,
}

impl Forwarding {
    /// Asks an upstream for what the client wishes, and opens the tunnel if it agrees.
    ///
    /// # Errors
    ///
    /// The upstream's fault.
    pub(super) async fn upgrade(
        &self,
        outgoing: Outgoing,
        wish: Wish,
        tunnels: &Tunnels,
        (route, admitted): (&Route, &Admitted),
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let Outgoing { mut request, deadline, lease } = outgoing;
        identity::tell(request.headers_mut(), route.identity_headers.as_ref(), admitted);
        let upstream = self.choose(route, &mut Tried::default(), story)?;
        let load = Load::on(upstream);
        let shaken = timeout(self.timeouts.upstream, shake(upstream, request, &wish)).await;
        let shaken = shaken.unwrap_or(Err(UpstreamFault::Timeout));
        // Dialling and the handshake take their time: no tunnel opens for what was revoked meanwhile.
        self.still_admits(admitted).map_err(|stop| Refusal::Stopped { stop, scope: None })?;
        match shaken.and_then(|handshake| Ok((agreed(&handshake, &wish)?, handshake))) {
            Ok((is_agreed, handshake)) => {
                upstream.health().note_success();
                if is_agreed {
                    return Ok(self.open(handshake, wish, tunnels, (load, lease)));
                }
                Ok(self.own(handshake.answer, Loan::new(handshake.hold, None, load), false, deadline))
            }
            Err(fault) => {
                self.note_fault(upstream, fault);
                Err(Refusal::Upstream(fault))
            }
        }
    }

    fn open(
        &self,
        handshake: Handshake,
        wish: Wish,
        tunnels: &Tunnels,
        (load, lease): (Load, Option<Lease>),
    ) -> Response<Body> {
        let Handshake { mut answer, hold, .. } = handshake;
        let upstream = hyper::upgrade::on(&mut answer);
        let (mut parts, _) = answer.into_parts();
        parts.extensions.clear();
        headers::clean_answer(&mut parts.headers);
        for name in [CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT] {
            parts.headers.remove(name);
        }
        match &wish.asked {
            Asked::Upgrade { key } => {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                if let Ok(protocol) = HeaderValue::from_str(&wish.protocol) {
                    parts.headers.insert(UPGRADE, protocol);
                }
                if let Some(key) = key {
                    parts.headers.insert(SEC_WEBSOCKET_ACCEPT, websocket::accept(key));
                }
            }
            Asked::Connect => parts.status = StatusCode::OK,
        }
        parts.version = Version::HTTP_11;
        let (open, idle) = (self.metrics.tunnel(), self.timeouts.tunnel);
        let framed = &*wish.protocol == WEBSOCKET;
        tunnels.open(Ends { client: wish.client, upstream, hold: (hold, load), open, idle, framed, lease });
        Response::from_parts(parts, Body::EMPTY)
    }
}

/// Opens a connection and sends the handshake. Upgrades do not share connections: what becomes of this one is open.
async fn shake(upstream: &Upstream, mut request: Request<Upload>, wish: &Wish) -> Result<Handshake, UpstreamFault> {
    let pool = upstream.pool();
    let fault = |error| SendFault::from(error).fault;
    if pool.connector().url.scheme() == Scheme::H2c {
        let mut connection = pool.connector().dial_extended().await?;
        to_connect(&mut request, wish);
        pool.wire().address_http2(&mut request);
        let answer = connection.sender.try_send_request(request).await.map_err(fault)?;
        return Ok(Handshake { answer, hold: Hold::Http2(StreamPlace::on(&Arc::new(connection))), key: None });
    }
    let mut connection = pool.connector().dial_http1().await?;
    let key = to_upgrade(&mut request, wish);
    pool.wire().address_http1(&mut request);
    let answer = connection.exchange(request).await.map_err(fault)?;
    Ok(Handshake { answer, hold: Hold::Alone(connection), key })
}

/// RFC 9110 §7.8, RFC 6455 §4.1. Returns the key the upstream must answer.
fn to_upgrade<B>(request: &mut Request<B>, wish: &Wish) -> Option<HeaderValue> {
    let fields = request.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(protocol) = HeaderValue::from_str(&wish.protocol) {
        fields.insert(UPGRADE, protocol);
    }
    let key = match &wish.asked {
        Asked::Upgrade { key } => return key.clone(),
        Asked::Connect => (&*wish.protocol == WEBSOCKET).then(websocket::fresh_key)?,
    };
    fields.insert(SEC_WEBSOCKET_KEY, key.clone());
    fields.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    *request.method_mut() = Method::GET;
    Some(key)
}

/// RFC 8441 §5.
fn to_connect<B>(request: &mut Request<B>, wish: &Wish) {
    request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    request.headers_mut().remove(HeaderName::from_static("te"));
    request.extensions_mut().insert(Protocol::from(&*wish.protocol));
    *request.method_mut() = Method::CONNECT;
}

/// Whether the upstream agreed; if not, its answer is an ordinary one.
///
/// # Errors
///
/// An agreement to something else, or an answer that the client would take for one.
fn agreed(handshake: &Handshake, wish: &Wish) -> Result<bool, UpstreamFault> {
    let (status, fields) = (handshake.answer.status(), handshake.answer.headers());
    let is_http2 = matches!(handshake.hold, Hold::Http2(_));
    if is_http2 && status == StatusCode::OK {
        return Ok(true);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let mut named = headers::listed(fields, &UPGRADE);
        let same = named.next().is_some_and(|name| name.eq_ignore_ascii_case(&wish.protocol)) && named.next().is_none();
        let accepted = handshake.key.as_ref().is_none_or(|key| accepts(fields, key));
        return if same && accepted && !is_http2 { Ok(true) } else { Err(UpstreamFault::Protocol) };
    }
    // A client that sent CONNECT takes any 2xx for a tunnel.
    let misleads = matches!(wish.asked, Asked::Connect) && status.is_success();
    if misleads { Err(UpstreamFault::Protocol) } else { Ok(false) }
}

/// RFC 6455 §4.1: exactly the answer to our key, once.
fn accepts(fields: &HeaderMap, key: &HeaderValue) -> bool {
    let mut answers = fields.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    answers.next() == Some(&websocket::accept(key)) && answers.next().is_none()
}
