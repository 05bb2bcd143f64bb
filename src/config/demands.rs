//! What a route demands of a token: `auth`, `issuers`, `tokens`, `api_keys`, `scopes`, `query_token`.

use std::sync::Arc;

use super::admin::known_issuer;
use super::issuers::Issuers;
use super::table::{Node, Table};
use super::value::choice;
use crate::admission::{Auth, Place, Policy};
use crate::domain::TokenKind;
use crate::verify::{Accepted, Verification};

/// Reads a route's demands.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Policy> {
    const AUTHS: [(&str, Auth); 3] = [("required", Auth::Required), ("optional", Auth::Optional), ("none", Auth::None)];
    let auth = match table.node("auth") {
        Some(node) => choice(&node, &AUTHS).unwrap_or_default(),
        None => Auth::Required,
    };
    let accepted = accepted(table, issuers);
    let places = table.or("tokens", vec![Place::Bearer]);
    if places.is_empty() {
        table.fault("tokens", "must name one place at least");
    }
    let api_keys = api_keys(table, &places);
    let scopes: Vec<String> = table.or("scopes", Vec::new());
    let query_token = table.optional::<String>("query_token").filter(|name| !name.is_empty()).map(Into::into);
    let policy = Policy {
        auth,
        accepted: accepted?,
        places,
        api_keys,
        scopes: scopes.iter().map(|scope| scope.as_str().into()).collect(),
        kind: TokenKind::Access,
        query_token,
    };
    judge(table, &policy, issuers);
    Some(policy)
}

/// Where API keys stand. A place is for one of the two, else the kind of what stands there would be anybody's guess.
fn api_keys(table: &mut Table<'_>, tokens: &[Place]) -> Vec<Place> {
    if tokens.iter().any(|place| matches!(place, Place::Scheme(_))) {
        table.fault("tokens", "have no scheme but bearer; scheme:NAME is a place for api_keys");
    }
    let places: Vec<Place> = table.or("api_keys", Vec::new());
    for place in &places {
        if matches!(place, Place::Bearer | Place::WebSocketProtocol) {
            table.fault(
                "api_keys",
                format!("{place} is a place for tokens; use scheme:NAME, header:NAME or cookie:NAME"),
            );
        } else if tokens.contains(place) {
            table.fault("api_keys", format!("{place} is one of the places for tokens"));
        }
    }
    places
}

fn accepted(table: &mut Table<'_>, issuers: &Issuers) -> Option<Accepted> {
    let Some(node) = table.node("issuers") else { return Some(None) };
    let members = node.members()?;
    if members.is_empty() {
        node.fault("must name one at least; leave it out to accept all");
    }
    let known = |member: &Node<'_>| known_issuer(member, &issuers.names);
    let names: Vec<Arc<str>> = members.iter().filter_map(known).map(Into::into).collect();
    Some(Some(names.into()))
}

/// Demands that can never be met, or that nothing would come of.
fn judge(table: &Table<'_>, policy: &Policy, issuers: &Issuers) {
    if policy.auth == Auth::None {
        let idle = [
            ("scopes", !policy.scopes.is_empty()),
            ("issuers", policy.accepted.is_some()),
            ("api_keys", !policy.api_keys.is_empty()),
        ];
        for (key, _) in idle.iter().filter(|(_, set)| *set) {
            table.fault(key, "means nothing with auth = \"none\"");
        }
        return;
    }
    if issuers.names.is_empty() {
        table.fault("auth", "cannot be met, since no issuer is configured; write auth = \"none\" for a public route");
    }
    if policy.scopes.is_empty() {
        return;
    }
    let accepts = |name: &Arc<str>| policy.accepted.as_ref().is_none_or(|accepted| accepted.contains(name));
    let unverified = |issuer: &&crate::verify::IssuerSettings| issuer.verification == Verification::None;
    for issuer in issuers.settled.iter().filter(unverified).filter(|issuer| accepts(&issuer.name)) {
        let text = format!("cannot be met by tokens of {:?}, which nobody verifies here", issuer.name);
        table.fault("scopes", text);
    }
    for scope in policy.scopes.iter().filter(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
        table.fault("scopes", format!("{scope:?} is no scope (RFC 6749 §3.3)"));
    }
}
