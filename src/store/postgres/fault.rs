//! What PostgreSQL's failures mean for whoever asked: try again, or mend something first.
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::borrow::Cow;

use crate::store::StoreError;

/// A failure inside a transaction: of PostgreSQL, or of what a row holds.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(sqlx::Error),
    Row(StoreError),
}

impl Failure {
    /// Whether another job may succeed where this one failed: it is about what was to be written or what was read, not
    /// about the server.
    pub(super) fn concerns_one(&self) -> bool {
        match self {
            Self::Row(error) => !matches!(error, StoreError::Unavailable(_)),
            // Data exceptions, rules that what is written would break, and what is too large for an index.
            Self::Sql(error) => {
                code(error).is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
            }
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Row(error)
    }
}

/// Whether another transaction was in the way: the same may succeed at once.
pub(super) fn is_conflict(failure: &Failure) -> bool {
    matches!(failure, Failure::Sql(error) if matches!(code(error).as_deref(), Some("40001" | "40P01")))
}

/// Whether the connection is dead, as one is that was idle while the server was started again: another may do.
pub(super) fn is_severed(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_)) || matches!(code(error).as_deref(), Some("57P01" | "57P02"))
}

/// Whether our tables are not there: the database was dropped and made anew, or emptied.
pub(super) fn lacks_schema(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("3F000" | "42P01" | "42883"))
}

/// Why a server that was reached, or a way to it, cannot be used, and what to do; `None` when another attempt may succeed.
pub(super) fn refusal(error: &sqlx::Error) -> Option<String> {
    let text = match error {
        sqlx::Error::Tls(why) => untrusted(why),
        sqlx::Error::Io(why) if why.kind() == std::io::ErrorKind::InvalidData => untrusted(why),
        sqlx::Error::Configuration(_) => {
            "store.url, store.ca, store.client_cert or store.client_key cannot be used to reach PostgreSQL".to_owned()
        }
        _ => refused_by_server(error)?,
    };
    Some(text)
}

fn untrusted(why: &dyn std::fmt::Display) -> String {
    format!(
        "PostgreSQL's TLS is not to be trusted: {why}. Give store.ca the certificate of who signed the server's, connect by the \
         name it holds, or say sslmode=disable in store.url if nobody can be in between"
    )
}

fn refused_by_server(error: &sqlx::Error) -> Option<String> {
    let said = error.as_database_error()?.message();
    match code(error)?.as_ref() {
        "28000" | "28P01" => Some(format!(
            "PostgreSQL lets us in under no such name and password ({said}); see store.url and store.password_file"
        )),
        "3D000" => Some(format!("PostgreSQL has no such database ({said}); create it, or name another in store.url")),
        "42501" => Some(format!(
            "PostgreSQL's user may not keep the store there ({said}); let it own the database, or its schema `portcullis`"
        )),
        _ => None,
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}
