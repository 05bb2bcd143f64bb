//! `[dialects]`: whose APIs are spoken, and on which listener. A file for each; what they share is here.

use super::admin::known_issuer;
use super::issuers::Issuers;
use super::table::{Node, Read, Table};
use crate::admin::{Dialects, Mount};

mod bluesky;
mod elasticsearch;
mod onezone;
mod privx;

/// Reads all of them.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Dialects> {
    let elasticsearch = table.optional_section("elasticsearch", |table| elasticsearch::settle(table, issuers));
    let privx = table.optional_section("privx", |table| privx::settle(table, issuers));
    let onezone = table.optional_section("onezone", |table| onezone::settle(table, issuers));
    let bluesky = table.optional_section("bluesky", |table| bluesky::settle(table, issuers));
    let dialects = Dialects { elasticsearch, privx, onezone, bluesky };
    if let Some((one, other)) = dialects.clash() {
        table.fault(one, format!("has a call where {other} has one; give one of them another prefix"));
    }
    Some(dialects)
}

/// Where one is served, and for whose tokens.
fn mount(table: &mut Table<'_>, issuers: &Issuers) -> Option<Mount> {
    let on: Vec<Listener> = table.or("on", vec![Listener::Admin]);
    if on.is_empty() {
        table.fault("on", "must name one listener at least: admin, proxy");
    }
    let Prefix(prefix) = table.or("prefix", Prefix(String::new()));
    let name = match table.node("issuer") {
        Some(node) => known_issuer(&node, &issuers.names),
        None => only(table, issuers),
    };
    let issuer = issuers.settled.iter().find(|issuer| name.as_deref() == Some(&*issuer.name))?;
    Some(Mount {
        admin: on.contains(&Listener::Admin),
        proxy: on.contains(&Listener::Proxy),
        prefix: prefix.into(),
        issuer: issuer.issuer.clone(),
        issuer_name: issuer.name.clone(),
    })
}

fn only(table: &Table<'_>, issuers: &Issuers) -> Option<String> {
    if let [only] = &*issuers.names {
        return Some(only.clone());
    }
    let known = if issuers.names.is_empty() { "none is configured".to_owned() } else { issuers.names.join(", ") };
    table.fault("issuer", format!("is missing; name the one whose tokens this dialect is about: {known}"));
    None
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Listener {
    Admin,
    Proxy,
}

impl Read for Listener {
    fn read(node: &Node<'_>) -> Option<Self> {
        super::value::choice(node, &[("admin", Self::Admin), ("proxy", Self::Proxy)])
    }
}

/// Where our own calls begin.
const OURS: [&str; 4] = ["v1", "healthz", "readyz", "metrics"];

/// What stands before the paths of a dialect.
pub(super) struct Prefix(pub(super) String);

impl Read for Prefix {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("a path such as \"/elastic\"", |text| {
            let segment = |segment: &str| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
                !segment.is_empty() && segment.bytes().all(plain) && !segment.bytes().all(|b| b == b'.')
            };
            let plain = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
            let ours = text.split('/').nth(1).is_some_and(|first| OURS.contains(&first));
            match (text.is_empty() || plain, ours) {
                (true, false) => Ok(Self(text.to_owned())),
                (true, true) => Err("is where our own calls are".to_owned()),
                (false, _) => {
                    Err("must be empty, or begin with a slash, end without one and need no escapes".to_owned())
                }
            }
        })
    }
}
