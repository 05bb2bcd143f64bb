//! What verification and admission cost.
//!
//! `cargo bench --bench admission`: the bare signature check of aws-lc-rs; a token seen for the first time, whose signature is checked; a token
//! seen before; and a full admission, from the header to the verdict, with a million revocations in the index.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use portcullis::admission::{Gate, Policy, Settings as GateSettings};
use portcullis::clock::SystemClock;
use portcullis::domain::{
    BearerToken, Change, Checkpoint, Cutoff, Position, Proof, Reach, Revocation, RevocationId, Selector, Timestamp,
    TokenKind,
};
use portcullis::index::Index;
use portcullis::telemetry::Metrics;
use portcullis::verify::{IssuerSettings, KeySource, Settings, SignatureSettings, Verification, Verifier};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.com/";
const REVOCATIONS: usize = 1_000_000;

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key of one algorithm, and how it signs.
struct Signer {
    alg: &'static str,
    jwk: Value,
    sign: Sign,
}

impl Signer {
    fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness");
        let point = pair.public_key().as_ref().to_vec();
        let part = |from, to| URL_SAFE_NO_PAD.encode(point.get(from..to).expect("an uncompressed point"));
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "es", "x": part(1, 33), "y": part(33, 65)});
        let sign = move |bytes: &[u8]| pair.sign(&SystemRandom::new(), bytes).expect("a signature").as_ref().to_vec();
        Self { alg: "ES256", jwk, sign: Box::new(sign) }
    }

    fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().expect("randomness");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "ed", "x": x});
        Self { alg: "EdDSA", jwk, sign: Box::new(move |bytes| pair.sign(bytes).as_ref().to_vec()) }
    }

    fn token(&self, n: u64, now: u64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let kid = self.jwk.get("kid").cloned().unwrap_or_default();
        let head = part(json!({"alg": self.alg, "typ": "at+jwt", "kid": kid}));
        let claims = part(json!({
            "iss": ISSUER, "aud": "api", "sub": format!("user-{n}"), "sid": format!("session-{n}"), "jti": format!("token-{n}"),
            "azp": "web", "scope": "read write", "iat": now, "exp": now + 7_200,
        }));
        let signed = format!("{head}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn verifier(signers: &[&Signer]) -> Arc<Verifier> {
    let folder = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = folder.join("jwks.json");
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    std::fs::write(&file, json!({"keys": keys}).to_string()).expect("a key set");
    let algorithms = signers.iter().map(|signer| signer.alg.parse().expect("an algorithm")).collect();
    let signature = SignatureSettings::new(KeySource::File(file), algorithms);
    let mut issuer = IssuerSettings::new("main", ISSUER, Verification::Signature(signature));
    issuer.audiences = vec!["api".into()];
    let settings = Settings { issuers: vec![issuer], ..Settings::default() };
    let calls = |_: &IssuerSettings| Err("no calls in a bench".into());
    let verifier = Verifier::new(settings, &calls, SystemClock::shared(), Metrics::new());
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    Arc::new(verifier.expect("a verifier"))
}

fn index() -> Arc<Index> {
    let clock = SystemClock::shared();
    let index = Index::new(clock.clone(), Duration::from_secs(86_400), [7; 16]);
    for n in 0..REVOCATIONS {
        let parts = [("issuer".to_owned(), ISSUER.to_owned()), ("token_id".to_owned(), format!("dead-{n}"))];
        let selector = Selector::try_from(BTreeMap::from(parts)).expect("a selector");
        let revocation = Revocation {
            id: RevocationId::from_random(n as u128),
            selector: selector.clone(),
            reach: Reach::LOGIN,
            cutoff: Cutoff::Absolute,
            created_at: Timestamp::default(),
            expires_at: None,
            actor: "bench".into(),
            reason: None,
            named_for: None,
        };
        index.apply(&Change { position: Position::START, selector, standing: vec![revocation], cause: None });
    }
    index.caught_up(Proof { checkpoint: Checkpoint::START, as_of: clock.elapsed() });
    index
}

fn admission(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clock = SystemClock::shared();
    let now = clock.now().as_secs();
    let signers = [Signer::es256(), Signer::eddsa()];
    let verifier = runtime.block_on(async { verifier(&signers.iter().collect::<Vec<_>>()) });
    let gate = Gate::new(GateSettings::default(), index(), verifier.clone());
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
