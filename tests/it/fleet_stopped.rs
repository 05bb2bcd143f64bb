//! A replica that was stopped and goes on: it does not serve one request on what it knew before.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::fleet::{Fleet, Replica, SOON, tagged};
use crate::rig::http::{Connection, Wire};
use crate::rig::shared_store::{Kind, on_both_stores};
use crate::rig::{Token, within};

on_both_stores!(
    a_stopped_replica_goes_on_and_forwards_nothing_that_died_meanwhile,
    a_stopped_replica_that_cannot_reach_the_store_serves_nobody,
    short_stops_forward_nothing_that_everyone_confirmed
);

/// Revokes at `at` and waits until that is so everywhere, which is when who is stopped is no longer counted on.
async fn revoke_everywhere(fleet: &Fleet, at: usize, token: &Token) -> Value {
    let body = json!({"selector": {"issuer": "main", "session": token.claim("sid")}});
    let path = "/v1/revocations?wait=all&timeout=30s";
    let answer = fleet.replicas[at].admin().call("POST", path, Some(&body)).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    let receipt = answer.json();
    assert_eq!(receipt["complete"], true, "{receipt}");
    receipt
}

/// Connections that were open before it stopped, and as many that are not yet accepted.
async fn connections(replica: &Replica, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(replica.proxy(), Wire::H1, None).await.unwrap());
    }
    connections
}

/// Requests that wait in the sockets of a stopped replica: with the dead token and with the live one in turn.
fn queued(
    connections: Vec<Connection>,
    dead: &Token,
    alive: &Token,
) -> Vec<tokio::task::JoinHandle<(bool, String, u16)>> {
    let send = |(at, mut connection): (usize, Connection)| {
        let (is_dead, tag) = (at % 2 == 0, format!("queued-{at}"));
        let request = tagged(if is_dead { dead } else { alive }, &tag);
        tokio::spawn(async move { (is_dead, tag, connection.send(request).await.expect("an answer").status) })
    };
    connections.into_iter().enumerate().map(send).collect()
}

async fn a_stopped_replica_goes_on_and_forwards_nothing_that_died_meanwhile(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let stopped = &fleet.replicas[2];
    for round in 0..3 {
        let (dead, alive) = (fleet.login("dead"), fleet.login("alive"));
        fleet.all_answer(&dead, 200).await;
        let mut waiting = connections(stopped, 8).await;
        stopped.signal("STOP");
        waiting.extend(connections(stopped, 8).await);
        let receipt = revoke_everywhere(&fleet, round % 2, &dead).await;
        assert_eq!(receipt["replicas"].as_array().unwrap().len(), 2, "{receipt}");
        let waiting = queued(waiting, &dead, &alive);
        tokio::time::sleep(Duration::from_millis(50)).await;
        stopped.signal("CONT");
        for answered in waiting {
            let (is_dead, tag, status) = answered.await.unwrap();
            if is_dead {
                assert!(matches!(status, 401 | 503), "{tag} of a dead token was answered {status}");
                assert!(!fleet.forwarded(&tag), "{tag} was forwarded");
            } else {
                assert!(matches!(status, 200 | 503), "{tag} was answered {status}");
            }
        }
        stopped.ready().await;
        assert_eq!(stopped.status_of(&dead).await, 401);
        stopped.answers(&alive, 200).await;
    }
}

async fn a_stopped_replica_that_cannot_reach_the_store_serves_nobody(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let stopped = &fleet.replicas[2];
    let (known, dead, alive) = (fleet.login("known"), fleet.login("dead"), fleet.login("alive"));
    revoke_everywhere(&fleet, 0, &known).await;
    let waiting = connections(stopped, 16).await;
    stopped.signal("STOP");
    revoke_everywhere(&fleet, 0, &dead).await;
    let waiting = queued(waiting, &dead, &alive);
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Whatever the store said before is in the replica's socket; from now on nothing comes.
    stopped.line.cut();
    stopped.signal("CONT");
    for answered in waiting {
        let (is_dead, tag, status) = answered.await.unwrap();
        // News that was in the socket may be known already; whether all of it is cannot be.
        let expected = if is_dead { [401, 503] } else { [503, 503] };
        assert!(expected.contains(&status), "{tag} was answered {status}");
        assert!(!fleet.forwarded(&tag), "{tag} was forwarded");
    }
    assert_eq!(stopped.status_of(&known).await, 401, "what it knows it refuses");
    stopped.until_ready(503).await;
    stopped.line.mend();
    stopped.ready().await;
    assert_eq!(stopped.status_of(&dead).await, 401);
    stopped.answers(&alive, 200).await;
}

/// Stops that are shorter than what may be believed, in which everyone must be waited for.
async fn short_stops_forward_nothing_that_everyone_confirmed(kind: Kind) {
    let fleet = Fleet::start(kind, 3).await;
    let stopped = &fleet.replicas[2];
    for round in 0..8_u64 {
        let token = fleet.login("alice");
        fleet.all_answer(&token, 200).await;
        let waiting = connections(stopped, 4).await;
        stopped.signal("STOP");
        let waking = async {
            tokio::time::sleep(Duration::from_millis(300 * round)).await;
            stopped.signal("CONT");
        };
        let revoking = async {
            revoke_everywhere(&fleet, 0, &token).await;
            // Only now are they sent, wherever the stopped one is with its stop.
            let waiting = queued(waiting, &token, &token);
            within("the answers", futures_util::future::join_all(waiting)).await
        };
        let ((), answers) = tokio::join!(waking, revoking);
        for answer in answers {
            let (_, tag, status) = answer.unwrap();
            assert!(matches!(status, 401 | 503), "round {round}: {tag} was answered {status}");
        }
        stopped.ready().await;
        tokio::time::sleep(SOON).await;
    }
}
