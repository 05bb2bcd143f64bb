//! Redis as it is run where it must not fail: watched by sentinels, or as a cluster.

use serde_json::json;

use crate::rig::fleet::{Fleet, SOON};
use crate::rig::shared_store::{Cluster, Kind, Options, SharedStore, Watched};
use crate::rig::{Token, within};

/// Three replicas that find their store by this URL.
async fn fleet(url: &str) -> Fleet {
    let fleet = Fleet::prepare(SharedStore::start(Kind::Redis), 3, "").await;
    fleet.replicas.iter().for_each(|replica| replica.configure(&format!("[store]\nurl = '{url}'")));
    fleet.start_all().await;
    fleet
}

/// Revokes as a caller would: again and again, until it is done.
async fn revoke(fleet: &Fleet, at: usize, token: &Token) {
    let body = json!({"selector": {"issuer": "main", "token_id": token.jti()}});
    within("a revoke", async {
        loop {
            let answer = fleet.replicas[at].admin().try_revoke(&body).await;
            match answer.status {
                200 | 201 => return,
                503 => tokio::time::sleep(SOON).await,
                other => panic!("{other} {}", answer.text()),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinels_is_followed() {
    let append_only = Options { append_only: true, ..Options::default() };
    let mut watched = Watched::start(1, &append_only);
    let fleet = fleet(&watched.url()).await;
    let tokens: Vec<_> = (0..20).map(|_| fleet.login("alice")).collect();
    let alive = fleet.login("bob");
    for (at, token) in tokens[..10].iter().enumerate() {
        revoke(&fleet, at % 3, token).await;
    }
    let old = watched.servers[0].port();
    watched.servers[0].kill();
    watched.until_another_leads(old);
    for (at, token) in tokens[10..].iter().enumerate() {
        revoke(&fleet, at % 3, token).await;
    }
    fleet.all_ready().await;
    for token in &tokens {
        fleet.all_answer(token, 401).await;
    }
    fleet.all_answer(&alive, 200).await;
    // Whoever comes anew finds the new master, and all of it there.
    fleet.replicas[0].restart().await;
    fleet.replicas[0].ready().await;
    for token in &tokens {
        assert_eq!(fleet.replicas[0].status_of(token).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_a_store_like_any_other() {
    let cluster = Cluster::start();
    let fleet = fleet(&cluster.url()).await;
    let (dead, lifted) = (fleet.login("dead"), fleet.login("lifted"));
    revoke(&fleet, 0, &dead).await;
    let receipt = fleet.replicas[1].admin().revoke(json!({"issuer": "main", "user": "lifted"})).await;
    fleet.all_answer(&dead, 401).await;
    fleet.all_answer(&lifted, 401).await;
    fleet.replicas[2].admin().lift(&crate::rig::id(&receipt)).await;
    fleet.all_answer(&lifted, 200).await;
    fleet.replicas[2].restart().await;
    fleet.replicas[2].ready().await;
    assert_eq!(fleet.replicas[2].status_of(&dead).await, 401);
    assert_eq!(fleet.replicas[2].status_of(&lifted).await, 200);
}
