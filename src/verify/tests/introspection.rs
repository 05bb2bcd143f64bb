//! Tokens that only their issuer knows.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::confusion::revocation;
use super::signer::Signer;
use super::{ISSUER, NOW, Rig, Site, bearer, good, issuer, with, without};
use crate::domain::{Change, Denial, Name, Position, TokenKind};
use crate::verify::{Assurance, ClientSecret, IntrospectionSettings, IssuerSettings, Verification};

const URL: &str = "https://id.example.com/introspect";
const OTHER: &str = "https://other.example.com/";
const OTHER_URL: &str = "https://other.example.com/introspect";

fn asked_at(name: &str, iss: &str, url: &str) -> IssuerSettings {
    let asked = IntrospectionSettings {
        url: url.parse().unwrap(),
        client_id: "gateway".into(),
        client_secret: ClientSecret::new("secret"),
        cache_ttl: Duration::from_secs(30),
    };
    IssuerSettings::new(name, iss, Verification::Introspection(asked))
}

fn rig() -> Rig {
    Rig::new(&Site::new(), vec![asked_at("main", ISSUER, URL)])
}

fn active() -> Value {
    with("active", true.into())
}

/// An answer that is active, with another value for one member.
fn active_with(name: &str, value: Value) -> Value {
    let mut said = active();
    said[name] = value;
    said
}

fn change(parts: &[(Name, &str)]) -> Change {
    let revocation = revocation(parts);
    let selector = revocation.selector.clone();
    Change { position: Position::new(1), selector, standing: vec![revocation], cause: None }
}

#[tokio::test]
async fn an_active_token_says_what_its_issuer_says() {
    let rig = rig();
    rig.site.say("opaque", 200, active());
    let verified = rig.verify("opaque").await.unwrap();
    assert_eq!(verified.assurance(), Assurance::Vouched);
    let claims = verified.claims();
    assert_eq!((claims.user.as_deref(), claims.session.as_deref()), (Some("alice"), Some("s1")));
    assert_eq!(&*claims.issuer, ISSUER);
    assert!(rig.counts("portcullis_introspections_total{issuer=\"main\",result=\"active\"} 1"));
}

