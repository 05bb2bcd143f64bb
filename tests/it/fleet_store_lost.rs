//! A store that lost what it held: an emptied Redis, a failover that lost the last writes, a PostgreSQL restored from an old
//! backup. The replicas put back what they hold; nothing is un-revoked meanwhile, and what was lifted stays so.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::rig::checker::Checker;
use crate::rig::fault_proxy::FaultProxy;
use crate::rig::fleet::{Fleet, SOON};
use crate::rig::shared_store::{Kind, RedisCopy, SharedStore};
use crate::rig::{Dice, Token, id, within};

const REPLICAS: usize = 3;
/// Revoked before the backup was taken, and after it.
const EARLY: usize = 20;
const LATE: usize = 20;
/// Revoked and lifted: one half before the backup, the other half lifted after it.
const LIFTED: usize = 6;

struct Story {
    fleet: Fleet,
    checker: Checker,
    /// The dead ones first, then the lifted ones.
    tokens: Vec<Token>,
    over: AtomicBool,
}

impl Story {
    async fn begin(fleet: Fleet) -> Arc<Self> {
        let tokens = (0..EARLY + LATE + LIFTED).map(|n| fleet.login(&format!("user-{n}"))).collect();
        Arc::new(Self { fleet, checker: Checker::default(), tokens, over: AtomicBool::new(false) })
    }

    /// Revokes it, and everyone has it; answers the revocation's id.
    async fn revoke_everywhere(&self, at: usize) -> String {
        let selector = match at % 3 {
            0 => json!({"issuer": "main", "token_id": self.tokens[at].jti()}),
            1 => json!({"issuer": "main", "session": self.tokens[at].claim("sid")}),
            _ => json!({"issuer": "main", "user": self.tokens[at].claim("sub")}),
        };
        let (begun, replica) = (self.checker.tick(), at % REPLICAS);
        let body = json!({ "selector": selector });
        let admin = self.fleet.replicas[replica].admin();
        let answer = admin.call("POST", "/v1/revocations?wait=all&timeout=20s", Some(&body)).await;
        assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
        let receipt = answer.json();
        assert_eq!(receipt["complete"], true, "{receipt}");
        if at < EARLY + LATE {
            self.checker.revoked(at, replica, begun, true);
        }
        id(&receipt)
    }

    /// Asks with dead tokens through every replica until the story is over, and revokes new ones meanwhile.
    fn load(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let clients = (0..REPLICAS).map(|replica| tokio::spawn(hammer(self.clone(), replica)));
        clients.chain([tokio::spawn(revoke_on(self.clone()))]).collect()
    }

    /// The store has lost something: waits until it has been put back, and holds what must be true then.
    async fn heals(self: Arc<Self>, load: Vec<tokio::task::JoinHandle<()>>) {
        for replica in &self.fleet.replicas {
            within(&format!("{} to have put back what it held", replica.name), async {
                while replica.admin().metric(r#"portcullis_heals_total{result="done"}"#).await < 1.0 {
                    tokio::time::sleep(SOON).await;
                }
            })
            .await;
            assert!(
                replica.log().contains("the store lost data"),
                "{} does not say why:\n{}",
                replica.name,
                replica.log()
            );
        }
        self.fleet.all_ready().await;
        self.fleet.all_answer(&self.fleet.login("after"), 200).await;
        self.over.store(true, Ordering::SeqCst);
        for task in load {
            task.await.expect("nobody gave up");
        }
        self.nothing_is_unrevoked().await;
        // What a replica without memory loads is what the store holds again.
        for replica in &self.fleet.replicas {
            replica.restart().await;
            replica.ready().await;
        }
        self.nothing_is_unrevoked().await;
        let violations = self.checker.violations(&self.fleet.upstream.tags());
        assert!(violations.is_empty(), "forwarded though revoked:\n{}", violations.join("\n"));
        assert!(self.checker.forbidden() > 100, "hardly anything was tried");
    }

