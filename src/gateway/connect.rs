//! Opens connections to one upstream: TCP, TLS where asked for, the HTTP handshake; all within one bound.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::early::Early;
use crate::gateway::refusal::UpstreamFault;
use crate::gateway::settings::{Scheme, UpstreamUrl};
use crate::gateway::tasks::{Task, Tasks};
use crate::gateway::upload::Upload;
use crate::net::Alarm;

const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// An HTTP/2 connection that answers no ping for twice this long is dead, however open it looks.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Streams a peer takes until it says otherwise (RFC 9113 §6.5.2 recommends no fewer).
const HTTP2_STREAMS_AT_FIRST: usize = 100;
/// How often a new connection is asked whether its peer has said that it takes extended CONNECT.
const SETTINGS_POLL: Duration = Duration::from_millis(2);

/// TLS as a client, with and without HTTP/2 on offer.
#[derive(Clone)]
pub(super) struct Tls {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Tls {
    /// TLS that trusts what `base` trusts.
    pub(super) fn new(base: ClientConfig) -> Self {
        let mut http1 = base.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut any = base;
        any.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { any: any.into(), http1: http1.into() }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Opens connections to one upstream.
#[derive(Debug)]
pub(super) struct Connector {
    /// Which.
    pub(super) url: UpstreamUrl,
    /// TLS, for `https://`.
    pub(super) tls: Option<Tls>,
    /// How long all of it may take.
    pub(super) bound: Duration,
    /// The most bytes of an answer's head.
    pub(super) head_bytes: usize,
}

/// An HTTP/1.1 connection, for one request at a time.
///
/// It moves on when whoever uses it is polled: an exchange is one task, and no other is woken for it.
pub(super) struct Http1 {
    sender: http1::SendRequest<Upload>,
    driver: Driver,
    /// Rings when the answer is late; kept here because setting a timer later is free, and setting one anew is not.
    pub(super) alarm: Alarm,
}

/// What moves a connection on.
enum Driver {
    /// Its user.
    User(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// A task, because its user does not look at it all the time.
    Task(#[expect(dead_code, reason = "held for its drop")] Task),
    /// Nothing: it has come to its end.
    Ended,
}

impl Http1 {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        let mut answered = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        std::future::poll_fn(|cx| {
            driver.poll(cx);
            answered.as_mut().poll(&mut driver.beside(cx))
        })
        .await
    }

    /// Moves the connection on, and says how to ask for what it brings; to be called whenever its user waits for that.
    pub(super) fn drive<'c>(&mut self, cx: &mut Context<'c>) -> Context<'c> {
        self.driver.poll(cx);
        self.driver.beside(cx)
    }

    /// Lets the connection move on by itself from now on.
    pub(super) fn detach(&mut self) {
        if let Driver::User(_) = &self.driver
            && let Driver::User(work) = std::mem::replace(&mut self.driver, Driver::Ended)
        {
            self.driver = Driver::Task(Task::spawn(work));
        }
    }

    /// Whether it has come to its end, as far as is known here.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.driver, Driver::Ended) || self.sender.is_closed()
    }

    /// Whether the next request may be sent on it, as far as is known here.
    pub(super) fn is_free(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::User(work) = self
            && work.as_mut().poll(cx).is_ready()
        {
            *self = Self::Ended;
        }
    }

    /// How what the connection brings is to be asked for. Where the one who asks has just driven it, nobody need be woken for
    /// what was brought, and being woken by oneself is to be polled in vain.
    fn beside<'c>(&self, cx: &Context<'c>) -> Context<'c> {
        match self {
            Self::User(_) => Context::from_waker(Waker::noop()),
            Self::Task(_) | Self::Ended => Context::from_waker(cx.waker()),
        }
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// An HTTP/2 connection, shared by many requests.
#[derive(Debug)]
pub(super) struct Http2 {
    /// Where requests go in; to be cloned.
    pub(super) sender: http2::SendRequest<Upload>,
    /// Streams open now.
    pub(super) open: AtomicUsize,
    /// Streams the peer takes at once.
    pub(super) most: Arc<AtomicUsize>,
    _driver: Task,
    tasks: Tasks,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// A connection that was just opened.
#[derive(Debug)]
pub(super) enum Fresh {
    /// HTTP/1.1.
    Http1(Http1),
    /// HTTP/2.
    Http2(Http2),
}

/// A stream of bytes, before HTTP.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// Opens a connection in whatever protocol the upstream speaks.
    pub(super) async fn dial(&self) -> Result<Fresh, UpstreamFault> {
        let opened = async {
            match (self.url.scheme(), self.wire(self.tls.as_ref().map(|tls| &tls.any)).await?) {
                (Scheme::H2c, Wire::Plain(tcp)) => self.http2(tcp).await.map(Fresh::Http2),
                (_, Wire::Plain(tcp)) => self.http1(tcp).await.map(Fresh::Http1),
                (_, Wire::Tls(tls)) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.http2(*tls).await.map(Fresh::Http2)
                }
                (_, Wire::Tls(tls)) => self.http1(*tls).await.map(Fresh::Http1),
            }
        };
        self.in_time(opened).await
    }

