//! From an accepted socket to a connection of which is known who is there and what is spoken, in bounded time.
//!
//! First a trusted balancer's `PROXY` header, then TLS, then the protocol: in TLS the negotiated name (ALPN) decides, on
//! a plain connection the HTTP/2 preface (RFC 9113 §3.4), by prior knowledge. It is decided once and never guessed again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::census::Slot;
use super::io::{Io, Paced, Rewind, Transport, Wire};
use super::listener::Live;
use super::proxy_protocol::{self, Parsed};
use super::settings::Settings;
use super::{Peer, TlsPeer};
use crate::telemetry::Metrics;

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that was accepted, and of which nothing has been read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) listener: &'static str,
    pub(super) socket: std::net::TcpStream,
    pub(super) address: SocketAddr,
    pub(super) slot: Slot,
    pub(super) live: Arc<Live>,
    pub(super) metrics: Arc<Metrics>,
}

/// Why a connection did not come to its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unready {
    #[error("too many connections from this address")]
    Crowded,
    #[error("the system cannot watch another socket")]
    Unwatched(#[source] io::Error),
    #[error("{0} took too long")]
    Late(&'static str),
    #[error("malformed PROXY header")]
    Proxy(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// It went, or kept silent, without having asked for anything. That is nobody's fault.
    #[error("nothing was asked")]
    Silent,
    #[error("HTTP/2 was negotiated and is not spoken")]
    NotHttp2,
}

/// A connection of which is known who is there and what is spoken.
pub(super) struct Ready {
    pub(super) io: Io,
    pub(super) peer: Arc<Peer>,
    pub(super) ahead: Vec<u8>,
    pub(super) since: Instant,
    pub(super) http2: bool,
    pub(super) live: Arc<Live>,
    pub(super) metrics: Arc<Metrics>,
}

impl Arrival {
    /// Finds out who is there and what is spoken.
    pub(super) async fn prepare(self) -> Result<Ready, Unready> {
        let Self { socket, address, mut slot, live, metrics, .. } = self;
        let Settings { timeouts, limits, .. } = live.settings;
        let socket = TcpStream::from_std(socket).map_err(Unready::Unwatched)?;
        let mut socket = Paced::new(socket, timeouts.body);
        let (named, ahead) = match speaks_proxy(&live.settings, address.ip()) {
            true => timely("the PROXY header", timeouts.header, read_proxy_header(&mut socket)).await?,
            false => (None, Vec::new()),
        };
        let from_balancer = named.is_none() && is_trusted(&live.settings, address.ip());
        let address = named.unwrap_or(address);
        let most = limits.connections_per_address.filter(|_| !from_balancer);
        if most.is_some_and(|most| !slot.belongs_to(address.ip(), most)) {
            return Err(Unready::Crowded);
        }
        let wire = Rewind::new(ahead, socket);
        let (mut transport, tls, negotiated) = secure(wire, &live, timeouts.header).await?;
        let since = Instant::now();
        let (http2, ahead) = match negotiated {
            Negotiated::Http1 => (false, Vec::new()),
            Negotiated::Http2 => (true, timely_or_silent(timeouts.header, sniff(&mut transport)).await?),
            Negotiated::Nothing => {
                let ahead = timely_or_silent(timeouts.header, sniff(&mut transport)).await?;
                (ahead.starts_with(PREFACE), ahead)
            }
        };
        if http2 && !ahead.starts_with(PREFACE) {
            return Err(Unready::NotHttp2);
        }
        let peer = Arc::new(Peer { address, tls });
        Ok(Ready { io: Io::new(transport, slot), peer, ahead, since, http2, live, metrics })
    }
}

/// What TLS says is spoken.
enum Negotiated {
    Http1,
    Http2,
    /// There is no TLS, so either may come.
    Nothing,
}

async fn timely<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, Unready>>,
) -> Result<T, Unready> {
    timeout(limit, work).await.unwrap_or(Err(Unready::Late(what)))
}

async fn timely_or_silent<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, Unready> {
    timeout(limit, work).await.ok().and_then(Result::ok).ok_or(Unready::Silent)
}

fn is_trusted(settings: &Settings, address: IpAddr) -> bool {
    settings.trusted_proxies.iter().any(|network| network.contains(&address))
}

fn speaks_proxy(settings: &Settings, address: IpAddr) -> bool {
    settings.proxy_protocol && is_trusted(settings, address)
}

/// The source that the header names, and what was read behind the header.
async fn read_proxy_header(io: &mut (impl AsyncRead + Unpin)) -> Result<(Option<SocketAddr>, Vec<u8>), Unready> {
    let malformed = |malformed| Unready::Proxy(io::Error::new(io::ErrorKind::InvalidData, malformed));
    let mut bytes = Vec::with_capacity(proxy_protocol::MOST_BYTES);
    loop {
        if io.read_buf(&mut bytes).await.map_err(Unready::Proxy)? == 0 {
            return Err(Unready::Proxy(io::ErrorKind::UnexpectedEof.into()));
        }
        // A header is never longer than what was allocated, so this ends.
        if let Parsed::Whole(source, length) = proxy_protocol::parse(&bytes).map_err(malformed)? {
            let source = source.map(|source| SocketAddr::new(source.ip().to_canonical(), source.port()));
            return Ok((source, bytes.split_off(length)));
        }
    }
}

/// Speaks TLS, where it is configured.
async fn secure(wire: Wire, live: &Live, limit: Duration) -> Result<(Transport, Option<TlsPeer>, Negotiated), Unready> {
    let Some(tls) = &live.tls else { return Ok((Transport::Plain(wire), None, Negotiated::Nothing)) };
    let handshake = async { TlsAcceptor::from(tls.clone()).accept(wire).await.map_err(Unready::Handshake) };
    let stream = timely("the TLS handshake", limit, handshake).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let peer = tls_peer(&stream);
    let negotiated = if http2 { Negotiated::Http2 } else { Negotiated::Http1 };
    Ok((Transport::Tls(Box::new(stream)), Some(peer), negotiated))
}

fn tls_peer(stream: &TlsStream<Wire>) -> TlsPeer {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    TlsPeer {
        server_name: session.server_name().map(Arc::from),
        client_certificate_sha256: certificate.map(|certificate| hexadecimal(digest(&SHA256, certificate).as_ref())),
    }
}

fn hexadecimal(bytes: &[u8]) -> Arc<str> {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// Reads until it is clear whether the preface comes; answers what was read.
async fn sniff(io: &mut Transport) -> io::Result<Vec<u8>> {
    let mut ahead = Vec::with_capacity(4096);
    loop {
        if io.read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let differs = ahead.iter().zip(PREFACE).any(|(came, due)| came != due);
        if differs || ahead.len() >= PREFACE.len() {
            return Ok(ahead);
        }
    }
}
