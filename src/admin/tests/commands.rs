//! What the calls do.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::{ALICE, ISS, Rig, START, request, settings};

#[tokio::test]
async fn a_revocation_is_new_then_so_already_then_lifted() {
    let rig = Rig::new(settings()).await;
    let body = json!({"selector": {"issuer": "main", "user": "alice"}, "reason": "laptop stolen"});
    let (status, first) = rig.revoke(body.clone()).await;
    assert_eq!(status, 201);
    let revocation = &first["revocation"];
    assert_eq!(revocation["selector"], json!({"issuer": ISS, "user": "alice"}));
    assert_eq!(revocation["kinds"], json!(["access", "refresh"]));
    assert_eq!((&revocation["cutoff"], &revocation["state"]), (&json!(START), &json!("standing")));
    assert_eq!((&revocation["actor"], &revocation["reason"]), (&json!("admin-caller"), &json!("laptop stolen")));
    assert_eq!((&first["already"], &first["readmits_from"]), (&json!(false), &json!(START + 1)));
    assert_eq!((&first["complete"], &first["replicas"][0]["name"]), (&json!(true), &json!("portcullis")));
    assert_eq!(rig.check(json!({"token": ALICE})).await["reason"], "revoked");

    let (status, second) = rig.revoke(body).await;
    assert_eq!((status, &second["already"], &second["revocation"]["id"]), (200, &json!(true), &revocation["id"]));

    let path = format!("/v1/revocations/{}", revocation["id"].as_str().unwrap());
    let shown = rig.json("reader", &path).await;
    assert_eq!((&shown["id"], &shown["replicas"][0]["applied"]), (&revocation["id"], &json!(true)));

    for (caller, already) in [("revoker", false), ("admin", true)] {
        let answer = rig.send(request(Method::DELETE, &format!("{path}?reason=found"), caller, "")).await;
        let lifted: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.status.as_u16(), &lifted["already"]), (200, &json!(already)));
        assert_eq!(lifted["revocation"]["state"], "lifted");
        assert_eq!(lifted["revocation"]["lifted_by"], "revoker-caller");
    }
    assert_eq!(rig.check(json!({"token": ALICE})).await["admitted"], true);
    let nowhere =
        rig.send(request(Method::DELETE, &format!("/v1/revocations/{}", "0".repeat(32)), "revoker", "")).await;
    assert_eq!(nowhere.status, 404);
    nowhere.problem();
}

#[tokio::test]
async fn a_new_revocation_says_where_it_is() {
    let rig = Rig::new(settings()).await;
    let body = json!({"selector": {"issuer": "main", "session": "s"}}).to_string();
    let answer = rig.post("revoker", "/v1/revocations?wait=all&timeout=500ms", body).await;
    let place = answer.headers.get("location").unwrap().to_str().unwrap().to_owned();
    let shown = rig.json("reader", &place).await;
    assert_eq!((&shown["absolute"], &shown["block"], &shown["cutoff"]), (&json!(true), &json!(false), &json!(null)));
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let rig = Rig::new(settings()).await;
    let body = json!({"selector": {"issuer": "main", "user": "alice"}}).to_string();
    let answer = rig.post("revoker", "/v1/revocations?dry_run=true", body).await;
    let told: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.status.as_u16(), &told["dry_run"], &told["recent_tokens"]), (200, &json!(true), &json!(3)));
    assert_eq!(told["readmits_from"], START + 1);
    assert_eq!(rig.json("reader", "/v1/revocations").await["items"], json!([]));
}

