//! Who gets in, and what is told to those who do not.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::{HOME, Rig, START, credential, peer, request, settings};
use crate::admin::{Certificate, Fingerprint, Settings};
use crate::domain::Right;

/// All calls of the document: method, path with an id in place of its parameter, whether it needs a credential.
fn documented(document: &Value) -> Vec<(Method, String, bool)> {
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| {
            let open = operation["security"] == json!([{}]);
            (
                method.to_uppercase().parse().unwrap(),
                path.replace("{id}", &"0".repeat(32)).replace("{user}", "alice"),
                !open,
            )
        })
    });
    calls.collect()
}

#[tokio::test]
async fn the_document_and_the_router_know_the_same_calls() {
    let rig = Rig::new(settings()).await;
    let document: Value = serde_json::from_str(&rig.get("auditor", "/v1/openapi.json").await.text).unwrap();
    let calls = documented(&document);
    assert_eq!(
        calls.iter().filter(|(_, _, closed)| *closed).count(),
        crate::admin::native::registered(&rig.admin).len() + 1
    );
    for (method, path, closed) in calls {
        if closed {
            // Who has no right is turned away by every call there is, and only by those.
            let answer = rig.send(request(method.clone(), &path, "nobody", "")).await;
            assert_eq!(answer.status, 403, "{method} {path}");
            assert_eq!(rig.send(request(Method::PATCH, &path, "nobody", "")).await.status, 405, "{path}");
        } else {
            assert!(["/healthz", "/readyz"].contains(&path.as_str()), "{path} is open");
        }
    }
    for (method, path) in crate::admin::native::registered(&rig.admin) {
        let described = &document["paths"][&path][method.to_lowercase()];
        assert!(described["description"].as_str().unwrap().contains("Needs "), "{method} {path}: {described}");
        assert!(described["responses"]["401"].is_object(), "{method} {path}");
    }
}

#[tokio::test]
async fn every_schema_the_document_refers_to_is_in_it() {
    let rig = Rig::new(settings()).await;
    let answer = rig.get("auditor", "/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&answer.text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for scheme in ["credential", "certificate"] {
        assert!(document["components"]["securitySchemes"][scheme].is_object());
    }
    let references = answer.text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut count = 0;
    for name in references {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
        count += 1;
    }
    assert!(count > 20);
}

