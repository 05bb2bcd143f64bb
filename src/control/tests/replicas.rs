//! The proof that every replica has applied a change: with real replicas of one store, and with a table told what to say.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use tokio::time::sleep;

use super::*;
use crate::control::{Asked, Fleet, Spread, Wait};
use crate::domain::{Checkpoint, Position, ReplicaIdentity};
use crate::store::{Beat, Replica, ReplicaTable};
use crate::sync::{Heartbeat, HeartbeatSettings};

const LEASE: Duration = Duration::from_secs(10);
const AT_MOST: Wait = Wait::All(Duration::from_secs(30));

/// A table of replicas that says what it is told to say.
#[derive(Debug, Default)]
struct Scripted {
    rows: Mutex<Vec<Replica>>,
    down: AtomicBool,
    reads: AtomicUsize,
}

impl Scripted {
    fn set(&self, name: &str, position: Position, silent: u64) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|row| *row.beat.name != *name);
        rows.push(row(name, position, silent));
    }

    fn forget(&self, name: &str) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).retain(|row| *row.beat.name != *name);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

fn row(name: &str, position: Position, silent: u64) -> Replica {
    let own = ReplicaIdentity::default();
    let id = if *own.name == *name { (*own.id).into() } else { name.into() };
    let beat = Beat {
        id,
        name: name.into(),
        version: "0".into(),
        checkpoint: Checkpoint { position, mark: Some(1) },
        standing: "in_step".into(),
        lease: LEASE,
        started_at: NOW,
    };
    Replica { beat, silent: Duration::from_secs(silent) }
}

