//! What is remembered, for whom, and for how long; and issuers that are not asked at all.

use std::time::Duration;

use serde_json::json;

use super::signer::{Signer, encode};
use super::{ISSUER, NOW, Rig, Site, bearer, calls, good, issuer, with, without};
use crate::domain::{Cutoff, Denial, Name, Reach, Revocation, RevocationId, Selector, Timestamp, TokenKind};
use crate::verify::{Assurance, CacheSettings, IssuerSettings, Settings, Verification, VerifierError, VerifyError};

pub(super) fn revocation(parts: &[(Name, &str)]) -> Revocation {
    let parts = parts.iter().map(|(name, value)| (name.clone(), (*value).to_owned()));
    Revocation {
        id: RevocationId::from_random(1),
        selector: Selector::new(parts).unwrap(),
        reach: Reach::ALL,
        cutoff: Cutoff::Absolute,
        created_at: Timestamp::from_secs(NOW),
        expires_at: None,
        actor: "ops".into(),
        reason: None,
        named_for: None,
    }
}

const HITS: &str = "portcullis_verification_cache_total{result=\"hit\"} 1";

#[tokio::test]
async fn the_very_same_token_is_verified_once() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    assert_eq!(rig.claims(&token).await, rig.claims(&token).await);
    assert!(rig.counts(HITS), "{}", rig.metrics.text());
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&with("exp", (NOW + 60).into()));
    assert!(rig.verify(&token).await.is_ok());
    rig.advance(64);
    assert!(rig.verify(&token).await.is_ok());
    rig.advance(1);
    assert_eq!(rig.denial(&token).await, Denial::Expired);
}

#[tokio::test]
async fn a_remembered_token_is_no_good_where_its_issuer_is_not() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    let elsewhere = Some(["other".into()].into());
    let refused = rig.verifier.verify(&bearer(&token), TokenKind::Access, &elsewhere).await;
    assert_eq!(refused.unwrap_err(), VerifyError::Denied(Denial::UnknownIssuer));
    let here = Some(["other".into(), "main".into()].into());
    assert!(rig.verifier.verify(&bearer(&token), TokenKind::Access, &here).await.is_ok());
}

#[tokio::test]
async fn a_verification_is_remembered_for_its_time_only() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&with("exp", (NOW + 3000).into()));
    assert!(rig.verify(&token).await.is_ok());
    rig.advance(301);
    assert!(rig.verify(&token).await.is_ok());
    assert!(!rig.counts(HITS), "{}", rig.metrics.text());
}

#[tokio::test]
async fn claims_that_nobody_checks_are_read_to_refuse() {
    let rig = Rig::new(&Site::new(), vec![IssuerSettings::new("main", ISSUER, Verification::None)]);
    let token = |claims: serde_json::Value| {
        format!("{}.{}.AA", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()))
    };
    let verified = rig.verify(&token(good())).await.unwrap();
    assert_eq!((verified.assurance(), verified.claims().user.as_deref()), (Assurance::Unchecked, Some("alice")));
    assert!(rig.verify(&token(without("exp"))).await.is_ok());
    assert_eq!(rig.denial(&token(with("exp", (NOW - 5).into()))).await, Denial::Expired);
    assert_eq!(rig.denial(&token(with("exp", "1".into()))).await, Denial::Claim);
    assert_eq!(rig.denial(&token(with("token_use", "id".into()))).await, Denial::Type);
}

#[tokio::test]
async fn reading_looks_at_form_alone() {
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("k"));
    let rig = Rig::signed_by(&[&signer]);
    let expired = stranger.sign(&with("exp", 1.into()));
    let claims = rig.verifier.read(&bearer(&expired)).await.unwrap();
    assert_eq!((claims.token_id.as_deref(), claims.user.as_deref()), (Some("t1"), Some("alice")));
    let refresh = rig.verifier.read(&bearer(&signer.sign(&with("token_use", "refresh".into())))).await.unwrap();
    assert_eq!(refresh.kind, TokenKind::Refresh);
    let read = async |token: &str| rig.verifier.read(&bearer(token)).await.unwrap_err();
    assert_eq!(read(&signer.sign(&with("iss", "x".into()))).await, Denial::UnknownIssuer);
    assert_eq!(read("a.b.c").await, Denial::Malformed);
    assert_eq!(read("a.b").await, Denial::Malformed);
    assert_eq!(read("opaque").await, Denial::UnknownIssuer);
}

