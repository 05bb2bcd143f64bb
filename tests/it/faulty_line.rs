//! The line with faults that the fleets' stories rely on does to a connection what it says.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::fault_proxy::{FaultProxy, Lane};
use crate::rig::within;

/// A server that says back what it hears.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// Whether what is said comes back; nothing is decided about when.
async fn answers(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"hello").await?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await?;
    Ok(&heard == b"hello")
}

/// Whether nothing comes for a while. That something would still have come later is what the end of each story shows.
async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(100), stream.peek(&mut [0])).await.is_err()
}

#[tokio::test]
async fn a_cut_line_holds_everything_and_delivers_it_when_mended() {
    let line = FaultProxy::start(echo().await);
    let mut old = TcpStream::connect(line.address).await.unwrap();
    assert!(answers(&mut old).await.unwrap());
    line.cut();
    let mut new = TcpStream::connect(line.address).await.unwrap();
    old.write_all(b"hello").await.unwrap();
    new.write_all(b"hello").await.unwrap();
    assert!(is_silent(&mut old).await && is_silent(&mut new).await);
    line.mend();
    for stream in [&mut old, &mut new] {
        let mut heard = [0; 5];
        within("what was held", stream.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[tokio::test]
async fn forgotten_connections_stay_open_and_silent_and_new_ones_are_good() {
    let line = FaultProxy::start(echo().await);
    let mut old = TcpStream::connect(line.address).await.unwrap();
    assert!(answers(&mut old).await.unwrap());
    line.forget_connections();
    old.write_all(b"hello").await.unwrap();
    let mut new = TcpStream::connect(line.address).await.unwrap();
    assert!(within("an answer", answers(&mut new)).await.unwrap());
    line.mend();
    assert!(is_silent(&mut old).await);
    assert!(within("an answer", answers(&mut new)).await.unwrap());
}

#[tokio::test]
async fn a_refusing_line_resets_the_old_and_the_new() {
    let line = FaultProxy::start(echo().await);
    let mut old = TcpStream::connect(line.address).await.unwrap();
    assert!(answers(&mut old).await.unwrap());
    line.refuse();
    assert!(within("a reset", answers(&mut old)).await.is_err());
    // It may be reset before it is known to be open.
    if let Ok(mut new) = TcpStream::connect(line.address).await {
        assert!(within("a reset", answers(&mut new)).await.is_err());
    }
    line.mend();
    let mut late = TcpStream::connect(line.address).await.unwrap();
    assert!(within("an answer", answers(&mut late)).await.unwrap());
}

#[tokio::test]
async fn lost_answers_never_come_and_their_connections_end_when_the_line_is_mended() {
    let line = FaultProxy::start(echo().await);
    let mut old = TcpStream::connect(line.address).await.unwrap();
    line.lose_answers();
    old.write_all(b"hello").await.unwrap();
    assert!(is_silent(&mut old).await);
    line.mend();
    let mut heard = [0; 5];
    assert!(within("the end", old.read_exact(&mut heard)).await.is_err());
}

#[tokio::test]
async fn a_slow_line_delivers_in_order_and_a_moved_one_leads_elsewhere() {
    let line = FaultProxy::start(echo().await);
    let mut stream = TcpStream::connect(line.address).await.unwrap();
    for lane in [Lane::Delayed(Duration::from_millis(20)), Lane::Narrow(10_000)] {
        line.both(lane);
        assert!(within("an answer", answers(&mut stream)).await.unwrap());
    }
    line.mend();
    line.redirect(echo().await);
    assert!(within("a reset", answers(&mut stream)).await.is_err());
    let mut new = TcpStream::connect(line.address).await.unwrap();
    assert!(within("an answer", answers(&mut new)).await.unwrap());
}
