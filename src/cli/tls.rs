//! TLS as the admin client speaks it: the system's authorities or a file's, and a client certificate if there is one.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use super::{AdminOptions, Failure};

/// What the options ask for.
pub(super) fn client(options: &AdminOptions) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::Failed(error.to_string()))?;
    let builder = builder.with_root_certificates(roots(options)?);
    match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => with_certificate(builder, cert, key),
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn with_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig, Failure> {
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error.to_string()))?;
    let config = builder.with_client_auth_cert(certificates(cert)?, private);
    config.map_err(|error| unusable(cert, &error.to_string()))
}

fn roots(options: &AdminOptions) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(file) => {
            for authority in certificates(file)? {
                roots.add(authority).map_err(|error| unusable(file, &error.to_string()))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| unusable(file, &error.to_string()))?;
    if certificates.is_empty() { Err(unusable(file, "it holds no certificate")) } else { Ok(certificates) }
}

fn unusable(file: &Path, why: &str) -> Failure {
    Failure::Usage(format!("{} cannot be used: {why}", file.display()))
}
