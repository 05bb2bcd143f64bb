//! Elasticsearch's real clients, of seven majors, at a gate that invalidates tokens in front of their server. What is not
//! the gate's, logging in, renewing, saying who somebody is, is done by a small server of the project's own
//! (`rig::elasticsearch`): no real one can be installed with the tests.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::rig::elasticsearch::{
    AUTHENTICATE, Elasticsearch, LEGACY_TOKEN, Pair, TOKEN, login, named, password, refresh, send, whoami,
};
use crate::rig::http::{Answer, ask};
use crate::rig::program::{project, succeed};
use crate::rig::serve::full;
use crate::rig::{OPS, READER, REVOKER, Rig};

/// As an operator sets it up: the clients have one base URL, so the dialect is on the proxy's listener as well.
const GUARDED: &str = "[[issuers]]\nname = 'elastic'\nissuer = 'elastic'\npreset = 'elasticsearch'\nleeway = '5s'\n\
    max_token_lifetime = '1h'\nmax_refresh_token_lifetime = '24h'\n\
    [[issuers.token_endpoints]]\npreset = 'elasticsearch'\n\
    [dialects.elasticsearch]\non = ['admin', 'proxy']\n\
    [[routes]]\npath = '/'\nupstreams = ['{elastic}']\nauth = 'optional'\ndialect = 'elasticsearch'\n\
    [[routes]]\npath = '/strict'\nupstreams = ['{elastic}']\ndialect = 'elasticsearch'\n\
    [[routes]]\npath = '/_security/oauth2/token'\nupstreams = ['{elastic}']\nauth = 'none'\n\
    [[routes]]\npath = '/_xpack/security/oauth2/token'\nupstreams = ['{elastic}']\nauth = 'none'\n";

async fn guarded() -> (Rig, Elasticsearch) {
    let elastic = Elasticsearch::start().await;
    let rig = Rig::builder().await.word("elastic", elastic.url()).config(GUARDED).start().await;
    (rig, elastic)
}

/// What an answer counts: invalidated, previously invalidated, failed.
fn counts(answer: &Answer) -> (u16, [u64; 3]) {
    assert_eq!(answer.header("x-elastic-product"), "Elasticsearch", "{}", answer.text());
    let body = answer.json();
    let count = |name: &str| body[name].as_u64().unwrap_or_else(|| panic!("no {name} in {body}"));
    let all = [count("invalidated_tokens"), count("previously_invalidated_tokens"), count("error_count")];
    assert!(body.get("error_details").is_none());
    (answer.status, all)
}

/// Invalidates at the proxy, as the clients do.
async fn invalidate(rig: &Rig, body: Value) -> (u16, [u64; 3]) {
    counts(&send(rig.gateway.proxy, "DELETE", TOKEN, &named("Basic", "revoker", REVOKER), &body).await)
}

async fn passes(rig: &Rig, token: &str) -> bool {
    let answer = whoami(rig.gateway.proxy, token).await;
    assert!(matches!(answer.status, 200 | 401), "{} {}", answer.status, answer.text());
    answer.status == 200
}

/// Runs the contract's checks with one client, as a user of its own.
async fn check(rig: &Rig, mut command: Command, user: &str) {
    command.env("ES_URL", format!("http://{}", rig.gateway.proxy)).env("NO_PROXY", "*");
    command.env("ES_ADMIN", format!("ops:{OPS}")).env("ES_USER", format!("{user}:{}", password(user)));
    let said = succeed(command).await;
    assert!(said.contains("PASS:"), "{said}");
}

fn environment(name: &str, file: &str) -> PathBuf {
    let path = project("tests/env").join(name).join(file);
    assert!(path.exists(), "{name} is missing: run `tests/run --setup`");
    path
}

fn python(major: u8) -> Command {
    let mut command = Command::new(environment(&format!("elasticsearch-{major}"), "bin/python"));
    command.arg(project("tests/clients/elasticsearch/check_elasticsearch.py"));
    command
}

fn javascript(major: u8) -> Command {
    let modules = environment(&format!("elasticsearch-js-{major}"), "node_modules/@elastic/elasticsearch");
    let mut command = Command::new("node");
    command.arg(project("tests/clients/elasticsearch/check_elasticsearch.js"));
    command.env("NODE_PATH", modules.ancestors().nth(2).unwrap());
    command
}

#[tokio::test]
async fn the_python_clients_of_four_majors_find_what_they_expect() {
    let (rig, _elastic) = guarded().await;
    for major in [9, 8, 7, 6] {
        check(&rig, python(major), &format!("python-{major}")).await;
    }
}

#[tokio::test]
async fn the_javascript_clients_of_three_majors_find_what_they_expect() {
    let (rig, _elastic) = guarded().await;
    for major in [9, 8, 7] {
        check(&rig, javascript(major), &format!("javascript-{major}")).await;
    }
}

