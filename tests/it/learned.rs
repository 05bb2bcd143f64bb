//! What the gateway learned at token endpoints: it is there after a restart, it reaches tokens that say nothing of
//! themselves, and no token can be read from it.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::Response;
use serde_json::{Value, json};

use crate::rig::front::{Front, by_code, telling};
use crate::rig::http::ask;
use crate::rig::serve::{Body, full};
use crate::rig::token_service::{Issued, Make, Manner, Mishap, Rotation, login, refresh};
use crate::rig::{READER, until};

const LEARN: &str = "learn = { user = 'reply:/user' }";
/// The shortest part of a token that is worth a search.
const LEAST: usize = 16;

async fn silent() -> Front {
    let manner = Manner { access: Make::Opaque, refresh: Make::Opaque, rotation: Rotation::Added, reply: telling };
    Front::start(manner, LEARN).await
}

#[tokio::test]
async fn a_user_wide_revoke_ends_sessions_learned_before_a_restart() {
    let mut front = silent().await;
    let mut logins = Vec::new();
    for _ in 0..3 {
        let first = front.issued(&ask(front.proxy(), by_code("alice")).await);
        let second = front.renew(&first.refresh).await;
        logins.extend([first, second]);
    }
    let bob = front.login("bob").await;
    front.rig.restart().await;
    let receipt = front.rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    let presented: Vec<_> = logins.iter().map(|of| front.service.presented(&of.refresh)).collect();
    for issued in &logins {
        assert!(!front.opens(&issued.access).await && !front.renews(&issued.refresh).await);
    }
    let now: Vec<_> = logins.iter().map(|of| front.service.presented(&of.refresh)).collect();
    assert_eq!(now, presented, "the upstream heard of a dead one");
    assert!(front.opens(&bob.access).await && front.renews(&bob.refresh).await);
    front.rig.restart().await;
    for issued in &logins {
        assert!(!front.opens(&issued.access).await && !front.renews(&issued.refresh).await);
    }
    until(receipt["readmits_from"].as_u64().unwrap()).await;
    let anew = front.issued(&ask(front.proxy(), by_code("alice")).await);
    assert!(front.opens(&anew.access).await && front.renews(&anew.refresh).await);
}

#[tokio::test]
async fn a_sessions_end_reaches_opaque_tokens_learned_before_a_restart() {
    let mut front = silent().await;
    let (phone, laptop) = (front.login("alice").await, front.login("alice").await);
    let later = front.renew(&phone.refresh).await;
    let ids = front.sessions("alice").await;
    assert_eq!(ids.len(), 2);
    front.rig.restart().await;
    let shown = front.rig.admin.by(READER).get(&format!("/v1/sessions/{}", ids[0])).await;
    assert_eq!(shown["user"], "alice");
    front.rig.admin.call("DELETE", &format!("/v1/sessions/{}", ids[0]), None).await;
    let mut alive = Vec::new();
    for issued in [&phone, &later, &laptop] {
        alive.push((front.opens(&issued.access).await, front.renews(&issued.refresh).await));
    }
    assert!(
        alive == [(false, false), (false, false), (true, true)]
            || alive == [(true, true), (true, true), (false, false)],
        "{alive:?}"
    );
}

/// A server that calls its JSON something else hands out tokens all the same.
#[tokio::test]
async fn tokens_are_learned_whatever_the_answer_calls_itself() {
    let front = silent().await;
    for answer in [
        |_: &Issued, reply: Value| labelled("text/plain", reply),
        |_: &Issued, reply: Value| labelled("text/html; charset=utf-8", reply),
        |_: &Issued, reply: Value| Response::new(full(format!(" \r\n{reply}"))),
    ] {
        front.service.spoil(Mishap::Answered(answer));
        let alice = front.login("alice").await;
        assert!(front.opens(&alice.access).await);
        front.rig.admin.call("DELETE", &format!("/v1/sessions/{}", front.sessions("alice").await[0]), None).await;
        assert!(!front.opens(&alice.access).await && !front.renews(&alice.refresh).await);
    }
    front.service.spoil(Mishap::Answered(|_, _| labelled("text/html", json!("<p>Log in</p>"))));
    assert_eq!(ask(front.proxy(), login("/token", "alice", "web")).await.status, 200, "what is no token passes");
}

fn labelled(media: &str, reply: Value) -> Response<Body> {
    Response::builder().header("content-type", media).body(full(reply.to_string())).unwrap()
}

