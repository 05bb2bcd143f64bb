//! One meaning per token: signatures, spellings, types and times.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::signer::{Signer, decode, encode};
use super::{NOW, Rig, good, issuer, with, without};
use crate::domain::{Denial, Name, Timestamp, TokenKind};
use crate::verify::{Algorithm, Verification, VerifyError};

/// The order of P-256, big-endian.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn split(token: &str) -> (&str, Vec<u8>) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    (signed, decode(signature))
}

fn join(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", encode(signature))
}

/// `a - b`, big-endian.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut difference: Vec<u8> = (0..a.len()).rev().fold(Vec::new(), |mut digits, at| {
        let digit = i16::from(a[at]) - i16::from(b[at]) - borrow;
        borrow = i16::from(digit < 0);
        digits.push(u8::try_from(digit.rem_euclid(256)).unwrap());
        digits
    });
    difference.reverse();
    difference
}

#[tokio::test]
async fn every_algorithm_verifies_and_says_what_the_token_says() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|alg| Signer::rsa(alg, alg));
    let others = [
        Signer::es256("p256"),
        Signer::es384("p384"),
        Signer::ed25519("ed", "EdDSA"),
        Signer::ed25519("ed2", "Ed25519"),
    ];
    let all: Vec<&Signer> = rsa.iter().chain(&others).collect();
    let rig = Rig::signed_by(&all);
    for signer in all {
        let claims = rig.claims(&signer.sign(&good())).await;
        assert_eq!(claims.user.as_deref(), Some("alice"), "{}", signer.algorithm);
        assert_eq!(claims.key_id, signer.key_id.as_deref().map(Into::into));
    }
}

#[tokio::test]
async fn claims_are_read_under_their_own_names() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let claims = rig.claims(&signer.sign(&good())).await;
    assert_eq!((claims.token_id.as_deref(), claims.session.as_deref()), (Some("t1"), Some("s1")));
    assert_eq!((claims.username.as_deref(), claims.client.as_deref()), (Some("Alice"), Some("web")));
    assert_eq!(claims.issued_at, Some(Timestamp::from_secs(NOW)));
    assert_eq!(claims.expires_at, Some(Timestamp::from_secs(NOW + 300)));
    assert_eq!(&*claims.scopes, [Box::<str>::from("read"), Box::from("write")]);
    let has = |name: &str, value: &str| claims.values(&Name::Claim(name.into())).contains(value);
    assert!(has("device_id", "7") && has("groups", "a") && has("groups", "b") && has("admin", "false"));
    assert!(has("aud", "api") && !has("nested", "1") && has("sub", "alice"));
}

#[tokio::test]
async fn claims_may_have_other_names() {
    let signer = Signer::es256("k");
    let mut section = issuer();
    section.claims.user = "uid".into();
    section.claims.client = Some("app".into());
    section.claims.scope = Some("permissions".into());
    let rig = Rig::new(&Rig::signed_by(&[&signer]).site, vec![section]);
    let mut said = good();
    said["uid"] = 42.into();
    said["app"] = "shop".into();
    said["permissions"] = json!(["a", "b c"]);
    let claims = rig.claims(&signer.sign(&said)).await;
    assert_eq!((claims.user.as_deref(), claims.client.as_deref()), (Some("42"), Some("shop")));
    assert_eq!(&*claims.scopes, ["a", "b", "c"].map(Box::from));
    assert!(claims.values(&Name::Claim("sub".into())).contains("alice"));
}

#[tokio::test]
async fn another_library_signs_what_we_verify() {
    let pkcs8 = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .unwrap();
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("k".to_owned());
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k".to_owned());
    let token = jsonwebtoken::encode(&header, &good(), &key).unwrap();
    let site = super::Site::new();
    site.serve(super::JWKS_URL, 200, json!({"keys": [jwk]}));
    let rig = Rig::new(&site, vec![issuer()]);
    assert_eq!(rig.claims(&token).await.user.as_deref(), Some("alice"));
}

