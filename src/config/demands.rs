//! What a route demands of a token: `auth`, `issuers`, `tokens`, `api_keys`, `scopes`, `query_token`, `when_stale`.

use std::sync::Arc;

use hyper::header::HeaderName;

use super::admin::known_issuer;
use super::issuers::Issuers;
use super::store::STALE;
use super::table::{Node, Table};
use super::value::choice;
use crate::admission::{Auth, Place, Policy};
use crate::domain::{Dialect, TokenForm, TokenKind};
use crate::verify::{Accepted, Verification};

/// Reads a route's demands.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers, dialect: Dialect) -> Option<Policy> {
    const AUTHS: [(&str, Auth); 3] = [("required", Auth::Required), ("optional", Auth::Optional), ("none", Auth::None)];
    let auth = match table.node("auth") {
        Some(node) => choice(&node, &AUTHS).unwrap_or_default(),
        None => Auth::Required,
    };
    let accepted = accepted(table, issuers);
    let places = table.or("tokens", places_of(dialect));
    if places.is_empty() {
        table.fault("tokens", "must name one place at least");
    }
    let usual = if auth == Auth::None { Vec::new() } else { api_key_places_of(dialect, accepted.as_ref(), issuers) };
    let api_keys = api_keys(table, &places, usual);
    let scopes: Vec<String> = table.or("scopes", Vec::new());
    let query_token = table.optional::<String>("query_token").filter(|name| !name.is_empty()).map(Into::into);
    let when_stale = table.node("when_stale").and_then(|node| choice(&node, &STALE));
    let policy = Policy {
        auth,
        accepted: accepted?,
        places,
        api_keys,
        scopes: scopes.iter().map(|scope| scope.as_str().into()).collect(),
        kind: TokenKind::Access,
        first_only: dialect == Dialect::Onezone,
        companions: companions_of(dialect),
        query_token,
        when_stale,
    };
    judge_query(table, &policy);
    judge(table, &policy, issuers);
    Some(policy)
}

/// Where the clients of a system put their tokens.
fn places_of(dialect: Dialect) -> Vec<Place> {
    let header = |name| Place::Header(HeaderName::from_static(name));
    match dialect {
        // In the order in which Onezone looks.
        Dialect::Onezone => vec![header("x-auth-token"), Place::Bearer, header("macaroon")],
        _ => vec![Place::Bearer],
    }
}

/// Where they put API keys, in the order in which the server looks. Only where some issuer of the route may have such: for
/// others' readers, keys are tokens of nobody's.
fn api_key_places_of(dialect: Dialect, accepted: Option<&Accepted>, issuers: &Issuers) -> Vec<Place> {
    let accepts = |name| accepted.and_then(Option::as_ref).is_none_or(|accepted| accepted.contains(name));
    let mut opaque = issuers.settled.iter().filter(|issuer| issuer.opaque_tokens && accepts(&issuer.name));
    let may_be = opaque.any(|issuer| matches!(issuer.token_form, TokenForm::Any | TokenForm::Hexadecimal));
    match dialect {
        Dialect::Bluesky if may_be => vec![
            Place::Query("api_key".into()),
            Place::Scheme("apikey".into()),
            Place::Cookie("bluesky_httpserver_api_key".into()),
        ],
        _ => Vec::new(),
    }
}

/// Where they put those of third parties.
fn companions_of(dialect: Dialect) -> Vec<HeaderName> {
    match dialect {
        Dialect::Onezone => ["x-onedata-service-token", "x-onedata-consumer-token"].map(HeaderName::from_static).into(),
        _ => Vec::new(),
    }
}

/// Where API keys stand. A place is for one of the two, else the kind of what stands there would be anybody's guess.
fn api_keys(table: &mut Table<'_>, tokens: &[Place], usual: Vec<Place>) -> Vec<Place> {
    let takes_passwords = tokens.contains(&Place::SessionPassword);
    if tokens.iter().any(|place| matches!(place, Place::Scheme(_))) {
        table.fault("tokens", "have no scheme but bearer; scheme:NAME is a place for api_keys");
    }
    if tokens.iter().any(|place| matches!(place, Place::Query(_))) {
        table.fault("tokens", "stand in no query but by query_token; query:NAME is a place for api_keys");
    }
    let usual = usual.into_iter().filter(|place| !tokens.contains(place)).collect();
    let places: Vec<Place> = table.or("api_keys", usual);
    for place in &places {
        if matches!(place, Place::Bearer | Place::WebSocketProtocol | Place::SessionPassword) {
            table.fault(
                "api_keys",
                format!("{place} is a place for tokens; use scheme:NAME, header:NAME, cookie:NAME or query:NAME"),
            );
        } else if takes_passwords && *place == Place::Scheme("basic".into()) {
            table.fault("api_keys", "scheme:basic is where session passwords stand; leave one of the two out");
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

/// A parameter of the query is for one of the two kinds, and cannot be taken out where only the first credential counts.
fn judge_query(table: &Table<'_>, policy: &Policy) {
    for place in &policy.api_keys {
        let Place::Query(name) = place else { continue };
        if policy.first_only {
            table.fault("api_keys", format!("{place} cannot be ignored behind another, as this dialect does"));
        } else if policy.query_token.as_ref() == Some(name) {
            table.fault("api_keys", format!("{place} is where tokens stand, by query_token"));
        }
    }
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
    let accepts = |name: &Arc<str>| policy.accepted.as_ref().is_none_or(|accepted| accepted.contains(name));
    let unverified = |issuer: &&crate::verify::IssuerSettings| match &issuer.verification {
        Verification::None => true,
        Verification::Macaroon(macaroon) => macaroon.secret.is_none(),
        Verification::Signature(_) | Verification::Introspection(_) => false,
    };
    let mut accepted = issuers.settled.iter().filter(|issuer| accepts(&issuer.name)).peekable();
    if policy.places.contains(&Place::SessionPassword)
        && accepted.peek().is_some()
        && accepted.all(|one| unverified(&one))
    {
        table.fault("tokens", "cannot be session-password, which is given for tokens that are verified here alone");
    }
    if policy.scopes.is_empty() {
        return;
    }
    for issuer in issuers.settled.iter().filter(unverified).filter(|issuer| accepts(&issuer.name)) {
        let text = format!("cannot be met by tokens of {:?}, which nobody verifies here", issuer.name);
        table.fault("scopes", text);
    }
    for scope in policy.scopes.iter().filter(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
        table.fault("scopes", format!("{scope:?} is no scope (RFC 6749 §3.3)"));
    }
}
