//! How the server is reached: what the URL and the settings ask for, a pool with bounds on every wait, and what every
//! transaction begins with.
//!
//! Everything runs inside a transaction, and every setting is made for that transaction alone, so that a pooler which
//! hands each transaction to another connection of its own (pgbouncer, `pool_mode = transaction`) does no harm. That there is
//! one is said by `?statement-cache-capacity=0` in the URL: then no statement is kept from one transaction to the next, and
//! nobody listens, for what is heard would come to whoever has that connection by then. News comes as late as `store.poll`
//! says.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::store::{Remote, Settings, StoreError, StoreUrl};

/// How long a connection that was given back may take to show that it is still good.
const GIVEN_BACK: Duration = Duration::from_secs(3);
/// How long somebody waits for a connection, at most.
const ACQUIRE: Duration = Duration::from_secs(3);
/// How long a connection is used.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What to connect with.
///
/// Beyond loopback the server must show a certificate for its name, unless the URL says otherwise by `sslmode`; that it
/// does is told in the log, for then whoever sits in between can read and forge everything.
pub(super) fn options(url: &StoreUrl, remote: &Remote) -> Result<PgConnectOptions, StoreError> {
    let unreadable =
        |_| StoreError::Unusable("store.url is no URL that PostgreSQL's clients understand".to_owned(), None);
    let mut options = PgConnectOptions::from_str(url.reveal())
        .map_err(unreadable)?
        .application_name("portcullis")
        // Poolers refuse to start a session with it.
        .extra_float_digits(None)
        .disable_statement_logging();
    if let Some(password) = &remote.password {
        options = options.password(password.reveal());
    }
    if let Some(ca) = &remote.ca {
        options = options.ssl_root_cert(ca);
    }
    if let Some((certificate, key)) = &remote.identity {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    Ok(guarded(options, names_sslmode(url)))
}

fn guarded(options: PgConnectOptions, named: bool) -> PgConnectOptions {
    let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa);
    if verified || is_local(&options) {
        return options;
    }
    if !named {
        return options.ssl_mode(PgSslMode::VerifyFull);
    }
    tracing::warn!(
        host = options.get_host(),
        "store.url asks for no verified TLS: whoever is between here and the store can read and change what it says"
    );
    options
}

fn names_sslmode(url: &StoreUrl) -> bool {
    asks(url, "sslmode=") || asks(url, "ssl-mode=") || std::env::var_os("PGSSLMODE").is_some()
}

/// Whether a parameter of the URL begins so.
fn asks(url: &StoreUrl, beginning: &str) -> bool {
    let query = url.reveal().split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.starts_with(beginning))
}

/// Whether the way there does not leave this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let loopback = || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || loopback()
}

/// Connections that are made when they are needed.
pub(super) fn pool(options: PgConnectOptions, connections: u32, settings: &Settings) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(settings.timeout.min(ACQUIRE))
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        // A connection whose other end is silent must not keep a place in the pool.
        .after_release(|connection, _| {
            Box::pin(async move {
                let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                tokio::time::timeout(GIVEN_BACK, sqlx::Connection::ping(connection)).await.map_err(late)??;
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// What a transaction that reads begins with: one moment of the store, for all its statements. One whose client has fallen
/// silent is ended, so that it does not keep the server from tidying.
pub(super) fn begin_reading(timeout: Duration) -> String {
    let millis = timeout.as_millis();
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {millis}; \
         SET LOCAL idle_in_transaction_session_timeout = {millis}; {NO_JIT}"
    )
}

/// Whether the URL says that a pooler hands each transaction to another connection.
pub(super) fn is_pooled(url: &StoreUrl) -> bool {
    asks(url, "statement-cache-capacity=0")
}

/// `begin` behind a pooler. sqlx names its statements even when it keeps none, and others have left some of those names on
/// the connection.
pub(super) fn behind_a_pooler(begin: &str) -> String {
    begin.replacen(';', "; DEALLOCATE ALL;", 1)
}

/// The same for what a follower reads.
pub(super) fn begin_paging(timeout: Duration) -> String {
    format!("{}; {BY_INDEX}", begin_reading(timeout))
}

/// Rows are found by index, whatever the planner thinks: a plan made while a table was small, or never looked at, would read
/// all of it.
const BY_INDEX: &str =
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// To compile a statement takes longer than to carry out any of ours; what is found by index against the planner's will looks
/// dear enough to it.
const NO_JIT: &str = "SET LOCAL jit = off";

/// What a transaction that writes begins with.
///
/// `READ COMMITTED`, so that each statement sees what was committed before it, other than a lock it waits for itself. One
/// whose client has fallen silent is ended, for it may hold what everyone waits for. What is acknowledged is on disk, whatever
/// the server's default.
pub(super) fn begin_writing(timeout: Duration) -> String {
    let millis = timeout.as_millis();
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {millis}; \
         SET LOCAL lock_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}; \
         {NO_JIT}; {BY_INDEX}; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        options(&url.into(), &Remote::default()).unwrap().get_ssl_mode()
    }

    #[test]
    fn beyond_loopback_the_server_must_prove_who_it_is_unless_the_url_says_otherwise() {
        assert!(matches!(mode("postgres://u@db.example/p"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@10.0.0.7/p?application_name=x"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@db.example/p?sslmode=verify-ca"), PgSslMode::VerifyCa));
        assert!(matches!(mode("postgres://u@db.example/p?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://u@127.0.0.1/p"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://u@[::1]/p"), PgSslMode::Prefer));
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_repeated() {
        let refusal = options(&"postgres://u:hunter2@h:port/d".into(), &Remote::default()).unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"), "{refusal:?}");
    }
}
