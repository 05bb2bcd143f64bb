//! Passwords that stand for a session: who may have one, and until when.

use crate::control::{Caller, Control, ControlError};
use crate::domain::{Claims, Denial, Name, Selector, SessionKey, SessionState, Timestamp};
use crate::sessions::{IssuedPassword, PasswordError};
use crate::store::StoreError;

impl Control {
    /// Gives a password to whoever showed an access token with these claims, which somebody vouched for: it stands for the
    /// token's session, with the token's scopes, until the configured time is over. It is not good for longer than the
    /// session is known to last, nor for longer than a token of that age may live: a revocation is remembered for as long,
    /// so none is forgotten before what it ended.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] for a token whose session is not known, [`ControlError::NoSession`] when that has ended,
    /// [`ControlError::Token`] when the token was revoked, [`ControlError::Blind`], [`ControlError::Store`].
    pub async fn session_password(&self, caller: &Caller, claims: &Claims) -> Result<IssuedPassword, ControlError> {
        let claims = self.complete(claims.clone().into()).await?;
        self.admits(&claims)?;
        let login = self.login(&claims)?;
        let session = login.session.clone().unwrap_or_default();
        let key = SessionKey { issuer: login.issuer.clone(), id: session };
        let latest = self.latest(login, &key).await?;
        let issued = self.passwords.issue(login, latest).await.map_err(refusal)?;
        let subject = Selector::new([(Name::Issuer, key.issuer.to_string()), (Name::Session, key.id.into())])?;
        let now = self.clock.now();
        let mut record = self.record(caller, now, "session_password", subject.canonical(), None);
        record.result = "created".to_owned();
        // Nobody has it before it is in the trail.
        self.note_durably(record).await?;
        Ok(issued)
    }

    /// The one login that the password is to stand for. A token may belong to several, and is good while one of them is.
    fn login<'c>(&self, claims: &'c Claims) -> Result<&'c Claims, ControlError> {
        let now = self.clock.now();
        let logins = std::iter::once(claims).chain(claims.twins.iter().map(|twin| &**twin));
        let mut named = logins.filter(|login| login.session.is_some()).peekable();
        if named.peek().is_none() {
            let why = "the token's session is not known, so no password can stand for it";
            return Err(ControlError::Invalid(why.to_owned()));
        }
        let alone = |login: &Claims| Claims { twins: Box::default(), ..login.clone() };
        let alive = named.find(|login| !self.index.covers(&alone(login), now));
        alive.ok_or(ControlError::Token(Denial::Revoked))
    }

    /// Until when a password of this login may be good at most; `None` when nothing bounds it.
    async fn latest(&self, login: &Claims, key: &SessionKey) -> Result<Option<Timestamp>, ControlError> {
        let now = self.clock.now();
        let known = self.read(self.sessions.session(key)).await?.map(|known| known.session);
        if known.as_ref().is_some_and(|session| session.state(now) != SessionState::Active) {
            return Err(ControlError::NoSession);
        }
        let Some(facts) = self.tokens.issuer(&login.issuer) else { return Err(self.unknown(&login.issuer)) };
        let began = login.issued_at.unwrap_or(now).min(now);
        let lived = facts.longest_life.map(|life| began.after(life));
        let lasts = known.and_then(|session| session.expires_at);
        Ok(lived.into_iter().chain(lasts).min())
    }
}

fn refusal(error: PasswordError) -> ControlError {
    match error {
        PasswordError::Over | PasswordError::Refused => ControlError::NoSession,
        PasswordError::Store(error) => error.into(),
        error @ (PasswordError::Busy | PasswordError::Machine) => StoreError::Unavailable(error.into()).into(),
    }
}
