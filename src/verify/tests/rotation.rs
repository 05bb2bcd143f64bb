//! Keys that come and go, and issuers that are not always there.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::signer::{Signer, encode};
use super::{ISSUER, JWKS_URL, Rig, Site, calls, good, issuer, jwks, with};
use crate::domain::Denial;
use crate::verify::{KeySource, Settings, Verification, Verifier};

const DISCOVERY_URL: &str = "https://id.example.com/.well-known/openid-configuration";

fn keys_from(source: KeySource) -> crate::verify::IssuerSettings {
    let mut section = issuer();
    if let Verification::Signature(signature) = &mut section.verification {
        signature.keys = source;
    }
    section
}

/// Lets the tasks of the runtime go on until nothing changes any more.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_for_all_who_ask() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let rig = Rig::signed_by(&[&old]);
    assert!(rig.verify(&old.sign(&good())).await.is_ok());
    rig.site.serve_keys(&[&old, &new]);
    rig.advance(30);
    let tokens: Vec<String> = (0..20).map(|n| new.sign(&with("jti", n.to_string().into()))).collect();
    let held = rig.site.hold().await;
    let all = join_all(tokens.iter().map(|token| rig.verify(token)));
    let release = async {
        settle().await;
        drop(held);
    };
    let (verified, ()) = tokio::join!(all, release);
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(rig.site.asked(JWKS_URL), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_fetches_once_in_a_while() {
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("x"));
    let rig = Rig::signed_by(&[&signer]);
    assert!(rig.verify(&signer.sign(&good())).await.is_ok());
    for n in 0..50 {
        let token = stranger.sign_with(json!({"kid": format!("x{n}")}), &good());
        assert_eq!(rig.denial(&token).await, Denial::Signature);
    }
    assert_eq!(rig.site.asked(JWKS_URL), 2, "the first load, and once for the flood");
    rig.advance(30);
    for n in 0..50 {
        let token = stranger.sign_with(json!({"kid": format!("y{n}")}), &good());
        assert_eq!(rig.denial(&token).await, Denial::Signature);
    }
    assert_eq!(rig.site.asked(JWKS_URL), 3);
}

#[tokio::test]
async fn an_outage_keeps_the_last_good_keys() {
    let (signer, new) = (Signer::es256("k"), Signer::es256("new"));
    let rig = Rig::signed_by(&[&signer]);
    assert!(rig.verify(&signer.sign(&good())).await.is_ok());
    for (status, body) in [(503, "{}"), (200, "<html>"), (200, "{}"), (200, "[]"), (302, "")] {
        rig.site.serve(JWKS_URL, status, body);
        rig.advance(30);
        assert!(rig.is_unavailable(&new.sign(&good())).await, "a key that may be new: nobody knows");
        assert!(rig.verify(&signer.sign(&with("jti", status.to_string().into()))).await.is_ok());
    }
    assert!(rig.counts("portcullis_key_fetches_total{issuer=\"main\",result=\"failed\"} 5"));
}

#[tokio::test]
async fn before_any_key_is_known_nobody_knows() {
    let signer = Signer::es256("k");
    let rig = Rig::new(&Site::new(), vec![issuer()]);
    assert!(rig.is_unavailable(&signer.sign(&good())).await);
    assert!(rig.is_unavailable(&signer.sign(&good())).await);
    assert_eq!(rig.site.asked(JWKS_URL), 1);
    rig.site.serve_keys(&[&signer]);
    rig.advance(1);
    assert!(rig.verify(&signer.sign(&good())).await.is_ok());
}

#[tokio::test]
async fn a_key_that_is_withdrawn_takes_its_verifications_along() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let rig = Rig::signed_by(&[&old, &new]);
    let token = old.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    rig.site.serve_keys(&[&new]);
    rig.advance(30);
    assert!(rig.verify(&Signer::es256("unknown").sign(&good())).await.is_err(), "this one has them fetched");
    assert_eq!(rig.denial(&token).await, Denial::Signature);
    assert!(rig.verify(&new.sign(&good())).await.is_ok());
    rig.site.serve(JWKS_URL, 200, json!({"keys": []}));
    rig.advance(30);
    assert!(rig.verify(&old.sign(&good())).await.is_err());
    assert_eq!(rig.denial(&new.sign(&good())).await, Denial::Signature, "all keys withdrawn");
}

#[tokio::test]
async fn another_key_of_the_same_name_does_not_vouch_for_what_the_first_did() {
    let (one, other) = (Signer::es256("k"), Signer::es256("k"));
    let rig = Rig::signed_by(&[&one]);
    let token = one.sign(&good());
    assert!(rig.verify(&token).await.is_ok());
    rig.site.serve_keys(&[&other]);
    rig.advance(30);
    assert!(rig.verify(&Signer::es256("unknown").sign(&good())).await.is_err());
    assert_eq!(rig.denial(&token).await, Denial::Signature);
}