#[tokio::test]
async fn only_true_is_active_and_only_false_is_not() {
    for (at, said) in [json!("true"), json!(1), json!(null), json!("false"), json!([true])].into_iter().enumerate() {
        let rig = rig();
        let token = format!("t{at}");
        rig.site.say(&token, 200, json!({"active": said}));
        assert!(rig.is_unavailable(&token).await, "{said}");
    }
    let rig = rig();
    rig.site.say("dead", 200, json!({"active": false}));
    assert_eq!(rig.denial("dead").await, Denial::Inactive);
    for (token, status, body) in [
        ("empty", 200, "{}"),
        ("html", 200, "<html>"),
        ("twice", 200, r#"{"active":false,"active":true}"#),
        ("fault", 500, r#"{"active":true}"#),
        ("refused", 401, r#"{"active":true}"#),
        ("created", 201, r#"{"active":true}"#),
    ] {
        rig.site.say(token, status, body);
        assert!(rig.is_unavailable(token).await, "{token}");
    }
}

#[tokio::test]
async fn an_answer_must_fit_its_issuer_and_its_rules() {
    let mut section = asked_at("main", ISSUER, URL);
    section.audiences = vec!["api".into()];
    section.max_token_lifetime = Some(Duration::from_secs(3600));
    let rig = Rig::new(&Site::new(), vec![section]);
    let cases = [
        ("iss", json!(OTHER), Denial::Claim),
        ("iss", json!(1), Denial::Claim),
        ("exp", json!("1"), Denial::Claim),
        ("exp", json!(NOW - 5), Denial::Expired),
        ("nbf", json!(NOW + 6), Denial::NotYetValid),
        ("iat", json!(NOW + 6), Denial::NotYetValid),
        ("exp", json!(NOW + 3606), Denial::Lifetime),
        ("aud", json!("other"), Denial::Audience),
        ("token_use", json!("refresh_token"), Denial::Type),
        ("token_type", json!("Refresh"), Denial::Type),
        ("sub", json!(7), Denial::Claim),
    ];
    for (at, (name, value, denial)) in cases.into_iter().enumerate() {
        let token = format!("t{at}");
        rig.site.say(&token, 200, active_with(name, value.clone()));
        assert_eq!(rig.denial(&token).await, denial, "{name}: {value}");
    }
    rig.site.say("null", 200, active_with("sid", Value::Null));
    assert_eq!(rig.claims("null").await.session, None);
}

#[tokio::test]
async fn an_answer_is_believed_for_its_time_which_use_does_not_prolong() {
    let rig = rig();
    rig.site.say("opaque", 200, active());
    for _ in 0..4 {
        assert!(rig.verify("opaque").await.is_ok());
        rig.advance(7);
    }
    assert_eq!(rig.site.asked(URL), 1);
    rig.site.say("opaque", 200, json!({"active": false}));
    rig.advance(2);
    assert_eq!(rig.denial("opaque").await, Denial::Inactive);
    assert_eq!(rig.site.asked(URL), 2);
}

#[tokio::test]
async fn an_answer_is_not_believed_past_its_exp() {
    let rig = rig();
    rig.site.say("opaque", 200, active_with("exp", (NOW + 10).into()));
    assert!(rig.verify("opaque").await.is_ok());
    rig.site.say("opaque", 200, json!({"active": false}));
    rig.advance(9);
    assert!(rig.verify("opaque").await.is_ok());
    rig.advance(1);
    assert_eq!(rig.denial("opaque").await, Denial::Inactive);
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_moment() {
    let rig = rig();
    rig.site.say("opaque", 200, json!({"active": false}));
    for _ in 0..10 {
        assert_eq!(rig.denial("opaque").await, Denial::Inactive);
    }
    assert_eq!(rig.site.asked(URL), 1);
    rig.site.say("opaque", 200, active());
    rig.advance(5);
    assert!(rig.verify("opaque").await.is_ok());
}

#[tokio::test]
async fn that_nobody_knows_is_not_remembered() {
    let rig = rig();
    rig.site.say("opaque", 503, "");
    assert!(rig.is_unavailable("opaque").await);
    rig.site.say("opaque", 200, active());
    assert!(rig.verify("opaque").await.is_ok());
}

#[tokio::test]
async fn many_requests_with_one_token_ask_once() {
    let rig = rig();
    rig.site.say("opaque", 200, active());
    let held = rig.site.hold().await;
    let release = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(held);
    };
    let (verified, ()) = tokio::join!(join_all((0..20).map(|_| rig.verify("opaque"))), release);
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(rig.site.asked(URL), 1);
}

#[tokio::test]
async fn what_a_revocation_covers_is_asked_anew_and_nothing_else() {
    let rig = rig();
    rig.site.say("alice", 200, active());
    rig.site.say("bob", 200, active_with("sub", "bob".into()));
    assert!(rig.verify("alice").await.is_ok() && rig.verify("bob").await.is_ok());
    rig.verifier.purge(&change(&[(Name::Issuer, ISSUER), (Name::User, "alice")]));
    assert!(rig.verify("bob").await.is_ok());
    assert_eq!(rig.site.asked(URL), 2);
    assert!(rig.verify("alice").await.is_ok() && rig.verify("alice").await.is_ok());
    assert_eq!(rig.site.asked(URL), 3);
}

#[tokio::test]
async fn more_revocations_than_are_remembered_have_all_asked_anew() {
    let rig = rig();
    rig.site.say("alice", 200, active());
    assert!(rig.verify("alice").await.is_ok());
    for _ in 0..256 {
        rig.verifier.purge(&change(&[(Name::Issuer, ISSUER), (Name::User, "carol")]));
    }
    assert!(rig.verify("alice").await.is_ok());
    assert_eq!(rig.site.asked(URL), 1);
    for _ in 0..257 {
        rig.verifier.purge(&change(&[(Name::Issuer, ISSUER), (Name::User, "carol")]));
    }
    assert!(rig.verify("alice").await.is_ok());
    assert_eq!(rig.site.asked(URL), 2);
}

#[tokio::test]
async fn opaque_tokens_are_shown_to_their_issuers_in_order() {
    let two = || vec![asked_at("main", ISSUER, URL), issuer_two()];
    let rig = Rig::new(&Site::new(), two());
    rig.site.say("opaque", 200, without("iss").as_object().map(|said| with_active(said.clone())).unwrap());
    assert_eq!(&*rig.claims("opaque").await.issuer, ISSUER);
    assert_eq!((rig.site.asked(URL), rig.site.asked(OTHER_URL)), (1, 0));
    rig.site.say("theirs", 200, active_with("iss", OTHER.into()));
    assert_eq!(&*rig.claims("theirs").await.issuer, OTHER);
    let only = Some(["other".into()].into());
    let verified = rig.verifier.verify(&bearer("theirs"), TokenKind::Access, &only).await.unwrap();
    assert_eq!(&*verified.claims().issuer, OTHER);
    let none = Some([].into());
    assert!(rig.verifier.verify(&bearer("theirs"), TokenKind::Access, &none).await.is_err());
}

fn issuer_two() -> IssuerSettings {
    asked_at("other", OTHER, OTHER_URL)
}

fn with_active(mut said: serde_json::Map<String, Value>) -> Value {
    said.insert("active".to_owned(), true.into());
    Value::Object(said)
}

#[tokio::test]
async fn an_opaque_token_where_nobody_is_asked_is_unknown() {
    let rig = Rig::new(&Site::new(), vec![issuer()]);
    assert_eq!(rig.denial("opaque").await, Denial::UnknownIssuer);
}

#[tokio::test]
async fn a_jwt_of_such_an_issuer_is_asked_about_and_keeps_its_own_id() {
    let (rig, signer) = (rig(), Signer::es256("k"));
    let token = signer.sign(&good());
    rig.site.say(&token, 200, json!({"active": true, "sub": "alice"}));
    let claims = rig.claims(&token).await;
    assert_eq!((claims.token_id.as_deref(), claims.session.as_deref()), (Some("t1"), None));
    assert_eq!(rig.verifier.read(&bearer(&token)).await.unwrap().digest, claims.digest);
    let liar = signer.sign(&with("jti", "t2".into()));
    rig.site.say(&liar, 200, active());
    assert_eq!(rig.denial(&liar).await, Denial::Claim);
    let stranger = signer.sign(&with("iss", "https://evil.example/".into()));
    assert_eq!(rig.denial(&stranger).await, Denial::UnknownIssuer);
}

#[tokio::test]
async fn a_token_is_what_its_issuer_says_it_is() {
    let rig = rig();
    rig.site.say("refresh", 200, active_with("token_use", "refresh_token".into()));
    let verified = rig.verify_as("refresh", TokenKind::Refresh).await.unwrap();
    assert_eq!(verified.claims().kind, TokenKind::Refresh);
    rig.site.say("access", 200, active_with("token_type", "Bearer".into()));
    assert!(rig.verify_as("access", TokenKind::Refresh).await.is_err());
    rig.site.say("silent", 200, active());
    assert_eq!(rig.verify_as("silent", TokenKind::Refresh).await.unwrap().claims().kind, TokenKind::Refresh);
    assert_eq!(rig.verify("silent").await.unwrap().claims().kind, TokenKind::Access);
}

#[tokio::test]
async fn an_opaque_token_can_be_read_also_when_its_issuer_does_not_know_it() {
    let rig = rig();
    rig.site.say("opaque", 200, active());
    assert_eq!(rig.verifier.read(&bearer("opaque")).await.unwrap().user.as_deref(), Some("alice"));
    let unknown = rig.verifier.read(&bearer("unknown")).await.unwrap();
    assert_eq!((&*unknown.issuer, unknown.token_id), (ISSUER, None));
    rig.site.say("unknown", 200, active());
    rig.advance(5);
    assert_eq!(rig.claims("unknown").await.digest, unknown.digest);
}

#[tokio::test]
async fn the_secret_is_not_shown() {
    let rig = rig();
    let shown = format!("{:?} {:?}", rig.verifier, asked_at("main", ISSUER, URL));
    assert!(shown.contains("gateway") && !shown.contains("\"secret\""));
}
