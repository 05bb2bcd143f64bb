//! The part of PrivX that is not ours: a login that hands out tokens as PrivX writes them, and a service behind it. The
//! product itself cannot be had, so this is made after its reference: JWTs under the name `Ed25519` with their padding left
//! on, opaque refresh tokens in base32, a password grant and a refresh grant, OAuth errors.
//!
//! A login may be opened from another session, which PrivX's own answers do not say: a form field asks for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Request, Response};
use serde_json::{Value, json};

use crate::rig::http::{Answer, form};
use crate::rig::keys::{Alg, Key, payload};
use crate::rig::now;
use crate::rig::serve::{Body, Server, full};

/// Where tokens are handed out.
pub(crate) const TOKEN: &str = "/auth/api/v1/oauth/token";
/// Where the session storage is, whoever keeps it.
pub(crate) const STORAGE: &str = "/auth/api/v1/sessionstorage";
/// Who signs.
pub(crate) const ISS: &str = "oam.auth.ssh.com";
/// The OAuth client of API clients, and its secret.
pub(crate) const OAUTH: (&str, &str) = ("privx-external", "oauth-secret");

/// Somebody who can log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) user: &'static str,
    permissions: &'static str,
}

/// An API client that may do everything.
pub(crate) const ADMIN: Account =
    account("admin-client", "c1aa0000-0000-4000-8000-000000000001", "privx-admin,privx-user");
/// One that only looks.
pub(crate) const VIEWER: Account = account("view-client", "c1aa0000-0000-4000-8000-000000000002", "users-view");
/// One that only ends.
pub(crate) const MANAGER: Account = account("manage-client", "c1aa0000-0000-4000-8000-000000000003", "users-manage");
/// Two ordinary users.
pub(crate) const ALICE: Account = account("alice", "a11ce000-0000-4000-8000-000000000004", "privx-user");
pub(crate) const BOB: Account = account("bob", "b0b00000-0000-4000-8000-000000000005", "privx-user");

const fn account(name: &'static str, user: &'static str, permissions: &'static str) -> Account {
    Account { name, secret: "api-secret", user, permissions }
}

/// What a login or a refresh answered.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    /// `sessionid` of the access token.
    pub(crate) session: String,
}

impl Tokens {
    /// Reads a good answer.
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let reply = answer.json();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {reply}")).to_owned();
        let access = text(&reply["access_token"]);
        let session = text(&payload(&access)["sessionid"]);
        Self { access, refresh: text(&reply["refresh_token"]), session }
    }
}

/// A running upstream.
pub(crate) struct PrivX {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    key: Key,
    /// Refresh tokens that are good, with whose session each is.
    refreshes: Mutex<HashMap<String, (Account, String)>>,
    seen: Mutex<Vec<String>>,
}

impl PrivX {
    pub(crate) async fn start() -> Self {
        let shared = Shared { key: Key::new("k0", Alg::EdDsa), refreshes: Mutex::default(), seen: Mutex::default() };
        let shared = Arc::new(shared);
        let of = shared.clone();
        Self { server: Server::start(None, move |request| answer(of.clone(), request)).await, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its key set, for a file.
    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.shared.key.jwk()]}).to_string()
    }

    /// The paths of all requests that reached it.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// A token of that session and user that nobody handed out, with these members beside the usual ones in its header.
    pub(crate) fn sign(&self, header: &Value, of: Account, session: &str) -> String {
        self.shared.sign(header, of, session)
    }
}

/// A login with a user's name and secret.
pub(crate) fn login(of: Account) -> Request<Body> {
    login_from(of, "")
}

/// The same from another session.
pub(crate) fn login_from(of: Account, parent: &str) -> Request<Body> {
    let fields = [("grant_type", "password"), ("username", of.name), ("password", of.secret), ("parent", parent)];
    with_client(form(TOKEN, &fields))
}

/// A refresh token to be redeemed, as the browser client sends it: without a client's own credentials.
pub(crate) fn refresh(token: &str) -> Request<Body> {
    form(TOKEN, &[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "privx-ui")])
}

