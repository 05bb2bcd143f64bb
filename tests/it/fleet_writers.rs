//! Many writers at once, through every replica: nobody misses an entry, whichever commit came late.

use std::sync::Arc;

use serde_json::json;

use crate::rig::fleet::Fleet;
use crate::rig::shared_store::{Kind, on_both_stores};
use crate::rig::{Token, id};

on_both_stores!(nobody_misses_one_of_two_hundred_writers, what_one_replica_lifts_the_others_let_pass);

const WRITERS: usize = 200;
const EACH: usize = 4;

async fn nobody_misses_one_of_two_hundred_writers(kind: Kind) {
    let fleet = Arc::new(Fleet::start(kind, 3).await);
    let tokens: Arc<Vec<Token>> = Arc::new((0..WRITERS * EACH).map(|n| fleet.login(&format!("user-{n}"))).collect());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (fleet, tokens) = (fleet.clone(), tokens.clone());
            tokio::spawn(async move {
                for (n, token) in tokens[writer * EACH..][..EACH].iter().enumerate() {
                    let admin = fleet.replicas[(writer + n) % 3].admin();
                    admin.revoke(json!({"issuer": "main", "token_id": token.jti()})).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("every revoke was acknowledged");
    }
    // Whoever confirms the last one has all that came before it.
    let last = fleet.login("last");
    let receipt = revoke_everywhere(&fleet, 0, &last).await;
    assert_eq!(receipt["complete"], true, "{receipt}");
    for (at, token) in tokens.iter().enumerate() {
        for replica in &fleet.replicas {
            assert_eq!(replica.status_of(token).await, 401, "{} missed the entry of token {at}", replica.name);
        }
    }
}

async fn revoke_everywhere(fleet: &Fleet, at: usize, token: &Token) -> serde_json::Value {
    let body = json!({"selector": {"issuer": "main", "token_id": token.jti()}});
    let admin = fleet.replicas[at].admin();
    let answer = admin.call("POST", "/v1/revocations?wait=all&timeout=30s", Some(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn what_one_replica_lifts_the_others_let_pass(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let token = fleet.login("alice");
    for round in 0..6 {
        let (revoking, lifting) = (&fleet.replicas[round % 3], &fleet.replicas[(round + 1) % 3]);
        let receipt = revoking.admin().revoke(json!({"issuer": "main", "session": token.claim("sid")})).await;
        assert_eq!(revoking.status_of(&token).await, 401);
        fleet.all_answer(&token, 401).await;
        lifting.admin().lift(&id(&receipt)).await;
        assert_eq!(lifting.status_of(&token).await, 200);
        fleet.all_answer(&token, 200).await;
    }
}
