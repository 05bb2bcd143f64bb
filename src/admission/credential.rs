//! Where tokens hide in a request. A request speaks for one caller: whoever sends two credentials hopes that the upstream
//! believes another one than we checked, so that is refused as ambiguous (RFC 6750 §2), whatever the two are.
//!
//! Some upstreams have an order of places instead and do not look behind the first that has one. A route may do so too; then
//! what is ignored is taken out of the request.
//!
//! Only the places a route names are looked at; a token elsewhere is never believed. What looks like a credential and is
//! malformed counts as a bad one, never as none: else an optional route would let it through to a laxer reader.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::admission::basic::{self, UserPassword};
use crate::admission::{Auth, Policy, Stop};
use crate::domain::{BearerToken, Denial, TokenKind};

/// The prefix by which a WebSocket subprotocol carries a token in base64url: Kubernetes' convention, since browsers let a
/// page set no other header of the handshake.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.";
/// What Kubernetes itself puts between prefix and token.
const WEBSOCKET_DOMAIN: &str = "k8s.io.";
/// The parameter that RFC 6750 §2.3 names.
const QUERY_PARAMETER: &str = "access_token";

const TWO_TOKENS: Stop = Stop::Ambiguous("the request carries more than one token");
const TWO_AUTHORIZATIONS: Stop = Stop::Ambiguous("the request has more than one Authorization");
const IN_QUERY: Stop = Stop::Ambiguous("a token in the query is not accepted here");
const MALFORMED: Stop = Stop::Denied(Denial::Malformed);

/// Where a token may stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
    Bearer,
    /// A cookie of that name.
    Cookie(Box<str>),
    /// A header of that name, with or without `Bearer` before the token.
    Header(HeaderName),
    /// An item of `Sec-WebSocket-Protocol`: `base64url.bearer.authorization.k8s.io.` and the token in base64url, with any
    /// or no domain; or the item after the item `bearer`.
    WebSocketProtocol,
    /// `Authorization: Basic`, with a username and a session password (RFC 7617).
    SessionPassword,
    /// `Authorization` with that scheme instead of `Bearer`, in lower case; for API keys only.
    Scheme(Box<str>),
    /// A parameter of that name in the query; for API keys only. It goes to the upstream as it stands.
    Query(Box<str>),
}

/// A text that names no place for a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no place for a token; places are bearer, cookie:NAME, header:NAME, websocket-protocol, session-password, scheme:NAME, query:NAME"
)]
pub struct UnknownPlace(String);

impl FromStr for Place {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let unknown = || UnknownPlace(text.to_owned());
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            None if text == "websocket-protocol" => Ok(Self::WebSocketProtocol),
            None if text == "session-password" => Ok(Self::SessionPassword),
            // A bearer token has a place of its own.
            Some(("scheme", name)) if is_token(name) && !name.eq_ignore_ascii_case("bearer") => {
                Ok(Self::Scheme(name.to_ascii_lowercase().into()))
            }
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.into())),
            Some(("query", name)) if is_token(name) => Ok(Self::Query(name.into())),
            Some(("header", name)) => {
                let name: HeaderName = name.parse().map_err(|_| unknown())?;
                // These have a form of their own, for which there are places.
                let taken = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL].contains(&name);
                if taken { Err(unknown()) } else { Ok(Self::Header(name)) }
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::WebSocketProtocol => f.write_str("websocket-protocol"),
            Self::SessionPassword => f.write_str("session-password"),
            Self::Scheme(name) => write!(f, "scheme:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// What a request shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A token, and what it stands there as.
    Token {
        /// The token.
        token: BearerToken,
        /// What it is used as: an API key where the route says that one stands.
        kind: TokenKind,
    },
    /// The password of a session. It is between us and the client: it goes to no upstream.
    Password(UserPassword),
}

/// Finds the one token of a request.
pub(super) fn extract(headers: &HeaderMap, query: Option<&str>, policy: &Policy) -> Result<Option<Credential>, Stop> {
    if policy.auth == Auth::None {
        return Ok(None);
    }
    let mut found = Found::default();
    let head = Head { headers, query: query.unwrap_or_default() };
    from_query(head.query, policy, &mut found)?;
    refuse_several_authorizations(headers)?;
    places(head, &policy.places, policy.first_only, &mut found)?;
    let is_bearer = found.text.is_some();
    if !(is_bearer && policy.first_only) {
        places(head, &policy.api_keys, policy.first_only, &mut found)?;
    }
    let kind = if is_bearer { policy.kind } else { TokenKind::ApiKey };
    found.credential(policy.auth, kind)
}

/// The parts of a request that may hold a token.
#[derive(Clone, Copy)]
struct Head<'r> {
    headers: &'r HeaderMap,
    query: &'r str,
}

