//! Any text is a configuration or a list of faults.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = portcullis::config::parse(Path::new("fuzz.toml"), text, &|_: &str| None);
});
