//! An identity provider for the demo: one ES256 key, made anew each time, and a login that asks for no password.
//! It exists to show the gateway something real to verify; nothing else should ever trust it.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::clock::SharedClock;

/// How long an access token of the demo lives, in seconds.
const LIFETIME_SECS: u64 = 3600;
const KEY_ID: &str = "demo-1";

/// Signs tokens under the name `issuer`.
pub(super) struct Issuer {
    issuer: String,
    key: EcdsaKeyPair,
    clock: SharedClock,
}

#[derive(Deserialize)]
struct Login {
    user: String,
    #[serde(default, rename = "as")]
    form: Option<String>,
}

impl Issuer {
    /// An issuer with a new key.
    pub(super) fn new(issuer: String, clock: SharedClock) -> Result<Self, Failure> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = key.map_err(|_| Failure::Failed("cannot make a signing key".to_owned()))?;
        Ok(Self { issuer, key, clock })
    }

    /// `/login?user=NAME` and `/jwks`.
    pub(super) fn router(self) -> Router {
        Router::new().route("/login", get(login)).route("/jwks", get(jwks)).with_state(Arc::new(self))
    }

    /// The key set (RFC 7517 §5): an uncompressed point is 4, then x and y of 32 bytes each (RFC 7518 §6.2.1).
    fn key_set(&self) -> Value {
        let (x, y) =
            self.key.public_key().as_ref().get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }

    fn access_token(&self, user: &str, session: &str) -> Option<String> {
        let now = self.clock.now().as_secs();
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": KEY_ID });
        let claims = json!({
            "iss": self.issuer, "sub": user, "preferred_username": user, "aud": "demo", "azp": "demo-app",
            "sid": session, "jti": random_id()?, "scope": "read write", "iat": now, "exp": now + LIFETIME_SECS,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn random_id() -> Option<String> {
    let mut bits = [0; 12];
    aws_lc_rs::rand::fill(&mut bits).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bits))
}

async fn jwks(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    Json(issuer.key_set())
}

/// A new session and its access token; `as=text` answers with the token alone, which suits a shell.
async fn login(State(issuer): State<Arc<Issuer>>, Query(login): Query<Login>) -> Response {
    let session = random_id();
    let token = session.as_deref().and_then(|session| issuer.access_token(&login.user, session));
    let Some(token) = token else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    if login.form.as_deref() == Some("text") {
        return token.into_response();
    }
    let answer =
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECS, "session": session });
    Json(answer).into_response()
}