#[tokio::test]
async fn nothing_but_health_is_served_without_a_credential() {
    let rig = Rig::new(settings()).await;
    assert_eq!(rig.get("", "/healthz").await.status, 200);
    for path in ["/metrics", "/v1/status", "/v1/openapi.json", "/v1/nothing", "/", "/v1/revocations", "//healthz"] {
        let answer = rig.get("", path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.headers.get(WWW_AUTHENTICATE).unwrap(), r#"Bearer realm="portcullis admin""#);
        answer.problem();
    }
    let answer = rig.send(request(Method::OPTIONS, "/v1/revocations", "", "")).await;
    assert_eq!(answer.status, 401, "no preflight is answered");
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn every_answer_is_kept_out_of_caches_and_counted_by_its_route() {
    let rig = Rig::new(settings()).await;
    for (secret, path) in
        [("", "/healthz"), ("", "/v1/status"), ("nobody", "/v1/secret-in-a-path"), ("admin", "/metrics")]
    {
        let answer = rig.get(secret, path).await;
        assert_eq!(answer.headers.get(CACHE_CONTROL).unwrap(), "no-store", "{path}");
        assert_eq!(answer.headers.get("x-content-type-options").unwrap(), "nosniff");
    }
    let text = rig.metrics.text();
    assert!(text.contains(r#"portcullis_admin_requests_total{call="GET /healthz",status="200"} 1"#), "{text}");
    assert!(text.contains(r#"call="GET unmatched",status="404""#));
    assert!(!text.contains("secret-in-a-path"));
}

#[tokio::test]
async fn wrong_credentials_are_answered_alike_and_then_not_at_all_for_a_while() {
    let rig = Rig::new(settings()).await;
    let mut first = None;
    for secret in ["wrong", "admi", "adminn", "eyJhbGciOiJub25lIn0.e30.x", "a", "b", "c", "d", "e", "f"] {
        let answer = rig.get(secret, "/v1/openapi.json").await;
        assert_eq!(answer.status, 401);
        let seen = (answer.text.clone(), answer.headers.get(WWW_AUTHENTICATE).cloned());
        assert_eq!(*first.get_or_insert(seen.clone()), seen);
    }
    let blocked = rig.get("still wrong", "/v1/openapi.json").await;
    assert_eq!(blocked.status, 429);
    assert_eq!(rig.get("admin", "/v1/openapi.json").await.status, 200, "nobody can keep the right one from revoking");
    assert_eq!(blocked.headers.get(RETRY_AFTER).unwrap(), "6");
    blocked.problem();
    assert_eq!(rig.get("", "/healthz").await.status, 200, "health is for everyone");

    let mut elsewhere = request(Method::GET, "/v1/openapi.json", "admin", "");
    elsewhere.extensions_mut().insert(peer("192.0.2.2:1", None));
    assert_eq!(rig.send(elsewhere).await.status, 200, "another address is not blamed");

    rig.clock.advance(Duration::from_secs(6));
    assert_eq!(rig.get("admin", "/v1/openapi.json").await.status, 200);
}

#[tokio::test]
async fn two_credentials_are_refused_even_when_both_are_right() {
    let rig = Rig::new(settings()).await;
    let mut twice = request(Method::GET, "/v1/openapi.json", "admin", "");
    twice.headers_mut().append(AUTHORIZATION, HeaderValue::from_static("Bearer admin"));
    assert_eq!(rig.send(twice).await.status, 400);
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let rig = Rig::new(settings()).await;
    let answer = rig.post("reader", "/v1/revocations", r#"{"selector":{"issuer":"main"}}"#).await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (403, "this needs the right sessions:revoke".to_owned()));
    let answer = rig.get("revoker", "/v1/audit").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (403, "this needs the right audit:read".to_owned()));
    let answer = rig.post("revoker", "/v1/revocations/bulk", "").await;
    assert_eq!(answer.detail(), "this needs the right admin");
    assert_eq!(rig.get("nobody", "/metrics").await.status, 403);
}

#[tokio::test]
async fn a_client_certificate_is_a_credential() {
    let known = Fingerprint::of(b"a certificate");
    let certificates =
        vec![Certificate { name: "ci".into(), sha256: known, rights: [Right::AuditRead].into_iter().collect() }];
    let rig = Rig::new(Settings { certificates, ..settings() }).await;
    for (certificate, secret, status) in
        [(known, "", 200), (Fingerprint::of(b"another"), "", 401), (known, "wrong", 401)]
    {
        let mut request = request(Method::GET, "/v1/openapi.json", secret, "");
        request.extensions_mut().insert(peer(HOME, Some(certificate)));
        assert_eq!(rig.send(request).await.status, status);
    }
}

#[tokio::test]
async fn new_settings_count_from_the_next_call_on() {
    let rig = Rig::new(settings()).await;
    rig.admin.replace(
        Settings { credentials: vec![credential("fresh", &[Right::AuditRead])], ..Settings::default() },
        rig.admin.verifier.load_full(),
    );
    assert_eq!(rig.get("admin", "/v1/openapi.json").await.status, 401);
    assert_eq!(rig.get("fresh", "/v1/openapi.json").await.status, 200);
}

#[tokio::test]
async fn every_refusal_is_in_the_audit_trail_but_a_flood_is_not() {
    let rig = Rig::new(Settings { failures_per_minute: 3, ..settings() }).await;
    rig.post("reader", "/v1/revocations", "{}").await;
    for _ in 0..20 {
        rig.get("", "/v1/status").await;
        rig.get("wrong-secret", "/v1/status").await;
    }
    rig.clock.advance(Duration::from_secs(60));
    let trail = rig.json("auditor", "/v1/audit?limit=1000").await;
    let items = trail["items"].as_array().unwrap();
    let count = |action: &str| items.iter().filter(|item| item["action"] == action).count();
    assert_eq!((count("authorize"), count("authenticate")), (1, 6), "{trail}");
    let refused = items.iter().find(|item| item["action"] == "authorize").unwrap();
    assert_eq!(refused["subject"], "POST /v1/revocations");
    assert_eq!((&refused["actor"], &refused["address"]), (&json!("reader-caller"), &json!("192.0.2.1")));
    assert_eq!(
        (&refused["result"], &refused["reason"]),
        (&json!("refused"), &json!("this needs the right sessions:revoke"))
    );
    assert!(!trail.to_string().contains("wrong-secret"));
    let filtered = rig.json("auditor", &format!("/v1/audit?action=authorize&until={START}")).await;
    assert_eq!(filtered["items"], json!([]));
}
