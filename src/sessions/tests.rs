//! From a sighting to the inventory: what is written, when the store fails, when it is time to stop, and what a limit
//! ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::domain::{Claims, Session, SessionKey, Timestamp, TokenDigest, TokenKind};
use crate::sessions::{End, Ended, Learner, Limits, MaxSessions, Revoker, Seen, Settings, Sightings, Tracker};
use crate::store::testing::{NOW, clock, open, revocation, revoke, selector};
use crate::store::{
    Backend, Claim, Claimed, KnownToken, Learned, Lesson, SessionPage, SessionQuery, SessionRecord, SessionTable,
    SharedSessions, Sighting, Store, StoreError,
};
use crate::telemetry::Metrics;

const ISSUER: &str = "https://id.example";

fn key(id: &str) -> SessionKey {
    SessionKey { issuer: ISSUER.into(), id: id.into() }
}

fn claims(n: u8, user: &str) -> Claims {
    let mut claims = Claims::bare(ISSUER.into(), TokenKind::Access, TokenDigest::new([n; 32]));
    (claims.session, claims.user) = (Some(format!("s{n}").into()), Some(user.into()));
    claims.issued_at = Some(NOW.before(Duration::from_secs(300 - u64::from(n))));
    claims
}

fn see(tracker: &Tracker, claims: &Claims, now: Timestamp) {
    tracker.see(claims, Seen { address: None, user_agent: Some(b"Browser/1"), now });
}

fn tracker() -> (Arc<Tracker>, Sightings) {
    Tracker::new(&Settings::default(), Metrics::new())
}

