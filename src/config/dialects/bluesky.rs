//! `[dialects.bluesky]`.

use std::time::Duration;

use super::mount;
use crate::admin::bluesky::{AccessTokens, Settings, UpstreamSettings, patience};
use crate::config::issuers::Issuers;
use crate::config::range::SECOND;
use crate::config::table::{Node, Read, Table};
use crate::config::value::{File, HttpUrl, choice};
use crate::net::client::{self, Client};

/// The scope without which nobody at the server acts for others.
const ADMIN_SCOPE: &str = "admin:apikeys";

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Settings> {
    let mount = mount(table, issuers);
    let access_tokens = table.or("access_tokens", AccessTokens::default());
    let upstream = upstream(table);
    let admin_scopes = table.or("admin_scopes", vec![ADMIN_SCOPE.to_owned()]);
    Some(Settings { mount: mount?, access_tokens, upstream, admin_scopes })
}

/// The server that is asked who calls. What says how to ask is an unknown key where nobody is asked.
fn upstream(table: &mut Table<'_>) -> Option<UpstreamSettings> {
    let HttpUrl(url) = table.optional("upstream")?;
    if url.query().is_some() {
        table.fault("upstream", "is a base URL; it has no query");
    }
    let timeout = table.within("upstream_timeout", 5 * SECOND, Duration::from_millis(100)..=30 * SECOND);
    let ca = table.optional::<File>("upstream_ca").map(|File(path)| path);
    let client = client::Settings { ca, ..patience(timeout) };
    if let Err(error) = Client::new(&client) {
        table.fault("upstream_ca", format!("is no good: {error}"));
    }
    Some(UpstreamSettings { url, client })
}

impl Read for AccessTokens {
    fn read(node: &Node<'_>) -> Option<Self> {
        choice(node, &[("strict", Self::Strict), ("as_original", Self::AsOriginal)])
    }
}
