//! The composition root: makes every part of its settings, wires them, runs, reloads, drains.
//!
//! Nothing is served before all of it is known to work: keys and routes are built, the store is opened and loaded into the
//! index, both addresses are taken, and only then is the first connection accepted. A reload builds everything anew beside
//! what runs, and swaps it in when nothing can fail any more.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use hyper::service::service_fn;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::admission::{self, Gate};
use crate::app::current::{CurrentGateway, CurrentVerifier, Dialects};
use crate::app::fixed::keep_fixed;
use crate::app::following::{Ready, follow, loaded, new_index};
use crate::app::inventory::Inventory;
use crate::clock::{SharedClock, SystemClock};
use crate::config::Settings;
use crate::control::{self, Control};
use crate::domain::ReplicaIdentity;
use crate::gateway::{self, Gateway, GatewayError};
use crate::index::Index;
use crate::live::Live;
use crate::net::client::{self, Client};
use crate::net::{Drain, Handle, ListenError, Server, Workers};
use crate::store::{Store, StoreError};
use crate::sync::{Follower, Heartbeat};
use crate::telemetry::{Metrics, Subscriber};
use crate::verify::{Fetch, IssuerSettings, Verifier, VerifierError};

mod current;
mod fixed;
mod following;
mod inventory;
mod replica;
#[cfg(test)]
mod tests;

/// How long the admin side may take to end, after the proxy has.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);

/// Why the gateway cannot start, or not take over a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The issuers.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
    /// The routes and upstreams.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// An address or its TLS.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The threads that serve connections.
    #[error("the threads that serve connections cannot be started")]
    Workers(#[source] std::io::Error),
    /// The machine.
    #[error("the machine gives no randomness")]
    Randomness,
}

/// A gateway that runs.
#[derive(Debug)]
pub struct App {
    settings: Mutex<Settings>,
    metrics: Arc<Metrics>,
    subscriber: Option<Subscriber>,
    store: Store,
    index: Arc<Index>,
    follower: Arc<Follower>,
    replica: ReplicaIdentity,
    heartbeat: Heartbeat,
    inventory: Inventory,
    verifier: Arc<CurrentVerifier>,
    gateway: Arc<CurrentGateway>,
    admin: Arc<admin::Services>,
    proxy: Listener,
    admin_listener: Listener,
    tunnels_closing: watch::Sender<bool>,
    servers: JoinSet<()>,
    /// Whoever drains the listeners keeps them, to the end.
    _workers: Workers,
}

/// What everything else is built on.
struct Core {
    clock: SharedClock,
    metrics: Arc<Metrics>,
    index: Arc<Index>,
    live: Arc<Live>,
    verifier: Arc<CurrentVerifier>,
    replica: ReplicaIdentity,
    workers: Workers,
}

/// What is built on it, ready to serve.
struct Built {
    inventory: Inventory,
    gateway: Arc<CurrentGateway>,
    control: Arc<Control>,
    dialects: Arc<Dialects>,
    servers: (Server, Server),
    tunnels_closing: watch::Sender<bool>,
}

impl Core {
    async fn build(&self, settings: &Settings, store: &Store, follower: &Follower) -> Result<Built, AppError> {
        let Self { clock, metrics, index, live, verifier, replica, workers } = self;
        loaded(settings, follower).await?;
        let servers = bind(settings, metrics, workers)?;
        let control_settings = control::Settings { replica: replica.clone(), ..control::Settings::default() };
        let seen = (index.clone(), live.clone());
        let control = Control::new(store, seen, verifier.clone(), clock.clone(), control_settings);
        let inventory = Inventory::start(settings, &store.sessions, &control, clock, metrics).await?;
        let (tunnels_closing, closing) = watch::channel(false);
        let dialects = Arc::new(Dialects::default());
        let parts = gateway::Parts {
            gate: gate(settings, index, &verifier.0.load_full(), &inventory),
            live: live.clone(),
            book: inventory.book.clone(),
            tracker: inventory.tracker.clone(),
            local: dialects.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            closing,
        };
        match Gateway::new(settings.gateway.clone(), parts) {
            Ok(gateway) => {
                let gateway = CurrentGateway { gateway: ArcSwap::new(gateway), verifier: verifier.clone() };
                Ok(Built { inventory, gateway: Arc::new(gateway), control, dialects, servers, tunnels_closing })
            }
            Err(error) => {
                inventory.stop().await;
                Err(error.into())
            }
        }
    }
}

