//! Promises of the network layer, kept on real sockets.

mod client;
mod http;
mod life;
mod secure;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Drain, Handle, Peer, Server, Settings};
use crate::telemetry::Metrics;

/// More than anything should take; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

type Answer = Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible>;

/// A server and what became of it.
struct Rig {
    address: SocketAddr,
    drain: Drain,
    handle: Handle,
    metrics: Arc<Metrics>,
    seen: Arc<Seen>,
}

/// What the service was asked, and what lets it go on.
struct Seen {
    requests: AtomicUsize,
    arrived: Semaphore,
    proceed: Semaphore,
    drain: Drain,
}

fn loopback() -> Settings {
    Settings::plain(SocketAddr::from(([127, 0, 0, 1], 0)))
}

impl Rig {
    fn start(settings: Settings) -> Self {
        let (metrics, drain) = (Metrics::new(), Drain::new());
        let (arrived, proceed) = (Semaphore::new(0), Semaphore::new(0));
        let seen = Arc::new(Seen { requests: AtomicUsize::new(0), arrived, proceed, drain: drain.clone() });
        let server = Server::bind("proxy", settings, metrics.clone()).unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let service = service_fn({
            let seen = seen.clone();
            move |request| respond(seen.clone(), request)
        });
        tokio::spawn(server.run(service, drain.clone()));
        Self { address, drain, handle, metrics, seen }
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Waits until `/slow` was asked.
    async fn arrived(&self) {
        self.seen.arrived.acquire().await.unwrap().forget();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` on a new connection and answers what came until it was closed.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        until_closed(&mut stream).await
    }
}

async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut heard)).await.expect("closed in time").unwrap();
    String::from_utf8(heard).unwrap()
}

/// Reads until the answer ends with `end`.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut heard = Vec::new();
    let reading = async {
        while !heard.ends_with(end.as_bytes()) {
            heard.push(stream.read_u8().await.expect("more to come"));
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("heard in time");
    String::from_utf8(heard).unwrap()
}

async fn respond(seen: Arc<Seen>, request: Request<Incoming>) -> Answer {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let peer = request.extensions().get::<Arc<Peer>>().unwrap().clone();
    if request.method() == Method::CONNECT {
        return Ok(tunnel(&seen, request));
    }
    match request.uri().path() {
        "/panic" => panic!("as told"),
        "/slow" => {
            seen.arrived.add_permits(1);
            seen.proceed.acquire().await.unwrap().forget();
        }
        "/echo" => return Ok(Response::new(request.into_body().boxed())),
        "/read" => {
            let status = match request.into_body().collect().await {
                Ok(_) => StatusCode::OK,
                Err(error) if super::framing_fault(&error).is_some() => StatusCode::BAD_REQUEST,
                Err(_) => StatusCode::BAD_GATEWAY,
            };
            return Ok(status_only(status));
        }
        "/peer" => return Ok(whole(format!("{}", peer.address.ip()))),
        "/tls" => return Ok(whole(format!("{:?}", peer.tls))),
        "/big" => return Ok(whole(vec![b'x'; 64 * 1024 * 1024])),
        "/tunnel" => return Ok(tunnel(&seen, request)),
        "/moved" => return Ok(status_only(StatusCode::FOUND)),
        "/form" => return Ok(form(request).await),
        _ => {}
    }
    Ok(whole("hello"))
}

fn whole(body: impl Into<Bytes>) -> Response<BoxBody<Bytes, hyper::Error>> {
    Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed())
}

fn status_only(status: StatusCode) -> Response<BoxBody<Bytes, hyper::Error>> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Says back what it was sent and with whose credentials.
async fn form(request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    let said = request.headers().get(header::AUTHORIZATION).unwrap().to_str().unwrap().to_owned();
    let accept = request.headers().get(header::ACCEPT).unwrap().to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut answer = whole(format!("{said}\n{accept}\n{}", String::from_utf8_lossy(&body)));
    answer.headers_mut().insert(header::CACHE_CONTROL, "max-age=60".parse().unwrap());
    answer
}

/// Opens a tunnel that says back what it hears.
fn tunnel(seen: &Seen, request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    let status = if request.method() == Method::CONNECT { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
    seen.drain.spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
        let _ = writing.shutdown().await;
    });
    let mut response = status_only(status);
    response.headers_mut().insert(header::UPGRADE, "echo".parse().unwrap());
    response.headers_mut().insert(header::CONNECTION, "upgrade".parse().unwrap());
    response
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// A client that speaks HTTP/2 without asking.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http2 {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Http2, path: &str) -> (StatusCode, String) {
    let request = Request::builder().uri(format!("http://localhost{path}")).body(Empty::new()).unwrap();
    let response = tokio::time::timeout(LONG, sender.send_request(request)).await.expect("answered in time").unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8_lossy(&body).into_owned())
}

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("portcullis-net-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority, and what it signs.
struct Authority {
    folder: Folder,
    ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = Folder::new();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = folder.write("ca.pem", &params.self_signed(&key).unwrap().pem());
        Self { folder, ca, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name` and its key, under `stem`.
    fn sign(&self, stem: &str, name: &str) -> super::tls::KeyPair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        super::tls::KeyPair {
            cert: self.folder.write(&format!("{stem}.pem"), &certificate.pem()),
            key: self.folder.write(&format!("{stem}.key"), &key.serialize_pem()),
        }
    }

    fn path(&self) -> &Path {
        &self.ca
    }
}
