//! Ending sessions: by an operator's word, and by the rules of sessions and token families, on nobody's.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::control::order::require;
use crate::control::sessions::Sought;
use crate::control::{Caller, Control, ControlError, Receipt, Revoke, Target};
use crate::domain::Right;
use crate::sessions::{End, Ended, Revoker};
use crate::store::StoreError;

/// Who ends what the rules demand to be ended.
const OURSELVES: &str = "portcullis";

impl Control {
    /// Ends a session and what was opened from it, whether or not the inventory knows it. The issuer may be left out where
    /// one issuer alone knows the session.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`], and [`ControlError::Invalid`] when the issuer cannot be told.
    pub async fn end_session(
        &self,
        caller: &Caller,
        issuer: Option<&str>,
        id: &str,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let issuer = self.issuer_to_end(caller, issuer, Sought::Session(id)).await?;
        self.revoke(caller, about(&[("issuer", &issuer), ("session", id)], reason)).await
    }

    /// Ends a session as [`Self::end_session`] does, and says whether the inventory knows it, over or not. For callers who may
    /// end sessions and not look at them.
    ///
    /// # Errors
    ///
    /// As [`Self::end_session`], and [`ControlError::NoSession`] for one that nobody knows: that one is dead all the same, for
    /// what traffic tells of a session is known a moment later.
    pub async fn end_known_session(
        &self,
        caller: &Caller,
        issuer: &str,
        id: &str,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let issuer = self.issuer_to_end(caller, Some(issuer), Sought::Session(id)).await?;
        let key = self.session_key(issuer.as_str().into(), id);
        let known = self.read(self.sessions.session(&key)).await?;
        let receipt = self.revoke(caller, about(&[("issuer", &issuer), ("session", id)], reason)).await?;
        known.map(|_| receipt).ok_or(ControlError::NoSession)
    }

    /// Ends all sessions of a user: what the user's tokens were issued up to now dies, the next login passes. The issuer may
    /// be left out where one issuer alone knows the user.
    ///
    /// # Errors
    ///
    /// As [`Self::end_session`].
    pub async fn end_user(
        &self,
        caller: &Caller,
        issuer: Option<&str>,
        user: &str,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let issuer = self.issuer_to_end(caller, issuer, Sought::User(user)).await?;
        self.revoke(caller, about(&[("issuer", &issuer), ("user", user)], reason)).await
    }

    async fn issuer_to_end(
        &self,
        caller: &Caller,
        issuer: Option<&str>,
        sought: Sought<'_>,
    ) -> Result<String, ControlError> {
        let subject = match sought {
            Sought::Session(_) => "session",
            Sought::User(_) => "user",
        };
        if let Err(refusal) = require(caller, Right::SessionsRevoke) {
            return Err(self.refused(caller, "revoke", subject, refusal).await);
        }
        let unknown =
            || ControlError::Invalid(format!("no issuer is known to have that {subject}; name one as issuer"));
        self.issuer_of(issuer, sought).await?.map(|issuer| issuer.to_string()).ok_or_else(unknown)
    }
}

/// The command to take back all that these claims select.
pub(super) fn about(claims: &[(&str, &str)], reason: Option<String>) -> Revoke {
    let selector: BTreeMap<_, _> =
        claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Revoke { target: Target::Selector(selector), reach: None, cutoff: None, block: false, reason, expires_at: None }
}

#[async_trait]
impl Revoker for Control {
    async fn end(&self, end: End) -> Result<(), StoreError> {
        let rights = [Right::SessionsRevoke].into_iter().collect();
        let caller = Caller { name: OURSELVES.into(), rights, address: end.address };
        let (name, value) = match &end.what {
            Ended::Session(id) => ("session", id),
            Ended::Family(family) => ("family", family),
        };
        let command = about(&[("issuer", &end.issuer), (name, value)], Some(end.reason.to_owned()));
        match self.revoke(&caller, command).await {
            Ok(_) => Ok(()),
            Err(ControlError::Store(error)) => Err(error),
            // An issuer that is not configured any more, an id that no selector can hold: asking again cannot help.
            Err(error) => Err(StoreError::Unusable(error.to_string(), None)),
        }
    }
}
