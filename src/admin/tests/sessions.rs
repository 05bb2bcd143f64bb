//! Sessions, as operators see and end them.

use axum::http::Method;
use serde_json::{Value, json};

use super::tokens::{Idp, OTHER};
use super::{ALICE, Answer, ISS, Rig, START, request, settings};
use crate::domain::{SeenToken, Session, SessionKey, SessionType, Timestamp, TokenDigest, TokenKind};
use crate::store::{Lesson, Sighting};

pub(super) fn session(iss: &str, id: &str, user: &str) -> Session {
    let key = SessionKey { issuer: iss.into(), id: id.into() };
    Session { user: Some(user.into()), ..Session::new(key, Timestamp::from_secs(START)) }
}

impl Rig {
    pub(super) async fn knows(&self, sessions: impl IntoIterator<Item = Session>) {
        let sightings = sessions.into_iter().map(|session| Sighting { session, token: None }).collect();
        self.store.sessions.touch(sightings).await.unwrap();
    }

    pub(super) async fn delete(&self, secret: &str, path: &str) -> (u16, Value) {
        let Answer { status, text, .. } = self.send(request(Method::DELETE, path, secret, "")).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }
}

pub(super) fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn household() -> Rig {
    let rig = Rig::new(settings()).await;
    let phone = Session {
        username: Some("Ann".into()),
        client: Some("app".into()),
        address: Some("192.0.2.7".into()),
        user_agent: Some("Phone/1.0".into()),
        kind: SessionType::Sso,
        parent: Some("s1".into()),
        created_at: Timestamp::from_secs(START - 50),
        updated_at: Timestamp::from_secs(START - 5),
        expires_at: Some(Timestamp::from_secs(START + 300)),
        token_expires_at: Some(Timestamp::from_secs(START + 60)),
        ..session(ISS, "s2", "alice")
    };
    rig.knows([session(ISS, "s1", "alice"), phone, session(ISS, "s3", "bob")]).await;
    rig
}

#[tokio::test]
async fn a_session_is_shown_with_all_that_is_known_of_it() {
    let rig = household().await;
    let page = rig.json("reader", "/v1/sessions?client=app").await;
    assert_eq!((&page["total"], &page["next"]), (&json!(1), &json!(null)));
    let expected = json!({
        "id": "s2", "issuer": ISS, "user": "alice", "username": "Ann", "parent": "s1", "domain": null, "client": "app",
        "address": "192.0.2.7", "user_agent": "Phone/1.0", "type": "sso", "state": "active", "created_at": START - 50,
        "updated_at": START - 5, "expires_at": START + 300, "token_expires_at": START + 60, "revoked": null
    });
    assert_eq!(page["items"][0], expected);
    let shown = rig.json("reader", "/v1/sessions/s2").await;
    assert_eq!((&shown["user_agent"], &shown["tokens"]), (&json!("Phone/1.0"), &json!([])));
}

#[tokio::test]
async fn sessions_are_found_by_every_filter() {
    let rig = household().await;
    let found = async |query: &str| ids(&rig.json("reader", &format!("/v1/sessions?sort=id&{query}")).await);
    for (query, expected) in [
        ("", vec!["s1", "s2", "s3"]),
        ("user=alice", vec!["s1", "s2"]),
        ("username=Ann", vec!["s2"]),
        ("issuer=main&user=bob", vec!["s3"]),
        ("issuer=https://id.example.com/", vec!["s1", "s2", "s3"]),
        ("parent=s1", vec!["s2"]),
        ("address=192.0.2.7", vec!["s2"]),
        ("type=login", vec!["s1", "s3"]),
        ("state=active", vec!["s1", "s2", "s3"]),
        ("state=revoked", vec![]),
        ("keywords=phone,S3", vec!["s2", "s3"]),
        ("q=nothing&q=ANN", vec!["s2"]),
        (&format!("created_until={START}"), vec!["s2"]),
        (&format!("updated_since={START}"), vec!["s1", "s3"]),
        (&format!("expires_since={START}&expires_until={}", START + 301), vec!["s2"]),
    ] {
        assert_eq!(found(query).await, expected, "{query}");
    }
    let answer = rig.get("reader", "/v1/sessions?issuer=mian").await;
    assert_eq!((answer.status.as_u16(), answer.detail().contains("main")), (400, true));
}

