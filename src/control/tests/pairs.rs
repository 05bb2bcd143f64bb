//! What is told of tokens taken back by their text, and of all pairs of a user or a realm.

use super::*;
use crate::control::{Counts, Whose};
use crate::domain::{SeenToken, Session, SessionKey};
use crate::store::Lesson;

const HOUR: u64 = 3_600;

fn at(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

fn text(name: &str) -> BearerToken {
    BearerToken::parse(name).unwrap()
}

fn seen(name: &str, kind: TokenKind, issued_after: u64) -> SeenToken {
    let expires_at = (kind == TokenKind::Access).then(|| at(issued_after + 1_200));
    SeenToken {
        digest: digest_of(name),
        token_id: None,
        kind,
        issued_at: Some(at(issued_after)),
        expires_at,
        generation: None,
    }
}

fn counted(counts: &Counts) -> (u64, u64, u64) {
    (counts.invalidated, counts.previously, counts.failed)
}

fn of_user(username: &str) -> Whose<'_> {
    Whose { issuer: "main", username: Some(username), realm: None }
}

impl Rig {
    /// An answer of a token endpoint: the pair `{name}-access` and `{name}-refresh` in a session.
    async fn handed_out(&self, session: &str, username: &str, name: &str, issued_after: u64) {
        self.handed_out_in(session, username, Some("native"), name, issued_after).await;
    }

    async fn handed_out_in(&self, id: &str, username: &str, domain: Option<&str>, name: &str, issued_after: u64) {
        let key = SessionKey { issuer: MAIN.into(), id: id.into() };
        let session = Session {
            username: Some(username.into()),
            domain: domain.map(Box::from),
            ..Session::new(key, at(issued_after))
        };
        let access = seen(&format!("{name}-access"), TokenKind::Access, issued_after);
        let refresh = seen(&format!("{name}-refresh"), TokenKind::Refresh, issued_after);
        self.learn(session, vec![access, refresh]).await;
    }

    async fn learn(&self, session: Session, tokens: Vec<SeenToken>) {
        let family = session.key.id.clone();
        self.store.sessions.learn(Lesson { session, family, tokens, redeemed: None }).await.unwrap();
    }

    async fn invalidate(&self, name: &str, kind: TokenKind) -> (u64, u64, u64) {
        counted(&self.control.invalidate_token(&revoker(), "main", &text(name), kind).await.unwrap())
    }

    async fn access(&self, name: &str) -> (u64, u64, u64) {
        self.invalidate(&format!("{name}-access"), TokenKind::Access).await
    }

    async fn refresh(&self, name: &str) -> (u64, u64, u64) {
        self.invalidate(&format!("{name}-refresh"), TokenKind::Refresh).await
    }

    async fn pairs(&self, whose: Whose<'_>) -> (u64, u64, u64) {
        counted(&self.control.invalidate_pairs(&revoker(), whose).await.unwrap())
    }

    /// Whether the gate would refuse the token, with all that is known of it.
    async fn is_dead(&self, name: &str) -> bool {
        let kind = if name.ends_with("refresh") { TokenKind::Refresh } else { TokenKind::Access };
        let own = Arc::new(Claims::bare(MAIN.into(), kind, digest_of(name)));
        self.covers(&self.control.complete(own).await.unwrap())
    }
}

