//! Calls out: JWKS, discovery, introspection. Bounded in size and time, TLS verified, redirects never followed.
//!
//! They are rare, so each has a connection of its own. Only configured URLs are called. No error says more than which
//! step failed and why: neither the URL's query nor a credential is in it.

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{TlsError, client_config};

/// How calls are made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// For a call as a whole, to the last byte of its answer.
    pub timeout: Duration,
    /// For the connection: name look-up, TCP and TLS.
    pub connect: Duration,
    /// Trusted beside the system's certificates: a PEM file.
    pub ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), connect: Duration::from_secs(5), ca: None }
    }
}

/// Makes calls to configured URLs.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    connect: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code: any but a redirect's.
    pub status: u16,
    /// `max-age` of `Cache-Control`, if any; zero for `no-store` and `no-cache` (RFC 9111 §5.2.2).
    pub max_age: Option<Duration>,
    /// The whole body, within the bound.
    pub body: Bytes,
}

/// Why a call out failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL cannot be called.
    #[error("the URL cannot be called: {0}")]
    Url(&'static str),
    /// No answer, or not the whole of it, in time.
    #[error("no answer in time")]
    TimedOut,
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// No TLS, or not with whom it should be.
    #[error("cannot speak TLS")]
    Tls(#[source] std::io::Error),
    /// The answer is not HTTP, or broke off.
    #[error("the answer is not proper HTTP")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says to ask elsewhere. The configuration should name that place, if it can be trusted.
    #[error("answered {0}, a redirect; redirects are not followed")]
    Redirected(u16),
    /// The body is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Client {
    /// A client that trusts the system's certificates and those of `settings.ca`.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when `settings.ca` is no good.
    pub fn new(settings: &Settings) -> Result<Self, TlsError> {
        let tls = client_config(settings.ca.as_deref(), &[b"http/1.1"])?;
        Ok(Self { tls, timeout: settings.timeout, connect: settings.connect })
    }

    /// `GET`, at most `max_bytes` of body.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. An error status is an [`Answer`].
    pub async fn get(&self, url: &Uri, max_bytes: usize) -> Result<Answer, CallError> {
        self.call(Method::GET, url, HeaderMap::new(), Bytes::new(), max_bytes).await
    }

    /// `GET` with these headers, at most `max_bytes` of body. For a credential that is not ours but a caller's.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. An error status is an [`Answer`].
    pub async fn get_with(&self, url: &Uri, headers: HeaderMap, max_bytes: usize) -> Result<Answer, CallError> {
        self.call(Method::GET, url, headers, Bytes::new(), max_bytes).await
    }

    /// `POST` of a form with HTTP Basic credentials (RFC 6749 §2.3.1), at most `max_bytes` of answer.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. An error status is an [`Answer`].
    pub async fn post_form(
        &self,
        url: &Uri,
        basic: Option<(&str, &str)>,
        fields: &[(&str, &str)],
        max_bytes: usize,
    ) -> Result<Answer, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some((id, secret)) = basic {
            headers.insert(header::AUTHORIZATION, basic_credentials(id, secret)?);
        }
        self.call(Method::POST, url, headers, form(fields).into(), max_bytes).await
    }

    /// Any other call, at most `max_bytes` of answer. Headers that are secret are to be marked as such.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. An error status is an [`Answer`].
    pub async fn call(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
        max_bytes: usize,
    ) -> Result<Answer, CallError> {
        let place = Place::of(url)?;
        let request = place.request(method, url, headers, body)?;
        let call = async {
            if place.tls {
                let stream = timely(self.connect, self.connect_tls(&place)).await?;
                exchange(stream, request, max_bytes).await
            } else {
                let stream = timely(self.connect, connect(&place)).await?;
                exchange(stream, request, max_bytes).await
            }
        };
        timely(self.timeout, call).await
    }

    async fn connect_tls(&self, place: &Place) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CallError> {
        let name = ServerName::try_from(place.host.clone()).map_err(|_| CallError::Url("its host is no name"))?;
        let stream = connect(place).await?;
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(CallError::Tls)
    }
}

async fn timely<T>(limit: Duration, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout(limit, work).await.unwrap_or(Err(CallError::TimedOut))
}

async fn connect(place: &Place) -> Result<TcpStream, CallError> {
    TcpStream::connect((place.host.as_str(), place.port)).await.map_err(CallError::Connect)
}

/// Where a URL leads.
struct Place {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    authority: HeaderValue,
}

impl Place {
    fn of(url: &Uri) -> Result<Self, CallError> {
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(CallError::Url("its scheme is neither http nor https")),
        };
        let authority = url.authority().ok_or(CallError::Url("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(CallError::Url("it has credentials"));
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self {
            tls,
            host: bare.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| CallError::Url("its host is no name"))?,
        })
    }

    fn request(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder().method(method).uri(target).body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
            request.headers_mut().insert(header::HOST, self.authority.clone());
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        request.map_err(|_| CallError::Url("its path is malformed"))
    }
}

const USER_AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Answer, CallError> {
    let broken = |error: hyper::Error| CallError::Http(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async { receive(sender.send_request(request).await.map_err(broken)?, max_bytes).await };
    // The connection must be driven, and may end before its last bytes were taken.
    let driven = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driven => match never {},
    }
}

async fn receive(response: Response<Incoming>, max_bytes: usize) -> Result<Answer, CallError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(CallError::Redirected(status.as_u16()));
    }
    let max_age = max_age(response.headers());
    let collected = Limited::new(response.into_body(), max_bytes).collect().await;
    match collected {
        Ok(body) => Ok(Answer { status: status.as_u16(), max_age, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => Err(CallError::TooLarge(max_bytes)),
        Err(error) => Err(CallError::Http(error)),
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    let mut max_age = None;
    for directive in fields.flat_map(|field| field.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => max_age = value.trim().trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    max_age
}

/// Both are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic_credentials(id: &str, secret: &str) -> Result<HeaderValue, CallError> {
    let joined = format!("{}:{}", form_encoded(id), form_encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(joined)))
        .map_err(|_| CallError::Url("its credentials cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", form_encoded(name), form_encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// `application/x-www-form-urlencoded`.
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        let value = basic_credentials("a:b", "s %é").unwrap();
        assert_eq!(value.to_str().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("a%3Ab:s+%25%C3%A9")));
        assert_eq!(format!("{value:?}"), "Sensitive");
    }

    #[test]
    fn the_age_an_answer_may_reach_is_read() {
        let age = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static(value))]);
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age("public, Max-Age=300"), Some(300));
        assert_eq!(age("max-age=300, no-cache"), Some(0));
        assert_eq!(age("public"), None);
        assert_eq!(age("max-age=-1"), None);
    }
}
