//! The log in a real Redis: what many replicas at once, a server that loses data, and one that refuses do to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::redis::cmd;
use futures_util::StreamExt;

use crate::domain::{Checkpoint, Disposition, Entry, Position, Recorded};
use crate::store::redis::RedisLog;
use crate::store::redis::append::Terms;
use crate::store::redis::keys::{HEAD, ROWS};
use crate::store::redis::tests::{access, connection, in_the_end};
use crate::store::testing::redis::{Cluster, Options, RedisServer, Tls, Watched};
use crate::store::testing::*;
use crate::store::{
    AuditQuery, Backend, Batch, Beat, Event, EventStream, Password, RevocationLog, RevocationQuery, Settings, Store,
    StoreError,
};
use crate::telemetry::Metrics;

async fn at(url: &str) -> Store {
    open(Backend::parse(url).unwrap()).await
}

async fn open_with(settings: Settings) -> Result<Store, StoreError> {
    Store::open(&settings, clock(), Metrics::new()).await
}

fn settings(url: &str) -> Settings {
    Settings::new(Backend::parse(url).unwrap())
}

/// Where the log ends, with its mark.
async fn end_of(store: &Store) -> Checkpoint {
    let mut events = store.log.follow(Checkpoint::START).await.unwrap();
    loop {
        if let Event::CaughtUp(proof) = events.next().await.unwrap().unwrap() {
            return proof.checkpoint;
        }
    }
}

/// How a follower's stream ends.
async fn fault_of(events: &mut EventStream) -> StoreError {
    loop {
        if let Err(error) = events.next().await.expect("a stream never ends silently") {
            return error;
        }
    }
}

fn beat_at(checkpoint: Checkpoint) -> Beat {
    let text = |text: &str| text.into();
    Beat {
        id: text("one"),
        name: text("gate"),
        version: text("1"),
        checkpoint,
        standing: text("in_step"),
        lease: Duration::from_secs(10),
        started_at: NOW,
    }
}

