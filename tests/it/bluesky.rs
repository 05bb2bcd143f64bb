//! The real bluesky-httpserver behind the gate, and its real client in front of it. Its access tokens name no session: what
//! ends with one is known from what the server handed out.

use hyper::Request;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::rig::bluesky::{Bluesky, LOGIN, REFRESH, Tokens, check, contract, login, refresh, whoami};
use crate::rig::http::{Answer, ask, form, posted};
use crate::rig::program::succeed;
use crate::rig::serve::full;
use crate::rig::{OPS, Rig, now, until, within};

/// What its client takes for the end of a login.
const DEAD: &str = "Session has expired. Please re-authenticate.";

/// As an operator sets it up.
const GUARDED: &str = "[[issuers]]\nname = 'bluesky'\nissuer = 'bluesky'\nverification = 'none'\nmissing_iss = true\n\
    opaque_tokens = true\nleeway = '5s'\nmax_token_lifetime = '24h'\nmax_refresh_token_lifetime = '30d'\n\
    [[issuers.token_endpoints]]\npreset = 'bluesky'\n\
    [[routes]]\npath = '/'\nupstreams = ['{bluesky}']\nauth = 'optional'\napi_keys = ['scheme:ApiKey']\n\
    [[routes]]\npath = '/api/auth/provider'\nupstreams = ['{bluesky}']\nauth = 'none'\n\
    [[routes]]\npath = '/api/auth/session/refresh'\nupstreams = ['{bluesky}']\nauth = 'none'\n";

async fn guarded() -> (Rig, Bluesky) {
    let bluesky = Bluesky::start().await;
    let rig = Rig::builder().await.word("bluesky", bluesky.url()).config(GUARDED).start().await;
    (rig, bluesky)
}

async fn status(rig: &Rig, tokens: &Tokens) -> u16 {
    whoami(rig.gateway.proxy, &format!("Bearer {}", tokens.access)).await.status
}

/// Ends a session at the gate.
async fn end(rig: &Rig, session: &str) {
    let answer = rig.admin.call("DELETE", &format!("/v1/sessions/{session}"), None).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn assert_dead(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["detail"]), (401, &json!(DEAD)), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
}

/// Waits for the next second: tokens of one second are one token.
async fn next_second() {
    until(now() + 1).await;
}

