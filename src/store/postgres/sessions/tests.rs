//! What is PostgreSQL's own: replicas that write at once, steps, texts it cannot hold, and what upkeep leaves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::domain::{
    Cutoff, Entry, Revocation, SeenToken, Session, SessionKey, SessionState, Timestamp, TokenDigest, TokenKind,
};
use crate::store::testing::postgres::PostgresServer;
use crate::store::testing::*;
use crate::store::{Claim, Claimed, Lesson, Redeemed, SessionQuery, Sighting, SortKey, Store};

const ISSUER: &str = "https://id.example";

/// A server with one database.
struct Shared {
    server: PostgresServer,
    url: String,
}

impl Shared {
    fn start(settings: &[&str]) -> Self {
        let server = PostgresServer::start_with(settings);
        let url = server.database();
        Self { server, url }
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(self.url.rsplit('/').next().unwrap(), sql)
    }
}

/// A server, and replicas that share its database.
async fn fleet(replicas: usize) -> (Shared, Vec<Store>) {
    let server = Shared::start(&[]);
    let mut stores = Vec::new();
    for _ in 0..replicas {
        stores.push(open(postgres(&server.url)).await);
    }
    (server, stores)
}

async fn close(stores: Vec<Store>) {
    for store in stores {
        store.close().await;
    }
}

fn key(id: &str) -> SessionKey {
    SessionKey { issuer: ISSUER.into(), id: id.into() }
}

fn session(n: u32, user: &str) -> Session {
    let mut session = Session::new(key(&format!("s{n}")), NOW);
    (session.user, session.client) = (Some(user.into()), Some("app".into()));
    session
}

fn token(n: u32) -> SeenToken {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    SeenToken {
        digest: TokenDigest::new(bytes),
        token_id: None,
        kind: TokenKind::Access,
        issued_at: Some(NOW),
        expires_at: Some(NOW.after(Duration::from_secs(300))),
        generation: None,
    }
}

fn sighting(n: u32, user: &str) -> Sighting {
    Sighting { session: session(n, user), token: Some(token(n)) }
}

async fn touch(store: &Store, sessions: impl IntoIterator<Item = Session>) {
    let sightings = sessions.into_iter().map(|session| Sighting { session, token: None }).collect();
    store.sessions.touch(sightings).await.unwrap();
}

async fn total(store: &Store, query: SessionQuery) -> u64 {
    store.sessions.sessions(&SessionQuery { now: NOW, limit: 1, ..query }).await.unwrap().total
}

async fn in_state(store: &Store, state: SessionState) -> u64 {
    total(store, SessionQuery { state: Some(state), ..Default::default() }).await
}

fn claim(digest: TokenDigest, client: u8) -> Claim {
    Claim {
        digest,
        text: digest,
        client: TokenDigest::new([client; 32]),
        now: NOW,
        given_up_at: Timestamp::default(),
        max_replays: 1,
        expires_at: None,
    }
}

fn all_of(n: u128, name: &str) -> Revocation {
    Revocation { cutoff: Cutoff::Absolute, ..revocation(n, user(name), 0) }
}

