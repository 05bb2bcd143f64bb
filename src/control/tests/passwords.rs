//! Who gets a password for a session, and until when; and that it dies with everything its token dies with.

use super::sessions::session;
use super::*;
use crate::domain::Session;

const EIGHT_HOURS: Duration = Duration::from_secs(8 * 3_600);

/// Alice, in session `s1`, with no right at all.
fn alice() -> (Caller, Claims) {
    (Caller { name: "a@main".into(), ..caller([]) }, claims(0))
}

/// Whose the password is, as the gate would learn it.
async fn password_of(rig: &Rig, claims: &Claims) -> Arc<Claims> {
    let issued = rig.control.session_password(&alice().0, claims).await.unwrap();
    let found = rig.control.passwords().verify(&issued.username, issued.expose()).await.unwrap();
    assert_eq!(found.expires_at, Some(issued.expires_at));
    found
}

#[tokio::test]
async fn a_password_is_given_noted_and_kept_from_the_trail() {
    on_each_store(async |rig| {
        let (caller, claims) = alice();
        let issued = rig.control.session_password(&caller, &claims).await.unwrap();
        assert_eq!((&*issued.username, issued.expires_at), ("a", NOW.after(EIGHT_HOURS)));
        let trail = rig.trail().await;
        let [record] = &*trail else { panic!("{trail:?}") };
        assert_eq!((&*record.action, &*record.result, &*record.actor), ("session_password", "created", "a@main"));
        assert_eq!(record.subject, format!(r#"{{"issuer":"{MAIN}","session":"s1"}}"#));
        assert!(!format!("{trail:?}").contains(issued.expose()));
    })
    .await;
}

#[tokio::test]
async fn it_lasts_no_longer_than_the_session_nor_than_a_token_may_live() {
    let rig = Rig::in_memory().await;
    let hour = NOW.after(Duration::from_secs(3_600));
    rig.knows([Session { expires_at: Some(hour), ..session("s1", "a") }]).await;
    assert_eq!(password_of(&rig, &claims(0)).await.expires_at, Some(hour));
    let unknown = Claims { session: Some("s2".into()), ..claims(0) };
    let old = Claims { issued_at: Some(NOW.before(DAY - Duration::from_secs(60))), ..unknown.clone() };
    assert_eq!(password_of(&rig, &old).await.expires_at, Some(NOW.after(Duration::from_secs(60))));
    let ahead = Claims { issued_at: Some(NOW.after(LEEWAY)), ..unknown };
    assert_eq!(password_of(&rig, &ahead).await.expires_at, Some(NOW.after(EIGHT_HOURS)));
}

#[tokio::test]
async fn it_dies_with_whatever_its_token_dies_with() {
    for selector in [
        r#"{"session":"s1"}"#,
        r#"{"user":"a"}"#,
        r#"{"issuer":"main"}"#,
        r#"{"issuer":"main","client":"web"}"#,
        r#"{"token_id":"t1"}"#,
        r#"{"claim:device_id":"phone"}"#,
    ] {
        let rig = Rig::in_memory().await;
        let own = Claims { other: [("device_id".into(), ["phone".into()].into())].into(), ..claims(0) };
        let (password, bob) = (password_of(&rig, &own).await, Claims { session: Some("b1".into()), ..claims(0) });
        let bob = Claims { user: Some("b".into()), client: None, token_id: None, ..bob };
        let other = password_of(&rig, &bob).await;
        assert!(!rig.covers(&password));
        rig.revoke(selector).await;
        assert!(rig.covers(&password), "{selector}");
        assert_eq!(rig.covers(&other), selector == r#"{"issuer":"main"}"#, "{selector}");
    }
}

#[tokio::test]
async fn a_revocation_is_remembered_until_the_password_is_over() {
    for age in [0, 3_600, 80_000] {
        let rig = Rig::in_memory().await;
        let own = Claims { issued_at: Some(NOW.before(Duration::from_secs(age))), ..claims(0) };
        let password = password_of(&rig, &own).await;
        for selector in [r#"{"session":"s1"}"#, r#"{"user":"a"}"#] {
            let receipt = rig.revoke(selector).await;
            let kept = held(&receipt).revocation.expires_at.unwrap();
            assert!(password.expires_at.unwrap() <= kept, "{selector} {age}");
        }
    }
}

#[tokio::test]
async fn who_has_no_session_any_more_gets_none() {
    let rig = Rig::in_memory().await;
    let (caller, claims) = alice();
    let nameless = Claims { session: None, ..claims.clone() };
    let refusal = rig.control.session_password(&caller, &nameless).await;
    assert!(matches!(refusal, Err(ControlError::Invalid(_))), "{refusal:?}");
    let over = Session { expires_at: Some(NOW), ..session("s9", "a") };
    rig.knows([over]).await;
    let refusal = rig.control.session_password(&caller, &Claims { session: Some("s9".into()), ..claims.clone() }).await;
    assert!(matches!(refusal, Err(ControlError::NoSession)), "{refusal:?}");
    rig.revoke(r#"{"session":"s1"}"#).await;
    let refusal = rig.control.session_password(&caller, &claims).await;
    assert!(matches!(refusal, Err(ControlError::Token(Denial::Revoked))), "{refusal:?}");
    let foreign = Claims { issuer: "https://gone.example".into(), ..claims };
    assert!(matches!(rig.control.session_password(&caller, &foreign).await, Err(ControlError::Invalid(_))));
    assert!(rig.trail().await.iter().all(|record| record.action == "revoke"));
}

#[tokio::test]
async fn of_several_logins_it_stands_for_one_that_goes_on() {
    let rig = Rig::in_memory().await;
    let (caller, _) = alice();
    let twin = Claims { session: Some("s2".into()), token_id: None, ..claims(0) };
    let both = Claims { token_id: None, twins: [Arc::new(twin)].into(), ..claims(0) };
    rig.revoke(r#"{"session":"s1"}"#).await;
    let password = password_of(&rig, &both).await;
    assert_eq!((password.session.as_deref(), password.twins.len()), (Some("s2"), 0));
    rig.revoke(r#"{"session":"s2"}"#).await;
    assert!(rig.covers(&password));
    let refusal = rig.control.session_password(&caller, &both).await;
    assert!(matches!(refusal, Err(ControlError::Token(Denial::Revoked))), "{refusal:?}");
}
