//! Bytes on a socket, for what no proper client would say.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::within;

/// Sends these bytes, closes the sending half, and returns all that comes back until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the listener accepts");
    // A gateway that has refused already may have closed: what it said is still to be read.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = within("the end of a raw exchange", stream.read_to_end(&mut answer)).await;
    answer
}

/// Sends these bytes and, with the sending half left open, reads until the other side closes.
pub(crate) async fn exchange_open(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the listener accepts");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("the end of a raw exchange", stream.read_to_end(&mut answer)).await;
    answer
}

/// The status codes of all answers in these bytes; a body that looks like a status line would count too.
pub(crate) fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let after = text.match_indices("HTTP/1.").map(|(at, _)| &text[at..]);
    after.filter_map(|line| line.split(' ').nth(1)?.get(..3)?.parse().ok()).collect()
}
