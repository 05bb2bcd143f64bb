//! A refresh token is good once: two tabs of one browser do not notice, a thief and its victim both do, and a crash in the
//! middle costs nobody the login and makes nobody a second one.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::rig::front::{Front, by, is_dead, on_the_wire, rest_of, send_from};
use crate::rig::http::{Answer, ask};
use crate::rig::token_service::{Issued, Make, Manner, Mishap, Rotation, Stage, login, refresh};
use crate::rig::{AUDITOR, Dice, now, until};

const TAB: &str = "browser/1.0";
const THIEF: &str = "thief/6.6";
/// How often a race is run.
const RACES: usize = 200;
/// How many races are run beside each other.
const RUNNERS: usize = 8;

async fn enforcing(rotation: Rotation, more: &str) -> Front {
    let manner = Manner { rotation, ..Manner::default() };
    Front::start(manner, &format!("rotation = 'enforce'\n{more}")).await
}

/// A refresh by another program than the one that logged in.
async fn redeem(front: &Front, agent: &str, token: &str) -> Answer {
    ask(front.proxy(), by(agent, refresh("/token", token, "web"))).await
}

/// Nothing of a family is good any more.
async fn assert_dead(front: &Front, of: &[&Issued]) {
    for issued in of {
        assert!(!front.opens(&issued.access).await, "its access token passes");
        assert!(is_dead(&front.refresh(&issued.refresh).await), "its refresh token passes");
    }
}

async fn reuse_in_the_trail(front: &Front) -> Vec<Value> {
    let trail = front.rig.admin.by(AUDITOR).get("/v1/audit?limit=1000").await;
    let told = |entry: &&Value| entry["reason"] == "a refresh token was used twice";
    trail["items"].as_array().unwrap().iter().filter(told).cloned().collect()
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_get_one_successor_and_stay_logged_in() {
    let front = enforcing(Rotation::Strict, "").await;
    let first = front.login("alice").await;
    let gate = front.service.hold(Stage::Arrived);
    let mut tabs = JoinSet::new();
    tabs.spawn(ask(front.proxy(), refresh("/token", &first.refresh, "web")));
    gate.reached().await;
    for _ in 0..3 {
        tabs.spawn(ask(front.proxy(), refresh("/token", &first.refresh, "web")));
    }
    front.count_of("joined", 3.0).await;
    drop(gate);
    let answers = tabs.join_all().await;
    assert_eq!((front.service.presented(&first.refresh), front.service.minted_for(&first.refresh).len()), (1, 1));
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
        assert_eq!(answer.header("x-token-service"), "yes");
    }
    let second = front.issued(&answers[0]);
    assert!(front.opens(&second.access).await && front.opens(&first.access).await);
    front.renew(&second.refresh).await;
}

#[tokio::test]
async fn a_refresh_repeated_within_the_grace_gets_the_very_same_answer() {
    for make in [Make::Opaque, Make::Jwt(json!({}))] {
        let manner = Manner { refresh: make, ..Manner::default() };
        let front = Front::start(manner, "rotation = 'enforce'\ngrace = '1m'\ngrace_replays = 3").await;
        let first = front.login("alice").await;
        let answer = front.refresh(&first.refresh).await;
        let second = front.issued(&answer);
        for n in 1..=3 {
            let again = front.refresh(&first.refresh).await;
            assert_eq!((again.status, &again.body), (200, &answer.body), "repetition {n}");
            assert_eq!(again.header("content-type"), answer.header("content-type"));
        }
        assert_eq!(front.counted("repeated").await, 3.0);
        assert_eq!(front.service.presented(&first.refresh), 1);
        let third = front.renew(&second.refresh).await;
        assert!(front.opens(&third.access).await);
        assert!(is_dead(&front.refresh(&first.refresh).await), "once too often");
        assert_dead(&front, &[&first, &second, &third]).await;
    }
}

