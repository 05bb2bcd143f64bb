//! What this replica knows just now: whether a verified token may be believed, what happens in the log, how it stands.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use crate::control::order::require;
use crate::control::{Caller, Control, ControlError};
use crate::domain::{Checkpoint, Claims, Denial, Position, Right};
use crate::index::Standing;
use crate::sessions::completed;
use crate::store::{EventStream, StoreError};
use crate::verify::IssuerFacts;

/// How this replica stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether what the index does not know is not revoked.
    pub standing: Standing,
    /// The position in the log that the index has applied.
    pub position: Position,
    /// How many selectors the index holds, by shape's name.
    pub shapes: Vec<(String, usize)>,
    /// The configured issuers.
    pub issuers: Vec<IssuerFacts>,
}

impl Control {
    /// The claims with what was learned of their token when it was handed out.
    ///
    /// # Errors
    ///
    /// [`ControlError::Store`]; nobody can tell then whether it is revoked.
    pub async fn complete(&self, claims: Arc<Claims>) -> Result<Arc<Claims>, ControlError> {
        let known = self.read(self.sessions.known(claims.digest)).await?;
        Ok(known.map_or_else(|| claims.clone(), |known| Arc::new(completed(&claims, &known))))
    }

    /// Whether a token that was verified may be believed: nothing in the index covers it, and the index is in step. For
    /// callers who come with a token; to be asked anew for every call.
    ///
    /// # Errors
    ///
    /// [`ControlError::Token`] when it was revoked, [`ControlError::Blind`] when nobody can tell.
    pub fn admits(&self, claims: &Claims) -> Result<(), ControlError> {
        if self.index.covers(claims, self.clock.now()) {
            return Err(ControlError::Token(Denial::Revoked));
        }
        match self.index.standing() {
            Standing::InStep => Ok(()),
            Standing::Loading | Standing::Stale => Err(ControlError::Blind),
        }
    }

    /// What happens in the log after `from`, all that stands first when that is the start; only the news when it is `None`.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::Invalid`] for a position that the log has not reached,
    /// [`ControlError::Store`].
    pub async fn follow(&self, caller: &Caller, from: Option<Position>) -> Result<EventStream, ControlError> {
        if let Err(refusal) = require(caller, Right::SessionsRead).or_else(|_| require(caller, Right::AuditRead)) {
            return Err(self.refused(caller, "read", "events", refusal).await);
        }
        let at = from.map_or_else(|| self.index.checkpoint(), Checkpoint::from);
        let mut events = self.log.follow(at).await?;
        // The first event shows whether the log can be read from there.
        let first = timeout(self.settings.timeout, events.next()).await;
        match first.map_err(|_| StoreError::Unavailable("the store took too long".into()))? {
            Some(Ok(event)) => Ok(stream::iter([Ok(event)]).chain(events).boxed()),
            Some(Err(StoreError::Lost(_))) if at.position > self.index.position() => {
                Err(ControlError::Invalid(format!("the log has not reached position {}", at.position)))
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(StoreError::Unavailable("the log was closed".into()).into()),
        }
    }

    /// How this replica stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            standing: self.index.standing(),
            position: self.index.position(),
            shapes: self.index.shapes(),
            issuers: self.tokens.issuers(),
        }
    }
}
