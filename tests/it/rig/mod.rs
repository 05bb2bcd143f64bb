//! What the stories stand on: a gateway as operators run it, an issuer, an upstream with a record, and clients.
//!
//! A story names only what matters to it; everything else is the usual configuration. Nothing sleeps: what has to happen
//! first is awaited, and [`within`] ends a test that would wait for ever.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hyper::Request;
use toml::Table;

pub(crate) mod admin;
pub(crate) mod bluesky;
pub(crate) mod certs;
pub(crate) mod checker;
pub(crate) mod config;
pub(crate) mod dice;
pub(crate) mod elasticsearch;
pub(crate) mod fault_proxy;
pub(crate) mod fleet;
mod folder;
pub(crate) mod front;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod idp;
pub(crate) mod issuer;
pub(crate) mod keys;
mod log;
pub(crate) mod onezone;
pub(crate) mod privx;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod serve;
pub(crate) mod shared_store;
pub(crate) mod token_service;
pub(crate) mod upstream;
pub(crate) mod websocket;

pub(crate) use admin::{Admin, id};
pub(crate) use certs::Certs;
pub(crate) use dice::Dice;
pub(crate) use folder::Folder;
pub(crate) use gateway::{Gateway, Refused};
pub(crate) use http::{Answer, Connection, Wire, get, with_token};
pub(crate) use issuer::{Issuer, Signer, Token, now};
pub(crate) use serve::Body;
pub(crate) use upstream::Upstream;

/// The bearer credentials of the usual callers, by name.
pub(crate) const OPS: &str = "ops-credential-7f3c9a";
pub(crate) const READER: &str = "reader-credential-1b2d4e";
pub(crate) const REVOKER: &str = "revoker-credential-90ab12";
pub(crate) const AUDITOR: &str = "auditor-credential-55cc77";

/// A gateway with all it needs around it.
pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) admin: Admin,
    pub(crate) issuer: Issuer,
    pub(crate) upstream: Upstream,
    pub(crate) certs: Certs,
    pub(crate) folder: Arc<Folder>,
    words: Vec<(&'static str, String)>,
    settings: Table,
}

/// A rig in the making.
pub(crate) struct Builder {
    issuer: Issuer,
    upstream: Upstream,
    certs: Certs,
    folder: Arc<Folder>,
    words: Vec<(&'static str, String)>,
    settings: Table,
}

impl Rig {
    /// The usual one.
    pub(crate) async fn start() -> Self {
        Self::builder().await.start().await
    }

    /// The usual one, to be changed before it starts.
    pub(crate) async fn builder() -> Builder {
        Builder::new().await
    }

    /// The gateway with this laid over the usual configuration.
    pub(crate) async fn with(settings: &str) -> Self {
        Self::builder().await.config(settings).start().await
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("portcullis.toml")
    }

    /// Lays more over the configuration file, which the gateway reads when it starts or reloads.
    pub(crate) fn configure(&mut self, settings: &str) {
        config::overlay(&mut self.settings, config::parse(settings, &self.words));
        self.folder.write("portcullis.toml", self.settings.to_string());
    }

    /// Ends the gateway by `kill -9` and starts it again over the same store.
    pub(crate) async fn restart(&mut self) {
        self.gateway.kill();
        let started = start(&self.config_file()).await.unwrap_or_else(|refused| panic!("{}", refused.log));
        drop(std::mem::replace(&mut self.gateway, started));
        self.admin.address = self.gateway.admin;
    }

    /// Has the configuration read anew, and waits until it is in force.
    pub(crate) async fn reload(&self) {
        let before = self.admin.metric(RELOADED).await;
        let faults = self.admin.metric(NOT_RELOADED).await;
        self.gateway.signal("HUP");
        within("the reload", async {
            while self.admin.metric(RELOADED).await == before {
                assert_eq!(
                    self.admin.metric(NOT_RELOADED).await,
                    faults,
                    "reload failed:\n{}",
                    self.gateway.log.tail()
                );
            }
        })
        .await;
    }

    /// A connection to the proxy.
    pub(crate) async fn connect(&self, wire: Wire) -> Connection {
        let tls = wire.is_tls().then(|| self.certs.trusting(wire.alpn(), None));
        Connection::open(self.gateway.proxy, wire, tls).await.expect("the proxy takes connections")
    }

    /// One request over a connection of its own.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.connect(Wire::H1).await.send(request).await.expect("the proxy answers")
    }