fn of_session(n: u128, id: &str) -> Revocation {
    let json = format!(r#"{{"issuer":"{ISSUER}","session":"{id}"}}"#);
    Revocation { cutoff: Cutoff::Absolute, ..revocation(n, selector(&json), 0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_replicas_that_claim_a_refresh_token_at_once_one_is_granted_it() {
    let (_server, stores) = fleet(3).await;
    for round in 0..20 {
        let digest = token(round).digest;
        let start = Arc::new(Barrier::new(12));
        let claims = (0..12_u8).map(|client| {
            let (sessions, start) = (stores[usize::from(client) % 3].sessions.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                sessions.claim(claim(digest, client)).await.unwrap()
            })
        });
        let answers = join_all(claims).await.into_iter().map(Result::unwrap);
        assert_eq!(answers.filter(|answer| *answer == Claimed::Granted).count(), 1, "round {round}");
    }
    close(stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_see_the_same_sessions_at_once_make_one_of_each_and_lose_no_token() {
    let (_server, stores) = fleet(3).await;
    let writers = (0..6_u32).map(|writer| {
        let sessions = stores[writer as usize % 3].sessions.clone();
        tokio::spawn(async move {
            let mut new = Vec::new();
            for round in 0..6 {
                // Each in another order, with tokens of its own.
                let seen = (0..40_u32).map(|n| {
                    let n = (n * 7 + writer * 11 + round) % 40;
                    Sighting { token: Some(token(n * 100 + writer)), ..sighting(n, "ann") }
                });
                new.extend(sessions.touch(seen.collect()).await.unwrap());
            }
            new
        })
    });
    let mut new: Vec<SessionKey> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    new.sort();
    assert_eq!(new.len(), 40, "each is new to one of them");
    new.dedup();
    assert_eq!(new.len(), 40);
    assert_eq!(total(&stores[0], SessionQuery::default()).await, 40);
    for n in 0..40 {
        let tokens = stores[1].sessions.tokens(&key(&format!("s{n}")), None).await.unwrap();
        assert_eq!(tokens.len(), 6);
    }
    close(stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_learned_while_it_is_revoked_is_shown_as_ended() {
    let (_server, stores) = fleet(2).await;
    let races = (0..40_u32).map(|n| {
        let (revoker, learner) = (stores[0].clone(), stores[1].clone());
        tokio::spawn(async move {
            let start = Arc::new(Barrier::new(2));
            let started = start.clone();
            let revoked = tokio::spawn(async move {
                started.wait().await;
                revoker.log.append(revoke(of_session(n.into(), &format!("s{n}")))).await.unwrap();
            });
            start.wait().await;
            if n % 2 == 0 {
                let lesson =
                    Lesson { session: session(n, "ann"), family: "f".into(), tokens: vec![token(n)], redeemed: None };
                learner.sessions.learn(lesson).await.unwrap();
            } else {
                learner.sessions.touch(vec![sighting(n, "ann")]).await.unwrap();
            }
            revoked.await.unwrap();
        })
    });
    join_all(races).await.into_iter().for_each(Result::unwrap);
    stores[0].sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&stores[0], SessionState::Revoked).await, 40);
    close(stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_revocations_and_lifts_at_once_neither_block_nor_break_each_other() {
    let (_server, stores) = fleet(3).await;
    touch(&stores[0], (0..60).map(|n| session(n, &format!("u{}", n % 6)))).await;
    let traffic = (0..3_u64).map(|writer| {
        let sessions = stores[writer as usize].sessions.clone();
        tokio::spawn(async move {
            for round in 0..5_u64 {
                let seen = (0..60).map(|n| {
                    let mut seen = sighting(n, &format!("u{}", n % 6));
                    seen.session.updated_at = NOW.after(Duration::from_secs(round * 3 + writer));
                    seen
                });
                sessions.touch(seen.collect()).await.unwrap();
            }
        })
    });
    let revokes = (0..6_u128).map(|n| {
        let store = stores[n as usize % 3].clone();
        tokio::spawn(async move {
            store.log.append(revoke(all_of(n, &format!("u{n}")))).await.unwrap();
            if n % 2 == 0 {
                store.log.append(lift(n)).await.unwrap();
            }
        })
    });
    join_all(traffic.chain(revokes).collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    stores[0].sessions.tidy(NOW).await.unwrap();
    for n in 0..6 {
        let ended =
            SessionQuery { user: Some(format!("u{n}")), state: Some(SessionState::Revoked), ..Default::default() };
        assert_eq!(total(&stores[1], ended).await, if n % 2 == 0 { 0 } else { 10 }, "u{n}");
    }
    close(stores).await;
}

#[tokio::test]
async fn a_revocation_waits_for_nobody_who_is_writing_a_session_and_reaches_it_afterwards() {
    let (server, stores) = fleet(2).await;
    touch(&stores[0], [session(1, "ann"), session(2, "ann")]).await;
    let options = server.url.parse::<sqlx::postgres::PgConnectOptions>().unwrap();
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let held = "BEGIN; SELECT FROM portcullis.sessions WHERE id = 's1' FOR NO KEY UPDATE";
    sqlx::raw_sql(held).execute(&mut writer).await.unwrap();
    stores[0].log.append(revoke(all_of(1, "ann"))).await.unwrap();
    assert_eq!(in_state(&stores[0], SessionState::Revoked).await, 1);
    stores[0].sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&stores[0], SessionState::Revoked).await, 1, "still being written");
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    // Whoever writes next goes on with it.
    touch(&stores[1], [session(3, "ben")]).await;
    assert_eq!(in_state(&stores[0], SessionState::Revoked).await, 2);
    assert_eq!(server.sql("SELECT count(*) FROM portcullis.sweeps"), "0");
    close(stores).await;
}

#[tokio::test]
async fn a_revocation_of_very_many_sessions_is_finished_by_upkeep() {
    let (server, stores) = fleet(1).await;
    let store = &stores[0];
    touch(store, (0..23).map(|n| session(n, "ann"))).await;
    store.log.append(revoke(all_of(1, "ann"))).await.unwrap();
    assert_eq!(in_state(store, SessionState::Revoked).await, 5, "as many as one step ends");
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(store, SessionState::Revoked).await, 23);
    store.log.append(lift(1)).await.unwrap();
    assert_eq!(in_state(store, SessionState::Revoked).await, 18);
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(store, SessionState::Active).await, 23);
    store.log.append(batch([Entry::Revoke(all_of(2, "ann"))])).await.unwrap();
    store.log.append(lift(2)).await.unwrap();
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(store, SessionState::Active).await, 23, "a lift overtakes what is still being carried over");
    assert_eq!(server.sql("SELECT count(*) FROM portcullis.sweeps"), "0");
    close(stores).await;
}

#[tokio::test]
async fn a_batch_ends_sessions_by_the_first_of_its_revocations_that_names_them() {
    let (_server, stores) = fleet(1).await;
    let store = &stores[0];
    touch(store, [session(1, "ann"), session(2, "ann"), session(3, "ben")]).await;
    let entries = [of_session(1, "s2"), all_of(2, "ann"), of_session(3, "s3"), of_session(4, "unknown")];
    store.log.append(batch(entries.map(Entry::Revoke))).await.unwrap();
    for (session, by) in [("s1", 2), ("s2", 1), ("s3", 3)] {
        let found = store.sessions.session(&key(session)).await.unwrap().unwrap();
        assert_eq!(found.session.ended.unwrap().revocation, id(by), "{session}");
    }
    close(stores).await;
}

#[tokio::test]
async fn upkeep_leaves_no_trace_of_what_is_forgotten() {
    let (server, stores) = fleet(1).await;
    let store = &stores[0];
    let crowd = (0..23).map(|n| {
        let mut one = session(n, "ann");
        (one.user_agent, one.username) = (Some(format!("Browser/{n}").into()), Some("Ann".into()));
        one.expires_at = Some(NOW);
        one
    });
    touch(store, crowd).await;
    let mut moved = session(0, "ann");
    (moved.user_agent, moved.address) = (Some("Other/1".into()), Some("192.0.2.1".into()));
    touch(store, [moved]).await;
    let words = |word: &str| SessionQuery { keywords: vec![word.to_owned()], ..Default::default() };
    assert_eq!(total(store, words("192.0.2")).await, 1);
    assert_eq!(total(store, words("browser/0")).await, 0);
    assert_eq!(store.sessions.tidy(NOW).await.unwrap(), 23);
    assert_eq!(total(store, words("ann")).await, 0);
    for table in ["sessions", "words", "tokens"] {
        assert_eq!(server.sql(&format!("SELECT count(*) FROM portcullis.{table}")), "0", "{table}");
    }
    assert_eq!(server.sql("SELECT coalesce(sum(sessions), 0) FROM portcullis.census"), "0");
    close(stores).await;
}

#[tokio::test]
async fn what_postgresql_cannot_hold_is_kept_as_it_was_and_what_it_cannot_index_loses_itself_alone() {
    let (_server, stores) = fleet(1).await;
    let store = &stores[0];
    let mut odd = Session::new(key("a\0b\u{1}"), NOW);
    (odd.username, odd.user_agent) = (Some("\0ann".into()), Some("Browser\0".into()));
    (odd.created_at, odd.expires_at) = (Timestamp::from_secs(7), Some(Timestamp::from_secs(i64::MAX as u64)));
    // Long, and nothing that could be compressed.
    let vast: String = (0..100_u32)
        .map(|n| format!("{:?}", aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &n.to_be_bytes())))
        .collect();
    let mut long = session(1, "ann");
    long.username = Some(vast.into());
    touch(store, [session(2, "ann"), long, odd.clone()]).await;
    for _ in 0..2 {
        let found = store.sessions.session(&odd.key).await.unwrap().unwrap().session;
        assert_eq!(found, odd);
        touch(store, [odd.clone()]).await;
    }
    let named = SessionQuery { username: Some("\0ann".to_owned()), ..Default::default() };
    assert_eq!(total(store, named).await, 1);
    assert!(store.sessions.session(&key("s2")).await.unwrap().is_some());
    assert!(store.sessions.session(&key("s1")).await.unwrap().is_none());
    close(stores).await;
}

#[tokio::test]
async fn a_session_seen_again_within_a_quarter_of_an_hour_changes_no_index() {
    let (server, stores) = fleet(1).await;
    let store = &stores[0];
    touch(store, [session(1, "ann")]).await;
    for secs in 1..20 {
        let mut again = session(1, "ann");
        again.updated_at = NOW.after(Duration::from_secs(secs));
        touch(store, [again]).await;
    }
    close(stores).await;
    // A connection that has ended has told its figures, soon.
    let figures = "SELECT n_tup_upd || '/' || n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'";
    let told = (0..500).map(|_| server.sql(figures)).find(|told| told.starts_with("19/"));
    assert_eq!(told.as_deref(), Some("19/19"), "NOW is well within a quarter of an hour");
}

#[tokio::test]
async fn without_the_index_of_letters_keywords_find_the_same() {
    let server = Shared::start(&[]);
    let store = open(postgres(&server.url)).await;
    server.sql("DROP INDEX IF EXISTS portcullis.words_by_letters; DROP EXTENSION IF EXISTS pg_trgm");
    let mut one = session(1, "ann");
    one.username = Some("Größe 50%_\\x".into());
    touch(&store, [one, session(2, "ben")]).await;
    for (word, found) in [("GRÖ", 1), ("50%", 1), ("0%_\\X", 1), ("5_%", 0), ("s", 2), ("\\\\", 0)] {
        let words = SessionQuery { keywords: vec![word.to_owned()], ..Default::default() };
        assert_eq!(total(&store, words).await, found, "{word}");
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_learned_and_claimed_survives_a_killed_server() {
    let mut shared = Shared::start(&["fsync=on"]);
    let store = open(postgres(&shared.url)).await;
    let redeemed = Redeemed { digest: token(7).digest, sealed: None, grace_until: NOW };
    let lesson =
        Lesson { session: session(1, "ann"), family: "f".into(), tokens: vec![token(7)], redeemed: Some(redeemed) };
    store.sessions.learn(lesson).await.unwrap();
    store.sessions.claim(claim(token(8).digest, 1)).await.unwrap();
    store.close().await;
    shared.server.restart();
    let after = open(postgres(&shared.url)).await;
    let known = after.sessions.known(token(7).digest).await.unwrap().unwrap();
    assert_eq!(&*known.logins[0].session.id, "s1");
    for digest in [token(7).digest, token(8).digest] {
        assert_eq!(after.sessions.claim(claim(digest, 9)).await.unwrap(), Claimed::Reused);
    }
    after.close().await;
}

/// `PORTCULLIS_SESSIONS=1000000 cargo nextest run --run-ignored only how_fast --no-capture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and asserts nothing: figures for whoever changes an index or a statement"]
async fn how_fast_sessions_are_seen_and_found() {
    let many: u32 = std::env::var("PORTCULLIS_SESSIONS").ok().and_then(|many| many.parse().ok()).unwrap_or(20_000);
    let server = Shared::start(&["fsync=on", "shared_buffers=512MB", "max_wal_size=4GB"]);
    let store = open(postgres(&server.url)).await;
    let seen = |n: u32, later: u64| {
        let mut seen = sighting(n, &format!("user-{}", n / 3));
        let session = &mut seen.session;
        session.username = Some(format!("user-{}@example.com", n / 3).into());
        session.address = Some(format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255).into());
        session.user_agent = Some(format!("Mozilla/5.0 (X11; Linux x86_64) Firefox/{}.0", n % 50).into());
        session.updated_at = NOW.after(Duration::from_secs(later));
        session.expires_at = Some(NOW.after(Duration::from_secs(u64::from(n % 86_400) + 60)));
        seen
    };
    for (what, later) in [("first seen", 0), ("seen again", 60), ("seen again a quarter of an hour later", 960)] {
        let began = std::time::Instant::now();
        let count = if later == 0 { many } else { many.min(100_000) };
        for first in (0..count).step_by(500) {
            let some = (first..count.min(first + 500)).map(|n| seen(n.wrapping_mul(7919) % many, later)).collect();
            store.sessions.touch(some).await.unwrap();
        }
        println!("{what}: {:.0} a second", f64::from(count) / began.elapsed().as_secs_f64());
    }
    server.sql("VACUUM ANALYZE");
    let all = SessionQuery { now: NOW, limit: 50, ..Default::default() };
    let active = SessionQuery { state: Some(SessionState::Active), ..all.clone() };
    let words = |word: &str| SessionQuery { keywords: vec![word.to_owned()], ..active.clone() };
    let searches = [
        ("active, by expiry", active.clone()),
        ("by last seen, backwards", SessionQuery { sort: SortKey::Updated, descending: true, ..active.clone() }),
        ("of a user", SessionQuery { user: Some("user-777".to_owned()), ..active.clone() }),
        (
            "of a client, by username",
            SessionQuery { client: Some("app".into()), sort: SortKey::Username, ..all.clone() },
        ),
        ("with a rare word", words("user-777@")),
        ("with a common word", words("example.com")),
        ("with a short word", words("77")),
    ];
    for (what, query) in searches {
        let began = std::time::Instant::now();
        let total = store.sessions.sessions(&query).await.unwrap().total;
        println!("{what}: {:?} of {total}", began.elapsed());
    }
    store.close().await;
}
