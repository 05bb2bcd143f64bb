//! The life of tokens at a token endpoint, as it is written down: handed out, redeemed, repeated, reused.
//!
//! What is written is written before the answer goes out, with the store's promise: it survives a crash, and every replica
//! knows it. A refresh token is claimed before it goes to the upstream, and is used up in the very transaction that learns
//! its successor and keeps the answer, sealed. So there is no moment in which a crash leaves a successor handed out and its
//! predecessor good, or the predecessor used up here and the answer lost that its client never got. What the upstream has
//! used up before we knew of its answer is the upstream's to forgive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::SharedClock;
use crate::domain::{BearerToken, SessionKey};
use crate::sessions::bindings::Bindings;
use crate::sessions::limit::Limits;
use crate::sessions::{End, Ended, Revoker, seal};
use crate::store::{Backoff, Claim, Claimed, Learned, Lesson, Redeemed, SharedSessions, StoreError};

/// How often a write is tried before we give up: the tokens are handed out already, by then only to us.
const ATTEMPTS: u32 = 6;

/// What is written down of tokens.
pub struct Book {
    table: SharedSessions,
    bindings: Arc<Bindings>,
    revoker: Arc<dyn Revoker>,
    limits: Arc<Limits>,
    clock: SharedClock,
}

/// What a claimed refresh token is good for.
#[derive(Debug)]
pub enum Turn {
    /// It goes to the upstream.
    Granted,
    /// The same client redeemed it a moment ago; this is the answer it got.
    Repeated(Vec<u8>),
    /// It was used up: its family has to end.
    Reused,
    /// Another text that says the same is being redeemed just now.
    Contended,
    /// It is somebody's rewriting of a token that was redeemed.
    Forged,
}

impl Book {
    /// A book kept in `table`. What is learned is looked up anew in `bindings`.
    #[must_use]
    pub fn new(
        table: SharedSessions,
        bindings: Arc<Bindings>,
        revoker: Arc<dyn Revoker>,
        limits: Arc<Limits>,
        clock: SharedClock,
    ) -> Arc<Self> {
        Arc::new(Self { table, bindings, revoker, limits, clock })
    }

    /// Takes a refresh token to be redeemed.
    ///
    /// # Errors
    ///
    /// The store's; nobody may redeem it then.
    pub async fn claim(&self, token: &BearerToken, claim: Claim) -> Result<Turn, StoreError> {
        Ok(match self.table.claim(claim).await? {
            Claimed::Granted => Turn::Granted,
            // What does not open was sealed with another text that says the same.
            Claimed::Repeated(sealed) => seal::open(token, &sealed).map_or(Turn::Forged, Turn::Repeated),
            Claimed::Reused => Turn::Reused,
            Claimed::Contended => Turn::Contended,
            Claimed::Forged => Turn::Forged,
        })
    }

    /// Lets go of a refresh token that the upstream did not redeem. A failure is logged and forgiven: the same client may
    /// claim it again in any case.
    pub async fn release(&self, claim: &Claim) {
        if let Err(error) = self.table.release(claim.digest).await {
            tracing::warn!(%error, cause = error.source_text(), "a refresh token stays claimed by its client");
        }
    }

