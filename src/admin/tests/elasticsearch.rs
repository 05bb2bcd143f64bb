//! Elasticsearch's dialect, call by call: what its clients send, and what they read out of an answer.

use axum::http::header::{ACCEPT, ALLOW, CONTENT_ENCODING, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::admin::{Mount, elasticsearch};
use crate::domain::{SeenToken, Session, SessionKey, TokenKind};
use crate::store::{AuditQuery, Lesson};

const TOKEN: &str = "/_security/oauth2/token";
const LEGACY: &str = "/_xpack/security/oauth2/token";

async fn speaking() -> Rig {
    let rig = Rig::new(settings()).await;
    let mount = Mount { admin: true, proxy: true, prefix: "".into(), issuer: ISS.into(), issuer_name: "main".into() };
    let spoken = elasticsearch::router(&rig.admin, &Arc::new(elasticsearch::Settings { mount }));
    Rig { router: answer::around(spoken, &rig.admin), ..rig }
}

fn invalidate(secret: &str, body: &Value) -> Request<Body> {
    request(Method::DELETE, TOKEN, secret, body.to_string())
}

impl Rig {
    async fn invalidate(&self, body: Value) -> Answer {
        self.send(invalidate("revoker", &body)).await
    }

    async fn learn(&self, username: &str, pair: [&str; 2]) {
        let key = SessionKey { issuer: ISS.into(), id: pair[0].into() };
        let now = Timestamp::from_secs(START);
        let session =
            Session { username: Some(username.into()), domain: Some("native".into()), ..Session::new(key, now) };
        let seen = |text: &str, kind| SeenToken {
            digest: digest_of(text),
            token_id: None,
            kind,
            issued_at: Some(now),
            expires_at: None,
            generation: None,
        };
        let tokens = vec![seen(pair[0], TokenKind::Access), seen(pair[1], TokenKind::Refresh)];
        self.store.sessions.learn(Lesson { session, family: "f".into(), tokens, redeemed: None }).await.unwrap();
    }

    async fn refusals(&self) -> Vec<(String, String)> {
        let trail = self.store.audit.trail(&AuditQuery { limit: 100, ..Default::default() }).await.unwrap().items;
        let refused = trail.into_iter().filter(|record| record.result == "refused");
        refused.map(|record| (record.action, record.subject)).collect()
    }
}

impl Answer {
    fn told(&self) -> (u16, Value) {
        assert_eq!(self.headers["x-elastic-product"], "Elasticsearch", "{}", self.text);
        (self.status.as_u16(), serde_json::from_str(&self.text).unwrap())
    }

    /// The kind and the reason of an error, which is one to every one of its clients.
    #[track_caller]
    fn error(&self) -> (u16, String, String) {
        let (status, body) = self.told();
        assert_eq!(body["status"], status, "{}", self.text);
        let cause = &body["error"]["root_cause"][0];
        assert_eq!((&cause["type"], &cause["reason"]), (&body["error"]["type"], &body["error"]["reason"]));
        (status, cause["type"].as_str().unwrap().into(), cause["reason"].as_str().unwrap().into())
    }
}

fn counts(invalidated: u64, previously: u64) -> Value {
    json!({"invalidated_tokens": invalidated, "previously_invalidated_tokens": previously, "error_count": 0})
}

#[tokio::test]
async fn tokens_are_counted_as_its_clients_expect() {
    let rig = speaking().await;
    rig.learn("ann", ["a1", "r1"]).await;
    rig.learn("ann", ["a2", "r2"]).await;
    assert_eq!(rig.invalidate(json!({"token": "a1"})).await.told(), (200, counts(1, 0)));
    assert_eq!(rig.invalidate(json!({"token": "a1"})).await.told(), (200, counts(0, 1)));
    assert_eq!(rig.invalidate(json!({"refresh_token": "r1"})).await.told(), (200, counts(1, 0)));
    for unknown in [json!({"token": "x"}), json!({"refresh_token": "a2"}), json!({"token": "ü \n"})] {
        assert_eq!(rig.invalidate(unknown).await.told(), (404, counts(0, 0)));
    }
    assert_eq!(rig.invalidate(json!({"username": "nobody"})).await.told(), (200, counts(0, 0)));
    assert_eq!(rig.invalidate(json!({"username": "ann", "realm_name": "x"})).await.told(), (200, counts(0, 0)));
    assert_eq!(rig.invalidate(json!({"realm_name": "native"})).await.told(), (200, counts(2, 0)));
    assert_eq!(rig.invalidate(json!({"username": "ann"})).await.told(), (200, counts(0, 0)));
}

#[tokio::test]
async fn an_answer_is_in_the_media_type_asked_for() {
    let rig = speaking().await;
    for (accept, content_type, echoed) in [
        (
            Some("application/vnd.elasticsearch+json; compatible-with=9"),
            "application/vnd.elasticsearch+json; compatible-with=9",
            "application/vnd.elasticsearch+json;compatible-with=9",
        ),
        (Some("application/json"), "application/vnd.elasticsearch+json; compatible-with=8", "application/json"),
        (None, "application/json", "application/json"),
        (Some("*/*"), "application/json;charset=utf-8", "application/json"),
    ] {
        for body in [json!({"token": "x"}), json!({})] {
            let mut request = invalidate("revoker", &body);
            request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
            if let Some(accept) = accept {
                request.headers_mut().insert(ACCEPT, accept.parse().unwrap());
            }
            let answer = rig.send(request).await;
            assert_eq!(answer.headers[CONTENT_TYPE], echoed);
            assert!(answer.headers.get(WARNING).is_none());
        }
    }
    let pretty =
        rig.send(request(Method::DELETE, &format!("{TOKEN}?pretty&human"), "revoker", r#"{"token":"x"}"#)).await;
    assert!(pretty.text.starts_with("{\n"), "{}", pretty.text);
}

#[tokio::test]
async fn the_legacy_path_does_the_same_and_warns() {
    let rig = speaking().await;
    rig.learn("ann", ["a1", "r1"]).await;
    let answer = rig.send(request(Method::DELETE, LEGACY, "revoker", r#"{"token":"a1"}"#)).await;
    assert_eq!(answer.told(), (200, counts(1, 0)));
    let warning = answer.headers[WARNING].to_str().unwrap();
    assert!(warning.starts_with("299 Elasticsearch-") && warning.contains("is deprecated! Use [DELETE /_security"));
}

#[tokio::test]
async fn who_calls_is_known_by_bearer_basic_and_api_key() {
    let rig = speaking().await;
    let named = |name: &str, secret: &str| STANDARD.encode(format!("{name}:{secret}"));
    let basic = |scheme: &str, name: &str, secret: &str| format!("{scheme} {}", named(name, secret));
    for (credentials, status) in [
        ("Bearer revoker".to_owned(), 404),
        (basic("Basic", "revoker-caller", "revoker"), 404),
        (basic("ApiKey", "revoker-caller", "revoker"), 404),
        (basic("basic", "admin-caller", "admin"), 404),
        (basic("Basic", "admin-caller", "revoker"), 401),
        (basic("Basic", "ann", "secret"), 401),
        (basic("ApiKey", "reader-caller", "reader"), 403),
        ("Negotiate abc".to_owned(), 401),
        ("Basic ???".to_owned(), 401),
        ("Bearer revoker, Basic abc".to_owned(), 400),
    ] {
        let mut request = invalidate("", &json!({"token": "x"}));
        request.headers_mut().insert(AUTHORIZATION, credentials.parse().unwrap());
        let answer = rig.send(request).await;
        assert_eq!(answer.status, status, "{credentials}: {}", answer.text);
        if status == 401 {
            assert_eq!(answer.error().1, "security_exception");
            let offers: Vec<_> = answer.headers.get_all(WWW_AUTHENTICATE).iter().collect();
            assert_eq!(offers.len(), 3, "Basic, Bearer and ApiKey");
        }
    }
}

#[tokio::test]
async fn without_the_privilege_nothing_is_even_read_and_it_is_written_down() {
    let rig = speaking().await;
    let refused = rig.send(request(Method::DELETE, TOKEN, "reader", "no JSON at all")).await;
    let (status, kind, reason) = refused.error();
    assert_eq!((status, &*kind), (403, "security_exception"));
    let wanted = "action [cluster:admin/xpack/security/token/invalidate] is unauthorized for user [reader-caller]";
    assert!(reason.starts_with(wanted), "{reason}");
    let nobody = rig.send(request(Method::DELETE, LEGACY, "", "")).await;
    assert_eq!((nobody.error().0, nobody.error().1.as_str()), (401, "security_exception"));
    let call = |path: &str| format!("DELETE {path}");
    let noted = [("authenticate".to_owned(), call(LEGACY)), ("authorize".to_owned(), call(TOKEN))];
    assert_eq!(rig.refusals().await, noted);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_its_shape() {
    let rig = speaking().await;
    let sent = |path: &str, body: &str| request(Method::DELETE, path, "revoker", body.to_owned());
    let typed = |name, value: &'static str| {
        let mut request = sent(TOKEN, r#"{"token":"x"}"#);
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    };
    for (request, status, kind) in [
        (sent(TOKEN, ""), 400, "parse_exception"),
        (sent(TOKEN, "{}"), 400, "action_request_validation_exception"),
        (sent(TOKEN, "{"), 400, "x_content_parse_exception"),
        (sent(TOKEN, r#"{"token":"a","refresh_token":"b"}"#), 400, "x_content_parse_exception"),
        (sent(&format!("{TOKEN}?refresh=true"), r#"{"token":"x"}"#), 400, "illegal_argument_exception"),
        (sent(TOKEN, &format!(r#"{{"token":"{}"}}"#, "x".repeat(70_000))), 413, "content_too_long_exception"),
        (sent(TOKEN, &json!({"username": "x".repeat(2_000)}).to_string()), 400, "illegal_argument_exception"),
        (typed(CONTENT_TYPE, "text/plain"), 415, "media_type_header_exception"),
        (typed(CONTENT_ENCODING, "gzip"), 415, "media_type_header_exception"),
        (request(Method::POST, TOKEN, "revoker", "{}"), 405, "illegal_argument_exception"),
        (request(Method::POST, TOKEN, "", "{}"), 401, "security_exception"),
    ] {
        let said = format!("{request:?}");
        let answer = rig.send(request).await;
        let (told, as_what, _) = answer.error();
        assert_eq!((told, &*as_what), (status, kind), "{said}");
        assert!(status != 405 || answer.headers.contains_key(ALLOW), "{said}");
    }
}

#[tokio::test]
async fn an_older_client_learns_whom_it_talks_to() {
    let rig = speaking().await;
    let (status, body) = rig.get("reader", "/").await.told();
    assert_eq!((status, &body["tagline"]), (200, &json!("You Know, for Search")));
    assert_eq!(body["version"]["build_flavor"], "default");
    assert!(body["version"]["number"].as_str().unwrap().starts_with("8."));
    assert_eq!((rig.get("nobody", "/").await.error().0, rig.get("", "/").await.error().0), (403, 401));
    assert_eq!(rig.send(request(Method::HEAD, "/", "reader", "")).await.text, "");
}

#[tokio::test]
async fn a_store_that_cannot_write_is_503_and_worth_a_retry() {
    let rig = speaking().await;
    rig.store.close().await;
    for body in [json!({"token": "x"}), json!({"username": "ann"}), json!({"realm_name": "native"})] {
        let answer = rig.invalidate(body).await;
        assert_eq!((answer.error().0, answer.headers[RETRY_AFTER].to_str().unwrap()), (503, "1"));
    }
}

#[tokio::test]
async fn its_calls_are_described() {
    let rig = Rig::new(settings()).await;
    let document = rig.json("reader", "/v1/openapi/elasticsearch.json").await;
    for (method, path) in [("delete", TOKEN), ("delete", LEGACY), ("get", "/")] {
        assert!(document["paths"][path][method]["responses"]["200"].is_object(), "{method} {path}");
    }
}