#[tokio::test]
async fn no_spelling_of_none_and_no_hmac_passes() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for alg in ["none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "HS256", "RS256", "ES384", "EdDSA"] {
        let token = signer.sign_with(json!({"alg": alg}), &good());
        assert_eq!(rig.denial(&token).await, Denial::Signature, "{alg:?}");
    }
    let unsigned = signer.sign_with(json!({"alg": "none"}), &good());
    let (signed, _) = split(&unsigned);
    assert_eq!(rig.denial(&format!("{signed}.")).await, Denial::Malformed);
    let header = encode(br#"{"alg":"HS256","kid":"k"}"#);
    let signed = format!("{header}.{}", encode(good().to_string().as_bytes()));
    let point =
        [&[4][..], &decode(signer.jwk["x"].as_str().unwrap()), &decode(signer.jwk["y"].as_str().unwrap())].concat();
    for secret in [point, signer.jwk.to_string().into_bytes(), Vec::new()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        assert_eq!(rig.denial(&join(&signed, tag.as_ref())).await, Denial::Signature);
    }
}

#[tokio::test]
async fn only_the_issuers_own_key_for_that_algorithm_counts() {
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("k"));
    let rig = Rig::signed_by(&[&signer]);
    assert_eq!(rig.denial(&stranger.sign(&good())).await, Denial::Signature);
    let offered = stranger.sign_with(json!({"jwk": stranger.jwk, "jku": "https://evil.example/", "x5u": "x"}), &good());
    assert_eq!(rig.denial(&offered).await, Denial::Signature);
    assert_eq!(rig.site.asked("https://evil.example/"), 0);
    for kid in ["", "K", "k ", "../k", "k\u{0}", "https://evil.example/"] {
        let token = signer.sign_with(json!({"kid": kid}), &good());
        assert_eq!(rig.denial(&token).await, Denial::Signature, "{kid:?}");
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_configured_does_not_pass() {
    let signer = Signer::es256("k");
    let mut section = issuer();
    if let Verification::Signature(signature) = &mut section.verification {
        signature.algorithms = vec![Algorithm::EdDsa];
    }
    let rig = Rig::new(&Rig::signed_by(&[&signer]).site, vec![section]);
    assert_eq!(rig.denial(&signer.sign(&good())).await, Denial::Signature);
}

#[tokio::test]
async fn a_key_is_used_with_its_own_algorithm_only() {
    let mut signer = Signer::rsa("k", "PS256");
    signer.jwk["alg"] = "RS256".into();
    let rig = Rig::signed_by(&[&signer]);
    assert_eq!(rig.denial(&signer.sign(&good())).await, Denial::Signature);
    signer.algorithm = "RS256";
    assert!(rig.verify(&signer.sign(&good())).await.is_ok());
}

#[tokio::test]
async fn degenerate_and_re_encoded_signatures_do_not_pass() {
    let (ec, ed) = (Signer::es256("k"), Signer::ed25519("ed", "EdDSA"));
    let rig = Rig::signed_by(&[&ec, &ed]);
    let token = ec.sign(&good());
    let (signed, signature) = split(&token);
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    let der = [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat();
    let bad = [
        [zero, zero].concat(),
        [&zero, s].concat(),
        [r, &zero].concat(),
        [&P256_ORDER, s].concat(),
        [r, &P256_ORDER].concat(),
        [&[0], r, &[0], s].concat(),
        signature[..63].to_vec(),
        [&signature[..], &[0]].concat(),
        der,
        vec![0],
    ];
    for signature in bad {
        assert_eq!(rig.denial(&join(signed, &signature)).await, Denial::Signature);
    }
    let token = ed.sign(&good());
    let (signed, mut signature) = split(&token);
    signature[63] |= 0xe0;
    assert_eq!(rig.denial(&join(signed, &signature)).await, Denial::Signature);
}

#[tokio::test]
async fn the_other_signature_of_ecdsa_is_the_same_token() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for said in [good(), without("jti")] {
        let token = signer.sign(&said);
        let (signed, signature) = split(&token);
        let (r, s) = signature.split_at(32);
        let twin = join(signed, &[r, &minus(&P256_ORDER, s)].concat());
        assert_ne!(token, twin);
        assert_eq!(rig.claims(&token).await, rig.claims(&twin).await);
    }
}

#[tokio::test]
async fn another_spelling_is_no_token() {
    let signer = Signer::rsa("k", "RS256");
    let rig = Rig::signed_by(&[&signer]);
    let token = signer.sign(&good());
    let (signed, signature) = split(&token);
    let last = token.chars().last().unwrap();
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| *c != last) {
        let twin = format!("{}{other}", &token[..token.len() - 1]);
        assert!(rig.verify(&twin).await.is_err());
    }
    let padded = format!("{signed}.{}", URL_SAFE.encode(&signature));
    let standard = format!("{signed}.{}", STANDARD_NO_PAD.encode(&signature));
    assert_eq!(rig.denial(&padded).await, Denial::Malformed);
    if standard != token {
        assert_eq!(rig.denial(&standard).await, Denial::Malformed);
    }
    for parts in [format!("{token}.x"), format!("{token}.{}.{}", "x", "x"), signed.to_owned(), format!("{token}=")] {
        assert_eq!(rig.denial(&parts).await, Denial::Malformed, "{parts}");
    }
}

