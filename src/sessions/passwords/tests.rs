//! From a session to a password and back, and everything that is no password.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::domain::TokenDigest;
use crate::store::testing::{NOW, open};
use crate::store::{Backend, Store};

fn claims(session: &str) -> Claims {
    let mut claims = Claims::bare("https://id.example".into(), TokenKind::Access, TokenDigest::new([1; 32]));
    let text = |text: &str| Some(text.into());
    (claims.session, claims.user, claims.username) = (text(session), text("u1"), text("ann"));
    (claims.token_id, claims.issued_at) = (text("t1"), Some(NOW));
    (claims.expires_at, claims.scopes) = (Some(later(300)), ["read".into()].into());
    claims
}

fn later(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

struct Rig {
    passwords: Arc<Passwords>,
    store: Store,
    clock: Arc<ManualClock>,
}

async fn rig() -> Rig {
    let (store, clock) = (open(Backend::Memory).await, ManualClock::at(NOW));
    let passwords = Passwords::new(store.passwords.clone(), clock.clone(), PasswordSettings::default());
    Rig { passwords, store, clock }
}

impl Rig {
    async fn issue(&self) -> IssuedPassword {
        self.passwords.issue(&claims("s1"), None).await.unwrap()
    }

    async fn is_refused(&self, username: &str, password: &str) -> bool {
        match self.passwords.verify(username, password).await {
            Ok(_) => false,
            Err(error) => matches!(*error, PasswordError::Refused) || panic!("{error}"),
        }
    }
}

/// The password with its last secret letter changed.
fn changed(password: &str) -> String {
    let last = if password.ends_with('A') { "E" } else { "A" };
    // Of the last letter all bits count: 36 bytes are 48 letters.
    format!("{}{last}", &password[..password.len() - 1])
}

#[tokio::test]
async fn a_password_is_its_sessions_with_the_claims_of_the_token_it_was_got_with() {
    let rig = rig().await;
    let issued = rig.issue().await;
    assert_eq!((&*issued.username, issued.expires_at), ("ann", later(8 * 3_600)));
    for _ in 0..2 {
        let found = rig.passwords.verify("ann", issued.expose()).await.unwrap();
        let own = Claims { expires_at: claims("s1").expires_at, ..(*found).clone() };
        assert_eq!((own, found.expires_at), (claims("s1"), Some(issued.expires_at)));
    }
}

#[tokio::test]
async fn nothing_but_the_pair_that_was_given_is_good() {
    let rig = rig().await;
    let (issued, other) = (rig.issue().await, rig.issue().await);
    let secret = issued.expose();
    let mixed = format!("{}{}", &secret[..16], &other.expose()[16..]);
    for (username, password) in [
        ("ann", changed(secret).as_str()),
        ("ann", &mixed),
        ("Ann", secret),
        ("u1", secret),
        ("", secret),
        ("ann", ""),
        ("ann", &secret[..47]),
        ("ann", &format!("{secret}=")),
        ("ann", &format!("{secret}AAAA")),
    ] {
        assert!(rig.is_refused(username, password).await, "{username}:{password}");
    }
    assert!(rig.is_refused("ann", "not-a-password").await);
}

#[tokio::test]
async fn guesses_at_one_password_are_few_and_cost_others_nothing() {
    let rig = rig().await;
    let (issued, other, known) = (rig.issue().await, rig.issue().await, rig.issue().await);
    assert!(rig.passwords.verify("ann", known.expose()).await.is_ok());
    for secret in [&issued, &known] {
        for _ in 0..5 {
            assert!(rig.is_refused("ann", &changed(secret.expose())).await);
        }
    }
    assert!(rig.is_refused("ann", issued.expose()).await, "not even the right one is looked at now");
    assert!(rig.passwords.verify("ann", other.expose()).await.is_ok());
    assert!(rig.passwords.verify("ann", known.expose()).await.is_ok(), "who is known already goes on");
}

#[tokio::test]
async fn a_password_ends_with_its_time_also_when_it_is_remembered() {
    let rig = rig().await;
    let issued = rig.passwords.issue(&claims("s1"), Some(later(60))).await.unwrap();
    let unseen = rig.passwords.issue(&claims("s1"), Some(later(60))).await.unwrap();
    assert!(rig.passwords.verify("ann", issued.expose()).await.is_ok());
    rig.clock.advance(Duration::from_secs(59));
    assert!(rig.passwords.verify("ann", issued.expose()).await.is_ok());
    rig.clock.advance(Duration::from_secs(1));
    assert!(rig.is_refused("ann", issued.expose()).await && rig.is_refused("ann", unseen.expose()).await);
    let over = rig.passwords.issue(&claims("s1"), Some(later(60))).await;
    assert!(matches!(over, Err(PasswordError::Over)));
}

#[tokio::test]
async fn the_configured_time_is_that_of_the_next_password() {
    let rig = rig().await;
    rig.passwords.configure(PasswordSettings { ttl: Duration::from_secs(90) });
    assert_eq!(rig.issue().await.expires_at, later(90));
}

#[tokio::test]
async fn another_process_over_the_same_store_knows_it_and_the_store_does_not() {
    let rig = rig().await;
    let issued = rig.issue().await;
    let again = Passwords::new(rig.store.passwords.clone(), rig.clock.clone(), PasswordSettings::default());
    assert_eq!(again.verify("ann", issued.expose()).await.unwrap().session.as_deref(), Some("s1"));
    let id = secret::id_of(issued.expose()).unwrap();
    let kept = rig.store.passwords.password(id).await.unwrap().unwrap();
    assert!(kept.phc.starts_with("$argon2id$") && !kept.phc.contains(issued.expose()), "{}", kept.phc);
}

#[tokio::test]
async fn many_requests_at_once_share_a_check() {
    let rig = rig().await;
    let issued = rig.issue().await;
    let (username, secret): (Arc<str>, Arc<str>) = ("ann".into(), issued.expose().into());
    let asking = (0..50).map(|_| {
        let (passwords, username, secret) = (rig.passwords.clone(), username.clone(), secret.clone());
        tokio::spawn(async move { passwords.verify(&username, &secret).await.is_ok() })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert!(asked.await.unwrap(), "more than five of them would have been guesses too many");
    }
}

#[tokio::test]
async fn a_closed_store_is_nobodys_refusal() {
    let rig = rig().await;
    let issued = rig.issue().await;
    rig.store.close().await;
    let error = rig.passwords.verify("ann", issued.expose()).await.unwrap_err();
    assert!(matches!(*error, PasswordError::Store(_)), "{error}");
}

#[test]
fn a_username_can_be_sent() {
    let named = |username: &str, user: &str| {
        let claims = Claims { username: Some(username.into()), user: Some(user.into()), ..claims("s1") };
        super::username(&claims).to_owned()
    };
    assert_eq!(named("Łukasz Ø", "u1"), "Łukasz Ø");
    assert_eq!(named("urn:user:1", "u1"), "u1");
    assert_eq!(named("a\nb", "x:y"), FALLBACK_USERNAME);
    assert_eq!(named(&"x".repeat(257), ""), FALLBACK_USERNAME);
}

proptest! {
    #[test]
    fn no_two_pairs_look_alike(
        one in ("[a-c]{0,3}", "[a-c:]{0,3}"),
        other in ("[a-c]{0,3}", "[a-c:]{0,3}"),
    ) {
        prop_assert_eq!(fingerprint(&one.0, &one.1) == fingerprint(&other.0, &other.1), one == other);
    }
}
