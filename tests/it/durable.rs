//! Acknowledged means durable: `kill -9` at any moment loses nothing that was answered, and brings nothing back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::rig::{Admin, Dice, Rig, Token, id};

const ROUNDS: usize = 12;
const WRITERS: usize = 4;

/// What is known of one token; anything in flight when the gateway was killed is unknown.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Alive,
    Revoked { id: String },
    Unknown,
}

type Ledger = Arc<Mutex<HashMap<usize, Known>>>;

/// Revokes and lifts tokens of its own share until the gateway dies; notes only what was answered.
async fn write(
    admin: Admin,
    tokens: Arc<Vec<Token>>,
    ledger: Ledger,
    writer: usize,
    acknowledged: Arc<tokio::sync::Semaphore>,
) {
    let mut dice = Dice::new();
    loop {
        let at = dice.below(tokens.len() / WRITERS) * WRITERS + writer;
        let before = ledger.lock().unwrap().insert(at, Known::Unknown).unwrap();
        let after = match before {
            Known::Revoked { id } => lift(&admin, &id).await.map(|()| Known::Alive),
            _ => revoke(&admin, &tokens[at], dice.below(3)).await.map(|id| Known::Revoked { id }),
        };
        let Some(after) = after else { return };
        ledger.lock().unwrap().insert(at, after);
        acknowledged.add_permits(1);
    }
}

async fn revoke(admin: &Admin, token: &Token, way: usize) -> Option<String> {
    let selector = match way {
        0 => json!({ "token": token.text }),
        1 => json!({"issuer": "main", "session": token.claim("sid")}),
        _ => json!({"issuer": "main", "user": token.claim("sub")}),
    };
    let body = json!({ "selector": selector }).to_string();
    let answer = admin.try_send("POST", "/v1/revocations", Some("application/json"), body).await.ok()?;
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
    Some(id(&answer.json()))
}

async fn lift(admin: &Admin, id: &str) -> Option<()> {
    let answer = admin.try_send("DELETE", &format!("/v1/revocations/{id}"), None, "").await.ok()?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Some(())
}

/// Lifts whatever covers a token whose last call went unanswered, so that the next round knows where it stands.
async fn settle(rig: &Rig, token: &Token) {
    let found = rig.admin.check(&token.text).await;
    for revocation in found["revocations"].as_array().map(Vec::as_slice).unwrap_or_default() {
        rig.admin.lift(revocation["id"].as_str().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_lifted_comes_back_after_kill_9() {
    let mut rig = Rig::start().await;
    let mut dice = Dice::new();
    let users = (0..64).map(|n| rig.issuer.token(json!({"sub": format!("user-{n}")})));
    let tokens = Arc::new(users.collect::<Vec<_>>());
    let ledger: Ledger = Arc::new(Mutex::new((0..tokens.len()).map(|at| (at, Known::Alive)).collect()));
    for round in 0..ROUNDS {
        let acknowledged = Arc::new(tokio::sync::Semaphore::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| tokio::spawn(write(rig.admin.clone(), tokens.clone(), ledger.clone(), n, acknowledged.clone())))
            .collect();
        acknowledged.acquire_many(1 + u32::try_from(dice.below(60)).unwrap()).await.unwrap().forget();
        for _ in 0..dice.below(2000) {
            tokio::task::yield_now().await;
        }
        rig.gateway.kill();
        for writer in writers {
            writer.await.expect("a writer only ends because the gateway did");
        }
        rig.restart().await;
        let known = ledger.lock().unwrap().clone();
        for (at, known) in known {
            match known {
                Known::Alive => assert!(rig.passes(&tokens[at]).await, "round {round}: a lifted revocation came back"),
                Known::Revoked { .. } => {
                    assert!(!rig.passes(&tokens[at]).await, "round {round}: a revocation was lost")
                }
                Known::Unknown => {
                    settle(&rig, &tokens[at]).await;
                    ledger.lock().unwrap().insert(at, Known::Alive);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_revoked_lifted_and_audited_is_the_same_after_a_clean_restart() {
    let mut rig = Rig::start().await;
    let (alice, bob) = (rig.issuer.token(json!({"sub": "alice"})), rig.issuer.token(json!({"sub": "bob"})));
    rig.admin.revoke_as(json!({"selector": {"issuer": "main", "user": "alice"}, "reason": "left the company"})).await;
    let lifted = rig.admin.revoke(json!({"issuer": "main", "user": "bob"})).await;
    rig.admin.lift(&id(&lifted)).await;
    let before = (rig.admin.get("/v1/revocations").await, audit(&rig).await);
    rig.gateway.signal("TERM");
    assert!(rig.gateway.exit().await.success());
    rig.restart().await;
    assert!(!rig.passes(&alice).await);
    assert!(rig.passes(&bob).await);
    let after = (rig.admin.get("/v1/revocations").await, audit(&rig).await);
    assert_eq!(before, after);
}

/// The trail of changes; reading it may leave a trace of its own.
async fn audit(rig: &Rig) -> Vec<Value> {
    let trail = rig.admin.get("/v1/audit").await;
    let items = trail["items"].as_array().unwrap().clone();
    items.into_iter().filter(|item| matches!(item["action"].as_str(), Some("revoke" | "lift"))).collect()
}
