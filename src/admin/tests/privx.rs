//! PrivX's session storage as its clients call it.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::sessions::{ids, session};
use super::tokens::{Idp, OTHER};
use super::{Answer, ISS, Rig, START, request, settings};
use crate::admin::dialect::{Dialects, Spoken};
use crate::admin::{Mount, answer, native, privx};
use crate::domain::{Session, SessionType, Timestamp};

const STORAGE: &str = "/auth/api/v1/sessionstorage";

impl Rig {
    fn speaking_privx(mut self) -> Self {
        let (issuer, issuer_name) = (ISS.into(), "main".into());
        let mount = Mount { admin: true, proxy: false, prefix: "/x".into(), issuer, issuer_name };
        let dialects = Dialects {
            privx: Some(privx::Settings { mount, session_password_ttl: Duration::from_secs(60) }),
            ..Dialects::default()
        };
        let spoken = Spoken::new(&self.admin, &dialects).on_admin;
        let native = native::router(&self.admin).with_state(self.admin.clone());
        self.router = answer::around(native.merge(spoken), &self.admin);
        self
    }
}

/// Three sessions of alice, the second opened from the first, one of bob and one of another issuer's alice.
async fn household(rig: &Rig) {
    let at = |secs: u64| Some(Timestamp::from_secs(START + secs));
    let second = Session {
        username: Some("Ann".into()),
        domain: Some("privx-ui".into()),
        address: Some("192.0.2.7".into()),
        user_agent: Some("Phone/1.0".into()),
        kind: SessionType::Sso,
        parent: Some("s/1".into()),
        updated_at: Timestamp::from_secs(START + 5),
        expires_at: at(900),
        token_expires_at: at(300),
        ..session(ISS, "s2", "alice")
    };
    let first = Session { expires_at: at(600), ..session(ISS, "s/1", "alice") };
    let gone = Session { expires_at: Some(Timestamp::from_secs(START)), ..session(ISS, "gone", "alice") };
    rig.knows([first, second, session(ISS, "s3", "alice"), gone, session(ISS, "b1", "bob")]).await;
    rig.knows([session(OTHER, "o1", "alice")]).await;
}

async fn rig() -> Rig {
    let rig = Rig::new(settings()).await.speaking_privx();
    household(&rig).await;
    rig
}

impl Rig {
    async fn storage(&self, method: Method, secret: &str, path: &str, body: &'static str) -> Answer {
        self.send(request(method, &format!("/x{STORAGE}{path}"), secret, body)).await
    }

