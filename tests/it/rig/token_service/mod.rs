//! A token endpoint inside the test, quick and obedient: it issues tokens of any make, rotates or not, holds answers back,
//! fails on demand, and keeps books on what it was asked and what it minted.
//!
//! | field | asks for |
//! |---|---|
//! | `username` (and any password), or `code` | a login of that user, as `client_id` |
//! | `refresh_token` | a successor |
//!
//! It is as forgiving a reader as any upstream could be (`lenient`), and knows its endpoint by any path that ends in
//! `token`; it answers 404 to other paths. Replies are laid out as no machine would, so that a changed byte shows.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::rig::http::{Answer, ask, form, posted};
use crate::rig::serve::{Body, BoxError, Server, Tap, full};
use crate::rig::{Signer, within};

mod gate;
mod grants;
mod lenient;

pub(crate) use gate::{Gate, Stage};
use grants::Grants;
pub(crate) use grants::{Issued, Make, Manner, Rotation, oauth2};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What goes wrong with the next request.
#[derive(Clone, Debug)]
pub(crate) enum Mishap {
    /// Nothing is minted, and this is the answer.
    Refused(u16, Value),
    /// The tokens are minted, and the connection breaks in the middle of the answer.
    Torn,
    /// The tokens are minted, and the answer is of the story's own making.
    Answered(fn(&Issued, Value) -> Response<Body>),
}

/// A token service on loopback.
pub(crate) struct TokenService {
    server: Server,
    shared: Arc<Shared>,
    arrived: watch::Receiver<usize>,
}

struct Shared {
    grants: Mutex<Grants>,
    seen: Mutex<Vec<Seen>>,
    tap: Tap,
    bar: Mutex<Option<gate::Bar>>,
    mishaps: Mutex<VecDeque<Mishap>>,
    arrivals: watch::Sender<usize>,
}

impl TokenService {
    /// One that issues in this manner, in the name of whoever signs.
    pub(crate) async fn start(manner: Manner, signer: Signer) -> Self {
        let (arrivals, arrived) = watch::channel(0);
        let shared = Arc::new(Shared {
            grants: Mutex::new(Grants::new(manner, signer)),
            seen: Mutex::default(),
            tap: Tap::default(),
            bar: Mutex::default(),
            mishaps: Mutex::default(),
            arrivals,
        });
        let of = shared.clone();
        let server = Server::tapped(shared.tap.clone(), move |request| answer(of.clone(), request)).await;
        Self { server, shared, arrived }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Every byte that ever arrived.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.shared.tap.lock().unwrap().clone()
    }

    /// Waits until that many requests have arrived in all.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.clone();
        within("a request", arrived.wait_for(|so_far| *so_far >= count)).await.unwrap();
    }

    /// All it ever issued, in order.
    pub(crate) fn issued(&self) -> Vec<Issued> {
        self.shared.grants.lock().unwrap().issued().to_vec()
    }

    /// Every token text it ever issued.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.issued().into_iter().flat_map(|issued| [issued.access, issued.refresh]).collect()
    }

    /// How often a refresh token was presented, whatever came of it.
    pub(crate) fn presented(&self, refresh: &str) -> usize {
        self.shared.grants.lock().unwrap().presented(refresh)
    }

    /// What was minted for a refresh token; more than one is a fork.
    pub(crate) fn minted_for(&self, refresh: &str) -> Vec<Issued> {
        self.issued().into_iter().filter(|issued| issued.from.as_deref() == Some(refresh)).collect()
    }

    /// Puts a gate across a stage, which all requests come to from now on; it takes the place of an earlier one.
    pub(crate) fn hold(&self, stage: Stage) -> Gate {
        let gate = Gate::across(stage);
        *self.shared.bar.lock().unwrap() = Some(gate.bar());
        gate
    }

    /// What is to go wrong with the next request that has no mishap yet.
    pub(crate) fn spoil(&self, mishap: Mishap) {
        self.shared.mishaps.lock().unwrap().push_back(mishap);
    }

    /// Ends a session as its own operator would.
    pub(crate) fn end(&self, session: &str) {
        self.shared.grants.lock().unwrap().end(session);
    }
}

