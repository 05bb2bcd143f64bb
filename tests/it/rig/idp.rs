//! A real identity provider: `oidc-provider` on node, as `tests/idp/provider.mjs` sets it up.

use std::net::SocketAddr;
use std::process::Command;

use hyper::Request;
use serde_json::{Value, json};

use crate::rig::http::{Answer, ask, form};
use crate::rig::program::{Companion, find, project};
use crate::rig::serve::full;

/// A running provider.
pub(crate) struct Idp(Companion);

/// A login as a story wants it; the clients `web` and `mobile` are public.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    /// What the access token is: an algorithm of JWTs, or `opaque`.
    pub(crate) alg: &'a str,
    /// Where the code is redeemed when not at the provider itself: a gateway in front of it.
    pub(crate) via: Option<SocketAddr>,
}

/// What the token endpoint answered to a login.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) id: String,
    pub(crate) session: String,
    /// The handle of the browser, which a later login or logout may use again.
    pub(crate) browser: String,
}

impl Default for Login<'_> {
    fn default() -> Self {
        Self { user: "alice", client: "web", alg: "ES256", via: None }
    }
}

impl Idp {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with options of `provider.mjs`, such as `--rotate-refresh false`.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let installed = project("tests/idp/node_modules/oidc-provider");
        assert!(installed.is_dir(), "oidc-provider is missing: run `tests/run --setup`");
        let mut node = Command::new(find("node", "apt-get install nodejs npm"));
        node.arg(project("tests/idp/provider.mjs")).args(options);
        Self(Companion::start(node).await)
    }

    pub(crate) fn issuer(&self) -> &str {
        self.0.text("issuer")
    }

    /// One of the addresses it said of itself.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.text(name)
    }

    /// Logs a user in; the answer has the tokens, `sid`, `claims` and `jti`.
    pub(crate) async fn login(&self, user: &str, alg: &str) -> Value {
        self.post("/test/login", json!({ "user": user, "alg": alg })).await
    }

    /// Logs in by the authorization code flow.
    pub(crate) async fn log_in(&self, login: Login<'_>) -> Tokens {
        let via = login.via.map(|address| format!("http://{address}"));
        let wanted = json!({"user": login.user, "client_id": login.client, "alg": login.alg, "via": via});
        let answer = self.post("/test/login", wanted).await;
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned();
        Tokens {
            access: text("access_token"),
            refresh: text("refresh_token"),
            id: text("id_token"),
            session: text("sid"),
            browser: text("browser"),
        }
    }

    /// Where it listens itself, past any gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.issuer().trim_start_matches("http://").parse().unwrap()
    }

    /// A new key signs from now on.
    pub(crate) async fn rotate(&self, alg: &str, drop_old: bool) -> Value {
        self.post("/test/rotate", json!({ "alg": alg, "drop_old": drop_old })).await
    }

    /// Makes an endpoint fail, or not any more.
    pub(crate) async fn fail(&self, endpoint: &str, mode: Value) {
        self.post("/test/fail", json!({ endpoint: mode })).await;
    }

    /// How often an endpoint was asked.
    pub(crate) async fn asked(&self, endpoint: &str) -> u64 {
        self.call("GET", "/test/record", None).await[endpoint].as_u64().unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", path, Some(body)).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let content = body.map_or_else(String::new, |body| body.to_string());
        let request =
            Request::builder().method(method).uri(path).header("host", self.issuer().trim_start_matches("http://"));
        let answer = ask(self.address(), request.body(full(content)).unwrap()).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }
}

/// Redeems a refresh token of a public client at the provider or at a gateway in front of it, whatever comes of it.
pub(crate) async fn refresh(at: SocketAddr, client: &str, token: &str) -> Answer {
    let fields = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)];
    ask(at, form("/token", &fields)).await
}
