//! What the stories need.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::admission::{self, Admitted, Gate, Policy};
use crate::clock::SystemClock;
use crate::domain::{Claims, Dialect, TokenDigest, TokenKind};
use crate::gateway::story::Story;
use crate::gateway::{
    Body, Gateway, IdentityHeaders, Limits, Parts, RouteSettings, Settings, Timeouts, UpstreamSettings, UpstreamUrl,
};
use crate::index::Index;
use crate::live::Live;
use crate::net::{self, Drain, Nowhere, Peer};
use crate::sessions::{self, Tracker};
use crate::telemetry::Metrics;
use crate::telemetry::access_log;
use crate::verify::{self, Verifier};

pub(super) type Boxed = UnsyncBoxBody<Bytes, Infallible>;

pub(super) fn text(text: impl Into<Bytes>) -> Boxed {
    Full::new(text.into()).boxed_unsync()
}

pub(super) fn empty() -> Boxed {
    Empty::new().boxed_unsync()
}

/// Settings with one route, `/`, to these upstreams, that does not wait long.
pub(super) fn settings(upstreams: &[UpstreamUrl]) -> Settings {
    let route = RouteSettings {
        name: "all".into(),
        path: "/".parse().unwrap(),
        hosts: Vec::new(),
        methods: Vec::new(),
        upstreams: upstreams.to_vec(),
        policy: Policy::default(),
        upgrades: vec!["websocket".into()],
        identity_headers: Some(IdentityHeaders::default()),
        cut_on_expiry: true,
        dialect: Dialect::OAuth2,
    };
    Settings {
        routes: vec![route],
        upstream: UpstreamSettings::default(),
        timeouts: Timeouts { connect: Duration::from_secs(5), ..Timeouts::default() },
        limits: Limits::default(),
        token_endpoints: Vec::new(),
        trusted_proxies: Vec::new(),
        access_log: access_log::Settings::default(),
    }
}

/// A gate that nobody here asks.
pub(super) fn gate() -> Arc<Gate> {
    let clock = SystemClock::shared();
    let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
    let no_calls: verify::Calls<'_> = &|_| Err("nobody is called".into());
    let verifier = Verifier::new(verify::Settings::default(), no_calls, clock, Metrics::new()).unwrap();
    Arc::new(Gate::new(admission::Settings::default(), index, Arc::new(verifier)))
}

/// Nobody is connected.
pub(super) fn live() -> Arc<Live> {
    Live::new(Metrics::new())
}

/// What a gateway is made of that admits everybody.
pub(super) async fn parts(closing: watch::Receiver<bool>) -> Parts {
    let (book, clock) = (sessions::testing::book().await, SystemClock::shared());
    let (tracker, _) = Tracker::new(&sessions::Settings::default(), Metrics::new());
    Parts {
        gate: gate(),
        live: live(),
        book,
        tracker,
        local: Arc::new(Nowhere),
        metrics: Metrics::new(),
        clock,
        closing,
    }
}

/// A gateway that admits everybody, as whom `Authorization` names, and as alice when it names nobody.
pub(super) struct Rig {
    pub(super) gateway: Arc<Gateway>,
    pub(super) live: Arc<Live>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
}

impl Rig {
    pub(super) async fn start(settings: Settings) -> Self {
        let (closing, closed) = watch::channel(false);
        let (live, metrics) = (live(), Metrics::new());
        let gateway = Gateway::new(settings, Parts { live: live.clone(), metrics, ..parts(closed).await }).unwrap();
        let http1 = front(gateway.clone(), false).await;
        let http2 = front(gateway.clone(), true).await;
        Self { gateway, live, closing, http1, http2 }
    }

    /// Before this upstream.
    pub(super) async fn before(upstream: &Upstream) -> Self {
        Self::start(settings(std::slice::from_ref(&upstream.url))).await
    }