    async fn nothing_is_unrevoked(&self) {
        for replica in &self.fleet.replicas {
            for (at, token) in self.tokens.iter().enumerate() {
                let expected = if at < EARLY + LATE { 401 } else { 200 };
                assert_eq!(replica.status_of(token).await, expected, "token {at} at {}", replica.name);
            }
        }
    }
}

async fn hammer(story: Arc<Story>, replica: usize) {
    let mut dice = Dice::new().fork(replica);
    for serial in 0_u64.. {
        if story.over.load(Ordering::SeqCst) {
            return;
        }
        let at = dice.below(EARLY + LATE);
        let (begun, tag) = (story.checker.tick(), format!("{replica}-{serial}-{at}"));
        let answer = story.fleet.replicas[replica].try_get(&story.tokens[at], &tag).await.expect("it answers");
        assert!(matches!(answer.status, 200 | 401 | 503), "{} {}", answer.status, answer.text());
        story.checker.asked(tag, at, replica, begun);
    }
}

/// Revokes strangers all the time, so that the new history overtakes the old one.
async fn revoke_on(story: Arc<Story>) {
    for serial in 0_usize.. {
        if story.over.load(Ordering::SeqCst) {
            return;
        }
        let body = json!({"selector": {"issuer": "main", "token_id": format!("stranger-{serial}")}});
        let answer = story.fleet.replicas[serial % REPLICAS].admin().try_revoke(&body).await;
        assert!(matches!(answer.status, 201 | 503), "{} {}", answer.status, answer.text());
    }
}

/// The course of every one of these stories: some history, the state that will come back, more history, the loss.
async fn story(fleet: Fleet, keep: impl AsyncFnOnce(&SharedStore), lose: impl AsyncFnOnce(&Fleet)) {
    let story = Story::begin(fleet).await;
    let first_lifted = EARLY + LATE;
    for at in 0..EARLY {
        story.revoke_everywhere(at).await;
    }
    let mut standing = Vec::new();
    for at in first_lifted..first_lifted + LIFTED {
        standing.push(story.revoke_everywhere(at).await);
    }
    let later = standing.split_off(LIFTED / 2);
    for id in &standing {
        story.fleet.replicas[0].admin().lift(id).await;
    }
    keep(&story.fleet.store).await;
    story.fleet.all_ready().await;
    for id in &later {
        story.fleet.replicas[1].admin().lift(id).await;
    }
    for at in EARLY..EARLY + LATE {
        story.revoke_everywhere(at).await;
    }
    for token in &story.tokens[first_lifted..] {
        story.fleet.all_answer(token, 200).await;
    }
    let load = story.load();
    lose(&story.fleet).await;
    story.heals(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_under_load_is_filled_again() {
    let fleet = Fleet::start(Kind::Redis, REPLICAS).await;
    story(fleet, async |_| {}, async |fleet| assert_eq!(fleet.store.command(&["FLUSHALL"]), "OK")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_without_its_files_is_filled_again() {
    let fleet = Fleet::start(Kind::Redis, REPLICAS).await;
    story(fleet, async |_| {}, async |fleet| fleet.store.start_without_files()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_redis_failover_lost_is_put_back() {
    let fleet = Fleet::start(Kind::Redis, REPLICAS).await;
    let master = fleet.store.address();
    // The copy hears of the first half only; then its line is cut, and it becomes the master.
    let line = FaultProxy::start(master);
    let copy = RedisCopy::of(line.address);
    let keep = async |store: &SharedStore| {
        copy.in_step_with(store).await;
        line.cut();
    };
    let lose = async |fleet: &Fleet| {
        fleet.store.kill();
        copy.promote();
        fleet.replicas.iter().for_each(|replica| replica.line.redirect(copy.address()));
    };
    story(fleet, keep, lose).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_backup_of_postgres_lacks_is_put_back() {
    let fleet = Fleet::start(Kind::Postgres, REPLICAS).await;
    let backup = OnceCell::new();
    let keep = async |store: &SharedStore| backup.set(store.back_up()).expect("one backup");
    let lose = async |fleet: &Fleet| fleet.store.restore(backup.get().expect("a backup"));
    story(fleet, keep, lose).await;
}