#[async_trait]
impl ReplicaTable for Scripted {
    async fn beat(&self, _: Beat) -> Result<(), StoreError> {
        Ok(())
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the line went dead".into()));
        }
        Ok(self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn leave(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A replica beside a scripted table, one revocation done, and where that stands.
struct Told {
    rig: Rig,
    table: Arc<Scripted>,
    position: Position,
}

const OWN: &str = "portcullis";

impl Told {
    async fn new() -> Self {
        let table = Arc::new(Scripted::default());
        let store = Store { replicas: table.clone(), ..testing::open(Backend::Memory).await };
        let rig = Rig::on(store, vec![issuer("main", MAIN)]).await;
        let position = rig.revoke(r#"{"issuer":"main","user":"alice"}"#).await.position;
        table.set(OWN, position, 0);
        Self { rig, table, position }
    }

    fn ask(&self) -> Asked {
        self.rig.control.ask(AT_MOST).unwrap()
    }

    /// What a wait that was given up says.
    async fn in_vain(&self) -> Spread {
        let asked = self.rig.control.ask(Wait::All(Duration::from_millis(50))).unwrap();
        self.rig.control.spread(&asked, self.position).await
    }

    /// Waits while `meanwhile` happens, once the wait has begun.
    async fn while_waiting(&self, meanwhile: impl AsyncFnOnce()) -> Spread {
        let asked = self.ask();
        let before = self.table.reads();
        let meanwhile = async {
            while self.table.reads() < before + 2 {
                sleep(Duration::from_millis(1)).await;
            }
            meanwhile().await;
        };
        tokio::join!(self.rig.control.spread(&asked, self.position), meanwhile).0
    }
}

fn names(spread: &Spread) -> (Vec<&str>, Vec<&str>) {
    let confirmed = spread.confirmed.iter().map(|confirmed| &*confirmed.replica.name).collect();
    (confirmed, spread.missing.iter().map(|missing| &*missing.name).collect())
}

/// One of several replicas that share a store.
struct Member {
    control: Arc<Control>,
    index: Arc<Index>,
    follower: Follower,
    heartbeat: Heartbeat,
}

impl Member {
    async fn join(store: &Store, name: &str, bits: u128) -> Self {
        let clock = ManualClock::at(NOW);
        let index = Index::new(clock.clone(), LEASE, [7; 16]);
        let live = Live::new(Metrics::new());
        let (parts, settings) = ((index.clone(), live.clone()), sync::Settings::default());
        let follower =
            Follower::start(store.log.clone(), parts, clock.clone(), Metrics::new(), Arc::new(|_: &_| {}), settings);
        follower.loaded().await.unwrap();
        let replica = ReplicaIdentity::new(name, bits);
        let settings = HeartbeatSettings { replica: replica.clone(), lease: LEASE, started_at: NOW };
        let heartbeat =
            Heartbeat::start(store.replicas.clone(), (index.clone(), follower.doubt()), clock.clone(), settings);
        let tokens = Arc::new(Issuers { facts: vec![issuer("main", MAIN)], clock: clock.clone() });
        let settings = Settings { replica, ..Settings::default() };
        let control = Control::new(store, (index.clone(), live), tokens, clock, settings);
        Self { control, index, follower, heartbeat }
    }

    async fn revoke_everywhere(&self, user: &str) -> (Position, Spread) {
        let asked = self.control.ask(AT_MOST).unwrap();
        let command = about(&format!(r#"{{"issuer":"main","user":"{user}"}}"#));
        let receipt = self.control.revoke(&admin(), command).await.unwrap();
        (receipt.position, self.control.spread(&asked, receipt.position).await)
    }

    async fn leave(self) {
        self.heartbeat.stop().await;
        self.follower.stop().await;
    }
}

#[tokio::test]
async fn every_replica_of_one_store_confirms_each_revocation_by_its_index() {
    let store = testing::open(Backend::Memory).await;
    let members =
        [Member::join(&store, "a", 1).await, Member::join(&store, "b", 2).await, Member::join(&store, "c", 3).await];
    // Whoever has not said anything yet is not known, so nobody could wait for it.
    while store.replicas.replicas().await.unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    for (n, asked) in members.iter().cycle().take(9).enumerate() {
        let (position, spread) = asked.revoke_everywhere(&format!("user-{n}")).await;
        assert!(spread.complete, "{spread:?}");
        let mut confirmed = names(&spread).0;
        assert_eq!(confirmed[0], &*asked.control.replica().name, "whoever is asked shows it first");
        confirmed.sort_unstable();
        assert_eq!(confirmed, ["a", "b", "c"]);
        for member in &members {
            assert!(member.index.position() >= position, "{spread:?} was said too early");
        }
    }
    let [a, b, c] = members;
    c.leave().await;
    let (_, spread) = a.revoke_everywhere("after").await;
    assert_eq!((spread.complete, names(&spread)), (true, (vec!["a", "b"], vec![])), "who left is not waited for");
    let Fleet { replicas, answered } = b.control.fleet().await;
    let shown: Vec<_> = replicas.iter().map(|it| (&*it.replica.name, it.own, it.live, it.lag)).collect();
    assert_eq!((shown, answered), (vec![("a", false, true, 0), ("b", true, true, 0)], true));
    a.leave().await;
    b.leave().await;
}

#[tokio::test]
async fn who_does_not_confirm_in_time_is_named_and_the_revocation_stands() {
    let told = Told::new().await;
    told.table.set("b", Position::START, 9);
    told.table.set("c", told.position, 0);
    let spread = told.in_vain().await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN, "c"], vec!["b"])));
    assert!(told.rig.index.position() >= told.position);
}

#[tokio::test]
async fn who_falls_silent_while_it_is_waited_for_counts_no_more() {
    let told = Told::new().await;
    told.table.set("b", Position::START, 9);
    let spread = told.while_waiting(async || told.table.set("b", Position::START, 10)).await;
    assert_eq!((spread.complete, names(&spread)), (true, (vec![OWN], vec![])));
}

#[tokio::test]
async fn who_joins_behind_the_revocation_is_waited_for_and_who_joins_beyond_it_confirms() {
    let told = Told::new().await;
    told.table.set("b", Position::START, 0);
    let spread = told.while_waiting(async || {
        told.table.set("late", Position::START, 0);
        told.table.set("b", told.position, 0);
        let reads = told.table.reads();
        while told.table.reads() < reads + 3 {
            sleep(Duration::from_millis(1)).await;
        }
        told.table.set("loaded", told.position.next(), 0);
        told.table.set("late", told.position, 0);
    });
    let spread = spread.await;
    assert!(spread.complete);
    let mut confirmed = names(&spread).0;
    confirmed.sort_unstable();
    assert_eq!(confirmed, ["b", "late", "loaded", OWN]);
}

#[tokio::test]
async fn a_store_that_does_not_hold_our_own_word_proves_nothing() {
    let told = Told::new().await;
    told.table.set(OWN, Position::START, 0);
    told.table.set("b", told.position, 0);
    let spread = told.in_vain().await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN, "b"], vec![])));
}

