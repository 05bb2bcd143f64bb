//! Asking the issuer (RFC 7662). Its answer is believed when it says `"active": true` and nothing else; a broken answer, or
//! none, leaves it unknown, and unknown never passes.
//!
//! Answers are cached by the SHA-256 of the token's text for a fixed time that use does not prolong, never past `exp`; that
//! a token is inactive, for a few seconds. Many requests with one token ask once. What a revocation covers is asked anew.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::SharedClock;
use crate::domain::json::{self, Object};
use crate::domain::{BearerToken, Change, Claims, Denial, TokenDigest, TokenKind};
use crate::telemetry::Metrics;
use crate::verify::claims::{self, Reading};
use crate::verify::fetch::Fetch;
use crate::verify::jws::{self, Jws};
use crate::verify::keys::Surroundings;
use crate::verify::news::News;
use crate::verify::settings::{IntrospectionSettings, IssuerSettings};

/// The longest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How many questions are open at once, per issuer; more wait.
const MAX_QUESTIONS: usize = 64;
/// How long a question may take, the wait for its turn included.
const QUESTION_BOUND: Duration = Duration::from_secs(10);
/// How long a refusal is remembered: long enough to blunt a flood, short enough for a token that was just issued.
const REFUSAL_TTL: Duration = Duration::from_secs(5);

/// An issuer that is asked about tokens.
pub(super) struct Introspection {
    settings: IntrospectionSettings,
    fetch: Arc<dyn Fetch>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    answers: Cache<TokenDigest, Arc<Answer>>,
    news: News,
    turns: Semaphore,
}

/// What the issuer said, and when it was asked.
#[derive(Debug)]
struct Answer {
    outcome: Outcome,
    asked_at: Duration,
    /// The number of the latest revocation known not to cover it.
    seen: AtomicU64,
}

/// What the issuer said.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The token is active, and this is what it says.
    Active(Reading),
    /// It is not, or its claims are not what this issuer's must be.
    Refused(Denial),
    /// Nobody knows.
    Unknown,
}

impl Introspection {
    /// An issuer nobody has asked yet; at most `entries` answers are remembered.
    pub(super) fn new(settings: IntrospectionSettings, entries: u64, around: Surroundings) -> Self {
        // Tidies by its own clock; whether an answer still holds is decided on each use.
        let answers = Cache::builder().max_capacity(entries).time_to_live(settings.cache_ttl.max(REFUSAL_TTL)).build();
        let Surroundings { fetch, clock, metrics } = around;
        let (news, turns) = (News::default(), Semaphore::new(MAX_QUESTIONS));
        Self { settings, fetch, clock, metrics, answers, news, turns }
    }

    /// What the issuer says of a token, now or a moment ago.
    pub(super) async fn ask(
        &self,
        issuer: &IssuerSettings,
        token: &BearerToken,
        jws: Option<&Jws<'_>>,
        wanted: TokenKind,
    ) -> Outcome {
        let whole = jws::sha256(token.expose());
        if let Some(answer) = self.answers.get(&whole).await.filter(|answer| self.stands(answer)) {
            self.metrics.introspection(&issuer.name, "cached");
            return answer.outcome.clone();
        }
        let question = async { Arc::new(self.question(issuer, token, jws, wanted).await) };
        let entry = self.answers.entry(whole).or_insert_with_if(question, |answer| !self.stands(answer)).await;
        entry.into_value().outcome.clone()
    }

