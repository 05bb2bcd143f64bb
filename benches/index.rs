//! What a check of the index costs, and what an entry weighs.
//!
//! `cargo bench --bench index`: nanoseconds for a token that is not revoked (every shape is probed) at 1 thousand, 1 million and
//! 10 million revocations in one and in six shapes, each check with another token, so that caches are as cold as in service;
//! then a table of resident bytes per entry.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use portcullis::clock::ManualClock;
use portcullis::domain::{
    Change, Claims, Cutoff, Memo, Position, Reach, Revocation, RevocationId, Selector, Timestamp, TokenDigest,
    TokenKind,
};
use portcullis::index::Index;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const ISSUER: &str = "https://id.example.com/";
/// One after the other takes its turn, so that each of them holds as many entries.
const SHAPES: [&[&str]; 6] =
    [&["token_id"], &["session"], &["user"], &["client", "user"], &["claim:device_id"], &["user", "claim:device_id"]];
const TOKENS: usize = 1 << 16;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let tokens: Vec<Claims> = (0..TOKENS).map(claims).collect();
    let mut rows = Vec::new();
    for (shapes, entries) in [(1, 1_000), (1, 1_000_000), (1, 10_000_000), (6, 1_000_000), (6, 10_000_000)] {
        let before = resident_bytes();
        let index = filled(shapes, entries);
        rows.push((shapes, entries, (resident_bytes().saturating_sub(before)) / entries));
        measure(&mut criterion, &index, &tokens, &format!("{shapes} shapes, {entries}"));
        drop(index);
    }
    criterion.final_summary();
    println!("\n| shapes | entries | resident bytes per entry |\n|---:|---:|---:|");
    rows.iter().for_each(|(shapes, entries, bytes)| println!("| {shapes} | {entries} | {bytes} |"));
}

fn measure(criterion: &mut Criterion, index: &Index, tokens: &[Claims], name: &str) {
    let mut next = tokens.iter().cycle();
    criterion.benchmark_group("index").bench_function(BenchmarkId::new("check", name), |bencher| {
        bencher.iter(|| next.next().map(|claims| black_box(index.covers(claims, NOW))));
    });
}

fn filled(shapes: usize, entries: usize) -> Arc<Index> {
    let index = Index::new(ManualClock::at(NOW), Duration::from_secs(10), [7; 16]);
    for n in 0..entries {
        let names = SHAPES.iter().take(shapes).cycle().nth(n % shapes).expect("at least one shape");
        let selector = selector(names, n);
        let standing = vec![revocation(n, selector.clone())];
        index.apply(&Change { position: Position::START, selector, standing, cause: None });
    }
    index
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
fn claims(n: usize) -> Claims {
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

/// The process's resident memory, as the kernel counts it.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    kib * 1024
}
