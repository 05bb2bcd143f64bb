//! An answer teaches or is refused, and what it teaches can be kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::gateway::token_endpoint::head::MediaType;
use portcullis::gateway::token_endpoint::{Preset, reply, request};

fuzz_target!(|body: &[u8]| {
    for preset in Preset::ALL {
        let path = "/token".parse().expect("a path");
        let endpoint = preset.endpoint("https://i".into(), "main".into(), path);
        let request = request::read(&endpoint, MediaType::Json, b"{}").expect("an empty object");
        let Ok(Some(taught)) = reply::learn(&endpoint, &request, body) else { continue };
        assert!(taught.access_token.is_some() || taught.refresh_token.is_some());
        for name in [taught.session, taught.parent, taught.user, taught.username, taught.client, taught.domain] {
            assert!(name.is_none_or(|name| (1..=1024).contains(&name.len())));
        }
    }
});
