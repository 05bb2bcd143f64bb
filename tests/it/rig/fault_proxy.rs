//! A network with faults: a TCP proxy between one gateway and its store, in a thread of its own, so that it goes on while the
//! story waits for a process. What it is told holds for open connections too, from that moment on.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Lane {
    /// They pass.
    #[default]
    Open,
    /// They pass this much later.
    Delayed(Duration),
    /// So many of them pass in a second.
    Narrow(u32),
    /// They wait, and pass when the lane is open again: a cable that is cut and mended.
    Held,
    /// They are gone, and nobody is told.
    Lost,
}

/// The state of the line. A connection belongs to the generation in which it was opened.
#[derive(Clone, Copy, Debug)]
struct Line {
    to: SocketAddr,
    requests: Lane,
    answers: Lane,
    refusing: bool,
    /// Connections of earlier generations are reset,
    generation: u64,
    /// except those of generations before this one, which are open and silent for ever.
    forgotten: u64,
}

impl Line {
    fn silent(&self, begun: u64) -> bool {
        begun < self.forgotten
    }

    fn resets(&self, begun: u64) -> bool {
        !self.silent(begun) && begun < self.generation
    }
}

/// A proxy before one address; gone with its connections when dropped.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    pub(crate) address: SocketAddr,
    line: watch::Sender<Line>,
    _ends: oneshot::Sender<()>,
}

impl FaultProxy {
    /// Forwards to `to`, without fault until told otherwise.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of loopback is free");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let line = Line { to, requests: Lane::Open, answers: Lane::Open, refusing: false, generation: 0, forgotten: 0 };
        let (line, seen) = watch::channel(line);
        let (ends, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
                tokio::select! {
                    () = accept(listener, seen) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, line, _ends: ends }
    }

    /// Both directions do this from now on.
    pub(crate) fn both(&self, lane: Lane) {
        self.line.send_modify(|line| (line.requests, line.answers) = (lane, lane));
    }

    /// Nothing passes, and nobody is told.
    pub(crate) fn cut(&self) {
        self.both(Lane::Held);
    }

    /// What is asked arrives; no answer does.
    pub(crate) fn lose_answers(&self) {
        self.line.send_modify(|line| line.answers = Lane::Lost);
    }

    /// Every connection that is open stays so and is silent for ever; new ones are as good as any.
    pub(crate) fn forget_connections(&self) {
        self.line.send_modify(|line| {
            line.generation += 1;
            line.forgotten = line.generation;
        });
    }

    /// Resets every open connection and every new one: nobody listens there.
    pub(crate) fn refuse(&self) {
        self.line.send_modify(|line| (line.refusing, line.generation) = (true, line.generation + 1));
    }

    /// No fault any more. Connections that may have lost something are reset.
    pub(crate) fn mend(&self) {
        self.line.send_modify(|line| {
            let lost = line.requests == Lane::Lost || line.answers == Lane::Lost;
            (line.requests, line.answers, line.refusing) = (Lane::Open, Lane::Open, false);
            line.generation += u64::from(lost);
        });
    }

    /// New connections lead there, and the open ones are reset: the name has moved.
    pub(crate) fn redirect(&self, to: SocketAddr) {
        self.line.send_modify(|line| (line.to, line.generation) = (to, line.generation + 1));
    }
}

async fn accept(listener: TcpListener, line: watch::Receiver<Line>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(join(client, line.clone()))),
            // Out of descriptors: the connections that end make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection, until both ends have ended it or it is reset.
async fn join(mut client: TcpStream, mut line: watch::Receiver<Line>) {
    let (begun, to) = {
        let now = line.borrow();
        (now.generation, now.to)
    };
    // Over a cut cable nobody gets in: who knocks waits.
    let knocks = |line: &Line| line.requests != Lane::Held || line.resets(begun);
    let let_in = line.wait_for(knocks).await.is_ok_and(|line| !line.resets(begun) && !line.refusing);
    let server = if let_in { TcpStream::connect(to).await.ok() } else { None };
    let Some(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = pump(from_client, to_server, line.clone(), begun, |line| line.requests);
        let answers = pump(from_server, to_client, line.clone(), begun, |line| line.answers);
        let both = pin!(async { tokio::join!(requests, answers) });
        tokio::select! {
            _ = both => false,
            _ = line.wait_for(|line| line.resets(begun)) => true,
        }
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Carries one direction to its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut line: watch::Receiver<Line>,
    begun: u64,
    lane: fn(&Line) -> Lane,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let passes = |line: &Line| !line.silent(begun) && lane(line) != Lane::Held;
        let Ok(lane) = line.wait_for(passes).await.map(|line| lane(&line)) else { return };
        match lane {
            Lane::Delayed(by) => tokio::time::sleep(by).await,
            Lane::Narrow(bytes) => {
                tokio::time::sleep(Duration::from_secs_f64(read as f64 / f64::from(bytes.max(1)))).await;
            }
            // The end of what was lost is not told either.
            Lane::Lost if read == 0 => std::future::pending().await,
            Lane::Lost => continue,
            Lane::Open | Lane::Held => {}
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
