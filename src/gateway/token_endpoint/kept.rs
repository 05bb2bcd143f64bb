//! An answer of a token endpoint, whole: as it goes to everyone who waits for it, and as it is kept, sealed, for a client
//! that asks again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::gateway::body::Body;

/// A whole answer. It holds tokens: it has no `Debug` but of its size.
#[derive(Clone)]
pub(in crate::gateway) struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// How it is written down, before it is sealed.
#[derive(Deserialize, Serialize)]
struct Written {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Kept {
    /// The upstream's answer, cleaned of what belonged to its connection.
    pub(super) const fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self { status, headers, body }
    }

    /// Its status.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// A field of its head, when it is there once and a text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Its body.
    pub(super) const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The answer to one who waits for it.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::whole(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }

    /// Its bytes, to be sealed.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let field = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), STANDARD.encode(value.as_bytes()));
        let written = Written {
            status: self.status.as_u16(),
            headers: self.headers.iter().map(field).collect(),
            body: STANDARD.encode(&self.body),
        };
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// The answer that was written down as these bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let mut headers = HeaderMap::with_capacity(written.headers.len());
        for (name, value) in written.headers {
            let value = HeaderValue::from_bytes(&STANDARD.decode(value).ok()?).ok()?;
            headers.append(name.parse::<HeaderName>().ok()?, value);
        }
        let status = StatusCode::from_u16(written.status).ok()?;
        Some(Self { status, headers, body: STANDARD.decode(written.body).ok()?.into() })
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} with {} bytes)", self.status.as_u16(), self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("application/json"));
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_bytes(b"b=\xff").unwrap());
        let kept = Kept::new(StatusCode::OK, headers.clone(), Bytes::from_static(b"{\"access_token\":\"a\"}\n"));
        let response = Kept::from_bytes(&kept.to_bytes()).unwrap().response();
        let (parts, body) = response.into_parts();
        assert_eq!((parts.status, parts.headers), (StatusCode::OK, headers));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{\"access_token\":\"a\"}\n");
        assert!(!format!("{kept:?}").contains("access_token"));
    }
}
