//! The admin side as its callers see it: the whole router, called in process, over a store in memory.

mod commands;
mod door;
mod elasticsearch;
mod events;
mod me;
mod privx;
mod replicas;
mod requests;
mod sessions;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use crate::admin::{
    Admin, Credential, Fingerprint, Parts, Place, Readiness, RouteCheck, RouteVerdict, Settings, answer, native,
};
use crate::clock::ManualClock;
use crate::control::{self, Control, Tokens};
use crate::domain::{
    BearerToken, Change, Claims, Denial, Memo, ReplicaIdentity, Revocation, Right, Rights, Timestamp, TokenDigest,
    TokenKind,
};
use crate::index::Index;
use crate::live::Live;
use crate::net::client::{self, CallError};
use crate::net::{Peer, TlsPeer};
use crate::store::{self, Backend, Store};
use crate::sync::{self, Follower, Heartbeat, HeartbeatSettings};
use crate::telemetry::Metrics;
use crate::verify::{self, Fetch, IssuerFacts, IssuerSettings, Verifier, VerifyError};

const JSON: &str = "application/json";
const HOME: &str = "192.0.2.1:50000";

struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn obstacles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One route, `orders`, under `/orders`.
struct OneRoute;

impl RouteCheck for OneRoute {
    fn judge(&self, place: &Place, _: &Claims) -> Option<RouteVerdict> {
        let orders = place.route.as_deref() == Some("orders")
            || place.path.as_deref().is_some_and(|path| path.starts_with("/orders"));
        orders.then(|| RouteVerdict { route: "orders".to_owned(), denial: None })
    }
}

/// Tokens of the form `KIND.USER.ID`, issued at the clock's start by the first of these issuers, `main`.
#[derive(Debug)]
struct FakeTokens(Vec<IssuerFacts>);

fn facts(name: &str, iss: &str) -> IssuerFacts {
    IssuerFacts {
        name: name.into(),
        issuer: iss.into(),
        max_token_lifetime: Some(Duration::from_secs(3600)),
        max_refresh_token_lifetime: None,
        longest_life: Some(Duration::from_secs(3600)),
        leeway: Duration::from_secs(30),
        lead: Duration::ZERO,
        uuid_sessions: false,
    }
}

const ISS: &str = "https://id.example.com/";
const START: u64 = 1_790_000_000;

#[async_trait]
impl Tokens for FakeTokens {
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial> {
        let mut parts = token.expose().split('.');
        let (Some(kind), Some(user), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Denial::Malformed);
        };
        Ok(Claims {
            issuer: ISS.into(),
            kind: kind.parse().map_err(|_| Denial::Malformed)?,
            digest: TokenDigest::new([1; 32]),
            token_id: Some(id.into()),
            session: Some(format!("{user}-session").into()),
            user: Some(user.into()),
            username: None,
            client: None,
            key_id: None,
            issued_at: Some(Timestamp::from_secs(START)),
            expires_at: Some(Timestamp::from_secs(START + 300)),
            scopes: [].into(),
            other: [("device_id".into(), ["phone".into()].into())].into(),
            family: None,
            twins: Box::default(),
            generation: None,
            memo: Memo::default(),
        })
    }

    async fn verify(&self, token: &BearerToken, _: TokenKind) -> Result<Arc<Claims>, VerifyError> {
        self.read(token).await.map(Arc::new).map_err(VerifyError::Denied)
    }

    fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        Ok(Claims::bare(issuer.into(), kind, digest_of(token.expose())))
    }

    async fn vouched(&self, _: &str, token: &BearerToken, kind: TokenKind) -> Result<Option<Arc<Claims>>, VerifyError> {
        Ok(self.read(token).await.ok().filter(|claims| claims.kind == kind).map(Arc::new))
    }

    fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        self.issuers().into_iter().find(|facts| [&*facts.name, &*facts.issuer].contains(&name_or_iss))
    }

    fn issuers(&self) -> Vec<IssuerFacts> {
        self.0.clone()
    }

    fn would_kill(&self, _: &Revocation) -> usize {
        3
    }
}

struct Rig {
    admin: Arc<Admin>,
    router: Router,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    store: Store,
    heartbeat: Heartbeat,
    _follower: Follower,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    #[track_caller]
    fn problem(&self) -> Value {
        assert_eq!(self.headers.get(CONTENT_TYPE).unwrap(), "application/problem+json", "{}", self.text);
        let problem: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["type"].as_str().unwrap().starts_with("urn:portcullis:problem:"));
        problem
    }

    #[track_caller]
    fn detail(&self) -> String {
        self.problem()["detail"].as_str().unwrap().to_owned()
    }
}

fn credential(secret: &str, rights: &[Right]) -> Credential {
    let rights: Rights = rights.iter().copied().collect();
    Credential { name: format!("{secret}-caller").into(), sha256: Fingerprint::of(secret.as_bytes()), rights }
}

fn settings() -> Settings {
    let credentials = vec![
        credential("admin", &[Right::Admin]),
        credential("revoker", &[Right::SessionsRevoke]),
        credential("reader", &[Right::SessionsRead]),
        credential("auditor", &[Right::AuditRead]),
        credential("nobody", &[]),
    ];
    Settings { credentials, ..Settings::default() }
}