/// One of the two listeners.
#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    handle: Handle,
    drain: Drain,
}

impl Listener {
    fn of(server: &Server) -> Self {
        Self { address: server.local_addr(), handle: server.handle(), drain: Drain::new() }
    }
}

impl App {
    /// Starts a gateway; when this returns it serves. `subscriber` is changed along with the settings.
    ///
    /// # Errors
    ///
    /// See [`AppError`]; nothing is left running.
    pub async fn start(settings: Settings, subscriber: Option<Subscriber>) -> Result<Self, AppError> {
        let clock = SystemClock::shared();
        let metrics = Metrics::new();
        let index = new_index(&settings, &clock, random()?);
        let verifier = Verifier::new(settings.verify.clone(), &caller_of, clock.clone(), metrics.clone())?;
        let verifier = Arc::new(CurrentVerifier(ArcSwap::from_pointee(verifier)));
        let live = Live::new(metrics.clone());
        let store = Store::open(&settings.store, clock.clone(), metrics.clone()).await?;
        let replica = replica::identity(&settings)?;
        let workers = Workers::start().map_err(AppError::Workers)?;
        let core = Core { clock, metrics, index, live, verifier, replica, workers };
        let follower = Arc::new(follow(&settings, &core, &store));
        match core.build(&settings, &store, &follower).await {
            Ok(built) => Ok(Self::assemble(core, built, (settings, subscriber), (store, follower))),
            Err(error) => {
                follower.stop().await;
                store.close().await;
                Err(error)
            }
        }
    }

    fn assemble(
        core: Core,
        built: Built,
        (settings, subscriber): (Settings, Option<Subscriber>),
        (store, follower): (Store, Arc<Follower>),
    ) -> Self {
        let Built { inventory, gateway, control, dialects, servers, tunnels_closing } = built;
        let [proxy, admin_listener] = [Listener::of(&servers.0), Listener::of(&servers.1)];
        let parts = admin::Parts {
            control,
            verifier: core.verifier.0.load_full(),
            metrics: core.metrics.clone(),
            clock: core.clock.clone(),
            readiness: Arc::new(Ready::new(&proxy.drain, &follower, &core.index)),
            routes: Some(gateway.clone()),
        };
        let admin = admin::Services::new(Admin::new(parts, admin_settings(&settings, &core.replica)));
        dialects.speak(admin.clone());
        let heartbeat = replica::heartbeat(&settings, &core.replica, &store, (&core.index, &follower), &core.clock);
        let mut app = Self {
            settings: Mutex::new(settings),
            metrics: core.metrics,
            subscriber,
            store,
            index: core.index,
            follower,
            replica: core.replica,
            heartbeat,
            inventory,
            verifier: core.verifier,
            gateway,
            admin,
            proxy,
            admin_listener,
            tunnels_closing,
            servers: JoinSet::new(),
            _workers: core.workers,
        };
        app.serve(servers);
        app
    }

    fn serve(&mut self, (proxy, admin): (Server, Server)) {
        let current = self.gateway.clone();
        let service = service_fn(move |request| {
            let gateway = current.gateway.load_full();
            gateway.call(request).map(Ok::<_, Infallible>)
        });
        self.servers.spawn(proxy.run(service, self.proxy.drain.clone()));
        let services = self.admin.clone();
        let service = service_fn(move |request| {
            let services = services.clone();
            async move { Ok::<_, Infallible>(services.on_admin(request).await) }
        });
        self.servers.spawn(admin.run(service, self.admin_listener.drain.clone()));
    }

    /// Where the proxy listens.
    #[must_use]
    pub const fn proxy_addr(&self) -> SocketAddr {
        self.proxy.address
    }

