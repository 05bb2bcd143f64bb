//! The parts of an Elasticsearch server that are not the gate's: it logs users in, renews tokens and says who somebody is.
//! It never invalidates a token; whoever is refused was refused in front of it. Its tokens have the form of the latest
//! versions, of which it reads as many bytes as the form says, as the real one does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::rig::http::{Answer, ask};
use crate::rig::serve::{Body, Server, full};

/// Where tokens are handed out and, at the gate, taken back.
pub(crate) const TOKEN: &str = "/_security/oauth2/token";
/// The same for clients of major 6.
pub(crate) const LEGACY_TOKEN: &str = "/_xpack/security/oauth2/token";
/// Says who a token's bearer is.
pub(crate) const AUTHENTICATE: &str = "/_security/_authenticate";
const LEGACY_AUTHENTICATE: &str = "/_xpack/security/_authenticate";
/// What stands before a secret: a version, as a variable-length integer.
const VERSION: [u8; 4] = [0x84, 0xb9, 0xd0, 0x04];
const SECRET_BYTES: usize = 24;

/// A running one. The password of everybody is [`password`].
pub(crate) struct Elasticsearch {
    server: Server,
}

/// What a login or a refresh brought.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// Everybody's password.
pub(crate) fn password(user: &str) -> String {
    format!("{user}-password")
}

/// `Authorization` with a name and its secret.
pub(crate) fn named(scheme: &str, name: &str, secret: &str) -> String {
    format!("{scheme} {}", STANDARD.encode(format!("{name}:{secret}")))
}

/// One request with a body of JSON.
pub(crate) async fn send(at: SocketAddr, method: &str, path: &str, credentials: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
    let request = request.header(AUTHORIZATION, credentials);
    let content = if body.is_null() { String::new() } else { body.to_string() };
    ask(at, request.body(full(content)).unwrap()).await
}

/// Logs a user in.
pub(crate) async fn login(at: SocketAddr, user: &str) -> Pair {
    let grant = json!({"grant_type": "password", "username": user, "password": password(user)});
    Pair::of(&send(at, "POST", TOKEN, &named("Basic", user, &password(user)), &grant).await)
}

/// Redeems a refresh token, whatever comes of it.
pub(crate) async fn refresh(at: SocketAddr, user: &str, token: &str) -> Answer {
    let grant = json!({"grant_type": "refresh_token", "refresh_token": token});
    send(at, "POST", TOKEN, &named("Basic", user, &password(user)), &grant).await
}

/// Asks who the bearer of a token is.
pub(crate) async fn whoami(at: SocketAddr, token: &str) -> Answer {
    send(at, "GET", AUTHENTICATE, &format!("Bearer {token}"), &Value::Null).await
}

impl Pair {
    /// Reads a good answer of the token endpoint.
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

impl Elasticsearch {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server::start(None, move |request| answer(state.clone(), request)).await;
        Self { server }
    }

    /// Where it listens itself, past any gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }
}

/// Whose the tokens are, by their secret bytes.
#[derive(Default)]
struct State {
    access: HashMap<Vec<u8>, String>,
    refresh: HashMap<Vec<u8>, String>,
}

impl State {
    /// New tokens; the last eight bytes of their secrets are the same.
    fn hand_out(&mut self, user: &str, renewable: bool) -> Value {
        let mut random = [0_u8; 40];
        SystemRandom::new().fill(&mut random).unwrap();
        let (own, shared) = random.split_at(32);
        let secret = |own: &[u8]| [own, shared].concat();
        let (access, refresh) = (secret(&own[..16]), secret(&own[16..]));
        let mut reply = json!({
            "access_token": written(&access),
            "type": "Bearer",
            "expires_in": 1200,
            "authentication": who(user, "realm"),
        });
        self.access.insert(access, user.to_owned());
        if renewable {
            reply["refresh_token"] = written(&refresh).into();
            self.refresh.insert(refresh, user.to_owned());
        }
        reply
    }

    fn granted(&mut self, caller: &str, asked: &Value) -> (u16, Value) {
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        match text("grant_type") {
            "password" if text("password") == password(text("username")) => {
                (200, self.hand_out(text("username"), true))
            }
            "password" => unauthenticated(),
            "client_credentials" => (200, self.hand_out(caller, false)),
            "refresh_token" => match read(text("refresh_token")).and_then(|secret| self.refresh.remove(&secret)) {
                Some(user) => (200, self.hand_out(&user, true)),
                None => (
                    400,
                    json!({"error": "invalid_grant", "error_description": "could not refresh the requested token"}),
                ),
            },
            _ => (400, json!({"error": "unsupported_grant_type"})),
        }
    }

    /// The user whose credentials these are.
    fn user(&self, credentials: &str) -> Option<String> {
        let (scheme, text) = credentials.split_once(' ')?;
        if scheme == "Bearer" {
            return self.access.get(&read(text)?).cloned();
        }
        let pair = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let (user, secret) = pair.split_once(':')?;
        (secret == password(user)).then(|| user.to_owned())
    }
}

fn written(secret: &[u8]) -> String {
    STANDARD.encode([&VERSION[..], &[SECRET_BYTES as u8], secret].concat())
}

/// As many bytes as the form says, whatever follows them, and whatever the version.
fn read(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    let version = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (length, rest) = bytes.get(version..)?.split_first()?;
    rest.get(..usize::from(*length)).map(<[u8]>::to_vec)
}

fn who(user: &str, by: &str) -> Value {
    let realm = json!({"name": "native", "type": "native"});
    json!({
        "username": user, "roles": [], "full_name": null, "email": null, "metadata": {}, "enabled": true,
        "authentication_realm": realm, "lookup_realm": realm, "authentication_type": by,
    })
}

fn unauthenticated() -> (u16, Value) {
    let cause = json!({"type": "security_exception", "reason": "unable to authenticate user"});
    let mut error = cause.clone();
    error["root_cause"] = json!([cause]);
    (401, json!({"error": error, "status": 401}))
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credentials = header(AUTHORIZATION).to_owned();
    let media = [header(ACCEPT), header(CONTENT_TYPE)].into_iter().find(|media| media.contains("json"));
    let media = media.unwrap_or("application/json").split(',').next().unwrap_or_default().to_owned();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = state.lock().unwrap();
    let (status, said) = match (state.user(&credentials), &head.method, head.uri.path()) {
        (None, ..) => unauthenticated(),
        (Some(user), &Method::POST, TOKEN | LEGACY_TOKEN) => state.granted(&user, &asked),
        (Some(user), &Method::GET, AUTHENTICATE | LEGACY_AUTHENTICATE) => {
            (200, who(&user, if credentials.starts_with("Bearer") { "token" } else { "realm" }))
        }
        (Some(_), &Method::GET, "/") => {
            let version = json!({"number": "8.19.0", "build_flavor": "default"});
            (200, json!({"name": "model", "version": version, "tagline": "You Know, for Search"}))
        }
        _ => (404, json!({"error": "no handler found", "status": 404})),
    };
    let mut response = Response::new(full(said.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, media.parse().unwrap());
    response.headers_mut().insert("x-elastic-product", "Elasticsearch".parse().unwrap());
    response
}