/// A revoker that remembers what it was to end, and ends it in the log.
#[derive(Debug)]
struct Remembering {
    store: Store,
    ended: Mutex<Vec<(String, &'static str)>>,
}

#[async_trait]
impl Revoker for Remembering {
    async fn end(&self, end: End) -> Result<(), StoreError> {
        let Ended::Session(id) = end.what else { panic!("{end:?}") };
        let n = self.ended.lock().unwrap().len() as u128;
        let selector = selector(&format!(r#"{{"issuer":"{}","session":"{id}"}}"#, end.issuer));
        self.store.log.append(revoke(revocation(n, selector, 500))).await?;
        self.ended.lock().unwrap().push((id.into(), end.reason));
        Ok(())
    }
}

#[tokio::test]
async fn what_was_seen_is_known_once_the_learner_has_stopped() {
    let store = open(Backend::Memory).await;
    let (tracker, sightings) = tracker();
    let learner = Learner::start(sightings, store.sessions.clone(), clock(), None);
    for n in 0..200 {
        see(&tracker, &claims(n, "ann"), NOW);
        see(&tracker, &claims(n, "ann"), NOW.after(Duration::from_secs(600)));
    }
    learner.stop().await;
    let page = store.sessions.sessions(&SessionQuery { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(page.total, 200);
    let record = store.sessions.session(&key("s7")).await.unwrap().unwrap();
    assert_eq!((record.tokens.len(), record.session.updated_at), (1, NOW.after(Duration::from_secs(600))));
    assert_eq!(record.session.user_agent.as_deref(), Some("Browser/1"));
}

/// A store that fails some times, and says so.
#[derive(Debug)]
struct Failing {
    inner: SharedSessions,
    failures: AtomicUsize,
    failed: Notify,
}

#[async_trait]
impl SessionTable for Failing {
    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            self.failed.notify_one();
            return Err(StoreError::Unavailable("not now".into()));
        }
        self.inner.touch(sightings).await
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.tidy(now).await
    }

    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        self.inner.learn(lesson).await
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        self.inner.known(digest).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.inner.claim(claim).await
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.inner.release(digest).await
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        self.inner.sessions(query).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        self.inner.session(key).await
    }

    async fn tokens(
        &self,
        key: &SessionKey,
        after: Option<&crate::domain::SeenToken>,
    ) -> Result<Vec<crate::store::SessionToken>, StoreError> {
        self.inner.tokens(key, after).await
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        self.inner.descendants(key).await
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        self.inner.prolong(until).await
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_what_was_seen_is_kept() {
    let store = open(Backend::Memory).await;
    let failing = Failing { inner: store.sessions.clone(), failures: AtomicUsize::new(3), failed: Notify::new() };
    let table = Arc::new(failing);
    let (tracker, sightings) = tracker();
    let learner = Learner::start(sightings, table.clone(), clock(), None);
    see(&tracker, &claims(1, "ann"), NOW);
    for _ in 0..3 {
        table.failed.notified().await;
    }
    learner.stop().await;
    assert!(store.sessions.session(&key("s1")).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_again_does_not_keep_the_learner() {
    let store = open(Backend::Memory).await;
    let failing =
        Failing { inner: store.sessions.clone(), failures: AtomicUsize::new(usize::MAX), failed: Notify::new() };
    let table = Arc::new(failing);
    let (tracker, sightings) = tracker();
    let learner = Learner::start(sightings, table.clone(), clock(), None);
    see(&tracker, &claims(1, "ann"), NOW);
    table.failed.notified().await;
    learner.stop().await;
    assert!(store.sessions.session(&key("s1")).await.unwrap().is_none());
}

async fn remembering(store: &Store) -> Arc<Remembering> {
    Arc::new(Remembering { store: store.clone(), ended: Mutex::default() })
}

fn ended(revoker: &Remembering) -> Vec<String> {
    let ended = revoker.ended.lock().unwrap();
    assert!(ended.iter().all(|(_, reason)| *reason == "too many sessions"));
    ended.iter().map(|(id, _)| id.clone()).collect()
}

#[tokio::test]
async fn the_oldest_sessions_beyond_a_users_limit_end() {
    let store = open(Backend::Memory).await;
    let revoker = remembering(&store).await;
    let max = MaxSessions::from([(ISSUER.into(), 2)]);
    let limits = Limits::new(store.sessions.clone(), revoker.clone(), clock(), max);
    let (tracker, sightings) = tracker();
    for (n, user) in [(5, "ann"), (3, "ann"), (9, "ann"), (4, "ann"), (1, "ben")] {
        see(&tracker, &claims(n, user), NOW);
    }
    let learner = Learner::start(sightings, store.sessions.clone(), clock(), Some(limits));
    learner.stop().await;
    assert_eq!(ended(&revoker), ["s3", "s4"], "begun first, whichever was seen first");
    let left = SessionQuery { state: Some(crate::domain::SessionState::Active), limit: 9, ..Default::default() };
    assert_eq!(store.sessions.sessions(&left).await.unwrap().total, 3);
}

#[tokio::test]
async fn a_limit_holds_for_its_issuer_only_and_can_be_changed() {
    let store = open(Backend::Memory).await;
    let revoker = remembering(&store).await;
    let limits = Limits::new(store.sessions.clone(), revoker.clone(), clock(), MaxSessions::new());
    for n in 0..4 {
        let mut session = Session::new(key(&format!("s{n}")), NOW.after(Duration::from_secs(n)));
        session.user = Some("ann".into());
        let elsewhere = SessionKey { issuer: "other".into(), id: format!("o{n}").into() };
        let other = Session { key: elsewhere, ..session.clone() };
        let sighted = [session, other].map(|session| Sighting { session, token: None });
        store.sessions.touch(sighted.into()).await.unwrap();
    }
    assert_eq!(limits.enforce(&key("s3"), "ann").await.unwrap(), 0);
    limits.configure(MaxSessions::from([(ISSUER.into(), 1)]));
    assert_eq!(limits.enforce(&key("s3"), "ann").await.unwrap(), 3);
    assert_eq!(ended(&revoker), ["s0", "s1", "s2"]);
    assert_eq!(limits.enforce(&key("s3"), "ann").await.unwrap(), 0);
}