/// What of a token must be nowhere: its text, its parts, their ends, and the bytes they are made of, in any notation.
fn needles(issued: &[Issued]) -> Vec<Vec<u8>> {
    let texts: BTreeSet<&str> = issued.iter().flat_map(|of| [of.access.as_str(), of.refresh.as_str()]).collect();
    let mut needles = BTreeSet::new();
    for text in texts {
        // The header of a JWT is nobody's secret, and the same in all.
        let parts = text.split('.').skip(usize::from(text.contains('.')));
        for part in parts {
            needles.insert(part.as_bytes().to_vec());
            needles.insert(part.as_bytes()[part.len() - LEAST..].to_vec());
            needles.insert(part.as_bytes()[..LEAST * 2].to_vec());
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            needles.insert(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
            needles.insert(STANDARD.encode(part).trim_end_matches('=').as_bytes().to_vec());
            needles.insert(bytes);
        }
        needles.insert(text.as_bytes().to_vec());
    }
    needles.into_iter().collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Every file of the store, and what was read of it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of_the_store = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(".db"));
    of_the_store.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// All that can go right and wrong with a login, so that whatever would write a token down does.
async fn live_through(front: &Front) {
    let first = front.login("alice").await;
    let second = front.renew(&first.refresh).await;
    front.renew(&first.refresh).await;
    front.opens(&second.access).await;
    front.rig.admin.check(&second.access).await;
    front.rig.admin.check(&second.refresh).await;
    let bob = front.issued(&ask(front.proxy(), by_code("bob")).await);
    front.rig.admin.revoke(json!({ "token": bob.refresh })).await;
    front.rig.admin.revoke(json!({ "token": bob.access })).await;
    front.refresh(&bob.refresh).await;
    // Answers that cannot be read, or break off.
    for mishap in [
        Mishap::Torn,
        Mishap::Answered(|issued, _| {
            let broken = format!("{{\"access_token\":\"{}\",\"refresh_token\":\"{}\"", issued.access, issued.refresh);
            hyper::Response::builder()
                .header("content-type", "application/json")
                .body(crate::rig::serve::full(broken))
                .unwrap()
        }),
    ] {
        front.service.spoil(mishap);
        let answer = ask(front.proxy(), login("/token", "carol", "web")).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    // Requests that cannot be read.
    let dave = front.login("dave").await;
    for request in [
        refresh(&format!("/token?refresh_token={}", dave.refresh), &dave.refresh, "web"),
        refresh(&format!("/elsewhere/{}", dave.refresh), &dave.refresh, "web"),
        refresh("/token", &format!("{}%", dave.refresh), "web"),
        refresh("/token", &format!("{0}&refresh_token={0}", dave.refresh), "web"),
    ] {
        ask(front.proxy(), request).await;
    }
    // A replay, and the end of a family.
    ask(front.proxy(), crate::rig::front::by("thief", refresh("/token", &first.refresh, "web"))).await;
    front.refresh(&second.refresh).await;
    // Read back by everyone who may read.
    for path in ["/v1/sessions", "/v1/audit", "/v1/revocations", "/v1/status"] {
        let answer = front.rig.admin.call("GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_clean(path, &answer.body, &needles(&front.service.issued()));
    }
    assert_clean("/metrics", front.rig.admin.metrics().await.as_bytes(), &needles(&front.service.issued()));
}

fn assert_clean(what: &str, bytes: &[u8], needles: &[Vec<u8>]) {
    for needle in needles {
        assert!(!holds(bytes, needle), "{what} holds {:?}", String::from_utf8_lossy(needle));
    }
}

#[tokio::test]
async fn nothing_learned_is_a_raw_token_in_the_store_or_in_any_log() {
    let jwt = || Make::Jwt(json!({}));
    for (access, refresh) in [(jwt(), Make::Opaque), (jwt(), jwt()), (Make::Opaque, Make::Opaque)] {
        let manner = Manner { access, refresh, rotation: Rotation::Forgiving, reply: telling };
        let keys = format!("{LEARN}\nrotation = 'enforce'\ngrace = '1m'");
        let mut front = Front::with(manner, &keys, "[log]\nlevel = 'trace'\n").await;
        live_through(&front).await;
        let needles = needles(&front.service.issued());
        let sealed = files(front.rig.folder.path());
        assert!(sealed.iter().any(|(name, bytes)| name.ends_with(".db-wal") && !bytes.is_empty()), "{}", sealed.len());
        for (name, bytes) in sealed {
            assert_clean(&name, &bytes, &needles);
        }
        front.rig.gateway.signal("TERM");
        assert!(front.rig.gateway.exit().await.success());
        for (name, bytes) in files(front.rig.folder.path()) {
            assert_clean(&name, &bytes, &needles);
        }
        let log = front.rig.gateway.log.text();
        assert!(log.contains("is withheld"), "the log tells of what went wrong");
        assert_clean("the log", log.as_bytes(), &needles);
    }
}

/// It was handed out before the gateway stood here, and says nothing of itself.
#[tokio::test]
async fn a_refresh_token_that_nobody_saw_issued_dies_with_its_user() {
    let front = silent().await;
    let old = front.issued(&ask(front.service.address(), by_code("alice")).await);
    let spared = front.issued(&ask(front.service.address(), by_code("bob")).await);
    let receipt = front.rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    until(receipt["readmits_from"].as_u64().unwrap() + 1).await;
    assert!(!front.renews(&old.refresh).await);
    assert!(front.renews(&spared.refresh).await);
}

#[tokio::test]
async fn a_ban_ends_a_session_whose_user_was_learned_after_its_tokens() {
    let front = silent().await;
    let nameless = front.issued(&ask(front.proxy(), login("/token", "carol", "web")).await);
    assert!(front.opens(&nameless.access).await);
    front.renew(&nameless.refresh).await;
    assert!(front.opens(&nameless.access).await);
    front.rig.admin.revoke_as(json!({"selector": {"issuer": "main", "user": "carol"}, "block": true})).await;
    assert!(!front.opens(&nameless.access).await);
}

/// What finds no room in the queue is missing from the inventory; a revocation does not need it.
#[tokio::test]
async fn a_user_wide_revoke_ends_sessions_that_found_no_room_in_the_queue() {
    let rig = crate::rig::Rig::with("[sessions]\nqueue = 1").await;
    let dropped = r#"portcullis_sightings_total{result="dropped"}"#;
    let mut tokens = Vec::new();
    crate::rig::within("a full queue", async {
        while rig.admin.metric(dropped).await == 0.0 {
            let some: Vec<_> = (0..50).map(|_| rig.issuer.token(json!({"sub": "alice"}))).collect();
            let mut connection = rig.connect(crate::rig::Wire::H1).await;
            for token in &some {
                assert_eq!(connection.send(crate::rig::get("/", &token.text)).await.unwrap().status, 200);
            }
            tokens.extend(some);
        }
    })
    .await;
    rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    for token in &tokens {
        assert!(!rig.passes(token).await);
    }
}
