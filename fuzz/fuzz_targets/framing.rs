//! However a client's bytes come, the guard neither panics nor passes more than it was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::net::framing::{Bounds, Framing, Step};

fuzz_target!(|bytes: &[u8]| {
    let mut framing = Framing::new(Bounds { head_bytes: 4096, headers: 32 });
    let mut rest = bytes;
    while let Step::Pass(passed) = framing.step(rest) {
        assert!(passed <= rest.len());
        if passed == 0 {
            break;
        }
        rest = &rest[passed..];
    }
});
