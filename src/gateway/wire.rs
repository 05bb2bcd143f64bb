//! How a request names its target on the wire: origin-form and `Host` in HTTP/1.1, pseudo-headers in HTTP/2.
//!
//! The client's own `Host` goes upstream unchanged; what a request says twice must agree, so each protocol gets it once. A
//! request may be addressed again, for another upstream.

use hyper::header::{CONNECTION, HOST, HeaderValue, TE};
use hyper::http::uri::{Authority, Scheme as UriScheme};
use hyper::{Request, Uri, Version};

use crate::gateway::settings::{Scheme, UpstreamUrl};

/// How requests to one upstream are addressed.
#[derive(Debug)]
pub(super) struct Wire {
    scheme: UriScheme,
    /// For a client that named no host (HTTP/1.0).
    own_host: HeaderValue,
}

impl Wire {
    /// Addresses requests to `url`.
    pub(super) fn new(url: &UpstreamUrl) -> Self {
        let text = url.to_string();
        let own_host = text.split_once("://").map_or("", |(_, authority)| authority);
        Self {
            scheme: if url.scheme() == Scheme::Https { UriScheme::HTTPS } else { UriScheme::HTTP },
            own_host: HeaderValue::from_str(own_host).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// RFC 9112 §3.2.1.
    pub(super) fn address_http1<B>(&self, request: &mut Request<B>) {
        *request.version_mut() = Version::HTTP_11;
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::from_str(authority.as_str()).unwrap_or_else(|_| self.own_host.clone());
            request.headers_mut().insert(HOST, host);
            let target = request.uri().path_and_query().cloned();
            *request.uri_mut() = target.map_or_else(Uri::default, Uri::from);
        }
        request.headers_mut().entry(HOST).or_insert_with(|| self.own_host.clone());
        if request.headers().contains_key(TE) && !request.headers().contains_key(CONNECTION) {
            // RFC 9110 §10.1.4: TE is about this connection only.
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("TE"));
        }
    }

    /// RFC 9113 §8.3.1.
    pub(super) fn address_http2<B>(&self, request: &mut Request<B>) {
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(CONNECTION);
        let host = request.headers_mut().remove(HOST);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        if parts.authority.is_none() {
            let host = host.as_ref().unwrap_or(&self.own_host);
            parts.authority = Authority::try_from(host.as_bytes()).ok();
        }
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressed(url: &str, host: Option<&str>) -> [Request<()>; 3] {
        let wire = Wire::new(&url.parse().unwrap());
        let build = || {
            let mut request = Request::builder().uri("/a?b").header("te", "trailers").body(()).unwrap();
            if let Some(host) = host {
                request.headers_mut().insert(HOST, HeaderValue::from_str(host).unwrap());
            }
            request
        };
        let (mut http1, mut http2, mut both) = (build(), build(), build());
        wire.address_http1(&mut http1);
        wire.address_http2(&mut http2);
        wire.address_http2(&mut both);
        wire.address_http1(&mut both);
        [http1, http2, both]
    }

    #[test]
    fn the_host_is_said_once() {
        let [http1, http2, both] = addressed("https://10.0.0.1:8443", Some("a.example:8080"));
        assert_eq!(
            (http1.uri().to_string().as_str(), http1.headers()[HOST].to_str().unwrap()),
            ("/a?b", "a.example:8080")
        );
        assert_eq!(http2.uri(), "https://a.example:8080/a?b");
        assert!(!http2.headers().contains_key(HOST) && !http2.headers().contains_key(CONNECTION));
        assert_eq!(http1.headers()[CONNECTION], "TE");
        assert_eq!((both.uri(), both.headers(), both.version()), (http1.uri(), http1.headers(), Version::HTTP_11));
    }

    #[test]
    fn a_client_that_names_no_host_gets_the_upstreams_own() {
        let [http1, http2, _] = addressed("h2c://10.0.0.1:50051", None);
        assert_eq!(http1.headers()[HOST], "10.0.0.1:50051");
        assert_eq!(http2.uri(), "http://10.0.0.1:50051/a?b");
    }
}
