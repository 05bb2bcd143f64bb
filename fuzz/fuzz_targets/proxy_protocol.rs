//! A PROXY header is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = portcullis::net::proxy_protocol::parse(bytes);
});
