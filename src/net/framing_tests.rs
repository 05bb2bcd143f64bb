use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { head_bytes: 1024, headers: 16 };

/// What a stream comes to: how many bytes pass, and the fault that ends it. A tunnel that is asked for opens if `tunnel`.
fn run(stream: &[u8], cuts: &[usize], tunnel: bool) -> (usize, Option<Fault>) {
    let mut framing = Framing::new(BOUNDS);
    let mut passed = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        loop {
            match framing.step(&stream[passed..end.max(passed)]) {
                Step::Pass(length) => {
                    assert!(length > 0 && passed + length <= end);
                    passed += length;
                }
                Step::Wait => break,
                Step::Hold => framing.decide(tunnel),
                Step::Refuse(fault) => return (passed, Some(fault)),
            }
        }
    }
    (passed, None)
}

fn fault(stream: impl AsRef<[u8]>) -> Option<Fault> {
    run(stream.as_ref(), &[], false).1
}

#[test]
fn smuggling_is_refused_and_nothing_of_the_head_passes() {
    let vectors: &[(&str, Fault)] = &[
        ("GET / HTTP/1.1\nHost: a\n\n", Fault::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\n\nGET /x HTTP/1.1\r\n\r\n", Fault::BareLineFeed),
        ("\nGET / HTTP/1.1\r\n\r\n", Fault::BareLineFeed),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Fault::BareCarriageReturn),
        ("GET / HTTP/1.1\r\nX: a\r\r\n\r\n", Fault::BareCarriageReturn),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Fault::ControlCharacter),
        ("GET / HTTP/1.1\r\nX: a\x0bb\r\n\r\n", Fault::ControlCharacter),
        ("GET /\0 HTTP/1.1\r\n\r\n", Fault::ControlCharacter),
        ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Fault::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nContent-Length\t: 5\r\n\r\n", Fault::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nTransfer Encoding: chunked\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", Fault::FieldName),
        ("GET  / HTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("GET / HTTP/1.1 \r\n\r\n", Fault::RequestLine),
        ("GET /\tHTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("GET /\r\n\r\n", Fault::RequestLine),
        ("G(T / HTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("GET / HTTP/2.0\r\n\r\n", Fault::Version),
        ("GET / http/1.1\r\n\r\n", Fault::Version),
        ("GET / HTTP/1.10\r\n\r\n", Fault::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::LengthAndEncoding),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n", Fault::LengthAndEncoding),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Fault::RepeatedLength),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Fault::RepeatedLength),
        ("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\nhello", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", Fault::Encoding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::OldEncoding),
        ("CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Fault::ConnectContent),
        ("CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::ConnectContent),
    ];
    for (stream, expected) in vectors {
        assert_eq!(run(stream.as_bytes(), &[], false), (0, Some(*expected)), "{stream:?}");
    }
}

#[test]
fn unlawful_bodies_are_refused() {
    let vectors: &[(&str, Fault)] = &[
        ("5\nhello\r\n0\r\n\r\n", Fault::BareLineFeed),
        ("+5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("-5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("0x5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (" 5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("5 \r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("5\t;a\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        ("1234567890abcdef\r\n", Fault::ChunkSize),
        ("5;a\x01\r\nhello\r\n0\r\n\r\n", Fault::ChunkExtension),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", Fault::BareCarriageReturn),
        ("5;a\nhello\r\n0\r\n\r\n", Fault::BareLineFeed),
        ("5\r\nhelloX\r\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello0\r\n\r\n", Fault::ChunkEnd),
        ("0\r\nContent-Length: 5\r\n\r\n", Fault::Trailers),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Trailers),
        ("0\r\nAuthorization: Bearer x\r\n\r\n", Fault::Trailers),
        ("0\r\nX: a\n\r\n", Fault::BareLineFeed),
        ("0\r\n\n", Fault::BareLineFeed),
        ("0\r\nX: a\r\n b\r\n\r\n", Fault::Folded),
        ("0\r\nX : a\r\n\r\n", Fault::SpaceBeforeColon),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Fault::FieldName),
    ];
    for (body, expected) in vectors {
        let stream = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(fault(&stream), Some(*expected), "{body:?}");
    }
}

#[test]
fn heads_and_chunk_lines_have_bounds() {
    let fields = "X: a\r\n".repeat(BOUNDS.headers);
    assert_eq!(fault(format!("GET / HTTP/1.1\r\n{fields}\r\n")), None);
    assert_eq!(fault(format!("GET / HTTP/1.1\r\n{fields}X: a\r\n\r\n")), Some(Fault::TooManyFields));
    let long = "x".repeat(BOUNDS.head_bytes);
    assert_eq!(fault(format!("GET /{long} HTTP/1.1\r\n\r\n")), Some(Fault::HeadTooLarge));
    let filling = "x".repeat(BOUNDS.head_bytes - "GET / HTTP/1.1\r\n\r\n".len());
    assert_eq!(fault(format!("GET /{filling} HTTP/1.1\r\n\r\n")), None);
    assert_eq!(fault(format!("GET /{filling}x HTTP/1.1\r\n\r\n")), Some(Fault::HeadTooLarge));
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(fault(format!("{chunked}1;{long}\r\n")), Some(Fault::ChunkExtension));
    assert_eq!(fault(format!("{chunked}0\r\nX: {long}\r\n")), Some(Fault::Trailers));
    assert_eq!(fault(format!("{chunked}0\r\n{fields}X: a\r\n\r\n")), Some(Fault::Trailers));
}

#[test]
fn what_follows_a_tunnel_request_waits_for_the_answer() {
    for head in ["GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n"] {
        let stream = format!("{head}\0not HTTP at all");
        let mut framing = Framing::new(BOUNDS);
        assert_eq!(framing.step(stream.as_bytes()), Step::Pass(head.len()));
        assert_eq!(framing.step(&stream.as_bytes()[head.len()..]), Step::Hold);
        assert_eq!(run(stream.as_bytes(), &[], true), (stream.len(), None));
        let (passed, fault) = run(stream.as_bytes(), &[], false);
        assert_eq!(passed, head.len());
        assert!(fault.is_none_or(|fault| fault == Fault::ControlCharacter));
    }
}

/// A lawful request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let fields = proptest::collection::vec(("[a-zA-Z!#$-]{1,12}", "[ -~\u{80}-\u{ff}\t]{0,40}"), 0..8);
    let content = proptest::option::of((proptest::collection::vec(any::<u8>(), 0..300), any::<bool>(), 1usize..40));
    (any::<bool>(), "/[!-\"$-~]{0,30}", fields, content).prop_map(|(blank_first, target, fields, content)| {
        let mut bytes = if blank_first { b"\r\n".to_vec() } else { Vec::new() };
        bytes.extend(format!("POST {target} HTTP/1.1\r\n").bytes());
        for (name, value) in fields {
            let special = ["upgrade", "content-length", "transfer-encoding"].contains(&name.to_lowercase().as_str());
            let name = if special { "x".to_owned() } else { name };
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        match content {
            None => bytes.extend(b"\r\n"),
            Some((content, false, _)) => {
                bytes.extend(format!("Content-LENGTH:\t{}  \r\n\r\n", content.len()).bytes());
                bytes.extend(content);
            }
            Some((content, true, size)) => {
                bytes.extend(b"transfer-Encoding: Chunked\r\n\r\n");
                for chunk in content.chunks(size) {
                    bytes.extend(format!("{:X};ext=\"1\"\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"000\r\nX-Sum: 1\r\n\r\n");
            }
        }
        bytes
    })
}

/// A stream that is lawful but for a few bytes, mostly.
fn nearly_lawful() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(
        (any::<proptest::sample::Index>(), proptest::sample::select(b"\r\n\0 :,0+x".to_vec())),
        0..3,
    );
    (proptest::collection::vec(request(), 1..4), noise).prop_map(|(requests, noise)| {
        let mut stream = requests.concat();
        for (at, byte) in noise {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        stream
    })
}

proptest! {
    #[test]
    fn lawful_streams_pass_unchanged(requests in proptest::collection::vec(request(), 1..5)) {
        let stream = requests.concat();
        prop_assert_eq!(run(&stream, &[], false), (stream.len(), None));
    }

    #[test]
    fn however_a_stream_is_cut_the_same_bytes_pass(
        stream in nearly_lawful(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        let whole = run(&stream, &[], false);
        prop_assert_eq!(run(&stream, &cuts, false), whole);
        let every_byte: Vec<_> = (0..stream.len()).collect();
        prop_assert_eq!(run(&stream, &every_byte, false), whole);
    }

    #[test]
    fn noise_does_not_panic(stream in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = run(&stream, &[], true);
    }
}
