//! Which certificate a client is shown: by the server name it asks for (RFC 6066 §3), else the default.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{KeyPair, Settings, TlsError, pem};

/// All certificates of a listener.
#[derive(Debug)]
pub(super) struct Certificates {
    default: Arc<CertifiedKey>,
    /// By lower-case name, a wildcard by its `*.`.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn load(settings: &Settings, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let default = load(&settings.default, provider)?;
        let mut named = HashMap::new();
        for certificate in &settings.certificates {
            let key = load(&certificate.pair, provider)?;
            for name in &certificate.names {
                if named.insert(server_name(name)?, key.clone()).is_some() {
                    return Err(TlsError::RepeatedName(name.clone()));
                }
            }
        }
        Ok(Self { default, named })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let exact = self.named.get(&name);
        exact.or_else(|| self.named.get(&format!("*.{}", name.split_once('.')?.1)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(named.unwrap_or(&self.default).clone())
    }
}

/// The name in lower case, when it is one.
fn server_name(name: &str) -> Result<String, TlsError> {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    match DnsName::try_from(bare) {
        Ok(_) => Ok(name.to_ascii_lowercase()),
        Err(_) => Err(TlsError::Name(name.to_owned())),
    }
}

fn load(pair: &KeyPair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = pem::certificates(&pair.cert)?;
    let key = pem::key(&pair.key)?;
    let unusable = |path: &Path, source| TlsError::Unusable { path: path.into(), source };
    let key = provider.key_provider.load_private_key(key).map_err(|source| unusable(&pair.key, source))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { cert: pair.cert.clone(), key: pair.key.clone() })
        }
        Err(source) => Err(unusable(&pair.cert, source)),
    }
}
