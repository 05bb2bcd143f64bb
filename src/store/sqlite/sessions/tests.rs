//! What is SQLite's own: files of an earlier version, batches, and what upkeep leaves.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, query_scalar, raw_sql};

use crate::domain::{
    Cutoff, Entry, Revocation, SeenToken, Session, SessionKey, SessionState, Timestamp, TokenDigest, TokenKind,
};
use crate::store::testing::*;
use crate::store::{Claim, Lesson, Redeemed, SessionQuery, Sighting, Store};

fn session(n: u32, user: &str) -> Session {
    let key = SessionKey { issuer: "https://id.example".into(), id: format!("s{n}").into() };
    let mut session = Session::new(key, NOW);
    (session.user, session.client) = (Some(user.into()), Some("app".into()));
    session
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

async fn scalar(folder: &Folder, sql: &'static str) -> i64 {
    let mut connection = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    let value = query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_up_to_date_and_loses_nothing() {
    let folder = Folder::new();
    let options = SqliteConnectOptions::new().filename(folder.file()).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    raw_sql(include_str!("../migrations/1.sql")).execute(&mut connection).await.unwrap();
    raw_sql(
        "PRAGMA application_id = 1886675820; PRAGMA user_version = 1; \
         INSERT INTO revocations (id, selector, reach, cutoff, created_at, actor, position) VALUES \
         ('00000000000000000000000000000001', '{\"issuer\":\"https://id.example\",\"session\":\"s1\"}', 3, NULL, 7, 'ops', 1); \
         UPDATE log SET head = 1",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let store = open_file(&folder).await;
    assert!(store.log.find(id(1)).await.unwrap().is_some());
    touch(&store, [session(1, "ann"), session(2, "ann")]).await;
    assert_eq!(in_state(&store, SessionState::Revoked).await, 1, "what stood before names a session learned now");
    store.close().await;
    assert_eq!(scalar(&folder, "PRAGMA user_version").await, 3);
    let store = open_file(&folder).await;
    assert_eq!(total(&store, SessionQuery::default()).await, 2);
}

#[tokio::test]
async fn what_was_learned_survives_a_power_cut() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let digest = TokenDigest::new([7; 32]);
    let token = SeenToken {
        digest,
        token_id: None,
        kind: TokenKind::Refresh,
        issued_at: None,
        expires_at: None,
        generation: None,
    };
    let redeemed = Redeemed { digest, sealed: None, grace_until: NOW };
    let lesson =
        Lesson { session: session(1, "ann"), family: "f".into(), tokens: vec![token], redeemed: Some(redeemed) };
    store.sessions.learn(lesson).await.unwrap();
    let claim = Claim {
        digest,
        text: digest,
        client: digest,
        now: NOW,
        given_up_at: Timestamp::default(),
        max_replays: 1,
        expires_at: None,
    };
    let other = TokenDigest::new([8; 32]);
    store.sessions.claim(Claim { digest: other, ..claim }).await.unwrap();
    let image = folder.crashed();
    let after = open_file(&image).await;
    assert_eq!(&*after.sessions.known(digest).await.unwrap().unwrap().logins[0].session.id, "s1");
    for (digest, client) in [(digest, digest), (other, digest)] {
        let client = if digest == other { TokenDigest::new([9; 32]) } else { client };
        let claimed = after.sessions.claim(Claim { digest, client, ..claim }).await.unwrap();
        assert_eq!(claimed, crate::store::Claimed::Reused);
    }
}

#[tokio::test]
async fn a_revocation_of_very_many_sessions_is_finished_by_upkeep() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    let all = Revocation { cutoff: Cutoff::Absolute, ..revocation(1, user("ann"), 0) };
    store.log.append(revoke(all)).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 5, "as many as one step ends");
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 23);
    store.log.append(lift(1)).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 18);
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
    assert_eq!(scalar(&folder, "SELECT count(*) FROM sweeps").await, 0);
}

#[tokio::test]
async fn a_lift_overtakes_the_revocation_that_is_still_being_carried_over() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    let all = Revocation { cutoff: Cutoff::Absolute, ..revocation(1, user("ann"), 0) };
    store.log.append(batch([Entry::Revoke(all)])).await.unwrap();
    store.log.append(lift(1)).await.unwrap();
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
}

#[tokio::test]
async fn upkeep_leaves_no_trace_of_what_is_forgotten() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let crowd = |expires_at| {
        (0..23).map(move |n| {
            let mut one = session(n, "ann");
            (one.user_agent, one.username) = (Some(format!("Browser/{n}").into()), Some("Ann".into()));
            one.expires_at = Some(expires_at);
            one
        })
    };
    touch(&store, crowd(NOW)).await;
    let mut moved = session(0, "ann");
    (moved.user_agent, moved.address) = (Some("Other/1".into()), Some("192.0.2.1".into()));
    touch(&store, [moved]).await;
    let words = |word: &str| SessionQuery { keywords: vec![word.to_owned()], ..Default::default() };
    assert_eq!(total(&store, words("192.0.2")).await, 1);
    assert_eq!(total(&store, words("browser/0")).await, 0);
    assert_eq!(store.sessions.tidy(NOW).await.unwrap(), 23);
    assert_eq!(total(&store, words("ann")).await, 0);
    store.close().await;
    for table in [
        "SELECT count(*) FROM sessions",
        "SELECT count(*) FROM agents",
        "SELECT count(*) FROM words",
        "SELECT count(*) FROM census",
        "SELECT count(*) FROM grams WHERE grams MATCH '\"ann\"'",
    ] {
        assert_eq!(scalar(&folder, table).await, 0, "{table}");
    }
}