    /// Writes down what an answer taught, and ends what must end for it: the session, when the one it was opened from has
    /// ended; the user's oldest sessions, when there are too many. With `used`, the refresh token and the answer's bytes,
    /// that token is used up and the answer kept for `grace`.
    ///
    /// # Errors
    ///
    /// The store's; the answer may not be handed out then.
    pub async fn learn(&self, mut lesson: Lesson, used: Option<Used<'_>>) -> Result<(), StoreError> {
        lesson.redeemed = used.map(|used| used.redeemed(self.clock.now()));
        let learned = self.write(&lesson).await?;
        self.bindings.forget(lesson.tokens.iter().map(|token| token.digest).collect()).await;
        let Lesson { session, .. } = lesson;
        if learned.parent_ended {
            return self.end(&session.key, "the session it was opened from has ended").await;
        }
        match session.user.as_deref().filter(|_| learned.is_new) {
            // The login stands; a limit that cannot be held just now is held at the next one.
            Some(user) => {
                if let Err(error) = self.limits.enforce(&session.key, user).await {
                    tracing::warn!(%error, cause = error.source_text(), "sessions beyond a user's limit go on");
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Looks every token up anew: more became known of a session than the tokens it handed out before are known by.
    pub fn forget_what_was_looked_up(&self) {
        self.bindings.forget_all();
    }

    /// Ends what the rules of sessions and families say must end: a family one of whose refresh tokens came back, a session
    /// that its user left.
    ///
    /// # Errors
    ///
    /// The store's; the token's next use is noticed all the same.
    pub async fn end_for(&self, end: End) -> Result<(), StoreError> {
        self.revoker.end(end).await
    }

    async fn end(&self, key: &SessionKey, reason: &'static str) -> Result<(), StoreError> {
        let what = Ended::Session(key.id.clone());
        self.revoker.end(End { issuer: key.issuer.clone(), what, reason, address: None }).await
    }

    async fn write(&self, lesson: &Lesson) -> Result<Learned, StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        for _ in 1..ATTEMPTS {
            match self.table.learn(lesson.clone()).await {
                Err(StoreError::Unavailable(_)) => sleep(backoff.pause()).await,
                answer => return answer,
            }
        }
        self.table.learn(lesson.clone()).await
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("bindings", &self.bindings).finish_non_exhaustive()
    }
}

/// A refresh token that an answer used up.
#[derive(Debug)]
pub struct Used<'a> {
    /// The token.
    pub token: &'a BearerToken,
    /// The claim under which it was redeemed.
    pub claim: &'a Claim,
    /// The answer, to be kept for a repetition; `None` where repetitions are not forgiven.
    pub answer: Option<&'a [u8]>,
    /// For how long.
    pub grace: Duration,
}

impl Used<'_> {
    fn redeemed(&self, now: crate::domain::Timestamp) -> Redeemed {
        let sealed = self.answer.and_then(|answer| seal::seal(self.token, answer));
        Redeemed { digest: self.claim.digest, sealed, grace_until: now.after(self.grace) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Session, Timestamp, TokenDigest};
    use crate::sessions::testing::book_in;
    use crate::store::testing::{NOW, open, revoke, selector};
    use crate::store::{Backend, Store};

    const ISS: &str = "https://id.example/";
    const GRACE: Duration = Duration::from_secs(10);

    fn token(text: &str) -> BearerToken {
        BearerToken::parse(text).unwrap()
    }

    fn claim(client: u8) -> Claim {
        Claim {
            digest: TokenDigest::new([1; 32]),
            text: TokenDigest::new([2; 32]),
            client: TokenDigest::new([client; 32]),
            now: NOW,
            given_up_at: Timestamp::default(),
            max_replays: 9,
            expires_at: None,
        }
    }

    fn lesson(id: &str, parent: Option<&str>) -> Lesson {
        let key = SessionKey { issuer: ISS.into(), id: id.into() };
        let session = Session { parent: parent.map(Into::into), ..Session::new(key, NOW) };
        Lesson { session, family: "f".into(), tokens: Vec::new(), redeemed: None }
    }

    async fn store() -> Store {
        open(Backend::Memory).await
    }

    #[tokio::test]
    async fn the_answer_is_repeated_to_who_holds_the_token_and_opens_for_nobody_else() {
        let (book, _) = book_in(&store().await);
        let (mine, claim) = (token("refresh-1"), claim(1));
        assert!(matches!(book.claim(&mine, claim).await, Ok(Turn::Granted)));
        let used = Used { token: &mine, claim: &claim, answer: Some(b"tokens"), grace: GRACE };
        book.learn(lesson("s", None), Some(used)).await.unwrap();
        let again = book.claim(&mine, claim).await.unwrap();
        assert!(matches!(&again, Turn::Repeated(answer) if answer == b"tokens"), "{again:?}");
        assert!(matches!(book.claim(&token("refresh-2"), claim).await, Ok(Turn::Forged)));
        let late = Claim { now: NOW.after(GRACE), ..claim };
        assert!(matches!(book.claim(&mine, late).await, Ok(Turn::Reused)));
    }

    #[tokio::test]
    async fn what_was_not_redeemed_is_anybodys_again() {
        let (book, _) = book_in(&store().await);
        assert!(matches!(book.claim(&token("t"), claim(1)).await, Ok(Turn::Granted)));
        assert!(matches!(book.claim(&token("t"), claim(2)).await, Ok(Turn::Reused)));
        book.release(&claim(1)).await;
        assert!(matches!(book.claim(&token("t"), claim(2)).await, Ok(Turn::Granted)));
    }

    #[tokio::test]
    async fn a_session_opened_from_one_that_ended_ends_at_once() {
        let store = store().await;
        let (book, ends) = book_in(&store);
        book.learn(lesson("parent", None), None).await.unwrap();
        let parent = selector(r#"{"issuer":"https://id.example/","session":"parent"}"#);
        store.log.append(revoke(crate::store::testing::revocation(1, parent, 0))).await.unwrap();
        book.learn(lesson("child", Some("parent")), None).await.unwrap();
        let ended: Vec<_> = ends.all().into_iter().map(|end| end.what).collect();
        assert_eq!(ended, [Ended::Session("child".into())]);
    }
}