    /// What the issuer said of a token, if that still stands.
    pub(super) async fn remembered(&self, whole: &TokenDigest) -> Option<Reading> {
        let answer = self.answers.get(whole).await.filter(|answer| self.stands(answer))?;
        match &answer.outcome {
            Outcome::Active(reading) => Some(reading.clone()),
            Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    /// Lets what `change` covers be asked anew.
    pub(super) fn purge(&self, change: &Change) {
        change.standing.iter().for_each(|revocation| self.news.add(revocation.clone()));
    }

    /// The claims of all tokens that were active.
    pub(super) fn claims(&self) -> impl Iterator<Item = Arc<Claims>> {
        self.answers.iter().filter_map(|(_, answer)| match &answer.outcome {
            Outcome::Active(reading) => Some(reading.claims.clone()),
            Outcome::Refused(_) | Outcome::Unknown => None,
        })
    }

    fn stands(&self, answer: &Answer) -> bool {
        let age = self.clock.elapsed().saturating_sub(answer.asked_at);
        match &answer.outcome {
            Outcome::Active(reading) => {
                let now = self.clock.now();
                let expired = reading.claims.expires_at.is_some_and(|expires_at| now >= expires_at);
                age < self.settings.cache_ttl && !expired && self.is_unrevoked(answer, &reading.claims)
            }
            Outcome::Refused(_) => age < REFUSAL_TTL.min(self.settings.cache_ttl),
            Outcome::Unknown => false,
        }
    }

    fn is_unrevoked(&self, answer: &Answer, claims: &Claims) -> bool {
        let unrevoked = self.news.cover(claims, answer.seen.load(Ordering::Relaxed));
        unrevoked.map(|latest| answer.seen.store(latest, Ordering::Relaxed)).is_ok()
    }

    /// One question, counted.
    async fn question(
        &self,
        issuer: &IssuerSettings,
        token: &BearerToken,
        jws: Option<&Jws<'_>>,
        wanted: TokenKind,
    ) -> Answer {
        let (asked_at, seen) = (self.clock.elapsed(), AtomicU64::new(self.news.latest()));
        let said = timeout(QUESTION_BOUND, self.post(issuer, token, wanted)).await.ok().flatten();
        let outcome = said.map_or(Outcome::Unknown, |said| outcome(said, issuer, token, jws));
        let result = match &outcome {
            Outcome::Active(_) => "active",
            Outcome::Refused(_) => "inactive",
            Outcome::Unknown => "failed",
        };
        self.metrics.introspection(&issuer.name, result);
        Answer { outcome, asked_at, seen }
    }

    /// The issuer's answer as a document; `None` when there is none (RFC 7662 §2.1).
    async fn post(&self, issuer: &IssuerSettings, token: &BearerToken, wanted: TokenKind) -> Option<Object> {
        let _turn = self.turns.acquire().await.ok()?;
        let hint = if wanted == TokenKind::Refresh { "refresh_token" } else { "access_token" };
        let fields = [("token", token.expose()), ("token_type_hint", hint)];
        let basic = (&*self.settings.client_id, self.settings.client_secret.expose());
        match self.fetch.post_form(&self.settings.url, basic, &fields, MAX_ANSWER_BYTES).await {
            Ok(answer) if answer.status == 200 => json::object(&answer.body),
            Ok(answer) => {
                tracing::warn!(issuer = %issuer.name, status = answer.status, "an issuer did not answer an introspection");
                None
            }
            Err(error) => {
                tracing::warn!(issuer = %issuer.name, %error, "an issuer could not be asked");
                None
            }
        }
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What an answer means (RFC 7662 §2.2).
fn outcome(mut said: Object, issuer: &IssuerSettings, token: &BearerToken, jws: Option<&Jws<'_>>) -> Outcome {
    match said.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Outcome::Refused(Denial::Inactive),
        _ => return Outcome::Unknown,
    }
    // Issuers write `null` for what they do not say.
    said.retain(|_, value| !value.is_null());
    match reading(&mut said, issuer, token, jws) {
        Ok(reading) => Outcome::Active(reading),
        Err(denial) => Outcome::Refused(denial),
    }
}

fn reading(
    said: &mut Object,
    issuer: &IssuerSettings,
    token: &BearerToken,
    jws: Option<&Jws<'_>>,
) -> Result<Reading, Denial> {
    if said.get("iss").is_some_and(|iss| iss.as_str() != Some(&*issuer.issuer)) {
        return Err(Denial::Claim);
    }
    // The answer's own name for the user's name (RFC 7662 §2.2).
    if let Some(username) = said.get("username").filter(|_| !said.contains_key(&*issuer.claims.username)).cloned() {
        said.insert(issuer.claims.username.to_string(), username);
    }
    if let Some(jws) = jws {
        adopt_token_id(said, jws, &issuer.claims.token_id)?;
    }
    let digest = jws.map_or_else(|| jws::sha256(&issuer.token_form.identity(token.expose())), Jws::digest);
    claims::read(said, jws.map(|jws| &jws.header), digest, issuer)
}

/// A JWT's own id is its identity also when the answer leaves it out; two that differ are none.
fn adopt_token_id(said: &mut Object, jws: &Jws<'_>, name: &str) -> Result<(), Denial> {
    match (said.get(name), jws.claims.get(name)) {
        (Some(said), Some(own)) if said != own => Err(Denial::Claim),
        (None, Some(own)) => {
            said.insert(name.to_owned(), own.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}
