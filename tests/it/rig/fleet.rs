//! Replicas that share a store: each a gateway of its own behind a faulty line to it, all before one issuer and one upstream.
//!
//! A replica keeps its name and its files when it is killed and started again, not its addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Request;
use serde_json::{Value, json};
use toml::Table;

use crate::rig::config::{self, USUAL};
use crate::rig::fault_proxy::FaultProxy;
use crate::rig::http::{Answer, Connection, Wire};
use crate::rig::serve::{Body, BoxError};
use crate::rig::shared_store::{Kind, SharedStore};
use crate::rig::upstream::TAG;
use crate::rig::{
    AUDITOR, Admin, Folder, Gateway, Issuer, OPS, READER, REVOKER, Refused, Token, Upstream, get, sha256_hex, within,
};

/// What a fleet's stories start from: shorter times than usual, so that a story of an outage is short too; a busy machine may take
/// seconds for a first answer of PostgreSQL all the same.
const FLEET: &str = r#"
[store]
url = "{store}"
replica = "{replica}"
max_staleness = "2s"
timeout = "4s"
poll = "250ms"
"#;

/// How long a story waits before it looks again.
pub(crate) const SOON: Duration = Duration::from_millis(5);

/// Gateways, and all they need around them.
pub(crate) struct Fleet {
    pub(crate) store: SharedStore,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) issuer: Issuer,
    pub(crate) upstream: Upstream,
    pub(crate) folder: Arc<Folder>,
}

/// One of them.
pub(crate) struct Replica {
    pub(crate) name: String,
    /// Its way to the store.
    pub(crate) line: FaultProxy,
    config: PathBuf,
    settings: Mutex<Table>,
    runs: Mutex<Option<Running>>,
}

struct Running {
    gateway: Gateway,
    /// Of this process; a restarted replica is another one.
    admin: Admin,
}

impl Fleet {
    /// So many replicas, all ready, over a fresh store.
    pub(crate) async fn start(kind: Kind, replicas: usize) -> Self {
        Self::with(kind, replicas, "").await
    }

    /// The same with `settings` laid over everyone's configuration.
    pub(crate) async fn with(kind: Kind, replicas: usize, settings: &str) -> Self {
        let fleet = Self::prepare(SharedStore::start(kind), replicas, settings).await;
        fleet.start_all().await;
        fleet
    }

    /// Replicas that nobody has started yet, over this store.
    pub(crate) async fn prepare(store: SharedStore, replicas: usize, settings: &str) -> Self {
        let folder = Arc::new(Folder::new());
        let issuer = Issuer::start("https://id.test/").await;
        let upstream = Upstream::start("shared").await;
        let replicas = (0..replicas).map(|at| {
            let name = char::from(b'a' + u8::try_from(at).unwrap()).to_string();
            Replica::new(name, &store, &folder, (&issuer, &upstream), settings)
        });
        Self { replicas: replicas.collect(), store, issuer, upstream, folder }
    }

    /// Starts every replica and waits until each one is ready.
    pub(crate) async fn start_all(&self) {
        futures_util::future::join_all(self.replicas.iter().map(Replica::start)).await;
        self.all_ready().await;
    }

    pub(crate) async fn all_ready(&self) {
        futures_util::future::join_all(self.replicas.iter().map(Replica::ready)).await;
    }

    /// Waits until every replica answers requests with this token so.
    pub(crate) async fn all_answer(&self, token: &Token, status: u16) {
        futures_util::future::join_all(self.replicas.iter().map(|replica| replica.answers(token, status))).await;
    }

    /// A token of this user, good at every replica.
    pub(crate) fn login(&self, user: &str) -> Token {
        self.issuer.token(json!({ "sub": user }))
    }

    /// Whether a request with this tag reached the upstream.
    pub(crate) fn forwarded(&self, tag: &str) -> bool {
        self.upstream.tags().contains(tag)
    }
}

impl Replica {
    fn new(
        name: String,
        store: &SharedStore,
        folder: &Folder,
        (issuer, upstream): (&Issuer, &Upstream),
        settings: &str,
    ) -> Self {
        let line = FaultProxy::start(store.address());
        let words = [
            ("ops", sha256_hex(OPS.as_bytes())),
            ("reader", sha256_hex(READER.as_bytes())),
            ("revoker", sha256_hex(REVOKER.as_bytes())),
            ("auditor", sha256_hex(AUDITOR.as_bytes())),
            ("folder", folder.path().to_str().unwrap().to_owned()),
            ("jwks", issuer.jwks_url()),
            ("upstream", upstream.url("http")),
            ("store", store.url(line.address)),
            ("replica", name.clone()),
        ];
        let mut table = config::parse(USUAL, &words);
        for over in [FLEET, settings] {
            config::overlay(&mut table, config::parse(over, &words));
        }
        let config = folder.write(&format!("{name}.toml"), table.to_string());
        Self { name, line, config, settings: Mutex::new(table), runs: Mutex::default() }
    }

