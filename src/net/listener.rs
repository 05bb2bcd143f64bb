//! Accepts connections: as many as the limits allow, as long as nobody drains, and through a lack of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::arrival::Arrival;
use super::census::Census;
use super::drain::Drain;
use super::exchange::Handler;
use super::serve;
use super::settings::Settings;
use super::tls::{self, TlsError};
use super::workers::Workers;
use crate::telemetry::Metrics;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// How long to wait when the system has no descriptor for another connection: first, and at most.
const BREATHERS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Why a listener cannot be had, or not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener that runs cannot move.
    #[error("listening on {to} instead of {from} takes a restart")]
    Moved {
        /// Where it listens.
        from: SocketAddr,
        /// Where it should.
        to: SocketAddr,
    },
}

/// What new connections are served by; replaced as a whole.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) settings: Settings,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

impl Live {
    fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls = settings.tls.as_ref().map(tls::server_config).transpose()?;
        Ok(Self { settings, tls })
    }
}

/// A socket that listens, and serves HTTP/1.1 and HTTP/2 once it runs.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    listener: TcpListener,
    address: SocketAddr,
    handle: Handle,
    census: Arc<Census>,
    metrics: Arc<Metrics>,
    workers: Option<Workers>,
}

/// Changes what a listener does with the connections to come.
#[derive(Clone, Debug)]
pub struct Handle {
    live: Arc<ArcSwap<Live>>,
}

/// Settings whose files were read and found good.
#[derive(Debug)]
pub struct Prepared(Arc<Live>);

impl Handle {
    /// Reads what `settings` name, and changes nothing yet.
    ///
    /// # Errors
    ///
    /// [`ListenError::Tls`] and [`ListenError::Moved`].
    pub fn prepare(&self, settings: Settings) -> Result<Prepared, ListenError> {
        let from = self.live.load().settings.listen;
        if from != settings.listen {
            return Err(ListenError::Moved { from, to: settings.listen });
        }
        Ok(Prepared(Arc::new(Live::new(settings)?)))
    }

    /// Serves new connections by these settings. Those that are open go on as they began.
    pub fn install(&self, prepared: Prepared) {
        self.live.store(prepared.0);
    }
}

impl Server {
    /// Takes the address and reads the certificates; accepts nothing yet. `name` is the label in metrics. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError::Tls`] and [`ListenError::Bind`].
    pub fn bind(name: &'static str, settings: Settings, metrics: Arc<Metrics>) -> Result<Self, ListenError> {
        let listen = settings.listen;
        let live = Live::new(settings)?;
        let bound = listen_on(listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| ListenError::Bind { listen, source })?;
        let handle = Handle { live: Arc::new(ArcSwap::from_pointee(live)) };
        Ok(Self { name, listener, address, handle, census: Arc::default(), metrics, workers: None })
    }

    /// The server whose connections are served by `workers`; without, they are served where it runs. The workers end with
    /// their last clone, so one must be kept until the drain has finished: when it begins, [`Self::run`] drops its own.
    #[must_use]
    pub fn with_workers(self, workers: Workers) -> Self {
        Self { workers: Some(workers), ..self }
    }

    /// The address, with the port that port 0 became.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// For changing the settings while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts and serves until `drain` begins, and then closes the socket. The connections are `drain`'s to await.
    pub async fn run<S: Handler>(self, service: S, drain: Drain) {
        let service = Arc::new(service);
        let mut hold = drain.hold();
        let mut breather = BREATHERS.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = hold.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    breather = BREATHERS.0;
                    if let Some(arrival) = self.arrival(socket, address) {
                        let served = serve::connection(arrival, service.clone(), drain.hold());
                        match &self.workers {
                            Some(workers) => workers.spawn(served),
                            // The hold is what awaits the task.
                            None => drop(tokio::spawn(served)),
                        }
                    }
                }
                // That connection is gone, the next one may be good.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept connections for a moment");
                    tokio::time::sleep(breather).await;
                    breather = (breather * 2).min(BREATHERS.1);
                }
            }
        }
    }

    /// The connection, if there is room for it.
    fn arrival(&self, socket: TcpStream, address: SocketAddr) -> Option<Arrival> {
        let live = self.handle.live.load_full();
        let open = || self.metrics.connection(self.name);
        let Some(slot) = self.census.enter(live.settings.limits.connections, open) else {
            self.metrics.connection_result(self.name, "refused");
            return None;
        };
        // Small answers are not held back for more to come; without it they only come later.
        let _ = socket.set_nodelay(true);
        // Whoever serves it watches it, not we.
        let socket = socket.into_std().ok()?;
        // A dual-stack socket shows IPv4 in IPv6 clothes; networks are configured without.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Some(Arrival { listener: self.name, socket, address, slot, live, metrics: self.metrics.clone() })
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart need not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
