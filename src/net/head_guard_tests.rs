use std::collections::VecDeque;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

use super::*;

const BOUNDS: Bounds = Bounds { head_bytes: 1024, headers: 16 };

const TIMEOUTS: Timeouts =
    Timeouts { header: Duration::from_secs(10), body: Duration::from_secs(30), idle: Duration::from_secs(60) };

/// Gives what it was given, in the same pieces.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn guard<T>(io: T, ahead: &[u8]) -> (HeadGuard<T>, Arc<Exchanges>) {
    let exchanges = Exchanges::new();
    let came = (ahead.to_vec(), Instant::now());
    (HeadGuard::new(io, came, BOUNDS, TIMEOUTS, exchanges.clone(), Metrics::new()), exchanges)
}

fn connected() -> (HeadGuard<DuplexStream>, Arc<Exchanges>, DuplexStream) {
    let (near, far) = tokio::io::duplex(4096);
    let (guard, exchanges) = guard(near, b"");
    (guard, exchanges, far)
}

/// What hyper gets to see of a stream that comes in pieces, when it reads `most` bytes at a time.
fn delivered(pieces: Vec<Vec<u8>>, ahead: &[u8], most: usize) -> (Vec<u8>, Option<io::ErrorKind>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let (mut guard, exchanges) = guard(Pieces(pieces.into()), ahead);
    let (mut delivered, mut buffer) = (Vec::new(), vec![0; most]);
    loop {
        // Whatever was asked is answered at once.
        while exchanges.finished() < guard.framing.heads() {
            exchanges.begin().answer(false);
        }
        match guard.read(&mut buffer).now_or_never() {
            Some(Ok(0)) | None => return (delivered, None),
            Some(Ok(length)) => delivered.extend_from_slice(&buffer[..length]),
            Some(Err(error)) => return (delivered, Some(error.kind())),
        }
    }
}

fn cut(stream: &[u8], cuts: &[proptest::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| stream[pair[0]..pair[1]].to_vec()).collect()
}

/// Whole requests, lawful and not.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let requests = vec![
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /b HTTP/1.1\r\nContent-Length: 11\r\n\r\nGET / HTTP\r\n",
        "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nB;x\r\n, you there\r\n0\r\nX: y\r\n\r\n",
        "GET /d HTTP/1.1\r\nUpgrade: x\r\n\r\n",
        "GET /e HTTP/1.1\nHost: a\r\n\r\n",
        "POST /f HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /g HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
        "GET /h HTTP/1.1\r\nHost",
    ];
    let choice = proptest::sample::select(requests);
    proptest::collection::vec(choice, 1..6).prop_map(|requests| requests.concat().into_bytes())
}

proptest! {
    #[test]
    fn however_a_stream_comes_the_same_bytes_are_delivered(
        stream in stream(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        ahead in any::<proptest::sample::Index>(),
        most in 1usize..200,
    ) {
        let whole = delivered(vec![stream.clone()], b"", 4096);
        prop_assert_eq!(&delivered(cut(&stream, &cuts), b"", most), &whole);
        let (ahead, rest) = stream.split_at(ahead.index(stream.len()));
        prop_assert_eq!(&delivered(cut(rest, &cuts), ahead, most), &whole);
    }
}

#[test]
fn of_an_unlawful_head_not_a_byte_is_delivered() {
    let lawful = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let unlawful = b"GET /b HTTP/1.1\r\nHost: a\n\r\nGET /c HTTP/1.1\r\n\r\n";
    let (bytes, error) = delivered(vec![[lawful.as_slice(), unlawful].concat()], b"", 4096);
    assert_eq!(bytes, [lawful.as_slice(), UNLAWFUL].concat());
    assert_eq!(error, None);
}

#[test]
fn an_unlawful_chunk_fails_the_body() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (bytes, error) = delivered(vec![[head.as_slice(), b"5\r\nhello\r\n+1\r\na"].concat()], b"", 4096);
    assert_eq!(bytes, [head.as_slice(), b"5\r\nhello\r\n"].concat());
    assert_eq!(error, Some(io::ErrorKind::InvalidData));
}

#[tokio::test]
async fn the_bytes_after_an_upgrade_wait_for_its_answer() {
    let head = b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    for opens in [true, false] {
        let (mut guard, exchanges, mut far) = connected();
        far.write_all(&[head.as_slice(), b"\x01\x02\n"].concat()).await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(guard.read(&mut buffer).await.unwrap(), head.len());
        let exchange = exchanges.begin();
        assert!(guard.read(&mut buffer).now_or_never().is_none());
        let reading = tokio::spawn(async move { guard.read(&mut buffer).await.map(|read| buffer[..read].to_vec()) });
        tokio::task::yield_now().await;
        exchange.answer(opens);
        let expected = if opens { b"\x01\x02\n" } else { UNLAWFUL };
        assert_eq!(reading.await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_a_head_that_does_not_end_close_the_connection() {
    for said in [b"".as_slice(), b"GET / HTTP/1.1\r\n"] {
        let (mut guard, _exchanges, mut far) = connected();
        let begun = Instant::now();
        far.write_all(said).await.unwrap();
        assert_eq!(guard.read(&mut [0; 100]).await.unwrap(), 0);
        assert_eq!(begun.elapsed().as_secs(), TIMEOUTS.header.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_gets_no_more_time() {
    let (mut guard, _exchanges, mut far) = connected();
    let begun = Instant::now();
    let trickle = tokio::spawn(async move {
        while far.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(guard.read(&mut [0; 100]).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), TIMEOUTS.header.as_secs());
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_and_one_that_waits_for_us_does_not() {
    let (mut guard, exchanges, mut far) = connected();
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut buffer = [0; 100];
    assert_ne!(guard.read(&mut buffer).await.unwrap(), 0);
    let exchange = exchanges.begin();
    let answering = tokio::spawn(async move {
        sleep(Duration::from_secs(1000)).await;
        exchange.answer(false);
        Instant::now()
    });
    assert_eq!(guard.read(&mut buffer).await.unwrap(), 0);
    let answered = answering.await.unwrap();
    let idle = answered.elapsed();
    assert!(idle >= TIMEOUTS.idle && idle < TIMEOUTS.idle + Duration::from_secs(2), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_fails() {
    let (mut guard, _exchanges, mut far) = connected();
    far.write_all(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    let mut buffer = [0; 100];
    assert_ne!(guard.read(&mut buffer).await.unwrap(), 0);
    let error = guard.read(&mut buffer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_peer_may_still_have_its_answer() {
    let (mut guard, exchanges, mut far) = connected();
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    far.shutdown().await.unwrap();
    let mut buffer = [0; 100];
    assert_ne!(guard.read(&mut buffer).await.unwrap(), 0);
    let exchange = exchanges.begin();
    assert!(guard.read(&mut buffer).now_or_never().is_none());
    let begun = Instant::now();
    let answering = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        exchange.answer(false);
    });
    assert_eq!(guard.read(&mut buffer).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), 1);
    answering.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_peer_still_sends_is_read_so_that_it_sees_why() {
    let (mut guard, _exchanges, mut far) = connected();
    far.write_all(b"GET / HTTP/1.1\n\r\n").await.unwrap();
    let mut buffer = [0; 100];
    assert_eq!(guard.read(&mut buffer).await.unwrap(), UNLAWFUL.len());
    guard.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let closing = tokio::spawn(async move { guard.shutdown().await });
    far.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut seen = Vec::new();
    far.read_to_end(&mut seen).await.unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 400"));
    closing.await.unwrap().unwrap();
}