    /// Lays more over its configuration, for its next start.
    pub(crate) fn configure(&self, settings: &str) {
        let mut table = self.settings.lock().unwrap();
        config::overlay(&mut table, settings.parse().unwrap());
        std::fs::write(&self.config, table.to_string()).unwrap();
    }

    /// Starts it; it may not be ready yet.
    pub(crate) async fn start(&self) {
        let refused = |refused: Refused| panic!("{} did not start:\n{}", self.name, refused.log);
        self.try_start().await.unwrap_or_else(refused);
    }

    /// Starts it, or tells what it said when it ended instead.
    pub(crate) async fn try_start(&self) -> Result<(), Refused> {
        let mut gateway = Gateway::start(&self.config).await?;
        [OPS, READER, REVOKER, AUDITOR].iter().for_each(|credential| gateway.keeps_secret(credential));
        let admin = Admin { address: gateway.admin, credential: Some(OPS.to_owned()), tls: None };
        *self.runs.lock().unwrap() = Some(Running { gateway, admin });
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        drop(self.runs.lock().unwrap().take());
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn terminate(&self) {
        let mut running = self.runs.lock().unwrap().take().expect("it runs");
        running.gateway.signal("TERM");
        assert!(running.gateway.exit().await.success());
    }

    /// Ends it by `kill -9` and starts it again.
    pub(crate) async fn restart(&self) {
        self.kill();
        self.start().await;
    }

    /// Sends it a signal by name; a stopped process (`STOP`) stays so until it is told to go on (`CONT`).
    pub(crate) fn signal(&self, name: &str) {
        self.running(|running| running.gateway.signal(name));
    }

    fn running<T>(&self, of: impl FnOnce(&Running) -> T) -> T {
        of(self.runs.lock().unwrap().as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)))
    }

    /// Its admin side, while it runs.
    pub(crate) fn try_admin(&self) -> Option<Admin> {
        self.runs.lock().unwrap().as_ref().map(|running| running.admin.clone())
    }

    pub(crate) fn admin(&self) -> Admin {
        self.running(|running| running.admin.clone())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.running(|running| running.gateway.log.text())
    }

    /// Where it proxies, while it runs.
    pub(crate) fn try_proxy(&self) -> Option<SocketAddr> {
        self.runs.lock().unwrap().as_ref().map(|running| running.gateway.proxy)
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.running(|running| running.gateway.proxy)
    }

    /// One request over a connection of its own; an error when the replica is not there, or goes away in the middle.
    pub(crate) async fn try_send(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        let proxy = self.try_proxy().ok_or("it does not run")?;
        Connection::open(proxy, Wire::H1, None).await?.send(request).await
    }

    /// A `GET` of `/` with this token and this tag.
    pub(crate) async fn try_get(&self, token: &Token, tag: &str) -> Result<Answer, BoxError> {
        self.try_send(tagged(token, tag)).await
    }

    /// What it answers to a request with this token.
    pub(crate) async fn status_of(&self, token: &Token) -> u16 {
        let answer = self.try_send(get("/", &token.text)).await;
        answer.unwrap_or_else(|fault| panic!("{} answers: {fault}", self.name)).status
    }

    /// Waits until it answers requests with this token so.
    pub(crate) async fn answers(&self, token: &Token, status: u16) {
        let mut last = 0;
        let coming = async {
            loop {
                // An answer that a revocation breaks off half-way is not the last word; nor is none.
                last = self.try_send(get("/", &token.text)).await.map_or(0, |answer| answer.status);
                if last == status {
                    return;
                }
                tokio::time::sleep(SOON).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(30), coming).await;
        assert!(came.is_ok(), "{} answers {last}, not {status}; it is {}", self.name, self.readiness().await);
    }

    /// What it says of its readiness.
    pub(crate) async fn readiness(&self) -> Value {
        let answer = self.admin().send("GET", "/readyz", None, "").await;
        json!({"status": answer.status, "body": answer.json()})
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        self.until_ready(200).await;
    }

    /// Waits until its readiness is answered with this status.
    pub(crate) async fn until_ready(&self, status: u16) {
        within(&format!("readiness {status} of {}", self.name), async {
            while self.readiness().await["status"] != status {
                tokio::time::sleep(SOON).await;
            }
        })
        .await;
    }
}

/// A `GET` of `/` with this token and this tag.
pub(crate) fn tagged(token: &Token, tag: &str) -> Request<Body> {
    let mut request = get("/", &token.text);
    request.headers_mut().insert(TAG, tag.parse().unwrap());
    request
}
