//! TLS for connections that go out: to upstreams, to issuers. The other side is always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{TlsError, provider, roots};

/// Trusts the system's roots and those in `ca`, and offers `alpn` in that order.
///
/// # Errors
///
/// [`TlsError`] names the file and what is wrong with it.
pub fn client_config(ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut trusted = ca.map_or_else(|| Ok(RootCertStore::empty()), roots)?;
    let system = rustls_native_certs::load_native_certs();
    let (added, _ignored) = trusted.add_parsable_certificates(system.certs);
    if added == 0 && ca.is_none() {
        // Not an error: nothing may ever be called by https.
        tracing::warn!("the system has no trusted certificates; every https call will fail");
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let mut config = builder.with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}
