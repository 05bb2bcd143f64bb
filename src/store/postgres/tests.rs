//! What a server, a fleet and a history can come to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row, query, raw_sql};

use crate::domain::{Change, Checkpoint, Entry, Name, Position, Proof, Selector};
use crate::store::testing::postgres::PostgresServer;
use crate::store::testing::*;
use crate::store::{Beat, Event, EventStream, Password, Settings, Store, StoreError};
use crate::telemetry::{Metrics, in_one_line};

/// So long that nothing but a wake-up call explains that something came.
const NEVER: Duration = Duration::from_secs(3_600);

async fn try_open(url: &str, tweak: impl FnOnce(&mut Settings)) -> Result<Store, StoreError> {
    let mut settings = Settings::new(postgres(url));
    // Tests share their machine with others.
    settings.timeout = Duration::from_secs(60);
    tweak(&mut settings);
    Store::open(&settings, clock(), Metrics::new()).await
}

async fn replica(url: &str) -> Store {
    try_open(url, |_| {}).await.unwrap()
}

async fn refusal(url: &str, tweak: impl FnOnce(&mut Settings)) -> String {
    match try_open(url, tweak).await {
        Err(StoreError::Unusable(why, _)) => why,
        other => panic!("{other:?}"),
    }
}

/// All that comes until the log was read up to `position`, and the proof of it.
async fn read(events: &mut EventStream, position: Position) -> (Vec<Change>, Proof) {
    let mut changes = Vec::new();
    loop {
        match events.next().await.expect("a stream never ends silently").unwrap() {
            Event::Loading(_) => {}
            Event::Change(change) => changes.push(change),
            Event::CaughtUp(proof) if proof.checkpoint.position >= position => return (changes, proof),
            Event::CaughtUp(_) => {}
        }
    }
}

/// Why one cannot follow from there, once the server answers.
async fn why_not(store: &Store, from: Checkpoint) -> StoreError {
    let mut events = store.log.follow(from).await.unwrap();
    loop {
        match events.next().await.expect("a stream never ends silently") {
            Ok(event) => assert!(!matches!(event, Event::CaughtUp(_)), "one can"),
            Err(StoreError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                events = store.log.follow(from).await.unwrap();
            }
            Err(error) => return error,
        }
    }
}

async fn checkpoint(store: &Store) -> Checkpoint {
    let mut events = store.log.follow(Checkpoint::START).await.unwrap();
    read(&mut events, Position::START).await.1.checkpoint
}

