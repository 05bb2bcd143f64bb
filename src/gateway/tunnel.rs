//! Bytes both ways, once both sides have agreed to speak something other than HTTP.
//!
//! A tunnel ends when a side closes, when it has been silent in both directions for too long, when the token that opened it dies,
//! or when the process drains. The last two are told to both sides of a WebSocket by a Close frame (RFC 6455 §7.4.1) between
//! two frames of theirs; all that is bounded, and then it ends. Its task belongs to [`Tunnels`], which outlives reloads.

use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::gateway::frames;
use crate::gateway::idle::Idle;
use crate::gateway::pump::Direction;
use crate::live::{Lease, Side};
use crate::telemetry::Open;

/// How long both sides may take to let go of HTTP once they have agreed.
const HANDOVER: Duration = Duration::from_secs(10);
/// How long the frames under way may take to their end once the tunnel has to end.
const FINISH: Duration = Duration::from_millis(250);
/// How long the answers to our Close frames are waited for.
const ECHO: Duration = Duration::from_millis(250);

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
    /// Whether it carries WebSocket frames.
    pub(super) framed: bool,
    /// Its right to go on.
    pub(super) lease: Option<Lease>,
}

/// Why a tunnel ends while both sides would go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Farewell {
    /// Its token is dead.
    Cut,
    /// The process drains.
    Away,
}

impl Farewell {
    /// The status code and reason of a Close frame.
    const fn words(self) -> (u16, &'static str) {
        match self {
            Self::Cut => (1008, "the token is no longer valid"),
            Self::Away => (1001, "going away"),
        }
    }
}

impl Tunnels {
    /// No tunnel yet. All end when `closing` turns true, or its sender is gone.
    pub(super) fn new(closing: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self { tasks: Mutex::default(), closing })
    }

    /// Starts a tunnel.
    pub(super) fn open<H: Send + 'static>(&self, ends: Ends<H>) {
        let closing = self.closing.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(run(ends, closing));
    }

    /// Waits until those open now have ended.
    pub(super) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

/// Runs a tunnel to its end; only then is what it holds let go.
async fn run<H>(ends: Ends<H>, mut closing: watch::Receiver<bool>) {
    let Ends { client, upstream, hold, open, idle, framed, lease } = ends;
    let lease = lease.as_ref();
    let handover = async { tokio::try_join!(client, upstream) };
    let end = async {
        // Nobody can be told anything yet, but in a moment they can.
        farewell(lease, &mut closing).await;
        sleep(FINISH).await;
    };
    let opened = tokio::select! {
        opened = timeout(HANDOVER, handover) => opened,
        () = end => return,
    };
    if let Ok(Ok((client, upstream))) = opened {
        let mut tunnel = Tunnel::new(client, upstream, framed);
        tokio::select! {
            () = tunnel.flow(idle) => {}
            why = farewell(lease, &mut closing) => tunnel.take_leave(why).await,
        }
    } else {
        tracing::debug!("tunnel not opened: a side kept to HTTP");
    }
    drop((hold, open));
}

/// Waits until the tunnel has to end.
async fn farewell(lease: Option<&Lease>, closing: &mut watch::Receiver<bool>) -> Farewell {
    let cut = async {
        match lease {
            Some(lease) => poll_fn(|cx| lease.term().poll_cut(Side::Answer, cx)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = cut => Farewell::Cut,
        _ = closing.wait_for(|closing| *closing) => Farewell::Away,
    }
}

/// Two ends, and what goes on between them.
struct Tunnel {
    client: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    up: Direction,
    down: Direction,
}

impl Tunnel {
    fn new(client: Upgraded, upstream: Upgraded, framed: bool) -> Self {
        let (up, down) = (Direction::new(framed), Direction::new(framed));
        Self { client: TokioIo::new(client), upstream: TokioIo::new(upstream), up, down }
    }

    /// Passes bytes both ways until both sides have closed, one breaks off, or neither has said anything for `silence`.
    async fn flow(&mut self, silence: Duration) {
        let mut idle = Idle::new(silence, None);
        let flow = poll_fn(|cx| {
            if self.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Both are asked, so that neither has moved unnoticed.
            if self.up.has_moved() | self.down.has_moved() {
                idle.note_progress();
            }
            idle.poll_expired(cx)
        });
        flow.await;
    }

    /// Tells both sides why it ends, waits a moment for their answers, and closes.
    async fn take_leave(&mut self, why: Farewell) {
        let (code, reason) = why.words();
        let mut mask = [0; 4];
        // RFC 6455 §10.3: it protects third parties from chosen bytes, and these are ours.
        let _ = aws_lc_rs::rand::fill(&mut mask);
        self.up.say(frames::close(code, reason, Some(mask)));
        self.down.say(frames::close(code, reason, None));
        if timeout(FINISH, self.spoken()).await.is_err() {
            self.up.fall_silent();
            self.down.fall_silent();
        }
        let leave = async {
            poll_fn(|cx| self.poll(cx)).await;
            // Whoever is gone already need not be told.
            let _ = tokio::join!(self.client.shutdown(), self.upstream.shutdown());
        };
        let _ = timeout(ECHO, leave).await;
    }

    /// Waits until both directions have said their last.
    async fn spoken(&mut self) {
        poll_fn(|cx| {
            let is_over = self.poll(cx).is_ready();
            if is_over || (self.up.has_spoken() && self.down.has_spoken()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ready when both directions are over, or one broke off: then there is nobody left to tell.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream);
        let down = self.down.poll(cx, &mut self.upstream, &mut self.client);
        match (up, down) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}
