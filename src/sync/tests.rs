//! Following: the first load, outages, and what is never lost by either.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use crate::clock::ManualClock;
use crate::domain::{
    Change, Checkpoint, Claims, Memo, Position, Proof, Recorded, RevocationId, Selector, Timestamp, TokenDigest,
    TokenKind,
};
use crate::index::{Index, Standing};
use crate::live::Live;
use crate::store::testing::*;
use crate::store::{
    Appended, Backend, Batch, Event, EventStream, Page, RevocationLog, RevocationQuery, SharedLog, StoreError,
};
use crate::sync::{Follower, OnChange, Settings};
use crate::telemetry::Metrics;

type Script = Option<Vec<Result<Event, StoreError>>>;

/// A log whose first streams are scripted; `None` in a script lets the real one through.
#[derive(Debug)]
struct Scripted {
    log: SharedLog,
    scripts: Mutex<VecDeque<Script>>,
    asked: Mutex<Vec<Position>>,
    asking: Notify,
}

impl Scripted {
    /// Until it was asked so often.
    async fn asked_times(&self, times: usize) {
        while self.asked.lock().unwrap().len() < times {
            self.asking.notified().await;
        }
    }
}

/// The news that the log was read to its end, at the moment at which the tests take place.
fn caught_up(position: Position) -> Event {
    Event::CaughtUp(Proof { checkpoint: position.into(), as_of: Duration::from_secs(NOW.as_secs()) })
}

#[async_trait]
impl RevocationLog for Scripted {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.log.append(batch).await
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        self.asked.lock().unwrap().push(from.position);
        self.asking.notify_one();
        let script = self.scripts.lock().unwrap().pop_front().flatten();
        match script {
            Some(events) => Ok(stream::iter(events).boxed()),
            None => self.log.follow(from).await,
        }
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.log.find(id).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.log.standing(selector, now).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.log.search(query).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.log.forget(now).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

struct Rig {
    log: Arc<Scripted>,
    index: Arc<Index>,
    live: Arc<Live>,
    follower: Follower,
    heard: Arc<Mutex<Vec<Position>>>,
}

impl Rig {
    async fn start(prepare: &[Batch], scripts: Vec<Script>) -> Self {
        Self::start_at(NOW, prepare.to_vec(), scripts).await
    }

    async fn start_at(now: Timestamp, prepare: Vec<Batch>, scripts: Vec<Script>) -> Self {
        let store = open(Backend::Memory).await;
        for batch in prepare {
            store.log.append(batch).await.unwrap();
        }
        let scripts = Mutex::new(scripts.into());
        let log = Arc::new(Scripted { log: store.log, scripts, asked: Mutex::default(), asking: Notify::new() });
        let clock = ManualClock::at(now);
        let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
        let heard: Arc<Mutex<Vec<Position>>> = Arc::default();
        let live = Live::new(Metrics::new());
        let (ears, own) = (heard.clone(), index.clone());
        let on_change: OnChange = Arc::new(move |change: &Change| {
            assert!(own.position() < change.position, "listeners hear of it before the index says it is there");
            ears.lock().unwrap().push(change.position);
        });
        let follower = Follower::start(
            log.clone(),
            (index.clone(), live.clone()),
            clock,
            Metrics::new(),
            on_change,
            Settings::default(),
        );
        Self { log, index, live, follower, heard }
    }

