//! Verification as a caller sees it, against issuers that answer from memory and a clock that stands still.

mod confusion;
mod introspection;
mod privx;
mod rotation;
mod signer;
mod vectors;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper::Uri;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::clock::ManualClock;
use crate::domain::{BearerToken, Claims, Denial, Timestamp, TokenKind};
use crate::net::client::{Answer, CallError};
use crate::telemetry::Metrics;
use crate::verify::{
    Algorithm, Fetch, IssuerSettings, KeySource, Settings, SignatureSettings, Verification, Verified, Verifier,
    VerifyError,
};

use signer::Signer;

pub(super) const NOW: u64 = 1_700_000_000;
pub(super) const ISSUER: &str = "https://id.example.com/";
pub(super) const JWKS_URL: &str = "https://id.example.com/jwks";

/// Everything out there: what each URL answers, and what was asked.
#[derive(Debug)]
pub(super) struct Site {
    pages: Mutex<HashMap<String, (u16, String)>>,
    tokens: Mutex<HashMap<String, (u16, String)>>,
    asked: Mutex<Vec<String>>,
    open: Semaphore,
}

impl Site {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            pages: Mutex::default(),
            tokens: Mutex::default(),
            asked: Mutex::default(),
            open: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    pub(super) fn serve(&self, url: &str, status: u16, body: impl ToString) {
        self.pages.lock().unwrap().insert(url.to_owned(), (status, body.to_string()));
    }

    pub(super) fn serve_keys(&self, signers: &[&Signer]) {
        self.serve(JWKS_URL, 200, jwks(signers));
    }

    pub(super) fn say(&self, token: &str, status: u16, body: impl ToString) {
        self.tokens.lock().unwrap().insert(token.to_owned(), (status, body.to_string()));
    }

    /// How often a URL was asked.
    pub(super) fn asked(&self, url: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == url).count()
    }

    /// Lets nobody have an answer until the permit that is returned is dropped.
    pub(super) async fn hold(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.open.acquire_many(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX)).await.unwrap()
    }

    async fn answer(&self, url: &Uri, from: &Mutex<HashMap<String, (u16, String)>>, key: &str) -> Answer {
        self.asked.lock().unwrap().push(url.to_string());
        let _open = self.open.acquire().await.unwrap();
        let (status, body) = from.lock().unwrap().get(key).cloned().unwrap_or((404, String::new()));
        Answer { status, max_age: None, body: Bytes::from(body) }
    }
}

#[async_trait]
impl Fetch for Site {
    async fn get(&self, url: &Uri, _: usize) -> Result<Answer, CallError> {
        Ok(self.answer(url, &self.pages, &url.to_string()).await)
    }

    async fn post_form(
        &self,
        url: &Uri,
        basic: (&str, &str),
        fields: &[(&str, &str)],
        _: usize,
    ) -> Result<Answer, CallError> {
        assert_eq!(basic, ("gateway", "secret"));
        let token = fields.iter().find(|(name, _)| *name == "token").unwrap().1;
        Ok(self.answer(url, &self.tokens, token).await)
    }
}

pub(super) fn jwks(signers: &[&Signer]) -> Value {
    json!({ "keys": signers.iter().map(|signer| signer.jwk.clone()).collect::<Vec<_>>() })
}

/// A verifier and the world around it.
pub(super) struct Rig {
    pub(super) verifier: Verifier,
    pub(super) site: Arc<Site>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) metrics: Arc<Metrics>,
}

impl Rig {
    pub(super) fn new(site: &Arc<Site>, issuers: Vec<IssuerSettings>) -> Self {
        let (clock, metrics) = (ManualClock::at(Timestamp::from_secs(NOW)), Metrics::new());
        let settings = Settings { issuers, ..Settings::default() };
        let verifier = Verifier::new(settings, &calls(site), clock.clone(), metrics.clone()).unwrap();
        Self { verifier, site: site.clone(), clock, metrics }
    }

    /// One issuer that signs with these.
    pub(super) fn signed_by(signers: &[&Signer]) -> Self {
        let site = Site::new();
        site.serve_keys(signers);
        Self::new(&site, vec![issuer()])
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        self.verify_as(token, TokenKind::Access).await
    }

    pub(super) async fn verify_as(&self, token: &str, kind: TokenKind) -> Result<Verified, VerifyError> {
        self.verifier.verify(&bearer(token), kind, &None).await
    }

    pub(super) async fn claims(&self, token: &str) -> Claims {
        (**self.verify(token).await.unwrap().claims()).clone()
    }

    pub(super) async fn denial(&self, token: &str) -> Denial {
        match self.verify(token).await {
            Err(VerifyError::Denied(denial)) => denial,
            other => panic!("not denied: {other:?}"),
        }
    }

    pub(super) async fn is_unavailable(&self, token: &str) -> bool {
        matches!(self.verify(token).await, Err(VerifyError::Unavailable { .. }))
    }

    pub(super) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    pub(super) fn counts(&self, line: &str) -> bool {
        self.metrics.text().lines().any(|counted| counted == line)
    }
}

pub(super) fn calls(
    site: &Arc<Site>,
) -> impl Fn(&IssuerSettings) -> Result<Arc<dyn Fetch>, Box<dyn std::error::Error + Send + Sync>> {
    let site = site.clone();
    move |_| Ok(site.clone())
}

pub(super) fn bearer(token: &str) -> BearerToken {
    BearerToken::parse(token).unwrap()
}

/// An issuer with keys behind a URL, every algorithm, one audience, and no tokens beyond an hour.
pub(super) fn issuer() -> IssuerSettings {
    let signature = SignatureSettings::new(KeySource::Url(JWKS_URL.parse().unwrap()), Algorithm::ALL.to_vec());
    IssuerSettings {
        audiences: vec!["api".into()],
        max_token_lifetime: Some(Duration::from_secs(3600)),
        ..IssuerSettings::new("main", ISSUER, Verification::Signature(signature))
    }
}

/// What a good token says.
pub(super) fn good() -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "alice", "jti": "t1", "sid": "s1", "client_id": "web",
        "preferred_username": "Alice", "iat": NOW, "exp": NOW + 300, "scope": "read write",
        "device_id": 7, "groups": ["a", "b"], "admin": false, "nested": {"x": 1}
    })
}

/// [`good`] with another value for one claim.
pub(super) fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

/// [`good`] without one claim.
pub(super) fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}
