//! What is open when its token dies is ended within a second, in its own way; nobody else notices.

use std::process::Command;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::rig::program::{Companion, client, find, run};
use crate::rig::serve::{Body, BoxError};
use crate::rig::{Connection, Rig, Token, Wire, get, now, within};

const CUT: &str = r#"portcullis_cut_total{reason="revoked"}"#;
const EXPIRED: &str = r#"portcullis_cut_total{reason="expired"}"#;

fn base(rig: &Rig, scheme: &str) -> String {
    format!("{scheme}://localhost:{}", rig.gateway.proxy.port())
}

fn user(rig: &Rig, name: &str) -> Token {
    rig.issuer.token(json!({ "sub": name }))
}

async fn revoke_user(rig: &Rig, name: &str) -> Value {
    rig.admin.revoke(json!({ "issuer": "main", "user": name })).await
}

/// An answer that has begun and is held open.
async fn open(rig: &Rig, path: &str, token: &Token) -> (Connection, Incoming) {
    let mut connection = rig.connect(Wire::H1).await;
    let answer = connection.start(get(path, &token.text)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    (connection, body)
}

/// Everything up to the answer's end, and whether that was a proper one.
async fn rest(mut body: Incoming) -> (String, bool) {
    let mut heard = Vec::new();
    loop {
        match within("the end of a stream", body.frame()).await {
            Some(Ok(frame)) => heard.extend_from_slice(frame.data_ref().unwrap()),
            end => return (String::from_utf8_lossy(&heard).into_owned(), end.is_none()),
        }
    }
}

/// A real client that holds something open until it is ended.
async fn holding(script: &str, url: &str, token: &Token) -> Companion {
    let mut command = client(script);
    command.arg(url).args(["--token", &token.text, "--hold"]);
    let held = Companion::start(command).await;
    assert_eq!(held.about, json!({ "open": true }));
    held
}

#[tokio::test]
async fn a_websocket_is_closed_on_both_sides_and_the_next_one_stays() {
    let mut echo = Companion::start(client("ws_echo_server.py")).await;
    let builder = Rig::builder().await.word("echo", echo.text("url"));
    let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{echo}']\nupgrades = ['websocket']").start().await;
    let url = format!("{}/chat", base(&rig, "ws"));
    let mut alice = holding("websocket.py", &url, &user(&rig, "alice")).await;
    let mut bob = holding("websocket.py", &url, &user(&rig, "bob")).await;
    let started = Instant::now();
    let receipt = revoke_user(&rig, "alice").await;
    assert_eq!(receipt["cut"], 1, "{receipt}");
    let closed = alice.says().await;
    assert_eq!(closed["closed"], 1008, "{closed}");
    let closed = echo.says_of("closed").await;
    assert_eq!((&closed["user"], &closed["code"]), (&json!("alice"), &json!(1008)));
    assert!(started.elapsed() < Duration::from_secs(10), "it is not left to a timeout");
    revoke_user(&rig, "bob").await;
    assert_eq!(bob.says().await["closed"], 1008, "the first thing that happened to bob");
    assert_eq!(echo.says_of("closed").await["user"], "bob");
    assert!((rig.admin.metric(CUT).await - 2.0).abs() < 0.5);
}

#[tokio::test]
async fn a_grpc_stream_ends_unauthenticated() {
    let mut server = client("grpc_echo.py");
    server.arg("serve");
    let echo = Companion::start(server).await;
    let builder = Rig::builder().await.word("echo", echo.text("url"));
    let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{echo}']").start().await;
    let mut alice = holding("grpc_echo.py", &base(&rig, "http"), &user(&rig, "alice")).await;
    let mut bob = holding("grpc_echo.py", &base(&rig, "http"), &user(&rig, "bob")).await;
    assert_eq!(revoke_user(&rig, "alice").await["cut"], 1);
    assert_eq!(alice.says().await["closed"], "UNAUTHENTICATED");
    revoke_user(&rig, "bob").await;
    assert_eq!(bob.says().await["closed"], "UNAUTHENTICATED");
}

#[tokio::test]
async fn an_event_stream_ends_properly_and_says_why() {
    let rig = Rig::start().await;
    let (mut connection, alice) = open(&rig, "/events", &user(&rig, "alice")).await;
    let (_connection, bob) = open(&rig, "/events", &user(&rig, "bob")).await;
    revoke_user(&rig, "alice").await;
    assert_eq!(rest(alice).await, (": the token is no longer valid\n".to_owned(), true));
    // The client's connection is none the worse.
    assert_eq!(connection.send(get("/", &user(&rig, "carol").text)).await.unwrap().status, 200);

    let token = user(&rig, "dora");
    let mut command = client("eventsource.py");
    command.arg(format!("{}/events", base(&rig, "http"))).args(["--token", &token.text]);
    let mut dora = Companion::start(command).await;
    assert_eq!(dora.about, json!({ "open": true }));
    assert_eq!(dora.says().await["data"], "one");
    revoke_user(&rig, "dora").await;
    assert_eq!(dora.says().await, json!({ "closed": "end" }), "no event was made of it");
    let open = rig.admin.call("POST", "/v1/revocations?dry_run=true", Some(&about("bob"))).await.json();
    assert_eq!(open["open_connections"], 1, "{open}");
    revoke_user(&rig, "bob").await;
    assert!(rest(bob).await.1);
}

fn about(user: &str) -> Value {
    json!({ "selector": { "issuer": "main", "user": user } })
}

#[tokio::test]
async fn one_http2_stream_is_reset_and_the_other_token_goes_on_beside_it() {
    for tls in [false, true] {
        let builder = Rig::builder().await;
        let rig = if tls { builder.tls().start().await } else { builder.start().await };
        let (alice, bob) = (user(&rig, "alice"), user(&rig, "bob"));
        let mut command = client("two_streams.py");
        command.arg(base(&rig, if tls { "https" } else { "http" })).args(["--path", "/held", "--token", &alice.text]);
        command.args(["--other", &bob.text]).arg("--ca").arg(rig.certs.ca());
        let mut both = Companion::start(command).await;
        assert_eq!(both.about, json!({ "open": true }));
        assert_eq!(revoke_user(&rig, "alice").await["cut"], 1);
        let ended = both.says().await;
        assert_ne!(ended["ended"], "end", "what breaks off must not look whole: {ended}");
        assert_eq!(both.says().await, json!({ "other": "open", "status": 200 }));
    }
}

#[tokio::test]
async fn a_download_breaks_off_visibly() {
    let rig = Rig::start().await;
    let (_connection, held) = open(&rig, "/held", &user(&rig, "alice")).await;
    let curl = find("curl", "apt-get install curl");
    let bob = user(&rig, "bob");
    let mut slow = Command::new(curl);
    slow.args(["-sS", "--noproxy", "*", "--limit-rate", "4M", "-o"]).arg(rig.folder.join("download"));
    slow.args(["-H", &format!("Authorization: Bearer {}", bob.text)]);
    slow.arg(format!("{}/bytes/1000000000", base(&rig, "http")));
    let download = tokio::spawn(run(slow));
    within("the download's beginning", async {
        while rig.upstream.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    revoke_user(&rig, "alice").await;
    assert!(!rest(held).await.1);
    assert_eq!(revoke_user(&rig, "bob").await["cut"], 1);
    let output = within("the download's end", download).await.unwrap();
    assert!(!output.status.success(), "curl noticed nothing");
}

#[tokio::test]
async fn an_upload_is_answered_401_before_it_has_ended() {
    let rig = Rig::start().await;
    for wire in [Wire::H1, Wire::H2c] {
        let alice = user(&rig, &format!("alice-{wire:?}"));
        let piece = futures_util::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"some")))]);
        let endless = futures_util::StreamExt::chain(piece, futures_util::stream::pending());
        let body: Body = StreamBody::new(endless).boxed_unsync();
        let request = Request::post("/sink").header(AUTHORIZATION, format!("Bearer {}", alice.text)).body(body);
        let seen = rig.upstream.seen().len();
        let mut connection = rig.connect(wire).await;
        let asked = tokio::spawn(async move { connection.start(request.unwrap()).await.unwrap().status() });
        within("the upload's beginning", async {
            while rig.upstream.seen().len() == seen {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(revoke_user(&rig, alice.claim("sub")).await["cut"], 1);
        assert_eq!(asked.await.unwrap(), 401, "{wire:?}");
    }
}

#[tokio::test]
async fn whatever_covers_the_token_cuts_it_and_only_that_is_counted() {
    let rig = Rig::start().await;
    let one = rig.issuer.token(json!({ "sub": "alice", "sid": "s-one" }));
    let two = rig.issuer.token(json!({ "sub": "alice", "sid": "s-two" }));
    let (_first, first) = open(&rig, "/held", &one).await;
    let (_second, second) = open(&rig, "/held", &one).await;
    let (_third, third) = open(&rig, "/held", &two).await;
    let receipt = rig.admin.revoke(json!({ "issuer": "main", "session": "s-one" })).await;
    assert_eq!(receipt["cut"], 2, "{receipt}");
    assert!(!rest(first).await.1 && !rest(second).await.1);
    let answer = rig.admin.call("POST", "/v1/invalidate", Some(&json!({ "token": two.text }))).await.json();
    assert_eq!(answer["cut"], 1, "{answer}");
    assert!(!rest(third).await.1);
    let receipt = rig.admin.revoke(json!({ "issuer": "main", "user": "alice" })).await;
    assert_eq!(receipt["cut"], 0, "nothing was left to cut");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_too() {
    let rig = Rig::start().await;
    let alice = user(&rig, "alice");
    let mut connection = rig.connect(Wire::H1).await;
    let answer = connection.start(get("/bytes/1000000000", &alice.text)).await.unwrap();
    assert_eq!(revoke_user(&rig, "alice").await["cut"], 1);
    within("the upstream's side to be let go", async {
        while rig.admin.metric(r#"portcullis_open_connections{listener="proxy"}"#).await > 0.5 {}
    })
    .await;
    assert!(answer.into_body().collect().await.is_err(), "it does not look whole");
}

#[tokio::test]
async fn expiry_cuts_where_the_route_says_so() {
    let issuer = "[[issuers]]\nname = 'main'\nissuer = 'https://id.test/'\njwks_url = '{jwks}'\naudiences = ['api']\n\
        algorithms = ['ES256']\nleeway = '1s'\nmax_token_lifetime = '24h'\n\
        [[routes]]\npath = '/'\nupstreams = ['{upstream}']\n\
        [[routes]]\npath = '/held'\nupstreams = ['{upstream}']\ncut_on_expiry = false";
    let rig = Rig::with(issuer).await;
    let short = rig.issuer.token(json!({ "sub": "alice", "exp": now() + 1 }));
    let (_cut, cut) = open(&rig, "/events", &short).await;
    let (_kept, mut kept) = open(&rig, "/held", &short).await;
    let (_long, long) = open(&rig, "/events", &user(&rig, "bob")).await;
    assert_eq!(rest(cut).await, (": the token is no longer valid\n".to_owned(), true));
    assert!((rig.admin.metric(EXPIRED).await - 1.0).abs() < 0.5, "the others go on");
    rig.upstream.release();
    let piece = within("the rest", kept.frame()).await.unwrap().unwrap();
    assert_eq!(piece.data_ref().unwrap(), "two");
    revoke_user(&rig, "bob").await;
    assert!(rest(long).await.1);
}

/// The stream begins at every moment there is around the revoke: it is refused or ended, never forgotten.
#[tokio::test]
async fn a_stream_opened_in_the_very_moment_of_the_revoke_is_cut() {
    let rig = Rig::start().await;
    let mut connection = rig.connect(Wire::H2c).await;
    let (mut refused, mut ended) = (0, 0);
    for round in 0..300 {
        let alice = user(&rig, &format!("alice-{round}"));
        let selector = json!({ "issuer": "main", "user": alice.claim("sub") });
        let opening = async {
            // Sometimes well ahead, sometimes just so.
            tokio::time::sleep(Duration::from_micros(round % 20 * 500)).await;
            connection.start(get("/events", &alice.text)).await.unwrap()
        };
        let (answer, _) = tokio::join!(opening, rig.admin.revoke(selector));
        match answer.status().as_u16() {
            401 => refused += 1,
            200 => {
                let (heard, properly) = rest(answer.into_body()).await;
                assert!(properly && heard.ends_with(": the token is no longer valid\n"), "round {round}: {heard}");
                ended += 1;
            }
            status => panic!("{status}"),
        }
    }
    println!("{refused} refused, {ended} ended");
}
