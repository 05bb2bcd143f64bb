//! `[admin]`: who may take back what.

use std::sync::Arc;

use super::table::{Node, Table};
use crate::admin::{Certificate, Credential, Fingerprint, Settings, TokenRule};
use crate::domain::{Right, Rights};

/// Reads the callers of the section. `issuers` are the names that are known.
pub(super) fn settle(table: &mut Table<'_>, issuers: &[String]) -> Settings {
    let mut names = Vec::new();
    let mut hashes: Vec<Fingerprint> = Vec::new();
    let credentials = table.sections("credentials", |table| {
        let (name, sha256, rights) = caller(table, &mut names, "token_sha256", &mut hashes)?;
        Some(Credential { name, sha256, rights })
    });
    let certificates = table.sections("certificates", |table| {
        let (name, sha256, rights) = caller(table, &mut names, "sha256", &mut hashes)?;
        Some(Certificate { name, sha256, rights })
    });
    let tokens = table.sections("tokens", |table| token_rule(table, issuers));
    let failures_per_minute = table.within("failures_per_minute", 10, 1..=1_000_000);
    Settings { credentials, certificates, tokens, failures_per_minute, ..Settings::default() }
}

fn caller(
    table: &mut Table<'_>,
    names: &mut Vec<String>,
    key: &'static str,
    hashes: &mut Vec<Fingerprint>,
) -> Option<(Arc<str>, Fingerprint, Rights)> {
    let name = table.required::<String>("name");
    if let Some(name) = &name {
        if name.is_empty() || names.contains(name) {
            table
                .fault("name", "must be there and be another's in no place: the audit trail tells callers apart by it");
        }
        names.push(name.clone());
    }
    let sha256 = table.required::<Fingerprint>(key);
    if let Some(sha256) = sha256 {
        if hashes.contains(&sha256) {
            table.fault(key, "stands in another entry already");
        }
        if sha256 == Fingerprint::of(b"") {
            table.fault(key, "is the hash of an empty text");
        }
        hashes.push(sha256);
    }
    let rights = rights(table);
    Some((name?.into(), sha256?, rights?))
}

fn rights(table: &mut Table<'_>) -> Option<Rights> {
    let rights: Vec<Right> = table.required("rights")?;
    if rights.is_empty() {
        table.fault("rights", "must name one at least");
    }
    Some(rights.into_iter().collect())
}

fn token_rule(table: &mut Table<'_>, issuers: &[String]) -> Option<TokenRule> {
    let issuer = table.node("issuer");
    if issuer.is_none() {
        table.fault("issuer", "is missing");
    }
    let issuer = issuer.and_then(|node| known_issuer(&node, issuers));
    let claim = table.required::<String>("claim");
    let value = table.required::<String>("value");
    let rights = rights(table);
    Some(TokenRule { issuer: issuer?.into(), claim: claim?.into(), value: value?.into(), rights: rights? })
}

/// The name of an issuer that is configured.
pub(super) fn known_issuer(node: &Node<'_>, issuers: &[String]) -> Option<String> {
    node.parse("the name of an issuer", |text| {
        if issuers.iter().any(|name| name == text) {
            return Ok(text.to_owned());
        }
        let known =
            if issuers.is_empty() { "none is configured".to_owned() } else { format!("known: {}", issuers.join(", ")) };
        Err(format!("no issuer has the name {text:?}; {known}"))
    })
}
