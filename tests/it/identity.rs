//! What the upstream learns of the caller comes from the token and from nowhere else.

use hyper::Request;
use serde_json::json;

use crate::rig::raw::{exchange, statuses};
use crate::rig::serve::full;
use crate::rig::{Rig, Token, Wire};

const NAMES: [&str; 6] =
    ["x-auth-user", "x-auth-username", "x-auth-session", "x-auth-issuer", "x-auth-client", "x-auth-scopes"];

/// Sends a raw `GET` with these header lines beside a good token, and answers what the upstream saw.
async fn seen(rig: &Rig, token: &str, lines: &str) -> crate::rig::upstream::Seen {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {token}\r\n{lines}Connection: close\r\n\r\n"
    );
    let answer = exchange(rig.gateway.proxy, request.as_bytes()).await;
    assert_eq!(statuses(&answer), [200], "{}", String::from_utf8_lossy(&answer));
    rig.upstream.last()
}

fn alice(rig: &Rig) -> Token {
    rig.issuer.token(json!({"sub": "alice", "sid": "s1", "azp": "web", "scope": "read write"}))
}

#[tokio::test]
async fn the_upstream_learns_who_calls() {
    let rig = Rig::start().await;
    let seen = seen(&rig, &alice(&rig).text, "").await;
    let found = NAMES.map(|name| seen.header(name).unwrap_or("-").to_owned());
    assert_eq!(found, ["alice", "alice@example.com", "s1", "https://id.test/", "web", "read write"]);
}

#[tokio::test]
async fn identity_cannot_be_spoofed_in_any_spelling() {
    let rig = Rig::start().await;
    let token = alice(&rig).text;
    let spellings = "X-Auth-User: root\r\nx-auth-user: root\r\nX-AUTH-USER: root\r\nX_Auth_User: root\r\nX-Auth_User: root\r\n\
        X_AUTH-Session: root\r\nX-Auth-Anything: root\r\nx_auth_anything: root\r\nX-Auth-Scopes: admin\r\n";
    let seen = seen(&rig, &token, spellings).await;
    for (name, value) in &seen.headers {
        let folded = name.as_str().replace('_', "-");
        let ours = NAMES.contains(&name.as_str());
        assert!(ours || !folded.starts_with("x-auth"), "{name} reached the upstream");
        assert_ne!(value.as_bytes(), b"root", "{name}");
    }
    assert_eq!(seen.all("x-auth-user"), ["alice"]);
    assert_eq!(seen.all("x-auth-scopes"), ["read write"]);
}

