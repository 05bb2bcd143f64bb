//! Self-service: what a user's own token opens, and what it does not.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::sessions::{ids, session};
use super::tokens::{Idp, OTHER};
use super::{ISS, OPAQUE, Rig, START, request, settings};
use crate::admin::{Settings, TokenRule};
use crate::domain::Right;
use crate::verify::{ClientSecret, IntrospectionSettings, IssuerSettings, Verification};

async fn rig(idp: &Idp) -> Rig {
    let rig = idp.rig().await;
    rig.knows([session(ISS, "s1", "alice"), session(ISS, "s2", "alice"), session(ISS, "b/1", "bob")]).await;
    rig.knows([session(OTHER, "o1", "alice")]).await;
    rig
}

fn alice(idp: &Idp) -> String {
    idp.token(json!({"sub": "alice", "sid": "s1"}))
}

#[tokio::test]
async fn a_user_sees_the_own_sessions_and_which_is_this_one() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    let page = rig.json(&alice(&idp), "/v1/me/sessions?sort=id").await;
    assert_eq!((ids(&page), &page["total"]), (vec!["s1".to_owned(), "s2".to_owned()], &json!(2)));
    assert_eq!((&page["items"][0]["current"], &page["items"][1]["current"]), (&json!(true), &json!(false)));
    for crafted in ["user=bob", "issuer=other", "username=bob", "user=alice&user=bob"] {
        assert_eq!(rig.get(&alice(&idp), &format!("/v1/me/sessions?{crafted}")).await.status, 400, "{crafted}");
    }
    assert_eq!(ids(&rig.json(&alice(&idp), "/v1/me/sessions?parent=b/1").await), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_of_any_issuer_opens_the_own_sessions_and_nothing_else() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    let token = idp.token(json!({"iss": OTHER, "sub": "alice", "sid": "o1", "groups": ["auditors"]}));
    assert_eq!(ids(&rig.json(&token, "/v1/me/sessions").await), ["o1"]);
    for path in ["/v1/sessions", "/v1/sessions/o1", "/v1/users/alice/sessions", "/v1/audit", "/v1/status", "/v1/mess"] {
        let status = rig.get(&token, path).await.status.as_u16();
        assert_eq!(status, 401, "{path}");
    }
    for path in ["/v1/me", "/v1/me/", "/v1/me/../audit", "/v1/me%2fsessions", "/v1/me/sessions/o1/x"] {
        assert!(rig.get(&token, path).await.status.is_client_error(), "{path}");
    }
}

#[tokio::test]
async fn where_rules_name_the_issuer_a_user_without_a_rule_has_no_right() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    let mine = alice(&idp);
    for path in ["/v1/sessions", "/v1/sessions/s1", "/v1/users/alice/sessions", "/v1/audit", "/v1/status"] {
        assert_eq!(rig.get(&mine, path).await.status, 403, "{path}: no rule gives alice a right");
        assert_eq!(rig.delete(&mine, "/v1/sessions/s1").await.0, 403);
    }
}

#[tokio::test]
async fn a_user_ends_the_own_sessions_and_nobody_elses() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    for crafted in ["b%2f1", "b%2F1", "o1", "nowhere", "..%2fs1", "s2%20", "S2", "s2?issuer=other"] {
        let (status, problem) = rig.delete(&alice(&idp), &format!("/v1/me/sessions/{crafted}")).await;
        let expected = if crafted.contains('?') { 400 } else { 404 };
        assert_eq!(status, expected, "{crafted}: {problem}");
        if expected == 404 {
            assert_eq!(problem["detail"], "no such session", "{crafted}: no hint that it exists");
        }
    }
    let all = rig.json("reader", "/v1/sessions?state=active").await;
    assert_eq!(all["total"], 4);
    let (status, ended) = rig.delete(&alice(&idp), "/v1/me/sessions/s2?reason=lost").await;
    assert_eq!((status, &ended["sessions"]), (201, &json!(1)));
    assert_eq!(ended["revocation"]["actor"], "alice@main");
    assert_eq!(rig.json("reader", "/v1/sessions/s2").await["revoked"]["reason"], "lost");
    let trail = rig.json("auditor", "/v1/audit?actor=alice@main").await;
    let results: Vec<&str> =
        trail["items"].as_array().unwrap().iter().map(|item| item["result"].as_str().unwrap()).collect();
    assert_eq!(results.iter().filter(|result| **result == "refused").count(), 7, "{trail}");
    assert!(!trail.to_string().contains("b/1"), "{trail}");
}

