//! Acknowledged means dead here: no request begun after a revoke was answered reaches the upstream.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::Request;
use serde_json::{Value, json};

use crate::rig::upstream::TAG;
use crate::rig::{Body, Dice, Rig, Token, Wire, get};

/// A token and whether a revoke that covers it was acknowledged.
struct Target {
    token: Token,
    acknowledged: AtomicBool,
}

/// One revoke, and the tokens it kills.
struct Plan {
    selector: Value,
    covers: Vec<usize>,
}

const GROUPS: usize = 24;
const CLIENTS: usize = 12;

/// Two tokens for each of many users and sessions, and for each group one of the four ways to kill it; the last ones live.
fn plans(rig: &Rig) -> (Vec<Arc<Target>>, Vec<Plan>) {
    let mut targets = Vec::new();
    let mut plans = Vec::new();
    for group in 0..GROUPS {
        let claims = json!({"sub": format!("user-{group}"), "sid": format!("session-{group}")});
        let at = targets.len();
        for _ in 0..2 {
            let token = rig.issuer.token(claims.clone());
            targets.push(Arc::new(Target { token, acknowledged: AtomicBool::new(false) }));
        }
        let token = &targets[at].token;
        plans.extend(match group % 5 {
            0 => Some(Plan { selector: json!({ "token": token.text }), covers: vec![at] }),
            1 => Some(Plan { selector: json!({"issuer": "main", "token_id": token.jti()}), covers: vec![at] }),
            2 => Some(Plan {
                selector: json!({"issuer": "main", "session": token.claim("sid")}),
                covers: vec![at, at + 1],
            }),
            3 => {
                Some(Plan { selector: json!({"issuer": "main", "user": token.claim("sub")}), covers: vec![at, at + 1] })
            }
            _ => None,
        });
    }
    (targets, plans)
}

fn tagged(target: &Target, tag: &str) -> Request<Body> {
    let mut request = get("/", &target.token.text);
    request.headers_mut().insert(TAG, tag.parse().unwrap());
    request
}

/// Sends requests until all is over and answers the tags of those begun after an acknowledgement.
async fn hammer(
    rig: Arc<Rig>,
    targets: Vec<Arc<Target>>,
    client: usize,
    wire: Wire,
    left: Arc<AtomicUsize>,
) -> HashSet<String> {
    let mut connection = rig.connect(wire).await;
    let mut dice = Dice::new();
    let (mut forbidden, mut after) = (HashSet::new(), 0);
    for serial in 0.. {
        // A few rounds more when the last revoke was answered, since that is when a leak would show.
        after += usize::from(left.load(Ordering::SeqCst) == 0);
        if after > 4 * targets.len() {
            break;
        }
        let at = dice.below(targets.len());
        let tag = format!("{client}-{serial}-{at}");
        let dead = targets[at].acknowledged.load(Ordering::SeqCst);
        let answer = match connection.send(tagged(&targets[at], &tag)).await {
            Ok(answer) => answer,
            // What was under way when its token died is cut, and tells so by breaking off.
            Err(_) if !dead && at / 2 % 5 != 4 => {
                connection = rig.connect(wire).await;
                continue;
            }
            Err(error) => panic!("the proxy answers: {error}"),
        };
        assert!(matches!(answer.status, 200 | 401), "{} {}", answer.status, answer.text());
        if dead {
            assert_eq!(answer.status, 401, "request {tag} was begun after its token was revoked");
            forbidden.insert(tag);
        } else if at / 2 % 5 == 4 {
            assert_eq!(answer.status, 200, "a token nobody revoked was refused");
        }
    }
    forbidden
}

async fn no_request_after_an_acknowledgement(wire: Wire, rig: Rig) {
    let rig = Arc::new(rig);
    let (targets, mut plans) = plans(&rig);
    Dice::new().shuffle(&mut plans);
    let left = Arc::new(AtomicUsize::new(plans.len()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(hammer(rig.clone(), targets.clone(), client, wire, left.clone())))
        .collect();
    for plan in &plans {
        // Each revoke meets traffic: the upstream has to see a few requests between two of them.
        let seen = rig.upstream.seen().len();
        while rig.upstream.seen().len() < seen + 20 && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        rig.admin.revoke(plan.selector.clone()).await;
        plan.covers.iter().for_each(|at| targets[*at].acknowledged.store(true, Ordering::SeqCst));
        left.fetch_sub(1, Ordering::SeqCst);
    }
    let record = rig.upstream.tags();
    let mut forbidden = HashSet::new();
    for client in clients {
        forbidden.extend(client.await.expect("the client ended well"));
    }
    let record: HashSet<String> = record.union(&rig.upstream.tags()).cloned().collect();
    assert!(!forbidden.is_empty(), "no client tried a dead token");
    let leaked: Vec<_> = forbidden.intersection(&record).collect();
    assert!(leaked.is_empty(), "forwarded after the acknowledgement: {leaked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_revoke_is_never_followed_by_a_forwarded_request() {
    no_request_after_an_acknowledgement(Wire::H1, Rig::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_revoke_is_never_followed_by_a_forwarded_request_over_http2() {
    no_request_after_an_acknowledgement(Wire::H2c, Rig::start().await).await;
}

/// A revoke of the same thing by many callers at once: each one's acknowledgement is good, not only the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_many_equal_revokes_is_as_good_as_the_first() {
    let rig = Arc::new(Rig::start().await);
    for _ in 0..20 {
        let token = rig.issuer.token(json!({}));
        let callers: Vec<_> = (0..6)
            .map(|_| {
                let (rig, token) = (rig.clone(), token.clone());
                tokio::spawn(async move {
                    rig.admin.revoke(json!({ "token": token.text })).await;
                    assert!(!rig.passes(&token).await, "passed after an acknowledgement");
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
}
