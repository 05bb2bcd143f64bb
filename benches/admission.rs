//! What verification and admission cost.
//!
//! `cargo bench --bench admission`: the bare signature check of aws-lc-rs; a token seen for the first time, whose signature is checked; a token
//! seen before; and a full admission, from the header to the verdict, with a million revocations in the index.

use std::hint::black_box;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use portcullis::admission::{Gate, Policy, Settings as GateSettings};
use portcullis::clock::SystemClock;
use portcullis::domain::{BearerToken, TokenKind};
use serde_json::Value;

#[path = "parts/gate.rs"]
mod parts;

use parts::{Signer, index, verifier};

const REVOCATIONS: usize = 1_000_000;

fn admission(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clock = SystemClock::shared();
    let now = clock.now().as_secs();
    let signers = ["ES256", "EdDSA"].map(Signer::of);
    let verifier = runtime.block_on(async { verifier(&signers.iter().collect::<Vec<_>>(), clock.clone()) });
    let gate = Gate::new(GateSettings::default(), index(REVOCATIONS, clock.clone()), verifier.clone());
    let policy = Policy::default();
    for signer in &signers {
        let mut group = criterion.benchmark_group(signer.alg);
        bare(&mut group, signer);
        let mut next = 0;
        group.bench_function("first sight", |bencher| {
            let fresh = || {
                next += 1;
                BearerToken::parse(&signer.token(next, now)).expect("a token")
            };
            let verify =
                |token| runtime.block_on(verifier.verify(&token, TokenKind::Access, &None)).expect("it is good");
            bencher.iter_batched(fresh, verify, criterion::BatchSize::LargeInput);
        });
        let known = BearerToken::parse(&signer.token(0, now)).expect("a token");
        group.bench_function("seen before", |bencher| {
            bencher.iter(|| runtime.block_on(verifier.verify(&known, TokenKind::Access, &None)).expect("it is good"));
        });
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {}", known.expose()).parse().expect("a header"));
        group.bench_function("full admission, seen before", |bencher| {
            bencher.iter(|| {
                let token = gate.extract(&headers, None, &policy).expect("a token");
                let verified = runtime.block_on(gate.verify(token, &policy)).expect("it is good");
                black_box(gate.admit(verified, &policy, clock.now()).expect("it may pass"))
            });
        });
        group.finish();
    }
}

/// The signature alone, as the yardstick.
fn bare(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, signer: &Signer) {
    let message = vec![b'x'; 400];
    let signature = (signer.sign)(&message);
    let decoded = |name: &str| {
        let text = signer.jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let (algorithm, key): (&'static dyn aws_lc_rs::signature::VerificationAlgorithm, Vec<u8>) = match signer.alg {
        "ES256" => (&ECDSA_P256_SHA256_FIXED, [vec![4], decoded("x"), decoded("y")].concat()),
        _ => (&aws_lc_rs::signature::ED25519, decoded("x")),
    };
    let key = UnparsedPublicKey::new(algorithm, key);
    group.bench_function("bare signature", |bencher| {
        bencher.iter(|| key.verify(black_box(&message), &signature).expect("it is good"));
    });
}

criterion_group!(benches, admission);
criterion_main!(benches);
