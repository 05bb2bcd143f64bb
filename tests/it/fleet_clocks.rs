//! Clocks that disagree: an issuer five seconds ahead of the replicas, and one five seconds behind. The replicas of one machine
//! share its clock, so the issuer's is the one that is moved.

use serde_json::{Value, json};

use crate::rig::fleet::{Fleet, SOON};
use crate::rig::shared_store::{Kind, on_both_stores};
use crate::rig::{Token, now, until, within};

on_both_stores!(
    a_login_by_a_clock_that_runs_ahead_dies_with_its_user_everywhere,
    a_clock_that_runs_behind_errs_towards_logging_out,
    a_cutoff_is_the_same_second_everywhere
);

/// The issuer's leeway in every fleet, and how far its clock is off here.
const SKEW: u64 = 5;

async fn revoke_everywhere(fleet: &Fleet, at: usize, body: Value) -> Value {
    let admin = fleet.replicas[at].admin();
    let answer = admin.call("POST", "/v1/revocations?wait=all&timeout=30s", Some(&body)).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    assert_eq!(answer.json()["complete"], true, "{}", answer.text());
    answer.json()
}

async fn everyone_answers(fleet: &Fleet, token: &Token, status: u16) {
    for replica in &fleet.replicas {
        assert_eq!(replica.status_of(token).await, status, "{}", replica.name);
    }
}

/// The replica that is told to revoke never saw the token: the session that another one learned is what kills it.
async fn a_login_by_a_clock_that_runs_ahead_dies_with_its_user_everywhere(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let ahead = now() + SKEW;
    let token = fleet.issuer.token(json!({"sub": "alice", "iat": ahead, "exp": ahead + 600}));
    assert_eq!(fleet.replicas[0].status_of(&token).await, 200);
    within("the session to be known everywhere", async {
        while fleet.replicas[1].admin().get("/v1/users/alice/sessions").await["items"] == json!([]) {
            tokio::time::sleep(SOON).await;
        }
    })
    .await;
    revoke_everywhere(&fleet, 1, json!({"selector": {"issuer": "main", "user": "alice"}})).await;
    everyone_answers(&fleet, &token, 401).await;
    let other = fleet.issuer.token(json!({"sub": "bob", "iat": ahead, "exp": ahead + 600}));
    everyone_answers(&fleet, &other, 200).await;
}

async fn a_clock_that_runs_behind_errs_towards_logging_out(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let login = |at: u64| fleet.issuer.token(json!({"sub": "alice", "iat": at, "exp": at + 600}));
    let before = login(now() - SKEW);
    everyone_answers(&fleet, &before, 200).await;
    let receipt = revoke_everywhere(&fleet, 0, json!({"selector": {"issuer": "main", "user": "alice"}})).await;
    let readmits = receipt["readmits_from"].as_u64().unwrap();
    everyone_answers(&fleet, &before, 401).await;
    // A login after the revoke, by a clock that has not come so far: refused, as promised, until it has.
    everyone_answers(&fleet, &login(readmits - 1), 401).await;
    until(readmits).await;
    everyone_answers(&fleet, &login(readmits - 1), 401).await;
    everyone_answers(&fleet, &login(readmits), 200).await;
    // Nobody else is touched, whatever his clock says.
    let bob = fleet.issuer.token(json!({"sub": "bob", "iat": now() - 60}));
    everyone_answers(&fleet, &bob, 200).await;
}

async fn a_cutoff_is_the_same_second_everywhere(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let cutoff = now() - 10;
    let body = json!({"selector": {"issuer": "main", "user": "alice"}, "cutoff": cutoff});
    revoke_everywhere(&fleet, 2, body).await;
    for (issued, status) in [(cutoff - SKEW, 401), (cutoff, 401), (cutoff + 1, 200), (cutoff + SKEW, 200)] {
        everyone_answers(&fleet, &fleet.issuer.token(json!({"sub": "alice", "iat": issued})), status).await;
    }
}