    /// A `GET` with this bearer token.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(get(path, token)).await
    }

    /// Whether this token opens `/`.
    pub(crate) async fn passes(&self, token: &Token) -> bool {
        let answer = self.get("/", &token.text).await;
        assert!(matches!(answer.status, 200 | 401), "neither good nor dead: {} {}", answer.status, answer.text());
        answer.status == 200
    }

    /// What the file system knows the store as.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.folder.join("portcullis.db")
    }
}

const RELOADED: &str = r#"portcullis_reloads_total{result="ok"}"#;
const NOT_RELOADED: &str = r#"portcullis_reloads_total{result="failed"}"#;

impl Builder {
    async fn new() -> Self {
        let folder = Arc::new(Folder::new());
        let issuer = Issuer::start("https://id.test/").await;
        let upstream = Upstream::start("first").await;
        let certs = Certs::new(folder.clone());
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let server = certs.server("gateway", &[]);
        let words = vec![
            ("ops", sha256_hex(OPS.as_bytes())),
            ("reader", sha256_hex(READER.as_bytes())),
            ("revoker", sha256_hex(REVOKER.as_bytes())),
            ("auditor", sha256_hex(AUDITOR.as_bytes())),
            ("folder", text(folder.path().to_owned())),
            ("jwks", issuer.jwks_url()),
            ("upstream", upstream.url("http")),
            ("upstream_h2c", upstream.url("h2c")),
            ("ca", text(certs.ca())),
            ("cert", text(server.cert)),
            ("key", text(server.key)),
        ];
        let settings = config::parse(config::USUAL, &words);
        Self { issuer, upstream, certs, folder, words, settings }
    }

    /// Another name for `{name}` in the configurations that follow.
    pub(crate) fn word(mut self, name: &'static str, value: impl ToString) -> Self {
        self.words.push((name, value.to_string()));
        self
    }

    /// Lays this over the configuration.
    pub(crate) fn config(mut self, settings: &str) -> Self {
        config::overlay(&mut self.settings, config::parse(settings, &self.words));
        self
    }

    /// Has the proxy speak TLS.
    pub(crate) fn tls(self) -> Self {
        self.config("[proxy.tls]\ncert = '{cert}'\nkey = '{key}'")
    }

    /// What signs in the name of the usual issuer.
    pub(crate) fn signer(&self) -> Signer {
        self.issuer.signer()
    }

    pub(crate) fn certs(&self) -> &Certs {
        &self.certs
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Writes the configuration and says where it is.
    pub(crate) fn write(&self) -> PathBuf {
        self.folder.write("portcullis.toml", self.settings.to_string())
    }

    /// Starts the gateway, which must come up.
    pub(crate) async fn start(self) -> Rig {
        self.try_start().await.unwrap_or_else(|refused| panic!("the gateway did not start:\n{}", refused.log))
    }

    /// Starts the gateway while its issuer's key set cannot be fetched.
    pub(crate) async fn start_with_issuer_down(self) -> Rig {
        self.issuer.fail_jwks(true);
        self.start().await
    }

    /// Starts the gateway by a command of the story's own making.
    pub(crate) async fn start_by(self, command: impl FnOnce(&Path) -> Command) -> Rig {
        let started = Gateway::spawn(&mut command(&self.write())).await;
        self.around(keeping_secrets(started.unwrap_or_else(|refused| panic!("{}", refused.log))))
    }

    /// Starts the gateway.
    pub(crate) async fn try_start(self) -> Result<Rig, Refused> {
        let gateway = start(&self.write()).await?;
        Ok(self.around(gateway))
    }

    fn around(self, gateway: Gateway) -> Rig {
        let admin = Admin { address: gateway.admin, credential: Some(OPS.to_owned()), tls: None };
        let Self { issuer, upstream, certs, folder, words, settings } = self;
        Rig { gateway, admin, issuer, upstream, certs, folder, words, settings }
    }
}

async fn start(config: &Path) -> Result<Gateway, Refused> {
    Gateway::start(config).await.map(keeping_secrets)
}

fn keeping_secrets(mut gateway: Gateway) -> Gateway {
    [OPS, READER, REVOKER, AUDITOR].iter().for_each(|credential| gateway.keeps_secret(credential));
    gateway
}

/// Waits for something that comes, and fails the test when it does not.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), future).await;
    waited.unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// Waits for a second of the wall clock, by which tokens and cut-offs count.
pub(crate) async fn until(second: u64) {
    let step = Duration::from_millis(5);
    within("the clock", async {
        while now() < second {
            tokio::time::sleep(step).await;
        }
    })
    .await;
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