/// Looks at these places: at all of them, or at none behind the first that has something.
fn places(head: Head<'_>, places: &[Place], first_only: bool, found: &mut Found) -> Result<(), Stop> {
    for place in places {
        from_place(head, place, found)?;
        if first_only && found.text.is_some() {
            break;
        }
    }
    Ok(())
}

/// Leaves of all places only the first that has something. A place that has nothing we could read may have something for
/// the upstream, so it is emptied as well. Queries stay as they are: no policy has an order of places and one there.
pub(super) fn drop_ignored(headers: &mut HeaderMap, policy: &Policy) {
    let has_something = |place: &&Place| {
        let mut found = Found::default();
        from_place(Head { headers, query: "" }, place, &mut found).is_err() || found.text.is_some()
    };
    let all = || policy.places.iter().chain(&policy.api_keys);
    let Some(kept) = all().find(has_something).and_then(Place::header) else { return };
    for name in all().filter_map(Place::header).filter(|name| *name != kept) {
        headers.remove(name);
    }
}

impl Place {
    /// The header it is in.
    fn header(&self) -> Option<HeaderName> {
        match self {
            Self::Bearer | Self::Scheme(_) | Self::SessionPassword => Some(AUTHORIZATION),
            Self::Cookie(_) => Some(COOKIE),
            Self::Header(name) => Some(name.clone()),
            Self::WebSocketProtocol => Some(SEC_WEBSOCKET_PROTOCOL),
            Self::Query(_) => None,
        }
    }
}

fn from_place(Head { headers, query }: Head<'_>, place: &Place, found: &mut Found) -> Result<(), Stop> {
    match place {
        Place::Bearer => from_authorization(headers, "bearer", found),
        Place::Scheme(scheme) => from_authorization(headers, scheme, found),
        Place::SessionPassword => from_basic(headers, found),
        Place::Cookie(name) => from_cookies(headers, name, found),
        Place::Header(name) => from_header(headers, name, found),
        Place::WebSocketProtocol => from_websocket(headers, found),
        Place::Query(name) => from_parameter(query, name, found),
    }
}

/// What was found so far: the text of one credential, well-formed or not.
#[derive(Default)]
struct Found {
    text: Option<Vec<u8>>,
    is_basic: bool,
    is_in_query: bool,
}

impl Found {
    /// A second credential is one too many, even if it is the same.
    fn add(&mut self, text: impl Into<Vec<u8>>) -> Result<(), Stop> {
        if self.text.replace(text.into()).is_some() { Err(TWO_TOKENS) } else { Ok(()) }
    }

    fn credential(self, auth: Auth, kind: TokenKind) -> Result<Option<Credential>, Stop> {
        let Some(text) = self.text else {
            return if auth == Auth::Required { Err(Stop::Denied(Denial::Missing)) } else { Ok(None) };
        };
        if text.contains(&b',') {
            return Err(TWO_TOKENS);
        }
        if self.is_basic {
            return basic::parse(&text).map(|shown| Some(Credential::Password(shown))).ok_or(MALFORMED);
        }
        let token = std::str::from_utf8(&text).ok().and_then(BearerToken::parse);
        token.map(|token| Some(Credential::Token { token, kind })).ok_or(MALFORMED)
    }
}

/// Two fields, or two credentials joined by a comma, and who knows which one counts.
fn refuse_several_authorizations(headers: &HeaderMap) -> Result<(), Stop> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(()) };
    let credentials = |field: &[u8]| {
        let mut joined = field.split(|byte| *byte == b',').skip(1).map(<[u8]>::trim_ascii);
        joined.any(|part| after_scheme(part, "bearer").is_some())
    };
    // Most have no comma, and to find none is quicker than to split at none.
    let is_joined = field.as_bytes().contains(&b',') && credentials(field.as_bytes());
    if fields.next().is_some() || is_joined { Err(TWO_AUTHORIZATIONS) } else { Ok(()) }
}

/// RFC 6750 §2.1. Another scheme is no token.
fn from_authorization(headers: &HeaderMap, scheme: &str, found: &mut Found) -> Result<(), Stop> {
    match headers.get(AUTHORIZATION).and_then(|field| after_scheme(field.as_bytes(), scheme)) {
        None => Ok(()),
        Some(rest) => found.add(rest?),
    }
}

/// RFC 7617: what comes behind `Basic` is read when it is the only credential.
fn from_basic(headers: &HeaderMap, found: &mut Found) -> Result<(), Stop> {
    let before = found.text.is_some();
    from_authorization(headers, "basic", found)?;
    found.is_basic |= !before && found.text.is_some();
    Ok(())
}

/// What follows the scheme, in any case; `None` for another scheme. One or more spaces come between (RFC 9110
/// §11.4); anything else between makes the credential malformed.
fn after_scheme<'f>(field: &'f [u8], scheme: &str) -> Option<Result<&'f [u8], Stop>> {
    let (given, rest) = field.split_at_checked(scheme.len())?;
    if !given.eq_ignore_ascii_case(scheme.as_bytes()) || rest.first().copied().is_some_and(is_token_byte) {
        return None;
    }
    let token = rest.iter().position(|byte| *byte != b' ').and_then(|at| rest.get(at..).filter(|_| at > 0));
    Some(token.ok_or(MALFORMED))
}

