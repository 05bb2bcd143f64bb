//! Requests that are not what a call asks for.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};

use super::{Rig, request, settings};

#[tokio::test]
async fn what_is_no_id_is_not_found_whatever_it_holds() {
    let rig = Rig::new(settings()).await;
    let long = "a".repeat(60_000);
    for id in
        ["%2f", "..", "%2e%2e%2f", "%00", "%ff", "x", "0", &long, &"A".repeat(32), &format!("{}%20", "0".repeat(32))]
    {
        let answer = rig.get("admin", &format!("/v1/revocations/{id}")).await;
        assert_eq!(answer.status, 404, "{id:.20}");
        assert!(answer.problem().to_string().len() < 1000);
    }
    assert_eq!(rig.get("admin", "/v1/revocations/a/b").await.status, 404);
    assert_eq!(rig.get("admin", "/v1/revocations/../status").await.status, 404);
}

#[tokio::test]
async fn an_unknown_parameter_is_named_not_ignored() {
    let rig = Rig::new(settings()).await;
    for (path, name) in [
        ("/v1/revocations?usr=alice", "usr"),
        ("/v1/revocations?claim:=x", "claim:"),
        ("/v1/revocations?limit=0", "limit"),
        ("/v1/revocations?limit=1001", "limit"),
        ("/v1/revocations?limit=many", "limit"),
        ("/v1/revocations?limit=1&limit=2", "limit"),
        ("/v1/revocations?cursor=abc", "cursor"),
        ("/v1/revocations?standing=perhaps", "standing"),
        ("/v1/audit?who=me", "who"),
        ("/v1/audit?revocation=7", "revocation"),
        ("/v1/events?since=7", "since"),
        ("/v1/status?verbose=true", "verbose"),
    ] {
        let answer = rig.get("admin", path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.detail().contains(name), "{path}: {}", answer.detail());
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_is_asked_for_is_refused_and_says_why() {
    let rig = Rig::new(settings()).await;
    for (body, said) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected struct RevokeBody"),
        ("{}", "selector"),
        (r#"{"selector":{"user":"a","user":"b"}}"#, "duplicate field `user`"),
        (r#"{"selector":{"user":7}}"#, "selector"),
        (r#"{"selector":{"issuer":"main"},"selektor":1}"#, "unknown field `selektor`"),
        (r#"{"selector":{"issuer":"main"},"kinds":["acess"]}"#, "unknown variant `acess`"),
        (r#"{"selector":{"issuer":"main"},"cutoff":-1}"#, "cutoff"),
        (r#"{"selector":{"issuer":"main"},"cutoff":1e300}"#, "cutoff"),
        (r#"{"selector":{"token":"abc","issuer":"main"}}"#, "stands alone"),
        (r#"{"selector":{"token":"a b"}}"#, "visible ASCII"),
        (r#"{"selector":{"issuer":"main"}} {}"#, "trailing"),
    ] {
        let answer = rig.post("revoker", "/v1/revocations", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.detail().contains(said), "{body}: {}", answer.detail());
    }
    let deep = format!(r#"{{"selector":{}"#, "[".repeat(10_000));
    assert_eq!(rig.post("revoker", "/v1/revocations", deep).await.status, 400);
}

#[tokio::test]
async fn only_json_of_bounded_size_is_read() {
    let rig = Rig::new(settings()).await;
    let huge = format!(r#"{{"reason":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(rig.post("revoker", "/v1/revocations", huge).await.status, 413);
    for path in ["/v1/revocations", "/v1/invalidate"] {
        let mut form = request(Method::POST, path, "revoker", "token=abc");
        form.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let answer = rig.send(form).await;
        assert_eq!(answer.status, 415);
        answer.problem();
    }
    let bulk = rig.post("admin", "/v1/revocations/bulk", "{}").await;
    assert_eq!(bulk.status, 415, "a stream of lines says that it is one");
}

#[tokio::test]
async fn a_token_is_not_repeated_by_any_error() {
    let rig = Rig::new(settings()).await;
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln";
    for body in [
        format!(r#"{{"token":7,"refresh_token":"{token}"}}"#),
        format!(r#"{{"tokens":"{token}"}}"#),
        format!(r#""{token}""#),
        format!(r#"{{"{token}":1}}"#),
        format!(r#"{{"tokens":["{token} "]}}"#),
    ] {
        let answer = rig.post("revoker", "/v1/invalidate", body).await;
        assert_eq!(answer.status, 400);
        assert!(!answer.text.contains(token), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_wait_is_bounded() {
    let rig = Rig::new(settings()).await;
    for query in ["wait=forever", "timeout=61s", "timeout=soon", "wait=all&timeout=1h", "dry_run=maybe"] {
        let path = format!("/v1/revocations?{query}");
        let answer = rig.post("revoker", &path, r#"{"selector":{"issuer":"main","user":"alice"}}"#).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
    }
}