/// Everything that could take `gone` for a place in the log says that it is none.
async fn nobody_knows(store: &Store, gone: Checkpoint) {
    let mut events = store.log.follow(gone).await.unwrap();
    assert!(matches!(fault_of(&mut events).await, StoreError::Lost(_)));
    let batch = Batch { seen: gone, ..revoke(revocation(999, user("late"), 0)) };
    assert!(matches!(store.log.append(batch).await, Err(StoreError::Lost(_))));
    assert_eq!(store.log.find(id(999)).await.unwrap(), None);
    assert!(matches!(store.replicas.beat(beat_at(gone)).await, Err(StoreError::Lost(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_writers_on_four_replicas_give_every_follower_one_order() {
    let server = RedisServer::plain();
    let mut replicas = Vec::new();
    for _ in 0..4 {
        let store = at(&server.url()).await;
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        until_caught_up(&mut events).await;
        replicas.push((store, events));
    }
    let writers = (0..200_u128).map(|writer| {
        let log = replicas[usize::try_from(writer % 4).unwrap()].0.log.clone();
        tokio::spawn(async move {
            for n in 0..5 {
                let n = writer * 10 + n;
                log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
                // Everyone also revokes the same one, over and over.
                log.append(revoke(revocation(100_000 + n, user("shared"), 0))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let end = end_of(&replicas[0].0).await.position;
    let mut orders = Vec::new();
    for (_, events) in &mut replicas {
        let seen = until(events, end).await;
        let order: Vec<_> = seen.iter().map(|change| (change.position, change.selector.canonical())).collect();
        assert!(order.is_sorted_by(|a, b| a.0 < b.0), "each position once, in order");
        assert_eq!(order.iter().map(|(_, selector)| selector).collect::<BTreeSet<_>>().len(), 1_001);
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
}

#[tokio::test]
async fn replicas_that_lift_and_revoke_the_same_at_once_end_with_one_state() {
    let server = RedisServer::plain();
    let (one, other) = (at(&server.url()).await, at(&server.url()).await);
    for round in 1..=30_u128 {
        let later = |n: u128| {
            let mut later = revocation(round * 10 + n, user("a"), u64::try_from(round * 10 + n).unwrap());
            later.expires_at = None;
            revoke(later)
        };
        let lift = async { one.log.append(lift((round - 1) * 10 + 2)).await };
        let (a, b, _) = tokio::join!(one.log.append(later(1)), other.log.append(later(2)), lift);
        let told = [a.unwrap(), b.unwrap()].map(|appended| appended.dispositions.into_iter().next().unwrap());
        assert!(told.iter().all(|what| matches!(what, Disposition::Created(_) | Disposition::Already(_))));
        let standing = one.log.standing(&user("a"), NOW).await.unwrap();
        assert_eq!(standing.len(), 1, "the later of two says all the earlier says");
        assert_eq!(standing[0].revocation.id, id(round * 10 + 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_emptied_under_load_has_lost_data_and_takes_it_back() {
    let server = RedisServer::plain();
    let store = at(&server.url()).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let seen = end_of(&store).await;
    let mut events = store.log.follow(seen).await.unwrap();
    let log = store.log.clone();
    let writer = tokio::spawn(async move {
        for n in 10.. {
            if let Err(error) = log.append(Batch { seen, ..revoke(revocation(n, user(&n.to_string()), 0)) }).await {
                return error;
            }
        }
        unreachable!("it is emptied before")
    });
    until(&mut events, Position::new(seen.position.get() + 20)).await;
    server.cli(&["FLUSHALL"]);
    assert!(matches!(writer.await.unwrap(), StoreError::Lost(_)));
    assert!(matches!(fault_of(&mut events).await, StoreError::Lost(_)));
    nobody_knows(&store, seen).await;
    let held = Recorded { revocation: revocation(1, user("a"), 0), position: seen.position, ending: None };
    store.log.append(batch([Entry::Restore(Box::new(held))])).await.unwrap();
    assert_eq!(store.log.standing(&user("a"), NOW).await.unwrap().len(), 1);
    nobody_knows(&store, seen).await;
}

#[tokio::test]
async fn a_failover_that_lost_the_last_writes_is_noticed_though_the_log_has_overtaken() {
    let master = RedisServer::plain();
    let replica = RedisServer::start(Options { replica_of: Some(master.port()), ..Options::default() });
    replica.until(&["INFO", "replication"], "master_link_status:up");
    let before = at(&master.url()).await;
    before.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let shared = end_of(&before).await;
    replica.until(&["HGET", HEAD, "position"], "1");
    // The replica is cut off and leads; what the old master still takes is lost.
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    before.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap();
    let lost = end_of(&before).await;
    let after = at(&replica.url()).await;
    nobody_knows(&after, lost).await;
    for n in 10..20 {
        after.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
    }
    assert!(end_of(&after).await.position > lost.position);
    nobody_knows(&after, lost).await;
    let (changes, _) = until_caught_up(&mut after.log.follow(shared).await.unwrap()).await;
    assert_eq!(changes.len(), 10, "what both have is gone on from");
}

#[tokio::test]
async fn news_that_is_no_longer_told_is_read_anew() {
    let server = RedisServer::plain();
    let start = || {
        let terms = Terms { wait: None, kept: 100 };
        let times = (Duration::from_secs(10), Duration::from_secs(1));
        RedisLog::start(connection(&server.url()), terms, times, clock())
    };
    let log = start();
    log.append(revoke(revocation(0, user("0"), 0))).await.unwrap();
    let early = end_of(&at(&server.url()).await).await;
    for n in 1..=400_u128 {
        log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
    }
    let fault = fault_of(&mut log.follow(early).await.unwrap()).await;
    assert!(matches!(fault, StoreError::Trimmed(at) if at == early.position), "{fault:?}");
    let taken = log.append(Batch { seen: early, ..revoke(revocation(500, user("500"), 0)) }).await;
    assert!(taken.is_ok(), "who is far behind has lost nothing");
    let (changes, _) = until_caught_up(&mut log.follow(Checkpoint::START).await.unwrap()).await;
    assert_eq!(changes.len(), 402);
    log.close().await;
}

#[tokio::test]
async fn a_write_that_too_few_replicas_have_is_no_success_and_is_repeated_safely() {
    let server = RedisServer::plain();
    let mut settings = settings(&server.url());
    settings.remote.wait_replicas = 1;
    settings.remote.wait_timeout = Duration::from_millis(50);
    let store = open_with(settings).await.unwrap();
    let mut batch = revoke(revocation(1, user("a"), 0));
    batch.audit = vec![record("revoke", "ops")];
    let fault = store.log.append(batch.clone()).await.unwrap_err();
    assert!(fault.source_text().unwrap().contains("too few replicas: 0 of 1"), "{fault:?}");
    let replica = RedisServer::start(Options { replica_of: Some(server.port()), ..Options::default() });
    replica.until(&["INFO", "replication"], "master_link_status:up");
    let appended = in_the_end(async || store.log.append(batch.clone()).await).await;
    assert!(matches!(&appended.dispositions[..], [Disposition::Created(_)]));
    let trail = store.audit.trail(&AuditQuery { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!((trail.items.len(), appended.position), (1, Position::new(1)));
}

#[tokio::test]
async fn a_server_that_refuses_a_write_says_why_and_goes_on_being_read() {
    let server = RedisServer::plain();
    let store = at(&server.url()).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let fault = store.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap_err();
    assert!(matches!(&fault, StoreError::Unavailable(why) if why.to_string().contains("OOM")), "{fault:?}");
    assert_eq!(store.log.standing(&user("a"), NOW).await.unwrap().len(), 1);
    until_caught_up(&mut store.log.follow(Checkpoint::START).await.unwrap()).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    store.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap();
}

#[tokio::test]
async fn a_master_that_became_a_replica_takes_no_writes_and_is_asked_again() {
    let (server, other) = (RedisServer::plain(), RedisServer::plain());
    let store = at(&server.url()).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let seen = end_of(&store).await;
    server.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let refused = store.log.append(Batch { seen, ..revoke(revocation(2, user("b"), 0)) }).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_) | StoreError::Lost(_))), "{refused:?}");
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    in_the_end(async || store.log.append(revoke(revocation(3, user("c"), 0))).await).await;
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let mut server = RedisServer::start(Options { append_only: true, ..Options::default() });
    server.kill();
    let store = at(&server.url()).await;
    let fault = store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap_err();
    assert!(matches!(fault, StoreError::Unavailable(_)));
    server.restart();
    in_the_end(async || store.log.append(revoke(revocation(1, user("a"), 0))).await).await;
    server.restart();
    assert!(in_the_end(async || store.log.find(id(1)).await).await.is_some(), "what was answered is on disk");
    let seen = end_of(&store).await;
    server.kill();
    server.forget_files();
    server.restart();
    in_the_end(async || store.audit.record(vec![record("read", "ops")]).await).await;
    in_the_end(async || store.log.find(id(1)).await).await;
    nobody_knows(&store, seen).await;
}

#[tokio::test]
async fn a_cluster_keeps_a_store_in_one_slot() {
    let cluster = Cluster::start();
    let store = at(&cluster.url()).await;
    let mut events = store.log.follow(Checkpoint::START).await.unwrap();
    until_caught_up(&mut events).await;
    let mut batch = batch((0..50).map(|n| Entry::Revoke(revocation(n, user(&n.to_string()), 0))));
    batch.audit = vec![record("import", "ops")];
    let end = store.log.append(batch).await.unwrap().position;
    assert_eq!(until(&mut events, end).await.len(), 50);
    store.replicas.beat(beat_at(end_of(&store).await)).await.unwrap();
    let query = RevocationQuery { actor: Some("ops".into()), now: NOW, limit: 100, ..Default::default() };
    assert_eq!(store.log.search(&query).await.unwrap().items.len(), 50);
    assert_eq!(store.log.forget(NOW.after(Duration::from_secs(3_600))).await.unwrap(), 50);
}

#[tokio::test]
async fn the_log_goes_on_after_the_sentinels_chose_another_master() {
    let mut watched = Watched::start(2, &Options::default());
    let store = at(&watched.url()).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let mut events = store.log.follow(end_of(&store).await).await.unwrap();
    watched.servers.iter().for_each(|server| server.until(&["HGET", HEAD, "position"], "1"));
    let old = watched.servers[0].port();
    watched.servers[0].kill();
    assert!(matches!(fault_of(&mut events).await, StoreError::Unavailable(_)));
    watched.until_another_leads(old);
    in_the_end(async || store.log.append(revoke(revocation(2, user("b"), 0))).await).await;
    assert_eq!(store.log.standing(&user("a"), NOW).await.unwrap().len(), 1);
}

/// An authority, and a certificate for loopback, in files of `folder`.
fn certificates(folder: &Folder) -> Tls {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "portcullis test authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let certified = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = certified.signed_by(&own, &issuer).unwrap().pem();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca, cert, key) = (write("ca.pem", ca), write("cert.pem", cert), write("key.pem", own.serialize_pem()));
    Tls { cert, key, ca, asks_for_one: true }
}

#[tokio::test]
async fn a_server_with_tls_is_believed_only_with_the_right_authority_and_knows_us_by_our_certificate() {
    let folder = Folder::new();
    let tls = certificates(&folder);
    let server = RedisServer::start(Options {
        tls: Some(tls.clone()),
        lines: vec!["user gate on >secret ~{portcullis}:* +@all -@dangerous".into()],
        ..Options::default()
    });
    let mut settings = settings(&server.url().replace("://", "://gate@"));
    settings.remote.password = Some(Password::new("secret"));
    settings.remote.ca = Some(tls.ca.clone());
    settings.remote.identity = Some((tls.cert.clone(), tls.key.clone()));
    let store = open_with(settings.clone()).await.unwrap();
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    assert_eq!(until_caught_up(&mut store.log.follow(Checkpoint::START).await.unwrap()).await.0.len(), 1);
    settings.remote.ca = None;
    let stranger = open_with(settings.clone()).await.unwrap();
    assert!(matches!(stranger.log.find(id(1)).await, Err(StoreError::Unavailable(_))));
    settings.remote.ca = Some(folder.path().join("none.pem"));
    assert!(matches!(open_with(settings).await, Err(StoreError::Unusable(why, _)) if why.contains("none.pem")));
}

#[tokio::test]
async fn what_another_replica_wrote_is_heard_long_before_the_poll() {
    let server = RedisServer::plain();
    let mut patient = settings(&server.url());
    patient.remote.poll = Duration::from_secs(600);
    let (reader, writer) = (open_with(patient).await.unwrap(), at(&server.url()).await);
    let mut events = reader.log.follow(Checkpoint::START).await.unwrap();
    until_caught_up(&mut events).await;
    for n in 1..=20_u128 {
        let end = writer.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap().position;
        let heard = tokio::time::timeout(Duration::from_secs(30), until(&mut events, end)).await;
        assert_eq!(heard.expect("the stream wakes it").len(), 1);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_reported_and_not_skipped() {
    let server = RedisServer::plain();
    let store = at(&server.url()).await;
    let end = store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap().position;
    let torn = [&end.get().to_be_bytes()[..], b"\0\x02{}"].concat();
    let set = cmd("HSET").arg(ROWS).arg(&1_u128.to_be_bytes()[..]).arg(torn).take();
    connection(&server.url()).run::<()>(&set).await.unwrap();
    let fault = fault_of(&mut store.log.follow(Checkpoint::START).await.unwrap()).await;
    assert!(matches!(fault, StoreError::Corrupt(at, _) if at == end), "{fault:?}");
    assert!(store.log.standing(&user("a"), NOW).await.is_err());
}

/// How fast it is; run by hand, in a release build: `cargo test --release --lib -- --ignored how_fast --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_fast_it_is() {
    let server = RedisServer::plain();
    let access = Arc::new(access(&server.url()));
    let terms = Terms { wait: None, kept: 500_000 };
    let times = (Duration::from_secs(10), Duration::from_secs(1));
    let log = RedisLog::start(crate::store::redis::connection::Connection::new(access), terms, times, clock());
    let rows: u128 = 200_000;
    let since = std::time::Instant::now();
    for some in 0..rows / 1_000 {
        let entries = (some * 1_000..(some + 1) * 1_000).map(|n| Entry::Revoke(revocation(n, user(&n.to_string()), 0)));
        log.append(batch(entries)).await.unwrap();
    }
    println!("{rows} bulk lines in {:?}", since.elapsed());
    let since = std::time::Instant::now();
    let (changes, _) = until_caught_up(&mut log.follow(Checkpoint::START).await.unwrap()).await;
    println!("{} selectors loaded in {:?}", changes.len(), since.elapsed());
    println!("{}", server.cli(&["INFO", "memory"]).lines().nth(2).unwrap_or_default());
    let log = Arc::new(log);
    let since = std::time::Instant::now();
    let writers = (0..64_u128).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0..500 {
                let n = rows + writer * 1_000 + n;
                log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    println!("32000 single revokes by 64 at once in {:?}", since.elapsed());
    println!("{}", server.cli(&["INFO", "commandstats"]));
}
