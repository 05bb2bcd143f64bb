//! What a revocation does to the sessions that are known, and how they are shown.

use super::*;
use crate::domain::{Name, SeenToken, Session, SessionKey, SessionState};
use crate::sessions::{End, Ended, Revoker};
use crate::store::{Lesson, SessionPage, SessionQuery, SessionTable, SharedSessions, Sighting, SortKey};

pub(super) const OTHER: &str = "https://other.example";

pub(super) fn key(iss: &str, id: &str) -> SessionKey {
    SessionKey { issuer: iss.into(), id: id.into() }
}

/// A session of user `user`, begun now.
pub(super) fn session(id: &str, user: &str) -> Session {
    Session { user: Some(user.into()), ..Session::new(key(MAIN, id), NOW) }
}

pub(super) fn below(parent: &str, session: Session) -> Session {
    Session { parent: Some(parent.into()), ..session }
}

/// An access token in that session, of an issuer whose clock runs so many seconds ahead.
fn token_of(id: &str, ahead: u64) -> Claims {
    Claims { session: Some(id.into()), ..claims(ahead) }
}

impl Rig {
    pub(super) async fn two_issuers() -> Self {
        let facts = vec![issuer("main", MAIN), issuer("other", OTHER)];
        Self::on(testing::open(Backend::Memory).await, facts).await
    }

    pub(super) async fn knows(&self, sessions: impl IntoIterator<Item = Session>) {
        let sightings = sessions.into_iter().map(|session| Sighting { session, token: None }).collect();
        self.store.sessions.touch(sightings).await.unwrap();
    }

    pub(super) async fn found(&self, query: SessionQuery) -> SessionPage {
        let query = SessionQuery { now: self.clock.now(), sort: SortKey::Id, limit: 1_000, ..query };
        self.control.sessions(&caller([Right::SessionsRead]), query).await.unwrap()
    }

    pub(super) async fn active(&self) -> Vec<String> {
        let items = self.found(SessionQuery::default()).await.items;
        let active = items.into_iter().filter(|session| session.state(self.clock.now()) == SessionState::Active);
        active.map(|session| session.key.id.into()).collect()
    }
}

