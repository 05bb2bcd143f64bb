//! A store that is away: proxying goes on as configured, nothing is acknowledged that is not durable, and everyone catches up
//! when it is back.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::rig::fleet::{Fleet, Replica, SOON, tagged};
use crate::rig::shared_store::{Kind, SharedStore, on_both_stores};
use crate::rig::{Token, within};

on_both_stores!(
    an_outage_is_survived_as_configured,
    a_route_may_decide_otherwise,
    many_callers_during_an_outage_are_all_refused,
    who_was_cut_off_catches_up,
    a_cold_start_without_the_store_obeys_the_snapshot
);

/// `a` and `c` reject when out of step, `b` serves on.
async fn mixed(kind: Kind) -> Fleet {
    let fleet = Fleet::prepare(SharedStore::start(kind), 3, "").await;
    fleet.replicas[1].configure("[store]\nwhen_stale = 'allow'");
    fleet.start_all().await;
    fleet
}

async fn revoke(replica: &Replica, token: &Token) -> u16 {
    let body = json!({"selector": {"issuer": "main", "token_id": token.jti()}});
    let answer = replica.admin().try_revoke(&body).await;
    if answer.status == 503 {
        assert!(!answer.header("retry-after").is_empty(), "a 503 says when to come again: {}", answer.text());
    }
    answer.status
}

async fn an_outage_is_survived_as_configured(kind: Kind) {
    let fleet = mixed(kind).await;
    let (dead, alive) = (fleet.login("dead"), fleet.login("alive"));
    assert_eq!(revoke(&fleet.replicas[0], &dead).await, 201);
    fleet.all_answer(&dead, 401).await;
    fleet.store.kill();
    fleet.replicas[0].answers(&alive, 503).await;
    fleet.replicas[2].answers(&alive, 503).await;
    fleet.replicas[1].until_ready(503).await;
    let outage = Instant::now();
    let mut refused = Vec::new();
    while outage.elapsed() < Duration::from_secs(8) {
        for (at, replica) in fleet.replicas.iter().enumerate() {
            let expected = if at == 1 { 200 } else { 503 };
            assert_eq!(replica.status_of(&alive).await, expected, "{}", replica.name);
            assert_eq!(replica.status_of(&dead).await, 401, "{} refuses what it knows", replica.name);
            assert_eq!(replica.readiness().await["status"], 503, "{} says that it is out of step", replica.name);
        }
        let token = fleet.login("refused");
        assert_eq!(revoke(&fleet.replicas[refused.len() % 3], &token).await, 503);
        refused.push(token);
    }
    fleet.store.start_again();
    fleet.all_ready().await;
    fleet.all_answer(&alive, 200).await;
    fleet.all_answer(&dead, 401).await;
    // What was refused may be in or not, for whoever asked was told to ask again; asking again makes it so.
    for token in &refused {
        assert!(matches!(revoke(&fleet.replicas[1], token).await, 200 | 201));
        fleet.all_answer(token, 401).await;
    }
}

async fn a_route_may_decide_otherwise(kind: Kind) {
    let routes = "[[routes]]\npath = '/'\nupstreams = ['{upstream}']\n\
                  [[routes]]\npath = '/open'\nupstreams = ['{upstream}']\nwhen_stale = 'allow'";
    let fleet = Fleet::with(kind, 1, routes).await;
    let (dead, alive) = (fleet.login("dead"), fleet.login("alive"));
    assert_eq!(revoke(&fleet.replicas[0], &dead).await, 201);
    fleet.store.kill();
    let replica = &fleet.replicas[0];
    replica.answers(&alive, 503).await;
    let open = async |token: &Token| replica.try_send(crate::rig::get("/open", &token.text)).await.unwrap().status;
    assert_eq!(open(&alive).await, 200);
    assert_eq!(open(&dead).await, 401);
}