fn with_client(mut request: Request<Body>) -> Request<Body> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", OAUTH.0, OAUTH.1)));
    request.headers_mut().insert(AUTHORIZATION, basic.parse().unwrap());
    request
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    shared.seen.lock().unwrap().push(path.clone());
    let Ok(body) = body.collect().await else { return refused(400, "invalid_request") };
    match (head.method.as_str(), &*path) {
        ("POST", TOKEN) => shared.token(&head.headers, &String::from_utf8_lossy(&body.to_bytes())),
        (_, TOKEN) => refused(400, "invalid_request"),
        _ => json_of(200, &json!({ "path": path })),
    }
}

impl Shared {
    fn token(&self, headers: &HeaderMap, body: &str) -> Response<Body> {
        let fields: HashMap<&str, String> =
            body.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name, plain(value))).collect();
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        match field("grant_type") {
            "password" if !is_client(headers) => refused(400, "invalid_client"),
            "password" => self.login(field("username"), field("password"), field("parent")),
            "refresh_token" => {
                let found = self.refreshes.lock().unwrap().remove(field("refresh_token"));
                found.map_or_else(|| refused(400, "invalid_grant"), |(of, session)| self.hand_out(of, &session, ""))
            }
            _ => refused(400, "unsupported_grant_type"),
        }
    }

    fn login(&self, name: &str, secret: &str, parent: &str) -> Response<Body> {
        let known = [ADMIN, VIEWER, MANAGER, ALICE, BOB].into_iter();
        match known.into_iter().find(|known| known.name == name && known.secret == secret) {
            Some(of) => self.hand_out(of, &uuid(), parent),
            None => refused(400, "invalid_grant"),
        }
    }

    fn hand_out(&self, of: Account, session: &str, parent: &str) -> Response<Body> {
        let refresh = base32();
        self.refreshes.lock().unwrap().insert(refresh.clone(), (of, session.to_owned()));
        let access = self.sign(&json!({}), of, session);
        let mut reply = json!({"access_token": access, "token_type": "bearer", "expires_in": 300, "refresh_token": refresh,
            "scope": "privx-ui"});
        if !parent.is_empty() {
            reply["parent"] = json!(parent);
        }
        json_of(200, &reply)
    }

    /// What is signed are the padded texts.
    fn sign(&self, header: &Value, of: Account, session: &str) -> String {
        let mut head = json!({"alg": "Ed25519", "typ": "JWT"});
        for (name, value) in header.as_object().unwrap() {
            head[name] = value.clone();
        }
        let issued = now();
        let claims = json!({"sessionid": session, "userid": of.user, "domain": "privx-ui", "aud": "privx-ui",
            "permissions": of.permissions, "iss": ISS, "iat": issued, "exp": issued + 300, "nonce": uuid()});
        let signed = format!("{}.{}", URL_SAFE.encode(head.to_string()), URL_SAFE.encode(claims.to_string()));
        format!("{signed}.{}", URL_SAFE.encode(self.key.signature(signed.as_bytes())))
    }
}

fn is_client(headers: &HeaderMap) -> bool {
    let basic = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    basic == Some(&*STANDARD.encode(format!("{}:{}", OAUTH.0, OAUTH.1)))
}

fn refused(status: u16, error: &str) -> Response<Body> {
    json_of(status, &json!({"error": error, "error_description": "refused"}))
}

fn json_of(status: u16, content: &Value) -> Response<Body> {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    answer.body(full(content.to_string())).unwrap()
}

/// A form's value without its encoding.
fn plain(value: &str) -> String {
    let mut parts = value.split('%');
    let first = parts.next().unwrap_or_default().replace('+', " ");
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        format!("{text}{}{}", char::from(u8::from_str_radix(code, 16).unwrap()), rest.replace('+', " "))
    })
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

fn uuid() -> String {
    let hex: String = random().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// A few hundred letters of base32 (RFC 4648 §6).
fn base32() -> String {
    let letter = |bits: u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(bits & 31)]);
    (0..16).flat_map(|_| random()).map(letter).collect()
}