/// A login at a token service, or at a gateway in front of it.
pub(crate) fn login(path: &str, user: &str, client: &str) -> Request<Body> {
    form(path, &[("grant_type", "password"), ("username", user), ("password", "secret"), ("client_id", client)])
}

/// A refresh token in a form.
pub(crate) fn refresh(path: &str, token: &str, client: &str) -> Request<Body> {
    form(path, &[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)])
}

/// A refresh token in JSON.
pub(crate) fn refresh_json(path: &str, token: &str) -> Request<Body> {
    posted(path, "application/json", json!({"grant_type": "refresh_token", "refresh_token": token}).to_string())
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return refusal(400, &json!({"error": "torn"})) };
    let body = body.to_bytes();
    let fields = lenient::Fields::read(head.uri.query().unwrap_or_default(), media(&head.headers), &body);
    let known = lenient::is_token_path(head.uri.path());
    let target = head.uri.to_string();
    shared.seen.lock().unwrap().push(Seen { method: head.method, target, headers: head.headers, body });
    shared.arrivals.send_modify(|count| *count += 1);
    if !known {
        return refusal(404, &json!({"error": "not_found"}));
    }
    let mishap = shared.mishaps.lock().unwrap().pop_front();
    serve(&shared, &fields, mishap).await
}

fn media(headers: &HeaderMap) -> &str {
    headers.get("content-type").and_then(|media| media.to_str().ok()).unwrap_or_default()
}

async fn serve(shared: &Shared, fields: &lenient::Fields, mishap: Option<Mishap>) -> Response<Body> {
    let bar = shared.bar.lock().unwrap().clone();
    let pass = async |stage| {
        if let Some(bar) = &bar {
            bar.pass(stage).await;
        }
    };
    pass(Stage::Arrived).await;
    if let Some(Mishap::Refused(status, reply)) = &mishap {
        return refusal(*status, reply);
    }
    let Some((issued, reply)) = issue(shared, fields) else {
        return refusal(400, &json!({"error": "invalid_grant", "error_description": "not good for anything"}));
    };
    pass(Stage::Minted).await;
    match mishap {
        Some(Mishap::Answered(answer)) => answer(&issued, reply),
        mishap => in_two_pieces(&reply, bar, mishap.is_some()),
    }
}

/// Does as it was asked; `None` when that was for nothing it knows.
fn issue(shared: &Shared, fields: &lenient::Fields) -> Option<(Issued, Value)> {
    let mut grants = shared.grants.lock().unwrap();
    let tokens = fields.all("refresh_token");
    let issued = if tokens.is_empty() {
        let user = fields.last("username").or_else(|| fields.last("code"))?;
        grants.login(user, fields.last("client_id").unwrap_or("web"))
    } else {
        // One is good or none is; presenting any of them counts.
        tokens.into_iter().filter_map(|token| grants.redeem(token)).last()?
    };
    let reply = grants.reply(&issued);
    Some((issued, reply))
}

fn refusal(status: u16, reply: &Value) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap();
    head(status).body(full(reply.to_string())).unwrap()
}

fn head(status: StatusCode) -> hyper::http::response::Builder {
    let json = Response::builder().status(status).header("content-type", "application/json;charset=UTF-8");
    json.header("cache-control", "no-store").header("x-token-service", "yes")
}

