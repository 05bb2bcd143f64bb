//! A real identity provider: `oidc-provider` on node, as `tests/idp/provider.mjs` sets it up.

use std::process::Command;

use hyper::Request;
use serde_json::{Value, json};

use crate::rig::http::{Connection, Wire};
use crate::rig::program::{Companion, find, project};
use crate::rig::serve::full;

/// A running provider.
pub(crate) struct Idp(Companion);

impl Idp {
    pub(crate) async fn start() -> Self {
        let installed = project("tests/idp/node_modules/oidc-provider");
        assert!(installed.is_dir(), "oidc-provider is missing: run `tests/run --setup`");
        let mut node = Command::new(find("node", "apt-get install nodejs npm"));
        node.arg(project("tests/idp/provider.mjs"));
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
        let address = self.issuer().trim_start_matches("http://").parse().unwrap();
        let content = body.map_or_else(String::new, |body| body.to_string());
        let request =
            Request::builder().method(method).uri(path).header("host", self.issuer().trim_start_matches("http://"));
        let mut connection = Connection::open(address, Wire::H1, None).await.unwrap();
        let answer = connection.send(request.body(full(content)).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }
}