#[tokio::test]
async fn a_long_list_goes_page_by_page_in_any_order() {
    let rig = Rig::new(settings()).await;
    rig.knows((0..7).map(|n| Session {
        created_at: Timestamp::from_secs(START + n / 2),
        ..session(ISS, &format!("s{n}"), "alice")
    }))
    .await;
    for (sort, expected) in [
        ("id", ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]),
        ("-id", ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]),
        ("created", ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]),
        ("user", ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]),
        ("expires", ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = rig.json("reader", &format!("/v1/sessions?sort={sort}&limit=3{cursor}")).await;
            assert_eq!(page["total"], 7);
            seen.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "{sort}");
        let wrong = rig.get("reader", &format!("/v1/sessions?sort=-updated{cursor}")).await;
        assert_eq!(wrong.status, 400, "a cursor of another order");
    }
    assert_eq!(ids(&rig.json("reader", "/v1/sessions?sort=id&offset=5").await), ["s5", "s6"]);
}

#[tokio::test]
async fn a_session_is_ended_with_its_children_and_says_by_whom() {
    let rig = household().await;
    let (status, ended) = rig.delete("revoker", "/v1/sessions/s1?reason=left").await;
    assert_eq!((status, &ended["sessions"], &ended["already"]), (201, &json!(2), &json!(false)));
    assert_eq!(ended["revocation"]["selector"], json!({"issuer": ISS, "session": "s1"}));
    let shown = rig.json("reader", "/v1/sessions/s1").await;
    assert_eq!(shown["state"], "revoked");
    assert_eq!((&shown["revoked"]["by"], &shown["revoked"]["reason"]), (&json!("revoker-caller"), &json!("left")));
    assert_eq!(shown["revoked"]["revocation"], ended["revocation"]["id"]);
    assert_eq!(ids(&rig.json("reader", "/v1/sessions?state=revoked&sort=id").await), ["s1", "s2"]);
    let (status, again) = rig.delete("revoker", "/v1/sessions/s1").await;
    assert_eq!((status, &again["sessions"], &again["already"]), (200, &json!(0), &json!(true)));
    let (status, unseen) = rig.delete("revoker", "/v1/sessions/alice-session").await;
    assert_eq!((status, &unseen["sessions"]), (201, &json!(0)));
    assert_eq!(rig.check(json!({"token": ALICE})).await["reason"], "revoked", "known or not");
}

#[tokio::test]
async fn a_users_sessions_are_listed_and_ended() {
    let rig = household().await;
    let page = rig.json("reader", "/v1/users/alice/sessions?sort=-id&limit=1").await;
    assert_eq!((ids(&page), &page["total"]), (vec!["s2".to_owned()], &json!(2)));
    assert_eq!(rig.get("reader", "/v1/users/alice/sessions?user=bob").await.status, 400);
    let (status, ended) = rig.delete("revoker", "/v1/users/alice/sessions?issuer=main&reason=left").await;
    assert_eq!((status, &ended["sessions"], &ended["readmits_from"]), (201, &json!(2), &json!(START + 1)));
    assert_eq!(ended["revocation"]["selector"], json!({"issuer": ISS, "user": "alice"}));
    assert_eq!(ids(&rig.json("reader", "/v1/sessions?state=active").await), ["s3"]);
}

#[tokio::test]
async fn a_revocation_says_how_many_sessions_it_ends() {
    let rig = household().await;
    let body = json!({"selector": {"issuer": "main", "user": "alice"}});
    let foreseen = rig.post("revoker", "/v1/revocations?dry_run=true", body.to_string()).await;
    assert_eq!(serde_json::from_str::<Value>(&foreseen.text).unwrap()["sessions"], 2);
    assert_eq!(rig.revoke(body).await.1["sessions"], 2);
}

