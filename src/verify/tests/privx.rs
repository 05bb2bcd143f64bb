//! PrivX's access tokens: signed under the name `Ed25519`, with the padding of base64 left on, and with claims of their own
//! names. What they ask for is granted to the issuer that is set up so, and to no other.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::signer::{Signer, decode, encode};
use super::{NOW, Rig, Site, issuer};
use crate::domain::Denial;
use crate::verify::{Algorithm, ClaimNames, IssuerSettings, Verification};

const ISS: &str = "oam.auth.ssh.com";

/// The issuer's section as its preset makes it.
fn section() -> IssuerSettings {
    let mut section = IssuerSettings { issuer: ISS.into(), name: "privx".into(), ..issuer() };
    if let Verification::Signature(signature) = &mut section.verification {
        signature.algorithms = vec![Algorithm::Ed25519];
    }
    section.audiences = vec!["privx-ui".into()];
    section.allow_padding = true;
    section.claims = ClaimNames {
        user: "userid".into(),
        session: "sessionid".into(),
        scope: Some("permissions".into()),
        comma_separated_scopes: true,
        ..ClaimNames::default()
    };
    section
}

fn claims() -> Value {
    json!({
        "sessionid": "0b1c", "userid": "u1", "domain": "privx-ui", "aud": "privx-ui",
        "permissions": "privx-admin, privx-user", "iss": ISS, "iat": NOW, "exp": NOW + 300
    })
}

fn rig(signer: &Signer, section: IssuerSettings) -> Rig {
    let site = Site::new();
    site.serve_keys(&[signer]);
    Rig::new(&site, vec![section])
}

/// A token as PrivX writes it: what is signed are the padded texts.
fn padded(signer: &Signer, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", URL_SAFE.encode(header.to_string()), URL_SAFE.encode(claims.to_string()));
    format!("{signed}.{}", URL_SAFE.encode(signer.signature(&signed)))
}

#[tokio::test]
async fn a_padded_token_under_the_name_of_the_curve_says_who_and_which_session() {
    let signer = Signer::ed25519("k", "Ed25519");
    let rig = rig(&signer, section());
    let token = padded(&signer, &json!({"alg": "Ed25519", "typ": "JWT"}), &claims());
    assert!(token.split('.').any(|part| part.ends_with('=')), "{token}");
    let read = rig.claims(&token).await;
    assert_eq!((read.session.as_deref(), read.user.as_deref(), read.username), (Some("0b1c"), Some("u1"), None));
    assert_eq!(read.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["privx-admin", "privx-user"]);
    let plain = signer.sign(&claims());
    assert_eq!(rig.claims(&plain).await.session.as_deref(), Some("0b1c"), "unpadded ones pass as well");
}

#[tokio::test]
async fn the_same_token_has_one_digest_with_padding_and_without() {
    let signer = Signer::ed25519("k", "Ed25519");
    let rig = rig(&signer, section());
    let token = padded(&signer, &json!({"alg": "Ed25519", "typ": "JWT"}), &claims());
    let bare_signature = token.trim_end_matches('=').to_owned();
    assert_ne!(token, bare_signature);
    assert_eq!(rig.claims(&token).await.digest, rig.claims(&bare_signature).await.digest);
    // For a revocation nobody verifies, so that any spelling finds the token.
    let bare = token.replace('=', "");
    let read = rig.verifier.read(&super::bearer(&bare)).await.unwrap();
    assert_eq!(read.digest, rig.claims(&token).await.digest);
    // What was signed is what is shown: a spelling that nobody signed does not pass.
    assert_eq!(rig.denial(&bare).await, Denial::Signature);
}

#[tokio::test]
async fn spare_bits_and_half_a_padding_are_no_spelling() {
    let signer = Signer::ed25519("k", "Ed25519");
    let rig = rig(&signer, section());
    let token = padded(&signer, &json!({"alg": "Ed25519", "typ": "JWT"}), &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = signature.trim_end_matches('=');
    let (rest, last) = signature.split_at(signature.len() - 1);
    let spare = char::from(last.as_bytes()[0] + 1);
    for twin in [format!("{signed}.{signature}="), format!("{token}="), format!("{signed}.{rest}{spare}==")] {
        assert_eq!(rig.denial(&twin).await, Denial::Malformed, "{twin}");
    }
}

/// Every issuer but the one that is set up so refuses the name as well as the padding.
#[tokio::test]
async fn an_issuer_that_was_not_set_up_so_takes_neither_name_nor_padding() {
    let signer = Signer::ed25519("k", "Ed25519");
    let header = json!({"alg": "Ed25519", "typ": "JWT"});
    let mut usual = section();
    usual.allow_padding = false;
    let token = padded(&signer, &header, &claims());
    assert_eq!(rig(&signer, usual.clone()).denial(&token).await, Denial::Malformed);
    if let Verification::Signature(signature) = &mut usual.verification {
        signature.algorithms = vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
    }
    assert_eq!(rig(&signer, usual).denial(&signer.sign(&claims())).await, Denial::Signature);
}

#[tokio::test]
async fn no_other_name_passes_for_the_curve() {
    let signer = Signer::ed25519("k", "Ed25519");
    let rig = rig(&signer, section());
    let public = decode(signer.jwk["x"].as_str().unwrap());
    for name in ["none", "None", "HS256", "EdDSA", "ed25519", "ED25519", "Ed25519ph", "Ed448", ""] {
        let token = padded(&signer, &json!({"alg": name, "typ": "JWT"}), &claims());
        assert_eq!(rig.denial(&token).await, Denial::Signature, "{name:?}");
        let unsigned = format!("{}.{}.", encode(json!({"alg": name}).to_string().as_bytes()), encode(b"{}"));
        assert_eq!(rig.denial(&unsigned).await, Denial::Malformed, "{name:?}");
    }
    // The public key as the secret of an HMAC.
    let signed =
        format!("{}.{}", URL_SAFE.encode(json!({"alg": "Ed25519"}).to_string()), URL_SAFE.encode(claims().to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(rig.denial(&forged).await, Denial::Signature);
    // A key of another curve under that name.
    let other = Signer::es256("k");
    let token = other.sign_with(json!({"alg": "Ed25519"}), &claims());
    assert_eq!(rig.denial(&token).await, Denial::Signature);
}

/// A key set may call the key by either of its names.
#[tokio::test]
async fn a_key_may_be_named_either_way() {
    for named in ["EdDSA", "Ed25519"] {
        let mut signer = Signer::ed25519("k", "Ed25519");
        signer.jwk["alg"] = named.into();
        assert!(rig(&signer, section()).verify(&signer.sign(&claims())).await.is_ok(), "{named}");
    }
    let mut signer = Signer::ed25519("k", "Ed25519");
    signer.jwk["alg"] = "ES256".into();
    assert_eq!(rig(&signer, section()).denial(&signer.sign(&claims())).await, Denial::Signature);
}
