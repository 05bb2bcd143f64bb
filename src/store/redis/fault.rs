//! What the failures of a Redis mean: for whoever asked, and for the connection that was used.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// An error while the store is at work. Redis' own words say what to do: `OOM`, `MISCONF`, `NOREPLICAS`.
pub(super) fn at_work(error: RedisError) -> StoreError {
    StoreError::Unavailable(error.into())
}

/// An error while the store is being opened: who may not come in will not be let in later either, but a server that is
/// down comes back.
pub(super) fn at_start(error: RedisError) -> StoreError {
    if refuses_us(&error) {
        let advice = "the Redis of store.url refuses this user; check user and password, and that its ACL allows \
                      +@all on ~{portcullis}:* (or what the manual lists)";
        return StoreError::Unusable(advice.to_owned(), Some(error.into()));
    }
    if error.kind() == ErrorKind::InvalidClientConfig {
        return StoreError::Unusable("the certificates for store.url cannot be used".to_owned(), Some(error.into()));
    }
    at_work(error)
}

fn refuses_us(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// Whether the server asks for a password before anything else.
pub(super) fn asks_who_we_are(error: &RedisError) -> bool {
    error.code() == Some("NOAUTH")
}

/// Whether the connection is of no use after this: it is broken, silent, or leads to a server that is no master any more.
pub(super) fn ends_the_link(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::Client => true,
        ErrorKind::Server(kind) => matches!(kind, Moved | Ask | ReadOnly | ClusterDown | MasterDown),
        _ => asks_who_we_are(error),
    }
}

/// Whether the server has certainly done nothing, so that the same can be asked of another one.
pub(super) fn was_not_done(error: &RedisError) -> bool {
    use ServerErrorKind::{Moved, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(Moved | ReadOnly))
}

/// Whether a script must be sent in full because the server does not know it (any more).
pub(super) fn knows_no_such_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// An answer that is none of those a script of ours gives.
pub(super) fn strange_answer() -> StoreError {
    StoreError::Unavailable("the Redis answered what was not asked".into())
}