/// The reply in two pieces: with a gate between them, or a break.
fn in_two_pieces(reply: &Value, bar: Option<gate::Bar>, torn: bool) -> Response<Body> {
    let bytes = Bytes::from(format!("{reply:#}\n\n"));
    let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
    let length = bytes.len();
    let pieces = futures_util::stream::unfold(0, move |at| {
        let (first, second, bar) = (first.clone(), second.clone(), bar.clone());
        async move {
            if let (1, Some(bar)) = (at, &bar) {
                bar.pass(Stage::Halfway).await;
            }
            let piece = match at {
                0 => Ok(first),
                1 if torn => Err(BoxError::from("torn")),
                1 => Ok(second),
                _ => return None,
            };
            Some((piece.map(Frame::data), at + 1))
        }
    });
    head(StatusCode::OK).header("content-length", length).body(StreamBody::new(pieces).boxed_unsync()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Issuer;
    use crate::rig::keys::payload;

    async fn service(manner: Manner) -> (Issuer, TokenService) {
        let issuer = Issuer::start("https://id.test/").await;
        let service = TokenService::start(manner, issuer.signer()).await;
        (issuer, service)
    }

    async fn tokens(answer: Answer) -> (String, String) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let reply = answer.json();
        let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    #[tokio::test]
    async fn a_used_token_takes_its_family_along_and_nobody_elses() {
        let (_issuer, service) = service(Manner::default()).await;
        let at = service.address();
        let (_, first) = tokens(ask(at, login("/token", "alice", "web")).await).await;
        let (_, other) = tokens(ask(at, login("/token", "alice", "web")).await).await;
        let (_, second) = tokens(ask(at, refresh("/token", &first, "web")).await).await;
        assert_eq!(ask(at, refresh("/token", &first, "web")).await.status, 400);
        assert_eq!(ask(at, refresh_json("/json/token", &second)).await.status, 400);
        assert_eq!(ask(at, refresh_json("/json/token", &other)).await.status, 200);
        assert_eq!((service.presented(&first), service.minted_for(&first).len()), (2, 1));
        assert_eq!(service.texts().len(), 8);
        let last = service.issued().pop().unwrap();
        service.end(&last.session);
        assert_eq!(ask(at, refresh("/token", &last.refresh, "web")).await.status, 400);
    }

    #[tokio::test]
    async fn every_rotation_does_what_it_says() {
        for (rotation, named, again) in [
            (Rotation::Kept, true, 200),
            (Rotation::Unnamed, false, 200),
            (Rotation::Added, true, 200),
            (Rotation::Forgiving, true, 200),
            (Rotation::Strict, true, 400),
        ] {
            let refresh_token = Make::Jwt(json!({"sid": null}));
            let (_issuer, service) =
                service(Manner { rotation, access: Make::Opaque, refresh: refresh_token, ..Manner::default() }).await;
            let at = service.address();
            let (access, first) = tokens(ask(at, login("/token", "alice", "web")).await).await;
            assert!(!access.contains('.') && payload(&first)["sid"].is_null());
            let (_, second) = tokens(ask(at, refresh("/token", &first, "web")).await).await;
            assert_eq!(!second.is_empty(), named, "{rotation:?}");
            assert_eq!(second == first, rotation == Rotation::Kept, "{rotation:?}");
            let third = ask(at, refresh("/token", &first, "web")).await;
            assert_eq!(third.status, again, "{rotation:?}");
            let same = third.json()["refresh_token"] == json!(second);
            assert_eq!(same, matches!(rotation, Rotation::Kept | Rotation::Forgiving), "{rotation:?}");
        }
    }

    #[tokio::test]
    async fn answers_are_held_and_spoiled_on_demand() {
        let (_issuer, service) = service(Manner::default()).await;
        let at = service.address();
        for stage in [Stage::Arrived, Stage::Minted, Stage::Halfway] {
            let gate = service.hold(stage);
            let before = service.issued().len();
            let asked = tokio::spawn(ask(at, login("/token", "alice", "web")));
            gate.reached().await;
            assert_eq!(service.issued().len() - before, usize::from(stage != Stage::Arrived), "{stage:?}");
            gate.release();
            assert_eq!(asked.await.unwrap().status, 200);
        }
        service.spoil(Mishap::Refused(503, json!({"error": "temporarily_unavailable"})));
        service.spoil(Mishap::Answered(|issued, _| Response::new(full(format!("<p>{}", issued.user)))));
        assert_eq!(ask(at, login("/token", "alice", "web")).await.status, 503);
        assert_eq!(ask(at, login("/token", "alice", "web")).await.text(), "<p>alice");
        service.spoil(Mishap::Torn);
        let mut connection = crate::rig::Connection::open(at, crate::rig::Wire::H1, None).await.unwrap();
        assert!(connection.send(login("/token", "bob", "web")).await.is_err());
        assert_eq!(service.issued().last().unwrap().user, "bob");
        service.arrived(6).await;
        assert_eq!(service.seen().len(), 6);
        assert!(service.bytes().starts_with(b"POST /token HTTP/1.1\r\n"));
    }
}