    /// The whole answer to a raw HTTP/1.1 request.
    pub(super) async fn raw(&self, request: &str) -> String {
        let mut tcp = TcpStream::connect(self.http1).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The whole answer to a request without a body.
    pub(super) async fn ask(&self, method: &str, target: &str) -> String {
        self.raw(&format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")).await
    }

    /// A client's HTTP/2 connection.
    pub(super) async fn http2(&self) -> SendRequest<Boxed> {
        http2_to(self.http2).await
    }

    /// The gateway's own listener before it, which speaks both versions on one port.
    pub(super) async fn listen(&self) -> (SocketAddr, Drain) {
        let loopback = net::Settings::plain("127.0.0.1:0".parse().unwrap());
        let server = net::Server::bind("proxy", loopback, Metrics::new()).unwrap();
        let (address, drain, gateway) = (server.local_addr(), Drain::new(), self.gateway.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let peer = request.extensions().get::<Arc<Peer>>().unwrap().clone();
            let answer = admit(gateway.clone(), peer, request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(server.run(service, drain.clone()));
        (address, drain)
    }

    /// Cuts all exchanges of this user, and answers how many.
    pub(super) fn cut(&self, user: &str) -> usize {
        self.live.sweep(|claims| claims.user.as_deref() == Some(user))
    }

    /// How many connections of the first upstream wait for use.
    pub(super) fn idle_connections(&self) -> usize {
        self.gateway.upstreams.values().map(|upstream| upstream.pool().idle_connections()).sum()
    }

    /// How many are shared.
    pub(super) fn shared_connections(&self) -> usize {
        self.gateway.upstreams.values().map(|upstream| upstream.pool().shared_connections()).sum()
    }
}

/// A client's HTTP/2 connection to this address.
pub(super) async fn http2_to(address: SocketAddr) -> SendRequest<Boxed> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn claims_of(request: &Request<Incoming>) -> Arc<Claims> {
    let named = request.headers().get("authorization").map_or("alice", |user| user.to_str().unwrap());
    let bare = Claims::bare("https://id.example/".into(), TokenKind::Access, TokenDigest::new([7; 32]));
    Arc::new(Claims { user: Some(named.into()), ..bare })
}

async fn admit(gateway: Arc<Gateway>, peer: Arc<Peer>, mut request: Request<Incoming>) -> Response<Body> {
    request.extensions_mut().insert(peer);
    let claims = claims_of(&request);
    let lease = gateway.live.join(&claims, None);
    let admitted = Admitted::for_test(Some((*claims).clone()), true);
    let mut story = Story::new(&request);
    let passed = async {
        let route = gateway.arrive(&mut request, &mut story)?.expect("a route");
        gateway.pass(request, &route, (&admitted, Some(lease)), &mut story).await
    };
    let outcome = passed.await;
    outcome.unwrap_or_else(|refusal| gateway.refuse(&refusal, &story))
}

async fn front(gateway: Arc<Gateway>, is_http2: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, address)) = listener.accept().await {
            let (gateway, peer) = (gateway.clone(), Arc::new(Peer { address, tls: None }));
            let service = service_fn(move |request| {
                let answer = admit(gateway.clone(), peer.clone(), request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            serve(tcp, is_http2, service);
        }
    });
    address
}

/// Serves one connection.
pub(super) fn serve<I, S, B>(io: I, is_http2: bool, service: S)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send> + Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let io = TokioIo::new(io);
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).enable_connect_protocol();
        tokio::spawn(builder.serve_connection(io, service));
    } else {
        tokio::spawn(http1::Builder::new().serve_connection(io, service).with_upgrades());
    }
}

/// A service behind the gateway.
pub(super) struct Upstream {
    pub(super) url: UpstreamUrl,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// One that answers with `handler`.
    pub(super) async fn serving<H, F>(scheme: &str, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Boxed>> + Send + 'static,
    {
        let is_http2 = scheme == "h2c";
        Self::accepting(scheme, move |tcp| {
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            serve(tcp, is_http2, service);
        })
        .await
    }

    /// One that tells what it was asked.
    pub(super) async fn echo(scheme: &str) -> Self {
        Self::serving(scheme, |request| async move { Response::new(text(told(&request))) }).await
    }

    /// One that waits for a head, writes these bytes, and closes.
    pub(super) async fn scripted(answer: &'static str) -> Self {
        Self::accepting("http", move |mut tcp| {
            tokio::spawn(async move {
                read_head(&mut tcp).await;
                let _ = tcp.write_all(answer.as_bytes()).await;
            });
        })
        .await
    }

    /// One that does as it likes with each connection.
    pub(super) async fn accepting(scheme: &str, accept: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                accept(tcp);
            }
        });
        Self { url, connections }
    }

    /// How often it was connected to.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An address where nobody listens.
pub(super) async fn nobody() -> UpstreamUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
}

/// Method, target and fields of a request, a line each.
pub(super) fn told(request: &Request<Incoming>) -> String {
    let mut lines = vec![format!("{} {}", request.method(), request.uri())];
    lines.extend(fields(request.headers()));
    lines.join("\n")
}

fn fields(headers: &HeaderMap) -> Vec<String> {
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))).collect();
    fields.sort();
    fields
}

/// Reads up to the end of a head, and returns it.
pub(super) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