/// Makes an API key, which answers for its user from then on.
async fn api_key(rig: &Rig, tokens: &Tokens) -> String {
    let request = Request::post("/api/auth/apikey").header(AUTHORIZATION, format!("Bearer {}", tokens.access));
    let request = request.header("content-type", "application/json").body(full(json!({"expires_in": 300}).to_string()));
    let answer = ask(rig.gateway.proxy, request.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["secret"].as_str().unwrap().to_owned()
}

/// A gateway that only passes on, and the server on its own: the client cannot tell one from the other.
#[tokio::test]
async fn the_real_client_is_served_as_by_the_server_itself() {
    let bluesky = Bluesky::start().await;
    let route = "[[routes]]\npath = '/'\nupstreams = ['{bluesky}']\nauth = 'none'";
    let rig = Rig::builder().await.word("bluesky", bluesky.url()).config(route).start().await;
    succeed(contract(bluesky.url(), None)).await;
    succeed(contract(&format!("http://{}", rig.gateway.proxy), None)).await;
    let tom = login(rig.gateway.proxy, "tom").await;
    assert_eq!(refresh(bluesky.address(), &tom.refresh).await.status, 200);
    let said = whoami(rig.gateway.proxy, &format!("Bearer {}", tom.access)).await.json();
    assert_eq!(said["uuid"].as_str().unwrap().replace('-', ""), tom.user);
    assert_eq!(said["sessions"][0]["uuid"].as_str().unwrap().replace('-', ""), tom.session);
}

/// The same client at a gateway that guards: nothing changes for it but what it gains.
#[tokio::test]
async fn the_real_client_understands_what_the_gate_says() {
    let (rig, _bluesky) = guarded().await;
    let [proxy, admin] = [rig.gateway.proxy, rig.gateway.admin].map(|address| format!("http://{address}"));
    succeed(check(&proxy, &admin, OPS)).await;
}

#[tokio::test]
async fn an_access_token_that_names_no_session_dies_with_it() {
    let (mut rig, _bluesky) = guarded().await;
    let first = login(rig.gateway.proxy, "alice").await;
    next_second().await;
    let elsewhere = login(rig.gateway.proxy, "alice").await;
    let bob = login(rig.gateway.proxy, "bob").await;
    next_second().await;
    let renewed = Tokens::of(&refresh(rig.gateway.proxy, &first.refresh).await);
    assert_eq!(renewed.session, first.session);
    for tokens in [&first, &renewed, &elsewhere, &bob] {
        assert_eq!(status(&rig, tokens).await, 200);
    }
    let shown = rig.admin.get(&format!("/v1/sessions/{}", first.session)).await;
    assert_eq!((&shown["user"], &shown["username"]), (&json!(first.user), &json!("alice")), "{shown}");
    end(&rig, &first.session).await;
    for tokens in [&first, &renewed] {
        assert_eq!(status(&rig, tokens).await, 401);
        assert_dead(&refresh(rig.gateway.proxy, &tokens.refresh).await);
    }
    for tokens in [&elsewhere, &bob] {
        assert_eq!(status(&rig, tokens).await, 200);
        assert_eq!(refresh(rig.gateway.proxy, &tokens.refresh).await.status, 200);
    }
    rig.restart().await;
    assert_eq!((status(&rig, &first).await, status(&rig, &elsewhere).await), (401, 200));
    rig.admin.revoke(json!({"issuer": "bluesky", "user": elsewhere.user})).await;
    assert_eq!((status(&rig, &elsewhere).await, status(&rig, &bob).await), (401, 200));
    assert_dead(&refresh(rig.gateway.proxy, &elsewhere.refresh).await);
}

/// Two logins of one second are handed the very same access token. It is good as long as one of them is.
#[tokio::test]
async fn a_token_of_two_logins_dies_with_the_last_of_them() {
    let (mut rig, _bluesky) = guarded().await;
    let proxy = rig.gateway.proxy;
    // The server cannot take two first logins of one user at once.
    login(proxy, "tom").await;
    let (first, second) = within("two logins in one second", async {
        loop {
            next_second().await;
            let both = tokio::join!(login(proxy, "tom"), login(proxy, "tom"));
            if both.0.access == both.1.access {
                return both;
            }
        }
    })
    .await;
    assert_ne!(first.session, second.session);
    assert_eq!(status(&rig, &first).await, 200);
    end(&rig, &first.session).await;
    assert_dead(&refresh(rig.gateway.proxy, &first.refresh).await);
    assert_eq!(status(&rig, &first).await, 200, "the other login has it too");
    rig.restart().await;
    assert_eq!(status(&rig, &first).await, 200, "and has it still");
    end(&rig, &second.session).await;
    assert_eq!(status(&rig, &second).await, 401);
    assert_dead(&refresh(rig.gateway.proxy, &second.refresh).await);
}

#[tokio::test]
async fn an_api_key_outlives_its_sessions_and_is_revoked_by_itself() {
    let (rig, _bluesky) = guarded().await;
    let bob = login(rig.gateway.proxy, "bob").await;
    let (key, other) = (api_key(&rig, &bob).await, api_key(&rig, &bob).await);
    let opens = async |key: &str| whoami(rig.gateway.proxy, &format!("ApiKey {key}")).await.status;
    assert_eq!(opens(&key).await, 200);
    end(&rig, &bob.session).await;
    assert_eq!((status(&rig, &bob).await, opens(&key).await), (401, 200), "a session's end");
    rig.admin.revoke(json!({"issuer": "bluesky", "user": bob.user})).await;
    assert_eq!(opens(&key).await, 200, "a user's logins are gone, the user's keys stay");
    rig.admin.revoke(json!({ "token": key })).await;
    assert_eq!((opens(&key).await, opens(&other).await), (401, 200));
    let reach = json!({"selector": {"issuer": "bluesky"}, "kinds": ["api_key"]});
    rig.admin.revoke_as(reach).await;
    assert_eq!(opens(&other).await, 401, "every key, by its kind");
    next_second().await;
    let again = login(rig.gateway.proxy, "alice").await;
    assert_eq!(status(&rig, &again).await, 200, "nothing but keys");
}

/// The server reads the refresh token from JSON alone and its path in one spelling; a dead one is dead in all of them.
#[tokio::test]
async fn a_dead_refresh_token_is_dead_in_every_spelling() {
    let (rig, bluesky) = guarded().await;
    let tom = login(rig.gateway.proxy, "tom").await;
    end(&rig, &tom.session).await;
    assert_eq!(refresh(bluesky.address(), &tom.refresh).await.status, 200, "the server knows of no end");
    let body = json!({ "refresh_token": tom.refresh }).to_string();
    let (signed, signature) = tom.refresh.rsplit_once('.').unwrap();
    let lenient = json!({ "refresh_token": format!("{signed}.{signature}=") }).to_string();
    let junk = json!({ "refresh_token": format!("{signed}.{}!!!!{}", &signature[..4], &signature[4..]) }).to_string();
    for body in [&lenient, &junk] {
        let answer = ask(bluesky.address(), posted(REFRESH, "application/json", body.clone())).await;
        assert_eq!(answer.status, 200, "the server takes it: {}", answer.text());
    }
    for (path, media, body) in [
        (REFRESH, "application/json", &body),
        ("/api/auth/session/%72efresh", "application/json", &body),
        ("/api/auth/session/refresh/", "application/json", &body),
        ("//api/auth/session/refresh", "application/json", &body),
        (REFRESH, "application/json; charset=utf-8", &body),
        (REFRESH, "application/problem+json", &body),
        (REFRESH, "text/plain", &body),
        (REFRESH, "application/json", &lenient),
        (REFRESH, "application/json", &junk),
    ] {
        let answer = ask(rig.gateway.proxy, posted(path, media, body.clone())).await;
        assert!((400..500).contains(&answer.status), "{path} {media}: {}", answer.text());
    }
}

/// What the server itself refuses is refused in its words, and teaches nothing.
#[tokio::test]
async fn refusals_of_the_server_pass_as_they_are() {
    let (rig, bluesky) = guarded().await;
    let wrong = || form(LOGIN, &[("username", "bob"), ("password", "wrong")]);
    for (ours, theirs) in [
        (ask(rig.gateway.proxy, wrong()).await, ask(bluesky.address(), wrong()).await),
        (refresh(rig.gateway.proxy, "a.b").await, refresh(bluesky.address(), "a.b").await),
    ] {
        assert_eq!((ours.status, ours.text()), (theirs.status, theirs.text()));
    }
    assert_eq!(rig.admin.get("/v1/sessions").await["items"], Value::Array(Vec::new()));
}
