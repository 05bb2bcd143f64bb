//! Sessions as they are looked for and shown: what the inventory knows, and over it what the index says.
//!
//! The inventory marks the sessions that it knows when a revocation comes; one that was learned later, and was begun before
//! the cut-off, bears no mark. The index is asked about each, so that what is shown is what is so.

use std::collections::HashMap;
use std::sync::Arc;

use crate::control::{Caller, Control, ControlError};
use crate::domain::{
    Claims, Recorded, SeenToken, Selector, Session, SessionEnd, SessionKey, SessionState, Timestamp, TokenDigest,
    TokenKind,
};
use crate::store::{SessionPage, SessionQuery};

/// A session with its tokens.
#[derive(Clone, Debug)]
pub struct ShownSession {
    /// The session.
    pub session: Session,
    /// The tokens seen in it, the newest first, and the state of each.
    pub tokens: Vec<(SeenToken, SessionState)>,
}

/// What an issuer is to be found for that was not named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sought<'a> {
    /// The session of that id.
    Session(&'a str),
    /// That user.
    User(&'a str),
}

impl Control {
    /// A page of sessions. The issuer may be given by its configured name.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::Invalid`] for an unknown issuer, [`ControlError::Store`].
    pub async fn sessions(&self, caller: &Caller, query: SessionQuery) -> Result<SessionPage, ControlError> {
        self.may_read(caller, "sessions").await?;
        let issuer = query.issuer.as_deref().map(|named| self.issuer_named(named)).transpose()?;
        self.shown(SessionQuery { issuer: issuer.map(|issuer| issuer.to_string()), ..query }).await
    }

    /// A page of one user's sessions. The issuer may be left out where one issuer alone knows the user.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions`], and [`ControlError::Invalid`] when several issuers know the user.
    pub async fn user_sessions(
        &self,
        caller: &Caller,
        issuer: Option<&str>,
        user: String,
        query: SessionQuery,
    ) -> Result<SessionPage, ControlError> {
        self.may_read(caller, "sessions").await?;
        let issuer = self.issuer_of(issuer, Sought::User(&user)).await?.map(|issuer| issuer.to_string());
        self.shown(SessionQuery { issuer, user: Some(user), ..query }).await
    }

    /// One session with its tokens. The issuer may be left out where one issuer alone knows the session.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::NoSession`], [`ControlError::Invalid`] when several issuers know it,
    /// [`ControlError::Store`].
    pub async fn session(&self, caller: &Caller, issuer: Option<&str>, id: &str) -> Result<ShownSession, ControlError> {
        self.may_read(caller, "session").await?;
        let issuer = self.issuer_of(issuer, Sought::Session(id)).await?.ok_or(ControlError::NoSession)?;
        let key = self.session_key(issuer, id);
        let known = self.read(self.sessions.session(&key)).await?.ok_or(ControlError::NoSession)?;
        let mut sessions = [known.session];
        self.overlay(&mut sessions).await?;
        let [session] = sessions;
        let now = self.clock.now();
        let state = |token: &SeenToken| self.state_of(&token_claims(&session, token), token.expires_at, now);
        let tokens = known.tokens.into_iter().map(|token| (token.clone(), state(&token))).collect();
        Ok(ShownSession { session, tokens })
    }

    /// Whether a session is known: it was learned, or it has ended already. For callers who may end it.
    ///
    /// # Errors
    ///
    /// [`ControlError::Store`].
    pub async fn knows_session(&self, key: &SessionKey) -> Result<bool, ControlError> {
        let refresh = Claims::bare(key.issuer.clone(), TokenKind::Refresh, TokenDigest::new([0; 32]));
        // Younger than every cut-off: what ended it named it.
        let claims = Claims { session: Some(key.id.clone()), issued_at: Some(Timestamp::MAX), ..refresh };
        let has_ended = self.index.covers(&claims, self.clock.now());
        Ok(has_ended || self.read(self.sessions.session(key)).await?.is_some())
    }

    /// The session of that id, in whatever spelling its issuer's may be given.
    pub(super) fn session_key(&self, issuer: Arc<str>, id: &str) -> SessionKey {
        let facts = self.tokens.issuer(&issuer);
        let id = facts.map_or_else(|| id.into(), |facts| facts.session_id(id).into());
        SessionKey { issuer, id }
    }

    /// A page as it is shown.
    pub(super) async fn shown(&self, query: SessionQuery) -> Result<SessionPage, ControlError> {
        let mut page = self.read(self.sessions.sessions(&query)).await?;
        self.overlay(&mut page.items).await?;
        Ok(page)
    }

    /// The `iss` of an issuer by its configured name or by itself.
    pub(super) fn issuer_named(&self, named: &str) -> Result<Arc<str>, ControlError> {
        self.tokens.issuer(named).map(|facts| facts.issuer).ok_or_else(|| self.unknown(named))
    }

    /// The issuer that was named; else the only one there is, or the only one that knows what is sought.
    pub(super) async fn issuer_of(
        &self,
        named: Option<&str>,
        sought: Sought<'_>,
    ) -> Result<Option<Arc<str>>, ControlError> {
        if let Some(named) = named {
            return self.issuer_named(named).map(Some);
        }
        let issuers = self.tokens.issuers();
        if let [only] = &*issuers {
            return Ok(Some(only.issuer.clone()));
        }
        let mut knowing = Vec::new();
        for facts in issuers {
            if self.is_known(facts.issuer.clone(), sought).await? {
                knowing.push(facts);
            }
        }
        match &*knowing {
            [] => Ok(None),
            [only] => Ok(Some(only.issuer.clone())),
            several => {
                let names: Vec<String> = several.iter().map(|facts| facts.name.to_string()).collect();
                Err(ControlError::Invalid(format!("several issuers know it; name one as issuer: {}", names.join(", "))))
            }
        }
    }

    async fn is_known(&self, issuer: Arc<str>, sought: Sought<'_>) -> Result<bool, ControlError> {
        match sought {
            Sought::Session(id) => {
                let key = self.session_key(issuer, id);
                Ok(self.read(self.sessions.session(&key)).await?.is_some())
            }
            Sought::User(user) => {
                let (issuer, user) = (Some(issuer.to_string()), Some(user.to_owned()));
                let query = SessionQuery { issuer, user, now: self.clock.now(), limit: 1, ..SessionQuery::default() };
                Ok(self.read(self.sessions.sessions(&query)).await?.total > 0)
            }
        }
    }

    /// Marks those sessions that have ended without the inventory's knowing.
    async fn overlay(&self, sessions: &mut [Session]) -> Result<(), ControlError> {
        let now = self.clock.now();
        let mut standing = HashMap::new();
        for session in sessions.iter_mut().filter(|session| session.state(now) == SessionState::Active) {
            let claims = session_claims(session);
            if self.index.covers(&claims, now) {
                session.ended = self.end_of(&claims, now, &mut standing).await?;
            }
        }
        Ok(())
    }

    /// What ended a session with these claims; what stands for a selector is read once for all sessions of a page.
    async fn end_of(
        &self,
        claims: &Claims,
        now: Timestamp,
        standing: &mut HashMap<Selector, Vec<Recorded>>,
    ) -> Result<Option<SessionEnd>, ControlError> {
        for selector in self.index.covering(claims, now) {
            if !standing.contains_key(&selector) {
                let held = self.read(self.log.standing(&selector, now)).await?;
                standing.insert(selector.clone(), held);
            }
            let held = standing.get(&selector).into_iter().flatten().map(|held| &held.revocation);
            if let Some(covering) = held.into_iter().find(|revocation| revocation.covers(claims)) {
                return Ok(Some(SessionEnd {
                    at: covering.created_at,
                    actor: covering.actor.clone(),
                    reason: covering.reason.clone(),
                    revocation: covering.id,
                }));
            }
        }
        Ok(None)
    }

    fn state_of(&self, claims: &Claims, expires_at: Option<Timestamp>, now: Timestamp) -> SessionState {
        match expires_at {
            _ if self.index.covers(claims, now) => SessionState::Revoked,
            Some(expires_at) if expires_at <= now => SessionState::Expired,
            _ => SessionState::Active,
        }
    }
}

/// What an access token of the session's first second would say.
fn session_claims(session: &Session) -> Claims {
    let key = &session.key;
    Claims {
        session: Some(key.id.clone()),
        user: session.user.clone(),
        username: session.username.clone(),
        client: session.client.clone(),
        issued_at: Some(session.created_at),
        ..Claims::bare(key.issuer.clone(), TokenKind::Access, TokenDigest::new([0; 32]))
    }
}

/// What one of its tokens would say.
pub(super) fn token_claims(session: &Session, token: &SeenToken) -> Claims {
    Claims {
        kind: token.kind,
        digest: token.digest,
        token_id: token.token_id.clone(),
        issued_at: token.issued_at,
        expires_at: token.expires_at,
        generation: token.generation,
        ..session_claims(session)
    }
}
