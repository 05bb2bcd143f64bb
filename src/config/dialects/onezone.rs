//! `[dialects.onezone]`.

use super::mount;
use crate::admin::onezone::{Settings, UpstreamSettings};
use crate::config::issuers::Issuers;
use crate::config::table::Table;
use crate::config::value::{File, Hidden, HttpUrl, SecretFile};
use crate::domain::BearerToken;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Settings> {
    let upstream = upstream(table);
    Some(Settings { mount: mount(table, issuers)?, upstream })
}

/// The Onezone that is told. The keys that mean nothing without it are unknown then.
fn upstream(table: &mut Table<'_>) -> Option<UpstreamSettings> {
    let HttpUrl(url) = table.optional::<HttpUrl>("upstream")?;
    if crate::config::issuers::is_open(&url) {
        table.fault("upstream", "is plain http; whoever is on the way sees the callers' tokens");
    }
    if url.query().is_some() {
        table.fault("upstream", "must not have a query");
    }
    let ca = table.optional::<File>("ca").map(|file| file.0);
    let secret = table.optional::<SecretFile>("token_file");
    let token = secret.and_then(|SecretFile(Hidden(text))| {
        let token = BearerToken::parse(&text);
        if token.is_none() {
            table.fault("token_file", "holds no token");
        }
        token
    });
    Some(UpstreamSettings { url, ca, token })
}
