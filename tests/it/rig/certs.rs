//! A certificate authority for one test, and what it certifies: the gateway, upstreams, clients of the admin side.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::rig::Folder;

/// The name the gateway's certificate is for.
pub(crate) const SERVER_NAME: &str = "gate.test";

/// An authority with its files in the test's folder.
pub(crate) struct Certs {
    authority: CertificateParams,
    key: KeyPair,
    certificate: String,
    folder: Arc<Folder>,
}

/// A certificate and its key, as files and as text.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    cert_pem: String,
    key_pem: String,
}

impl Certs {
    pub(crate) fn new(folder: Arc<Folder>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "portcullis test authority");
        let certificate = authority.self_signed(&key).unwrap().pem();
        folder.write("ca.pem", &certificate);
        Self { authority, key, certificate, folder }
    }

    /// The authority's own certificate, as a file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A server's certificate for loopback, [`SERVER_NAME`] and `names`, in files called `stem`.
    pub(crate) fn server(&self, stem: &str, names: &[&str]) -> Pair {
        let mut subject: Vec<String> = [SERVER_NAME, "localhost", "127.0.0.1"].map(String::from).to_vec();
        subject.extend(names.iter().map(|name| (*name).to_owned()));
        self.pair(stem, subject, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate, in files called `stem`.
    pub(crate) fn client(&self, stem: &str) -> Pair {
        self.pair(stem, vec![format!("{stem}.test")], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn pair(&self, stem: &str, names: Vec<String>, purpose: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, stem);
        params.extended_key_usages.push(purpose);
        let cert = params.signed_by(&key, &Issuer::from_params(&self.authority, &self.key)).unwrap();
        let (cert_pem, key_pem) = (cert.pem(), key.serialize_pem());
        Pair {
            cert: self.folder.write(&format!("{stem}.pem"), &cert_pem),
            key: self.folder.write(&format!("{stem}.key"), &key_pem),
            cert_pem,
            key_pem,
        }
    }

    /// A client's TLS that trusts this authority, offers these protocols and shows this certificate.
    pub(crate) fn trusting(&self, alpn: &[&str], identity: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match identity {
            Some(pair) => config.with_client_auth_cert(pair.chain(), pair.private()).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server's TLS for the rig's own upstreams.
    pub(crate) fn serving(&self, pair: &Pair) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(pair.chain(), pair.private()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Pair {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).unwrap()]
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }

    /// SHA-256 of the certificate's DER, in hexadecimal: how the configuration names a client.
    pub(crate) fn fingerprint(&self) -> String {
        crate::rig::sha256_hex(&self.chain()[0])
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
