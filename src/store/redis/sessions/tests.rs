//! What is the inventory's own in Redis: batches, several replicas at once, and that nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use ::redis::cmd;
use futures_util::future::join_all;

use crate::domain::{
    Cutoff, Entry, Revocation, SeenToken, Session, SessionKey, SessionState, Timestamp, TokenDigest, TokenKind,
};
use crate::store::redis::tests::connection;
use crate::store::testing::redis::RedisServer;
use crate::store::testing::*;
use crate::store::{
    Backend, Claim, Claimed, Lesson, PasswordId, PasswordRecord, Redeemed, SessionQuery, Sighting, SortKey, Store,
};

const ISSUER: &str = "https://id.example";

async fn replica(server: &RedisServer) -> Store {
    open(Backend::parse(&server.url()).unwrap()).await
}

async fn replicas(server: &RedisServer, count: usize) -> Vec<Store> {
    join_all((0..count).map(|_| replica(server))).await
}

fn later(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

fn key(n: u32) -> SessionKey {
    SessionKey { issuer: ISSUER.into(), id: format!("s{n}").into() }
}

fn session(n: u32, user: &str) -> Session {
    let mut session = Session::new(key(n), NOW);
    (session.user, session.client) = (Some(user.into()), Some("app".into()));
    session
}

fn token(n: u8) -> SeenToken {
    SeenToken {
        digest: TokenDigest::new([n; 32]),
        token_id: None,
        kind: TokenKind::Refresh,
        issued_at: Some(NOW),
        expires_at: Some(later(60)),
        generation: None,
    }
}

fn claim(n: u8, client: u8) -> Claim {
    let digest = TokenDigest::new([n; 32]);
    Claim {
        digest,
        text: digest,
        client: TokenDigest::new([client; 32]),
        now: NOW,
        given_up_at: Timestamp::default(),
        max_replays: 1,
        expires_at: Some(later(60)),
    }
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

fn all_of(n: u128, name: &str) -> Revocation {
    Revocation { cutoff: Cutoff::Absolute, ..revocation(n, user(name), 0) }
}

#[tokio::test]
async fn a_revocation_of_very_many_sessions_is_finished_by_upkeep() {
    let server = RedisServer::plain();
    let store = replica(&server).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    store.log.append(revoke(all_of(1, "ann"))).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 5, "as many as one step looks at");
    replica(&server).await.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 23);
    store.log.append(lift(1)).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 18);
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
    assert_eq!(server.cli(&["EXISTS", "{portcullis}:sweeps"]), "0");
}

#[tokio::test]
async fn a_lift_overtakes_the_revocation_that_is_still_being_carried_over() {
    let server = RedisServer::plain();
    let store = replica(&server).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    store.log.append(batch([Entry::Revoke(all_of(1, "ann"))])).await.unwrap();
    store.log.append(lift(1)).await.unwrap();
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
}

#[tokio::test]
async fn what_a_replica_left_undone_any_other_does() {
    let server = RedisServer::plain();
    let store = replica(&server).await;
    store.log.append(revoke(all_of(1, "ann"))).await.unwrap();
    touch(&store, (0..7).map(|n| session(n, "ann"))).await;
    assert_eq!(in_state(&store, SessionState::Revoked).await, 0, "their own end is not in the log");
    let raw = connection(&server.url());
    let note = cmd("HSET").arg("{portcullis}:sweeps").arg(&1_u128.to_be_bytes()[..]).arg("0").take();
    raw.run::<()>(&note).await.unwrap();
    replica(&server).await.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 7);
    assert_eq!(server.cli(&["EXISTS", "{portcullis}:sweeps"]), "0");
}

#[tokio::test]
async fn what_many_replicas_tell_at_once_is_all_told() {
    let server = RedisServer::plain();
    let stores = replicas(&server, 6).await;
    let told = |replica: u64, n: u32| {
        let mut one = session(n, "ann");
        (one.updated_at, one.expires_at) = (later(replica), Some(later(100 + replica)));
        one.address = Some(format!("192.0.2.{replica}").into());
        let digest = TokenDigest::new([u8::try_from(n).unwrap(); 32]);
        let seen = SeenToken { digest, expires_at: Some(later(replica)), ..token(1) };
        Sighting { session: one, token: Some(seen) }
    };
    let new = join_all((0_u64..).zip(&stores).map(async |(replica, store)| {
        let mut new = 0;
        for from in [0, 10] {
            new += store.sessions.touch((from..from + 20).map(|n| told(replica, n)).collect()).await.unwrap().len();
        }
        new
    }));
    assert_eq!(new.await.into_iter().sum::<usize>(), 30, "each was new to one replica");
    for sort in SORT_KEYS {
        let query = SessionQuery { sort, now: NOW, limit: 100, ..Default::default() };
        let page = stores[0].sessions.sessions(&query).await.unwrap();
        assert_eq!((page.items.len(), page.total), (30, 30), "{sort:?}");
        assert!(page.items.iter().all(|one| one.expires_at == Some(later(105)) && one.updated_at == later(5)));
        assert!(page.items.iter().all(|one| one.address.as_deref() == Some("192.0.2.5")));
    }
    let known = stores[1].sessions.known(TokenDigest::new([7; 32])).await.unwrap().unwrap();
    assert_eq!((known.expires_at, known.logins.len()), (Some(later(5)), 1));
}

