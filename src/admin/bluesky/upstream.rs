//! Who somebody is, by the word of the server whose users they are. Its tokens are signed with a key that only it has, and
//! its API keys are rows of its database: so it is asked, with the caller's own credential, each time anew. Nothing is kept
//! of its answers.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::admin::Fault;
use crate::admin::bluesky::credential::Presented;
use crate::admin::bluesky::refused::Refused;
use crate::domain::Uuid;
use crate::net::client::{self, Answer, Client};

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The longest list of all principals, in bytes.
const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;
/// Questions under way at once; the next caller waits for a turn, no longer than the server may take to answer.
const MAX_QUESTIONS: usize = 32;
/// What a caller is told when the server gives no answer that says who it is.
const SILENT: Fault = Fault::Unavailable("the bluesky-httpserver cannot be asked who calls; try again");

/// Where the server is, and how long it may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamSettings {
    /// Its base URL, without a slash at the end.
    pub url: Uri,
    /// How calls are made.
    pub client: client::Settings,
}

/// The server.
pub(super) struct Upstream {
    base: String,
    client: Client,
    turns: Semaphore,
    patience: Duration,
}

/// Somebody the server knows.
#[derive(Debug)]
pub(super) struct Principal {
    /// Who.
    pub(super) id: Uuid,
    sessions: HashSet<Uuid>,
}

#[derive(Deserialize)]
struct WhoAmI {
    uuid: String,
    #[serde(default)]
    sessions: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    uuid: String,
}

#[derive(Deserialize)]
struct Granted {
    scopes: HashSet<String>,
}

#[derive(Deserialize)]
struct Complaint {
    detail: String,
}

impl Upstream {
    /// The server of these settings; `None` when TLS cannot be set up, which the configuration has checked.
    pub(super) fn new(settings: &UpstreamSettings) -> Option<Self> {
        let client = Client::new(&settings.client);
        let client =
            client.inspect_err(|error| tracing::error!(%error, "a bluesky-httpserver cannot be asked")).ok()?;
        let base = settings.url.to_string().trim_end_matches('/').to_owned();
        Some(Self { base, client, turns: Semaphore::new(MAX_QUESTIONS), patience: settings.client.timeout })
    }

    /// Whose credential this is.
    ///
    /// # Errors
    ///
    /// The server's own refusal in its own words; 503 when it does not tell.
    pub(super) async fn whoami(&self, presented: &Presented) -> Result<Principal, Refused> {
        let told: WhoAmI = self.ask("/api/auth/whoami", presented).await?;
        let id = told.uuid.parse().map_err(|_| SILENT)?;
        Ok(Principal { id, sessions: told.sessions().collect() })
    }

    /// Whether anybody has that session, as far as the credential, which has just been good, lets its holder see.
    ///
    /// # Errors
    ///
    /// 503 when the server does not tell.
    pub(super) async fn lists(&self, session: Uuid, presented: &Presented) -> Result<bool, Refused> {
        let answer = self.answer("/api/auth/principal", presented, MAX_LIST_BYTES).await?;
        match answer.status {
            200 => {
                let principals: Vec<WhoAmI> = serde_json::from_slice(&answer.body).map_err(|_| SILENT)?;
                Ok(principals.iter().flat_map(WhoAmI::sessions).any(|listed| listed == session))
            }
            401 | 403 => Ok(false),
            status => Err(silent(status)),
        }
    }

    /// Whether the credential has one of these scopes.
    ///
    /// # Errors
    ///
    /// As [`Self::whoami`].
    pub(super) async fn grants(&self, wanted: &[String], presented: &Presented) -> Result<bool, Refused> {
        if wanted.is_empty() {
            return Ok(false);
        }
        let Granted { scopes } = self.ask("/api/auth/scopes", presented).await?;
        Ok(wanted.iter().any(|scope| scopes.contains(scope)))
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, presented: &Presented) -> Result<T, Refused> {
        let answer = self.answer(path, presented, MAX_ANSWER_BYTES).await?;
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body).map_err(|_| SILENT)?),
            400 | 401 | 403 => Err(refusal(&answer.body, presented)),
            status => Err(silent(status)),
        }
    }

    /// What the server answers, in its turn.
    async fn answer(&self, path: &str, presented: &Presented, max_bytes: usize) -> Result<Answer, Refused> {
        let turn = timeout(self.patience, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| Fault::Busy("questions to the bluesky-httpserver"))?;
        let url: Uri = format!("{}{path}", self.base).parse().map_err(|_| SILENT)?;
        let answer = self.client.get_with(&url, credential(presented)?, max_bytes).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a bluesky-httpserver cannot be asked who calls");
            SILENT
        })?;
        Ok(answer)
    }
}

/// For an answer that says nothing.
fn silent(status: u16) -> Refused {
    tracing::warn!(status, "a bluesky-httpserver does not say who calls");
    SILENT.into()
}

impl WhoAmI {
    fn sessions(&self) -> impl Iterator<Item = Uuid> {
        self.sessions.iter().filter_map(|listed| listed.uuid.parse().ok())
    }
}

impl Principal {
    /// Whether the session is one of theirs.
    pub(super) fn has(&self, session: Uuid) -> bool {
        self.sessions.contains(&session)
    }
}

/// The caller's credential, in the header whatever place it came from: queries stand in logs.
fn credential(presented: &Presented) -> Result<HeaderMap, Refused> {
    let (scheme, secret) = match presented {
        Presented::Nothing => return Err(Fault::Anonymous.into()),
        Presented::Key(key) => ("ApiKey", key),
        Presented::Token(token) => ("Bearer", token),
    };
    let value = HeaderValue::try_from(format!("{scheme} {}", secret.expose()));
    let mut value = value.map_err(|_| Refused::from(Fault::Unauthenticated))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// What the server said: its client may wait for these very words.
fn refusal(body: &[u8], presented: &Presented) -> Refused {
    match serde_json::from_slice::<Complaint>(body) {
        Ok(Complaint { detail }) => Refused::saying(Fault::Unauthenticated, 401, &detail),
        Err(_) if matches!(presented, Presented::Key(_)) => Refused::key(),
        Err(_) => Refused::token(),
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.base)
    }
}

/// How long the server may take as a whole, and to be connected to.
#[must_use]
pub fn patience(timeout: Duration) -> client::Settings {
    client::Settings { timeout, connect: timeout.min(Duration::from_secs(2)), ca: None }
}
