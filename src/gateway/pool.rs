//! The connections of one upstream, and who may use them.
//!
//! An HTTP/1.1 connection carries one exchange at a time and comes back only when request and answer have both come to their
//! end; one that was let go before is closed. HTTP/2 connections are shared, as many as the streams in use demand. Everything here
//! is bounded, and nothing is locked while anything is waited for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::SharedClock;
use crate::gateway::balance::Load;
use crate::gateway::connect::{Connector, Fresh, Http1, Http2};
use crate::gateway::refusal::UpstreamFault;
use crate::gateway::reserve::Reserve;
use crate::gateway::settings::Scheme;
use crate::gateway::upload::{Progress, Upload};
use crate::gateway::wire::Wire;
use crate::net::Alarm;

const UNKNOWN: u8 = 0;
const HTTP1: u8 = 1;
const HTTP2: u8 = 2;

/// The connections of one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    wire: Wire,
    /// What the upstream spoke last; known from the start but for `https://`.
    protocol: AtomicU8,
    idle: Reserve,
    shared: Mutex<Vec<Arc<Http2>>>,
    /// One dials for HTTP/2, the others wait and use what it brings.
    dialling: Semaphore,
    most: usize,
}

/// A connection to send one request on.
#[derive(Debug)]
pub(super) enum Connection {
    /// Alone on it.
    Http1 {
        /// The connection.
        connection: Http1,
        /// Whether it has served before, and may have died since.
        is_used: bool,
    },
    /// Beside others.
    Http2(StreamPlace),
}

/// A place on a shared connection.
#[derive(Debug)]
pub(super) struct StreamPlace(Arc<Http2>);