#[tokio::test]
async fn of_many_replicas_one_redeems_a_token() {
    let server = RedisServer::plain();
    let stores = replicas(&server, 6).await;
    for n in 0..5 {
        let claims = (1..=30).zip(stores.iter().cycle());
        let claimed = claims.map(async |(client, store)| store.sessions.claim(claim(n, client)).await.unwrap());
        let claimed = join_all(claimed).await;
        assert_eq!(claimed.iter().filter(|one| **one == Claimed::Granted).count(), 1);
    }
}

#[tokio::test]
async fn a_session_that_is_learned_while_it_is_ended_is_ended() {
    let server = RedisServer::plain();
    let stores = replicas(&server, 2).await;
    let each = (0..60).map(async |n: u32| {
        let named = selector(&format!(r#"{{"issuer":"{ISSUER}","session":"s{n}"}}"#));
        let end = Revocation { cutoff: Cutoff::Absolute, ..revocation(n.into(), named, 0) };
        let (appended, ()) = tokio::join!(stores[0].log.append(revoke(end)), touch(&stores[1], [session(n, "ann")]));
        appended.unwrap();
    });
    join_all(each).await;
    assert_eq!(in_state(&stores[0], SessionState::Revoked).await, 60);
}

#[tokio::test]
async fn upkeep_leaves_no_trace_of_what_is_forgotten() {
    let server = RedisServer::plain();
    let store = Arc::new(replica(&server).await);
    for (agent, parent) in [("Browser/1", None), ("Browser/2", Some("p"))] {
        touch(
            &store,
            (0..23).map(|n| {
                let mut one = session(n, "ann\0");
                (one.user_agent, one.parent) = (Some(agent.into()), parent.map(Into::into));
                (one.expires_at, one.updated_at) = (Some(later(60)), later(u64::from(n)));
                one
            }),
        )
        .await;
    }
    assert_eq!(total(&store, SessionQuery { user: Some("ann\0".into()), ..Default::default() }).await, 23);
    assert_eq!(total(&store, SessionQuery { user: Some("ann".into()), ..Default::default() }).await, 0);
    store.sessions.claim(claim(1, 1)).await.unwrap();
    let redeemed = Redeemed { digest: token(1).digest, sealed: Some([7; 9].into()), grace_until: later(30) };
    let tokens = (0..20).map(token).collect();
    let lesson = Lesson { session: session(1, "ann"), family: "f".into(), tokens, redeemed: Some(redeemed) };
    store.sessions.learn(lesson).await.unwrap();
    for n in 0..8 {
        let mut claims = crate::domain::Claims::bare(ISSUER.into(), TokenKind::Access, TokenDigest::new([n; 32]));
        (claims.session, claims.expires_at) = (Some("s1".into()), Some(later(60)));
        let (id, username, phc) = (PasswordId([n; 12]), "ann".into(), "phc".into());
        let record = PasswordRecord { id, username, phc, claims, created_at: NOW, expires_at: later(60) };
        store.passwords.keep(record).await.unwrap();
    }
    assert_eq!(store.sessions.tidy(later(60)).await.unwrap(), 1 + 1 + 20 + 5 + 23);
    let left = server.cli(&["KEYS", "{portcullis}:*"]);
    let left: Vec<&str> = left.split_whitespace().filter(|key| !key.ends_with(":head")).collect();
    assert_eq!(left, ["{portcullis}:session-last"]);
}

#[tokio::test]
async fn replicas_that_tidy_at_once_forget_everything_once() {
    let server = RedisServer::plain();
    let stores = replicas(&server, 3).await;
    let ending = |n| Session { expires_at: Some(NOW), ..session(n, "ann") };
    touch(&stores[0], (0..100).map(ending)).await;
    let gone = join_all(stores.iter().map(async |store| store.sessions.tidy(NOW).await.unwrap())).await;
    assert_eq!(gone.into_iter().sum::<u64>(), 100);
    assert_eq!(total(&stores[0], SessionQuery { sort: SortKey::Id, ..Default::default() }).await, 0);
}
