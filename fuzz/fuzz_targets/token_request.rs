//! A token request is read or refused, and no other reader of the same document finds another refresh token in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::gateway::token_endpoint::head::MediaType;
use portcullis::gateway::token_endpoint::{Preset, request};

fuzz_target!(|body: &[u8]| {
    for preset in Preset::ALL {
        let path = "/token".parse().expect("a path");
        let endpoint = preset.endpoint("https://i".into(), "main".into(), path);
        let _ = request::read(&endpoint, MediaType::Form, body);
        let Ok(request) = request::read(&endpoint, MediaType::Json, body) else { continue };
        let Some(token) = request.refresh_token else { continue };
        let document: serde_json::Value = serde_json::from_slice(body).expect("what was read is JSON");
        assert_eq!(document.get("refresh_token").and_then(|value| value.as_str()), Some(token.expose()));
    }
});