#[tokio::test]
async fn a_token_is_counted_once_and_its_other_half_is_another_token() {
    on_each_store(async |rig| {
        rig.handed_out("s", "ann", "one", 0).await;
        assert_eq!(rig.access("one").await, (1, 0, 0));
        assert_eq!(rig.access("one").await, (0, 1, 0));
        assert!(rig.is_dead("one-access").await && !rig.is_dead("one-refresh").await);
        assert_eq!(rig.refresh("one").await, (1, 0, 0));
        assert_eq!(rig.refresh("one").await, (0, 1, 0));
        assert_eq!(rig.trail().await.iter().filter(|record| record.result == "created").count(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_token_of_another_kind_or_of_none_is_unknown() {
    let rig = Rig::in_memory().await;
    rig.handed_out("s", "ann", "one", 0).await;
    assert_eq!(rig.invalidate("one-refresh", TokenKind::Access).await, (0, 0, 0));
    assert_eq!(rig.invalidate("one-access", TokenKind::Refresh).await, (0, 0, 0));
    assert!(!rig.is_dead("one-access").await && !rig.is_dead("one-refresh").await);
    assert_eq!(rig.invalidate("!malformed", TokenKind::Access).await, (0, 0, 0));
    for _ in 0..2 {
        assert_eq!(rig.invalidate("older-access", TokenKind::Access).await, (0, 0, 0));
    }
    assert!(rig.is_dead("older-access").await, "it may be older than the gate");
    let as_refresh = Claims::bare(MAIN.into(), TokenKind::Refresh, digest_of("older-access"));
    assert!(!rig.covers(&as_refresh), "as an access token it was named");
}

#[tokio::test]
async fn a_token_its_issuer_vouches_for_is_known_without_having_been_seen() {
    let rig = Rig::two_issuers().await;
    let own = format!(r#"{{"iss":"{MAIN}","jti":"j1"}}"#);
    assert_eq!(rig.invalidate(&own, TokenKind::Access).await, (1, 0, 0));
    assert_eq!(rig.invalidate(&own, TokenKind::Access).await, (0, 1, 0));
    let foreign = format!(r#"{{"iss":"{}","jti":"j2.x"}}"#, super::sessions::OTHER);
    assert_eq!(rig.invalidate(&foreign, TokenKind::Access).await, (0, 0, 0));
    let unasked = text(&format!(r#"{{"iss":"{MAIN}","azp":"unreachable"}}"#));
    let answer = rig.control.invalidate_token(&revoker(), "main", &unasked, TokenKind::Access).await;
    assert!(matches!(answer, Err(ControlError::Store(StoreError::Unavailable(_)))));
}

#[tokio::test]
async fn what_somebody_else_revoked_was_dead_before() {
    let rig = Rig::in_memory().await;
    rig.handed_out("s1", "ann", "one", 0).await;
    rig.handed_out("s2", "ann", "two", 0).await;
    rig.revoke(r#"{"session":"s1"}"#).await;
    assert_eq!(rig.access("one").await, (0, 1, 0));
    assert_eq!(rig.pairs(of_user("ann")).await, (2, 0, 0), "the ended session has nothing active");
}

#[tokio::test]
async fn every_pair_with_an_active_half_counts_with_both() {
    on_each_store(async |rig| {
        for n in 0..4_u64 {
            rig.handed_out(&format!("s{n}"), "ann", &format!("p{n}"), n).await;
        }
        rig.handed_out("bob", "bob", "bobs", 0).await;
        rig.access("p0").await;
        rig.refresh("p1").await;
        rig.access("p2").await;
        rig.refresh("p2").await;
        assert_eq!(rig.pairs(of_user("ann")).await, (4, 2, 0));
        for n in 0..4 {
            assert!(rig.is_dead(&format!("p{n}-access")).await && rig.is_dead(&format!("p{n}-refresh")).await);
        }
        assert!(!rig.is_dead("bobs-access").await);
        assert_eq!(rig.pairs(of_user("ann")).await, (0, 0, 0));
        assert_eq!(rig.pairs(of_user("nobody")).await, (0, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_session_has_a_pair_for_each_refresh_of_it() {
    let rig = Rig::in_memory().await;
    for n in 0..3_u64 {
        rig.handed_out("s", "ann", &format!("p{n}"), n).await;
    }
    // Two answers in one second.
    rig.handed_out("s", "ann", "again", 2).await;
    rig.access("p0").await;
    rig.refresh("p0").await;
    rig.access("p2").await;
    assert_eq!(rig.pairs(of_user("ann")).await, (5, 1, 0));
}

#[tokio::test]
async fn a_pair_counts_as_long_as_its_refresh_token_is_young() {
    let rig = Rig::in_memory().await;
    rig.handed_out("s1", "ann", "one", 0).await;
    rig.handed_out("s2", "ann", "two", HOUR).await;
    let key = SessionKey { issuer: MAIN.into(), id: "s3".into() };
    let told = SeenToken { expires_at: Some(at(48 * HOUR)), ..seen("known", TokenKind::Refresh, 0) };
    rig.learn(Session { username: Some("ann".into()), ..Session::new(key, NOW) }, vec![told]).await;
    rig.clock.advance(Duration::from_secs(24 * HOUR));
    assert_eq!(rig.pairs(of_user("ann")).await, (3, 0, 0), "the expired access token beside the young one counts");
}

#[tokio::test]
async fn a_pair_without_a_refresh_token_counts_once_and_not_after_it_expired() {
    let rig = Rig::in_memory().await;
    for (id, issued_after) in [("s1", 0), ("s2", 1_000)] {
        let key = SessionKey { issuer: MAIN.into(), id: id.into() };
        let session = Session { username: Some("ann".into()), ..Session::new(key, NOW) };
        rig.learn(session, vec![seen(id, TokenKind::Access, issued_after)]).await;
    }
    rig.clock.advance(Duration::from_secs(1_500));
    assert_eq!(rig.pairs(of_user("ann")).await, (1, 0, 0));
}

#[tokio::test]
async fn user_and_realm_must_both_fit_and_an_unknown_realm_is_the_issuers_name() {
    on_each_store(async |rig| {
        rig.handed_out_in("s1", "ann", Some("native"), "one", 0).await;
        rig.handed_out_in("s2", "ann", Some("ldap"), "two", 0).await;
        rig.handed_out_in("s3", "bob", Some("ldap"), "three", 0).await;
        rig.handed_out_in("s4", "bob", None, "four", 0).await;
        let within = |username, realm| Whose { issuer: "main", username, realm: Some(realm) };
        assert_eq!(rig.pairs(within(Some("ann"), "nowhere")).await, (0, 0, 0));
        assert_eq!(rig.pairs(within(Some("ann"), "ldap")).await, (2, 0, 0));
        assert!(!rig.is_dead("one-access").await && !rig.is_dead("three-access").await);
        assert_eq!(rig.pairs(within(None, "main")).await, (2, 0, 0));
        assert!(rig.is_dead("four-refresh").await && !rig.is_dead("three-access").await);
        assert_eq!(rig.pairs(within(None, "ldap")).await, (2, 0, 0));
        assert!(!rig.is_dead("one-access").await);
        let attempted = rig.trail().await.into_iter().filter(|record| record.result == "attempted");
        assert_eq!(attempted.count(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_username_dies_with_what_nobody_knows_and_logs_in_anew() {
    let rig = Rig::in_memory().await;
    assert_eq!(rig.pairs(of_user("ann")).await, (0, 0, 0));
    let unseen = |secs| Claims { username: Some("ann".into()), ..claims(secs) };
    assert!(rig.covers(&unseen(0)) && !rig.covers(&unseen(1)));
    assert!(!rig.covers(&Claims { username: Some("bob".into()), ..claims(0) }));
}

#[tokio::test]
async fn who_may_not_revoke_may_not_invalidate_and_is_written_down() {
    let rig = Rig::in_memory().await;
    rig.handed_out("s", "ann", "one", 0).await;
    let reader = caller([Right::SessionsRead]);
    let token = rig.control.invalidate_token(&reader, "main", &text("one-access"), TokenKind::Access).await;
    let pairs = rig.control.invalidate_pairs(&reader, of_user("ann")).await;
    assert!(matches!((token, pairs), (Err(ControlError::Forbidden(_)), Err(ControlError::Forbidden(_)))));
    assert!(rig.trail().await.iter().all(|record| record.result == "refused"));
    assert_eq!(rig.trail().await.len(), 2);
    assert!(!rig.is_dead("one-access").await);
}

#[tokio::test]
async fn what_fails_for_some_is_counted_and_what_fails_for_all_is_an_error() {
    let store = testing::open(Backend::Memory).await;
    let log = Arc::new(Flaky { log: store.log.clone(), failures: u32::MAX.into(), good: 1.into() });
    let rig = Rig::on(Store { log, ..store }, vec![issuer("main", MAIN)]).await;
    for n in 0..1_500 {
        rig.handed_out(&format!("s{n:04}"), "ann", &format!("p{n}"), 0).await;
    }
    let realm = Whose { issuer: "main", username: None, realm: Some("native") };
    let counts = rig.control.invalidate_pairs(&revoker(), realm).await.unwrap();
    assert_eq!((counted(&counts), counts.errors.len()), ((2_000, 0, 1_000), 100));
    rig.handed_out("more", "ann", "more", 1).await;
    let answer = rig.control.invalidate_pairs(&revoker(), realm).await;
    assert!(matches!(answer, Err(ControlError::Store(_))));
}
