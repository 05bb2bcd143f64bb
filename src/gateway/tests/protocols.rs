use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::rig::{Boxed, Rig, Upstream, empty, settings, text};

fn get(target: &str) -> Request<Boxed> {
    Request::builder().uri(format!("http://a.example{target}")).body(empty()).unwrap()
}

fn grpc(pieces: &[&'static str], trailers: HeaderMap) -> Boxed {
    let data: Vec<_> = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect();
    let frames = data.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, Infallible>);
    StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync()
}

fn status(code: &str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

#[tokio::test]
async fn http2_in_and_http1_out_agree_on_the_host() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    let mut client = rig.http2().await;
    let mut request = get("/x?y");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    let answer = client.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.starts_with("GET /x?y\n") && body.contains("\nhost: a.example\n"), "{body}");
    assert!(body.contains("\ncookie: a=1; b=2\n") && body.contains("x-auth-user: alice"), "{body}");
}

#[tokio::test]
async fn http1_in_and_http2_out_agree_on_the_host() {
    let upstream = Upstream::echo("h2c").await;
    let rig = Rig::before(&upstream).await;
    let answer = rig.ask("GET", "/x?y").await;
    assert!(answer.contains("GET http://a.example/x?y\n") && !answer.contains("\nhost:"), "{answer}");
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_both_ways() {
    for scheme in ["h2c", "http"] {
        let upstream = Upstream::serving(scheme, |request| async move {
            let te = request.headers().get("te").is_some_and(|te| te == "trailers");
            let collected = request.into_body().collect().await.unwrap();
            let told = collected.trailers().is_some_and(|trailers| trailers.contains_key("x-sum"));
            let forged = collected.trailers().is_some_and(|trailers| trailers.contains_key("x-auth-user"));
            let mut answer = Response::new(grpc(&["one", "two"], status("5")));
            answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            answer.headers_mut().insert("trailer", "grpc-status".parse().unwrap());
            answer.headers_mut().insert("x-saw", format!("{te} {told} {forged}").parse().unwrap());
            answer
        })
        .await;
        let rig = Rig::before(&upstream).await;
        let mut client = rig.http2().await;
        let mut trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        trailers.insert("x-auth-user", "mallory".parse().unwrap());
        let mut request = Request::post("http://a.example/pkg.Service/Call").body(grpc(&["ask"], trailers)).unwrap();
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        request.headers_mut().insert("trailer", "x-sum, x-auth-user".parse().unwrap());
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["x-saw"], "true true false", "{scheme}");
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "5", "{scheme}");
        assert_eq!(collected.to_bytes(), "onetwo");
    }
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let gate = Arc::new(Semaphore::new(0));
    let (held, waiting) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = waiting.clone();
    let upstream = Upstream::serving("h2c", move |_| {
        let (held, counted) = (held.clone(), counted.clone());
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            held.acquire().await.unwrap().forget();
            Response::new(text("ok"))
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let mut client = rig.http2().await;
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(client.send_request(get("/")))).collect();
    while waiting.load(Ordering::SeqCst) < 8 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(8);
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!((upstream.connections(), rig.shared_connections()), (1, 1));
}

#[tokio::test]
async fn an_http2_upstream_with_few_streams_gets_more_connections() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = waiting.clone();
    let upstream = Upstream::accepting("h2c", move |tcp| {
        let counted = counted.clone();
        let service = service_fn(move |request: Request<_>| {
            let counted = counted.clone();
            async move {
                if request.uri().path() == "/wait" {
                    counted.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(text("ok")))
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(1);
        tokio::spawn(builder.serve_connection(TokioIo::new(tcp), service));
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let mut client = rig.http2().await;
    // The first answer brings the upstream's settings with it.
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
    for busy in 1..4 {
        tokio::spawn(client.send_request(get("/wait")));
        while waiting.load(Ordering::SeqCst) < busy {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn an_https_upstream_is_verified_and_alpn_chooses() {
    use rustls::pki_types::PrivateKeyDer;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let folder = std::env::temp_dir().join(format!("portcullis-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let certificates = vec![made.cert.der().clone()];
        let mut tls = builder.unwrap().with_no_client_auth().with_single_cert(certificates, key.clone_key()).unwrap();
        tls.alpn_protocols = vec![alpn.into()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let upstream = Upstream::accepting("https", move |tcp| {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = service_fn(async |request: Request<_>| {
                    Ok::<_, Infallible>(Response::new(text(format!("{:?}", request.version()))))
                });
                let io = TokioIo::new(tls);
                if alpn == "h2" {
                    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        })
        .await;
        let distrusting = settings(std::slice::from_ref(&upstream.url));
        assert!(Rig::start(distrusting.clone()).await.ask("GET", "/").await.contains("502 Bad Gateway"));
        let mut trusting = distrusting;
        trusting.upstream.ca = Some(ca.clone());
        let rig = Rig::start(trusting).await;
        let before = upstream.connections();
        for _ in 0..3 {
            assert!(rig.ask("GET", "/").await.ends_with(version), "{alpn}");
        }
        assert_eq!(upstream.connections() - before, 1);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
