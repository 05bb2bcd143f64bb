//! What every inventory must keep, held against each of them.

use std::time::Duration;

use crate::domain::{
    Cutoff, Reach, Revocation, SeenToken, Session, SessionKey, SessionState, SessionType, Timestamp, TokenDigest,
    TokenKind,
};
use crate::store::testing::*;
use crate::store::{
    Claim, Claimed, Lesson, Redeemed, SessionPage, SessionQuery, Sighting, SortKey, SoughtDomain, Span, Store,
};

const ISSUER: &str = "https://id.example";

fn later(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

fn key(id: &str) -> SessionKey {
    SessionKey { issuer: ISSUER.into(), id: id.into() }
}

fn session(id: &str, user: &str) -> Session {
    let mut session = Session::new(key(id), NOW);
    session.user = Some(user.into());
    session.expires_at = Some(later(1_000));
    session
}

fn digest(n: u8) -> TokenDigest {
    TokenDigest::new([n; 32])
}

fn token(n: u8, kind: TokenKind) -> SeenToken {
    SeenToken {
        digest: digest(n),
        token_id: None,
        kind,
        issued_at: Some(NOW),
        expires_at: Some(later(1_000)),
        generation: Some(n.into()),
    }
}

fn lesson(session: Session, tokens: Vec<SeenToken>) -> Lesson {
    Lesson { session, family: "f".into(), tokens, redeemed: None }
}

fn claim(n: u8, client: u8) -> Claim {
    Claim {
        digest: digest(n),
        text: digest(n + 100),
        client: digest(client),
        now: NOW,
        given_up_at: Timestamp::default(),
        max_replays: 2,
        expires_at: None,
    }
}

fn redeemed(n: u8) -> Redeemed {
    Redeemed { digest: digest(n), sealed: Some(b"sealed".as_slice().into()), grace_until: later(10) }
}

fn sighting(session: Session) -> Sighting {
    Sighting { session, token: None }
}

async fn learn(store: &Store, session: Session) {
    store.sessions.learn(lesson(session, Vec::new())).await.unwrap();
}

async fn get(store: &Store, id: &str) -> Session {
    store.sessions.session(&key(id)).await.unwrap().unwrap().session
}

async fn is_ended(store: &Store, id: &str) -> bool {
    get(store, id).await.ended.is_some()
}

fn of(n: u128, json: &str) -> Revocation {
    Revocation { cutoff: Cutoff::Absolute, ..revocation(n, selector(json), 0) }
}

async fn ids(store: &Store, query: SessionQuery) -> Vec<String> {
    let query = SessionQuery { now: NOW, limit: 1_000, sort: SortKey::Id, ..query };
    let page = store.sessions.sessions(&query).await.unwrap();
    assert_eq!(page.total, page.items.len() as u64);
    page.items.iter().map(|session| session.key.id.to_string()).collect()
}

#[tokio::test]
async fn what_was_learned_is_found_as_it_was() {
    on_each_store(async |store| {
        let mut told = session("s", "ä\"'%_ 🚪");
        (told.username, told.parent, told.domain) = (Some("ann".into()), Some("p".into()), Some("d".into()));
        (told.client, told.address) = (Some("c".into()), Some("2001:db8::1".into()));
        (told.user_agent, told.kind) = (Some("Firefox/1".into()), SessionType::Sso);
        told.token_expires_at = Some(later(5));
        let tokens = vec![token(1, TokenKind::Access), token(2, TokenKind::Refresh)];
        let learned = store.sessions.learn(lesson(told.clone(), tokens.clone())).await.unwrap();
        assert!(learned.is_new && !learned.parent_ended);
        let record = store.sessions.session(&key("s")).await.unwrap().unwrap();
        assert_eq!(record.session, told);
        assert_eq!(record.tokens.len(), 2);
        assert!(tokens.iter().all(|token| record.tokens.contains(token)));
        assert!(!store.sessions.learn(lesson(told.clone(), tokens)).await.unwrap().is_new);
        assert_eq!(store.sessions.session(&key("s")).await.unwrap().unwrap().tokens.len(), 2);
        assert!(
            store.sessions.session(&SessionKey { issuer: "other".into(), id: "s".into() }).await.unwrap().is_none()
        );
    })
    .await;
}

#[tokio::test]
async fn all_tokens_of_a_session_can_be_read_page_by_page_in_the_order_of_their_issue() {
    on_each_store(async |store| {
        let numbered = |n: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            let issued_at = (n > 2).then(|| later(u64::from(n / 3)));
            SeenToken { digest: TokenDigest::new(bytes), issued_at, ..token(1, TokenKind::Access) }
        };
        let mut told: Vec<SeenToken> = (0..2_345).rev().map(numbered).collect();
        for some in told.chunks(100) {
            store.sessions.learn(lesson(session("s", "ann"), some.to_vec())).await.unwrap();
        }
        learn(&store, session("other", "ann")).await;
        told.sort_by_key(|token| (token.issued_at, token.digest));
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = store.sessions.tokens(&key("s"), after.as_ref()).await.unwrap();
            assert!(page.len() <= 1_000 && page.iter().all(|row| row.family.as_deref() == Some("f")));
            let Some(last) = page.last() else { break };
            after = Some(last.token.clone());
            read.extend(page.into_iter().map(|row| row.token));
        }
        assert!(read == told, "{} of {}", read.len(), told.len());
        for none in ["other", "unknown"] {
            assert!(store.sessions.tokens(&key(none), None).await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_late_account_among_newer_ones_moves_no_session() {
    on_each_store(async |store| {
        let seen = |at: u64, address: Option<&str>| {
            let mut session = session("s", "a");
            session.updated_at = later(at);
            session.address = address.map(Into::into);
            sighting(session)
        };
        store.sessions.touch(vec![seen(0, Some("192.0.2.1"))]).await.unwrap();
        store.sessions.touch(vec![seen(3, None), seen(0, Some("192.0.2.9"))]).await.unwrap();
        assert_eq!(get(&store, "s").await.address.as_deref(), Some("192.0.2.1"));
    })
    .await;
}

#[tokio::test]
async fn accounts_of_one_session_become_one() {
    on_each_store(async |store| {
        let mut first = session("s", "ann");
        (first.address, first.user_agent) = (Some("192.0.2.1".into()), Some("Firefox/1".into()));
        let mut second = session("s", "eve");
        (second.created_at, second.updated_at) = (later(5), later(60));
        (second.username, second.user_agent) = (Some("Ann".into()), Some("Firefox/2".into()));
        second.expires_at = None;
        let mut expected = first.clone();
        expected.learn(second.clone());
        assert_eq!(store.sessions.touch(vec![sighting(first)]).await.unwrap(), [key("s")]);
        assert_eq!(store.sessions.touch(vec![sighting(second)]).await.unwrap(), []);
        assert_eq!(get(&store, "s").await, expected);
        assert_eq!(&*expected.user.unwrap(), "ann");
    })
    .await;
}

#[tokio::test]
async fn a_token_may_belong_to_several_logins_and_is_known_by_all() {
    on_each_store(async |store| {
        assert_eq!(store.sessions.known(digest(1)).await.unwrap(), None);
        let mut bare = token(1, TokenKind::Access);
        (bare.issued_at, bare.expires_at) = (None, None);
        let seen = Sighting { session: session("a", "ann"), token: Some(bare) };
        store.sessions.touch(vec![seen]).await.unwrap();
        let mut full = token(1, TokenKind::Access);
        full.token_id = Some("j".into());
        store.sessions.learn(lesson(session("b", "ann"), vec![full.clone()])).await.unwrap();
        let known = store.sessions.known(digest(1)).await.unwrap().unwrap();
        let logins: Vec<_> = known.logins.iter().map(|login| (&*login.session.id, login.family.as_deref())).collect();
        assert_eq!(logins, [("a", None), ("b", Some("f"))]);
        assert_eq!((known.token_id, known.issued_at, known.expires_at), (full.token_id, Some(NOW), Some(later(1_000))));
        store.sessions.learn(lesson(session("a", "ann"), vec![token(1, TokenKind::Access)])).await.unwrap();
        let known = store.sessions.known(digest(1)).await.unwrap().unwrap();
        assert_eq!(known.logins.len(), 2);
        assert_eq!(known.logins[0].family.as_deref(), Some("f"), "an answer tells what traffic does not");
        assert_eq!(known.logins[1].user.as_deref(), Some("ann"));
    })
    .await;
}

#[tokio::test]
async fn the_newest_hundred_tokens_of_a_session_are_shown() {
    on_each_store(async |store| {
        let tokens = (0..120).map(|n| {
            let issued_at = (n < 110).then(|| later(u64::from(n)));
            SeenToken { issued_at, ..token(n, TokenKind::Access) }
        });
        store.sessions.learn(lesson(session("s", "ann"), tokens.collect())).await.unwrap();
        let shown = store.sessions.session(&key("s")).await.unwrap().unwrap().tokens;
        assert_eq!(shown.len(), 100);
        assert!(shown.is_sorted_by(|a, b| a.issued_at > b.issued_at));
        assert_eq!(shown[0].issued_at, Some(later(109)));
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_is_granted_once_and_its_answer_repeated_to_its_client_within_grace() {
    on_each_store(async |store| {
        let claims = async |claim: Claim| store.sessions.claim(claim).await.unwrap();
        assert_eq!(claims(claim(1, 1)).await, Claimed::Granted);
        assert_eq!(claims(claim(1, 1)).await, Claimed::Granted, "no answer was learned");
        assert_eq!(claims(claim(1, 2)).await, Claimed::Reused, "another client is at it");
        assert_eq!(claims(Claim { text: digest(9), ..claim(1, 1) }).await, Claimed::Contended, "who holds it is open");
        let learned = Lesson { redeemed: Some(redeemed(1)), ..lesson(session("s", "ann"), Vec::new()) };
        store.sessions.learn(learned).await.unwrap();
        store.sessions.release(digest(1)).await.unwrap();
        let sealed = Claimed::Repeated(b"sealed".as_slice().into());
        assert_eq!(claims(Claim { text: digest(9), ..claim(1, 1) }).await, Claimed::Forged);
        assert_eq!(claims(claim(1, 2)).await, Claimed::Reused);
        assert_eq!(claims(claim(1, 1)).await, sealed);
        assert_eq!(claims(Claim { now: later(10), ..claim(1, 1) }).await, Claimed::Reused, "grace is over");
        assert_eq!(claims(Claim { now: later(9), ..claim(1, 1) }).await, sealed);
        assert_eq!(claims(claim(1, 1)).await, Claimed::Reused, "as often as is forgiven");
    })
    .await;
}

#[tokio::test]
async fn what_was_claimed_and_given_up_can_be_claimed_by_anyone() {
    on_each_store(async |store| {
        let claims = async |claim: Claim| store.sessions.claim(claim).await.unwrap();
        assert_eq!(claims(claim(1, 1)).await, Claimed::Granted);
        let another = Claim { now: later(60), given_up_at: NOW, ..claim(1, 2) };
        assert_eq!(claims(Claim { text: digest(9), ..another }).await, Claimed::Granted);
        assert_eq!(claims(Claim { given_up_at: later(59), ..another }).await, Claimed::Contended, "somebody is at it");
    })
    .await;
}

#[tokio::test]
async fn what_was_released_can_be_claimed_by_anyone() {
    on_each_store(async |store| {
        assert_eq!(store.sessions.claim(claim(1, 1)).await.unwrap(), Claimed::Granted);
        store.sessions.release(digest(1)).await.unwrap();
        store.sessions.release(digest(2)).await.unwrap();
        assert_eq!(store.sessions.claim(claim(1, 2)).await.unwrap(), Claimed::Granted);
    })
    .await;
}

#[tokio::test]
async fn what_was_redeemed_without_a_claim_is_used_up() {
    on_each_store(async |store| {
        let learned = Lesson { redeemed: Some(redeemed(1)), ..lesson(session("s", "ann"), Vec::new()) };
        store.sessions.learn(learned).await.unwrap();
        assert_eq!(store.sessions.claim(claim(1, 1)).await.unwrap(), Claimed::Reused);
    })
    .await;
}

#[tokio::test]
async fn of_many_who_claim_at_once_one_client_is_granted() {
    on_each_store(async |store| {
        let claims = (0..50).map(|client| {
            let sessions = store.sessions.clone();
            tokio::spawn(async move { sessions.claim(claim(1, client)).await.unwrap() })
        });
        let mut granted = 0;
        for claim in claims.collect::<Vec<_>>() {
            granted += usize::from(claim.await.unwrap() == Claimed::Granted);
        }
        assert_eq!(granted, 1);
    })
    .await;
}

#[tokio::test]
async fn prolonged_answers_are_repeated_longer_and_then_go() {
    on_each_store(async |store| {
        store.sessions.claim(claim(1, 1)).await.unwrap();
        let learned = Lesson { redeemed: Some(redeemed(1)), ..lesson(session("s", "ann"), Vec::new()) };
        store.sessions.learn(learned).await.unwrap();
        store.sessions.prolong(later(60)).await.unwrap();
        store.sessions.prolong(later(30)).await.unwrap();
        assert_eq!(store.sessions.tidy(later(59)).await.unwrap(), 0);
        let late = Claim { now: later(59), ..claim(1, 1) };
        assert!(matches!(store.sessions.claim(late).await.unwrap(), Claimed::Repeated(_)));
        assert_eq!(store.sessions.tidy(later(60)).await.unwrap(), 1);
        assert_eq!(
            store.sessions.claim(late).await.unwrap(),
            Claimed::Reused,
            "the answer is gone, the memory of it not"
        );
    })
    .await;
}

#[tokio::test]
async fn every_revocation_that_names_a_session_ends_it_and_no_other() {
    on_each_store(async |store| {
        let mut mine = session("mine", "ann");
        (mine.username, mine.client) = (Some("Ann".into()), Some("app".into()));
        let elsewhere = SessionKey { issuer: "https://other.example".into(), id: "mine".into() };
        let mut other = mine.clone();
        (other.key, other.username, other.client) = (elsewhere, Some("Bea".into()), Some("web".into()));
        for (n, named) in [
            r#"{"issuer":"https://id.example","session":"mine"}"#,
            r#"{"issuer":"https://id.example","user":"ann"}"#,
            r#"{"issuer":"https://id.example","user":"ann","client":"app"}"#,
            r#"{"username":"Ann"}"#,
            r#"{"issuer":"https://id.example","username":"Ann"}"#,
            r#"{"issuer":"https://id.example","client":"app"}"#,
        ]
        .into_iter()
        .enumerate()
        {
            learn(&store, mine.clone()).await;
            learn(&store, other.clone()).await;
            store.log.append(revoke(of(n as u128, named))).await.unwrap();
            let end = get(&store, "mine").await.ended.expect(named);
            assert_eq!((end.at, &*end.actor, end.revocation), (NOW, "ops", id(n as u128)));
            assert_eq!(end.reason.as_deref(), Some("lost laptop"));
            assert!(store.sessions.session(&other.key).await.unwrap().unwrap().session.ended.is_none(), "{named}");
            store.log.append(lift(n as u128)).await.unwrap();
            assert!(!is_ended(&store, "mine").await, "{named}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_reaches_no_login_or_names_more_than_sessions_ends_none() {
    on_each_store(async |store| {
        learn(&store, session("s", "ann")).await;
        let mut keys = of(1, r#"{"issuer":"https://id.example","user":"ann"}"#);
        keys.reach = Reach::from_iter([TokenKind::ApiKey]);
        store.log.append(revoke(keys)).await.unwrap();
        store.log.append(revoke(of(2, r#"{"issuer":"https://id.example","family":"f"}"#))).await.unwrap();
        store.log.append(revoke(of(3, r#"{"issuer":"https://id.example","user":"ann","claim:x":"y"}"#))).await.unwrap();
        assert!(!is_ended(&store, "s").await);
    })
    .await;
}

#[tokio::test]
async fn a_cutoff_ends_the_sessions_begun_until_then() {
    on_each_store(async |store| {
        learn(&store, session("old", "ann")).await;
        let mut young = session("young", "ann");
        young.created_at = later(6);
        learn(&store, young).await;
        store.log.append(revoke(revocation(1, user("ann"), 5))).await.unwrap();
        assert!(is_ended(&store, "old").await && !is_ended(&store, "young").await);
        let mut wider = revocation(2, user("ann"), 6);
        wider.expires_at = None;
        store.log.append(revoke(wider)).await.unwrap();
        let first = get(&store, "old").await.ended.unwrap();
        assert_eq!(first.revocation, id(1), "the first end stays");
        assert!(is_ended(&store, "young").await);
        store.log.append(lift(2)).await.unwrap();
        assert!(!is_ended(&store, "old").await && !is_ended(&store, "young").await);
    })
    .await;
}

#[tokio::test]
async fn the_first_end_stays_and_a_lift_leaves_what_another_revocation_ended() {
    on_each_store(async |store| {
        learn(&store, session("s", "ann")).await;
        store.log.append(revoke(of(1, r#"{"issuer":"https://id.example","session":"s"}"#))).await.unwrap();
        store.log.append(revoke(of(2, r#"{"issuer":"https://id.example","user":"ann"}"#))).await.unwrap();
        assert_eq!(get(&store, "s").await.ended.unwrap().revocation, id(1));
        store.log.append(lift(1)).await.unwrap();
        assert_eq!(get(&store, "s").await.ended.unwrap().revocation, id(2));
        store.log.append(lift(2)).await.unwrap();
        assert!(!is_ended(&store, "s").await);
    })
    .await;
}

#[tokio::test]
async fn a_session_learned_after_its_own_end_is_ended_and_so_is_a_child_told() {
    on_each_store(async |store| {
        store.log.append(revoke(of(1, r#"{"issuer":"https://id.example","session":"s"}"#))).await.unwrap();
        store.log.append(revoke(of(2, r#"{"issuer":"https://id.example","session":"seen"}"#))).await.unwrap();
        learn(&store, session("s", "ann")).await;
        assert_eq!(store.sessions.touch(vec![sighting(session("seen", "ann"))]).await.unwrap(), [key("seen")]);
        assert!(is_ended(&store, "s").await && is_ended(&store, "seen").await);
        let child = |id: &str, parent: &str| {
            let mut child = session(id, "ann");
            child.parent = Some(parent.into());
            lesson(child, Vec::new())
        };
        assert!(store.sessions.learn(child("child", "s")).await.unwrap().parent_ended);
        assert!(!store.sessions.learn(child("other", "unknown")).await.unwrap().parent_ended);
        store.log.append(revoke(of(3, r#"{"issuer":"https://id.example","session":"unknown"}"#))).await.unwrap();
        assert!(store.sessions.learn(child("other", "unknown")).await.unwrap().parent_ended);
    })
    .await;
}

#[tokio::test]
async fn descendants_are_found_at_every_depth_and_circles_end() {
    on_each_store(async |store| {
        for (id, parent) in [("a", "c"), ("b", "a"), ("c", "b"), ("d", "b"), ("x", "y")] {
            let mut child = session(id, "ann");
            child.parent = Some(parent.into());
            learn(&store, child).await;
        }
        let mut elsewhere = session("e", "ann");
        elsewhere.key.issuer = "other".into();
        elsewhere.parent = Some("a".into());
        learn(&store, elsewhere).await;
        let found = async |id: &str| {
            let mut found = store.sessions.descendants(&key(id)).await.unwrap();
            found.sort();
            found.into_iter().map(|key| key.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("a").await, ["b", "c", "d"]);
        assert_eq!(found("y").await, ["x"]);
        assert_eq!(found("d").await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_forgotten_and_nothing_else() {
    on_each_store(async |store| {
        store.sessions.learn(lesson(session("over", "ann"), vec![token(1, TokenKind::Access)])).await.unwrap();
        let mut longer = token(2, TokenKind::Refresh);
        longer.expires_at = Some(later(2_000));
        store.sessions.learn(lesson(session("used", "ann"), vec![longer])).await.unwrap();
        let mut unknown = token(3, TokenKind::Refresh);
        unknown.expires_at = None;
        let mut open = session("open", "ann");
        open.expires_at = None;
        store.sessions.learn(lesson(open, vec![unknown])).await.unwrap();
        store.sessions.claim(Claim { expires_at: Some(later(1_000)), ..claim(1, 1) }).await.unwrap();
        store.sessions.claim(claim(2, 1)).await.unwrap();
        assert_eq!(store.sessions.tidy(later(999)).await.unwrap(), 0);
        assert_eq!(store.sessions.tidy(later(1_000)).await.unwrap(), 3, "a session, a token, a redemption");
        assert_eq!(ids(&store, SessionQuery::default()).await, ["open", "used"]);
        assert_eq!(store.sessions.known(digest(1)).await.unwrap(), None);
        assert_eq!(store.sessions.claim(claim(1, 2)).await.unwrap(), Claimed::Granted);
        assert_eq!(store.sessions.tidy(later(2_000)).await.unwrap(), 2);
        let month = 30 * 86_400;
        assert_eq!(store.sessions.tidy(later(month - 1)).await.unwrap(), 0);
        assert!(store.sessions.known(digest(3)).await.unwrap().is_some());
        assert_eq!(store.sessions.tidy(later(month)).await.unwrap(), 2);
        assert_eq!(ids(&store, SessionQuery::default()).await, [""; 0]);
        assert_eq!(store.sessions.claim(claim(2, 2)).await.unwrap(), Claimed::Reused, "not known to expire");
    })
    .await;
}

/// Twelve sessions that differ in everything there is to search for.
async fn dozen(store: &Store) {
    let mut sightings = Vec::new();
    for n in 0..12_u64 {
        let mut one = session(&format!("Sid-{n:02}"), if n % 2 == 0 { "even" } else { "odd" });
        one.username = (n % 3 != 0).then(|| format!("Übername{n}").into());
        one.client = Some(if n < 6 { "app" } else { "web" }.into());
        one.parent = (n == 7).then(|| "Sid-00".into());
        one.domain = (n == 8).then(|| "North".into());
        one.address = Some(format!("192.0.2.{n}").into());
        one.user_agent = Some(if n < 4 { "Mozilla/5.0 Firefox" } else { "curl/8" }.into());
        one.kind = if n == 7 { SessionType::Sso } else { SessionType::Login };
        (one.created_at, one.updated_at) = (later(n), later(100 - n));
        one.expires_at = (n != 5).then(|| later(n));
        one.token_expires_at = (n > 5).then(|| later(n % 4));
        sightings.push(sighting(one));
    }
    assert_eq!(store.sessions.touch(sightings).await.unwrap().len(), 12);
    store.log.append(revoke(of(1, r#"{"issuer":"https://id.example","session":"Sid-03"}"#))).await.unwrap();
}

#[tokio::test]
async fn searches_find_by_every_field() {
    on_each_store(async |store| {
        dozen(&store).await;
        let some = |text: &str| Some(text.to_owned());
        let find = async |query: SessionQuery| ids(&store, query).await.into_iter().collect::<Vec<_>>().join(" ");
        let all = SessionQuery::default;
        assert_eq!(find(SessionQuery { issuer: some("other"), ..all() }).await, "");
        assert_eq!(ids(&store, SessionQuery { issuer: some(ISSUER), ..all() }).await.len(), 12);
        assert_eq!(ids(&store, SessionQuery { user: some("odd"), ..all() }).await.len(), 6);
        assert_eq!(find(SessionQuery { username: some("Übername4"), ..all() }).await, "Sid-04");
        assert_eq!(ids(&store, SessionQuery { client: some("web"), user: some("odd"), ..all() }).await.len(), 3);
        assert_eq!(find(SessionQuery { parent: some("Sid-00"), ..all() }).await, "Sid-07");
        let domain = |domain| SessionQuery { domain: Some(domain), ..all() };
        assert_eq!(find(domain(SoughtDomain::Named("North".into()))).await, "Sid-08");
        assert_eq!(ids(&store, domain(SoughtDomain::Unknown)).await.len(), 11);
        assert_eq!(find(SessionQuery { address: some("192.0.2.9"), ..all() }).await, "Sid-09");
        assert_eq!(find(SessionQuery { kind: Some(SessionType::Sso), ..all() }).await, "Sid-07");
        let words =
            |words: &[&str]| SessionQuery { keywords: words.iter().map(|word| (*word).to_owned()).collect(), ..all() };
        assert_eq!(find(words(&["iD-01", "nORT"])).await, "Sid-01 Sid-08");
        assert_eq!(find(words(&["übername1"])).await, "Sid-01 Sid-10 Sid-11");
        assert_eq!(find(words(&["FIREFOX"])).await, "Sid-00 Sid-01 Sid-02 Sid-03");
        assert_eq!(find(words(&["11", "*"])).await, "Sid-11");
        assert_eq!(find(words(&["[0-9]", "%", "_", "?", "\"", "'"])).await, "");
        assert_eq!(ids(&store, words(&[""])).await.len(), 12);
        let state = |state, now| SessionQuery { state: Some(state), now, limit: 99, ..all() };
        let count = async |query: SessionQuery| store.sessions.sessions(&query).await.unwrap().total;
        assert_eq!(count(state(SessionState::Revoked, later(8))).await, 1);
        assert_eq!(count(state(SessionState::Expired, later(8))).await, 7);
        assert_eq!(count(state(SessionState::Active, later(8))).await, 4);
        let span = |since, until| Span { since: Some(later(since)), until: Some(later(until)) };
        assert_eq!(find(SessionQuery { created: span(2, 4), ..all() }).await, "Sid-02 Sid-03");
        assert_eq!(find(SessionQuery { updated: span(90, 92), ..all() }).await, "Sid-09 Sid-10");
        assert_eq!(find(SessionQuery { expires: span(4, 7), ..all() }).await, "Sid-04 Sid-06");
    })
    .await;
}

#[tokio::test]
async fn every_order_can_be_walked_both_ways_page_by_page() {
    on_each_store(async |store| {
        dozen(&store).await;
        for (sort, descending) in SORT_KEYS.into_iter().flat_map(|sort| [(sort, false), (sort, true)]) {
            let whole = SessionQuery { sort, descending, now: NOW, limit: 50, ..Default::default() };
            let page = async |query: &SessionQuery| -> SessionPage { store.sessions.sessions(query).await.unwrap() };
            let wanted = page(&whole).await.items;
            assert_eq!(wanted.len(), 12);
            let (mut query, mut walked) = (SessionQuery { limit: 5, ..whole.clone() }, Vec::new());
            loop {
                let page = page(&query).await;
                assert_eq!(page.total, 12);
                walked.extend(page.items);
                let Some(next) = page.next else { break };
                query.after = Some(next);
            }
            assert_eq!(walked, wanted, "{sort:?} {descending}");
            let middle = page(&SessionQuery { offset: 4, limit: 3, ..whole.clone() }).await.items;
            assert_eq!(middle, wanted[4..7], "{sort:?} {descending}");
            let backwards = page(&SessionQuery { descending: !descending, ..whole }).await.items;
            assert!(backwards.iter().rev().eq(&wanted), "{sort:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_has_a_thousand_sessions_at_most_and_one_at_least() {
    on_each_store(async |store| {
        let crowd = (0..1_002).map(|n| sighting(session(&n.to_string(), "ann"))).collect();
        store.sessions.touch(crowd).await.unwrap();
        for (limit, shown) in [(0, 1), (u32::MAX, 1_000)] {
            let page = store.sessions.sessions(&SessionQuery { limit, ..Default::default() }).await.unwrap();
            assert_eq!((page.items.len(), page.total), (shown, 1_002));
        }
    })
    .await;
}

#[tokio::test]
async fn a_closed_inventory_answers_with_an_error() {
    on_each_store(async |store| {
        store.close().await;
        assert!(store.sessions.touch(vec![sighting(session("s", "ann"))]).await.is_err());
        assert!(store.sessions.known(digest(1)).await.is_err());
    })
    .await;
}
