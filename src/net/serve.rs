//! One connection, from its first request to its last answer.
//!
//! hyper is driven directly, with a limit on everything that it can limit; the guard and the streams' tasks limit the rest.
//! A connection that drains or was idle is told to finish, and then dropped when it does not.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep, sleep_until};

use super::alarm::after;
use super::arrival::{Arrival, Ready, Unready};
use super::drain::Hold;
use super::exchange::{self, Exchanges, Handler};
use super::fuse;
use super::head_guard::HeadGuard;
use super::io::Rewind;
use super::settings::Settings;
use super::streams::Streams;

/// HTTP/2 flow control: how far a client may run ahead of us, in a stream and in all.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How far an answer may run ahead of its client, in an HTTP/2 stream.
const SEND_BYTES: usize = 64 * 1024;

/// hyper's own least buffer.
const LEAST_BUFFER: usize = 8 * 1024;

/// Serves a connection until it ends or `hold` says so.
pub(super) async fn connection<S: Handler>(arrival: Arrival, service: Arc<S>, mut hold: Hold) {
    let (listener, metrics) = (arrival.listener, arrival.metrics.clone());
    let ready = tokio::select! {
        biased;
        // In a box, like HTTP/2: a connection that lasts need not carry the room for what is over, or is another's.
        ready = Box::pin(arrival.prepare()) => ready,
        // Nothing was asked yet, so nothing is owed.
        () = hold.draining() => return,
    };
    match ready {
        Ok(ready) if ready.http2 => Box::pin(ready.serve_http2(service, hold)).await,
        Ok(ready) => ready.serve_http1(service, hold).await,
        Err(Unready::Silent) => {}
        Err(error) => {
            let result = if matches!(error, Unready::Crowded) { "refused" } else { "failed" };
            metrics.connection_result(listener, result);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(listener, %error, cause, "a connection came to nothing");
        }
    }
}

impl Ready {
    async fn serve_http1<S: Handler>(self, service: Arc<S>, hold: Hold) {
        let Self { io, peer, ahead, since, live, metrics, .. } = self;
        let Settings { timeouts, limits, .. } = live.settings;
        let exchanges = Exchanges::new();
        let came = (ahead, since);
        let guard = HeadGuard::new(io, came, live.settings.bounds(), timeouts, exchanges.clone(), metrics.clone());
        let respond = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            // In a box, which goes when the head is answered: a connection or a stream that lasts need not carry the room.
            Box::pin(exchange::answer(service.clone(), request, limits.headers, exchanges.begin(), metrics.clone()))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The guard has better ones.
            .header_read_timeout(None)
            .max_buf_size(limits.head_bytes.max(LEAST_BUFFER) + LEAST_BUFFER)
            .max_headers(limits.headers)
            // Whoever connects while we drain gets one answer.
            .keep_alive(!hold.is_draining())
            .serve_connection(TokioIo::new(guard), respond)
            .with_upgrades();
        let driven = drive(connection, |connection| connection.graceful_shutdown(), pending(), timeouts.body, hold);
        fuse::scope(driven).await;
    }

    async fn serve_http2<S: Handler>(self, service: Arc<S>, hold: Hold) {
        let Self { io, peer, ahead, live, metrics, .. } = self;
        let Settings { timeouts, limits, .. } = live.settings;
        let exchanges = Exchanges::new();
        let streams = Streams::new(hold.clone(), exchanges.clone(), timeouts.body);
        let quiet = quiet(exchanges.clone(), timeouts.idle);
        let respond = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            Box::pin(exchange::answer(service.clone(), request, limits.headers, exchanges.begin(), metrics.clone()))
        });
        let connection =
            http2_builder(streams, &live.settings).serve_connection(TokioIo::new(Rewind::new(ahead, io)), respond);
        drive(connection, |connection| connection.graceful_shutdown(), quiet, timeouts.body, hold).await;
    }
}

fn http2_builder(streams: Streams, settings: &Settings) -> http2::Builder<Streams> {
    let Settings { timeouts, limits, .. } = settings;
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        // Rapid reset, and resets that the peer made us send (CVE-2023-44487, CVE-2025-8671).
        .max_pending_accept_reset_streams(limits.resets)
        .max_local_error_reset_streams(limits.resets)
        // A peer that stops in the middle of a head cannot answer a ping either.
        .keep_alive_interval(timeouts.header)
        .keep_alive_timeout(timeouts.header)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES)
        .enable_connect_protocol();
    builder
}

/// Waits until nothing has gone on for `idle`.
async fn quiet(exchanges: Arc<Exchanges>, idle: Duration) {
    loop {
        let since = exchanges.quiet_since();
        let until = after(since.unwrap_or_else(Instant::now), idle);
        if since.is_some() && Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

/// Drives a connection to its end. When we drain, or it is `quiet`, it is told to finish; what it owes it may still give:
/// until we cut, or for `patience` when it was quiet. It is dropped when its exchange must end and does not.
async fn drive<C>(
    connection: C,
    goodbye: fn(Pin<&mut C>),
    quiet: impl Future<Output = ()>,
    patience: Duration,
    mut hold: Hold,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let was_quiet = tokio::select! {
        biased;
        ended = connection.as_mut() => return note(ended),
        () = fuse::over() => return,
        () = hold.draining() => false,
        () = quiet => true,
    };
    goodbye(connection.as_mut());
    let limit = async {
        match was_quiet {
            true => sleep(patience).await,
            false => pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = connection => note(ended),
        () = fuse::over() => {}
        () = hold.cut() => {}
        () = limit => {}
    }
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
