//! The parts of a request, to count their instructions: `instructions PART COUNT` does one of them so often.
//!
//! `benches/instructions.py` runs it under callgrind and compares with limits; what the parts need to begin with drops out
//! there, since it runs each part twice as often as well.

use std::hint::black_box;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use portcullis::admission::{Gate, Policy, Settings};
use portcullis::clock::{Clock, ManualClock};
use portcullis::domain::{BearerToken, TokenKind};

#[path = "parts/gate.rs"]
mod gate;
#[path = "parts/index.rs"]
mod parts;

use parts::{NOW, claims, filled, revoke};

/// Revocations in the index, of six shapes where it is the index that counts.
const ENTRIES: usize = 6_000;
/// How many tokens take turns.
const TOKENS: usize = 1_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (part, count) = (arguments.next().unwrap_or_default(), arguments.next());
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(TOKENS);
    match &*part {
        "index-memo" => checks(count, false),
        "index-moved" => checks(count, true),
        "index-first" => first_checks(count),
        "cache-hit" | "admission" => admissions(count, part == "admission"),
        _ => println!("instructions index-memo|index-moved|index-first|cache-hit|admission COUNT"),
    }
}

/// Checks of tokens that were checked before; with a change of the index in between, or not.
fn checks(count: usize, moves: bool) {
    let index = filled(6, ENTRIES);
    let tokens: Vec<_> = (0..TOKENS).map(claims).map(Arc::new).collect();
    assert!(tokens.iter().all(|claims| !index.covers_shared(claims, NOW)));
    for n in 0..count {
        if moves && n % TOKENS == 0 {
            // The same one again, so that the tables stay as they are.
            revoke(&index, 6, 0);
        }
        black_box(tokens.get(n % TOKENS).is_some_and(|claims| index.covers_shared(claims, NOW)));
    }
}

/// Checks that keep nothing.
fn first_checks(count: usize) {
    let index = filled(6, ENTRIES);
    let tokens: Vec<_> = (0..TOKENS).map(claims).collect();
    for n in 0..count {
        black_box(tokens.get(n % TOKENS).is_some_and(|claims| index.covers(claims, NOW)));
    }
}

/// A token that was verified before; only that, or from the header to the verdict.
fn admissions(count: usize, whole: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (clock, signer, policy) = (ManualClock::at(NOW), gate::Signer::of("ES256"), Policy::default());
    let verifier = runtime.block_on(async { gate::verifier(&[&signer], clock.clone()) });
    let gate = Gate::new(Settings::default(), gate::index(ENTRIES, clock.clone()), verifier.clone());
    let token = BearerToken::parse(&signer.token(0, clock.now().as_secs())).expect("a token");
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {}", token.expose()).parse().expect("a header"));
    runtime.block_on(async {
        verifier.verify(&token, TokenKind::Access, &None).await.expect("it is good");
        for _ in 0..count {
            if whole {
                let token = gate.extract(&headers, None, &policy).expect("a token");
                let verified = gate.verify(token, &policy).await.expect("it is good");
                black_box(gate.admit(verified, &policy, clock.now()).expect("it may pass"));
            } else {
                black_box(verifier.verify(&token, TokenKind::Access, &None).await.expect("it is good"));
            }
        }
    });
}
