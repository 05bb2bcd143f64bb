//! `wait=all`: an answer that names everyone who has it, and everyone who has not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rig::fleet::{Fleet, SOON};
use crate::rig::shared_store::{Kind, on_both_stores};
use crate::rig::{Token, within};

on_both_stores!(
    a_complete_answer_names_all_and_all_refuse,
    a_stopped_replica_is_named_missing_until_it_goes_on,
    a_replica_that_is_gone_is_not_waited_for,
    a_revocation_shows_where_it_is_applied
);

async fn revoke(fleet: &Fleet, at: usize, token: &Token, timeout: &str) -> Value {
    let body = json!({"selector": {"issuer": "main", "token_id": token.jti()}});
    let path = format!("/v1/revocations?wait=all&timeout={timeout}");
    let answer = fleet.replicas[at].admin().call("POST", &path, Some(&body)).await;
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
    answer.json()
}

fn names(list: &Value) -> BTreeSet<&str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().or_else(|| item["name"].as_str())).collect()
}

async fn a_complete_answer_names_all_and_all_refuse(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    for round in 0..30 {
        let token = fleet.login("alice");
        for replica in &fleet.replicas {
            assert_eq!(replica.status_of(&token).await, 200);
        }
        let receipt = revoke(&fleet, round % 3, &token, "30s").await;
        assert_eq!(receipt["complete"], true, "{receipt}");
        assert_eq!(names(&receipt["replicas"]), BTreeSet::from(["a", "b", "c"]), "{receipt}");
        let position = receipt["position"].as_u64().unwrap();
        for replica in receipt["replicas"].as_array().unwrap() {
            assert!(replica["position"].as_u64().unwrap() >= position && replica["millis"].is_u64(), "{receipt}");
        }
        for replica in &fleet.replicas {
            assert_eq!(replica.status_of(&token).await, 401, "{} confirmed and did not refuse", replica.name);
        }
    }
}

async fn a_stopped_replica_is_named_missing_until_it_goes_on(kind: Kind) {
    // Long enough that who is stopped is believed to be live for the whole story.
    let fleet = Fleet::with(kind, 3, "[store]\nmax_staleness = '60s'").await;
    let (known, token) = (fleet.login("known"), fleet.login("alice"));
    assert_eq!(revoke(&fleet, 0, &known, "30s").await["complete"], true);
    fleet.replicas[2].signal("STOP");
    let receipt = revoke(&fleet, 0, &token, "500ms").await;
    assert_eq!(receipt["complete"], false, "{receipt}");
    assert_eq!(names(&receipt["missing"]), BTreeSet::from(["c"]), "{receipt}");
    assert_eq!(names(&receipt["replicas"]), BTreeSet::from(["a", "b"]), "{receipt}");
    for replica in &fleet.replicas[..2] {
        assert_eq!(replica.status_of(&token).await, 401, "the revocation stands all the same");
    }
    fleet.replicas[2].signal("CONT");
    let receipt = revoke(&fleet, 1, &token, "30s").await;
    assert_eq!((&receipt["complete"], &receipt["already"]), (&json!(true), &json!(true)), "{receipt}");
    assert_eq!(fleet.replicas[2].status_of(&token).await, 401);
}

async fn a_replica_that_is_gone_is_not_waited_for(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    fleet.replicas[1].terminate().await;
    let receipt = revoke(&fleet, 0, &fleet.login("alice"), "30s").await;
    assert_eq!(receipt["complete"], true, "{receipt}");
    assert_eq!(names(&receipt["replicas"]), BTreeSet::from(["a", "c"]), "who said farewell is not waited for");
    fleet.replicas[2].kill();
    // Who is killed says nothing; it is waited for as long as it may be serving, and no longer.
    let receipt = revoke(&fleet, 0, &fleet.login("bob"), "30s").await;
    assert_eq!(receipt["complete"], true, "{receipt}");
    assert_eq!(names(&receipt["replicas"]), BTreeSet::from(["a"]), "{receipt}");
}

async fn a_revocation_shows_where_it_is_applied(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let receipt = revoke(&fleet, 0, &fleet.login("alice"), "30s").await;
    let id = crate::rig::id(&receipt);
    for replica in &fleet.replicas {
        let shown = replica.admin().get(&format!("/v1/revocations/{id}")).await;
        let applied = shown["replicas"].as_array().unwrap().iter().filter(|replica| replica["applied"] == true);
        let applied: BTreeSet<_> = applied.filter_map(|replica| replica["name"].as_str()).collect();
        assert_eq!(applied, BTreeSet::from(["a", "b", "c"]), "{shown}");
    }
    let status = fleet.replicas[1].admin().get("/v1/status").await;
    assert_eq!(names(&status["replicas"]), BTreeSet::from(["a", "b", "c"]), "{status}");
    fleet.replicas[2].kill();
    within("a killed replica to be shown as such", async {
        loop {
            let status = fleet.replicas[0].admin().get("/v1/status").await;
            let live = status["replicas"].as_array().unwrap().iter().filter(|replica| replica["live"] == true);
            if live.filter_map(|replica| replica["name"].as_str()).eq(["a", "b"]) {
                return;
            }
            tokio::time::sleep(SOON).await;
        }
    })
    .await;
}