/// Asks again until the server answers, as whoever uses a store does.
async fn insist(store: &Store, n: u128) -> Position {
    loop {
        if let Ok(appended) = store.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await {
            return appended.position;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn beat(id: &str, checkpoint: Checkpoint) -> Beat {
    Beat {
        id: id.into(),
        name: format!("gate-{id}").into(),
        version: "1".into(),
        checkpoint,
        standing: "in_step".into(),
        lease: Duration::from_secs(10),
        started_at: NOW,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_writers_on_three_replicas_no_follower_misses_one_and_all_see_one_order() {
    let server = PostgresServer::start();
    let url = server.database();
    let replicas = [replica(&url).await, replica(&url).await, replica(&url).await];
    let mut streams = Vec::new();
    for store in &replicas {
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        read(&mut events, Position::START).await;
        streams.push(events);
    }
    let writers = (0..200_u128).map(|writer| {
        let store = replicas[usize::try_from(writer % 3).unwrap()].clone();
        tokio::spawn(async move {
            let mut last = Position::START;
            for n in 0..5 {
                let n = writer * 5 + n;
                let entry = revocation(n, user(&n.to_string()), 0);
                last = store.log.append(revoke(entry)).await.unwrap().position;
                // The same one from everywhere: it supersedes over and over.
                let seconds = u64::try_from(n).unwrap();
                store.log.append(revoke(revocation(100_000 + n, user("shared"), seconds))).await.unwrap();
            }
            last
        })
    });
    let mut last = Position::START;
    for writer in writers.collect::<Vec<_>>() {
        last = last.max(writer.await.unwrap());
    }
    let end = checkpoint(&replicas[0]).await.position.max(last);
    let mut orders = Vec::new();
    for events in &mut streams {
        let (changes, proof) = read(events, end).await;
        assert!(changes.is_sorted_by(|a, b| a.position < b.position), "each position once, in order");
        let alone = changes.iter().filter(|change| change.selector != user("shared"));
        let order: BTreeMap<Position, String> =
            alone.map(|change| (change.position, change.selector.canonical())).collect();
        assert_eq!(order.values().collect::<BTreeSet<_>>().len(), 1_000, "one was missed");
        orders.push((order, proof.checkpoint));
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "two orders");
    for store in &replicas {
        store.close().await;
    }
}

#[tokio::test]
async fn a_writer_that_pauses_before_its_commit_makes_nobody_skip_it() {
    let server = PostgresServer::start();
    let url = server.database();
    let store = replica(&url).await;
    insist(&store, 1).await;
    let mut events = store.log.follow(checkpoint(&store).await).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut paused = other.begin().await.unwrap();
    // What our writer does, by hand: it takes the next position, and does not commit yet.
    let take = "UPDATE portcullis.head SET position = position + 1, mark = 7; \
        INSERT INTO portcullis.commits SELECT position, mark FROM portcullis.head; \
        INSERT INTO portcullis.revocations (id, position, key, selector, parts, reach, created_at, actor, crowded) \
        SELECT decode(repeat('ab', 16), 'hex'), position, 4711, '{\"issuer\":\"i\",\"user\":\"slow\"}', '{}', 3, 0, 'ops', \
            false FROM portcullis.head";
    raw_sql(take).execute(&mut *paused).await.unwrap();
    let quick = tokio::spawn({
        let store = store.clone();
        async move { insist(&store, 2).await }
    });
    let (changes, proof) = read(&mut events, Position::new(1)).await;
    assert_eq!((changes.len(), proof.checkpoint.position), (0, Position::new(1)));
    let (changes, proof) = read(&mut events, Position::new(1)).await;
    assert_eq!(
        (changes.len(), proof.checkpoint.position),
        (0, Position::new(1)),
        "it was read past what is not committed"
    );
    paused.commit().await.unwrap();
    let last = quick.await.unwrap();
    assert_eq!(last, Position::new(3));
    let (changes, _) = read(&mut events, last).await;
    let users: Vec<_> = changes.iter().map(|change| change.selector.canonical()).collect();
    assert!(users[0].contains("slow") && users[1].contains("\"2\""), "{users:?}");
}

#[tokio::test]
async fn another_replicas_news_wake_a_follower() {
    let server = PostgresServer::start();
    let url = server.database();
    let here = try_open(&url, |settings| settings.remote.poll = NEVER).await.unwrap();
    let there = replica(&url).await;
    let mut events = here.log.follow(Checkpoint::START).await.unwrap();
    read(&mut events, Position::START).await;
    for n in 1..20 {
        let position = insist(&there, n).await;
        assert_eq!(read(&mut events, position).await.0.len(), 1);
    }
}

#[tokio::test]
async fn a_follower_hears_again_after_its_connections_were_cut() {
    let server = PostgresServer::start();
    let url = server.database();
    let here = try_open(&url, |settings| settings.remote.poll = NEVER).await.unwrap();
    let there = replica(&url).await;
    let mut events = here.log.follow(Checkpoint::START).await.unwrap();
    read(&mut events, Position::START).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = 'portcullis' AND pid <> pg_backend_pid()";
    server.sql("p1", cut);
    let position = insist(&there, 1).await;
    let seen = loop {
        match events.next().await.unwrap() {
            Ok(Event::CaughtUp(proof)) if proof.checkpoint.position >= position => break true,
            Ok(_) => {}
            // The connection that was cut; whoever follows begins again.
            Err(StoreError::Unavailable(_)) => events = here.log.follow(Checkpoint::START).await.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(seen);
    let position = insist(&there, 2).await;
    read(&mut events, position).await;
}

#[tokio::test]
async fn a_database_restored_from_an_old_backup_is_found_to_have_lost_data() {
    let mut server = PostgresServer::start();
    let url = server.database();
    let store = replica(&url).await;
    insist(&store, 1).await;
    let old = checkpoint(&store).await;
    let backup = server.backup();
    insist(&store, 2).await;
    let seen = checkpoint(&store).await;
    server.restore(&backup);
    insist(&store, 3).await;
    // The restored log has got as far as the lost one, by another way.
    assert_eq!(checkpoint(&store).await.position, seen.position);
    assert!(matches!(why_not(&store, seen).await, StoreError::Lost(_)));
    insist(&store, 4).await;
    assert!(matches!(why_not(&store, seen).await, StoreError::Lost(_)), "it grew beyond what was seen");
    let mut late = revoke(revocation(5, user("5"), 0));
    late.seen = seen;
    assert!(matches!(store.log.append(late.clone()).await, Err(StoreError::Lost(_))));
    assert_eq!(store.log.find(id(5)).await.unwrap(), None, "a refused batch was stored");
    assert!(matches!(store.replicas.beat(beat("a", seen)).await, Err(StoreError::Lost(_))));
    late.seen = old;
    store.log.append(late).await.unwrap();
    let mut events = store.log.follow(old).await.unwrap();
    assert_eq!(read(&mut events, Position::new(4)).await.0.len(), 3);
}

#[tokio::test]
async fn tables_that_were_dropped_are_made_again_and_the_loss_is_told() {
    let server = PostgresServer::start();
    let url = server.database();
    let store = replica(&url).await;
    insist(&store, 1).await;
    let seen = checkpoint(&store).await;
    // What we have read is let go of meanwhile, for which the tables wait.
    let drop_all = move || (server.sql("p1", "DROP SCHEMA portcullis CASCADE"), server);
    let (_, _server) = tokio::task::spawn_blocking(drop_all).await.unwrap();
    let error = why_not(&store, seen).await;
    assert!(matches!(error, StoreError::Lost(_)), "{error:?}");
    assert_eq!(insist(&store, 1).await, Position::new(1));
}

#[tokio::test]
async fn whoever_was_away_for_longer_than_the_history_reads_all_anew() {
    let server = PostgresServer::start();
    let store = replica(&server.database()).await;
    insist(&store, 1).await;
    let old = checkpoint(&store).await;
    for n in 2..=30 {
        insist(&store, n).await;
    }
    store.log.forget(NOW).await.unwrap();
    assert!(matches!(why_not(&store, old).await, StoreError::Trimmed(position) if position == old.position));
    store.replicas.beat(beat("a", old)).await.unwrap();
    let mut events = store.log.follow(checkpoint(&store).await).await.unwrap();
    read(&mut events, Position::new(30)).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_of_the_server() {
    let mut server = PostgresServer::start_with(&["fsync=on", "full_page_writes=on"]);
    let url = server.database();
    let store = replica(&url).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let writers = (0..8_u128).map(|writer| {
        let (store, tell) = (store.clone(), tell.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let n = writer * 1_000_000 + n;
                match store.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await {
                    Ok(_) => tell.send(n).unwrap(),
                    Err(_) => return n,
                }
            }
            0
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 200 {
        acknowledged.push(told.recv().await.unwrap());
    }
    server.kill();
    let mut unknown = Vec::new();
    for writer in writers {
        unknown.push(writer.await.unwrap());
    }
    drop(tell);
    while let Some(n) = told.recv().await {
        acknowledged.push(n);
    }
    server.restart();
    // What is unknown is asked for again, and stored once.
    for n in unknown {
        insist(&store, n).await;
    }
    for n in acknowledged {
        assert!(store.log.find(id(n)).await.unwrap().is_some(), "{n} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = PostgresServer::start();
    let url = server.database();
    server.kill();
    let store = replica(&url).await;
    assert!(matches!(store.log.append(revoke(revocation(1, user("1"), 0))).await, Err(StoreError::Unavailable(_))));
    server.restart();
    assert_eq!(insist(&store, 1).await, Position::new(1));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time_and_used_again_when_it_does() {
    let server = PostgresServer::start();
    let store = try_open(&server.database(), |settings| settings.timeout = Duration::from_secs(3)).await.unwrap();
    insist(&store, 1).await;
    server.pause();
    let asked = revoke(revocation(2, user("2"), 0));
    assert!(matches!(store.log.append(asked.clone()).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.log.find(id(1)).await, Err(StoreError::Unavailable(_))));
    server.resume();
    insist(&store, 3).await;
    let again = loop {
        if let Ok(appended) = store.log.append(asked.clone()).await {
            break appended;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(again.dispositions.len(), 1);
    assert!(store.log.find(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_what_to_do() {
    let server = PostgresServer::start();
    let url = server.database();
    assert!(refusal(&server.url("nowhere"), |_| {}).await.contains("no such database"));
    let unverified = format!("{url}?sslmode=verify-full");
    assert!(refusal(&unverified, |_| {}).await.contains("TLS"));
    let weak = "CREATE ROLE weak LOGIN PASSWORD 'right'; CREATE DATABASE strict";
    weak.split("; ").for_each(|sql| drop(server.sql("postgres", sql)));
    let demand = "host strict weak 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n";
    std::fs::write(server.folder().join("data/pg_hba.conf"), demand).unwrap();
    server.sql("postgres", "SELECT pg_reload_conf()");
    let strict = server.url("strict").replace("postgres@", "weak@");
    let wrong = |settings: &mut Settings| settings.remote.password = Some(Password::new("hunter2"));
    let why = loop {
        let why = refusal(&strict, wrong).await;
        // Until the server has read its file again, the user is let in and has no rights.
        if !why.contains("may not keep") {
            break why;
        }
    };
    assert!(why.contains("name and password") && !why.contains("hunter2"), "{why}");
    let right = |settings: &mut Settings| settings.remote.password = Some(Password::new("right"));
    assert!(refusal(&strict, right).await.contains("may not keep the store"));
    server.sql("postgres", "GRANT CREATE ON DATABASE strict TO weak");
    let store = try_open(&strict, right).await.unwrap();
    insist(&store, 1).await;
}

#[tokio::test]
async fn schemas_of_other_versions_run_side_by_side_as_far_as_they_say() {
    let server = PostgresServer::start();
    let url = server.database();
    let store = replica(&url).await;
    insist(&store, 1).await;
    server.sql("p1", "UPDATE portcullis.schema SET version = version + 1");
    let beside = replica(&url).await;
    assert_eq!(insist(&beside, 2).await, Position::new(2));
    server.sql("p1", "UPDATE portcullis.schema SET oldest = version");
    let why = refusal(&url, |_| {}).await;
    assert!(why.contains("run a newer portcullis"), "{why}");
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_schema() {
    let server = PostgresServer::start();
    let url = server.database();
    let starting = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { replica(&url).await })
    });
    for (n, store) in (0..).zip(starting.collect::<Vec<_>>()) {
        insist(&store.await.unwrap(), n).await;
    }
    assert_eq!(server.sql("p1", "SELECT count(*) FROM portcullis.revocations"), "8");
}

#[tokio::test]
async fn the_trail_cannot_be_changed() {
    let server = PostgresServer::start();
    let store = replica(&server.database()).await;
    store.audit.record(vec![record("authenticate", "?\0")]).await.unwrap();
    for sql in ["UPDATE portcullis.audit SET actor = 'x'", "DELETE FROM portcullis.audit", "TRUNCATE portcullis.audit"]
    {
        let output = server.psql("p1", sql);
        assert!(String::from_utf8_lossy(&output.stderr).contains("append-only"), "{sql}");
    }
    assert_eq!(server.sql("p1", "SELECT actor FROM portcullis.audit"), "?\u{2400}");
}

#[tokio::test]
async fn signs_of_life_are_read_by_every_replica_and_count_by_the_servers_clock() {
    let server = PostgresServer::start();
    let url = server.database();
    let (here, there) = (replica(&url).await, replica(&url).await);
    insist(&here, 1).await;
    let at = checkpoint(&here).await;
    here.replicas.beat(beat("a", Checkpoint::START)).await.unwrap();
    here.replicas.beat(beat("a", at)).await.unwrap();
    there.replicas.beat(beat("b", at)).await.unwrap();
    let seen = there.replicas.replicas().await.unwrap();
    assert_eq!(seen.iter().map(|replica| &replica.beat).collect::<Vec<_>>(), [&beat("a", at), &beat("b", at)]);
    assert!(seen.iter().all(crate::store::Replica::is_live));
    server.sql("p1", "UPDATE portcullis.replicas SET seen_at = seen_at - interval '11 s' WHERE id = 'a'");
    assert!(!there.replicas.replicas().await.unwrap()[0].is_live());
    server.sql("p1", "UPDATE portcullis.replicas SET seen_at = seen_at - interval '2 d' WHERE id = 'a'");
    there.replicas.beat(beat("c", at)).await.unwrap();
    there.replicas.leave("b").await.unwrap();
    let left = here.replicas.replicas().await.unwrap();
    assert_eq!(left.iter().map(|replica| &*replica.beat.id).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn a_selector_as_long_as_any_is_kept() {
    let server = PostgresServer::start();
    let store = replica(&server.database()).await;
    // Nothing that compression could make short.
    let long: String =
        (0..8_000_u32).map(|n| char::from_u32(0x4e00 + n.wrapping_mul(7_919) % 20_000).unwrap()).collect();
    let selector = Selector::new([
        (Name::Issuer, "i".to_owned()),
        (Name::User, long.chars().take(300).collect()),
        (Name::Client, long.chars().skip(300).take(300).collect()),
    ]);
    let selector = selector.unwrap();
    store.log.append(revoke(revocation(1, selector.clone(), 0))).await.unwrap();
    assert_eq!(store.log.standing(&selector, NOW).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_does_not_spoil_its_neighbours() {
    let server = PostgresServer::start();
    let url = server.database();
    let store = replica(&url).await;
    insist(&store, 0).await;
    server.sql("p1", "ALTER TABLE portcullis.revocations ADD CHECK (actor <> 'bad')");
    let appends = (1..40_u128).map(|n| {
        let store = store.clone();
        let mut one = revocation(n, user(&n.to_string()), 0);
        if n % 7 == 0 {
            one.actor = "bad".into();
        }
        tokio::spawn(async move { (n, store.log.append(revoke(one)).await.map_err(|error| in_one_line(&error))) })
    });
    for append in appends.collect::<Vec<_>>() {
        let (n, stored) = append.await.unwrap();
        assert_eq!(stored.is_ok(), n % 7 != 0, "{n}: {stored:?}");
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let gap = "SELECT 1 FROM portcullis.head WHERE position <> (SELECT count(*) FROM portcullis.revocations)";
    assert!(
        query(gap).fetch_optional(&mut connection).await.unwrap().is_none(),
        "a position was given out for nothing"
    );
}

#[tokio::test]
async fn it_works_behind_a_pooler_that_hands_out_transactions() {
    let server = PostgresServer::start();
    let direct = server.database();
    let pooler = server.pooler("p1");
    let url = format!("{}?statement-cache-capacity=0", pooler.url());
    let quick = |settings: &mut Settings| settings.remote.poll = Duration::from_millis(50);
    let pooled = [try_open(&url, quick).await.unwrap(), try_open(&url, quick).await.unwrap()];
    let mut events = pooled[0].log.follow(Checkpoint::START).await.unwrap();
    read(&mut events, Position::START).await;
    let appends = (0..60_u128).map(|n| {
        let store = pooled[usize::from(n % 2 == 1)].clone();
        tokio::spawn(async move { store.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap() })
    });
    let mut last = Position::START;
    for append in appends.collect::<Vec<_>>() {
        last = last.max(append.await.unwrap().position);
    }
    assert_eq!(read(&mut events, last).await.0.len(), 60);
    let at = checkpoint(&pooled[1]).await;
    pooled[1].replicas.beat(beat("a", at)).await.unwrap();
    assert_eq!(pooled[0].replicas.replicas().await.unwrap().len(), 1);
    let long_after = NOW.after(Duration::from_secs(3_600));
    assert_eq!(pooled[0].log.forget(long_after).await.unwrap(), 60);
    // What our transactions set stays theirs: the pooler's connections go to others.
    let other: PgConnectOptions = url.parse().unwrap();
    let mut other = other.extra_float_digits(None).connect().await.unwrap();
    for _ in 0..10 {
        let mut transaction = other.begin().await.unwrap();
        let left = raw_sql("SHOW statement_timeout").fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(left.get::<&str, _>(0), "0");
    }
    assert_eq!(replica(&direct).await.log.append(batch([])).await.unwrap().position, last);
}

/// How long things take here and now: `cargo test -- --ignored figures --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    let server = PostgresServer::start_with(&["fsync=on", "shared_buffers=256MB", "max_wal_size=2GB"]);
    let url = server.database();
    let store = replica(&url).await;
    let timed = |what: &str, began: std::time::Instant, of: u32| {
        let took = began.elapsed();
        println!("{what}: {took:?}, {:.0} a second", f64::from(of) / took.as_secs_f64());
    };
    let began = std::time::Instant::now();
    for n in 0..300 {
        insist(&store, n).await;
    }
    timed("single appends", began, 300);
    let began = std::time::Instant::now();
    let bulks = (0..4_u128).map(|part| {
        let store = store.clone();
        tokio::spawn(async move {
            for chunk in 0..25 {
                let first = 1_000_000 + part * 25_000 + chunk * 1_000;
                let entry = |n: u128| {
                    // Ids are random, as those of real revocations.
                    let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                    Entry::Revoke(revocation(id, user(&format!("{n}")), 0))
                };
                let mut lines = batch((first..first + 1_000).map(entry));
                lines.audit = (0..1_000).map(|_| record("revoke", "import")).collect();
                store.log.append(lines).await.unwrap();
            }
        })
    });
    for bulk in bulks.collect::<Vec<_>>() {
        bulk.await.unwrap();
    }
    timed("bulk lines", began, 100_000);
    let began = std::time::Instant::now();
    let mut events = store.log.follow(Checkpoint::START).await.unwrap();
    let (changes, _) = read(&mut events, Position::START).await;
    timed("loaded", began, u32::try_from(changes.len()).unwrap());
}