/// The server reads a token as far as its form goes, so what is appended, or another version in front, is the same token.
#[tokio::test]
async fn a_dead_token_is_dead_in_every_spelling() {
    let (rig, elastic) = guarded().await;
    let pair = login(rig.gateway.proxy, "ann").await;
    let bytes = STANDARD.decode(&pair.access).unwrap();
    let with_junk = STANDARD.encode([&bytes[..], b"junk"].concat());
    let other_version = STANDARD.encode([&[0x03], &bytes[4..]].concat());
    for spelling in [&with_junk, &other_version] {
        assert_eq!(whoami(elastic.address(), spelling).await.status, 200, "the server takes it");
        assert!(passes(&rig, spelling).await);
    }
    assert_eq!(invalidate(&rig, json!({ "token": with_junk })).await, (200, [1, 0, 0]));
    for spelling in [&pair.access, &with_junk, &other_version] {
        assert!(!passes(&rig, spelling).await, "{spelling}");
        assert_eq!(invalidate(&rig, json!({ "token": spelling })).await, (200, [0, 1, 0]));
    }
    let bytes = STANDARD.decode(&pair.refresh).unwrap();
    let renewing = STANDARD.encode([&bytes[..], b"junk"].concat());
    assert_eq!(invalidate(&rig, json!({ "refresh_token": pair.refresh })).await, (200, [1, 0, 0]));
    let refused = refresh(rig.gateway.proxy, "ann", &renewing).await;
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn what_our_own_api_revoked_was_dead_before() {
    let (rig, _elastic) = guarded().await;
    let (first, second) = (login(rig.gateway.proxy, "ann").await, login(rig.gateway.proxy, "ann").await);
    let renewed = Pair::of(&refresh(rig.gateway.proxy, "ann", &second.refresh).await);
    rig.admin.revoke(json!({ "token": first.access })).await;
    assert_eq!(invalidate(&rig, json!({ "token": first.access })).await, (200, [0, 1, 0]));
    assert_eq!(invalidate(&rig, json!({ "realm_name": "native" })).await, (200, [5, 1, 0]));
    for token in [&first.access, &second.access, &renewed.access] {
        assert!(!passes(&rig, token).await);
    }
    let sessions = rig.admin.get("/v1/sessions?user=ann&state=revoked").await;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 2, "{sessions}");
}

#[tokio::test]
async fn what_it_invalidated_stays_dead_after_a_crash_and_is_known_to_our_own_api() {
    let (mut rig, _elastic) = guarded().await;
    let (ann, bob) = (login(rig.gateway.proxy, "ann").await, login(rig.gateway.proxy, "bob").await);
    assert_eq!(invalidate(&rig, json!({ "token": ann.access })).await, (200, [1, 0, 0]));
    assert_eq!(invalidate(&rig, json!({ "username": "bob" })).await, (200, [2, 0, 0]));
    rig.restart().await;
    assert!(!passes(&rig, &ann.access).await && !passes(&rig, &bob.access).await);
    let renewed = Pair::of(&refresh(rig.gateway.proxy, "ann", &ann.refresh).await);
    assert!(passes(&rig, &renewed.access).await, "the refresh token was another token");
    assert_eq!(refresh(rig.gateway.proxy, "bob", &bob.refresh).await.status, 400);
    let found = rig.admin.check(&ann.access).await;
    assert_eq!(found["revocations"][0]["actor"], "revoker", "{found}");
}

/// A token from before the gate stood there is one that nobody knows; it dies all the same.
#[tokio::test]
async fn a_token_that_was_never_seen_is_unknown_and_dead() {
    let (rig, elastic) = guarded().await;
    let older = login(elastic.address(), "ann").await;
    assert!(passes(&rig, &older.access).await);
    for _ in 0..2 {
        assert_eq!(invalidate(&rig, json!({ "token": older.access })).await, (404, [0, 0, 0]));
    }
    assert!(!passes(&rig, &older.access).await);
    assert_eq!(invalidate(&rig, json!({ "token": older.refresh })).await, (404, [0, 0, 0]));
    assert_eq!(refresh(rig.gateway.proxy, "ann", &older.refresh).await.status, 200, "it was called an access token");
}

