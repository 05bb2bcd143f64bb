//! The configuration of a story: the usual one, with what the story says laid over it.

use toml::{Table, Value};

/// Lays `over` on `base`: tables are merged, anything else is replaced.
pub(crate) fn overlay(base: &mut Table, over: Table) {
    for (name, value) in over {
        match (base.get_mut(&name), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

/// Reads a story's text, in which `{name}` stands for one of `words`.
pub(crate) fn parse(text: &str, words: &[(&str, String)]) -> Table {
    let filled = words.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    filled.parse().unwrap_or_else(|fault| panic!("{fault} in the story's configuration:\n{filled}"))
}

/// What every story starts from: one issuer, one upstream, one route, and callers with each right.
pub(crate) const USUAL: &str = r#"
[proxy]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[[admin.credentials]]
name = "ops"
token_sha256 = "{ops}"
rights = ["admin"]

[[admin.credentials]]
name = "reader"
token_sha256 = "{reader}"
rights = ["sessions:read"]

[[admin.credentials]]
name = "revoker"
token_sha256 = "{revoker}"
rights = ["sessions:revoke"]

[[admin.credentials]]
name = "auditor"
token_sha256 = "{auditor}"
rights = ["audit:read"]

[store]
url = "sqlite:{folder}/portcullis.db"

[[issuers]]
name = "main"
issuer = "https://id.test/"
verification = "signature"
jwks_url = "{jwks}"
jwks_cooldown = "1s"
audiences = ["api"]
algorithms = ["RS256", "ES256", "EdDSA"]
leeway = "5s"
max_token_lifetime = "24h"

[[routes]]
path = "/"
upstreams = ["{upstream}"]
upgrades = ["websocket"]
"#;
