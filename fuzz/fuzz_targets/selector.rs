//! A selector that is read has one canonical text, which reads as the same selector.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::domain::Selector;

fuzz_target!(|bytes: &[u8]| {
    let Ok(selector) = serde_json::from_slice::<Selector>(bytes) else { return };
    let again: Selector = serde_json::from_str(&selector.canonical()).expect("its own text");
    assert_eq!(again, selector);
});