#[tokio::test]
async fn a_log_that_went_back_while_it_was_waited_for_proves_nothing() {
    let told = Told::new().await;
    told.table.set("b", Position::START, 0);
    let spread = told.while_waiting(async || {
        told.rig.index.rewind();
        told.table.set("b", told.position, 0);
    });
    let spread = spread.await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN], vec!["b"])));
}

#[tokio::test]
async fn for_a_lease_after_a_loss_nobody_knows_who_still_serves() {
    let told = Told::new().await;
    told.table.set("b", told.position, 0);
    assert!(told.in_vain().await.complete);
    told.rig.index.rewind();
    told.rig.index.advance(told.position);
    told.table.forget("b");
    let spread = told.in_vain().await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN], vec!["b"])));
    told.table.set("b", told.position, 0);
    assert!(!told.in_vain().await.complete, "there may be others");
    told.rig.clock.advance(LEASE);
    told.table.set(OWN, told.position, 0);
    told.table.set("b", told.position, 0);
    assert!(told.in_vain().await.complete);
}

#[tokio::test]
async fn a_table_that_cannot_be_read_leaves_it_open_who_is_missing() {
    let told = Told::new().await;
    told.table.set("b", told.position, 0);
    assert!(told.in_vain().await.complete);
    told.table.down.store(true, Ordering::SeqCst);
    let spread = told.in_vain().await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN], vec!["b"])));
    told.rig.clock.advance(Duration::from_secs(60));
    let spread = told.in_vain().await;
    assert_eq!((spread.complete, names(&spread)), (false, (vec![OWN], vec![])), "it is not live by now");
    let Fleet { replicas, answered } = told.rig.control.fleet().await;
    assert!(!answered);
    let shown: Vec<_> = replicas.iter().map(|it| (&*it.replica.name, it.live, it.silent.as_secs())).collect();
    assert_eq!(shown, [(OWN, false, 60), ("b", false, 60)]);
}

#[tokio::test(start_paused = true)]
async fn the_table_is_read_by_one_for_all_and_only_while_somebody_waits() {
    let told = Told::new().await;
    told.table.set("b", Position::START, 0);
    let waits: Vec<_> = (0..100).map(|_| told.rig.control.ask(Wait::All(Duration::from_secs(1))).unwrap()).collect();
    let all = waits.iter().map(|asked| told.rig.control.spread(asked, told.position));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|spread| !spread.complete));
    let reads = told.table.reads();
    assert!((10..=400).contains(&reads), "{reads} reads in a second");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(told.table.reads(), reads);
}

#[tokio::test]
async fn as_many_wait_as_may_and_the_next_is_told_before_anything_is_done() {
    let told = Told::new().await;
    let mut waiting = Vec::new();
    let refused = loop {
        match told.rig.control.ask(AT_MOST) {
            Ok(asked) => waiting.push(asked),
            Err(refused) => break refused,
        }
        assert!(waiting.len() < 100_000);
    };
    assert!(matches!(refused, ControlError::Busy));
    assert!(told.rig.control.ask(Wait::Local).is_ok(), "that takes no place");
    waiting.pop();
    assert!(told.rig.control.ask(AT_MOST).is_ok());
}
