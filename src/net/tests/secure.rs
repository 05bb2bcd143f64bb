//! TLS on real sockets, with certificates made on the spot.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::tls::{self, NamedKeyPair, client_config, server_config};

const GET_TLS: &str = "GET /tls HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn secured(tls: tls::Settings) -> Settings {
    Settings { tls: Some(tls), ..loopback() }
}

fn only(default: tls::KeyPair) -> tls::Settings {
    tls::Settings { default, certificates: Vec::new(), client_ca: None }
}

async fn handshake(rig: &Rig, config: Arc<ClientConfig>, name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(ServerName::try_from(name).unwrap(), rig.connect().await).await
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_protocol_is_negotiated() {
    let authority = Authority::new();
    let rig = Rig::start(secured(only(authority.sign("a", "localhost"))));
    let both = client_config(Some(authority.path()), &[b"h2", b"http/1.1"]).unwrap();
    let stream = handshake(&rig, both, "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut sender = http2(stream).await;
    let (status, peer) = ask(&mut sender, "/tls").await;
    assert_eq!(status, StatusCode::OK);
    assert!(peer.contains("localhost"), "{peer}");

    for alpn in [[b"http/1.1".as_slice()].as_slice(), &[]] {
        let old = client_config(Some(authority.path()), alpn).unwrap();
        let mut stream = handshake(&rig, old, "localhost").await.unwrap();
        stream.write_all(GET_TLS.as_bytes()).await.unwrap();
        assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn each_name_has_its_certificate() {
    let authority = Authority::new();
    let certificates = [("b.example", "b"), ("*.c.example", "c")]
        .map(|(name, stem)| NamedKeyPair { names: vec![name.to_owned()], pair: authority.sign(stem, name) });
    let settings = tls::Settings { certificates: certificates.into(), ..only(authority.sign("a", "localhost")) };
    let rig = Rig::start(secured(settings));
    let config = client_config(Some(authority.path()), &[b"http/1.1"]).unwrap();
    for name in ["localhost", "b.example", "x.c.example"] {
        handshake(&rig, config.clone(), name).await.unwrap();
    }
    // Two labels are not one, so the default is shown, and it is for another name.
    assert!(handshake(&rig, config, "x.y.c.example").await.is_err());
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_bad_ones_for_none() {
    let authority = Authority::new();
    let rig = Rig::start(secured(only(authority.sign("a", "localhost"))));
    let config = client_config(Some(authority.path()), &[b"http/1.1"]).unwrap();
    let mut old = handshake(&rig, config.clone(), "localhost").await.unwrap();

    let renewed = secured(only(authority.sign("b", "localhost")));
    rig.handle.install(rig.handle.prepare(renewed).unwrap());
    let new = handshake(&rig, config.clone(), "localhost").await.unwrap();
    assert_ne!(shown(&old), shown(&new));

    let mut broken = authority.sign("c", "localhost");
    broken.key = authority.sign("d", "localhost").key;
    assert!(rig.handle.prepare(secured(only(broken))).is_err());
    assert_eq!(shown(&handshake(&rig, config, "localhost").await.unwrap()), shown(&new));

    old.write_all(GET_TLS.as_bytes()).await.unwrap();
    assert!(until_closed(&mut old).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_bad_ones_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let client_ca = Some(authority.path().to_owned());
    let rig = Rig::start(secured(tls::Settings { client_ca, ..only(authority.sign("a", "localhost")) }));
    let plain = client_config(Some(authority.path()), &[b"http/1.1"]).unwrap();
    let mut stream = handshake(&rig, plain.clone(), "localhost").await.unwrap();
    stream.write_all(GET_TLS.as_bytes()).await.unwrap();
    assert!(until_closed(&mut stream).await.contains("client_certificate_sha256: None"));

    let heard = present(&rig, &plain, authority.sign("client", "client")).await.unwrap();
    assert!(heard.contains("client_certificate_sha256: Some(\""), "{heard}");
    assert!(present(&rig, &plain, stranger.sign("client", "client")).await.is_err());
    assert_eq!(rig.requests(), 2);
}

/// Asks with a client certificate.
async fn present(rig: &Rig, config: &ClientConfig, pair: tls::KeyPair) -> std::io::Result<String> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(pair.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pair.key).unwrap();
    let key = rustls::sign::CertifiedKey::from_der(chain, key, config.crypto_provider()).unwrap();
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    let mut stream = handshake(rig, config.into(), "localhost").await?;
    stream.write_all(GET_TLS.as_bytes()).await?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await?;
    Ok(heard)
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let authority = Authority::new();
    let (good, other) = (authority.sign("a", "localhost"), authority.sign("b", "localhost"));
    let empty = authority.folder.write("empty.pem", "nothing\n");
    let torn = authority.folder.write("torn.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    let missing = authority.folder.0.join("missing.pem");
    let message = |cert: &Path, key: &Path| {
        let pair = tls::KeyPair { cert: cert.into(), key: key.into() };
        server_config(&only(pair)).unwrap_err().to_string()
    };
    assert_eq!(message(&missing, &good.key), format!("cannot read {}", missing.display()));
    assert_eq!(message(&empty, &good.key), format!("{} holds no certificate", empty.display()));
    assert_eq!(message(&good.cert, &good.cert), format!("{} holds no private key", good.cert.display()));
    assert_eq!(message(&good.cert, &torn), format!("{} is not valid PEM: a section has no end", torn.display()));
    let mismatch = message(&good.cert, &other.key);
    assert!(mismatch.contains("b.key") && mismatch.contains("a.pem"), "{mismatch}");
    let named = NamedKeyPair { names: vec!["not a name".to_owned()], pair: other };
    let settings = tls::Settings { certificates: vec![named], ..only(good) };
    assert_eq!(server_config(&settings).unwrap_err().to_string(), "\"not a name\" is not a server name");
}