    /// Where the admin side listens.
    #[must_use]
    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin_listener.address
    }

    /// Takes over a new configuration, without dropping a connection. Answers which of its keys take a restart; they are
    /// as they were until then.
    ///
    /// # Errors
    ///
    /// See [`AppError`]; everything stays as it was.
    pub fn reload(&self, settings: Settings) -> Result<Vec<&'static str>, AppError> {
        let outcome = self.replace(settings);
        self.metrics.reload(outcome.is_ok());
        outcome
    }

    /// Counts a reload that came to nothing because the file has faults.
    pub fn reload_failed(&self) {
        self.metrics.reload(false);
    }

    fn replace(&self, mut settings: Settings) -> Result<Vec<&'static str>, AppError> {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut restart = keep_fixed(&mut settings, &current);
        let proxy = self.proxy.handle.prepare(settings.proxy.clone())?;
        let admin_listener = self.admin_listener.handle.prepare(settings.admin_listener.clone())?;
        let verifier = Arc::new(self.verifier.0.load().succeed(settings.verify.clone(), &caller_of)?);
        let gate = gate(&settings, &self.index, &verifier, &self.inventory);
        let gateway = self.gateway.gateway.load().succeed(settings.gateway.clone(), gate)?;
        // From here on nothing can fail.
        self.verifier.0.store(verifier.clone());
        self.gateway.gateway.store(gateway);
        self.inventory.configure(&settings);
        self.admin.replace(admin_settings(&settings, &self.replica), verifier);
        self.proxy.handle.install(proxy);
        self.admin_listener.handle.install(admin_listener);
        if self.subscriber.as_ref().is_some_and(|subscriber| !subscriber.change(&settings.log)) {
            restart.push("log.format");
        }
        *current = settings;
        Ok(restart)
    }

    /// Ends in order: no new connections, requests under way finish within the configured time, then the admin side ends,
    /// then the store is closed. Nothing that was acknowledged is lost.
    pub async fn shutdown(mut self) {
        let limit = self.settings.lock().unwrap_or_else(PoisonError::into_inner).drain;
        self.proxy.drain.begin();
        self.tunnels_closing.send_replace(true);
        let gateway = self.gateway.gateway.load_full();
        let tunnels = tokio::time::timeout(limit, gateway.tunnels_ended());
        let (cut, _) = tokio::join!(self.proxy.drain.finish(limit), tunnels);
        if cut > 0 {
            tracing::warn!(connections = cut, "the time to drain is over; the rest was cut");
        }
        self.admin.close();
        self.admin_listener.drain.finish(ADMIN_DRAIN).await;
        self.servers.shutdown().await;
        self.inventory.stop().await;
        self.heartbeat.stop().await;
        self.follower.stop().await;
        self.store.close().await;
    }
}

fn random() -> Result<[u8; 16], AppError> {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| AppError::Randomness)?;
    Ok(bits)
}

/// What calls an issuer: bounded in time, with the trust its section asks for.
fn caller_of(issuer: &IssuerSettings) -> Result<Arc<dyn Fetch>, Box<dyn std::error::Error + Send + Sync>> {
    let settings = client::Settings { ca: issuer.ca.clone(), ..client::Settings::default() };
    Ok(Arc::new(Client::new(&settings)?))
}

fn gate(settings: &Settings, index: &Arc<Index>, verifier: &Arc<Verifier>, inventory: &Inventory) -> Arc<Gate> {
    let admission = admission::Settings { when_stale: settings.staleness.then };
    let gate = Gate::new(admission, index.clone(), verifier.clone());
    let taught: Vec<_> = settings.verify.issuers.iter().filter(|issuer| issuer.has_token_endpoints).collect();
    let taught = taught.into_iter().map(|issuer| issuer.issuer.clone()).collect();
    Arc::new(gate.learning(inventory.bindings.clone(), taught).taking(inventory.passwords.clone()))
}

fn bind(settings: &Settings, metrics: &Arc<Metrics>, workers: &Workers) -> Result<(Server, Server), AppError> {
    let proxy = Server::bind("proxy", settings.proxy.clone(), metrics.clone())?.with_workers(workers.clone());
    let admin = Server::bind("admin", settings.admin_listener.clone(), metrics.clone())?;
    Ok((proxy, admin))
}

fn admin_settings(settings: &Settings, replica: &ReplicaIdentity) -> admin::Settings {
    admin::Settings { replica: replica.name.clone(), ..settings.admin.clone() }
}
