//! The two calls out that verification makes, behind a trait so that rules can be tested without a network.

use std::fmt::Debug;

use async_trait::async_trait;
use hyper::Uri;

use crate::net::client::{Answer, CallError, Client};

/// Makes calls out, bounded in size and time. [`Client`] is the real one.
#[async_trait]
pub trait Fetch: Debug + Send + Sync + 'static {
    /// `GET`, at most `max_bytes` of body.
    ///
    /// # Errors
    ///
    /// [`CallError`] when there is no whole answer, whatever its status.
    async fn get(&self, url: &Uri, max_bytes: usize) -> Result<Answer, CallError>;

    /// `POST` of a form with HTTP Basic credentials, at most `max_bytes` of answer.
    ///
    /// # Errors
    ///
    /// [`CallError`] when there is no whole answer, whatever its status.
    async fn post_form(
        &self,
        url: &Uri,
        basic: (&str, &str),
        fields: &[(&str, &str)],
        max_bytes: usize,
    ) -> Result<Answer, CallError>;
}

#[async_trait]
impl Fetch for Client {
    async fn get(&self, url: &Uri, max_bytes: usize) -> Result<Answer, CallError> {
        Self::get(self, url, max_bytes).await
    }

    async fn post_form(
        &self,
        url: &Uri,
        basic: (&str, &str),
        fields: &[(&str, &str)],
        max_bytes: usize,
    ) -> Result<Answer, CallError> {
        Self::post_form(self, url, Some(basic), fields, max_bytes).await
    }
}

/// Whether a URL may be fetched: over TLS, or on this machine.
pub(super) fn is_safe(url: &Uri) -> bool {
    match url.scheme_str() {
        Some("https") => url.host().is_some(),
        Some("http") => url.host().is_some_and(is_loopback),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_this_machine() {
        for url in ["https://id.example.com/jwks", "http://127.0.0.1:80/", "http://[::1]/", "http://LOCALHOST:8080/x"] {
            assert!(is_safe(&url.parse().unwrap()), "{url}");
        }
        for url in
            ["http://id.example.com/", "http://127.0.0.1.example.com/", "ftp://127.0.0.1/", "/jwks", "file:///etc"]
        {
            assert!(!url.parse().is_ok_and(|url| is_safe(&url)), "{url}");
        }
    }
}
