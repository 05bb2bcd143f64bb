//! Any text is a token whose claims can be read, or none.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use portcullis::clock::SystemClock;
use portcullis::domain::BearerToken;
use portcullis::telemetry::Metrics;
use portcullis::verify::{IssuerSettings, MacaroonSettings, Settings, Verification, Verifier};
use tokio::runtime::{Builder, Runtime};

fn parts() -> &'static (Runtime, Verifier) {
    static PARTS: OnceLock<(Runtime, Verifier)> = OnceLock::new();
    PARTS.get_or_init(|| {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let macaroons = Verification::Macaroon(MacaroonSettings::default());
        let issuers = vec![
            IssuerSettings::new("main", "https://id.example.com/", Verification::None),
            IssuerSettings::new("zone", "onezone.example.org", macaroons),
        ];
        let settings = Settings { issuers, ..Settings::default() };
        let calls = |_: &IssuerSettings| Err("no calls".into());
        let verifier = runtime.block_on(async { Verifier::new(settings, &calls, SystemClock::shared(), Metrics::new()) });
        (runtime, verifier.expect("a verifier"))
    })
}

fuzz_target!(|text: &str| {
    let Some(token) = BearerToken::parse(text) else { return };
    let (runtime, verifier) = parts();
    let _ = runtime.block_on(verifier.read(&token));
});