#[tokio::test]
async fn identity_cannot_be_spoofed_over_http2_or_in_trailers() {
    let rig = Rig::start().await;
    let token = alice(&rig).text;
    let mut connection = rig.connect(Wire::H2c).await;
    let request =
        Request::builder().uri("/").header("authorization", format!("Bearer {token}")).header("x-auth-user", "root");
    let answer = connection.send(request.header("x_auth_user", "root").body(full("")).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(rig.upstream.last().all("x-auth-user"), ["alice"]);
    assert!(rig.upstream.last().headers.get("x_auth_user").is_none());
    let trailers = format!(
        "POST /echo HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {token}\r\nTE: trailers\r\nTrailer: X-Auth-User\r\n\
         Transfer-Encoding: chunked\r\nConnection: close, TE\r\n\r\n2\r\nhi\r\n0\r\nX-Auth-User: root\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(&exchange(rig.gateway.proxy, trailers.as_bytes()).await).to_lowercase();
    assert!(!answer.contains("root"), "{answer}");
}

#[tokio::test]
async fn connection_cannot_remove_what_the_gateway_adds() {
    let rig = Rig::start().await;
    let token = alice(&rig).text;
    let lines = "Connection: X-Auth-User, X-Auth-Session, X-Forwarded-For, Authorization, Host\r\n";
    let seen = seen(&rig, &token, lines).await;
    assert_eq!(seen.header("x-auth-user"), Some("alice"));
    assert_eq!(seen.header("x-auth-session"), Some("s1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let rig = Rig::start().await;
    let lines = "Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\n\
        Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let seen = seen(&rig, &alice(&rig).text, lines).await;
    for name in ["x-secret", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade", "http2-settings"] {
        assert_eq!(seen.header(name), None, "{name} reached the upstream");
    }
    assert!(seen.header("te").is_none_or(|te| te == "trailers"));
}

#[tokio::test]
async fn nobody_is_named_where_nobody_was_verified() {
    let rig = Rig::with("[[routes]]\npath = '/'\nupstreams = ['{upstream}']\nauth = 'optional'").await;
    let lines =
        "GET / HTTP/1.1\r\nHost: gate.test\r\nX-Auth-User: root\r\nX_Auth_User: root\r\nConnection: close\r\n\r\n";
    assert_eq!(statuses(&exchange(rig.gateway.proxy, lines.as_bytes()).await), [200]);
    assert!(rig.upstream.last().headers.keys().all(|name| !name.as_str().replace('_', "-").starts_with("x-auth")));
    assert_eq!(rig.get("/", "garbage").await.status, 401, "a bad token is not as good as none");
}

#[tokio::test]
async fn claims_of_an_unchecked_issuer_refuse_but_never_name() {
    let rig = Rig::with(
        "[[issuers]]\nname = 'main'\nissuer = 'https://id.test/'\nverification = 'none'\nmax_token_lifetime = '24h'\n\
         [[routes]]\npath = '/'\nupstreams = ['{upstream}']",
    )
    .await;
    let token = alice(&rig);
    let unsigned = format!("{}.{}", token.text.rsplit_once('.').unwrap().0, crate::rig::keys::b64([1; 64]));
    assert_eq!(rig.get("/", &unsigned).await.status, 200, "the upstream verifies");
    assert!(NAMES.iter().all(|name| rig.upstream.last().header(name).is_none()));
    rig.admin.revoke(json!({"issuer": "main", "session": "s1"})).await;
    assert_eq!(rig.get("/", &unsigned).await.status, 401);
}

#[tokio::test]
async fn names_of_the_identity_headers_are_the_operators_choice() {
    let rig = Rig::with(
        "[[routes]]\npath = '/'\nupstreams = ['{upstream}']\nidentity_headers = { user = 'Remote-User' }\n\
         [[routes]]\npath = '/quiet'\nupstreams = ['{upstream}']\nidentity_headers = false",
    )
    .await;
    let token = alice(&rig).text;
    let seen = seen(&rig, &token, "Remote-User: root\r\nRemote_User: root\r\nX-Auth-User: root\r\n").await;
    assert_eq!(seen.all("remote-user"), ["alice"]);
    assert!(seen.headers.get("remote_user").is_none());
    assert!(seen.header("x-auth-user").is_none_or(|user| user != "root"));
    rig.get("/quiet", &token).await;
    assert!(rig.upstream.last().headers.keys().all(|name| !name.as_str().starts_with("x-auth")));
}

/// Claims that are no plain header text must not become header lines, nor failures.
#[tokio::test]
async fn a_claim_that_is_no_header_text_breaks_nothing() {
    let rig = Rig::start().await;
    for user in ["a\r\nX-Auth-Scopes: admin", "a\0b", "Łukasz", "\u{1f600}", " padded "] {
        let token = rig.issuer.token(json!({"sub": user, "scope": "read"}));
        let answer = rig.get("/", &token.text).await;
        assert!(matches!(answer.status, 200 | 401), "{user:?}: {}", answer.status);
        if answer.status == 200 {
            assert_eq!(rig.upstream.last().all("x-auth-scopes"), ["read"]);
        }
    }
}

const FORWARDED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
    Forwarded: for=6.6.6.6;host=evil.test\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
    X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n";

#[tokio::test]
async fn forwarding_headers_of_strangers_are_dropped() {
    let rig = Rig::start().await;
    let seen = seen(&rig, &alice(&rig).text, FORWARDED).await;
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert!(seen.headers.values().all(|value| !String::from_utf8_lossy(value.as_bytes()).contains("6.6.6.6")));
    assert!(seen.headers.values().all(|value| !String::from_utf8_lossy(value.as_bytes()).contains("evil")));
    assert!(seen.header("x-original-url").is_none() && seen.header("x-rewrite-url").is_none());
}

#[tokio::test]
async fn forwarding_headers_of_trusted_proxies_are_carried_on() {
    let rig = Rig::with("[proxy]\ntrusted_proxies = ['127.0.0.0/8']").await;
    let seen = seen(&rig, &alice(&rig).text, "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n").await;
    let chain = seen.all("x-forwarded-for").join(", ");
    assert_eq!(chain, "6.6.6.6, 127.0.0.1");
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn the_path_that_was_judged_is_the_path_that_is_forwarded() {
    let rig = Rig::with(
        "[[routes]]\npath = '/'\nupstreams = ['{upstream}']\nauth = 'none'\n\
         [[routes]]\npath = '/admin'\nupstreams = ['{upstream}']",
    )
    .await;
    // Each of these is `/admin` to some server: it needs a token, or it is refused.
    for path in [
        "/admin",
        "/admin/",
        "/%61dmin",
        "/admin%20",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/ADMIN",
        "/admin;x=1",
        "/admin/x",
        "/%2561dmin",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n");
        let before = rig.upstream.seen().len();
        let status = statuses(&exchange(rig.gateway.proxy, request.as_bytes()).await)[0];
        let forwarded = rig.upstream.seen().get(before).map(|seen| seen.target.clone());
        match forwarded {
            None => assert!((400..500).contains(&status), "{path}: {status}"),
            Some(target) => {
                let harmless = ["/ADMIN", "/admin%20", "/admin;x=1"].contains(&target.as_str());
                assert!(harmless && target == path, "{path} was forwarded as {target} without a token");
            }
        }
    }
}

#[tokio::test]
async fn a_header_cannot_change_the_route() {
    let rig = Rig::with("[[routes]]\npath = '/'\nmethods = ['GET']\nupstreams = ['{upstream}']\nauth = 'none'").await;
    let request = "POST / HTTP/1.1\r\nHost: gate.test\r\nX-HTTP-Method-Override: GET\r\nX-HTTP-Method: GET\r\nContent-Length: 0\r\n\
        Connection: close\r\n\r\n";
    let status = statuses(&exchange(rig.gateway.proxy, request.as_bytes()).await)[0];
    assert!(matches!(status, 404 | 405), "{status}");
    assert!(rig.upstream.seen().is_empty());
}