#[tokio::test]
async fn after_the_grace_a_second_use_ends_the_family() {
    let front = enforcing(Rotation::Strict, "grace = '0s'").await;
    let first = front.login("alice").await;
    let second = front.renew(&first.refresh).await;
    let third = front.renew(&second.refresh).await;
    assert!(is_dead(&front.refresh(&first.refresh).await), "of whatever generation");
    assert_dead(&front, &[&first, &second, &third]).await;
    assert_eq!((front.service.presented(&first.refresh), front.service.presented(&third.refresh)), (1, 0));
    let anew = front.login("alice").await;
    assert!(front.opens(&anew.access).await, "a new login is a new family");
    front.renew(&anew.refresh).await;
}

#[tokio::test]
async fn a_thiefs_replay_ends_the_family_and_is_in_the_audit_trail() {
    for stolen_from_afar in [false, true] {
        let front = enforcing(Rotation::Strict, "grace = '1m'").await;
        let (first, elsewhere) = (front.login("alice").await, front.login("alice").await);
        let second = front.renew(&first.refresh).await;
        if stolen_from_afar {
            let stream = send_from("127.0.0.2", front.proxy(), &on_the_wire(&first.refresh)).await;
            let answer = rest_of(stream).await;
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_grant"), "{answer}");
        } else {
            assert!(is_dead(&redeem(&front, THIEF, &first.refresh).await));
        }
        assert_dead(&front, &[&first, &second]).await;
        assert_eq!((front.service.presented(&first.refresh), front.service.presented(&second.refresh)), (1, 0));
        assert!(front.counted("reused").await >= 1.0);
        let told = reuse_in_the_trail(&front).await;
        let address = if stolen_from_afar { "127.0.0.2" } else { "127.0.0.1" };
        assert!(!told.is_empty() && told.iter().any(|entry| entry["address"] == address), "{told:?}");
        assert!(!json!(told).to_string().contains(&first.refresh));
        assert!(front.opens(&elsewhere.access).await, "the other login is none of the thief's business");
        front.renew(&elsewhere.refresh).await;
    }
}

#[tokio::test]
async fn a_thief_who_comes_first_is_found_out_by_the_victims_refresh() {
    let front = enforcing(Rotation::Strict, "").await;
    let first = front.login("alice").await;
    let stolen = front.issued(&redeem(&front, THIEF, &first.refresh).await);
    assert!(is_dead(&front.refresh(&first.refresh).await));
    assert_dead(&front, &[&first, &stolen]).await;
    assert!(is_dead(&redeem(&front, THIEF, &stolen.refresh).await));
    assert_eq!(front.service.presented(&stolen.refresh), 0);
}

#[tokio::test]
async fn a_thief_who_comes_while_the_token_is_redeemed_ends_the_family_too() {
    for stage in [Stage::Arrived, Stage::Minted, Stage::Halfway] {
        let front = enforcing(Rotation::Strict, "").await;
        let first = front.login("alice").await;
        let gate = front.service.hold(stage);
        let victim = tokio::spawn(ask(front.proxy(), refresh("/token", &first.refresh, "web")));
        gate.reached().await;
        assert!(is_dead(&redeem(&front, THIEF, &first.refresh).await), "{stage:?}");
        drop(gate);
        assert!(is_dead(&victim.await.unwrap()), "{stage:?}: the successor is handed to nobody");
        let minted = front.service.minted_for(&first.refresh).pop().unwrap();
        assert_dead(&front, &[&first, &minted]).await;
        assert!(!reuse_in_the_trail(&front).await.is_empty(), "{stage:?}");
    }
}

