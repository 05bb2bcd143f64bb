//! Normalising is idempotent, and what passes has no dot segment and no second meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::gateway::path::normalise;

fuzz_target!(|text: &str| {
    let Ok(path) = normalise(text) else { return };
    assert!(!path.decoded().split('/').any(|segment| segment == "." || segment == ".."));
    assert!(!path.decoded().contains(['\\', '\0']));
    let again = normalise(path.forwarded()).expect("what was normalised is normal");
    assert_eq!(again.forwarded(), path.forwarded());
});
