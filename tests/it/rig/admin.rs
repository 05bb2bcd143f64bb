//! The admin side as its callers see it.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::rig::http::{Answer, Connection, Wire};
use crate::rig::serve::full;

/// A caller of the admin side.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) credential: Option<String>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Admin {
    /// The same side, called by someone else.
    pub(crate) fn by(&self, credential: &str) -> Self {
        Self { credential: Some(credential.to_owned()), ..self.clone() }
    }

    /// The same side, called by nobody in particular.
    pub(crate) fn anonymous(&self) -> Self {
        Self { credential: None, ..self.clone() }
    }

    /// One call with a body of JSON, or without one.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let content = body.map_or_else(String::new, Value::to_string);
        self.send(method, path, body.map(|_| "application/json"), content).await
    }

    /// One call with any body.
    pub(crate) async fn send(&self, method: &str, path: &str, media: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, path, media, body).await.unwrap_or_else(|fault| panic!("{method} {path}: {fault}"))
    }

    /// The same; an error when the gateway goes away in the middle.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        media: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer, crate::rig::serve::BoxError> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(credential) = &self.credential {
            request = request.header(AUTHORIZATION, format!("Bearer {credential}"));
        }
        if let Some(media) = media {
            request = request.header(CONTENT_TYPE, media);
        }
        let wire = if self.tls.is_some() { Wire::TlsH1 } else { Wire::H1 };
        let mut connection = Connection::open(self.address, wire, self.tls.clone()).await?;
        connection.send(request.body(full(body.into()))?).await
    }

    /// A call that must answer 200, and its JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Takes back what `selector` selects; answers the receipt.
    pub(crate) async fn revoke(&self, selector: Value) -> Value {
        self.revoke_as(json!({ "selector": selector })).await
    }

    /// The same with everything a revocation may say.
    pub(crate) async fn revoke_as(&self, body: Value) -> Value {
        let answer = self.try_revoke(&body).await;
        assert!(matches!(answer.status, 200 | 201), "{body} -> {} {}", answer.status, answer.text());
        answer.json()
    }

    /// The same, whatever comes of it.
    pub(crate) async fn try_revoke(&self, body: &Value) -> Answer {
        self.call("POST", "/v1/revocations", Some(body)).await
    }

    /// Undoes a revocation.
    pub(crate) async fn lift(&self, id: &str) -> Value {
        let answer = self.call("DELETE", &format!("/v1/revocations/{id}"), None).await;
        assert_eq!(answer.status, 200, "lift {id}: {}", answer.text());
        answer.json()
    }

    /// What is true of a token.
    pub(crate) async fn check(&self, token: &str) -> Value {
        let answer = self.call("POST", "/v1/check", Some(&json!({ "token": token }))).await;
        assert_eq!(answer.status, 200, "check: {}", answer.text());
        answer.json()
    }

    /// The figures, as Prometheus reads them.
    pub(crate) async fn metrics(&self) -> String {
        let answer = self.call("GET", "/metrics", None).await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// One figure: the sample whose name and labels are spelled so; 0 when there is none yet.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().expect("a sample is a number"))
    }
}

/// The id in a receipt.
pub(crate) fn id(receipt: &Value) -> String {
    receipt["revocation"]["id"].as_str().unwrap_or_else(|| panic!("no id in {receipt}")).to_owned()
}
