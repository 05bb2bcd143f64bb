//! What a check of the index costs, and what an entry weighs.
//!
//! `cargo bench --bench index`: nanoseconds for a token that is not revoked, at 1 thousand, 1 million and 10 million revocations
//! in one and in six shapes; each check of another of 65,536 tokens, so that caches are as cold as in service. Then bytes of
//! resident memory an entry, and what loading one takes. Each row is a process of its own, so that none finds memory that
//! another has freed.
//!
//! *Unchanged*: the token was checked since the index last changed. *Changed*: it was not, but its keys are kept. *First*:
//! nobody ever asked about it.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use portcullis::domain::Claims;
use portcullis::index::Index;

#[path = "parts/index.rs"]
mod parts;

use parts::{NOW, claims, filled, revoke};

const ROWS: [(usize, usize); 6] =
    [(1, 1_000), (1, 1_000_000), (1, 10_000_000), (6, 1_000), (6, 1_000_000), (6, 10_000_000)];
const TOKENS: usize = 1 << 16;
/// How often each of them is asked about; the median counts.
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if let [shapes, entries] = *arguments {
        return row(shapes, entries);
    }
    println!("| shapes | entries | unchanged, ns | changed, ns | first, ns | bytes an entry | loading one, ns |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let program = std::env::current_exe().expect("the program runs");
    for (shapes, entries) in ROWS {
        let run = Command::new(&program).args([shapes.to_string(), entries.to_string()]).status();
        assert!(run.is_ok_and(|status| status.success()), "a row could not be measured");
    }
}

fn row(shapes: usize, entries: usize) {
    let tokens: Vec<Claims> = (0..TOKENS).map(claims).collect();
    let (before, began) = (resident_bytes(), Instant::now());
    let index = filled(shapes, entries);
    let load_ns = began.elapsed().as_nanos() as usize / entries;
    let bytes = resident_bytes().saturating_sub(before) / entries;
    let held: Vec<_> = tokens.iter().cloned().map(Arc::new).collect();
    check(&index, &held);
    let unchanged = median(|| check(&index, &held));
    let mut more = entries;
    let changed = median(|| {
        more += 1;
        revoke(&index, shapes, more);
        check(&index, &held)
    });
    let first = median(|| check(&index, &tokens.iter().cloned().map(Arc::new).collect::<Vec<_>>()));
    println!("| {shapes} | {entries} | {unchanged:.1} | {changed:.1} | {first:.1} | {bytes} | {load_ns} |");
}

/// Asks about all of them; nanoseconds a check.
fn check(index: &Index, tokens: &[Arc<Claims>]) -> f64 {
    let began = Instant::now();
    for claims in tokens {
        assert!(!black_box(index.covers_shared(black_box(claims), NOW)));
    }
    began.elapsed().as_nanos() as f64 / tokens.len() as f64
}

fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}

/// The process's resident memory, as the kernel counts it.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    kib * 1024
}
