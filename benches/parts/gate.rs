//! What it takes to let a token pass: keys and signatures, a verifier, an index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::SharedClock;
use portcullis::domain::{
    Change, Checkpoint, Cutoff, Position, Proof, Reach, Revocation, RevocationId, Selector, Timestamp,
};
use portcullis::index::Index;
use portcullis::net::client::{self, Client};
use portcullis::telemetry::Metrics;
use portcullis::verify::{Fetch, IssuerSettings, KeySource, Settings, SignatureSettings, Verification, Verifier};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.com/";

/// Signs a text.
pub(crate) type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key of one algorithm, and how it signs.
pub(crate) struct Signer {
    pub(crate) alg: &'static str,
    pub(crate) jwk: Value,
    pub(crate) sign: Sign,
}

impl Signer {
    pub(crate) fn of(alg: &str) -> Self {
        if alg == "ES256" { Self::es256() } else { Self::eddsa() }
    }

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

    pub(crate) fn token(&self, n: u64, now: u64) -> String {
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

pub(crate) fn verifier(signers: &[&Signer], clock: SharedClock) -> Arc<Verifier> {
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
    // It is never called: the keys are in a file.
    let calls = |_: &IssuerSettings| Ok(Arc::new(Client::new(&client::Settings::default())?) as Arc<dyn Fetch>);
    let verifier = Verifier::new(settings, &calls, clock, Metrics::new());
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    Arc::new(verifier.expect("a verifier"))
}

/// An index in step, of so many revocations of other tokens.
pub(crate) fn index(revocations: usize, clock: SharedClock) -> Arc<Index> {
    let index = Index::new(clock.clone(), Duration::from_secs(86_400), [7; 16]);
    for n in 0..revocations {
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
