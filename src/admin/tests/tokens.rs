//! Callers who come with a token of an issuer.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::http::Method;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::{ISS, Rig, START, request, settings};
use crate::admin::tests::events::Stream;
use crate::admin::{Settings, TokenRule};
use crate::domain::Right;
use crate::verify::{Algorithm, IssuerSettings, KeySource, SignatureSettings, Verification};

pub(super) const OTHER: &str = "https://other.example.com/";

/// An issuer that may make admins.
pub(super) struct Idp {
    key: EncodingKey,
    jwks: String,
}

impl Idp {
    pub(super) fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap();
        Self { key, jwks: json!({"keys": [jwk]}).to_string() }
    }

    /// A token with these claims beside the usual ones; a null takes one of those away.
    pub(super) fn token(&self, claims: Value) -> String {
        let mut all = json!({"iss": ISS, "sub": "root", "jti": "t1", "iat": START, "exp": START + 300});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::ES256), &all, &self.key).unwrap()
    }

    pub(super) async fn rig(&self) -> Rig {
        let rule = |claim: &str, value: &str, right: Right| TokenRule {
            issuer: "main".into(),
            claim: claim.into(),
            value: value.into(),
            rights: [right].into_iter().collect(),
        };
        let tokens = vec![rule("groups", "auditors", Right::AuditRead), rule("scope", "revoke", Right::SessionsRevoke)];
        let source = KeySource::Url("https://id.example.com/jwks".parse().unwrap());
        let signature = SignatureSettings::new(source, vec!["ES256".parse::<Algorithm>().unwrap()]);
        let issuer = |name, iss| IssuerSettings::new(name, iss, Verification::Signature(signature.clone()));
        let issuers = vec![issuer("main", ISS), issuer("other", OTHER)];
        Rig::with_issuers(Settings { tokens, ..settings() }, issuers, self.jwks.clone()).await
    }
}

#[tokio::test]
async fn a_token_has_the_rights_that_rules_give_its_claims() {
    let idp = Idp::new();
    let rig = idp.rig().await;
    let auditor = idp.token(json!({"groups": ["staff", "auditors"]}));
    assert_eq!(rig.get(&auditor, "/v1/audit").await.status, 200);
    assert_eq!(rig.get(&auditor, "/v1/revocations").await.status, 403);
    let revoker = idp.token(json!({"scope": "openid revoke"}));
    let answer = rig.post(&revoker, "/v1/revocations", r#"{"selector":{"issuer":"main","user":"alice"}}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(answer.text.contains(r#""actor":"root@main""#), "{}", answer.text);
    assert_eq!(rig.get(&idp.token(json!({"groups": ["staff"]})), "/v1/openapi.json").await.status, 403);
}

#[tokio::test]
async fn a_token_that_is_no_good_is_a_wrong_credential() {
    let (idp, stranger) = (Idp::new(), Idp::new());
    let rig = idp.rig().await;
    let groups = json!({"groups": ["auditors"]});
    for token in [
        stranger.token(groups.clone()),
        idp.token(json!({"groups": ["auditors"], "exp": START - 60})),
        idp.token(json!({"groups": ["auditors"], "iss": "https://other.example.com/"})),
        idp.token(json!({"groups": ["auditors"], "iss": "https://unknown.example.com/"})),
        "a-secret-with-a-slip".to_owned(),
    ] {
        assert_eq!(rig.get(&token, "/v1/audit").await.status, 401, "{token}");
    }
    assert_eq!(rig.get(&idp.token(groups), "/v1/audit").await.status, 200);
}

#[tokio::test]
async fn who_goes_on_showing_a_token_that_is_over_silences_nobody() {
    let idp = Idp::new();
    let rig = idp.rig().await;
    let over = idp.token(json!({"groups": ["auditors"], "exp": START - 60}));
    let revoked = idp.token(json!({"groups": ["auditors"], "sub": "gone", "jti": "t2"}));
    assert_eq!(rig.revoke(json!({"selector": {"issuer": "main", "user": "gone"}})).await.0, 201);
    for _ in 0..20 {
        assert_eq!(rig.get(&over, "/v1/audit").await.status, 401);
        assert_eq!(rig.get(&revoked, "/v1/audit").await.status, 401);
    }
    assert_eq!(rig.get(&idp.token(json!({"groups": ["auditors"]})), "/v1/audit").await.status, 200);
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_and_its_stream_ends() {
    let idp = Idp::new();
    let rig = idp.rig().await;
    let token = idp.token(json!({"groups": ["auditors"]}));
    let mut stream = Stream::of(&rig, request(Method::GET, "/v1/events", &token, "")).await;
    assert_eq!(rig.get(&token, "/v1/openapi.json").await.status, 200);
    assert_eq!(rig.revoke(json!({"selector": {"issuer": "main", "user": "root"}})).await.0, 201);
    assert_eq!(rig.get(&token, "/v1/openapi.json").await.status, 401);
    while stream.block().await != ": closed: the credential is no longer valid" {}
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let idp = Idp::new();
    let rig = idp.rig().await;
    let token = idp.token(json!({"groups": ["auditors"]}));
    let mut stream = Stream::of(&rig, request(Method::GET, "/v1/events", &token, "")).await;
    rig.clock.advance(Duration::from_secs(305));
    while stream.block().await != ": closed: the credential is no longer valid" {}
}