    fn covers(&self, user: &str) -> bool {
        self.index.covers(&claims(user), NOW)
    }
}

pub(super) fn claims(user: &str) -> Claims {
    Claims {
        issuer: "https://id.example".into(),
        kind: TokenKind::Access,
        digest: TokenDigest::new([0; 32]),
        token_id: None,
        session: None,
        user: Some(user.into()),
        username: None,
        client: None,
        key_id: None,
        issued_at: Some(NOW),
        expires_at: None,
        scopes: Box::default(),
        other: Box::default(),
        family: None,
        twins: Box::default(),
        generation: None,
        memo: Memo::default(),
    }
}

#[tokio::test]
async fn an_answer_that_lay_about_for_an_hour_proves_nothing() {
    let script = vec![Ok(Event::Loading(Position::START)), Ok(caught_up(Position::START)), down()];
    let rig = Rig::start_at(NOW.after(Duration::from_secs(3_600)), Vec::new(), vec![Some(script)]).await;
    rig.follower.loaded().await.unwrap();
    assert_eq!(rig.index.standing(), Standing::Stale);
    rig.follower.stop().await;
}

#[tokio::test]
async fn whoever_doubts_the_log_has_it_read_anew() {
    let rig = Rig::start(&[revoke(revocation(1, user("a"), 0))], Vec::new()).await;
    rig.follower.loaded().await.unwrap();
    rig.follower.doubt().notify_one();
    rig.log.asked_times(2).await;
    let end = rig.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap().position;
    rig.index.reached(end).await;
    assert_eq!(*rig.log.asked.lock().unwrap(), [Position::START, Position::new(1)]);
    rig.follower.stop().await;
}

#[tokio::test]
async fn a_store_that_is_down_at_the_start_is_no_reason_to_wait_and_a_damaged_one_is_to_stop() {
    let rig = Rig::start(&[], (0..1_000).map(|_| Some(vec![down()])).collect()).await;
    rig.follower.attempted(Duration::from_secs(60)).await.unwrap();
    assert_eq!(rig.follower.obstacle().as_deref(), Some("store is unavailable"));
    rig.follower.stop().await;
    let refused = || Err(StoreError::Unusable("the schema is newer".to_owned(), None));
    let rig = Rig::start(&[], (0..1_000).map(|_| Some(vec![refused()])).collect()).await;
    let error = rig.follower.attempted(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.to_string(), "the schema is newer");
    rig.follower.stop().await;
}

fn down() -> Result<Event, StoreError> {
    Err(StoreError::Unavailable("down".into()))
}

#[tokio::test]
async fn loaded_means_that_everything_that_stands_is_known() {
    let prepare = [revoke(revocation(1, user("a"), 0)), revoke(revocation(2, user("b"), 0)), lift(2)];
    let rig = Rig::start(&prepare, Vec::new()).await;
    rig.follower.loaded().await.unwrap();
    assert!(rig.covers("a") && !rig.covers("b"));
    assert_eq!(rig.index.standing(), Standing::InStep);
    assert!(rig.heard.lock().unwrap().is_empty(), "a load is no news");
    rig.follower.stop().await;
}

#[tokio::test]
async fn news_is_applied_told_and_then_reached() {
    let rig = Rig::start(&[], Vec::new()).await;
    rig.follower.loaded().await.unwrap();
    let end = rig.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap().position;
    rig.index.reached(end).await;
    assert!(rig.covers("a"));
    assert_eq!(*rig.heard.lock().unwrap(), [end]);
    let end = rig.log.append(lift(1)).await.unwrap().position;
    rig.index.reached(end).await;
    assert!(!rig.covers("a"));
    rig.follower.stop().await;
}

#[tokio::test]
async fn a_load_that_breaks_off_starts_over_with_nothing_left_of_it() {
    let stale = Change {
        position: Position::new(1),
        selector: user("gone"),
        standing: vec![revocation(1, user("gone"), 0)],
        cause: None,
    };
    let script = vec![Ok(Event::Loading(Position::new(1))), Ok(Event::Change(stale)), down()];
    let prepare = [revoke(revocation(1, user("gone"), 0)), lift(1), revoke(revocation(2, user("a"), 0))];
    let rig = Rig::start(&prepare, vec![Some(script)]).await;
    rig.follower.loaded().await.unwrap();
    assert!(rig.covers("a") && !rig.covers("gone"));
    assert_eq!(*rig.log.asked.lock().unwrap(), [Position::START, Position::START]);
    rig.follower.stop().await;
}

#[tokio::test]
async fn after_an_outage_it_goes_on_where_it_was() {
    let prepare = [revoke(revocation(1, user("a"), 0))];
    let at = Position::new(1);
    let first = Change { position: at, selector: user("a"), standing: vec![revocation(1, user("a"), 0)], cause: None };
    let load = vec![Ok(Event::Loading(at)), Ok(Event::Change(first)), Ok(caught_up(at)), down()];
    let rig = Rig::start(&prepare, vec![Some(load), Some(vec![down()]), Some(Vec::new())]).await;
    rig.follower.loaded().await.unwrap();
    assert!(rig.covers("a"), "what is known is refused all along");
    let end = rig.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap().position;
    rig.index.reached(end).await;
    assert!(rig.covers("a") && rig.covers("b"));
    assert_eq!(*rig.log.asked.lock().unwrap(), [Position::START, at, at, at]);
    rig.follower.stop().await;
}

#[tokio::test]
async fn a_damaged_store_ends_the_start_with_its_reason() {
    let script = vec![Err(StoreError::Unusable("the store x is damaged".to_owned(), None))];
    let rig = Rig::start(&[], vec![Some(script)]).await;
    let error = rig.follower.loaded().await.unwrap_err();
    assert_eq!(error.to_string(), "the store x is damaged");
    rig.follower.stop().await;
}

#[tokio::test]
async fn stopped_it_says_so_to_those_who_wait_for_the_load() {
    let endless = (0..1_000).map(|_| Some(vec![down()])).collect();
    let rig = Rig::start(&[], endless).await;
    rig.follower.stop().await;
    assert!(rig.follower.loaded().await.is_err());
    assert_eq!(rig.index.standing(), Standing::Loading);
}

#[tokio::test]
async fn what_expired_leaves_the_index_at_once_and_the_log_later() {
    let store = open(Backend::Memory).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let clock = ManualClock::at(NOW);
    let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
    let log = store.log.clone();
    let settings = Settings::default();
    let on_change: OnChange = Arc::new(|_: &Change| {});
    let live = Live::new(Metrics::new());
    let parts = (index.clone(), live.clone());
    let follower = Follower::start(log.clone(), parts, clock.clone(), Metrics::new(), on_change, settings.clone());
    follower.loaded().await.unwrap();
    let (own, metrics) = (clock.clone(), Metrics::new());
    let observer = super::observer::Observer::new(index.clone(), metrics.clone());
    let keep_expired = settings.keep_expired;
    let own_index = index.clone();
    let upkeep =
        super::upkeep::Upkeep { log, index: own_index, live, ledger: None, observer, clock: own, metrics, settings };
    clock.advance(Duration::from_secs(3_600));
    upkeep.expire_once().await;
    assert!(index.shapes().is_empty());
    assert!(store.log.find(id(1)).await.unwrap().is_some());
    clock.advance(keep_expired);
    upkeep.expire_once().await;
    assert!(store.log.find(id(1)).await.unwrap().is_none());
    follower.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_a_revocation_comes_after_its_cut() {
    let rig = Rig::start(&[], Vec::new()).await;
    rig.follower.loaded().await.unwrap();
    let leases: Vec<_> = ["a", "b"].iter().map(|user| rig.live.join(&Arc::new(claims(user)), None)).collect();
    let appended = rig.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    rig.index.reached(appended.position).await;
    assert_eq!(leases.iter().map(|lease| lease.term().cut().is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(rig.live.cut_by(RevocationId::from_random(1)), 1);
    let appended = rig.log.append(lift(1)).await.unwrap();
    rig.index.reached(appended.position).await;
    assert_eq!(rig.live.open(), 2);
    rig.follower.stop().await;
}

#[tokio::test]
async fn what_was_revoked_during_an_outage_is_cut_when_the_log_is_read_anew() {
    let rig = Rig::start(&[revoke(revocation(1, user("a"), 0))], vec![Some(vec![down()])]).await;
    let lease = rig.live.join(&Arc::new(claims("a")), None);
    rig.follower.loaded().await.unwrap();
    assert!(lease.term().cut().is_some());
    rig.follower.stop().await;
}

#[tokio::test]
async fn what_is_told_twice_at_once_does_not_come_back_after_its_lift() {
    let revoked = |position| change(position, vec![revocation(1, user("a"), 0)]);
    let lifted = change(2, Vec::new());
    let script = vec![
        Ok(caught_up(Position::START)),
        Ok(Event::Change(revoked(1))),
        Ok(Event::Change(lifted)),
        Ok(Event::Change(revoked(1))),
        Ok(caught_up(Position::new(2))),
    ];
    let rig = Rig::start(&[], vec![Some(script)]).await;
    rig.index.reached(Position::new(2)).await;
    assert!(!rig.covers("a"));
    rig.follower.stop().await;
}

/// News at this position about the selector of user `a`.
fn change(position: u64, standing: Vec<crate::domain::Revocation>) -> Change {
    let position = Position::new(position);
    let cause = Recorded { revocation: revocation(1, user("a"), 0), position, ending: None };
    Change { position, selector: user("a"), standing, cause: Some(cause) }
}
