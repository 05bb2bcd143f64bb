//! A log that loses data, forgets its news, or is down when a replica starts; and what replicas make of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::tests::claims;
use crate::clock::ManualClock;
use crate::domain::{
    Change, Checkpoint, Disposition, Entry, Position, Proof, Recorded, RevocationId, Selector, Timestamp,
};
use crate::index::{Index, Phase, Standing};
use crate::live::Live;
use crate::store::testing::*;
use crate::store::{
    Appended, Backend, Batch, Event, EventStream, Page, RevocationLog, RevocationQuery, SharedLog, StoreError,
};
use crate::sync::{Follower, OnChange, Settings, snapshot};
use crate::telemetry::Metrics;

/// A log that replicas share and that anything may happen to.
#[derive(Debug)]
struct Shaky {
    condition: watch::Sender<Condition>,
    trimmed: AtomicBool,
    /// After so many appends it is down.
    appends_left: AtomicI64,
    /// When all of it is read the next time, it is emptied before.
    empties_before_load: AtomicBool,
}

#[derive(Clone, Debug)]
struct Condition {
    log: SharedLog,
    /// What its positions are marked with.
    mark: u64,
    down: bool,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("down".into())
}

impl Condition {
    fn holds(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        match checkpoint {
            _ if self.down => Err(unavailable()),
            Checkpoint { position: Position::START, .. } => Ok(()),
            Checkpoint { mark, .. } if mark == Some(self.mark) => Ok(()),
            _ => Err(StoreError::Lost("another history".to_owned())),
        }
    }
}

impl Shaky {
    async fn new(batches: impl IntoIterator<Item = Batch>) -> Arc<Self> {
        let condition = Condition { log: log(batches).await, mark: 1, down: false };
        Arc::new(Self {
            condition: watch::Sender::new(condition),
            trimmed: AtomicBool::default(),
            appends_left: AtomicI64::new(i64::MAX),
            empties_before_load: AtomicBool::default(),
        })
    }

    fn now(&self) -> Condition {
        self.condition.borrow().clone()
    }

    fn log(&self) -> Result<SharedLog, StoreError> {
        let Condition { log, down, .. } = self.now();
        if down { Err(unavailable()) } else { Ok(log) }
    }

    /// Another log takes its place, as after a restored backup. Answers its mark.
    async fn replace(&self, batches: impl IntoIterator<Item = Batch>) -> u64 {
        let log = log(batches).await;
        self.condition.send_modify(|condition| {
            condition.log = log;
            condition.mark += 1;
        });
        self.now().mark
    }

    fn set_down(&self, down: bool) {
        self.condition.send_modify(|condition| condition.down = down);
    }
}

async fn log(batches: impl IntoIterator<Item = Batch>) -> SharedLog {
    let log = open(Backend::Memory).await.log;
    for batch in batches {
        log.append(batch).await.unwrap();
    }
    log
}

#[async_trait]
impl RevocationLog for Shaky {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.now().holds(batch.seen)?;
        if self.appends_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(unavailable());
        }
        self.log()?.append(Batch { seen: Checkpoint::START, ..batch }).await
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        if from == Checkpoint::START && self.empties_before_load.swap(false, Ordering::SeqCst) {
            self.replace([]).await;
        }
        let mut watching = self.condition.subscribe();
        let Condition { log, mark, .. } = watching.borrow_and_update().clone();
        self.now().holds(from)?;
        if from != Checkpoint::START && self.trimmed.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Trimmed(from.position));
        }
        let news = log.follow(from.position.into()).await?;
        let marked = move |event| match event {
            Event::CaughtUp(Proof { checkpoint, as_of }) => {
                Event::CaughtUp(Proof { checkpoint: Checkpoint { mark: Some(mark), ..checkpoint }, as_of })
            }
            event => event,
        };
        let events = stream::unfold(Some((news, watching)), move |open| async move {
            let (mut news, mut watching) = open?;
            loop {
                tokio::select! {
                    biased;
                    _ = watching.changed() => {
                        let upto = Checkpoint { position: Position::new(1), mark: Some(mark) };
                        if let Err(error) = watching.borrow().holds(upto) {
                            return Some((Err(error), None));
                        }
                    }
                    event = news.next() => return Some((event?.map(marked), Some((news, watching)))),
                }
            }
        });
        Ok(events.boxed())
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.log()?.find(id).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.log()?.standing(selector, now).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.log()?.search(query).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.log()?.forget(now).await
    }

    async fn close(&self) {}
}

/// A replica that follows it.
struct Replica {
    clock: Arc<ManualClock>,
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    follower: Follower,
}

impl Replica {
    fn start(log: &Arc<Shaky>, snapshot: Option<PathBuf>) -> Self {
        Self::start_at(NOW, log, snapshot)
    }

