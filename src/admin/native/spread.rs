//! Whose confirmation an answer waits for, and who has given it: the same words in every call that changes something.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::{Admin, Fault};
use crate::control::{self, Asked, Confirmed};
use crate::domain::{Position, ReplicaIdentity};

/// The longest `timeout` for other replicas.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long they are waited for when nothing is said.
const USUAL_WAIT: Duration = Duration::from_secs(2);

/// Whose word an answer waits for: `wait` of a query.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wait {
    /// This replica has applied it.
    #[default]
    Local,
    /// Every live replica has.
    All,
}

impl Wait {
    /// Asks for it with `timeout` as the query has it. To be called before anything is done.
    pub(super) fn ask(self, timeout: Option<&str>, admin: &Admin) -> Result<Asked, Fault> {
        let limit = timeout.map_or(Ok(USUAL_WAIT), duration)?;
        let wait = match self {
            Self::Local => control::Wait::Local,
            Self::All => control::Wait::All(limit),
        };
        Ok(admin.control.ask(wait)?)
    }
}

fn duration(text: &str) -> Result<Duration, Fault> {
    let limit = humantime::parse_duration(text).ok().filter(|limit| *limit <= MAX_WAIT);
    limit.ok_or_else(|| Fault::Invalid("timeout: expected a duration up to 60s, as 500ms or 2s".to_owned()))
}

/// How far a change has come. With `wait=all`, `complete` is the proof that every live replica has applied it; that it is
/// false takes nothing back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Spread {
    /// Whether every replica that was waited for has applied it.
    complete: bool,
    /// Who has applied it.
    replicas: Vec<Replica>,
    /// The names of the live replicas that were waited for and have not confirmed. With `complete` false and nobody here, the
    /// store did not tell in time, or has lost data and is being mended.
    missing: Vec<String>,
}

/// A replica that has applied a command.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Replica {
    /// Its name.
    #[schema(example = "gateway-1")]
    name: String,
    /// What tells it from another of that name, and from its own past.
    #[schema(example = "0b7c1f4e8d9a4c52b1e3f60718293a4b")]
    id: String,
    /// Where in the log it is.
    #[schema(example = 7)]
    position: u64,
    /// How long after the command came in it was known to have applied it, in milliseconds.
    #[schema(example = 2)]
    millis: u64,
}

impl Spread {
    /// Waits as `asked` says until what was done up to `position` has spread.
    pub(super) async fn of(admin: &Admin, asked: &Asked, position: Position) -> Self {
        let control::Spread { complete, confirmed, missing } = admin.control.spread(asked, position).await;
        let name = |replica: ReplicaIdentity| replica.name.to_string();
        Self {
            complete,
            replicas: confirmed.into_iter().map(Replica::from).collect(),
            missing: missing.into_iter().map(name).collect(),
        }
    }
}

impl From<Confirmed> for Replica {
    fn from(confirmed: Confirmed) -> Self {
        Self {
            name: confirmed.replica.name.to_string(),
            id: confirmed.replica.id.to_string(),
            position: confirmed.position.get(),
            millis: u64::try_from(confirmed.after.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_minute_at_most() {
        assert_eq!(duration("500ms").ok(), Some(Duration::from_millis(500)));
        assert_eq!(duration("1m").ok(), Some(MAX_WAIT));
        for wrong in ["61s", "", "2", "-1s", "forever"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
