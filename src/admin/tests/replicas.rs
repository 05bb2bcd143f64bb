//! Replicas, as callers see them: whose confirmation is waited for, who has applied what, how they are.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::{Rig, request, settings};
use crate::domain::{Checkpoint, Position, Timestamp};
use crate::store::Beat;

/// Another replica of the rig's store, by its sign of life.
async fn other(rig: &Rig, position: u64) {
    let beat = Beat {
        id: "0ther".into(),
        name: "gateway-2".into(),
        version: "0.0.9".into(),
        checkpoint: Checkpoint::from(Position::new(position)),
        standing: "in_step".into(),
        lease: Duration::from_secs(10),
        started_at: Timestamp::from_secs(7),
    };
    rig.store.replicas.beat(beat).await.unwrap();
}

fn named(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

async fn body(rig: &Rig, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let answer =
        rig.send(request(method, path, "admin", if body.is_null() { String::new() } else { body.to_string() })).await;
    (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap())
}

#[tokio::test]
async fn all_that_take_something_back_wait_for_all_and_say_who_is_missing() {
    let rig = Rig::new(settings()).await;
    let (_, first) = rig.revoke(json!({"selector": {"issuer": "main", "user": "first"}})).await;
    assert_eq!((&first["complete"], &first["missing"]), (&json!(true), &json!([])));
    other(&rig, 1).await;
    let calls = [
        (Method::POST, "/v1/revocations", json!({"selector": {"issuer": "main", "user": "alice"}}), 201),
        (Method::POST, "/v1/revocations", json!({"selector": {"issuer": "main", "user": "alice"}}), 200),
        (Method::POST, "/v1/invalidate", json!({"token": "access.bob.t9"}), 200),
        (Method::DELETE, "/v1/sessions/s9", Value::Null, 201),
        (Method::DELETE, "/v1/users/carol/sessions", Value::Null, 201),
        (Method::DELETE, &format!("/v1/revocations/{}", first["revocation"]["id"].as_str().unwrap()), Value::Null, 200),
    ];
    for (method, path, sent, expected) in calls {
        let issuer = if method == Method::DELETE && !path.contains("revocations") { "&issuer=main" } else { "" };
        let waiting = format!("{path}?wait=all&timeout=50ms{issuer}");
        let (status, answer) = body(&rig, method, &waiting, &sent).await;
        assert_eq!((status, &answer["complete"]), (expected, &json!(false)), "{path}: {answer}");
        assert_eq!(
            (named(&answer["replicas"]), &answer["missing"]),
            (vec!["portcullis"], &json!(["gateway-2"])),
            "{path}"
        );
    }
    let token = json!({"token": super::ALICE});
    assert_eq!(rig.check(token).await["admitted"], false, "it stands all the same");
}

#[tokio::test]
async fn a_complete_answer_names_each_replica_with_its_delay() {
    let rig = Rig::new(settings()).await;
    other(&rig, 0).await;
    let ahead = async {
        // The other one is where the log is as soon as the revocation is in.
        let query = crate::store::RevocationQuery { limit: 1, ..Default::default() };
        while rig.store.log.search(&query).await.unwrap().items.is_empty() {
            tokio::task::yield_now().await;
        }
        other(&rig, 1).await;
    };
    let sent = json!({"selector": {"issuer": "main", "user": "alice"}});
    let (answer, ()) = tokio::join!(body(&rig, Method::POST, "/v1/revocations?wait=all&timeout=30s", &sent), ahead);
    let (status, answer) = answer;
    assert_eq!((status, &answer["complete"], &answer["missing"]), (201, &json!(true), &json!([])), "{answer}");
    assert_eq!(named(&answer["replicas"]), ["portcullis", "gateway-2"]);
    for replica in answer["replicas"].as_array().unwrap() {
        assert!(replica["millis"].is_u64() && replica["position"] == answer["position"], "{replica}");
        assert!(replica["id"].as_str().is_some_and(|id| !id.is_empty()));
    }
}

#[tokio::test]
async fn a_bulk_import_tells_it_once_in_its_last_line() {
    let rig = Rig::new(settings()).await;
    let line = |user: &str| json!({"selector": {"issuer": "main", "user": user}}).to_string();
    let text = format!("{}\nnonsense\n{}\n", line("a"), line("b"));
    let lines = rig.lines("/v1/revocations/bulk?wait=all&timeout=30s", text.clone()).await;
    assert_eq!(lines.iter().map(|line| line["line"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3), None]);
    assert_eq!((&lines[3]["complete"], named(&lines[3]["replicas"])), (&json!(true), vec!["portcullis"]));
    assert_eq!(rig.lines("/v1/revocations/bulk", text.clone()).await.len(), 3);
    other(&rig, 1).await;
    let quiet = rig.lines("/v1/revocations/bulk?quiet=true&wait=all&timeout=50ms", text).await;
    assert_eq!((quiet.len(), &quiet[1]["missing"]), (2, &json!(["gateway-2"])), "{quiet:?}");
    let none = rig.lines("/v1/revocations/bulk?wait=all&timeout=50ms", "").await;
    assert_eq!((none.len(), &none[0]["complete"]), (1, &json!(false)), "an empty one asks about all there is");
}

#[tokio::test]
async fn a_revocation_shows_where_it_is_applied_and_status_shows_everyone() {
    let rig = Rig::new(settings()).await;
    for user in ["a", "b"] {
        rig.revoke(json!({"selector": {"issuer": "main", "user": user}})).await;
    }
    other(&rig, 1).await;
    let (_, made) = rig.revoke(json!({"selector": {"issuer": "main", "user": "c"}})).await;
    let shown = rig.json("reader", &format!("/v1/revocations/{}", made["revocation"]["id"].as_str().unwrap())).await;
    let told: Vec<_> =
        shown["replicas"].as_array().unwrap().iter().map(|it| (&it["name"], &it["applied"], &it["live"])).collect();
    let (yes, no) = (&json!(true), &json!(false));
    assert_eq!(told, [(&json!("gateway-2"), no, yes), (&json!("portcullis"), yes, yes)]);

    let status = rig.json("reader", "/v1/status").await;
    assert_eq!(
        (&status["store"], &status["store_answers"], &status["replica"]),
        (&json!("sqlite"), yes, &json!("portcullis"))
    );
    let gone = &status["replicas"][0];
    assert_eq!(
        (&gone["version"], &gone["position"], &gone["lag"], &gone["started_at"]),
        (&json!("0.0.9"), &json!(1), &json!(2), &json!(7))
    );
    assert_eq!(status["replicas"][1]["id"], status["replica_id"]);
    assert_eq!(status["replicas"][1]["standing"], "in_step");
    rig.clock.advance(Duration::from_secs(10));
    let status = rig.json("reader", "/v1/status").await;
    assert_eq!((&status["replicas"][0]["live"], &status["replicas"][0]["silent_ms"]), (no, &json!(10_000)));
}

#[tokio::test]
async fn status_answers_though_the_store_does_not() {
    let rig = Rig::new(settings()).await;
    rig.json("reader", "/v1/status").await;
    rig.heartbeat.stop().await;
    rig.store.close().await;
    let status = rig.json("reader", "/v1/status").await;
    assert_eq!((&status["store_answers"], named(&status["replicas"])), (&json!(false), vec!["portcullis"]));
}

#[tokio::test]
async fn a_wait_that_makes_no_sense_is_refused_before_anything_is_done() {
    let rig = Rig::new(settings()).await;
    let sent = json!({"selector": {"issuer": "main", "user": "alice"}}).to_string();
    for query in ["wait=all&timeout=61s", "wait=all&timeout=soon", "wait=some", "wait=all&wait=all"] {
        assert_eq!(rig.post("admin", &format!("/v1/revocations?{query}"), sent.clone()).await.status, 400, "{query}");
    }
    let list = rig.json("reader", "/v1/revocations").await;
    assert_eq!(list["items"], json!([]));
    let own = rig.send(request(Method::DELETE, "/v1/me/sessions?wait=all", super::ALICE, "")).await;
    assert!(own.status == 400 || own.status == 401, "users hold no answers back: {}", own.status);
}