/// No queue grows without bound: everyone is answered, and the replica is as small as before.
async fn many_callers_during_an_outage_are_all_refused(kind: Kind) {
    let fleet = Fleet::start(kind, 2).await;
    fleet.store.stop();
    let calls = (0..400).map(|n| {
        let admin = fleet.replicas[n % 2].admin();
        async move {
            let body = json!({"selector": {"issuer": "main", "token_id": format!("caller-{n}")}});
            admin.try_revoke(&body).await.status
        }
    });
    let statuses = within("400 answers", futures_util::future::join_all(calls)).await;
    // A few may have been on their way to the store when it stopped, and it has not answered them: nobody succeeds.
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    fleet.store.go_on();
    fleet.all_ready().await;
    let token = fleet.login("after");
    within("revokes that succeed again", async {
        while revoke(&fleet.replicas[0], &token).await == 503 {
            tokio::time::sleep(SOON).await;
        }
    })
    .await;
    fleet.all_answer(&token, 401).await;
}

async fn who_was_cut_off_catches_up(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let cut_off = &fleet.replicas[2];
    let (tokens, alive): (Vec<_>, _) = ((0..50).map(|_| fleet.login("alice")).collect(), fleet.login("bob"));
    cut_off.line.cut();
    for token in &tokens {
        assert_eq!(revoke(&fleet.replicas[0], token).await, 201);
    }
    // Others believe it dead in the end, and by then it does not serve.
    let last = fleet.login("last");
    let body = json!({"selector": {"issuer": "main", "token_id": last.jti()}});
    let answer = fleet.replicas[1].admin().call("POST", "/v1/revocations?wait=all&timeout=30s", Some(&body)).await;
    assert_eq!(answer.json()["complete"], true, "{}", answer.text());
    for token in tokens.iter().chain([&last, &alive]) {
        let tag = format!("cut-off-{}", token.jti());
        assert_eq!(cut_off.try_send(tagged(token, &tag)).await.unwrap().status, 503);
        assert!(!fleet.forwarded(&tag));
    }
    cut_off.line.mend();
    cut_off.ready().await;
    for token in tokens.iter().chain([&last]) {
        assert_eq!(cut_off.status_of(token).await, 401, "in step means that it has them all");
    }
    cut_off.answers(&alive, 200).await;
}

async fn a_cold_start_without_the_store_obeys_the_snapshot(kind: Kind) {
    let fleet = Fleet::prepare(SharedStore::start(kind), 3, "").await;
    let [strict, lenient, forgetful] = [0, 1, 2].map(|at| &fleet.replicas[at]);
    let snapshot = |name: &str| format!("snapshot = '{}'", fleet.folder.join(name).display());
    strict.configure(&format!("[store]\n{}", snapshot("a.snapshot")));
    lenient.configure(&format!("[store]\nwhen_stale = 'allow'\n{}", snapshot("b.snapshot")));
    fleet.start_all().await;
    let (dead, lifted, alive) = (fleet.login("dead"), fleet.login("lifted"), fleet.login("alive"));
    assert_eq!(revoke(strict, &dead).await, 201);
    let receipt = strict.admin().revoke(json!({"issuer": "main", "token_id": lifted.jti()})).await;
    strict.admin().lift(&crate::rig::id(&receipt)).await;
    fleet.all_answer(&dead, 401).await;
    fleet.all_answer(&lifted, 200).await;
    for replica in &fleet.replicas {
        replica.terminate().await;
    }
    fleet.store.kill();
    for replica in &fleet.replicas {
        replica.start().await;
        assert_eq!(replica.readiness().await["status"], 503, "{} has proved nothing", replica.name);
    }
    let said = async |token: &Token| {
        let mut said = Vec::new();
        for replica in &fleet.replicas {
            said.push(replica.status_of(token).await);
        }
        said
    };
    assert_eq!(said(&dead).await, [401, 401, 503], "what it remembers it refuses");
    assert_eq!(said(&lifted).await, [503, 200, 503]);
    assert_eq!(said(&alive).await, [503, 200, 503]);
    assert_eq!(revoke(forgetful, &alive).await, 503);
    fleet.store.start_again();
    fleet.all_ready().await;
    assert_eq!(said(&dead).await, [401, 401, 401]);
    assert_eq!(said(&lifted).await, [200, 200, 200]);
}
