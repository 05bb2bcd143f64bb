//! TLS for connections that come in (here) and that go out ([`client_config`]): rustls, TLS 1.2 and 1.3, nothing older.
//!
//! A configuration is built whole and then swapped in, so a bad file leaves the old one in place, and connections that
//! are open keep the one they began with. No key ever stands in an error, a log or a `Debug`.

mod names;
mod outward;
mod pem;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use names::Certificates;
pub use outward::client_config;

/// TLS of a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// For clients that name no server, or one that nothing else is for.
    pub default: KeyPair,
    /// For the servers they name.
    pub certificates: Vec<NamedKeyPair>,
    /// Whose client certificates are good. They are asked for, not demanded; a bad one fails the handshake.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPair {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// A certificate for certain names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedKeyPair {
    /// Server names; `*.example.com` stands for one label.
    pub names: Vec<String>,
    /// The certificate.
    pub pair: KeyPair,
}

/// What is wrong with a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what PEM files look like.
    #[error("{} is not valid PEM: {detail}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// There is no certificate in a file.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in a file.
    #[error("{} holds no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate or key is of no use.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A server's name is no name.
    #[error("{0:?} is not a server name")]
    Name(String),
    /// A server's name has two certificates.
    #[error("the server name {0:?} has more than one certificate")]
    RepeatedName(String),
    /// The cryptography in use supports no protocol version that is allowed.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Builds what a listener needs from files, all of which are read here.
///
/// # Errors
///
/// [`TlsError`] names the file and what is wrong with it.
pub fn server_config(settings: &Settings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let certificates = Certificates::load(settings, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match &settings.client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca.clone(), provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_verifier(ca: PathBuf, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(&ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build();
    verifier.map_err(|error| TlsError::Unusable { path: ca, source: rustls::Error::General(error.to_string()) })
}

/// The trust anchors in a file, all of which must be good.
fn roots(path: &std::path::Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable { path: path.into(), source })?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