    async fn listed(&self, secret: &str, path: &str) -> Value {
        let answer = self.storage(Method::GET, secret, path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    async fn searched(&self, query: &str, body: &'static str) -> Value {
        let answer = self.storage(Method::POST, "reader", &format!("/sessions/search{query}"), body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    async fn terminate(&self, secret: &str, path: &str) -> u16 {
        let answer = self.storage(Method::POST, secret, &format!("{path}/terminate"), "").await;
        assert_eq!(answer.status == 200, answer.text.is_empty(), "{path}: {}", answer.text);
        answer.status.as_u16()
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) -> Value {
    let error: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.status.as_u16(), &error["error_code"]), (status, &json!(code)), "{error}");
    assert_eq!(
        (&error["details"], &answer.headers["content-type"]),
        (&json!([]), &"application/json".parse().unwrap())
    );
    error
}

#[tokio::test]
async fn a_session_has_every_field_whatever_is_known_of_it() {
    let rig = rig().await;
    let page = rig.listed("reader", "/users/alice/sessions").await;
    assert_eq!(page["count"], 3, "what is over, of others or elsewhere is none of them: {page}");
    assert_eq!(ids(&page), ["s3", "s/1", "s2"], "by expiry, the unknown first");
    let expected = json!({
        "id": "s2", "user_id": "alice", "source_id": "main", "parent_session_id": "s/1", "domain": "privx-ui",
        "username": "Ann", "remote_addr": "192.0.2.7", "user_agent": "Phone/1.0", "type": "sso",
        "created": "2026-09-21T14:13:20Z", "updated": "2026-09-21T14:13:25Z", "expires": "2026-09-21T14:28:20Z",
        "token_expires": "2026-09-21T14:18:20Z", "logged_out": false, "current": false
    });
    assert_eq!(page["items"][2], expected);
    let bare = &page["items"][0];
    assert_eq!(
        (&bare["username"], &bare["parent_session_id"], &bare["type"]),
        (&json!(""), &json!(""), &json!("login"))
    );
    assert_eq!(
        (&bare["expires"], &bare["token_expires"]),
        (&json!("0001-01-01T00:00:00Z"), &json!("0001-01-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn pages_go_in_order_and_count_all() {
    let rig = rig().await;
    for (query, expected) in [
        ("?", vec!["s3", "s/1", "s2"]),
        ("?sortkey=id&sortdir=DESC", vec!["s3", "s2", "s/1"]),
        ("?sortkey=id&limit=1&offset=1", vec!["s2"]),
        ("?offset=3", vec![]),
        ("?limit=0", vec![]),
        ("?sortkey=type&sortdir=DESC&limit=1", vec!["s2"]),
    ] {
        let page = rig.listed("reader", &format!("/users/alice/sessions{query}")).await;
        assert_eq!(
            (ids(&page), &page["count"]),
            (expected.iter().map(ToString::to_string).collect(), &json!(3)),
            "{query}"
        );
    }
    for (query, property) in [("sortkey=nonsense", "sortkey"), ("sortdir=UP", "sortdir"), ("limit=-1", "limit")] {
        let answer = rig.storage(Method::GET, "reader", &format!("/users/alice/sessions?{query}"), "").await;
        assert_eq!(refused(&answer, 400, "INVALID_REQUEST_DATA")["property"], property);
    }
}

#[tokio::test]
async fn sources_are_the_issuers_name() {
    let rig = rig().await;
    for source in ["main", "https%3A%2F%2Fid.example.com%2F"] {
        assert_eq!(rig.listed("reader", &format!("/sources/{source}/sessions")).await["count"], 4, "{source}");
    }
    for source in ["other", "nowhere", "Main"] {
        assert_eq!(
            rig.listed("reader", &format!("/sources/{source}/sessions")).await,
            json!({"count": 0, "items": []})
        );
    }
    assert_eq!(rig.listed("reader", "/users/nobody/sessions").await, json!({"count": 0, "items": []}));
}

#[tokio::test]
async fn a_search_finds_by_words_user_and_type() {
    let rig = rig().await;
    for (body, expected) in [
        ("", vec!["b1", "s/1", "s2", "s3"]),
        ("{}", vec!["b1", "s/1", "s2", "s3"]),
        (r#"{"keywords":"ANN"}"#, vec!["s2"]),
        (r#"{"keywords":"nothing, phone/1 ,b1"}"#, vec!["b1", "s2"]),
        (r#"{"user_id":"alice","type":"login"}"#, vec!["s/1", "s3"]),
        (r#"{"user_id":"alice","keywords":"no-such"}"#, vec![]),
    ] {
        assert_eq!(ids(&rig.searched("?sortkey=id", body).await), expected, "{body}");
    }
    assert_eq!(rig.searched("?sortkey=id&limit=1", "{}").await["count"], 4);
    for (body, property) in
        [(r#"{"type":"x"}"#, json!("type")), (r#"{"keywords":1}"#, json!("keywords")), ("[]", json!(null))]
    {
        let answer = rig.storage(Method::POST, "reader", "/sessions/search", body).await;
        assert_eq!(refused(&answer, 400, "INVALID_REQUEST_DATA")["property"], property);
    }
}

#[tokio::test]
async fn termination_is_200_and_empty_and_takes_along_what_was_opened_from_it() {
    let rig = rig().await;
    assert_eq!(rig.terminate("revoker", "/sessions/s%2F1").await, 200);
    assert_eq!(ids(&rig.listed("reader", "/users/alice/sessions").await), ["s3"], "the child went as well");
    assert_eq!(rig.terminate("revoker", "/sessions/s%2F1").await, 200, "again");
    assert_eq!(rig.terminate("revoker", "/sessions/gone").await, 200, "over, and remembered");
    for unknown in ["nowhere", "o1", "s%2F1%00", "%2E%2E%2Fs2"] {
        assert_eq!(rig.terminate("revoker", &format!("/sessions/{unknown}")).await, 404, "{unknown}");
    }
    for user in ["alice", "alice", "nobody", "b%2F1"] {
        assert_eq!(rig.terminate("revoker", &format!("/users/{user}/sessions")).await, 200, "{user}");
    }
    assert_eq!(ids(&rig.listed("reader", "/sources/main/sessions").await), ["b1"]);
    let long = "x".repeat(1025);
    assert_eq!(rig.terminate("revoker", &format!("/users/{long}/sessions")).await, 404);
    assert_eq!(ids(&rig.json("admin", "/v1/sessions?user=alice&state=active").await), ["o1"], "the other issuer's");
}

#[tokio::test]
async fn whoever_lacks_a_right_hears_it_in_privx_words_and_the_trail_knows() {
    let rig = rig().await;
    for (method, secret, path) in [
        (Method::GET, "revoker", "/users/alice/sessions"),
        (Method::POST, "revoker", "/sessions/search"),
        (Method::POST, "reader", "/sessions/s2/terminate"),
        (Method::POST, "reader", "/users/alice/sessions/terminate"),
        (Method::POST, "nobody", "/sessions/nowhere/terminate"),
        (Method::GET, "admin", "/users/current/sessions"),
        (Method::POST, "admin", "/users/current/sessions/s2/terminate"),
        (Method::GET, "admin", "/users/current/sessionpassword"),
    ] {
        refused(&rig.storage(method, secret, path, "").await, 403, "PERMISSION_DENIED");
    }
    for secret in ["", "wrong"] {
        let answer = rig.storage(Method::POST, secret, "/users/alice/sessions/terminate", "").await;
        refused(&answer, 401, "PERMISSION_DENIED");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let trail = rig.json("auditor", "/v1/audit").await;
    let told = |action: &str| trail["items"].as_array().unwrap().iter().filter(|item| item["action"] == action).count();
    assert_eq!((told("authorize"), told("authenticate")), (8, 2), "{trail}");
    assert_eq!(rig.listed("reader", "/users/alice/sessions").await["count"], 3);
}

#[tokio::test]
async fn other_methods_are_answered_in_its_words() {
    let rig = rig().await;
    for (method, path) in [(Method::DELETE, "/users/alice/sessions"), (Method::GET, "/sessions/s2/terminate")] {
        refused(&rig.storage(method.clone(), "admin", path, "").await, 405, "BAD_REQUEST");
        refused(&rig.storage(method, "", path, "").await, 401, "PERMISSION_DENIED");
    }
}

async fn logged_in(idp: &Idp) -> Rig {
    let rig = idp.rig().await.speaking_privx();
    household(&rig).await;
    rig
}

#[tokio::test]
async fn privx_scopes_are_rights_for_tokens_of_the_issuer_alone() {
    let idp = Idp::new();
    let rig = logged_in(&idp).await;
    let by = |claims: Value| idp.token(claims);
    for (claims, sees, ends) in [
        (json!({"permissions": "privx-user,privx-admin"}), 200, 200),
        (json!({"scope": "service"}), 200, 200),
        (json!({"permissions": "users-view"}), 200, 403),
        (json!({"scope": "usersManage user"}), 403, 200),
        (json!({"permissions": "privx-user"}), 403, 403),
        (json!({"iss": OTHER, "permissions": "privx-admin"}), 401, 401),
    ] {
        let token = by(claims.clone());
        assert_eq!(rig.storage(Method::GET, &token, "/users/bob/sessions", "").await.status, sees, "{claims}");
        assert_eq!(rig.terminate(&token, "/users/bob/sessions").await, ends, "{claims}");
    }
    let admin = by(json!({"permissions": "privx-admin"}));
    for path in ["/v1/sessions", "/v1/audit", "/v1/revocations"] {
        assert_ne!(rig.get(&admin, path).await.status, 200, "{path}: its admin is not ours");
    }
}

#[tokio::test]
async fn users_mind_their_own_sessions() {
    let idp = Idp::new();
    let rig = logged_in(&idp).await;
    let alice = idp.token(json!({"sub": "alice", "sid": "s3"}));
    let page = rig.listed(&alice, "/users/current/sessions?sortkey=id").await;
    assert_eq!((ids(&page), &page["count"]), (vec!["s/1".to_owned(), "s2".to_owned(), "s3".to_owned()], &json!(3)));
    assert_eq!((&page["items"][0]["current"], &page["items"][2]["current"]), (&json!(false), &json!(true)));
    for foreign in ["b1", "o1", "nowhere", "..%2Fb1"] {
        assert_eq!(rig.terminate(&alice, &format!("/users/current/sessions/{foreign}")).await, 404, "{foreign}");
    }
    for _ in 0..2 {
        assert_eq!(rig.terminate(&alice, "/users/current/sessions/s%2F1").await, 200);
    }
    assert_eq!(ids(&rig.listed(&alice, "/users/current/sessions").await), ["s3"]);
    assert_eq!(rig.terminate(&alice, "/users/current/sessions/s3").await, 200);
    let answer = rig.storage(Method::GET, &alice, "/users/current/sessions", "").await;
    refused(&answer, 401, "PERMISSION_DENIED");
}

#[tokio::test]
async fn what_the_index_knows_to_be_dead_is_in_no_list() {
    let rig = rig().await;
    rig.revoke(json!({"selector": {"issuer": "main", "user": "late"}})).await;
    rig.knows([session(ISS, "late1", "late"), session(ISS, "late2", "late")]).await;
    assert_eq!(rig.listed("reader", "/users/late/sessions").await, json!({"count": 0, "items": []}));
}

#[tokio::test]
async fn the_description_names_every_call() {
    let rig = rig().await;
    let document = rig.json("reader", "/v1/openapi/privx.json").await;
    let paths = document["paths"].as_object().unwrap();
    let described: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!((paths.len(), described), (8, 8));
    let sought = document["components"]["schemas"]["Search"]["properties"].as_object().unwrap();
    assert_eq!(sought.keys().collect::<Vec<_>>(), ["keywords", "type", "user_id"]);
    for call in privx::CALLS {
        let described = &paths[call.path][call.method.as_str().to_lowercase()];
        assert!(described["responses"]["200"].is_object(), "{} {}", call.method, call.path);
    }
}
