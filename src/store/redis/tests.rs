//! What only a store in Redis must keep, held against real servers.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;

use crate::store::redis::address::Address;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::HEAD;
use crate::store::redis::server::Access;
use crate::store::testing::redis::{Cluster, MASTER, Options, RedisServer, Watched};
use crate::store::{Password, StoreError};

/// How to get into the Redis of that URL.
pub(in crate::store) fn access(url: &str) -> Access {
    Access {
        address: Address::parse(url).unwrap(),
        password: None,
        ca: None,
        identity: None,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(3),
    }
}

/// A connection to the Redis of that URL.
pub(in crate::store) fn connection(url: &str) -> Connection {
    Connection::new(Arc::new(access(url)))
}

async fn set(connection: &Connection, value: &str) -> Result<(), StoreError> {
    connection.run(cmd("HSET").arg(HEAD).arg("test").arg(value)).await
}

async fn held(connection: &Connection) -> Result<String, StoreError> {
    connection.run(cmd("HGET").arg(HEAD).arg("test")).await
}

/// Tries until the server is there.
pub(super) async fn in_the_end<T>(attempt: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..600 {
        if let Ok(answer) = attempt().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came back")
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start(Options { append_only: true, ..Options::default() });
    let connection = connection(&server.url());
    set(&connection, "kept").await.unwrap();
    server.kill();
    assert!(matches!(held(&connection).await, Err(StoreError::Unavailable(_))));
    server.restart();
    assert_eq!(in_the_end(async || held(&connection).await).await, "kept");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = RedisServer::plain();
    let access = Access { response_timeout: Duration::from_millis(200), ..access(&server.url()) };
    let connection = Connection::new(Arc::new(access));
    set(&connection, "kept").await.unwrap();
    server.stop();
    assert!(matches!(held(&connection).await, Err(StoreError::Unavailable(_))));
    server.go_on();
    assert_eq!(in_the_end(async || held(&connection).await).await, "kept");
}

#[tokio::test]
async fn the_sentinels_tell_who_leads_after_a_failover() {
    let mut watched = Watched::start(2, &Options::default());
    let connection = connection(&watched.url());
    set(&connection, "kept").await.unwrap();
    watched.servers.iter().for_each(|server| server.until(&["HGET", HEAD, "test"], "kept"));
    let old = watched.servers[0].port();
    watched.servers[0].kill();
    watched.until_another_leads(old);
    assert_eq!(in_the_end(async || held(&connection).await).await, "kept");
    in_the_end(async || set(&connection, "more").await).await;
    let unknown = watched.url().replace(MASTER, "nobody");
    let refusal = self::connection(&unknown).open().await.unwrap_err();
    assert!(refusal.source_text().unwrap().contains("no master"), "{refusal:?}");
}

#[tokio::test]
async fn any_node_of_a_cluster_leads_to_our_slot() {
    let cluster = Cluster::start();
    for node in &cluster.nodes {
        let connection = connection(&node.url().replace("redis:", "redis+cluster:"));
        set(&connection, "kept").await.unwrap();
        assert_eq!(held(&connection).await.unwrap(), "kept");
    }
    let all = connection(&cluster.url());
    assert_eq!(held(&all).await.unwrap(), "kept");
}

#[tokio::test]
async fn who_may_not_come_in_is_told_so_at_the_start() {
    let user = "user gate on >secret ~{portcullis}:* +@all -@dangerous\nuser default on >other ~* +@all".to_owned();
    let server = RedisServer::start(Options { lines: vec![user], ..Options::default() });
    let as_user = |login: &str| connection(&format!("redis://{login}{}", server.address()));
    as_user("gate:secret@").open().await.unwrap();
    for login in ["", "gate:wrong@", "nobody:secret@"] {
        let refusal = as_user(login).open().await.unwrap_err();
        assert!(matches!(&refusal, StoreError::Unusable(why, _) if why.contains("user and password")), "{refusal:?}");
        assert!(!format!("{refusal:?}").contains("wrong@"));
    }
    let by_file =
        Access { password: Some(Password::new("secret")), ..access(&format!("redis://gate@{}", server.address())) };
    Connection::new(Arc::new(by_file)).open().await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_kind_and_a_replica_are_not_used() {
    let server = RedisServer::plain();
    let connection = connection(&server.url());
    connection.run::<()>(cmd("HSET").arg(HEAD).arg("schema").arg(9).arg("oldest").arg(8)).await.unwrap();
    let refusal = connection.another().open().await.unwrap_err();
    assert!(matches!(&refusal, StoreError::Unusable(why, _) if why.contains("upgrade")), "{refusal:?}");
    let replica = RedisServer::start(Options { replica_of: Some(server.port()), ..Options::default() });
    replica.until(&["INFO", "replication"], "master_link_status:up");
    let refusal = self::connection(&replica.url()).open().await.unwrap_err();
    assert!(refusal.source_text().unwrap().contains("replica"), "{refusal:?}");
}