#[tokio::test]
async fn a_users_known_sessions_end_by_name_however_far_the_issuers_clock_runs_ahead() {
    on_each_store(async |rig| {
        rig.knows([session("s1", "a"), session("s2", "a"), session("s3", "b")]).await;
        assert!(!rig.covers(&token_of("s1", 3_600)));
        let forecast = rig.control.forecast(&revoker(), about(r#"{"user":"a"}"#)).await.unwrap();
        let command = Revoke { reason: Some("lost".into()), ..about(r#"{"user":"a"}"#) };
        let receipt = rig.control.revoke(&revoker(), command).await.unwrap();
        assert_eq!((forecast.sessions, receipt.sessions), (2, 2));
        assert!(rig.covers(&token_of("s1", 3_600)) && rig.covers(&token_of("s2", 3_600)));
        let other = Claims { user: Some("b".into()), ..token_of("s3", 0) };
        assert!(!rig.covers(&other));
        assert!(receipt.position >= held(&receipt).position);
        assert_eq!(rig.active().await, ["s3"]);
        let named: Vec<_> = rig.trail().await.into_iter().map(|record| (record.subject, record.result)).collect();
        assert_eq!(named.len(), 3, "{named:?}");
        let subject = r#"{"issuer":"https://id.example","session":"s1"}"#.to_owned();
        assert!(named.contains(&(subject, "created".to_owned())), "{named:?}");
        assert!(rig.trail().await.iter().all(|record| record.reason.as_deref() == Some("lost")));
        assert_eq!(rig.revoke(r#"{"user":"a"}"#).await.sessions, 0, "they had ended already");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_began_after_the_cutoff_goes_on() {
    let rig = Rig::in_memory().await;
    let later = Session { created_at: NOW.after(Duration::from_secs(10)), ..session("later", "a") };
    rig.knows([session("s1", "a"), later]).await;
    assert_eq!(rig.revoke(r#"{"user":"a"}"#).await.sessions, 1);
    assert_eq!(rig.active().await, ["later"]);
    let early = Revoke { cutoff: Some(NOW.before(Duration::from_secs(1))), ..about(r#"{"user":"a"}"#) };
    assert_eq!(rig.control.revoke(&revoker(), early).await.unwrap().sessions, 0);
}

#[tokio::test]
async fn only_what_ends_whole_logins_names_sessions() {
    let rig = Rig::in_memory().await;
    let expired = Session { expires_at: Some(NOW), ..session("expired", "a") };
    rig.knows([session("s1", "a"), expired]).await;
    let refresh = Revoke { reach: Some(Reach::from_iter([TokenKind::Refresh])), ..about(r#"{"user":"a"}"#) };
    assert_eq!(rig.control.revoke(&revoker(), refresh).await.unwrap().sessions, 0);
    assert_eq!(rig.revoke(r#"{"user":"a","claim:device":"d"}"#).await.sessions, 0);
    assert!(!rig.covers(&token_of("s1", 3_600)));
    assert_eq!(rig.revoke(r#"{"user":"a"}"#).await.sessions, 1, "not the expired one");
}

#[tokio::test]
async fn a_ban_ends_the_sessions_and_what_was_opened_from_them_until_it_is_lifted() {
    let rig = Rig::in_memory().await;
    let child = Session { parent: Some("s1".into()), ..session("s2", "b") };
    rig.knows([session("s1", "a"), child]).await;
    let receipt = rig.control.revoke(&admin(), Revoke { block: true, ..about(r#"{"user":"a"}"#) }).await.unwrap();
    assert_eq!(receipt.sessions, 2);
    assert!(rig.active().await.is_empty());
    rig.control.lift(&admin(), held(&receipt).revocation.id, None).await.unwrap();
    assert_eq!(rig.active().await, ["s1", "s2"]);
}

#[tokio::test]
async fn a_lift_lifts_what_was_named_with_it_and_nothing_that_was_asked_for_by_itself() {
    let rig = Rig::in_memory().await;
    rig.knows([session("s1", "a"), session("s2", "a"), Session { parent: Some("s1".into()), ..session("s3", "b") }])
        .await;
    let first = rig.revoke(r#"{"user":"a"}"#).await;
    assert_eq!(first.sessions, 3);
    rig.revoke(r#"{"session":"s2"}"#).await;
    let lifted = rig.control.lift(&admin(), held(&first).revocation.id, None).await.unwrap();
    assert_eq!(lifted.sessions, 2);
    assert!(!rig.covers(&token_of("s1", 0)) && rig.covers(&token_of("s2", 0)) && !rig.covers(&token_of("s3", 0)));
    assert_eq!(rig.active().await, ["s1", "s3"]);
}

#[tokio::test]
async fn what_a_later_revocation_names_again_is_lifted_with_that_one() {
    let rig = Rig::in_memory().await;
    rig.knows([session("s1", "a")]).await;
    let first = rig.revoke(r#"{"user":"a"}"#).await;
    rig.clock.advance(std::time::Duration::from_secs(5));
    let second = rig.revoke(r#"{"user":"a"}"#).await;
    rig.control.lift(&admin(), held(&first).revocation.id, None).await.unwrap();
    assert!(rig.covers(&token_of("s1", 0)), "the first says nothing any more");
    rig.control.lift(&admin(), held(&second).revocation.id, None).await.unwrap();
    assert!(!rig.covers(&token_of("s1", 0)));
}

#[tokio::test]
async fn of_one_client_no_more_of_a_session_ends_than_that_clients_tokens() {
    let rig = Rig::in_memory().await;
    rig.knows([Session { client: Some("web".into()), ..session("s1", "a") }]).await;
    assert_eq!(rig.revoke(r#"{"user":"a","client":"web"}"#).await.sessions, 1);
    assert!(rig.covers(&token_of("s1", 3_600)));
    assert!(!rig.covers(&Claims { client: Some("app".into()), ..token_of("s1", 0) }), "another client's token");
}

#[tokio::test]
async fn a_username_ends_sessions_of_every_issuer() {
    let rig = Rig::two_issuers().await;
    let named = |iss: &str| Session { username: Some("ann".into()), ..Session::new(key(iss, "s1"), NOW) };
    rig.knows([named(MAIN), named(OTHER)]).await;
    assert_eq!(rig.revoke(r#"{"username":"ann"}"#).await.sessions, 2);
    assert!(rig.covers(&Claims { issuer: OTHER.into(), ..token_of("s1", 3_600) }));
}

#[tokio::test]
async fn what_was_opened_from_a_session_ends_with_it() {
    on_each_store(async |rig| {
        let family = [below("s1", session("s2", "a")), below("s2", session("s3", "a")), below("x", session("s4", "a"))];
        rig.knows(std::iter::once(session("s1", "a")).chain(family)).await;
        assert_eq!(rig.control.forecast(&revoker(), about(r#"{"session":"s1"}"#)).await.unwrap().sessions, 3);
        let receipt = rig.control.end_session(&revoker(), None, "s1", Some("over".into())).await.unwrap();
        assert_eq!(receipt.sessions, 3);
        assert!(rig.covers(&token_of("s3", 9)) && !rig.covers(&token_of("s4", 9)));
        assert_eq!(rig.active().await, ["s4"]);
        let again = rig.control.end_session(&revoker(), None, "s1", None).await.unwrap();
        assert_eq!((again.sessions, matches!(again.disposition, Disposition::Already(_))), (0, true));
    })
    .await;
}

#[tokio::test]
async fn a_user_with_thousands_of_sessions_loses_them_all() {
    let rig = Rig::in_memory().await;
    rig.knows((0..2_500).map(|n| session(&format!("s{n}"), "a"))).await;
    assert_eq!(rig.revoke(r#"{"user":"a"}"#).await.sessions, 2_500);
    assert!((0..2_500).all(|n| rig.covers(&token_of(&format!("s{n}"), 3_600))));
}

#[tokio::test]
async fn many_users_at_once_are_each_told_how_many_sessions_ended() {
    let rig = Rig::in_memory().await;
    rig.knows([session("s1", "a"), session("s2", "b"), session("s3", "b")]).await;
    let commands = ["a", "b", "c"].map(|user| about(&format!(r#"{{"user":"{user}"}}"#)));
    let answers = rig.control.revoke_all(&admin(), commands.into()).await;
    let ended: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().sessions).collect();
    assert_eq!(ended, [1, 2, 0]);
}

#[tokio::test]
async fn a_session_is_kept_in_mind_until_its_last_token_has_expired() {
    let rig = Rig::in_memory().await;
    let far = NOW.after(DAY * 90);
    rig.knows([Session { expires_at: Some(far), ..session("s1", "a") }, session("s2", "a")]).await;
    let margin = LEEWAY + Duration::from_secs(1);
    let receipt = rig.control.end_session(&revoker(), None, "s1", None).await.unwrap();
    assert_eq!(held(&receipt).revocation.expires_at, Some(far.after(margin)));
    let receipt = rig.control.end_session(&revoker(), None, "s2", None).await.unwrap();
    assert_eq!(held(&receipt).revocation.expires_at, Some(NOW.after(DAY + margin)));
    rig.knows([Session { expires_at: Some(far), ..session("s3", "a") }]).await;
    rig.revoke(r#"{"user":"a"}"#).await;
    rig.clock.advance(DAY * 89);
    assert!(rig.covers(&token_of("s3", 3_600)));
}

#[tokio::test]
async fn ending_a_session_that_nobody_knows_is_done_all_the_same() {
    let rig = Rig::in_memory().await;
    let receipt = rig.control.end_session(&revoker(), Some("main"), "unseen", None).await.unwrap();
    assert_eq!(receipt.sessions, 0);
    assert!(rig.covers(&token_of("unseen", 0)));
    let refusal = rig.control.end_session(&revoker(), Some("mian"), "unseen", None).await.unwrap_err();
    assert!(matches!(refusal, ControlError::Invalid(_)));
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_told_as_such_and_dead_all_the_same() {
    let rig = Rig::two_issuers().await;
    rig.knows([session("s1", "a")]).await;
    let end = async |issuer, id| rig.control.end_known_session(&revoker(), issuer, id, None).await;
    for (issuer, id) in [("main", "s2"), ("other", "s1")] {
        assert!(matches!(end(issuer, id).await, Err(ControlError::NoSession)), "{issuer} {id}");
    }
    assert!(rig.covers(&token_of("s2", 0)), "traffic may tell of it in a moment");
    assert_eq!(end("main", "s1").await.unwrap().sessions, 1);
    assert!(rig.covers(&token_of("s1", 0)));
    assert!(matches!(end("main", "s1").await.unwrap().disposition, Disposition::Already(_)), "it is remembered");
    let reader = caller([Right::SessionsRead]);
    let refusal = rig.control.end_known_session(&reader, "main", "nowhere", None).await;
    assert!(matches!(refusal, Err(ControlError::Forbidden(_))), "whether it is there is nobody's business");
}

/// An issuer whose session ids are UUIDs: every spelling is the id that its tokens bear. Elsewhere ids are texts.
#[tokio::test]
async fn a_uuid_names_its_session_in_any_spelling() {
    const UUID: &str = "f47ac10b58cc4372a5670e02b2c3d479";
    const DASHED: &str = "F47AC10B-58CC-4372-A567-0E02B2C3D479";
    let main = IssuerFacts { uuid_sessions: true, ..issuer("main", MAIN) };
    let facts = vec![main, issuer("other", OTHER)];
    for way in 0..4 {
        let rig = Rig::on(testing::open(Backend::Memory).await, facts.clone()).await;
        rig.knows([session(UUID, "a")]).await;
        let shown = rig.control.session(&caller([Right::SessionsRead]), None, DASHED).await.unwrap();
        assert_eq!(&*shown.session.key.id, UUID);
        match way {
            0 => rig.control.end_session(&revoker(), None, DASHED, None).await.unwrap(),
            1 => rig.control.end_known_session(&revoker(), MAIN, DASHED, None).await.unwrap(),
            2 => rig.revoke(&format!(r#"{{"issuer":"main","session":"{DASHED}"}}"#)).await,
            _ => {
                let claims = Claims { user: Some("a".into()), ..token_of("another", 0) };
                rig.control.end_own(&revoker(), &claims, DASHED, None).await.unwrap()
            }
        };
        assert!(rig.covers(&token_of(UUID, 0)), "{way}");
        let elsewhere = rig.control.end_session(&revoker(), Some("other"), DASHED, None).await.unwrap();
        let selector = &held(&elsewhere).revocation.selector;
        assert_eq!(selector.value(&Name::Session), Some(DASHED), "an id of letters is that text");
    }
}

#[tokio::test]
async fn the_issuer_may_be_left_out_where_it_can_be_told() {
    let rig = Rig::two_issuers().await;
    rig.knows([session("s1", "a"), session("both", "b")]).await;
    rig.knows([Session { user: Some("b".into()), ..Session::new(key(OTHER, "both"), NOW) }]).await;
    let reader = caller([Right::SessionsRead]);
    assert_eq!(rig.control.session(&reader, None, "s1").await.unwrap().session.key, key(MAIN, "s1"));
    let several = rig.control.session(&reader, None, "both").await.unwrap_err();
    assert!(matches!(&several, ControlError::Invalid(text) if text.contains("main, other")), "{several}");
    assert_eq!(rig.control.session(&reader, Some("other"), "both").await.unwrap().session.key, key(OTHER, "both"));
    assert!(matches!(rig.control.session(&reader, None, "none").await, Err(ControlError::NoSession)));
    assert!(matches!(rig.control.session(&reader, Some("other"), "s1").await, Err(ControlError::NoSession)));
    assert!(matches!(rig.control.end_session(&revoker(), None, "none", None).await, Err(ControlError::Invalid(_))));
    assert!(matches!(rig.control.end_user(&revoker(), None, "b", None).await, Err(ControlError::Invalid(_))));
    assert_eq!(rig.control.end_user(&revoker(), None, "a", None).await.unwrap().sessions, 1);
    let query = || SessionQuery { now: NOW, limit: 10, ..SessionQuery::default() };
    let of = async |issuer| rig.control.user_sessions(&reader, issuer, "b".to_owned(), query()).await;
    assert!(matches!(of(None).await, Err(ControlError::Invalid(_))));
    assert_eq!(of(Some("other")).await.unwrap().total, 1);
}

#[tokio::test]
async fn a_sweeping_revocation_shows_on_the_sessions_it_covers() {
    let rig = Rig::in_memory().await;
    let token = SeenToken {
        digest: TokenDigest::new([9; 32]),
        token_id: Some("t1".into()),
        kind: TokenKind::Access,
        issued_at: Some(NOW),
        expires_at: Some(NOW.after(DAY)),
        generation: None,
    };
    let old = SeenToken { token_id: Some("t0".into()), expires_at: Some(NOW), ..token.clone() };
    let old = SeenToken { digest: TokenDigest::new([8; 32]), ..old };
    let lesson = |tokens| Lesson { session: session("s1", "a"), family: "f1".into(), tokens, redeemed: None };
    rig.store.sessions.learn(lesson(vec![token, old])).await.unwrap();
    let reader = caller([Right::SessionsRead]);
    let states = async || {
        let shown = rig.control.session(&reader, None, "s1").await.unwrap();
        let tokens = shown.tokens.iter().map(|(token, state)| (token.token_id.clone().unwrap(), *state));
        (shown.session.ended, tokens.collect::<BTreeMap<_, _>>())
    };
    let (ended, tokens) = states().await;
    assert_eq!(ended, None);
    assert_eq!(tokens, BTreeMap::from([("t1".into(), SessionState::Active), ("t0".into(), SessionState::Expired)]));
    let token = rig.revoke(r#"{"token_id":"t1"}"#).await;
    assert_eq!(states().await.1.get("t1"), Some(&SessionState::Revoked));
    rig.control.lift(&admin(), held(&token).revocation.id, None).await.unwrap();
    let sweep = rig.revoke(r#"{"issuer":"main","claim:none":"x"}"#).await;
    assert_eq!(states().await.0, None, "{sweep:?}");
    let sweep = rig.revoke(r#"{"issuer":"main"}"#).await;
    let (ended, tokens) = states().await;
    assert_eq!(ended.unwrap().revocation, held(&sweep).revocation.id);
    assert_eq!(tokens.get("t1"), Some(&SessionState::Revoked));
    assert!(rig.active().await.is_empty());
}

#[tokio::test]
async fn sessions_are_for_those_with_the_right_and_refusals_are_kept() {
    let rig = Rig::in_memory().await;
    rig.knows([session("s1", "a")]).await;
    let reader = caller([Right::SessionsRead]);
    let refusals = [
        rig.control.sessions(&revoker(), SessionQuery::default()).await.err(),
        rig.control.session(&revoker(), None, "s1").await.err(),
        rig.control.user_sessions(&revoker(), None, "a".into(), SessionQuery::default()).await.err(),
        rig.control.end_session(&reader, None, "s1", None).await.err(),
        rig.control.end_user(&reader, None, "a", None).await.err(),
    ];
    assert!(refusals.iter().all(|refusal| matches!(refusal, Some(ControlError::Forbidden(_)))), "{refusals:?}");
    assert_eq!(rig.trail().await.len(), refusals.len());
    assert_eq!(rig.active().await, ["s1"]);
}

#[tokio::test]
async fn what_the_rules_end_is_ended_in_our_own_name() {
    let rig = Rig::in_memory().await;
    rig.knows([session("s1", "a"), below("s1", session("s2", "a"))]).await;
    let end = |what| End { issuer: MAIN.into(), what, reason: "reuse", address: "192.0.2.9".parse().ok() };
    let revoker: Arc<dyn Revoker> = rig.control.clone();
    revoker.end(end(Ended::Family("f1".into()))).await.unwrap();
    assert!(rig.covers(&Claims { family: Some("f1".into()), ..token_of("s9", 0) }));
    revoker.end(end(Ended::Session("s1".into()))).await.unwrap();
    assert!(rig.covers(&token_of("s2", 0)));
    let trail = rig.trail().await;
    assert_eq!(trail.len(), 3);
    let told = |record: &AuditRecord| record.actor == "portcullis" && record.address == "192.0.2.9";
    assert!(trail.iter().all(|record| told(record) && record.reason.as_deref() == Some("reuse")), "{trail:?}");
    let gone = End { issuer: "https://gone.example".into(), ..end(Ended::Session("s1".into())) };
    assert!(matches!(revoker.end(gone).await, Err(StoreError::Unusable(..))));
}

/// An inventory that cannot be read.
#[derive(Debug)]
struct Unreadable(SharedSessions);

#[async_trait]
impl SessionTable for Unreadable {
    async fn learn(&self, lesson: Lesson) -> Result<crate::store::Learned, StoreError> {
        self.0.learn(lesson).await
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<crate::store::KnownToken>, StoreError> {
        self.0.known(digest).await
    }

    async fn claim(&self, claim: crate::store::Claim) -> Result<crate::store::Claimed, StoreError> {
        self.0.claim(claim).await
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.0.release(digest).await
    }

    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        self.0.touch(sightings).await
    }

    async fn sessions(&self, _: &SessionQuery) -> Result<SessionPage, StoreError> {
        Err(StoreError::Unavailable("gone".into()))
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<crate::store::SessionRecord>, StoreError> {
        self.0.session(key).await
    }

    async fn tokens(
        &self,
        _: &SessionKey,
        _: Option<&SeenToken>,
    ) -> Result<Vec<crate::store::SessionToken>, StoreError> {
        Err(StoreError::Unavailable("gone".into()))
    }

    async fn descendants(&self, _: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        Err(StoreError::Unavailable("gone".into()))
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.0.tidy(now).await
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        self.0.prolong(until).await
    }
}

#[tokio::test]
async fn sessions_that_cannot_be_read_are_never_answered_with_success() {
    let store = testing::open(Backend::Memory).await;
    let sessions = Arc::new(Unreadable(store.sessions.clone()));
    let rig = Rig::on(Store { sessions, ..store }, vec![issuer("main", MAIN)]).await;
    for selector in [r#"{"user":"a"}"#, r#"{"session":"s1"}"#] {
        let answer = rig.control.revoke(&revoker(), about(selector)).await;
        assert!(matches!(answer, Err(ControlError::Store(StoreError::Unavailable(_)))), "{selector}");
    }
    assert!(rig.covers(&claims(0)), "what was stored stands");
    let answers = rig.control.revoke_all(&admin(), vec![about(r#"{"user":"b"}"#)]).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(ControlError::Store(_)))));
    let token = command(Target::Token(token(&format!(r#"{{"iss":"{MAIN}","jti":"x"}}"#))));
    assert!(rig.control.revoke(&revoker(), token).await.is_ok(), "a token is no session");
}

#[tokio::test]
async fn a_session_learned_in_the_moment_of_the_revocation_is_dead_too() {
    let rig = Rig::in_memory().await;
    for round in 0..200 {
        let (user, id) = (format!("u{round}"), format!("s{round}"));
        let control = rig.control.clone();
        let selector = format!(r#"{{"user":"{user}"}}"#);
        let revoking = tokio::spawn(async move { control.revoke(&revoker(), about(&selector)).await.unwrap() });
        rig.knows([session(&id, &user)]).await;
        revoking.await.unwrap();
        assert!(rig.covers(&Claims { user: Some(user.into()), ..token_of(&id, 0) }));
    }
}
