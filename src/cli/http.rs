//! Talks to the admin side: one connection for each call, HTTP/1.1, bounded in time and size. Redirects are not followed,
//! since a credential goes with every call.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{AdminOptions, Failure, tls};

/// The largest answer that is read whole, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The admin side, as we call it.
pub(super) struct Admin {
    host: String,
    port: u16,
    prefix: String,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// A whole answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// An answer that is still coming, and the connection it comes through.
pub(super) struct Stream {
    pub(super) response: Response<Incoming>,
    _connection: JoinSet<()>,
}

impl Admin {
    /// Takes the address and the credential from the options and the environment.
    pub(super) fn new(options: &AdminOptions) -> Result<Self, Failure> {
        let url: Uri =
            options.admin.parse().map_err(|_| Failure::Usage(format!("--admin: {:?} is no URL", options.admin)))?;
        let scheme_is_https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Failure::Usage("--admin must be a URL of http or https".to_owned())),
        };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let admin = Self {
            port: url.port_u16().unwrap_or(if scheme_is_https { 443 } else { 80 }),
            prefix: url.path().trim_end_matches('/').to_owned(),
            tls: scheme_is_https
                .then(|| tls::client(options))
                .transpose()?
                .map(|config| TlsConnector::from(Arc::new(config))),
            authorization: credential(options)?,
            timeout: options.timeout,
            host,
        };
        admin.warn_of_plain_text();
        Ok(admin)
    }

    /// A server of the demo: no TLS, and that bearer token.
    pub(super) fn plain(address: std::net::SocketAddr, bearer: Option<&str>) -> Result<Self, Failure> {
        Ok(Self {
            host: address.ip().to_string(),
            port: address.port(),
            prefix: String::new(),
            tls: None,
            authorization: bearer.map(authorization).transpose()?,
            timeout: Duration::from_secs(10),
        })
    }

    /// The same, waiting so much longer for an answer.
    pub(super) fn patient(self, more: Duration) -> Self {
        Self { timeout: self.timeout.saturating_add(more), ..self }
    }

    fn warn_of_plain_text(&self) {
        let local = self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if self.tls.is_none() && !local && self.authorization.is_some() {
            eprintln!("portcullis: warning: the credential goes over plain http to {}", self.host);
        }
    }

    /// Sends JSON and answers with the JSON of a success.
    pub(super) async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(|value| ("application/json", Bytes::from(value.to_string())));
        self.call(method, path, body).await?.json()
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<(&str, Bytes)>) -> Result<Reply, Failure> {
        let exchange = async {
            let stream = self.open(method, path, body, &[]).await?;
            Reply::read(stream.response).await
        };
        timeout(self.timeout, exchange).await.map_err(|_| self.unreachable("no answer in time"))?
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Stream, Failure> {
        let mut request = self.request(method, path, body)?;
        request.headers_mut().extend(headers.iter().cloned());
        let (mut sender, connection) =
            timeout(self.timeout, self.connect()).await.map_err(|_| self.unreachable("no connection in time"))??;
        let answer = timeout(self.timeout, sender.send_request(request))
            .await
            .map_err(|_| self.unreachable("no answer in time"))?;
        let response = answer.map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(Stream { response, _connection: connection })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, format!("{host}:{}", self.port))
            .header(ACCEPT, "application/json, application/problem+json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some((media_type, _)) = body {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
        request
            .body(Full::new(body))
            .map_err(|_| Failure::Usage("--admin or an argument does not fit into a URL".to_owned()))
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, JoinSet<()>), Failure> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| self.unreachable(&error.to_string()))?;
        let Some(tls) = &self.tls else { return self.handshake(tcp).await };
        let name =
            ServerName::try_from(self.host.clone()).map_err(|_| Failure::Usage("--admin names no host".to_owned()))?;
        let tls = tls.connect(name, tcp).await;
        self.handshake(tls.map_err(|error| self.unreachable(&error.to_string()))?).await
    }

    async fn handshake<S>(&self, socket: S) -> Result<(SendRequest<Full<Bytes>>, JoinSet<()>), Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = http1::handshake(TokioIo::new(socket)).await;
        let (sender, connection) = handshake.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut tasks = JoinSet::new();
        // The answer tells of any failure; the connection's own end has nothing to add.
        tasks.spawn(async move { drop(connection.await) });
        Ok((sender, tasks))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("cannot reach the admin side at {}:{}: {why}", self.host, self.port))
    }
}

fn credential(options: &AdminOptions) -> Result<Option<HeaderValue>, Failure> {
    let secret = match &options.credential_file {
        Some(file) => Some(super::input::secret(Some(file), "credential")?),
        None => std::env::var("PORTCULLIS_CREDENTIAL").ok().filter(|secret| !secret.is_empty()),
    };
    secret.map(|secret| authorization(secret.trim())).transpose()
}

fn authorization(secret: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::try_from(format!("Bearer {secret}"));
    let mut value =
        value.map_err(|_| Failure::Usage("the credential holds characters that no header can".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Reply {
    /// Reads an answer to its end.
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| Failure::Unreachable(format!("the answer broke off: {error}")))?;
        Ok(Self { status: head.status, retry_after: retry_after.map(Duration::from_secs), body: body.to_bytes() })
    }

    /// The JSON of a success; anything else is a failure.
    pub(super) fn json(self) -> Result<Value, Failure> {
        if !self.status.is_success() {
            return Err(self.failure());
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::Failed("the admin side did not answer with JSON; is this its URL?".to_owned()))
    }

    /// What an answer that is no success means.
    pub(super) fn failure(&self) -> Failure {
        let text = self.problem();
        match self.status {
            StatusCode::UNAUTHORIZED => Failure::Refused(format!(
                "{text}; give a credential with --credential-file or in PORTCULLIS_CREDENTIAL"
            )),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Failure::Refused(text),
            StatusCode::SERVICE_UNAVAILABLE => Failure::Unavailable(text),
            _ => Failure::Failed(text),
        }
    }

    /// The problem document (RFC 9457) in one line.
    fn problem(&self) -> String {
        let document: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let member = |name: &str| document.get(name).and_then(Value::as_str).map(super::output::printable);
        let title = member("title").unwrap_or_else(|| "no explanation".to_owned());
        let detail = member("detail").map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("the admin side answered {}: {title}{detail}", self.status.as_u16())
    }
}

/// `text` as a part of a path or a query: everything but unreserved characters is percent-encoded (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let encode = |b: u8| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encode).collect()
}

/// A query of the pairs that have a value, with its `?`; empty when none has.
pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_deref()?))));
    let given: Vec<_> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn each_refusal_has_its_kind() {
        assert!(matches!(reply(401, "").failure(), Failure::Refused(text) if text.contains("--credential-file")));
        assert!(
            matches!(reply(403, r#"{"title":"no"}"#).failure(), Failure::Refused(text) if text.ends_with("403: no"))
        );
        assert!(matches!(reply(503, "").failure(), Failure::Unavailable(_)));
        assert!(
            matches!(reply(404, r#"{"title":"a","detail":"b\n"}"#).failure(), Failure::Failed(text) if text.ends_with("a: b\u{fffd}"))
        );
        assert!(matches!(reply(200, "<html>").json(), Err(Failure::Failed(_))));
    }

    #[test]
    fn text_from_the_user_stays_within_its_part_of_the_url() {
        assert_eq!(encode("a/b?c&d é"), "a%2Fb%3Fc%26d%20%C3%A9");
        assert_eq!(query(&[("a", Some("x y".into())), ("b", None)]), "?a=x%20y");
        assert_eq!(query(&[("b", None)]), "");
    }
}