#[tokio::test]
async fn padding_passes_where_it_is_allowed_and_changes_no_identity() {
    let signer = Signer::es256("k");
    let mut section = issuer();
    section.allow_padding = true;
    let rig = Rig::new(&Rig::signed_by(&[&signer]).site, vec![section]);
    let token = signer.sign(&without("jti"));
    let (signed, signature) = split(&token);
    let padded = format!("{signed}.{}", URL_SAFE.encode(signature));
    assert_eq!(rig.claims(&padded).await, rig.claims(&token).await);
}

#[tokio::test]
async fn headers_that_ask_to_be_understood_are_refused_though_signed() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let asking = [
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": []}),
        json!({"b64": false, "crit": ["b64"]}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"cty": "JWT"}),
        json!({"kid": ["k"]}),
        json!({"alg": ["ES256"]}),
    ];
    for members in asking {
        assert_eq!(rig.denial(&signer.sign_with(members.clone(), &good())).await, Denial::Malformed, "{members}");
    }
}

#[tokio::test]
async fn members_named_twice_are_refused_though_signed() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let payload = good().to_string();
    for name in ["exp", "sub", "jti", "sid", "iat", "iss", "aud", "scope", "device_id"] {
        let twice = payload.replacen('{', &format!("{{\"{name}\":{},", good()[name]), 1);
        assert_eq!(rig.denial(&signer.sign_text(header, &twice)).await, Denial::Malformed, "{name}");
    }
    let escaped = payload.replacen('{', r#"{"\u006ati":"t2","#, 1);
    assert_eq!(rig.denial(&signer.sign_text(header, &escaped)).await, Denial::Malformed);
    let header = r#"{"alg":"ES256","kid":"k","alg":"ES256"}"#;
    assert_eq!(rig.denial(&signer.sign_text(header, &payload)).await, Denial::Malformed);
}