#[tokio::test]
async fn the_tokens_of_a_session_are_shown_by_their_identity() {
    let rig = Rig::new(settings()).await;
    let token = |id: Option<&str>, n| SeenToken {
        digest: TokenDigest::new([n; 32]),
        token_id: id.map(Into::into),
        kind: TokenKind::Refresh,
        issued_at: Some(Timestamp::from_secs(START)),
        expires_at: Some(Timestamp::from_secs(START + u64::from(n))),
        generation: None,
    };
    let tokens = vec![token(Some("t1"), 9), token(None, 0)];
    let lesson = Lesson { session: session(ISS, "s1", "alice"), family: "f".into(), tokens, redeemed: None };
    rig.store.sessions.learn(lesson).await.unwrap();
    let shown = rig.json("reader", "/v1/sessions/s1").await;
    let tokens = shown["tokens"].as_array().unwrap();
    let of = |identity: &str| tokens.iter().find(|token| token["identity"] == identity).unwrap();
    let expected =
        json!({"identity": "t1", "kind": "refresh", "issued_at": START, "expires_at": START + 9, "state": "active"});
    assert_eq!(of("t1"), &expected);
    assert_eq!(of(&"0".repeat(64))["state"], "expired");
}

#[tokio::test]
async fn an_id_may_hold_anything_but_too_much() {
    let rig = Rig::new(settings()).await;
    let odd = ["a/b", "..", "a b?c#d", "%", "é\u{1f600}", "{id}", "s%2f1", "'; DROP TABLE"];
    rig.knows(odd.iter().map(|id| session(ISS, id, id))).await;
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    for id in odd {
        assert_eq!(rig.json("reader", &format!("/v1/sessions/{}", encode(id))).await["id"], id);
        assert_eq!(ids(&rig.json("reader", &format!("/v1/users/{}/sessions", encode(id))).await), [id]);
        assert_eq!(rig.delete("revoker", &format!("/v1/sessions/{}", encode(id))).await.1["sessions"], 1, "{id}");
    }
    for hostile in ["%00", "%ff", &"x".repeat(1_025), &"%41".repeat(1_025), &"x".repeat(60_000)] {
        for method in [Method::GET, Method::DELETE] {
            let answer = rig.send(request(method, &format!("/v1/sessions/{hostile}"), "admin", "")).await;
            assert!(answer.status.is_client_error(), "{} {}", hostile.len(), answer.status);
            answer.problem();
        }
    }
}

#[tokio::test]
async fn the_issuer_is_asked_for_where_it_cannot_be_told() {
    let rig = Idp::new().rig().await;
    rig.knows([session(ISS, "s1", "alice"), session(ISS, "both", "bob"), session(OTHER, "both", "bob")]).await;
    assert_eq!(rig.json("reader", "/v1/sessions/s1").await["issuer"], ISS);
    for path in ["/v1/sessions/both", "/v1/users/bob/sessions"] {
        let answer = rig.get("reader", path).await;
        assert_eq!((answer.status.as_u16(), answer.detail().contains("main, other")), (400, true), "{}", answer.text);
    }
    assert_eq!(rig.json("reader", "/v1/sessions/both?issuer=other").await["issuer"], OTHER);
    assert_eq!(rig.get("reader", "/v1/sessions/none").await.status, 404);
    assert_eq!(rig.json("reader", "/v1/users/nobody/sessions").await["total"], 0);
    assert_eq!(rig.delete("revoker", "/v1/sessions/both").await.0, 400);
    assert_eq!(rig.delete("revoker", "/v1/sessions/none").await.0, 400);
    assert_eq!(rig.delete("revoker", "/v1/sessions/none?issuer=other").await.0, 201);
}