    fn start_at(now: Timestamp, log: &Arc<Shaky>, snapshot: Option<PathBuf>) -> Self {
        let (clock, metrics) = (ManualClock::at(now), Metrics::new());
        let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
        let on_change: OnChange = Arc::new(|_: &Change| {});
        let max_age = Duration::from_secs(7 * 24 * 3_600);
        let snapshot = snapshot.map(|path| snapshot::Settings { path, max_age });
        let settings = Settings { remember: true, snapshot, replica: "a".into(), ..Settings::default() };
        let parts = (index.clone(), Live::new(Metrics::new()));
        let follower = Follower::start(log.clone(), parts, clock.clone(), metrics.clone(), on_change, settings);
        Self { clock, index, metrics, follower }
    }

    /// Until it has read that history to its end.
    async fn follows(&self, mark: u64) {
        self.index.checkpoints().wait_for(|checkpoint| checkpoint.mark == Some(mark)).await.unwrap();
    }

    fn covers(&self, user: &str) -> bool {
        self.index.covers(&claims(user), NOW)
    }

    fn counted(&self, metric: &str) -> u64 {
        let text = self.metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("portcullis_{metric} ")));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

fn revoked(n: u128, name: &str) -> Batch {
    revoke(revocation(n, user(name), 0))
}