#[tokio::test]
async fn whoever_ends_the_own_session_is_logged_out_with_it() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    let token = alice(&idp);
    assert_eq!(
        rig.delete(&token, "/v1/me/sessions?others=true").await,
        (200, json!({"sessions": 1, "readmits_from": null}))
    );
    assert_eq!(rig.get(&token, "/v1/me/sessions").await.status, 200, "the own session goes on");
    assert_eq!(rig.delete(&token, "/v1/me/sessions/s1").await.0, 201);
    assert_eq!(rig.get(&token, "/v1/me/sessions").await.status, 401);
    let fresh = idp.token(json!({"sub": "alice", "sid": "s9", "jti": "t9"}));
    let (status, ended) = rig.delete(&fresh, "/v1/me/sessions").await;
    assert_eq!((status, &ended["readmits_from"]), (200, &json!(START + 1)));
    assert_eq!(rig.get(&fresh, "/v1/me/sessions").await.status, 401);
    assert_eq!(
        rig.json("reader", "/v1/sessions?state=active&sort=id").await["total"],
        2,
        "bob's, and the other alice's"
    );
}

#[tokio::test]
async fn an_opaque_token_is_shown_to_its_issuer_for_the_own_sessions_only() {
    let asked = IntrospectionSettings {
        url: "https://id.example.com/introspect".parse().unwrap(),
        client_id: "gate".into(),
        client_secret: ClientSecret::new("secret"),
        cache_ttl: Duration::from_secs(5),
    };
    let issuer = IssuerSettings::new("main", ISS, Verification::Introspection(asked));
    let rights = [Right::Admin].into_iter().collect();
    let rule = TokenRule { issuer: "main".into(), claim: "sub".into(), value: "alice".into(), rights };
    let rig = Rig::with_issuers(Settings { tokens: vec![rule], ..settings() }, vec![issuer], String::new()).await;
    rig.knows([session(ISS, "s1", "alice"), session(ISS, "b1", "bob")]).await;
    // Whatever else is shown to the issuer fails the test.
    assert_eq!(rig.get("a-secret-with-a-slip", "/v1/status").await.status, 401);
    assert_eq!(rig.get(OPAQUE, "/v1/status").await.status, 401);
    assert_eq!(ids(&rig.json(OPAQUE, "/v1/me/sessions").await), ["s1"]);
    assert_eq!(rig.delete(OPAQUE, "/v1/me/sessions/b1").await.0, 404);
    assert_eq!(rig.delete(OPAQUE, "/v1/me/sessions/s1").await.0, 201);
    assert_eq!(rig.get(OPAQUE, "/v1/me/sessions").await.status, 401);
}

#[tokio::test]
async fn what_is_no_users_own_token_has_no_sessions_of_its_own() {
    let (idp, stranger) = (Idp::new(), Idp::new());
    let rig = rig(&idp).await;
    for secret in ["admin", "reader", "nobody"] {
        let answer = rig.get(secret, "/v1/me/sessions").await;
        assert_eq!(answer.status, 403);
        assert!(answer.detail().contains("user's own access token"), "{}", answer.text);
    }
    let machine = idp.token(json!({"sub": null, "azp": "batch"}));
    assert_eq!(rig.get(&machine, "/v1/me/sessions").await.status, 403);
    for token in [
        stranger.token(json!({"sub": "alice"})),
        idp.token(json!({"sub": "alice", "exp": START - 60})),
        idp.token(json!({"sub": "alice", "iss": "https://unknown.example.com/"})),
        "a-secret-with-a-slip".to_owned(),
    ] {
        assert_eq!(rig.get(&token, "/v1/me/sessions").await.status, 401, "{token}");
    }
    assert_eq!(rig.get("", "/v1/me/sessions").await.status, 401);
    let answer = rig.send(request(Method::POST, "/v1/me/sessions", &alice(&idp), "{}")).await;
    assert_eq!(answer.status, 405);
    let trail: Value = rig.json("auditor", "/v1/audit?action=authorize").await;
    assert_eq!(trail["items"].as_array().unwrap().len(), 4, "{trail}");
}

#[tokio::test]
async fn a_user_gets_a_password_for_the_own_session() {
    let idp = Idp::new();
    let rig = rig(&idp).await;
    let answer = rig.post(&alice(&idp), "/v1/me/session-password", "").await;
    let given: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.status.as_u16(), &given["username"]), (201, &json!("alice")), "{}", answer.text);
    assert_eq!(answer.headers.get("cache-control").unwrap(), "no-store");
    assert!(given["password"].as_str().unwrap().len() == 48 && given["expires_at"].as_u64().unwrap() > START);
    let trail = rig.json("auditor", "/v1/audit?action=session_password").await;
    assert_eq!((&trail["items"][0]["actor"], &trail["items"][0]["result"]), (&json!("alice@main"), &json!("created")));
    assert!(!trail.to_string().contains(given["password"].as_str().unwrap()));

    let nameless = idp.token(json!({"sub": "alice", "jti": "t7"}));
    assert_eq!(rig.post(&nameless, "/v1/me/session-password", "").await.status, 400, "it names no session");
    assert_eq!(rig.post("admin", "/v1/me/session-password", "").await.status, 403, "a credential is no user");
    assert_eq!(rig.post("", "/v1/me/session-password", "").await.status, 401);
    assert_eq!(rig.delete(&alice(&idp), "/v1/me/sessions/s1").await.0, 201);
    assert_eq!(rig.post(&alice(&idp), "/v1/me/session-password", "").await.status, 401, "the session has ended");
}
