//! Sessions: learned from what passes, found, shown, ended by operators and by the users whose they are.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::gateway::BINARY;
use crate::rig::program::run;
use crate::rig::{OPS, READER, REVOKER, Rig, Token, within};

/// Waits until so many sessions are found by this query; what is learned from traffic is written in the background.
async fn found(rig: &Rig, query: &str, many: u64) -> Vec<Value> {
    let path = format!("/v1/sessions?sort=id&{query}");
    within("sessions to be learned", async {
        loop {
            let page = rig.admin.by(READER).get(&path).await;
            if page["total"] == many {
                return page["items"].as_array().unwrap().clone();
            }
        }
    })
    .await
}

/// A token of a user's session that has been used once.
async fn login(rig: &Rig, user: &str, session: &str) -> Token {
    let token = rig.issuer.token(json!({"sub": user, "sid": session, "preferred_username": format!("{user}@x")}));
    assert!(rig.passes(&token).await);
    token
}

async fn portcullis(rig: &Rig, arguments: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", rig.gateway.admin);
    let mut command = Command::new(BINARY);
    command.args(arguments).args(["--admin", &admin]).env("PORTCULLIS_CREDENTIAL", OPS);
    let output = run(command).await;
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_session_that_nobody_has_seen_is_ended_all_the_same() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({"sid": "unseen/1"}));
    let answer = rig.admin.by(REVOKER).call("DELETE", "/v1/sessions/unseen%2F1?reason=left", None).await;
    assert_eq!((answer.status, &answer.json()["sessions"]), (201, &json!(0)));
    assert!(!rig.passes(&token).await);
}

#[tokio::test]
async fn a_user_logs_out_with_the_token_itself() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({"sub": "alice", "sid": "s1"}));
    let bob = rig.issuer.token(json!({"sub": "bob", "sid": "b1"}));
    let alice = rig.admin.by(&token.text);
    for other in ["b1", "nowhere", "b1%2f..%2fs1"] {
        assert_eq!(alice.call("DELETE", &format!("/v1/me/sessions/{other}"), None).await.status, 404, "{other}");
    }
    for path in ["/v1/sessions", "/v1/users/alice/sessions", "/v1/audit", "/v1/status"] {
        assert_eq!(
            alice.call("GET", path, None).await.status,
            401,
            "{path}: no rule gives this issuer's tokens a right"
        );
    }
    assert_eq!(rig.admin.call("GET", "/v1/me/sessions", None).await.status, 403, "a credential is no user");
    assert_eq!(alice.call("DELETE", "/v1/me/sessions/s1", None).await.status, 201);
    assert!(!rig.passes(&token).await && rig.passes(&bob).await);
    assert_eq!(alice.call("GET", "/v1/me/sessions", None).await.status, 401, "a revoked token opens nothing");
}

#[tokio::test]
async fn sessions_are_learned_found_shown_and_ended() {
    let rig = Rig::start().await;
    let (first, second) = (login(&rig, "alice", "s1").await, login(&rig, "alice", "s2").await);
    let bob = login(&rig, "bob", "s3").await;
    let sessions = found(&rig, "user=alice", 2).await;
    assert_eq!((&sessions[0]["id"], &sessions[0]["username"]), (&json!("s1"), &json!("alice@x")));
    assert_eq!((&sessions[0]["address"], &sessions[0]["state"]), (&json!("127.0.0.1"), &json!("active")));
    let shown = rig.admin.get("/v1/sessions/s1").await;
    assert_eq!(shown["tokens"][0]["identity"], first.jti());
    assert!(!shown.to_string().contains(&first.text));

    assert_eq!(rig.admin.call("DELETE", "/v1/sessions/s1?reason=lost", None).await.json()["sessions"], 1);
    assert!(!rig.passes(&first).await && rig.passes(&second).await);
    assert_eq!(rig.admin.get("/v1/sessions/s1").await["revoked"]["reason"], "lost");
    assert_eq!(rig.admin.call("DELETE", "/v1/users/alice/sessions", None).await.json()["sessions"], 1);
    assert!(!rig.passes(&second).await && rig.passes(&bob).await);
    found(&rig, "state=revoked", 2).await;
    let ahead = rig.issuer.token(json!({"sub": "alice", "sid": "s2", "iat": crate::rig::issuer::now() + 4}));
    assert!(!rig.passes(&ahead).await, "a session that was named is dead however far the clock runs ahead");
}

#[tokio::test]
async fn users_see_and_end_their_own_sessions() {
    let rig = Rig::start().await;
    let (phone, laptop) = (login(&rig, "alice", "phone").await, login(&rig, "alice", "laptop").await);
    let bob = login(&rig, "bob", "b1").await;
    found(&rig, "", 3).await;
    let alice = rig.admin.by(&laptop.text);
    let own = alice.get("/v1/me/sessions?sort=id").await;
    assert_eq!(
        (&own["total"], &own["items"][0]["current"], &own["items"][0]["id"]),
        (&json!(2), &json!(true), &json!("laptop"))
    );
    assert_eq!(alice.call("DELETE", "/v1/me/sessions/b1", None).await.status, 404);
    assert_eq!(alice.call("DELETE", "/v1/me/sessions?others=true", None).await.json()["sessions"], 1);
    assert!(!rig.passes(&phone).await && rig.passes(&laptop).await && rig.passes(&bob).await);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_from_the_shell() {
    let rig = Rig::start().await;
    let alice = login(&rig, "alice", "s1").await;
    login(&rig, "bob", "s2").await;
    found(&rig, "", 2).await;
    let (code, listed) = portcullis(&rig, &["sessions", "--user", "alice"]).await;
    assert!(code == 0 && listed.contains("s1") && listed.contains("alice@x") && !listed.contains("s2"), "{listed}");
    let (code, shown) = portcullis(&rig, &["sessions", "show", "s1", "--json"]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&shown).unwrap()["user"]), (0, &json!("alice")));
    assert_eq!(portcullis(&rig, &["sessions", "show", "s9"]).await.0, 1);
    let (code, ended) = portcullis(&rig, &["sessions", "end", "--user", "alice", "--reason", "left"]).await;
    assert!(code == 0 && ended.contains("1 session ended"), "{ended}");
    assert!(!rig.passes(&alice).await);
    let (_, listed) = portcullis(&rig, &["sessions", "--state", "revoked", "--sort", "-created"]).await;
    assert!(listed.contains("s1") && !listed.contains("s2"), "{listed}");
}
