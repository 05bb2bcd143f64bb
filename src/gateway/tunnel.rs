//! Bytes both ways, once both sides have agreed to speak something other than HTTP.
//!
//! A tunnel ends when a side closes, when it has been silent in both directions for too long, or when the process drains. Its task
//! belongs to [`Tunnels`], which outlives reloads.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::telemetry::Open;

/// How long both sides may take to let go of HTTP once they have agreed.
const HANDOVER: Duration = Duration::from_secs(10);

/// All tunnels of the process.
#[derive(Debug)]
pub(super) struct Tunnels {
    tasks: Mutex<JoinSet<()>>,
    closing: watch::Receiver<bool>,
}

/// What a tunnel needs as long as it lasts.
pub(super) struct Ends<H> {
    /// The client's side, after our 101 or 200 is out.
    pub(super) client: OnUpgrade,
    /// The upstream's side.
    pub(super) upstream: OnUpgrade,
    /// The upstream connection, and whatever else must live as long.
    pub(super) hold: H,
    /// Counts it as open.
    pub(super) open: Open,
    /// How long it may be silent.
    pub(super) idle: Duration,
}

impl Tunnels {
    /// No tunnel yet. All end when `closing` turns true, or its sender is gone.
    pub(super) fn new(closing: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self { tasks: Mutex::default(), closing })
    }

    /// Starts a tunnel.
    pub(super) fn open<H: Send + 'static>(&self, ends: Ends<H>) {
        let mut closing = self.closing.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let Ends { client, upstream, hold, open, idle } = ends;
            tokio::select! {
                () = run(client, upstream, idle) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            drop((hold, open));
        });
    }

    /// Waits until those open now have ended.
    pub(super) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

async fn run(client: OnUpgrade, upstream: OnUpgrade, idle: Duration) {
    let Ok(Ok((client, upstream))) = timeout(HANDOVER, async { tokio::try_join!(client, upstream) }).await else {
        tracing::debug!("tunnel not opened: a side kept to HTTP");
        return;
    };
    let moves = Arc::new(AtomicU64::new(0));
    let mut client = Watched { io: TokioIo::new(client), moves: moves.clone() };
    let mut upstream = Watched { io: TokioIo::new(upstream), moves: moves.clone() };
    tokio::select! {
        // Either side may break off at any time; there is nobody left to tell.
        _ = copy_bidirectional(&mut client, &mut upstream) => {}
        () = silence(&moves, idle) => tracing::debug!("tunnel closed: silent for too long"),
    }
}

/// Returns after `idle` without a byte either way, at the latest after twice that.
async fn silence(moves: &AtomicU64, idle: Duration) {
    let mut seen = moves.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(idle).await;
        let now = moves.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// One end, which notes that something came.
struct Watched {
    io: TokioIo<Upgraded>,
    moves: Arc<AtomicU64>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.moves.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
