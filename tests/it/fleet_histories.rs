//! Random histories: revokes, lifts and re-revokes through all replicas at once, while replicas are killed, cut off, slowed
//! down and started again, and the store with them. What the upstream saw is held against what clients were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::rig::checker::Checker;
use crate::rig::fault_proxy::Lane;
use crate::rig::fleet::{Fleet, SOON};
use crate::rig::shared_store::{Kind, on_both_stores};
use crate::rig::{Dice, Token, id, within};

on_both_stores!(a_random_history_ends_as_the_plain_rule_says);

const REPLICAS: usize = 3;
const TARGETS: usize = 48;
/// Tokens that nobody ever revokes, beyond the targets.
const UNTOUCHED: usize = 6;
const WRITERS: usize = 6;
/// Clients of each replica.
const CLIENTS: usize = 2;
const STORM: Duration = Duration::from_secs(20);

struct Story {
    fleet: Fleet,
    checker: Checker,
    tokens: Vec<Token>,
    targets: Vec<Mutex<Target>>,
    over: AtomicBool,
}

/// What is known of a token for certain.
#[derive(Debug, Default)]
struct Target {
    /// The id of what was acknowledged last for each selector and not lifted since. A later revoke of a selector replaces
    /// the earlier one, so lifting it readmits what the earlier one covered, too.
    standing: BTreeMap<String, String>,
    /// A revoke went unanswered: it may be in the log, or still come.
    unsure: bool,
}

async fn a_random_history_ends_as_the_plain_rule_says(kind: Kind) {
    let mut dice = Dice::new();
    // What a revoke of a user does to known sessions is another story; here one selector stands for one revocation.
    let fleet = Fleet::with(kind, REPLICAS, "[sessions]\ntrack = false").await;
    let tokens: Vec<_> = (0..TARGETS + UNTOUCHED).map(|n| fleet.login(&format!("user-{n}"))).collect();
    let targets = (0..TARGETS).map(|_| Mutex::default()).collect();
    let story = Story { fleet, checker: Checker::default(), tokens, targets, over: AtomicBool::new(false) };
    let story = Arc::new(story);
    let mut running: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(story.clone(), dice.fork(n)))).collect();
    for (replica, client) in (0..REPLICAS).flat_map(|at| (0..CLIENTS).map(move |client| (at, client))) {
        running.push(tokio::spawn(hammer(story.clone(), replica, client, dice.fork(100 + client))));
    }
    trouble(&story, &mut dice).await;
    story.over.store(true, Ordering::SeqCst);
    for task in running {
        task.await.expect("nobody gave up");
    }
    settle(&story).await;
    let violations = story.checker.violations(&story.fleet.upstream.tags());
    assert!(violations.is_empty(), "forwarded though revoked:\n{}", violations.join("\n"));
    assert!(story.checker.forbidden() > 100, "hardly anything was forbidden: nothing was tried");
}

/// Revokes and lifts until the story is over.
async fn write(story: Arc<Story>, mut dice: Dice) {
    while !story.over.load(Ordering::SeqCst) {
        let at = dice.below(TARGETS);
        let Ok(mut target) = story.targets[at].try_lock() else {
            tokio::task::yield_now().await;
            continue;
        };
        if target.standing.is_empty() || dice.below(3) == 0 {
            revoke(&story, &mut dice, at, &mut target).await;
        } else {
            let which = dice.below(target.standing.len());
            let (selector, id) =
                target.standing.iter().nth(which).map(|(one, other)| (one.clone(), other.clone())).unwrap();
            lift(&story, &mut dice, at, &id).await;
            target.standing.remove(&selector);
        }
    }
}

/// Revokes by one of the ways, through one replica, once: what is not acknowledged is not counted on.
async fn revoke(story: &Story, dice: &mut Dice, at: usize, target: &mut Target) {
    let token = &story.tokens[at];
    let selector = match dice.below(4) {
        0 => json!({ "token": token.text }),
        1 => json!({"issuer": "main", "token_id": token.jti()}),
        2 => json!({"issuer": "main", "session": token.claim("sid")}),
        _ => json!({"issuer": "main", "user": token.claim("sub")}),
    };
    let replica = dice.below(REPLICAS);
    let path = *dice.pick(&["/v1/revocations", "/v1/revocations", "/v1/revocations?wait=all&timeout=3s"]);
    let begun = story.checker.tick();
    match call(story, replica, "POST", path, json!({ "selector": selector }).to_string()).await {
        Some(receipt) => {
            let everywhere = path.contains("all") && receipt["complete"] == true;
            story.checker.revoked(at, replica, begun, everywhere);
            target.standing.insert(receipt["revocation"]["selector"].to_string(), id(&receipt));
        }
        None => target.unsure = true,
    }
}