#[tokio::test(start_paused = true)]
async fn what_a_store_lost_is_put_back_and_what_was_lifted_stays_lifted() {
    let log = Shaky::new([revoked(1, "lifted"), revoked(2, "kept")]).await;
    let replica = Replica::start(&log, None);
    replica.follows(1).await;
    log.append(lift(1)).await.unwrap();
    let end = log.append(revoked(3, "late")).await.unwrap().position;
    replica.index.reached(end).await;
    // A backup from before the lift, on which others have built since.
    let backup = [revoked(1, "lifted"), revoked(4, "other"), revoked(5, "more"), revoked(6, "most"), revoked(7, "x")];
    let mark = log.replace(backup).await;
    replica.follows(mark).await;
    assert!(["kept", "late", "other", "most"].iter().all(|name| replica.covers(name)));
    assert!(!replica.covers("lifted"));
    assert_eq!(replica.index.standing(), Standing::InStep);
    assert!(log.find(id(1)).await.unwrap().unwrap().ending.is_some(), "it is lifted in the store too");
    for n in [2, 3] {
        assert!(log.find(id(n)).await.unwrap().unwrap().stands(NOW));
    }
    assert_eq!(replica.counted("heals_total{result=\"done\"}"), 1);
    assert_eq!(replica.counted("healed_entries_total{result=\"restored\"}"), 2);
    replica.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_healed_what_is_known_is_refused_and_nothing_is_proved() {
    let log = Shaky::new([revoked(1, "a")]).await;
    let replica = Replica::start(&log, None);
    replica.follows(1).await;
    log.appends_left.store(0, Ordering::SeqCst);
    let mark = log.replace([]).await;
    replica.clock.advance(Duration::from_secs(11));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(replica.covers("a"));
    assert_eq!((replica.index.standing(), replica.index.freshness().phase), (Standing::Stale, Phase::Healing));
    log.appends_left.store(i64::MAX, Ordering::SeqCst);
    replica.follows(mark).await;
    assert!(replica.covers("a"));
    assert!(replica.counted("heals_total{result=\"interrupted\"}") > 0);
    replica.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_heal_that_is_interrupted_begins_anew() {
    let many = |n: u128| Entry::Revoke(revocation(n, user(&format!("u{n}")), 0));
    let log = Shaky::new([batch((1..1_300).map(many))]).await;
    let replica = Replica::start(&log, None);
    replica.follows(1).await;
    log.appends_left.store(1, Ordering::SeqCst);
    let mark = log.replace([]).await;
    while replica.counted("heals_total{result=\"interrupted\"}") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log.set_down(true);
    log.appends_left.store(i64::MAX, Ordering::SeqCst);
    assert!(replica.covers("u1") && replica.covers("u1299"));
    log.set_down(false);
    replica.follows(mark).await;
    for n in 1..1_300 {
        assert!(replica.covers(&format!("u{n}")));
        assert!(log.find(id(n)).await.unwrap().is_some());
    }
    replica.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_emptied_again_before_it_is_read_un_revokes_nothing() {
    let log = Shaky::new([revoked(1, "a"), revoked(2, "b")]).await;
    let replica = Replica::start(&log, None);
    replica.follows(1).await;
    log.empties_before_load.store(true, Ordering::SeqCst);
    let mark = log.replace([]).await;
    replica.follows(mark + 1).await;
    assert!(replica.covers("a") && replica.covers("b"));
    assert!(log.find(id(1)).await.unwrap().is_some());
    replica.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_replicas_heal_at_once_and_it_is_as_if_one_had() {
    let log = Shaky::new([revoked(1, "a"), revoked(2, "b"), lift(2), revoked(3, "c")]).await;
    let replicas = [Replica::start(&log, None), Replica::start(&log, None), Replica::start(&log, None)];
    for replica in &replicas {
        replica.follows(1).await;
    }
    let mark = log.replace([]).await;
    for replica in &replicas {
        replica.follows(mark).await;
        assert!(replica.covers("a") && !replica.covers("b") && replica.covers("c"));
    }
    let restored: u64 = replicas.iter().map(|r| r.counted("healed_entries_total{result=\"restored\"}")).sum();
    assert_eq!(restored, 2, "each row was put back by one of them");
    let held = log.search(&RevocationQuery { limit: 100, now: NOW, ..RevocationQuery::default() }).await.unwrap();
    assert_eq!(held.items.len(), 2, "those that stood; whoever loads a state hears of nothing else");
    for replica in replicas {
        replica.follower.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lifted_while_the_news_was_forgotten_goes_when_all_was_read() {
    let log = Shaky::new([revoked(1, "a"), revoked(2, "b")]).await;
    let replica = Replica::start(&log, None);
    replica.follows(1).await;
    log.set_down(true);
    while log.condition.receiver_count() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log.trimmed.store(true, Ordering::SeqCst);
    let behind = log.now().log;
    behind.append(lift(1)).await.unwrap();
    let end = behind.append(revoked(3, "c")).await.unwrap().position;
    log.set_down(false);
    replica.index.reached(end).await;
    assert!(!replica.covers("a") && replica.covers("b") && replica.covers("c"));
    // What it remembers now is no reason to bring it back.
    let mark = log.replace([]).await;
    replica.follows(mark).await;
    assert!(!replica.covers("a") && replica.covers("b") && replica.covers("c"));
    assert!(log.find(id(1)).await.unwrap().is_none());
    replica.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_without_its_store_refuses_what_it_knew() {
    let folder = Folder::new();
    let path = || Some(folder.path().join("snapshot"));
    let log = Shaky::new([revoked(1, "a"), revoked(2, "b"), lift(2)]).await;
    let first = Replica::start(&log, path());
    first.follows(1).await;
    first.follower.stop().await;
    log.set_down(true);
    let second = Replica::start(&log, path());
    second.follower.attempted(Duration::from_secs(60)).await.unwrap();
    assert!(second.covers("a") && !second.covers("b"));
    assert_eq!(second.index.standing(), Standing::Stale);
    log.now().log.append(revoked(3, "c")).await.unwrap();
    log.set_down(false);
    second.index.reached(Position::new(4)).await;
    assert!(second.covers("a") && second.covers("c"));
    second.follower.loaded().await.unwrap();
    second.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_heals_a_store_that_lost_data_between_stop_and_start() {
    let folder = Folder::new();
    let path = || Some(folder.path().join("snapshot"));
    let log = Shaky::new([revoked(1, "a"), revoked(2, "b")]).await;
    let first = Replica::start(&log, path());
    first.follows(1).await;
    log.append(lift(2)).await.unwrap();
    first.index.reached(Position::new(3)).await;
    first.follower.stop().await;
    let mark = log.replace([revoked(2, "b")]).await;
    let second = Replica::start(&log, path());
    second.follows(mark).await;
    assert!(second.covers("a") && !second.covers("b"));
    second.follower.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_too_old_or_damaged_is_as_good_as_none() {
    let folder = Folder::new();
    let path = folder.path().join("snapshot");
    let log = Shaky::new([revoked(1, "a")]).await;
    let first = Replica::start(&log, Some(path.clone()));
    first.follows(1).await;
    first.follower.stop().await;
    log.set_down(true);
    let later = NOW.after(Duration::from_secs(8 * 24 * 3_600));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, bytes).unwrap();
    for (now, path) in [(later, path), (NOW, damaged)] {
        let second = Replica::start_at(now, &log, Some(path));
        second.follower.attempted(Duration::from_secs(60)).await.unwrap();
        assert!(!second.covers("a"));
        assert_eq!(second.index.standing(), Standing::Loading);
        second.follower.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_meanwhile_is_neither_remembered_nor_put_back() {
    let folder = Folder::new();
    let path = || Some(folder.path().join("snapshot"));
    let log = Shaky::new([revoked(1, "a")]).await;
    let first = Replica::start(&log, path());
    first.follows(1).await;
    first.follower.stop().await;
    let mark = log.replace([]).await;
    let second = Replica::start_at(NOW.after(Duration::from_secs(3_600)), &log, path());
    second.follows(mark).await;
    assert!(second.index.shapes().is_empty());
    assert!(log.find(id(1)).await.unwrap().is_none());
    second.follower.stop().await;
}

#[tokio::test]
async fn what_is_there_is_joined_and_not_doubled() {
    let log = log([revoked(1, "a"), lift(1)]).await;
    let lost = Recorded { revocation: revocation(1, user("a"), 0), position: Position::new(9), ending: None };
    let put_back = || log.append(batch([Entry::Restore(Box::new(lost.clone()))]));
    let appended = put_back().await.unwrap();
    assert!(matches!(appended.dispositions[..], [Disposition::Ended(_)]));
    assert_eq!(appended.position, Position::new(2));
}
