//! A small HTTP client on hyper's own connections, so that a story decides which request goes over which connection.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::rig::certs::SERVER_NAME;
use crate::rig::serve::{Body, BoxError, full};
use crate::rig::within;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wire {
    H1,
    H2c,
    TlsH1,
    TlsH2,
}

impl Wire {
    pub(crate) const fn is_tls(self) -> bool {
        matches!(self, Self::TlsH1 | Self::TlsH2)
    }

    /// What ALPN offers.
    pub(crate) const fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::TlsH2 => &["h2"],
            _ => &["http/1.1"],
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault} in {:?}", self.text()))
    }

    /// Reads an answer to its end.
    pub(crate) async fn read(response: Response<Incoming>) -> Result<Self, BoxError> {
        let (head, body) = response.into_parts();
        let collected = within("the body", body.collect()).await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
    }
}

/// One connection to one listener.
pub(crate) struct Connection {
    sender: Sender,
    scheme: &'static str,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Connection {
    /// Opens a connection; `tls` is used when the wire says so.
    pub(crate) async fn open(
        address: SocketAddr,
        wire: Wire,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let scheme = if wire.is_tls() { "https" } else { "http" };
        let sender = if wire.is_tls() {
            let tls = TlsConnector::from(tls.expect("a TLS wire needs the client's TLS"));
            let name = ServerName::try_from(SERVER_NAME)?;
            handshake(within("the TLS handshake", tls.connect(name, stream)).await?, wire).await?
        } else {
            handshake(stream, wire).await?
        };
        Ok(Self { sender, scheme })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Answer, BoxError> {
        Answer::read(self.start(request).await?).await
    }

    /// Sends a request and waits for the head of the answer only.
    pub(crate) async fn start(&mut self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let request = self.fitted(request);
        let answered = async {
            match &mut self.sender {
                Sender::H1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::H2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(within("the answer's head", answered).await?)
    }

    /// Gives the request the host and the target form its protocol wants.
    fn fitted(&self, mut request: Request<Body>) -> Request<Body> {
        let host = request.headers().get(HOST).map_or(SERVER_NAME.into(), |host| host.to_str().unwrap().to_owned());
        match self.sender {
            Sender::H1(_) => {
                request.headers_mut().insert(HOST, host.parse().unwrap());
            }
            Sender::H2(_) => {
                let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
                *request.uri_mut() = format!("{}://{host}{target}", self.scheme).parse::<Uri>().unwrap();
                request.headers_mut().remove(HOST);
            }
        }
        request
    }
}

async fn handshake<S>(stream: S, wire: Wire) -> Result<Sender, BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    if matches!(wire, Wire::H2c | Wire::TlsH2) {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        return Ok(Sender::H2(sender));
    }
    let (sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::H1(sender))
}

/// A `GET` with a bearer token.
pub(crate) fn get(path: &str, token: &str) -> Request<Body> {
    with_token("GET", path, token, "")
}

/// A request with a bearer token and a body.
pub(crate) fn with_token(method: &str, path: &str, token: &str, body: impl Into<Bytes>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {token}"));
    request.body(full(body)).unwrap()
}

/// A `POST` of form fields.
pub(crate) fn form(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    posted(path, "application/x-www-form-urlencoded", pairs.collect::<Vec<_>>().join("&"))
}

/// A `POST` of this content under this media type.
pub(crate) fn posted(path: &str, media: &str, content: impl Into<Bytes>) -> Request<Body> {
    Request::post(path).header(CONTENT_TYPE, media).body(full(content)).unwrap()
}

/// One request over a connection of its own to whoever listens there.
pub(crate) async fn ask(address: SocketAddr, request: Request<Body>) -> Answer {
    let mut connection = Connection::open(address, Wire::H1, None).await.expect("it takes connections");
    connection.send(request).await.expect("it answers")
}

/// A text as a form spells it, every doubtful byte encoded.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
