//! An index to measure, and tokens to ask it about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::ManualClock;
use portcullis::domain::{
    Change, Claims, Cutoff, Memo, Position, Reach, Revocation, RevocationId, Selector, Timestamp, TokenDigest,
    TokenKind,
};
use portcullis::index::Index;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const ISSUER: &str = "https://id.example.com/";
/// One after the other takes its turn, so that each of them holds as many entries.
const SHAPES: [&[&str]; 6] =
    [&["token_id"], &["session"], &["user"], &["client", "user"], &["claim:device_id"], &["user", "claim:device_id"]];

/// An index of so many entries in the first so many shapes.
pub(crate) fn filled(shapes: usize, entries: usize) -> Arc<Index> {
    let index = Index::new(ManualClock::at(NOW), Duration::from_secs(10), [7; 16]);
    (0..entries).for_each(|n| revoke(&index, shapes, n));
    index
}

/// Revokes what no token of [`claims`] is; after it every check looks again.
pub(crate) fn revoke(index: &Index, shapes: usize, n: usize) {
    let names = SHAPES.iter().take(shapes).cycle().nth(n % shapes).expect("at least one shape");
    let selector = selector(names, n);
    let standing = vec![revocation(n, selector.clone())];
    index.apply(&Change { position: Position::START, selector, standing, cause: None });
}

fn selector(names: &[&str], n: usize) -> Selector {
    let named = names.iter().map(|name| ((*name).to_owned(), format!("{name}-{n:08}")));
    let parts: BTreeMap<String, String> = named.chain([("issuer".to_owned(), ISSUER.to_owned())]).collect();
    Selector::try_from(parts).expect("a selector of known names")
}

fn revocation(n: usize, selector: Selector) -> Revocation {
    Revocation {
        id: RevocationId::from_random(n as u128),
        selector,
        reach: Reach::LOGIN,
        cutoff: Cutoff::Absolute,
        created_at: NOW,
        expires_at: Some(NOW.after(Duration::from_secs(86_400))),
        actor: "bench".into(),
        reason: None,
        named_for: None,
    }
}

/// A token that nothing revokes, with a value for every name.
pub(crate) fn claims(n: usize) -> Claims {
    let text = |name: &str| Some(format!("{name}-live-{n:08}").into_boxed_str());
    Claims {
        issuer: ISSUER.into(),
        kind: TokenKind::Access,
        digest: TokenDigest::new([3; 32]),
        token_id: text("token_id"),
        session: text("session"),
        user: text("user"),
        username: None,
        client: text("client"),
        key_id: text("key_id"),
        issued_at: Some(NOW),
        expires_at: Some(NOW.after(Duration::from_secs(600))),
        scopes: Box::default(),
        other: Box::new([("device_id".into(), text("device_id").into_iter().collect())]),
        family: None,
        twins: Box::default(),
        generation: None,
        memo: Memo::default(),
    }
}