impl StreamPlace {
    /// One more stream on `connection`.
    pub(super) fn on(connection: &Arc<Http2>) -> Self {
        connection.open.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that got no answer; whole, when nothing of it was sent.
#[derive(Debug)]
pub(super) struct SendFault {
    /// What went wrong.
    pub(super) fault: UpstreamFault,
    /// The request, when it can be sent anew.
    pub(super) unsent: Option<Box<Request<Upload>>>,
}

impl Pool {
    /// A pool that holds nothing yet. `most` bounds idle HTTP/1.1 connections, and HTTP/2 connections.
    pub(super) fn new(connector: Connector, most: usize, idle_age: Duration, clock: SharedClock) -> Self {
        let protocol = match connector.url.scheme() {
            Scheme::Http => HTTP1,
            Scheme::H2c => HTTP2,
            Scheme::Https => UNKNOWN,
        };
        Self {
            wire: Wire::new(&connector.url),
            connector,
            protocol: AtomicU8::new(protocol),
            idle: Reserve::new(most, idle_age, clock),
            shared: Mutex::default(),
            dialling: Semaphore::new(1),
            most: most.max(1),
        }
    }

    /// How to open a connection beside the pool.
    pub(super) const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// How requests are written for this upstream.
    pub(super) const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// A connection: one that is free, else a new one.
    pub(super) async fn checkout(&self) -> Result<Connection, UpstreamFault> {
        match self.available() {
            Some(connection) => Ok(connection),
            None if self.protocol.load(Ordering::Relaxed) == HTTP1 => self.dial().await,
            None => Box::pin(self.dial_together()).await,
        }
    }

    /// A new connection.
    pub(super) async fn dial(&self) -> Result<Connection, UpstreamFault> {
        // In a box: most requests find a connection and need not carry the room for opening one.
        match Box::pin(self.connector.dial()).await? {
            Fresh::Http1(connection) => {
                self.protocol.store(HTTP1, Ordering::Relaxed);
                Ok(Connection::Http1 { connection, is_used: false })
            }
            Fresh::Http2(connection) => {
                self.protocol.store(HTTP2, Ordering::Relaxed);
                let connection = Arc::new(connection);
                lock(&self.shared).push(connection.clone());
                Ok(Connection::Http2(StreamPlace::on(&connection)))
            }
        }
    }

    async fn dial_together(&self) -> Result<Connection, UpstreamFault> {
        let turn = timeout(self.connector.bound, self.dialling.acquire()).await;
        let _turn = turn.map_err(|_| UpstreamFault::ConnectTimeout)?;
        match self.available() {
            Some(connection) => Ok(connection),
            None => self.dial().await,
        }
    }

    fn available(&self) -> Option<Connection> {
        if self.protocol.load(Ordering::Relaxed) == HTTP2 {
            return self.place().map(Connection::Http2);
        }
        self.idle.take().map(|connection| Connection::Http1 { connection, is_used: true })
    }

    /// A place on the least loaded connection with room; beyond the most connections, also on one without.
    fn place(&self) -> Option<StreamPlace> {
        let mut shared = lock(&self.shared);
        shared.retain(|connection| !connection.sender.is_closed());
        let open = |connection: &Http2| connection.open.load(Ordering::Relaxed);
        let least = shared.iter().min_by_key(|connection| open(connection))?;
        let has_room = open(least) < least.most.load(Ordering::Relaxed);
        (has_room || shared.len() >= self.most).then(|| StreamPlace::on(least))
    }

    /// How many connections wait for use.
    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle.count()
    }

    /// How many connections are shared.
    #[cfg(test)]
    pub(super) fn shared_connections(&self) -> usize {
        lock(&self.shared).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Whether it has served before, and may have died since.
    pub(super) const fn is_used(&self) -> bool {
        matches!(self, Self::Http1 { is_used: true, .. } | Self::Http2(_))
    }

    /// The alarm that its answers are waited for with.
    pub(super) fn lend_alarm(&mut self) -> Alarm {
        match self {
            Self::Http1 { connection, .. } => std::mem::take(&mut connection.alarm),
            Self::Http2(_) => Alarm::default(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the exchange: it closes an HTTP/1.1 connection and resets an HTTP/2 stream.
    pub(super) async fn send(
        self,
        mut request: Request<Upload>,
        load: &Load,
    ) -> Result<(Response<Incoming>, Hold), SendFault> {
        let wire = load.upstream().pool().wire();
        match self {
            Self::Http1 { mut connection, .. } => {
                wire.address_http1(&mut request);
                let answered = connection.exchange(request).await;
                answered.map(|answer| (answer, Hold::Http1(connection))).map_err(SendFault::from)
            }
            Self::Http2(place) => {
                wire.address_http2(&mut request);
                let answered = place.0.sender.clone().try_send_request(request).await;
                answered.map(|answer| (answer, Hold::Http2(place))).map_err(SendFault::from)
            }
        }
    }
}

impl From<TrySendError<Request<Upload>>> for SendFault {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        let error = error.into_error();
        tracing::debug!(%error, "upstream gave no answer");
        Self { fault: fault_of(&error), unsent }
    }
}

/// What an error of hyper's says about the upstream.
pub(super) fn fault_of(error: &hyper::Error) -> UpstreamFault {
    if error.is_parse() || error.is_parse_status() { UpstreamFault::Protocol } else { UpstreamFault::Reset }
}

/// What an answer needs as long as it lasts.
#[derive(Debug)]
pub(super) enum Hold {
    /// The whole connection.
    Http1(Http1),
    /// The whole connection, which no other request may use.
    Alone(#[expect(dead_code, reason = "held for its drop")] Http1),
    /// A place on a shared one.
    Http2(#[expect(dead_code, reason = "held for its drop")] StreamPlace),
}

impl Hold {
    /// Takes back the alarm that was lent.
    pub(super) fn keeping(mut self, alarm: Alarm) -> Self {
        if let Self::Http1(connection) = &mut self {
            connection.alarm = alarm;
        }
        self
    }
}

/// An answer's right to its connection. Dropped, it ends the exchange; only [`Loan::finish`] lets a connection live on.
#[derive(Debug)]
pub(super) struct Loan {
    hold: Hold,
    upload: Option<Arc<Progress>>,
    load: Load,
}

impl Loan {
    /// Ties `hold` to an answer whose request is still going up as `upload` tells.
    pub(super) fn new(mut hold: Hold, upload: Option<Arc<Progress>>, load: Load) -> Self {
        if let Hold::Http1(connection) = &mut hold
            && upload.as_ref().is_some_and(|upload| !upload.is_complete())
        {
            // The rest goes up also while the client does not take the answer.
            connection.detach();
        }
        Self { hold, upload, load }
    }

    /// Moves the connection on, and says how to ask for what it brings; to be called whenever something of it is waited for.
    pub(super) fn drive<'c>(&mut self, cx: &mut Context<'c>) -> Context<'c> {
        match &mut self.hold {
            Hold::Http1(connection) => connection.drive(cx),
            Hold::Alone(_) | Hold::Http2(_) => Context::from_waker(cx.waker()),
        }
    }

    /// The answer has come to its end. If the request has too, the connection may serve another.
    pub(super) fn finish(self) {
        if let Hold::Http1(connection) = self.hold
            && self.upload.is_none_or(|upload| upload.is_complete())
        {
            self.load.upstream().pool().idle.put(connection);
        }
    }
}