#[tokio::test]
async fn a_claim_of_the_wrong_type_is_not_a_missing_claim() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let times = [json!("1"), json!(null), json!(true), json!(-1), json!(-0.5), json!(1e300), json!(1e18), json!([NOW])];
    for name in ["exp", "nbf", "iat"] {
        for value in &times {
            let token = signer.sign(&with(name, value.clone()));
            assert_eq!(rig.denial(&token).await, Denial::Claim, "{name}: {value}");
        }
    }
    for name in ["sub", "sid", "jti", "client_id", "azp"] {
        for value in [json!(1), json!(null), json!(["a"]), json!({}), json!("x".repeat(1025)), json!("a\u{0}")] {
            let token = signer.sign(&with(name, value.clone()));
            assert_eq!(rig.denial(&token).await, Denial::Claim, "{name}: {value}");
        }
    }
    for value in [json!(1), json!({}), json!([1]), json!(null)] {
        assert_eq!(rig.denial(&signer.sign(&with("scope", value.clone()))).await, Denial::Claim, "{value}");
    }
    assert_eq!(rig.denial(&signer.sign(&without("exp"))).await, Denial::Claim);
}

#[tokio::test]
async fn the_issuer_is_compared_exactly() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for iss in ["https://id.example.com", "HTTPS://id.example.com/", "https://id.example.com/ ", "", "main"] {
        assert_eq!(rig.denial(&signer.sign(&with("iss", iss.into()))).await, Denial::UnknownIssuer, "{iss:?}");
    }
    for iss in [json!([super::ISSUER]), json!(null), json!(1), json!({})] {
        assert_eq!(rig.denial(&signer.sign(&with("iss", iss.clone()))).await, Denial::Claim, "{iss}");
    }
    assert_eq!(rig.denial(&signer.sign(&without("iss"))).await, Denial::Claim);
}

#[tokio::test]
async fn the_audience_must_name_us() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for aud in [json!("api"), json!(["api"]), json!(["other", "api"])] {
        assert!(rig.verify(&signer.sign(&with("aud", aud.clone()))).await.is_ok(), "{aud}");
    }
    for aud in [json!("other"), json!("API"), json!("api "), json!("ap"), json!(""), json!([]), json!(["other"])] {
        assert_eq!(rig.denial(&signer.sign(&with("aud", aud.clone()))).await, Denial::Audience, "{aud}");
    }
    for aud in [json!(["api", 1]), json!([["api"]]), json!({"api": 1}), json!(null), json!(1)] {
        assert_eq!(rig.denial(&signer.sign(&with("aud", aud.clone()))).await, Denial::Claim, "{aud}");
    }
    assert_eq!(rig.denial(&signer.sign(&without("aud"))).await, Denial::Audience);
}

#[tokio::test]
async fn times_have_a_leeway_of_five_seconds() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let verify = async |name: &str, value: Value| rig.verify(&signer.sign(&with(name, value))).await.map(|_| ());
    let mut old = with("iat", (NOW - 100).into());
    for (exp, good) in [(json!(NOW - 4), true), (json!(NOW - 5), false), (json!((NOW - 4) as f64 + 0.9), true)] {
        old["exp"] = exp.clone();
        assert_eq!(rig.verify(&signer.sign(&old)).await.is_ok(), good, "{exp}");
    }
    assert_eq!(verify("nbf", json!(NOW + 5)).await, Ok(()));
    assert_eq!(verify("nbf", json!(NOW + 6)).await, Err(VerifyError::Denied(Denial::NotYetValid)));
    assert_eq!(verify("iat", json!(NOW + 5)).await, Ok(()));
    assert_eq!(verify("iat", json!(NOW + 6)).await, Err(VerifyError::Denied(Denial::NotYetValid)));
    let fraction = rig.claims(&signer.sign(&with("iat", json!(NOW as f64 - 0.1)))).await;
    assert_eq!(fraction.issued_at, Some(Timestamp::from_secs(NOW - 1)), "floored");
}

#[tokio::test]
async fn no_token_outlives_what_revocations_are_kept_for() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    assert!(rig.verify(&signer.sign(&with("exp", (NOW + 3605).into()))).await.is_ok());
    assert_eq!(rig.denial(&signer.sign(&with("exp", (NOW + 3606).into()))).await, Denial::Lifetime);
    let mut timeless = without("iat");
    timeless["exp"] = (NOW + 3605).into();
    assert!(rig.verify(&signer.sign(&timeless)).await.is_ok());
    timeless["exp"] = (NOW + 3606).into();
    assert_eq!(rig.denial(&signer.sign(&timeless)).await, Denial::Lifetime);
}

