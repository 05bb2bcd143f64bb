//! What is known of sessions beside the revocations: learned from token endpoints and from traffic, kept in the store.
//!
//! Two ways in. What a token endpoint hands out is written before it is handed out, so that no token exists whose session
//! is unknown. What ordinary requests tell goes through a bounded queue, off the request's path, and may be lost: no
//! revocation depends on it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

mod bindings;
mod book;
mod learner;
mod limit;
mod passwords;
mod seal;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod track;

pub use bindings::{Bindings, completed};
pub use book::{Book, Turn, Used};
pub use learner::Learner;
pub use limit::{Limits, MaxSessions};
pub use passwords::{IssuedPassword, PasswordError, PasswordSettings, Passwords};
pub use track::{Seen, Sightings, Tracker, readable};

// What the answers of token endpoints are written down in, for parts that do not reach the store.
pub use crate::store::{Claim, Lesson, StoreError};

/// What is written of sessions, and how often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether ordinary requests are told of at all.
    pub track: bool,
    /// How many sightings may wait to be written; more are dropped and counted.
    pub queue: usize,
    /// A token in use is told of so often.
    pub every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { track: true, queue: 10_000, every: Duration::from_secs(60) }
    }
}

/// What is to be ended on nobody's command: the rules of sessions and families demand it.
#[derive(Clone, Debug)]
pub struct End {
    /// The issuer's `iss`.
    pub issuer: Arc<str>,
    /// What of it.
    pub what: Ended,
    /// Why, for the audit trail.
    pub reason: &'static str,
    /// The address whose request brought it about.
    pub address: Option<IpAddr>,
}

/// A session, or a token family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// That session, by its id.
    Session(Box<str>),
    /// That family, by its name.
    Family(Box<str>),
}

/// Ends sessions and families through the log, audited like any command. Implemented by what carries out commands.
#[async_trait]
pub trait Revoker: fmt::Debug + Send + Sync + 'static {
    /// Ends it. `Ok` promises what every revocation does: durable, and refused by this replica.
    ///
    /// # Errors
    ///
    /// The store's; it is unknown then whether it stands.
    async fn end(&self, end: End) -> Result<(), StoreError>;
}
