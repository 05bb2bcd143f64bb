//! Who may change what: revoke, lift, look up. The one way by which anything is taken back.
//!
//! Success is answered once the log holds the entry *and* our own index shows it. Every command is audited in the
//! transaction that carries it out. Nothing here knows a wire format.

mod audit;
mod check;
mod end;
mod generation;
mod invalidate;
mod lift;
mod named;
mod order;
mod own;
mod pairs;
mod password;
mod replicas;
mod revoke;
mod sessions;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;

use crate::control::replicas::Replicas;
use crate::domain::{
    BearerToken, Claims, Denial, Disposition, InvalidSelector, Position, Reach, Recorded, ReplicaIdentity,
    RevocationId, Right, Rights, Selector, Timestamp,
};
use crate::index::Index;
use crate::live::Live;
use crate::sessions::{PasswordSettings, Passwords};
use crate::store::{SharedAudit, SharedLog, SharedSessions, Store};

// What commands and answers are made of, for parts that reach neither the store nor the index.
pub use crate::index::Standing;
pub use crate::sessions::IssuedPassword;
pub use crate::store::{
    AuditQuery, AuditRecord, Cursor, Event, EventStream, Page, RevocationQuery, SessionPage, SessionQuery, SortKey,
    Span, StoreError,
};
pub use invalidate::Counts;
pub use own::OwnSessions;
pub use pairs::Whose;
pub use replicas::{Asked, Confirmed, Fleet, ReplicaStatus, Spread, Wait};
pub use sessions::ShownSession;
pub use state::Status;
pub use tokens::Tokens;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The credential's name, or `user@issuer` of a token.
    pub name: Arc<str>,
    /// What it may do.
    pub rights: Rights,
    /// From where.
    pub address: Option<IpAddr>,
}

/// What a revocation is asked to be about.
#[derive(Debug)]
pub enum Target {
    /// Claims; the issuer may be a configured name or an `iss`, and may be left out where there is one issuer only.
    Selector(std::collections::BTreeMap<String, String>),
    /// That very token.
    Token(BearerToken),
}

/// A revocation as it is asked for.
#[derive(Debug)]
pub struct Revoke {
    /// What about.
    pub target: Target,
    /// Which kinds die; the default depends on the target.
    pub reach: Option<Reach>,
    /// The last second whose tokens die; default now, and moved on by the issuer's lead.
    pub cutoff: Option<Timestamp>,
    /// A ban: no cut-off at all.
    pub block: bool,
    /// Why.
    pub reason: Option<String>,
    /// Until when; default as long as it may cover anything.
    pub expires_at: Option<Timestamp>,
}

/// What came of a revocation.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What the log made of it.
    pub disposition: Disposition,
    /// The first second whose tokens pass again, for a cut-off.
    pub readmits_from: Option<Timestamp>,
    /// Where the log stood when it was in.
    pub position: Position,
    /// How many open exchanges of this replica the revocation has cut.
    pub cut: usize,
    /// How many known sessions it ended.
    pub sessions: usize,
}

/// What a dry run found.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// What would be revoked.
    pub selector: Selector,
    /// Which kinds.
    pub reach: Reach,
    /// The first second whose tokens would pass again.
    pub readmits_from: Option<Timestamp>,
    /// Until when it would be kept.
    pub expires_at: Option<Timestamp>,
    /// The standing revocations that say as much already.
    pub already: Vec<RevocationId>,
    /// How many tokens verified of late would die.
    pub recent_tokens: usize,
    /// How many exchanges that are open here would be cut.
    pub open: usize,
    /// How many known sessions would end.
    pub sessions: usize,
}

/// What is true of a token.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it says of itself, when it could be read.
    pub claims: Option<Claims>,
    /// Why it may not pass; `None` when it may.
    pub denial: Option<Denial>,
    /// The revocations that cover it.
    pub revocations: Vec<Recorded>,
}

/// Why control did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The caller lacks a right.
    #[error("this needs the right {0}")]
    Forbidden(Right),
    /// The selector is wrong.
    #[error(transparent)]
    Selector(#[from] InvalidSelector),
    /// Something else in the command is wrong; the text says what.
    #[error("{0}")]
    Invalid(String),
    /// The token's text is none.
    #[error("that is no token of a known issuer: {0}")]
    Token(Denial),
    /// No such revocation.
    #[error("no revocation {0}")]
    NotFound(RevocationId),
    /// No such session, or none that is the caller's business.
    #[error("no such session")]
    NoSession,
    /// This replica is out of step with the log, so it cannot tell.
    #[error("this replica is out of step with the log")]
    Blind,
    /// As many wait for replicas as may; nothing was done.
    #[error("too many wait for all replicas")]
    Busy,
    /// The store could not make it durable. It is unknown whether it will stand; ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlError {
    /// The same error for another command that shared its fate.
    fn once_more(&self) -> Self {
        match self {
            Self::Forbidden(right) => Self::Forbidden(*right),
            error => Self::Store(StoreError::Unavailable(error.to_string().into())),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The longest a command may take to become durable and to be shown by our own index.
    pub timeout: Duration,
    /// Who we are among the replicas.
    pub replica: ReplicaIdentity,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), replica: ReplicaIdentity::default() }
    }
}

/// Carries out commands.
#[derive(Debug)]
pub struct Control {
    log: SharedLog,
    audit: SharedAudit,
    sessions: SharedSessions,
    passwords: Arc<Passwords>,
    replicas: Replicas,
    index: Arc<Index>,
    live: Arc<Live>,
    tokens: Arc<dyn Tokens>,
    clock: SharedClock,
    settings: Settings,
}

impl Control {
    /// Control over a store, with the index that follows it, the exchanges that it cuts, and the issuers it knows.
    #[must_use]
    pub fn new(
        store: &Store,
        (index, live): (Arc<Index>, Arc<Live>),
        tokens: Arc<dyn Tokens>,
        clock: SharedClock,
        settings: Settings,
    ) -> Arc<Self> {
        let Store { log, audit, sessions, passwords, .. } = store.clone();
        let passwords = Passwords::new(passwords, clock.clone(), PasswordSettings::default());
        let replicas = Replicas::new(settings.replica.clone(), store.replicas.clone(), index.clone(), clock.clone());
        Arc::new(Self { log, audit, sessions, passwords, replicas, index, live, tokens, clock, settings })
    }

    /// The passwords that are given here, for whoever takes them.
    #[must_use]
    pub const fn passwords(&self) -> &Arc<Passwords> {
        &self.passwords
    }

    /// Who we are among the replicas.
    #[must_use]
    pub const fn replica(&self) -> &ReplicaIdentity {
        &self.settings.replica
    }

    /// The wall clock, for answers.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
