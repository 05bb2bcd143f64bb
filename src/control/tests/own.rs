//! What users may do with their own sessions, and that they may do nothing with anybody else's.

use super::sessions::{OTHER, below, key, session};
use super::*;
use crate::domain::{SeenToken, Session, SessionKey, SessionState};
use crate::store::{Lesson, SessionQuery, SortKey};

fn query() -> SessionQuery {
    SessionQuery { now: NOW, sort: SortKey::Id, limit: 100, ..SessionQuery::default() }
}

/// Alice, in session `s1`, with no right at all.
fn alice() -> (Caller, Claims) {
    (Caller { name: "a@main".into(), ..caller([]) }, claims(0))
}

async fn own(rig: &Rig, claims: &Claims, query: SessionQuery) -> Vec<String> {
    let own = rig.control.own_sessions(claims, query).await.unwrap();
    assert_eq!(own.page.total, own.page.items.len() as u64);
    own.page.items.into_iter().map(|session| session.key.id.into()).collect()
}

async fn households() -> Rig {
    let rig = Rig::two_issuers().await;
    rig.knows([session("s1", "a"), session("s2", "a"), session("b1", "b"), below("s1", session("b2", "b"))]).await;
    let namesake = |id| Session { user: Some("a".into()), ..Session::new(key(OTHER, id), NOW) };
    rig.knows([namesake("s1"), namesake("o1")]).await;
    rig
}

#[tokio::test]
async fn users_see_their_own_sessions_whatever_they_ask_for() {
    let rig = households().await;
    let (_, claims) = alice();
    assert_eq!(own(&rig, &claims, query()).await, ["s1", "s2"]);
    let current = rig.control.own_sessions(&claims, query()).await.unwrap().current;
    assert_eq!(current.iter().map(|id| &**id).collect::<Vec<_>>(), ["s1"]);
    let text = |text: &str| Some(text.to_owned());
    for crafted in [
        SessionQuery { user: text("b"), ..query() },
        SessionQuery { issuer: text(OTHER), username: text("b"), ..query() },
        SessionQuery { issuer: text("other"), ..query() },
    ] {
        assert_eq!(own(&rig, &claims, crafted).await, ["s1", "s2"]);
    }
    assert!(own(&rig, &claims, SessionQuery { parent: text("s1"), ..query() }).await.is_empty());
    let nobody = Claims { user: None, ..claims };
    assert!(matches!(rig.control.own_sessions(&nobody, query()).await, Err(ControlError::Invalid(_))));
}

#[tokio::test]
async fn users_end_their_own_sessions_and_nobody_elses() {
    let rig = households().await;
    let (caller, claims) = alice();
    for id in ["b1", "b2", "o1", "nowhere", "b1/../s1", "s1\0"] {
        let answer = rig.control.end_own(&caller, &claims, id, None).await;
        assert!(matches!(answer, Err(ControlError::NoSession)), "{id}");
    }
    let refused = rig.trail().await;
    assert_eq!(refused.len(), 6);
    assert!(refused.iter().all(|record| record.result == "refused" && record.actor == "a@main"));
    assert!(!rig.covers(&Claims { user: Some("b".into()), session: Some("b1".into()), ..claims.clone() }));
    let receipt = rig.control.end_own(&caller, &claims, "s2", Some("old phone".into())).await.unwrap();
    assert_eq!(receipt.sessions, 1);
    let revocation = &held(&receipt).revocation;
    assert_eq!((&*revocation.actor, revocation.reason.as_deref()), ("a@main", Some("old phone")));
    assert_eq!(rig.active().await, ["b1", "b2", "o1", "s1", "s1"]);
}

#[tokio::test]
async fn a_session_of_an_unknown_user_is_ones_own_only_if_the_token_says_so() {
    let rig = households().await;
    let (caller, claims) = alice();
    rig.knows([Session::new(key(MAIN, "anonymous"), NOW)]).await;
    assert!(matches!(rig.control.end_own(&caller, &claims, "anonymous", None).await, Err(ControlError::NoSession)));
    let unseen = Claims { session: Some("unseen".into()), ..claims.clone() };
    assert!(rig.control.end_own(&caller, &unseen, "unseen", None).await.is_ok());
    let others = Claims { session: Some("b1".into()), ..claims };
    assert!(matches!(rig.control.end_own(&caller, &others, "b1", None).await, Err(ControlError::NoSession)));
}

#[tokio::test]
async fn ending_the_others_spares_the_own_session_and_what_it_was_opened_from() {
    let rig = Rig::in_memory().await;
    let (caller, claims) = alice();
    let line = [session("top", "a"), below("top", session("s1", "a")), below("top", session("sibling", "a"))];
    rig.knows(line.into_iter().chain([below("s1", session("child", "a")), session("b1", "b")])).await;
    assert_eq!(rig.control.end_other_own(&caller, &claims, None).await.unwrap(), 2);
    assert_eq!(rig.active().await, ["b1", "s1", "top"]);
    assert!(!rig.covers(&claims));
    assert_eq!(rig.control.end_other_own(&caller, &claims, None).await.unwrap(), 0);
}

#[tokio::test]
async fn ending_all_ends_the_own_session_too() {
    let rig = households().await;
    let (caller, claims) = alice();
    let receipt = rig.control.end_all_own(&caller, &claims, None).await.unwrap();
    // The one opened from the first, too, whoever's it is.
    assert_eq!((receipt.sessions, receipt.readmits_from), (3, Some(NOW.after(Duration::from_secs(1)))));
    assert!(rig.covers(&claims));
    assert_eq!(rig.active().await, ["b1", "o1", "s1"]);
}

#[tokio::test]
async fn a_token_that_names_no_session_belongs_to_the_one_it_was_handed_out_in() {
    let rig = Rig::in_memory().await;
    let (caller, claims) = alice();
    let claims = Claims { session: None, ..claims };
    let others = rig.control.end_other_own(&caller, &claims, None).await;
    assert!(matches!(others, Err(ControlError::Invalid(_))), "{others:?}");
    let token = SeenToken {
        digest: claims.digest,
        token_id: None,
        kind: TokenKind::Access,
        issued_at: Some(NOW),
        expires_at: None,
        generation: None,
    };
    let lesson = Lesson { session: session("named", "a"), family: "f".into(), tokens: vec![token], redeemed: None };
    rig.store.sessions.learn(lesson).await.unwrap();
    rig.knows([session("s2", "a")]).await;
    let current = rig.control.own_sessions(&claims, query()).await.unwrap().current;
    assert_eq!(current.iter().map(|id| &**id).collect::<Vec<_>>(), ["named"]);
    assert_eq!(rig.control.end_other_own(&caller, &claims, None).await.unwrap(), 1);
    assert_eq!(rig.active().await, ["named"]);
    let known = rig.store.sessions.session(&SessionKey { issuer: MAIN.into(), id: "named".into() }).await.unwrap();
    assert_eq!(known.unwrap().session.state(NOW), SessionState::Active);
}