/// Every field and every pair (RFC 6265 §5.4; HTTP/2 splits fields, RFC 9113 §8.2.3). An empty cookie is none.
fn from_cookies(headers: &HeaderMap, name: &str, found: &mut Found) -> Result<(), Stop> {
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = fields.flat_map(|field| field.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let mut seen = false;
    for pair in pairs {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        if parts.next().map(<[u8]>::trim_ascii_end) != Some(name.as_bytes()) {
            continue;
        }
        if std::mem::replace(&mut seen, true) {
            return Err(Stop::Ambiguous("the request has two cookies of one name"));
        }
        let value = unquoted(parts.next().unwrap_or_default().trim_ascii_start());
        // Servers keep a key of the query in a cookie, so that the client's next request has it twice.
        let is_repeated = found.is_in_query && found.text.as_deref() == Some(value);
        if !(value.is_empty() || is_repeated) {
            found.add(value)?;
        }
    }
    Ok(())
}

/// A cookie's value may stand in double quotes (RFC 6265 §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn from_header(headers: &HeaderMap, name: &HeaderName, found: &mut Found) -> Result<(), Stop> {
    let mut fields = headers.get_all(name).iter();
    let Some(field) = fields.next() else { return Ok(()) };
    if fields.next().is_some() {
        return Err(TWO_TOKENS);
    }
    match after_scheme(field.as_bytes(), "bearer") {
        Some(token) => found.add(token?),
        None if field.is_empty() => Ok(()),
        None => found.add(field.as_bytes()),
    }
}

/// The items of all fields (RFC 6455 §11.3.4).
fn from_websocket(headers: &HeaderMap, found: &mut Found) -> Result<(), Stop> {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes);
    let mut items = fields.flat_map(|field| field.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    while let Some(item) = items.next() {
        if item.eq_ignore_ascii_case(b"bearer") {
            found.add(items.next().unwrap_or_default())?;
        } else if let Some(encoded) = item.strip_prefix(WEBSOCKET_PREFIX.as_bytes()) {
            found.add(encoded_token(encoded)?)?;
        }
    }
    Ok(())
}

fn encoded_token(encoded: &[u8]) -> Result<Vec<u8>, Stop> {
    let encoded = encoded.strip_prefix(WEBSOCKET_DOMAIN.as_bytes()).unwrap_or(encoded);
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| MALFORMED)
}

/// A parameter named `access_token` is refused wherever the route does not ask for it: the upstream may read it. Names are
/// compared as an upstream might read them: decoded, in any case, and split at `;` as well.
fn from_query(query: &str, policy: &Policy, found: &mut Found) -> Result<(), Stop> {
    let wanted = policy.query_token.as_deref();
    let is_place =
        |name: &[u8]| policy.api_keys.iter().any(|place| matches!(place, Place::Query(own) if own.as_bytes() == name));
    let mut seen = false;
    for (name, value) in parameters(query) {
        if wanted.is_some_and(|wanted| name == wanted.as_bytes()) {
            if std::mem::replace(&mut seen, true) {
                return Err(TWO_TOKENS);
            }
            found.add(decoded(value))?;
        } else if name.eq_ignore_ascii_case(QUERY_PARAMETER.as_bytes()) && !is_place(&name) {
            return Err(IN_QUERY);
        }
    }
    Ok(())
}

/// An empty parameter is none, as an empty cookie is.
fn from_parameter(query: &str, wanted: &str, found: &mut Found) -> Result<(), Stop> {
    let mut values = parameters(query).filter(|(name, _)| name == wanted.as_bytes()).map(|(_, value)| decoded(value));
    let Some(value) = values.next() else { return Ok(()) };
    if values.next().is_some() {
        return Err(TWO_TOKENS);
    }
    if !value.is_empty() {
        found.add(value)?;
        found.is_in_query = true;
    }
    Ok(())
}

/// The parameters of a query: names decoded, values as they stand.
fn parameters(query: &str) -> impl Iterator<Item = (Vec<u8>, &str)> {
    let pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), value))
}

/// `application/x-www-form-urlencoded`, decoded; what is no escape stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, escape(after)) {
            (b'+', _) => decoded.push(b' '),
            (b'%', Some((escaped, after))) => {
                decoded.push(escaped);
                rest = after;
            }
            _ => decoded.push(*byte),
        }
    }
    decoded
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_at_checked(2)?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let value = digits.iter().try_fold(0, |value, byte| digit(byte).map(|digit| value * 16 + digit))?;
    u8::try_from(value).ok().map(|byte| (byte, after))
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// RFC 9110 §5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
