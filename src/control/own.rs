//! Self-service: what a user's own token may see and end. It reaches the sessions of that token's issuer and user, and
//! nothing else whatever is asked for; a session that is somebody else's is answered like one that does not exist.

use std::collections::HashSet;

use crate::control::end::about;
use crate::control::{Caller, Control, ControlError, Receipt};
use crate::domain::{Claims, Right, SessionKey};
use crate::store::{SessionPage, SessionQuery};

/// How far the sessions that a session was opened from are followed.
const MAX_ANCESTORS: usize = 64;

/// A page of the caller's own sessions.
#[derive(Clone, Debug)]
pub struct OwnSessions {
    /// The page.
    pub page: SessionPage,
    /// The ids of those that the caller's token belongs to: one, as a rule.
    pub current: Vec<Box<str>>,
}

impl Control {
    /// The sessions of the user whose token this is.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] for a token that names no user, [`ControlError::Store`].
    pub async fn own_sessions(&self, claims: &Claims, query: SessionQuery) -> Result<OwnSessions, ControlError> {
        let (issuer, user) = (Some(claims.issuer.to_string()), Some(user_of(claims)?.to_owned()));
        let page = self.shown(SessionQuery { issuer, user, username: None, ..query }).await?;
        Ok(OwnSessions { page, current: self.current(claims).await? })
    }

    /// Ends one of the user's own sessions.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`], and [`ControlError::NoSession`] also when the session is somebody else's.
    pub async fn end_own(
        &self,
        caller: &Caller,
        claims: &Claims,
        id: &str,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        if !self.is_own(claims, id).await? {
            // Noted alike whether or not it exists, so that the time it takes tells nothing.
            let mut record = self.record(caller, self.clock.now(), "revoke", "session".to_owned(), None);
            record.reason = Some("not a session of the caller's own".to_owned());
            record.result = "refused".to_owned();
            self.note(record).await;
            return Err(ControlError::NoSession);
        }
        self.revoke(&in_own_right(caller), about(&[("issuer", &claims.issuer), ("session", id)], reason)).await
    }

    /// Ends all sessions of the user, the one the token belongs to among them.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn end_all_own(
        &self,
        caller: &Caller,
        claims: &Claims,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let user = user_of(claims)?;
        self.revoke(&in_own_right(caller), about(&[("issuer", &claims.issuer), ("user", user)], reason)).await
    }

    /// Ends every known session of the user but the one the token belongs to, and those that one was opened from. Says how
    /// many it ended.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`], and [`ControlError::Invalid`] when the token's own session is not known.
    pub async fn end_other_own(
        &self,
        caller: &Caller,
        claims: &Claims,
        reason: Option<String>,
    ) -> Result<usize, ControlError> {
        let user = user_of(claims)?;
        let current = self.current(claims).await?;
        if current.is_empty() {
            let why = "the token's own session is not known, so it cannot be told from the others";
            return Err(ControlError::Invalid(why.to_owned()));
        }
        let kept = self.with_ancestors(claims, current).await?;
        let caller = in_own_right(caller);
        let order = self.order(&caller, about(&[("issuer", &claims.issuer), ("user", user)], reason)).await?;
        let named = self.name_all_but(&caller, &order, kept).await?;
        Ok(named.ended.into_iter().sum())
    }

    /// Whether a session is one of the user's own: by what was learned of it, or because the token belongs to it.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] for a token that names no user, [`ControlError::Store`].
    pub async fn is_own(&self, claims: &Claims, id: &str) -> Result<bool, ControlError> {
        let user = user_of(claims)?;
        let key = self.session_key(claims.issuer.clone(), id);
        let known = self.read(self.sessions.session(&key)).await?;
        match known.and_then(|known| known.session.user) {
            Some(owner) => Ok(*owner == *user),
            None => Ok(self.current(claims).await?.contains(&key.id)),
        }
    }

    /// The sessions that the token belongs to, by its own word or by what was learned when it was handed out.
    async fn current(&self, claims: &Claims) -> Result<Vec<Box<str>>, ControlError> {
        let logins = std::iter::once(claims).chain(claims.twins.iter().map(|twin| &**twin));
        let named: Vec<_> = logins.filter_map(|login| login.session.clone()).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let known = self.read(self.sessions.known(claims.digest)).await?;
        let logins = known.into_iter().flat_map(|known| known.logins);
        let own = logins.filter(|login| {
            login.session.issuer == claims.issuer && (login.user.is_none() || login.user == claims.user)
        });
        Ok(own.map(|login| login.session.id).collect())
    }

    /// These sessions, and those they were opened from: what ends with one of those is not to end.
    async fn with_ancestors(&self, claims: &Claims, ids: Vec<Box<str>>) -> Result<HashSet<SessionKey>, ControlError> {
        let mut kept = HashSet::new();
        let mut next = ids;
        while let Some(id) = next.pop().filter(|_| kept.len() < MAX_ANCESTORS) {
            let key = SessionKey { issuer: claims.issuer.clone(), id };
            let known = self.read(self.sessions.session(&key)).await?;
            if kept.insert(key) {
                next.extend(known.and_then(|known| known.session.parent));
            }
        }
        Ok(kept)
    }
}

/// `sub`, without which nothing is anybody's own.
fn user_of(claims: &Claims) -> Result<&str, ControlError> {
    claims.user.as_deref().ok_or_else(|| ControlError::Invalid("the token names no user".to_owned()))
}

/// The caller, with the right to end what was found to be its own.
fn in_own_right(caller: &Caller) -> Caller {
    Caller { rights: [Right::SessionsRevoke].into_iter().collect(), ..caller.clone() }
}