/// Whoever has read half of a token in some log can neither use it nor log its user out with it.
#[tokio::test]
async fn a_rewriting_of_a_token_is_dead_and_harmless() {
    let manner = Manner { refresh: Make::Jwt(json!({})), ..Manner::default() };
    let front = Front::start(manner, "rotation = 'enforce'\ngrace = '0s'").await;
    let first = front.login("alice").await;
    let second = front.renew(&first.refresh).await;
    let (signed, _) = first.refresh.rsplit_once('.').unwrap();
    for agent in [TAB, THIEF] {
        let forged = format!("{signed}.{}", crate::rig::keys::b64([7; 64]));
        assert!(is_dead(&redeem(&front, agent, &forged).await));
    }
    assert_eq!((front.service.presented(&first.refresh), front.counted("reused").await), (1, 0.0));
    assert!(front.opens(&second.access).await);
    front.renew(&second.refresh).await;
}

/// One race for one token; answers the successors that were handed out.
async fn race(front: &Front, agents: [&'static str; 2]) -> (Issued, Vec<Issued>) {
    let first = front.issued(&ask(front.proxy(), by(TAB, login("/token", "alice", "web"))).await);
    let mut runners = JoinSet::new();
    for agent in agents {
        runners.spawn(ask(front.proxy(), by(agent, refresh("/token", &first.refresh, "web"))));
    }
    let answers = runners.join_all().await;
    let good = answers.iter().filter(|answer| !is_dead(answer)).map(|answer| front.issued(answer)).collect();
    (first, good)
}

/// Runs the races, several beside each other.
async fn races<C>(front: &Front, agents: [&'static str; 2], check: impl Fn(Issued, Vec<Issued>) -> C)
where
    C: Future<Output = ()>,
{
    use futures_util::StreamExt;
    let all = futures_util::stream::iter(0..RACES).for_each_concurrent(RUNNERS, |_| async {
        let (first, good) = race(front, agents).await;
        check(first, good).await;
    });
    all.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thief_and_its_victim_at_once_end_in_the_familys_death_never_in_two_chains() {
    let front = enforcing(Rotation::Forgiving, "").await;
    races(&front, [TAB, THIEF], |first, good| {
        let front = &front;
        async move {
            assert!(good.len() <= 1, "two were answered");
            let minted = front.service.minted_for(&first.refresh);
            assert!(minted.len() <= 1, "{} were minted", minted.len());
            for issued in [&first].into_iter().chain(&minted) {
                for agent in [TAB, THIEF] {
                    assert!(is_dead(&redeem(front, agent, &issued.refresh).await), "a chain goes on");
                }
                assert!(!front.opens(&issued.access).await, "an access token passes");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_at_once_never_have_two_successors() {
    let front = enforcing(Rotation::Strict, "grace = '1m'").await;
    races(&front, [TAB, TAB], |first, good| {
        let front = &front;
        async move {
            assert_eq!(good.len(), 2, "a tab was logged out");
            let successors: HashSet<_> = good.iter().map(|issued| issued.refresh.clone()).collect();
            assert_eq!((successors.len(), front.service.presented(&first.refresh)), (1, 1));
            assert_eq!(redeem(front, TAB, &good[0].refresh).await.status, 200);
        }
    })
    .await;
    assert_eq!(front.counted("reused").await, 0.0);
}

#[tokio::test]
async fn observing_counts_a_second_use_and_stops_nobody() {
    let front = Front::start(Manner { rotation: Rotation::Added, ..Manner::default() }, "rotation = 'observe'").await;
    let first = front.login("alice").await;
    let second = front.renew(&first.refresh).await;
    assert_eq!(front.counted("reused").await, 0.0);
    let other = front.issued(&redeem(&front, THIEF, &first.refresh).await);
    assert_eq!(front.counted("reused").await, 1.0);
    for issued in [&second, &other] {
        assert!(front.opens(&issued.access).await);
        front.renew(&issued.refresh).await;
    }
    assert!(reuse_in_the_trail(&front).await.is_empty());
    assert_eq!(front.service.presented(&first.refresh), 2);
}

/// A service that does not rotate goes on as it did: the same token may be used again and again.
#[tokio::test]
async fn where_nothing_rotates_nothing_is_used_up() {
    for rotation in [Rotation::Kept, Rotation::Unnamed] {
        let front = enforcing(rotation, "grace = '0s'").await;
        let first = front.login("alice").await;
        for agent in [TAB, TAB, THIEF] {
            let answer = redeem(&front, agent, &first.refresh).await;
            assert_eq!(answer.status, 200, "{rotation:?}: {}", answer.text());
        }
        assert_eq!(front.service.presented(&first.refresh), 3);
    }
}

/// What the upstream refuses or fails to do uses nothing up.
#[tokio::test]
async fn a_refresh_that_failed_may_be_tried_again() {
    let front = enforcing(Rotation::Strict, "").await;
    let first = front.login("alice").await;
    front.service.spoil(Mishap::Refused(503, json!({"error": "temporarily_unavailable"})));
    assert_eq!(front.refresh(&first.refresh).await.status, 503);
    let second = front.issued(&redeem(&front, "another/1.0", &first.refresh).await);
    assert!(front.opens(&second.access).await);
}

/// What never reached the upstream was not redeemed there, by nobody: a phone that changes its network meanwhile may try.
#[tokio::test]
async fn an_upstream_that_is_away_uses_nothing_up() {
    let mut front = enforcing(Rotation::Strict, "").await;
    let first = front.login("alice").await;
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let route = |to: &str| {
        format!(
            "[[routes]]\npath = '/'\nupstreams = ['{to}']\nauth = 'none'\n\
        [[routes]]\npath = '/api'\nupstreams = ['{{upstream}}']"
        )
    };
    front.rig.configure(&route(&format!("http://{away}")));
    front.rig.reload().await;
    assert_eq!(redeem(&front, TAB, &first.refresh).await.status, 502);
    front.rig.configure(&route("{tokens}"));
    front.rig.reload().await;
    let second = front.issued(&redeem(&front, "another/1.0", &first.refresh).await);
    assert!(front.opens(&second.access).await);
}

/// Kills the gateway in the middle of an exchange, and starts it again.
async fn killed_at(front: &mut Front, stage: Stage, token: &str) {
    let gate = front.service.hold(stage);
    let lost = send_from("127.0.0.1", front.proxy(), &on_the_wire(token)).await;
    gate.reached().await;
    front.rig.restart().await;
    drop((gate, lost));
}

#[tokio::test]
async fn a_crash_before_the_answer_was_known_leaves_one_chain_and_the_user_logged_in() {
    for stage in [Stage::Arrived, Stage::Minted, Stage::Halfway] {
        let mut front = enforcing(Rotation::Forgiving, "").await;
        let first = front.login("alice").await;
        killed_at(&mut front, stage, &first.refresh).await;
        let second = front.renew(&first.refresh).await;
        let minted = front.service.minted_for(&first.refresh);
        assert_eq!((minted.len(), &minted[0]), (1, &second), "{stage:?}");
        assert!(front.opens(&second.access).await && front.opens(&first.access).await, "{stage:?}");
        let again = front.renew(&first.refresh).await;
        assert_eq!(again, second, "{stage:?}: within the grace");
        front.renew(&second.refresh).await;
    }
}

/// The claim outlives the crash: nobody else may take the token up where its bearer was cut off.
#[tokio::test]
async fn a_thief_cannot_use_the_moment_of_a_crash() {
    for stage in [Stage::Arrived, Stage::Minted] {
        let mut front = enforcing(Rotation::Forgiving, "").await;
        let first = front.login("alice").await;
        killed_at(&mut front, stage, &first.refresh).await;
        let presented = front.service.presented(&first.refresh);
        assert!(is_dead(&redeem(&front, THIEF, &first.refresh).await), "{stage:?}");
        assert_dead(&front, &[&first]).await;
        assert_eq!(front.service.presented(&first.refresh), presented);
    }
}

/// Redeems a token, and kills the gateway when the answer is written down and nobody has read it.
async fn killed_unread(front: &mut Front, token: &str) {
    let learned = front.counted("learned").await;
    let unread = send_from("127.0.0.1", front.proxy(), &on_the_wire(token)).await;
    front.count_of("learned", learned + 1.0).await;
    front.rig.restart().await;
    drop(unread);
}

#[tokio::test]
async fn an_answer_that_was_written_down_is_given_after_a_crash() {
    let mut front = enforcing(Rotation::Strict, "grace = '1m'").await;
    let mut current = front.login("alice").await;
    for round in 0..3 {
        killed_unread(&mut front, &current.refresh).await;
        let successor = front.renew(&current.refresh).await;
        assert_eq!(front.service.minted_for(&current.refresh), std::slice::from_ref(&successor), "round {round}");
        assert_eq!(front.service.presented(&current.refresh), 1, "round {round}");
        assert!(front.opens(&successor.access).await);
        current = successor;
    }
    front.renew(&current.refresh).await;
}

/// Wherever the crash falls, there is one successor, and the client gets it when it asks again.
#[tokio::test]
async fn kill_9_at_any_moment_forks_no_family_and_logs_nobody_out() {
    let mut front = enforcing(Rotation::Forgiving, "grace = '1m'\ngrace_replays = 100").await;
    let mut dice = Dice::new();
    let mut current = front.login("alice").await;
    for round in 0..12 {
        let unread = send_from("127.0.0.1", front.proxy(), &on_the_wire(&current.refresh)).await;
        tokio::time::sleep(Duration::from_micros(dice.next() % 20_000)).await;
        front.rig.restart().await;
        drop(unread);
        let successor = front.renew(&current.refresh).await;
        assert_eq!(front.service.minted_for(&current.refresh), std::slice::from_ref(&successor), "round {round}");
        assert!(front.opens(&successor.access).await, "round {round}");
        assert_eq!(front.renew(&current.refresh).await, successor, "round {round}");
        current = successor;
    }
    front.renew(&current.refresh).await;
}

#[tokio::test]
async fn a_client_that_hung_up_gets_its_answer_when_it_asks_again() {
    let front = enforcing(Rotation::Strict, "").await;
    let first = front.login("alice").await;
    let gate = front.service.hold(Stage::Minted);
    let stream = send_from("127.0.0.1", front.proxy(), &on_the_wire(&first.refresh)).await;
    gate.reached().await;
    drop(stream);
    drop(gate);
    let second = front.renew(&first.refresh).await;
    assert_eq!(front.service.minted_for(&first.refresh), std::slice::from_ref(&second));
    assert_eq!(front.service.presented(&first.refresh), 1);
    front.renew(&second.refresh).await;
}

/// A gateway that is down for longer than the grace lasts would punish its own clients.
#[tokio::test]
async fn the_grace_holds_over_a_restart() {
    let mut front = enforcing(Rotation::Strict, "grace = '2s'").await;
    let first = front.login("alice").await;
    let learned = front.counted("learned").await;
    let unread = send_from("127.0.0.1", front.proxy(), &on_the_wire(&first.refresh)).await;
    front.count_of("learned", learned + 1.0).await;
    front.rig.gateway.kill();
    until(now() + 3).await;
    front.rig.restart().await;
    drop(unread);
    let second = front.renew(&first.refresh).await;
    assert_eq!((front.service.presented(&first.refresh), front.service.minted_for(&first.refresh).len()), (1, 1));
    front.renew(&second.refresh).await;
}

#[tokio::test]
async fn used_tokens_are_known_as_used_after_a_restart() {
    let mut front = enforcing(Rotation::Strict, "grace = '0s'").await;
    let first = front.login("alice").await;
    let second = front.renew(&first.refresh).await;
    front.rig.restart().await;
    assert!(is_dead(&redeem(&front, THIEF, &first.refresh).await));
    assert_dead(&front, &[&first, &second]).await;
    front.rig.restart().await;
    assert_dead(&front, &[&first, &second]).await;
}
