//! A token in any re-encoding is as dead as its original: revocation keys on meaning, never on text.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hyper::Request;
use serde_json::json;

use crate::rig::keys::{Alg, b64};
use crate::rig::serve::full;
use crate::rig::{Body, Rig, Token};

/// A route that takes tokens wherever a route may.
const EVERY_PLACE: &str = r#"
[[routes]]
path = "/"
upstreams = ["{upstream}"]
upgrades = ["websocket"]
tokens = ["bearer", "cookie:session", "header:X-Token", "websocket-protocol"]
"#;

/// The order of P-256 (FIPS 186-4 D.1.2.3).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The other good signature of an ECDSA pair: (r, n - s).
fn mirrored(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let mut mirrored = r.to_vec();
    let mut difference = [0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i16::from(P256_ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        difference[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    mirrored.extend(difference);
    mirrored
}

/// The last character of a base64url text with its spare bits set another way.
fn with_spare_bits(text: &str, flip: u8) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (head, last) = text.split_at(text.len() - 1);
    let value = ALPHABET.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    format!("{head}{}", char::from(ALPHABET[value ^ usize::from(flip)]))
}

/// Other texts that a careless reader takes for the same token.
fn spellings(token: &str, alg: Alg) -> Vec<(String, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("a token has three parts") };
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let join = |header: &str, payload: &str, signature: &str| format!("{header}.{payload}.{signature}");
    let padded = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut all = vec![
        ("padded signature".into(), join(header, payload, &padded(signature))),
        ("padded payload".into(), join(header, &padded(payload), signature)),
        ("padding on all".into(), join(&padded(header), &padded(payload), &padded(signature))),
        ("one = too many".into(), format!("{token}=")),
        ("standard alphabet".into(), join(header, payload, &STANDARD_NO_PAD.encode(&raw))),
        ("trailing dot".into(), format!("{token}.")),
        ("leading dot".into(), format!(".{token}")),
        ("fourth part".into(), format!("{token}.AAAA")),
        ("no signature".into(), join(header, payload, "")),
        ("zero appended".into(), join(header, payload, &b64([&raw[..], &[0]].concat()))),
        ("zero prepended".into(), join(header, payload, &b64([&[0], &raw[..]].concat()))),
        ("truncated".into(), join(header, payload, &b64(&raw[..raw.len() - 1]))),
        ("percent encoded".into(), token.replace('.', "%2e")),
        ("upper case".into(), token.to_uppercase()),
        ("quoted".into(), format!("\"{token}\"")),
        ("trailing comma".into(), format!("{token},")),
        ("trailing semicolon".into(), format!("{token};")),
    ];
    for flip in 1..16 {
        all.push((format!("spare bits {flip}"), join(header, payload, &with_spare_bits(signature, flip))));
    }
    if alg == Alg::Es256 {
        all.push(("mirrored signature".into(), join(header, payload, &b64(mirrored(&raw)))));
    }
    all
}

fn plain(headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().uri("/").method("GET");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(full("")).unwrap()
}

/// The same token in other places and other dress.
fn places(token: &str) -> Vec<(&'static str, Request<Body>)> {
    let bearer = format!("Bearer {token}");
    vec![
        ("lower case scheme", plain(&[("authorization", &format!("bearer {token}"))])),
        ("upper case scheme", plain(&[("authorization", &format!("BEARER {token}"))])),
        ("two blanks", plain(&[("authorization", &format!("Bearer  {token}"))])),
        ("a tab", plain(&[("authorization", &format!("Bearer\t{token}"))])),
        ("a trailing blank", plain(&[("authorization", &format!("Bearer {token} "))])),
        ("no scheme", plain(&[("authorization", token)])),
        ("another scheme", plain(&[("authorization", &format!("Token {token}"))])),
        ("dpop scheme", plain(&[("authorization", &format!("DPoP {token}"))])),
        ("a cookie", plain(&[("cookie", &format!("session={token}"))])),
        ("a quoted cookie", plain(&[("cookie", &format!("session=\"{token}\""))])),
        ("a cookie among others", plain(&[("cookie", &format!("a=b; session={token}; c=d"))])),
        ("the cookie twice", plain(&[("cookie", &format!("session=x; session={token}"))])),
        ("two cookie fields", plain(&[("cookie", "session=x"), ("cookie", &format!("session={token}"))])),
        ("its header", plain(&[("x-token", token)])),
        ("its header with a scheme", plain(&[("x-token", &bearer)])),
        ("a header spelled with _", plain(&[("x_token", token)])),
        ("another header", plain(&[("x-access-token", token)])),
        ("proxy authorization", plain(&[("proxy-authorization", &bearer)])),
        ("bearer and cookie", plain(&[("authorization", &bearer), ("cookie", &format!("session={token}"))])),
        ("two authorizations", plain(&[("authorization", "Bearer x"), ("authorization", &bearer)])),
        ("a list", plain(&[("authorization", &format!("Bearer x, {bearer}"))])),
        (
            "the WebSocket protocol list",
            plain(&[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", &format!("chat, bearer, {token}")),
            ]),
        ),
    ]
}

async fn status(rig: &Rig, request: Request<Body>) -> u16 {
    rig.send(request).await.status
}

async fn spelled(rig: &Rig, text: &str) -> u16 {
    match Request::builder().uri("/").header("authorization", format!("Bearer {text}")).body(full("")) {
        Ok(request) => status(rig, request).await,
        Err(_) => 400,
    }
}

#[tokio::test]
async fn a_revoked_token_is_dead_in_every_spelling() {
    for alg in Alg::ALL {
        let rig = Rig::start().await;
        rig.issuer.add_key(alg);
        for claims in [json!({}), json!({ "jti": null })] {
            let token = rig.issuer.token(claims);
            assert!(rig.passes(&token).await);
            let spellings = spellings(&token.text, alg);
            // Most are refused for their form already; whatever is not must die with the original.
            for (name, text) in &spellings {
                let found = spelled(&rig, text).await;
                assert!(matches!(found, 200 | 400 | 401), "{alg:?} {name}: {found}");
            }
            rig.admin.revoke(json!({ "token": token.text })).await;
            for (name, text) in &spellings {
                let found = spelled(&rig, text).await;
                assert!(matches!(found, 400 | 401), "{alg:?} {name}: {found} though the token was revoked");
            }
        }
    }
}

#[tokio::test]
async fn revoking_a_spelling_revokes_the_token() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({ "jti": null }));
    let parts: Vec<&str> = token.text.split('.').collect();
    let twin = format!("{}.{}.{}", parts[0], parts[1], b64(mirrored(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap())));
    assert_eq!(spelled(&rig, &twin).await, 200, "the other signature is as good (RFC 7518 has no low-s rule)");
    rig.admin.revoke(json!({ "token": twin })).await;
    assert!(!rig.passes(&token).await);
    assert_eq!(spelled(&rig, &twin).await, 401);
}