/// Byte for byte what Kibana looks for before it refreshes.
#[tokio::test]
async fn kibana_refreshes_at_the_answer_to_a_dead_token() {
    const CHALLENGE: &str =
        r#"Bearer realm="security", error="invalid_token", error_description="The access token expired""#;
    let (rig, _elastic) = guarded().await;
    let pair = login(rig.gateway.proxy, "ann").await;
    assert_eq!(invalidate(&rig, json!({ "token": pair.access })).await, (200, [1, 0, 0]));
    let answer = whoami(rig.gateway.proxy, &pair.access).await;
    let cause =
        json!({"type": "security_exception", "reason": "token expired", "header": {"WWW-Authenticate": CHALLENGE}});
    let mut error = cause.clone();
    error["root_cause"] = json!([cause]);
    assert_eq!((answer.status, answer.json()), (401, json!({"error": error, "status": 401})));
    assert_eq!(answer.header("www-authenticate"), CHALLENGE);
    assert_eq!(answer.header("x-elastic-product"), "Elasticsearch");
    assert_eq!(refresh(rig.gateway.proxy, "ann", &pair.refresh).await.status, 200);
    let nobody = ask(rig.gateway.proxy, Request::get("/strict").body(full("")).unwrap()).await;
    let offers = nobody.headers.get_all("www-authenticate").iter().count();
    assert_eq!((nobody.status, offers), (401, 3), "{}", nobody.text());
    assert_eq!(nobody.json()["error"]["type"], "security_exception");
}

#[tokio::test]
async fn a_caller_without_the_privilege_is_refused_in_its_words_and_written_down() {
    let (rig, _elastic) = guarded().await;
    let pair = login(rig.gateway.proxy, "ann").await;
    let body = json!({ "token": pair.access });
    for at in [rig.gateway.proxy, rig.gateway.admin] {
        for credentials in
            [named("Basic", "reader", READER), named("ApiKey", "reader", READER), format!("Bearer {READER}")]
        {
            let refused = send(at, "DELETE", TOKEN, &credentials, &body).await;
            assert_eq!((refused.status, &refused.json()["status"]), (403, &json!(403)));
            let reason = refused.json()["error"]["root_cause"][0]["reason"].as_str().unwrap().to_owned();
            assert!(reason.contains("token/invalidate] is unauthorized for user [reader]"), "{reason}");
        }
        let own = send(at, "DELETE", TOKEN, &format!("Bearer {}", pair.access), &body).await;
        assert_eq!(own.status, 401, "there is no exception for one's own tokens");
    }
    assert!(passes(&rig, &pair.access).await);
    let trail = rig.admin.get("/v1/audit?action=authorize").await;
    let items = trail["items"].as_array().unwrap();
    assert_eq!(items.len(), 6, "{trail}");
    let noted = |item: &Value| item["actor"] == "reader" && item["subject"] == format!("DELETE {TOKEN}");
    assert!(items.iter().all(noted), "{trail}");
}

/// What a client sends may come with any media type it knows; what it gets is in the same, errors too.
#[tokio::test]
async fn an_answer_speaks_the_version_it_was_asked_in() {
    let (rig, _elastic) = guarded().await;
    let media = "application/vnd.elasticsearch+json; compatible-with=9";
    for (path, body, status) in [(TOKEN, "{}", 400), (LEGACY_TOKEN, r#"{"token":"x"}"#, 404)] {
        let request = Request::delete(path).header(CONTENT_TYPE, media).header(ACCEPT, media);
        let request = request.header(AUTHORIZATION, named("ApiKey", "revoker", REVOKER)).body(full(body)).unwrap();
        let answer = ask(rig.gateway.proxy, request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/vnd.elasticsearch+json;compatible-with=9");
        assert_eq!(answer.header("warning").contains("deprecated"), path == LEGACY_TOKEN);
    }
    let (revoker, ann) = (named("Basic", "revoker", REVOKER), named("Basic", "ann", &password("ann")));
    let escaped = send(rig.gateway.proxy, "DELETE", "/_%73ecurity/oauth2/token", &revoker, &json!({})).await;
    assert_eq!((escaped.status, escaped.header("x-elastic-product")), (400, "Elasticsearch"), "{}", escaped.text());
    let who = send(rig.gateway.admin, "GET", "/", &named("Basic", "reader", READER), &Value::Null).await;
    assert_eq!(who.json()["tagline"], "You Know, for Search");
    let authenticated = send(rig.gateway.proxy, "GET", AUTHENTICATE, &ann, &Value::Null).await;
    assert_eq!(authenticated.json()["username"], "ann", "other credentials are the server's affair");
}

/// Requests that nobody would write by hand, made from the dialect's own description.
#[tokio::test]
async fn no_request_that_fits_or_breaks_its_description_breaks_the_gate() {
    let (rig, _elastic) = guarded().await;
    let document = rig.admin.get("/v1/openapi/elasticsearch.json").await;
    let file = rig.folder.write("elasticsearch.json", document.to_string());
    let mut command = Command::new(environment("schemathesis", "bin/schemathesis"));
    command.args(["run", "--url", &format!("http://{}", rig.gateway.admin), "--max-examples", "60"]);
    command.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    command.args(["--header", &format!("Authorization: Bearer {OPS}"), "--no-color", "--seed", "1"]);
    command.args(["--suppress-health-check", "all", "--generation-database", "none"]).arg(&file);
    command.env("NO_PROXY", "*").current_dir(rig.folder.path());
    succeed(command).await;
}
