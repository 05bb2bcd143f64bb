//! Real clients, each with the library its users have: curl, httpx, websockets, grpcio, and the shape of EventSource.

use std::process::Command;

use serde_json::json;

use crate::rig::program::{Companion, client, find, run, succeed};
use crate::rig::{Rig, id};

fn base(rig: &Rig, scheme: &str) -> String {
    format!("{scheme}://localhost:{}", rig.gateway.proxy.port())
}

#[tokio::test]
async fn curl_speaks_every_version() {
    let rig = Rig::builder().await.tls().start().await;
    let token = rig.issuer.token(json!({})).text;
    let curl = find("curl", "apt-get install curl");
    for version in ["--http1.1", "--http2"] {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--noproxy", "*", version, "--cacert"]).arg(rig.certs.ca());
        command.args(["-H", &format!("Authorization: Bearer {token}"), "-d", "hello", "-w", " %{http_code}"]);
        command.arg(format!("{}/echo", base(&rig, "https")));
        assert_eq!(succeed(command).await, "hello 200", "{version}");
    }
}

#[tokio::test]
async fn httpx_over_http2_with_tls_and_without() {
    for tls in [true, false] {
        let builder = Rig::builder().await;
        let rig = if tls { builder.tls().start().await } else { builder.start().await };
        let token = rig.issuer.token(json!({})).text;
        let mut command = client("http2.py");
        command.arg(base(&rig, if tls { "https" } else { "http" })).args(["--token", &token, "--post-path", "/echo"]);
        command.arg("--ca").arg(rig.certs.ca());
        succeed(command).await;
        rig.admin.revoke(json!({ "token": token })).await;
        let mut command = client("http2.py");
        command.arg(base(&rig, if tls { "https" } else { "http" })).args(["--token", &token, "--expect", "401"]);
        command.arg("--ca").arg(rig.certs.ca());
        succeed(command).await;
    }
}

#[tokio::test]
async fn websockets_by_header_protocol_and_cookie() {
    let echo = Companion::start(client("ws_echo_server.py")).await;
    let builder = Rig::builder().await.tls().word("echo", echo.text("url"));
    let route = "[[routes]]\npath = '/'\nupstreams = ['{echo}']\nupgrades = ['websocket']\n\
        tokens = ['bearer', 'websocket-protocol', 'cookie:session']";
    let rig = builder.config(route).start().await;
    let token = rig.issuer.token(json!({})).text;
    let command = |via: &str| {
        let mut command = client("websocket.py");
        command
            .arg(format!("{}/chat", base(&rig, "wss")))
            .args(["--token", &token, "--via", via])
            .arg("--ca")
            .arg(rig.certs.ca());
        command
    };
    for via in ["header", "protocol", "cookie:session"] {
        succeed(command(via)).await;
    }
    rig.admin.revoke(json!({ "token": token })).await;
    for via in ["header", "protocol", "cookie:session", "none"] {
        let mut refused = command(via);
        refused.args(["--expect", "401"]);
        succeed(refused).await;
    }
}

#[tokio::test]
async fn grpc_with_trailers_streams_and_deadlines() {
    let mut server = client("grpc_echo.py");
    server.arg("serve");
    let echo = Companion::start(server).await;
    for tls in [false, true] {
        let builder = Rig::builder().await.word("echo", echo.text("url"));
        let builder = builder.config("[[routes]]\npath = '/'\nupstreams = ['{echo}']");
        let rig = if tls { builder.tls().start().await } else { builder.start().await };
        let token = rig.issuer.token(json!({})).text;
        let command = || {
            let mut command = client("grpc_echo.py");
            command
                .arg(base(&rig, if tls { "https" } else { "http" }))
                .args(["--token", &token])
                .arg("--ca")
                .arg(rig.certs.ca());
            command
        };
        succeed(command()).await;
        rig.admin.revoke(json!({ "token": token })).await;
        let mut refused = command();
        refused.args(["--expect", "UNAUTHENTICATED"]);
        succeed(refused).await;
    }
}

/// Reads admin events as a browser would and answers the events, each a line of JSON.
async fn events(rig: &Rig, arguments: &[&str]) -> Vec<serde_json::Value> {
    let mut command = client("eventsource.py");
    command.arg(format!("http://{}/v1/events", rig.gateway.admin)).args(["--token", crate::rig::OPS]).args(arguments);
    let output = run(command).await;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{lines}{}", String::from_utf8_lossy(&output.stderr));
    let events = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.filter(|line| line.get("event").is_some()).collect()
}

#[tokio::test]
async fn an_event_stream_is_taken_up_where_it_broke() {
    let rig = Rig::start().await;
    let first = rig.admin.revoke(json!({"issuer": "main", "session": "s1"})).await;
    let second = rig.admin.revoke(json!({"issuer": "main", "session": "s2"})).await;
    rig.admin.lift(&id(&second)).await;
    let after = first["position"].to_string();
    let seen = events(&rig, &["--last-event-id", &after, "--count", "1"]).await;
    // What was lifted since may be told as its end alone: the last event is the lift.
    let rest = if seen[0]["event"] == "revoked" {
        events(&rig, &["--last-event-id", seen[0]["id"].as_str().unwrap(), "--count", "1"]).await
    } else {
        seen
    };
    assert_eq!(rest[0]["event"], "lifted", "{rest:?}");
    let data: serde_json::Value = serde_json::from_str(rest[0]["data"].as_str().unwrap()).unwrap();
    assert_eq!(data["selector"]["session"], "s2");
    let live = tokio::spawn({
        let admin = rig.admin.clone();
        let mut command = client("eventsource.py");
        command.arg(format!("http://{}/v1/events", admin.address)).args(["--token", crate::rig::OPS]);
        command.args(["--last-event-id", rest[0]["id"].as_str().unwrap(), "--count", "1"]);
        succeed(command)
    });
    rig.admin.revoke(json!({"issuer": "main", "session": "s3"})).await;
    let live = live.await.unwrap();
    assert!(live.contains("revoked") && live.contains("s3"), "{live}");
}