#[tokio::test]
async fn a_revoked_token_is_dead_in_every_place() {
    let rig = Rig::with(EVERY_PLACE).await;
    let token = rig.issuer.token(json!({}));
    for (name, request) in places(&token.text) {
        let expected: &[u16] = match name {
            "lower case scheme" | "upper case scheme" | "a cookie" | "a cookie among others" | "its header" => &[200],
            // The upstream does not upgrade there: an ordinary answer.
            "the WebSocket protocol list" => &[200],
            "two authorizations" | "bearer and cookie" | "a list" | "the cookie twice" | "two cookie fields" => {
                &[400, 401]
            }
            _ => &[200, 400, 401],
        };
        let found = status(&rig, request).await;
        assert!(expected.contains(&found), "{name}: {found} before the revoke");
    }
    rig.admin.revoke(json!({ "token": token.text })).await;
    for (name, request) in places(&token.text) {
        let found = status(&rig, request).await;
        assert!(matches!(found, 400 | 401), "{name}: {found} though the token was revoked");
    }
}

#[tokio::test]
async fn escapes_in_the_claims_do_not_hide_a_token() {
    let rig = Rig::start().await;
    let plain = rig.issuer.token(json!({"jti": "abc", "sid": "s1"}));
    let (kid, alg) = rig.issuer.signing_key();
    let head = json!({"alg": alg.name(), "kid": kid, "typ": "at+jwt"}).to_string();
    let payload = plain.claims.to_string().replace(r#""jti":"abc""#, r#""\u006ati":"\u0061bc""#);
    assert_ne!(payload, plain.claims.to_string());
    let escaped = rig.issuer.sign(&head, &payload);
    assert_eq!(spelled(&rig, &escaped).await, 200);
    rig.admin.revoke(json!({"issuer": "main", "token_id": "abc"})).await;
    assert!(!rig.passes(&plain).await);
    assert_eq!(spelled(&rig, &escaped).await, 401);
}

#[tokio::test]
async fn revoked_forged_and_foreign_tokens_get_the_same_answer() {
    let rig = Rig::start().await;
    let revoked = rig.issuer.token(json!({}));
    rig.admin.revoke(json!({ "token": revoked.text })).await;
    let genuine = rig.issuer.token(json!({})).text;
    let forged = with_spare_bits(genuine.rsplit_once('.').unwrap().0, 0) + "." + &b64([7; 64]);
    let expired = rig.issuer.token(json!({"iat": 1000, "exp": 1600})).text;
    let foreign = rig.issuer.token(json!({"iss": "https://nobody.test/"})).text;
    let of = |answer: crate::rig::Answer| {
        (
            answer.status,
            answer.header("www-authenticate").to_owned(),
            answer.header("content-type").to_owned(),
            answer.text(),
        )
    };
    let expected = of(rig.get("/", &revoked.text).await);
    assert_eq!(expected.0, 401);
    for text in [forged, expired, foreign, "garbage".to_owned()] {
        assert_eq!(of(rig.get("/", &text).await), expected);
    }
}

/// A verification that is remembered says who the token is, never whether it may pass.
#[tokio::test]
async fn a_cached_verification_never_carries_a_verdict() {
    let rig = Rig::start().await;
    let token: Token = rig.issuer.token(json!({}));
    for _ in 0..20 {
        assert!(rig.passes(&token).await);
    }
    let receipt = rig.admin.revoke(json!({ "token": token.text })).await;
    for _ in 0..20 {
        assert!(!rig.passes(&token).await);
    }
    rig.admin.lift(&crate::rig::id(&receipt)).await;
    assert!(rig.passes(&token).await);
}
