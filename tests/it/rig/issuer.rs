//! A fast issuer inside the test: it signs whatever claims a story wants, serves its key set, rotates and fails on demand.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::{Response, StatusCode};
use portcullis::clock::SystemClock;
use serde_json::{Value, json};

use crate::rig::keys::{Alg, Key};
use crate::rig::serve::{Server, full};

/// A token as a story holds it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) claims: Value,
}

impl Token {
    /// A claim's text.
    pub(crate) fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or_default()
    }

    pub(crate) fn jti(&self) -> &str {
        self.claim("jti")
    }
}

/// An issuer with its key set on loopback.
pub(crate) struct Issuer {
    signer: Signer,
    state: Arc<State>,
    server: Server,
}

/// An issuer's hand: what signs in its name, wherever that is done.
#[derive(Clone)]
pub(crate) struct Signer {
    iss: String,
    keys: Arc<Mutex<Vec<Key>>>,
    serial: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
struct State {
    fetches: AtomicUsize,
    down: AtomicBool,
}

impl Issuer {
    /// An issuer of that `iss`, with an ES256 key.
    pub(crate) async fn start(iss: &str) -> Self {
        let keys = Arc::new(Mutex::new(vec![Key::new("k0", Alg::Es256)]));
        let signer = Signer { iss: iss.to_owned(), keys: keys.clone(), serial: Arc::default() };
        let state = Arc::new(State::default());
        let (served, counted) = (keys, state.clone());
        let server = Server::start(None, move |_| {
            counted.fetches.fetch_add(1, Ordering::SeqCst);
            let jwks: Vec<Value> = served.lock().unwrap().iter().map(Key::jwk).collect();
            let down = counted.down.load(Ordering::SeqCst);
            let status = if down { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            let body = if down { "{}".to_owned() } else { json!({ "keys": jwks }).to_string() };
            let answer = Response::builder().status(status).header("content-type", "application/json");
            std::future::ready(answer.body(full(body)).unwrap())
        });
        Self { signer, state, server: server.await }
    }

    pub(crate) fn jwks_url(&self) -> String {
        format!("http://{}/jwks", self.server.address)
    }

    /// How often the key set was asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    /// From now on the key set answers 500, or not any more.
    pub(crate) fn fail_jwks(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Adds a key that signs from now on; the others stay in the set.
    pub(crate) fn add_key(&self, alg: Alg) -> String {
        let mut keys = self.signer.keys.lock().unwrap();
        let kid = format!("k{}", self.signer.next() + 1);
        keys.insert(0, Key::new(&kid, alg));
        kid
    }

    /// What signs in its name elsewhere.
    pub(crate) fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// A token good for ten minutes with these claims beside the usual ones; `null` leaves a usual one out.
    pub(crate) fn token(&self, claims: Value) -> Token {
        self.signer.token_with(json!({}), claims)
    }

    /// The same with these members in the header too.
    pub(crate) fn token_with(&self, header: Value, claims: Value) -> Token {
        self.signer.token_with(header, claims)
    }

    /// A token of exactly this spelling.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        self.signer.keys.lock().unwrap()[0].sign(header, payload)
    }

    /// The newest key's name and algorithm.
    pub(crate) fn signing_key(&self) -> (String, Alg) {
        let keys = self.signer.keys.lock().unwrap();
        (keys[0].kid.clone(), keys[0].alg)
    }
}

impl Signer {
    fn next(&self) -> u32 {
        self.serial.fetch_add(1, Ordering::SeqCst)
    }

    /// A token good for ten minutes with these members of header and payload beside the usual ones; `null` leaves out.
    pub(crate) fn token_with(&self, header: Value, claims: Value) -> Token {
        let serial = self.next();
        let now = now();
        let mut all = json!({"iss": self.iss, "aud": "api", "sub": "alice", "sid": format!("s-{serial}"),
            "jti": format!("j-{serial}-{}", std::process::id()), "iat": now, "exp": now + 600, "azp": "web",
            "scope": "read write", "preferred_username": "alice@example.com"});
        overlay(&mut all, claims);
        let keys = self.keys.lock().unwrap();
        let mut head = json!({"alg": keys[0].alg.name(), "kid": keys[0].kid, "typ": "at+jwt"});
        overlay(&mut head, header);
        Token { text: keys[0].sign(&head.to_string(), &all.to_string()), claims: all }
    }
}

/// Lays `over` on `base`; a `null` removes.
fn overlay(base: &mut Value, over: Value) {
    let Value::Object(over) = over else { panic!("claims are an object") };
    let base = base.as_object_mut().unwrap();
    for (name, value) in over {
        match value {
            Value::Null => base.remove(&name),
            value => base.insert(name, value),
        };
    }
}

/// The wall clock, in seconds.
pub(crate) fn now() -> u64 {
    SystemClock::shared().now().as_secs()
}