#[tokio::test]
async fn a_sweep_needs_admin_and_says_so() {
    let rig = Rig::new(settings()).await;
    let answer = rig.post("revoker", "/v1/revocations", r#"{"selector":{"issuer":"main"}}"#).await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (403, "this needs the right admin".to_owned()));
    let trail = rig.json("auditor", "/v1/audit?actor=revoker-caller").await;
    assert_eq!(trail["items"].as_array().unwrap().len(), 1, "noted once: {trail}");
    assert_eq!(trail["items"][0]["result"], "refused");
}

#[tokio::test]
async fn the_list_is_filtered_and_goes_page_by_page() {
    let rig = Rig::new(settings()).await;
    for user in ["alice", "bob", "carol"] {
        assert_eq!(rig.revoke(json!({"selector": {"issuer": "main", "user": user}})).await.0, 201);
    }
    assert_eq!(rig.revoke(json!({"selector": {"issuer": "main", "claim:device_id": "phone"}})).await.0, 201);
    let users = |page: &Value| {
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["selector"]["user"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    let first = rig.json("reader", "/v1/revocations?limit=3").await;
    assert_eq!(users(&first), ["-", "carol", "bob"]);
    let next = first["next"].as_str().unwrap();
    let second = rig.json("reader", &format!("/v1/revocations?limit=3&cursor={next}")).await;
    assert_eq!((users(&second), &second["next"]), (vec!["alice".to_owned()], &json!(null)));
    assert_eq!(users(&rig.json("reader", "/v1/revocations?user=bob&standing=true").await), ["bob"]);
    assert_eq!(users(&rig.json("reader", "/v1/revocations?claim:device_id=phone").await), ["-"]);
    assert_eq!(users(&rig.json("reader", "/v1/revocations?actor=nobody").await), Vec::<String>::new());
}

#[tokio::test]
async fn tokens_are_invalidated_by_their_text_and_counted() {
    let rig = Rig::new(settings()).await;
    let body =
        json!({"token": ALICE, "refresh_token": "refresh.alice.t2", "tokens": ["access.bob.t3", "garbage", ALICE]});
    let answer = rig.post("revoker", "/v1/invalidate", body.to_string()).await;
    let counts: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.status.as_u16(), &counts["invalidated"]), (200, &json!(3)));
    assert_eq!(counts["previously_invalidated"], 1);
    assert_eq!(counts["errors"].as_array().unwrap().len(), 1);
    assert_eq!(counts["errors"][0]["at"], "tokens[1]");
    for token in [ALICE, "refresh.alice.t2", "access.bob.t3"] {
        assert_eq!(rig.check(json!({"token": token})).await["reason"], "revoked", "{token}");
        assert!(!answer.text.contains(token));
    }
    assert_eq!(rig.check(json!({"token": "access.bob.t4"})).await["admitted"], true);

    let none = rig.post("revoker", "/v1/invalidate", r#"{"token":"garbage"}"#).await;
    assert_eq!((none.status.as_u16(), &none.problem()["errors"][0]["at"]), (400, &json!("token")));
    assert_eq!(rig.post("revoker", "/v1/invalidate", "{}").await.status, 400);
}

#[tokio::test]
async fn a_check_explains_what_stops_a_token() {
    let rig = Rig::new(settings()).await;
    let good = rig.check(json!({"token": ALICE, "path": "/orders/7", "method": "POST"})).await;
    assert_eq!((&good["admitted"], &good["reason"], &good["route"]), (&json!(true), &json!(null), &json!("orders")));
    assert_eq!(good["claims"]["claims"]["device_id"], json!(["phone"]));
    assert!(!good.to_string().contains(ALICE));
    let lost = rig.check(json!({"token": ALICE, "path": "/nowhere"})).await;
    assert_eq!((&lost["admitted"], &lost["reason"]), (&json!(false), &json!("no_route")));
    let (_, receipt) = rig.revoke(json!({"selector": {"token": ALICE}})).await;
    let dead = rig.check(json!({"token": ALICE, "route": "orders"})).await;
    assert_eq!((&dead["admitted"], &dead["reason"]), (&json!(false), &json!("revoked")));
    assert_eq!(dead["revocations"][0]["id"], receipt["revocation"]["id"]);
    assert_eq!(rig.check(json!({"token": "garbage"})).await["reason"], "malformed");
}

#[tokio::test]
async fn a_bad_line_stops_no_other() {
    let rig = Rig::new(settings()).await;
    let good = |user: &str| json!({"selector": {"issuer": "main", "user": user}}).to_string();
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(70_000));
    let body = format!("{}\n\nnonsense\n{long}\n{}\n{}", good("alice"), good("alice"), r#"{"selector":{}}"#);
    let answers = rig.lines("/v1/revocations/bulk", body.clone()).await;
    let statuses: Vec<_> = answers.iter().map(|answer| (answer["line"].as_u64(), answer["status"].as_u64())).collect();
    let expected = [(1, 201), (3, 400), (4, 413), (5, 200), (6, 400)].map(|(line, status)| (Some(line), Some(status)));
    assert_eq!(statuses, expected);
    assert_eq!(answers[0]["id"], answers[3]["id"]);
    assert!(answers[1]["error"].is_string() && answers[1].get("id").is_none());
    let quiet = rig.lines("/v1/revocations/bulk?quiet=true", body).await;
    assert_eq!(quiet.len(), 3);
}

#[tokio::test]
async fn what_was_exported_can_be_imported_elsewhere() {
    let (rig, other) = (Rig::new(settings()).await, Rig::new(settings()).await);
    for body in [
        json!({"selector": {"issuer": "main", "user": "alice"}, "kinds": ["refresh"], "reason": "leak"}),
        json!({"selector": {"issuer": "main", "user": "bob"}, "block": true}),
        json!({"selector": {"token": ALICE}}),
        json!({"selector": {"issuer": "main", "session": "s"}, "expires_at": START + 7}),
        json!({"selector": {"key_id": "k1"}, "cutoff": START - 5}),
    ] {
        assert_eq!(rig.revoke(body.clone()).await.0, 201, "{body}");
    }
    let (_, lifted) = rig.revoke(json!({"selector": {"issuer": "main", "session": "gone"}})).await;
    let lifted = format!("/v1/revocations/{}", lifted["revocation"]["id"].as_str().unwrap());
    assert_eq!(rig.send(request(Method::DELETE, &lifted, "admin", "")).await.status, 200);

    let export = rig.get("reader", "/v1/revocations/bulk").await;
    assert_eq!(export.headers.get(CONTENT_TYPE).unwrap(), "application/x-ndjson");
    assert_eq!(export.text.lines().count(), 5, "{}", export.text);
    let answers = other.lines("/v1/revocations/bulk", export.text.clone()).await;
    assert!(answers.iter().all(|answer| answer["status"] == 201), "{answers:?}");
    assert_eq!(other.get("reader", "/v1/revocations/bulk").await.text, export.text);
}

#[tokio::test]
async fn lines_are_answered_before_the_last_has_come() {
    let rig = Rig::new(settings()).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(piece), receiver))
    });
    let mut request = request(Method::POST, "/v1/revocations/bulk", "admin", Body::from_stream(pieces));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let mut answers = TowerToHyperService::new(rig.router.clone()).call(request).await.unwrap().into_body();
    for user in ["alice", "bob"] {
        let line = format!("{}\n", json!({"selector": {"issuer": "main", "user": user}}));
        sender.send(line.into()).await.unwrap();
        let answer = answers.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(answer.ends_with(b"\n") && answer.windows(3).any(|three| three == b"201"));
    }
    drop(sender);
    while let Some(frame) = answers.frame().await {
        assert!(frame.unwrap().into_data().unwrap().is_empty());
    }
}

#[tokio::test]
async fn readiness_and_status_tell_how_it_stands() {
    let rig = Rig::new(settings()).await;
    rig.revoke(json!({"selector": {"issuer": "main", "user": "alice"}})).await;
    let ready = rig.get("", "/readyz").await;
    assert_eq!((ready.status.as_u16(), &*ready.text), (200, r#"{"status":"ready","reasons":[]}"#));
    rig.clock.advance(Duration::from_secs(5));
    let status = rig.json("reader", "/v1/status").await;
    assert_eq!((&status["standing"], &status["uptime_secs"]), (&json!("in_step"), &json!(5)));
    assert_eq!(status["index"], json!({"entries": 1, "shapes": [{"shape": "issuer+user", "entries": 1}]}));
    assert_eq!((&status["issuers"][0]["name"], &status["replicas"][0]["live"]), (&json!("main"), &json!(true)));
}