#[tokio::test]
async fn a_token_without_an_id_is_known_by_what_was_signed() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&without("jti"));
    let verified = rig.claims(&token).await;
    assert_eq!(verified.token_id, None);
    assert_eq!(rig.verifier.read(&bearer(&token)).await.unwrap().digest, verified.digest);
    let other = rig.claims(&signer.sign(&with("sub", "bob".into()))).await;
    assert_ne!(other.digest, verified.digest);
}

#[tokio::test]
async fn what_a_revocation_would_kill_is_counted_among_the_verified() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for (token, user) in [("1", "alice"), ("2", "alice"), ("3", "bob")] {
        let mut claims = with("jti", token.into());
        claims["sub"] = user.into();
        rig.claims(&signer.sign(&claims)).await;
    }
    let of = |user| revocation(&[(Name::Issuer, ISSUER), (Name::User, user)]);
    let counts = ["alice", "bob", "carol"].map(|user| rig.verifier.would_kill(&of(user)));
    assert_eq!(counts, [2, 1, 0]);
    rig.advance(300);
    assert_eq!(rig.verifier.would_kill(&of("alice")), 0, "they are dead already");
}

#[tokio::test]
async fn issuers_are_found_by_name_and_by_iss() {
    let rig = Rig::signed_by(&[]);
    let facts = rig.verifier.issuer("main").unwrap();
    assert_eq!(rig.verifier.issuer(ISSUER), Some(facts.clone()));
    assert_eq!(rig.verifier.issuers(), [facts]);
    assert_eq!(rig.verifier.issuer("other"), None);
}

#[tokio::test]
async fn two_issuers_of_one_name_are_refused() {
    let rig = Rig::signed_by(&[]);
    let other = |name: &str, iss: &str| IssuerSettings::new(name, iss, Verification::None);
    for second in [other("main", "https://b/"), other("b", ISSUER), other(ISSUER, "https://b/")] {
        let settings = Settings { issuers: vec![issuer(), second], ..Settings::default() };
        let error = rig.verifier.succeed(settings, &calls(&rig.site)).unwrap_err();
        assert!(matches!(error, VerifierError::Ambiguous(_)), "{error}");
    }
}

#[tokio::test]
async fn a_reload_keeps_what_it_can() {
    let signer = Signer::es256("k");
    let mut rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    let stays = IssuerSettings::new("other", "https://other.example/", Verification::None);
    let settings = Settings { issuers: vec![stays, issuer()], ..Settings::default() };
    rig.verifier = rig.verifier.succeed(settings, &calls(&rig.site)).unwrap();
    assert!(rig.verify(&token).await.is_ok());
    assert_eq!(rig.site.asked(super::JWKS_URL), 1, "the keys were kept");
    assert!(rig.counts(HITS), "the verification was kept");
}

#[tokio::test]
async fn a_reload_forgets_what_was_verified_under_other_rules() {
    let signer = Signer::es256("k");
    let mut rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    let stricter = IssuerSettings { audiences: vec!["another".into()], ..issuer() };
    let settings = Settings { issuers: vec![stricter], ..Settings::default() };
    rig.verifier = rig.verifier.succeed(settings, &calls(&rig.site)).unwrap();
    assert_eq!(rig.denial(&token).await, Denial::Audience);
    rig.verifier = rig.verifier.succeed(Settings::default(), &calls(&rig.site)).unwrap();
    assert_eq!(rig.denial(&token).await, Denial::UnknownIssuer);
}

#[tokio::test]
async fn other_bounds_of_the_cache_start_it_anew() {
    let signer = Signer::es256("k");
    let mut rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    let cache = CacheSettings { verified_ttl: Duration::from_secs(1), ..CacheSettings::default() };
    rig.verifier = rig.verifier.succeed(Settings { issuers: vec![issuer()], cache }, &calls(&rig.site)).unwrap();
    assert!(rig.verify(&token).await.is_ok());
    assert!(!rig.counts(HITS));
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&with("jti", json!("t1")));
    let verified = rig.verify(&token).await.unwrap();
    let shown = format!("{verified:?} {:?} {:?}", rig.verifier, bearer(&token));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert!(!shown.contains(signature) && !shown.contains(signed));
}