/// Lifts through whichever replica does it at last.
async fn lift(story: &Story, dice: &mut Dice, at: usize, id: &str) {
    let place = story.checker.lifting(at);
    let path = format!("/v1/revocations/{id}");
    while call(story, dice.below(REPLICAS), "DELETE", &path, String::new()).await.is_none() {
        tokio::time::sleep(SOON).await;
    }
    story.checker.lifted(place);
}

/// The answer of a success; nothing when the replica could not, or is not there.
async fn call(story: &Story, replica: usize, method: &str, path: &str, body: String) -> Option<Value> {
    let Some(admin) = story.fleet.replicas[replica].try_admin() else {
        tokio::time::sleep(SOON).await;
        return None;
    };
    let media = (method == "POST").then_some("application/json");
    let answer = admin.try_send(method, path, media, body).await.ok()?;
    match answer.status {
        200 | 201 => Some(answer.json()),
        503 => {
            assert!(!answer.header("retry-after").is_empty(), "{}", answer.text());
            None
        }
        other => panic!("{method} {path}: {other} {}", answer.text()),
    }
}

/// Sends requests through one replica until the story is over.
async fn hammer(story: Arc<Story>, replica: usize, client: usize, mut dice: Dice) {
    for serial in 0_u64.. {
        if story.over.load(Ordering::SeqCst) {
            return;
        }
        let at = dice.below(TARGETS + UNTOUCHED);
        let tag = format!("{replica}-{client}-{serial}-{at}");
        let begun = story.checker.tick();
        let answer = story.fleet.replicas[replica].try_get(&story.tokens[at], &tag).await;
        let status = answer.as_ref().map(|answer| answer.status);
        match status {
            Ok(200 | 503) => {}
            Ok(401) => assert!(at < TARGETS, "a token that nobody revoked was called dead"),
            Ok(other) => panic!("neither good nor dead nor unknown: {other}"),
            Err(_) => tokio::time::sleep(SOON).await,
        }
        if status.is_ok() {
            story.checker.asked(tag, at, replica, begun);
        }
    }
}

/// One trouble after the other, and each one ends.
async fn trouble(story: &Story, dice: &mut Dice) {
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        let replica = dice.pick(&story.fleet.replicas);
        let pause = Duration::from_millis(u64::try_from(dice.below(2500)).unwrap());
        let kind = dice.below(10);
        println!("{kind} for {pause:?} at {}", replica.name);
        match kind {
            0 | 1 => {
                replica.kill();
                tokio::time::sleep(pause / 4).await;
                replica.start().await;
            }
            2 | 3 => replica.line.cut(),
            4 => replica.line.lose_answers(),
            5 => replica.line.forget_connections(),
            6 => replica.line.refuse(),
            7 => replica.line.both(Lane::Delayed(Duration::from_millis(40))),
            8 => replica.line.both(Lane::Narrow(200_000)),
            _ => {
                story.fleet.store.kill();
                tokio::time::sleep(pause / 4).await;
                story.fleet.store.start_again();
            }
        }
        tokio::time::sleep(pause).await;
        replica.line.mend();
    }
}

/// When the dust has settled every replica says of every token what the rule says.
async fn settle(story: &Story) {
    story.fleet.all_ready().await;
    for (target, token) in story.targets.iter().zip(&story.tokens) {
        let mut target = target.lock().await;
        if target.unsure {
            clear(story, token).await;
            target.standing.clear();
        }
        let expected = if target.standing.is_empty() { 200 } else { 401 };
        story.fleet.all_answer(token, expected).await;
    }
    for token in &story.tokens[TARGETS..] {
        story.fleet.all_answer(token, 200).await;
    }
}

/// Lifts whatever covers a token, so that it is known where it stands. What a replica cannot just after the troubles, it can
/// soon.
async fn clear(story: &Story, token: &Token) {
    for replica in 0..REPLICAS {
        let found = at_last(story, replica, "POST", "/v1/check", json!({ "token": token.text }).to_string()).await;
        for revocation in found["revocations"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let path = format!("/v1/revocations/{}", revocation["id"].as_str().unwrap());
            at_last(story, replica, "DELETE", &path, String::new()).await;
        }
    }
}

/// The answer of a replica that can do it by now, or in a moment.
async fn at_last(story: &Story, replica: usize, method: &str, path: &str, body: String) -> Value {
    within(&format!("{method} {path}"), async {
        loop {
            if let Some(answer) = call(story, replica, method, path, body.clone()).await {
                return answer;
            }
            tokio::time::sleep(SOON).await;
        }
    })
    .await
}
