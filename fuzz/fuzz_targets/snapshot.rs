//! Whatever bytes are read as a snapshot do no harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::sync::snapshot::examine;

fuzz_target!(|bytes: &[u8]| {
    let _ = examine(bytes);
});