    /// Opens an HTTP/1.1 connection, for an upgrade; it moves on by itself.
    pub(super) async fn dial_http1(&self) -> Result<Http1, UpstreamFault> {
        let opened = async {
            match self.wire(self.tls.as_ref().map(|tls| &tls.http1)).await? {
                Wire::Plain(tcp) => self.http1(tcp).await,
                Wire::Tls(tls) => self.http1(*tls).await,
            }
        };
        let mut connection = self.in_time(opened).await?;
        connection.detach();
        Ok(connection)
    }

    /// Opens an HTTP/2 connection whose peer takes extended CONNECT (RFC 8441 §3), for a tunnel.
    pub(super) async fn dial_extended(&self) -> Result<Http2, UpstreamFault> {
        let opened = async {
            let Wire::Plain(tcp) = self.wire(None).await? else { return Err(other("an h2c upstream has no TLS")) };
            let (sender, connection, tasks) = self.handshake_http2(tcp).await?;
            while !connection.is_extended_connect_protocol_enabled() {
                if sender.is_closed() {
                    return Err(other("the upstream closed"));
                }
                tokio::time::sleep(SETTINGS_POLL).await;
            }
            Ok(driven(sender, connection, tasks))
        };
        self.in_time(opened).await
    }

    async fn in_time<T>(&self, opened: impl Future<Output = io::Result<T>>) -> Result<T, UpstreamFault> {
        match timeout(self.bound, opened).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                tracing::debug!(upstream = %self.url, %error, "upstream refused a connection");
                Err(UpstreamFault::Connect)
            }
            Err(_) => Err(UpstreamFault::ConnectTimeout),
        }
    }

    async fn wire(&self, tls: Option<&Arc<ClientConfig>>) -> io::Result<Wire> {
        let tcp = TcpStream::connect((self.url.host(), self.url.port())).await?;
        tcp.set_nodelay(true)?;
        let Some(config) = tls.filter(|_| self.url.scheme() == Scheme::Https) else {
            let plain = self.url.scheme() != Scheme::Https;
            return if plain { Ok(Wire::Plain(tcp)) } else { Err(other("no TLS for an https upstream")) };
        };
        let name = ServerName::try_from(self.url.host().to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config.clone()).connect(name, tcp).await?;
        Ok(Wire::Tls(Box::new(stream)))
    }

    async fn http1<T>(&self, io: T) -> io::Result<Http1>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.head_bytes.max(MIN_BUFFER_BYTES));
        let (sender, connection) = builder.handshake(TokioIo::new(Early::new(io))).await.map_err(io::Error::other)?;
        let driven = async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        };
        Ok(Http1 { sender, driver: Driver::User(Box::pin(driven)), alarm: Alarm::default() })
    }

    async fn http2<T>(&self, io: T) -> io::Result<Http2>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection, tasks) = self.handshake_http2(io).await?;
        Ok(driven(sender, connection, tasks))
    }

    async fn handshake_http2<T>(&self, io: T) -> io::Result<Handshaken<TokioIo<T>>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(self.head_bytes).unwrap_or(u32::MAX));
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        Ok((sender, connection, tasks))
    }
}

/// The least buffer hyper takes.
const MIN_BUFFER_BYTES: usize = 8192;

type Handshaken<T> = (http2::SendRequest<Upload>, http2::Connection<T, Upload, Tasks>, Tasks);

/// Lets a connection run, and keeps watching how many streams its peer takes.
fn driven<T>(
    sender: http2::SendRequest<Upload>,
    mut connection: http2::Connection<T, Upload, Tasks>,
    tasks: Tasks,
) -> Http2
where
    T: Read + Write + Send + Unpin + 'static,
{
    let most = Arc::new(AtomicUsize::new(HTTP2_STREAMS_AT_FIRST));
    let watched = most.clone();
    let driver = Task::spawn(async move {
        let ended = std::future::poll_fn(|cx| {
            let polled = std::pin::Pin::new(&mut connection).poll(cx);
            watched.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Http2 { sender, open: AtomicUsize::new(0), most, _driver: driver, tasks }
}

fn other(text: &'static str) -> io::Error {
    io::Error::other(text)
}
