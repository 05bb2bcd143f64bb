//! Certificates and configuration change under load without one failed request, a bad file changes nothing, and the end
//! is orderly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http_body_util::BodyExt;
use serde_json::json;

use crate::rig::{Answer, Connection, Rig, Wire, get, within};

/// Requests over new and over old connections until it is told to stop; answers how many there were.
async fn load(rig: Arc<Rig>, wire: Wire, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    let token = rig.issuer.token(json!({})).text;
    while !stop.load(Ordering::SeqCst) {
        let mut connection = rig.connect(wire).await;
        for _ in 0..5 {
            let answer = connection.send(get("/", &token)).await.expect("no request fails while the gateway reloads");
            assert_eq!(answer.status, 200, "{}", answer.text());
            served.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits until so many more requests were served.
async fn until_served(served: &AtomicUsize, more: usize) {
    let goal = served.load(Ordering::SeqCst) + more;
    within("traffic", async {
        while served.load(Ordering::SeqCst) < goal {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The certificate the proxy shows to a new connection, by its fingerprint.
async fn shown(rig: &Rig) -> String {
    let tls = tokio_rustls::TlsConnector::from(rig.certs.trusting(&["http/1.1"], None));
    let stream = tokio::net::TcpStream::connect(rig.gateway.proxy).await.unwrap();
    let stream = tls.connect("gate.test".try_into().unwrap(), stream).await.unwrap();
    crate::rig::sha256_hex(&stream.get_ref().1.peer_certificates().unwrap()[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_configuration_reload_under_load_without_one_failed_request() {
    let rig = Arc::new(Rig::builder().await.tls().start().await);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = [Wire::TlsH1, Wire::TlsH2, Wire::TlsH1, Wire::TlsH2]
        .map(|wire| tokio::spawn(load(rig.clone(), wire, stop.clone(), served.clone())))
        .into();
    let mut certificates = vec![shown(&rig).await];
    for round in 0..8 {
        until_served(&served, 40).await;
        let renewed = rig.certs.server("gateway", &[]);
        let config = std::fs::read_to_string(rig.config_file()).unwrap();
        let limit = format!("body_bytes = \"{}MiB\"", round + 1);
        let config =
            if round == 0 { format!("{config}\n[proxy.limits]\n{limit}\n") } else { replaced(&config, &limit) };
        std::fs::write(rig.config_file(), config).unwrap();
        rig.reload().await;
        let now_shown = shown(&rig).await;
        assert_eq!(now_shown, renewed.fingerprint(), "the new certificate is in force");
        certificates.push(now_shown);
    }
    until_served(&served, 40).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("no client failed");
    }
    certificates.dedup();
    assert_eq!(certificates.len(), 9);
}

fn replaced(config: &str, limit: &str) -> String {
    let line = config.lines().find(|line| line.starts_with("body_bytes")).unwrap();
    config.replace(line, limit)
}

#[tokio::test]
async fn a_reload_brings_new_routes_and_keeps_old_connections() {
    let mut rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    let mut kept = rig.connect(Wire::H1).await;
    assert_eq!(kept.send(get("/open", "x")).await.unwrap().status, 401);
    rig.configure("[[routes]]\npath = '/open'\nupstreams = ['{upstream}']\nauth = 'none'");
    rig.reload().await;
    assert_eq!(kept.send(get("/open", "x")).await.unwrap().status, 200, "the same connection, the new routes");
    assert_eq!(kept.send(get("/", &token)).await.unwrap().status, 404, "what is not named any more is not found");
}

#[tokio::test]
async fn a_reload_keeps_every_revocation() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    rig.admin.revoke(json!({ "token": token.text })).await;
    rig.reload().await;
    assert!(!rig.passes(&token).await);
    assert!(rig.passes(&rig.issuer.token(json!({}))).await);
}

#[tokio::test]
async fn a_bad_file_is_refused_with_every_fault_and_the_old_configuration_stays() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    let good = std::fs::read_to_string(rig.config_file()).unwrap();
    let bad = format!("{good}\n[cache]\nverified_bytes = 'lots'\nnonsense = 1\n[log]\nformat = 'poem'\n");
    std::fs::write(rig.config_file(), bad).unwrap();
    let failed = r#"portcullis_reloads_total{result="failed"}"#;
    rig.gateway.signal("HUP");
    within("the refusal", async {
        while rig.admin.metric(failed).await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for fault in ["cache.verified_bytes", "cache.nonsense", "log.format"] {
        within(fault, rig.gateway.log.line(fault)).await.expect("the log says every fault");
    }
    assert!(rig.passes(&token).await, "the old configuration serves on");
    std::fs::write(rig.config_file(), good).unwrap();
    rig.reload().await;
    assert!(rig.passes(&token).await);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_keeps_the_old_one() {
    let rig = Rig::builder().await.tls().start().await;
    let before = shown(&rig).await;
    rig.folder.write("gateway.pem", "-----BEGIN NONSENSE-----");
    rig.gateway.signal("HUP");
    within("the refusal", async {
        while rig.admin.metric(r#"portcullis_reloads_total{result="failed"}"#).await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(shown(&rig).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_finish_when_the_gateway_is_told_to_end_and_new_ones_are_refused() {
    for wire in [Wire::H1, Wire::H2c] {
        let mut rig = Rig::start().await;
        let token = rig.issuer.token(json!({})).text;
        let mut connection = rig.connect(wire).await;
        let response = connection.start(get("/held", &token)).await.unwrap();
        rig.gateway.signal("TERM");
        within("the listener's end", async {
            while Connection::open(rig.gateway.proxy, Wire::H1, None).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        rig.upstream.release();
        let answer = Answer::read(response).await.expect("the answer in flight is finished");
        assert_eq!(answer.text(), "one two");
        drop(connection);
        let status = rig.gateway.exit().await;
        assert!(status.success(), "{wire:?}: {status}");
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let mut rig = Rig::with("[proxy.timeouts]\ndrain = '1s'").await;
    let token = rig.issuer.token(json!({})).text;
    let mut connection = rig.connect(Wire::H1).await;
    let mut response = connection.start(get("/held", &token)).await.unwrap();
    assert!(response.body_mut().frame().await.is_some());
    rig.gateway.signal("TERM");
    rig.gateway.exit().await;
    assert!(Answer::read(response).await.is_err(), "an answer that was cut looks cut");
}