#[tokio::test]
async fn keys_without_names_are_tried() {
    let signers: Vec<Signer> = (0..3).map(|_| Signer::es256("").nameless()).collect();
    let rig = Rig::signed_by(&signers.iter().collect::<Vec<_>>());
    for signer in &signers {
        assert!(rig.verify(&signer.sign(&good())).await.is_ok());
    }
    assert_eq!(rig.denial(&Signer::es256("").nameless().sign(&good())).await, Denial::Signature);
    assert_eq!(rig.denial(&signers[0].sign_with(json!({"kid": "x"}), &good())).await, Denial::Signature);
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_tried() {
    let (one, other, ed) = (Signer::es256("k"), Signer::es256("k"), Signer::ed25519("k", "EdDSA"));
    let rig = Rig::signed_by(&[&one, &ed, &other]);
    for signer in [&one, &other, &ed] {
        assert!(rig.verify(&signer.sign(&good())).await.is_ok());
    }
}

#[tokio::test]
async fn bad_members_of_a_key_set_are_left_out_and_good_ones_stay() {
    let (good_key, bad) = (Signer::es256("good"), Signer::es256("bad"));
    let spoilt = |change: &dyn Fn(&mut Value)| {
        let mut jwk = bad.jwk.clone();
        change(&mut jwk);
        jwk
    };
    let members = [
        json!(null),
        json!("key"),
        json!({}),
        json!({"kty": "oct", "k": encode(b"secret"), "kid": "bad", "alg": "HS256"}),
        spoilt(&|jwk| jwk["use"] = "enc".into()),
        spoilt(&|jwk| jwk["use"] = json!(["sig"])),
        spoilt(&|jwk| jwk["key_ops"] = json!(["sign"])),
        spoilt(&|jwk| jwk["alg"] = "ES384".into()),
        spoilt(&|jwk| jwk["alg"] = "none".into()),
        spoilt(&|jwk| jwk["alg"] = json!(1)),
        spoilt(&|jwk| jwk["crv"] = "P-384".into()),
        spoilt(&|jwk| jwk["crv"] = "secp256k1".into()),
        spoilt(&|jwk| jwk["x"] = jwk["y"].clone()),
        spoilt(&|jwk| jwk["x"] = "AA".into()),
        spoilt(&|jwk| jwk["kid"] = json!(1)),
        good_key.jwk.clone(),
    ];
    let site = Site::new();
    site.serve(JWKS_URL, 200, json!({"keys": members}));
    let rig = Rig::new(&site, vec![issuer()]);
    assert!(rig.verify(&good_key.sign(&good())).await.is_ok());
    for token in [bad.sign(&good()), bad.sign_with(json!({"kid": "1"}), &good())] {
        assert_eq!(rig.denial(&token).await, Denial::Signature);
    }
}

#[tokio::test]
async fn a_key_set_beyond_the_bounds_is_none() {
    let signer = Signer::es256("k");
    let many: Vec<Value> = (0..101).map(|_| signer.jwk.clone()).collect();
    let mut large = jwks(&[&signer]);
    large["padding"] = "x".repeat(256 * 1024).into();
    for set in [json!({"keys": many}), large] {
        let site = Site::new();
        site.serve(JWKS_URL, 200, set);
        assert!(Rig::new(&site, vec![issuer()]).is_unavailable(&signer.sign(&good())).await);
    }
}

#[tokio::test]
async fn discovery_finds_the_keys_of_the_very_issuer() {
    let signer = Signer::es256("k");
    let discover = async |document: Value| {
        let site = Site::new();
        site.serve_keys(&[&signer]);
        site.serve("http://id.example.com/jwks", 200, jwks(&[&signer]));
        site.serve(DISCOVERY_URL, 200, document);
        Rig::new(&site, vec![keys_from(KeySource::Discovery)]).verify(&signer.sign(&good())).await.is_ok()
    };
    assert!(discover(json!({"issuer": ISSUER, "jwks_uri": JWKS_URL})).await);
    assert!(!discover(json!({"issuer": "https://id.example.com", "jwks_uri": JWKS_URL})).await);
    assert!(!discover(json!({"issuer": [ISSUER], "jwks_uri": JWKS_URL})).await);
    assert!(!discover(json!({"jwks_uri": JWKS_URL})).await);
    assert!(!discover(json!({"issuer": ISSUER})).await);
    assert!(!discover(json!({"issuer": ISSUER, "jwks_uri": "http://id.example.com/jwks"})).await);
    assert!(!discover(json!({"issuer": ISSUER, "jwks_uri": "/jwks"})).await);
}

#[tokio::test]
async fn a_key_file_is_read_anew_on_reload_and_a_bad_one_changes_nothing() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let path = std::env::temp_dir().join(format!("portcullis-keys-{}.json", std::process::id()));
    std::fs::write(&path, jwks(&[&old]).to_string()).unwrap();
    let section = keys_from(KeySource::File(path.clone()));
    let mut rig = Rig::new(&Site::new(), vec![section.clone()]);
    let settings = Settings { issuers: vec![section], ..Settings::default() };
    assert!(rig.verify(&old.sign(&good())).await.is_ok());
    assert_eq!(rig.denial(&new.sign(&good())).await, Denial::Signature);
    for bad in ["", "{}", "{\"keys\":[]}"] {
        std::fs::write(&path, bad).unwrap();
        assert!(rig.verifier.succeed(settings.clone(), &calls(&rig.site)).is_err(), "{bad}");
        assert!(rig.verify(&old.sign(&with("jti", bad.len().to_string().into()))).await.is_ok());
    }
    std::fs::write(&path, jwks(&[&new]).to_string()).unwrap();
    rig.verifier = rig.verifier.succeed(settings.clone(), &calls(&rig.site)).unwrap();
    assert!(rig.verify(&new.sign(&good())).await.is_ok());
    assert!(rig.verify(&old.sign(&good())).await.is_err(), "also what was verified before");
    std::fs::remove_file(&path).unwrap();
    assert!(Verifier::new(settings, &calls(&rig.site), rig.clock.clone(), rig.metrics.clone()).is_err());
}

#[tokio::test]
async fn the_task_that_fetches_ends_with_its_verifier() {
    let rig = Rig::signed_by(&[]);
    settle().await;
    assert_eq!(rig.site.asked(JWKS_URL), 1);
    let Rig { verifier, site, .. } = rig;
    drop(verifier);
    settle().await;
    assert_eq!(std::sync::Arc::strong_count(&site), 1);
}
