//! What tests of this and other modules need of a store: folders that vanish, every adapter, revocations of few words.

pub(crate) mod postgres;
pub(crate) mod redis;

use std::ops::AsyncFn;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;

use crate::clock::{ManualClock, SharedClock};
use crate::domain::{
    Change, Checkpoint, Cutoff, Entry, Lift, Position, Reach, Revocation, RevocationId, Selector, Timestamp,
};
use crate::store::testing::postgres::PostgresServer;
use crate::store::{AuditRecord, Backend, Batch, Event, EventStream, Settings, SortKey, Store};
use crate::telemetry::Metrics;

/// When the tests take place.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);

/// Every order of sessions.
pub(crate) const SORT_KEYS: [SortKey; 12] = [
    SortKey::Id,
    SortKey::User,
    SortKey::Username,
    SortKey::Issuer,
    SortKey::Parent,
    SortKey::Domain,
    SortKey::Address,
    SortKey::Type,
    SortKey::Created,
    SortKey::Updated,
    SortKey::Expires,
    SortKey::TokenExpires,
];

/// A folder that is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("portcullis-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("portcullis.db")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What a power cut would leave of the files now, opened or not, in another folder.
    pub(crate) fn crashed(&self) -> Self {
        let image = Self::new();
        for name in ["portcullis.db", "portcullis.db-wal"] {
            let from = self.0.join(name);
            if from.exists() {
                std::fs::copy(from, image.0.join(name)).unwrap();
            }
        }
        image
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn clock() -> SharedClock {
    ManualClock::at(NOW)
}

pub(crate) async fn open(backend: Backend) -> Store {
    Store::open(&Settings::new(backend), clock(), Metrics::new()).await.unwrap()
}

pub(crate) async fn open_file(folder: &Folder) -> Store {
    open(Backend::Sqlite(folder.file())).await
}

/// Holds a promise against every adapter.
pub(crate) async fn on_each_store(promise: impl AsyncFn(Store)) {
    promise(open(Backend::Memory).await).await;
    let folder = Folder::new();
    let store = open_file(&folder).await;
    promise(store.clone()).await;
    store.close().await;
    let server = PostgresServer::start();
    let store = open(postgres(&server.database())).await;
    promise(store.clone()).await;
    store.close().await;
    let server = redis::RedisServer::plain();
    let store = open(Backend::Redis((&*server.url()).into())).await;
    promise(store.clone()).await;
    store.close().await;
}

/// The backend at a PostgreSQL server's URL.
pub(crate) fn postgres(url: &str) -> Backend {
    Backend::Postgres(url.into())
}

pub(crate) fn id(n: u128) -> RevocationId {
    RevocationId::from_random(n)
}

pub(crate) fn selector(json: &str) -> Selector {
    serde_json::from_str(json).unwrap()
}

pub(crate) fn user(name: &str) -> Selector {
    selector(&format!(r#"{{"issuer":"https://id.example","user":"{name}"}}"#))
}

/// A revocation of `selector` until `cutoff` seconds from now, kept for an hour.
pub(crate) fn revocation(n: u128, selector: Selector, cutoff: u64) -> Revocation {
    Revocation {
        id: id(n),
        selector,
        reach: Reach::LOGIN,
        cutoff: Cutoff::Until(NOW.after(Duration::from_secs(cutoff))),
        created_at: NOW,
        expires_at: Some(NOW.after(Duration::from_secs(3_600))),
        actor: "ops".into(),
        reason: Some("lost laptop".into()),
        named_for: None,
    }
}

pub(crate) fn batch(entries: impl IntoIterator<Item = Entry>) -> Batch {
    Batch { entries: entries.into_iter().collect(), audit: Vec::new(), now: NOW, seen: Checkpoint::START }
}

pub(crate) fn revoke(revocation: Revocation) -> Batch {
    batch([Entry::Revoke(revocation)])
}

pub(crate) fn lift(n: u128) -> Batch {
    batch([Entry::Lift { id: id(n), lift: Lift { at: NOW, actor: "ops".into() } }])
}

pub(crate) fn record(action: &str, actor: &str) -> AuditRecord {
    AuditRecord {
        sequence: 0,
        at: NOW,
        actor: actor.to_owned(),
        address: "192.0.2.1".to_owned(),
        action: action.to_owned(),
        subject: "{}".to_owned(),
        reason: None,
        result: "refused".to_owned(),
        revocation: None,
    }
}

/// What a follower sees until it has caught up.
pub(crate) async fn until_caught_up(events: &mut EventStream) -> (Vec<Change>, Position) {
    let mut changes = Vec::new();
    loop {
        match events.next().await.expect("a stream never ends silently").unwrap() {
            Event::Loading(_) => {}
            Event::Change(change) => changes.push(change),
            Event::CaughtUp(proof) => return (changes, proof.checkpoint.position),
        }
    }
}

/// What follows, until the log has been read up to `position`.
pub(crate) async fn until(events: &mut EventStream, position: Position) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        let (more, reached) = until_caught_up(events).await;
        changes.extend(more);
        if reached >= position {
            return changes;
        }
    }
}