impl Rig {
    async fn new(settings: Settings) -> Self {
        Self::with_issuers(settings, Vec::new(), String::new()).await
    }

    /// With issuers that sign with the keys of `jwks`.
    async fn with_issuers(settings: Settings, issuers: Vec<IssuerSettings>, jwks: String) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(START));
        let metrics = Metrics::new();
        let store = store::Settings::new(Backend::Memory);
        let store = Store::open(&store, clock.clone(), metrics.clone()).await.unwrap();
        let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
        let live = Live::new(metrics.clone());
        let (log, on_change) = (store.log.clone(), Arc::new(|_: &Change| {}));
        let (parts, settled) = ((index.clone(), live.clone()), sync::Settings::default());
        let follower = Follower::start(log, parts, clock.clone(), metrics.clone(), on_change, settled);
        follower.loaded().await.unwrap();
        let further = issuers.iter().filter(|issuer| *issuer.issuer != *ISS);
        let further = further.map(|issuer| facts(&issuer.name, &issuer.issuer));
        let tokens = Arc::new(FakeTokens(std::iter::once(facts("main", ISS)).chain(further).collect()));
        let settled = HeartbeatSettings {
            replica: ReplicaIdentity::default(),
            lease: Duration::from_secs(10),
            started_at: Timestamp::from_secs(START),
        };
        let heartbeat =
            Heartbeat::start(store.replicas.clone(), (index.clone(), follower.doubt()), clock.clone(), settled);
        let control = Control::new(&store, (index, live), tokens, clock.clone(), control::Settings::default());
        let parts = Parts {
            control,
            verifier: Arc::new(verifier(issuers, jwks, &clock, &metrics)),
            metrics: metrics.clone(),
            clock: clock.clone(),
            readiness: Arc::new(AlwaysReady),
            routes: Some(Arc::new(OneRoute)),
        };
        let admin = Admin::new(parts, settings);
        Self {
            router: answer::around(native::router(&admin).with_state(admin.clone()), &admin),
            admin,
            clock,
            metrics,
            store,
            heartbeat,
            _follower: follower,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let service = TowerToHyperService::new(self.router.clone());
        let response = service.call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }

    async fn get(&self, secret: &str, path: &str) -> Answer {
        self.send(request(Method::GET, path, secret, "")).await
    }

    async fn post(&self, secret: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, secret, body)).await
    }
}

fn verifier(issuers: Vec<IssuerSettings>, jwks: String, clock: &Arc<ManualClock>, metrics: &Arc<Metrics>) -> Verifier {
    let settings = verify::Settings { issuers, ..verify::Settings::default() };
    let calls = |_: &IssuerSettings| Ok(Arc::new(Jwks(jwks.clone().into())) as Arc<dyn Fetch>);
    Verifier::new(settings, &calls, clock.clone(), metrics.clone()).unwrap()
}

/// The one opaque token there is: alice's, of session `s1`.
const OPAQUE: &str = "opaque-token-of-alice";

/// Answers every question about keys with these, and knows [`OPAQUE`].
#[derive(Debug)]
struct Jwks(Bytes);

#[async_trait]
impl Fetch for Jwks {
    async fn get(&self, _: &Uri, _: usize) -> Result<client::Answer, CallError> {
        Ok(client::Answer { status: 200, max_age: None, body: self.0.clone() })
    }

    async fn post_form(
        &self,
        _: &Uri,
        _: (&str, &str),
        fields: &[(&str, &str)],
        _: usize,
    ) -> Result<client::Answer, CallError> {
        assert!(fields.contains(&("token", OPAQUE)), "no other token is shown to an issuer");
        let said = json!({"active": true, "iss": ISS, "sub": "alice", "sid": "s1", "iat": START, "exp": START + 300});
        Ok(client::Answer { status: 200, max_age: None, body: said.to_string().into() })
    }
}

fn request(method: Method, path: &str, secret: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request.extensions_mut().insert(peer(HOME, None));
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    if !secret.is_empty() {
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {secret}")).unwrap());
    }
    request
}

fn peer(address: &str, certificate: Option<Fingerprint>) -> Arc<Peer> {
    let tls = certificate
        .map(|certificate| TlsPeer { server_name: None, client_certificate_sha256: Some(certificate.to_hex().into()) });
    Arc::new(Peer { address: address.parse().unwrap(), tls })
}

const ALICE: &str = "access.alice.t1";

impl Rig {
    async fn json(&self, secret: &str, path: &str) -> Value {
        let answer = self.get(secret, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    async fn revoke(&self, body: Value) -> (u16, Value) {
        let answer = self.post("admin", "/v1/revocations", body.to_string()).await;
        (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap())
    }

    async fn check(&self, body: Value) -> Value {
        let answer = self.post("reader", "/v1/check", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    async fn lines(&self, path: &str, body: impl Into<Body>) -> Vec<Value> {
        let mut request = request(Method::POST, path, "admin", body);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let answer = self.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn digest_of(text: &str) -> TokenDigest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    TokenDigest::new(digest.as_ref().try_into().unwrap())
}
