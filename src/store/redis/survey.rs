//! What a server's settings mean for what is kept in it, said once at the start. The server may keep them to itself; then
//! nothing is said.

use std::collections::HashMap;

use redis::pipe;

use crate::store::redis::connection::Connection;

/// Looks at how the server evicts and persists, and warns of what may lose revocations.
pub(super) async fn warn_of_settings(connection: &Connection) {
    let mut question = pipe();
    for name in ["maxmemory-policy", "appendonly", "appendfsync", "save"] {
        question.cmd("CONFIG").arg("GET").arg(name);
    }
    let Ok(settings) = connection.pipe::<Vec<HashMap<String, String>>>(&question).await else { return };
    for warning in warnings(&settings.into_iter().flatten().collect()) {
        tracing::warn!(warning, "the Redis of store.url is not set up to keep revocations");
    }
}

fn warnings(settings: &HashMap<String, String>) -> Vec<&'static str> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|held| held == value);
    let mut warnings = Vec::new();
    if settings.contains_key("maxmemory-policy") && !is("maxmemory-policy", "noeviction") {
        warnings.push("maxmemory-policy is not noeviction: revocations are dropped when memory is short");
    }
    if is("appendonly", "no") && is("save", "") {
        warnings.push("neither appendonly nor save is on: a restart loses everything");
    } else if is("appendonly", "no") {
        warnings.push("appendonly is off: a crash loses what was written since the last snapshot");
    } else if is("appendonly", "yes") && is("appendfsync", "no") {
        warnings.push("appendfsync is no: a crash of the machine loses what the system had not written yet");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_lose_revocations_are_warned_of() {
        let warned = |settings: &[(&str, &str)]| {
            warnings(&settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).len()
        };
        assert_eq!(warned(&[]), 0);
        let good =
            [("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("appendfsync", "everysec"), ("save", "")];
        assert_eq!(warned(&good), 0);
        assert_eq!(warned(&[("maxmemory-policy", "allkeys-lru"), ("appendonly", "no"), ("save", "")]), 2);
        assert_eq!(warned(&[("appendonly", "yes"), ("appendfsync", "no")]), 1);
        assert_eq!(warned(&[("appendonly", "no"), ("save", "3600 1")]), 1);
    }
}
