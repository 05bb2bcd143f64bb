//! Versions of the store's schema: a program runs beside a newer one as far as that one allows, and refuses clearly beyond.

use crate::rig::fleet::Fleet;
use crate::rig::shared_store::{Kind, SharedStore, on_both_stores};
use serde_json::json;

on_both_stores!(
    an_older_program_runs_beside_a_newer_one_that_allows_it,
    an_older_program_refuses_what_it_cannot_understand
);

/// Pretends that a newer program has been here: its schema, and the oldest program that may still run.
fn pretend(store: &SharedStore, schema: u32, oldest: u32) {
    match store.kind {
        Kind::Postgres => {
            store.sql(&format!("UPDATE portcullis.schema SET version = {schema}, oldest = {oldest}"));
        }
        Kind::Redis => {
            let (schema, oldest) = (schema.to_string(), oldest.to_string());
            store.command(&["HSET", "{portcullis}:head", "schema", &schema, "oldest", &oldest]);
        }
    }
}

async fn an_older_program_runs_beside_a_newer_one_that_allows_it(kind: Kind) {
    let fleet = Fleet::start(kind, 2).await;
    let token = fleet.login("alice");
    pretend(&fleet.store, 99, 1);
    fleet.replicas[1].restart().await;
    fleet.all_ready().await;
    fleet.replicas[1].admin().revoke(json!({"issuer": "main", "user": "alice"})).await;
    fleet.all_answer(&token, 401).await;
}

async fn an_older_program_refuses_what_it_cannot_understand(kind: Kind) {
    let fleet = Fleet::start(kind, 2).await;
    let token = fleet.login("alice");
    fleet.replicas[0].admin().revoke(json!({"issuer": "main", "user": "alice"})).await;
    fleet.all_answer(&token, 401).await;
    pretend(&fleet.store, 99, 98);
    fleet.replicas[1].kill();
    let refused = fleet.replicas[1].try_start().await.expect_err("it must not run");
    assert!(!refused.status.success());
    let says_what_to_do = refused.log.contains("newer") || refused.log.contains("upgrade");
    assert!(refused.log.contains("schema 98") && says_what_to_do, "{}", refused.log);
    // Nothing was changed by trying: once it may, it starts as if nothing had been.
    pretend(&fleet.store, 99, 1);
    fleet.replicas[1].start().await;
    fleet.all_ready().await;
    fleet.all_answer(&token, 401).await;
}