#[tokio::test]
async fn how_far_an_issuers_clock_runs_ahead_is_learnt_from_vouched_tokens_only() {
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("k"));
    let rig = Rig::signed_by(&[&signer]);
    let lead = || rig.verifier.issuer("main").unwrap().lead.as_secs();
    assert!(rig.verify(&stranger.sign(&with("iat", (NOW + 4).into()))).await.is_err());
    assert_eq!(lead(), 0);
    assert!(rig.verify(&signer.sign(&with("iat", (NOW + 3).into()))).await.is_ok());
    assert!(rig.verify(&signer.sign(&with("iat", (NOW + 1).into()))).await.is_ok());
    assert_eq!(lead(), 3);
    assert!(rig.verify(&signer.sign(&with("iat", (NOW + 30).into()))).await.is_err());
    assert_eq!(lead(), 3);
}

#[tokio::test]
async fn kinds_are_not_confused() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "application/logout+jwt", "rt+jwt"] {
        assert_eq!(rig.denial(&signer.sign_with(json!({"typ": typ}), &good())).await, Denial::Type, "{typ}");
    }
    for (name, value) in [("token_use", "id"), ("token_use", "refresh"), ("typ", "Refresh"), ("typ", "ID")] {
        assert_eq!(rig.denial(&signer.sign(&with(name, value.into()))).await, Denial::Type, "{name}: {value}");
    }
    let refresh = signer.sign(&with("token_use", "refresh".into()));
    let verified = rig.verify_as(&refresh, TokenKind::Refresh).await.unwrap();
    assert_eq!(verified.claims().kind, TokenKind::Refresh);
    let mut for_its_issuer = with("token_use", "refresh".into());
    for_its_issuer["aud"] = super::ISSUER.into();
    assert!(rig.verify_as(&signer.sign(&for_its_issuer), TokenKind::Refresh).await.is_ok());
    let access = signer.sign_with(json!({"typ": "at+jwt"}), &good());
    assert!(rig.verify_as(&access, TokenKind::Refresh).await.is_err());
    let key = rig.claims(&signer.sign(&with("token_use", "api_key".into()))).await;
    assert_eq!(key.kind, TokenKind::ApiKey);
}

#[tokio::test]
async fn a_token_is_what_it_is_used_as_when_it_does_not_say() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    let silent = signer.sign(&good());
    for kind in [TokenKind::Access, TokenKind::Refresh, TokenKind::Access] {
        assert_eq!(rig.verify_as(&silent, kind).await.unwrap().claims().kind, kind);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_character_never_verifies(at in any::<prop::sample::Index>(), to in "[!-~]") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let signer = Signer::ed25519("k", "EdDSA");
            let rig = Rig::signed_by(&[&signer]);
            let token = signer.sign(&good());
            let at = at.index(token.len());
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(rig.verify(&changed).await.is_err());
            prop_assert!(rig.verify(&token).await.is_ok());
            Ok(())
        })?;
    }

    #[test]
    fn any_text_is_verified_or_refused(text in "[!-~]{1,200}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let refused = runtime.block_on(async { Rig::signed_by(&[]).verify(&text).await.is_err() });
        prop_assert!(refused);
    }
}

#[tokio::test]
async fn a_fractional_claim_is_known_by_its_decimal_text() {
    let signer = Signer::es256("k");
    let rig = Rig::signed_by(&[&signer]);
    for (number, text) in [(json!(1.5), "1.5"), (json!(1.0), "1"), (json!(1e3), "1000"), (json!(-5), "-5")] {
        let claims = rig.claims(&signer.sign(&with("ratio", number))).await;
        assert!(claims.values(&Name::Claim("ratio".into())).contains(text), "{text}");
    }
}
