//! Onezone's real client at a gate before a service that plays Onezone, and what the client does not look at: one token has
//! endlessly many texts, and whoever holds one may write more.

use std::process::Command;

use base64::Engine;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use serde_json::{Value, json};

use crate::rig::http::Answer;
use crate::rig::onezone::{BASE, DOMAIN, Onezone, SECRET, confined, in_its_letters, mint, moved};
use crate::rig::program::{project, run, succeed};
use crate::rig::serve::full;
use crate::rig::{AUDITOR, OPS, REVOKER, Rig, now, within};

/// As an operator sets it up; the secret and whom to tell come on top.
const GUARDED: &str = "[[issuers]]\nname = 'onezone'\nissuer = 'onezone.test'\npreset = 'onezone'\nleeway = '1s'\n{secret}\n\
    [[issuers.token_endpoints]]\npreset = 'onezone'\n\
    [dialects.onezone]\non = ['admin', 'proxy']\n{upstream}\n\
    [[routes]]\npath = '/'\nupstreams = ['{onezone}']\ndialect = 'onezone'\nauth = 'optional'\n";

/// By what a caller's macaroon is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Believed {
    BySecret,
    /// By the secret, and there is no Onezone to tell.
    BySecretAlone,
    ByOnezone,
    NotAtAll,
}

struct Story {
    rig: Rig,
    onezone: Onezone,
}

impl Story {
    async fn of(believed: Believed) -> Self {
        let onezone = Onezone::start().await;
        let builder = Rig::builder().await;
        let secret = builder.folder().write("secret", SECRET);
        let secret = match believed {
            Believed::BySecret | Believed::BySecretAlone => format!("secret_file = '{}'", secret.display()),
            Believed::ByOnezone | Believed::NotAtAll => String::new(),
        };
        let upstream = match believed {
            Believed::BySecretAlone | Believed::NotAtAll => String::new(),
            Believed::BySecret | Believed::ByOnezone => format!("upstream = '{}'", onezone.url()),
        };
        let text = GUARDED.replace("{secret}", &secret).replace("{upstream}", &upstream);
        let rig = builder.word("onezone", onezone.url()).config(&text).start().await;
        Self { rig, onezone }
    }

    async fn call(&self, method: &str, path: &str, header: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{BASE}{path}"));
        if !token.is_empty() {
            request = request.header(header, token);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(String::new, |body| body.to_string());
        self.rig.send(request.body(full(body)).unwrap()).await
    }

    async fn with(&self, method: &str, path: &str, token: &str) -> Answer {
        self.call(method, path, "x-auth-token", token, None).await
    }

    /// Why a token does not open the user's own page; nothing when it does.
    async fn refusal(&self, token: &str) -> String {
        let answer = self.with("GET", "/user", token).await;
        if answer.status == 200 { String::new() } else { nested(&answer) }
    }

    async fn revoke(&self, user: &str, token: &str) -> Answer {
        self.with("DELETE", &format!("/users/{user}/tokens/temporary"), token).await
    }

    async fn patch(&self, id: &str, revoked: bool, token: &str) -> u16 {
        let body = json!({ "revoked": revoked });
        self.call("PATCH", &format!("/tokens/named/{id}"), "x-auth-token", token, Some(body)).await.status
    }

    /// With an operator's name and secret.
    async fn by(&self, method: &str, path: &str, (name, secret): (&str, &str), body: Option<Value>) -> Answer {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
        self.call(method, path, AUTHORIZATION.as_str(), &format!("Basic {pair}"), body).await
    }

    async fn refused(&self) -> Vec<Value> {
        let trail = self.rig.admin.by(AUDITOR).get("/v1/audit?limit=50").await;
        let items = trail["items"].as_array().unwrap().clone();
        items.into_iter().filter(|item| item["result"] == "refused").collect()
    }
}

/// The id of what is wrong with the credentials.
fn nested(answer: &Answer) -> String {
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["id"]), (401, &json!("unauthorized")), "{error}");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    error["details"]["authError"]["id"].as_str().unwrap_or_default().to_owned()
}

fn id(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"]["id"].as_str().unwrap_or_default().to_owned())
}

fn python() -> Command {
    let python = project("tests/env/onezone/bin/python");
    assert!(python.is_file(), "Onedata's client is missing: run `tests/run --setup`");
    Command::new(python)
}

/// The client speaks TLS only, and asks no environment whom to trust.
#[tokio::test]
async fn the_real_client_finds_all_it_looks_for() {
    for believed in [Believed::BySecret, Believed::ByOnezone] {
        for by_administrator in [false, true] {
            let mut story = Story::of(believed).await;
            story.rig.configure("[proxy.tls]\ncert = '{cert}'\nkey = '{key}'");
            story.rig.restart().await;
            let (alice, _) = story.onezone.named("alice");
            let (bob, _) = story.onezone.named("bob");
            let (root, _) = story.onezone.named("root");
            story.onezone.promote("root");
            let mut command = python();
            command.arg(project("tests/clients/onezone/check_onezone.py"));
            command.args(["--url", &format!("https://127.0.0.1:{}", story.rig.gateway.proxy.port())]);
            command.args(["--user-id", "alice", "--token", &alice, "--other-token", &bob]);
            // Where the secret alone says who asks, only Onezone knows whose privileges those are.
            if by_administrator {
                command.args(["--admin-token", &root]);
            }
            command.arg("--insecure");
            let said = succeed(command).await;
            assert!(said.contains("PASS"), "{believed:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_token_minted_by_another_library_is_the_token_it_says_it_is() {
    let story = Story::of(Believed::BySecret).await;
    let (_, id) = story.onezone.named("alice");
    let mint = "import sys; from pymacaroons import Macaroon, MACAROON_V1 as V1\n\
        m = Macaroon(location=sys.argv[1], identifier=sys.argv[2], key=sys.argv[3], version=V1)\n\
        m.add_first_party_caveat('time < ' + sys.argv[4]); print(m.serialize(), end='')";
    let mut command = python();
    let until = (now() + 600).to_string();
    command.args(["-c", mint, DOMAIN, &format!("2/nmd/usr-alice/act/{id}"), SECRET, &until]);
    let token = in_its_letters(&succeed(command).await);
    assert_eq!(story.refusal(&token).await, "");
    let check = story.rig.admin.check(&token).await;
    assert_eq!((&check["claims"]["user"], &check["claims"]["token_id"]), (&json!("alice"), &json!(id)), "{check}");
    assert_eq!(story.revoke("alice", &token).await.status, 204, "the secret vouches for it");
}

#[tokio::test]
async fn what_was_derived_from_a_revoked_token_is_dead_and_named_ones_live() {
    for believed in [Believed::BySecret, Believed::ByOnezone] {
        let story = Story::of(believed).await;
        let (named, named_id) = story.onezone.named("alice");
        let (temporary, other) = (story.onezone.temporary("alice"), story.onezone.temporary("bob"));
        let copies = [
            confined(&temporary, &["data.readonly"]),
            confined(&temporary, &["ip = 127.0.0.1/32"]),
            format!("opw-{temporary}"),
        ];
        assert_eq!(story.refusal(&copies[0]).await, "");
        let answer = story.revoke("alice", &temporary).await;
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        for dead in copies.iter().chain([&temporary]) {
            assert_eq!(story.refusal(dead).await, "tokenRevoked");
        }
        assert_eq!((story.refusal(&named).await, story.refusal(&other).await), (String::new(), String::new()));
        assert_eq!(story.refusal(&story.onezone.temporary("alice")).await, "", "a new one passes at once");
        // One named token alone, which may come back.
        let copy = confined(&named, &["data.readonly"]);
        assert_eq!(story.patch(&named_id, true, &named).await, 204);
        assert_eq!(
            (story.refusal(&named).await, story.refusal(&copy).await),
            ("tokenRevoked".into(), "tokenRevoked".into())
        );
        let (second, _) = story.onezone.named("alice");
        assert_eq!(story.patch(&named_id, false, &second).await, 204);
        assert_eq!((story.refusal(&named).await, story.refusal(&copy).await), (String::new(), String::new()));
        let (bobs, _) = story.onezone.named("bob");
        assert_eq!(story.patch(&named_id, true, &bobs).await, 403);
        assert_eq!(story.refusal(&named).await, "");
    }
}

#[tokio::test]
async fn what_an_operator_revoked_is_not_the_owners_to_lift() {
    let story = Story::of(Believed::BySecret).await;
    let ((named, id), (second, _)) = (story.onezone.named("alice"), story.onezone.named("alice"));
    story.rig.admin.revoke(json!({ "issuer": "onezone", "token_id": id })).await;
    assert_eq!(story.patch(&id, false, &second).await, 403);
    assert_eq!(story.refusal(&named).await, "tokenRevoked");
    assert_eq!(story.refused().await.len(), 1, "written down");
}

#[tokio::test]
async fn a_macaroon_that_nobody_vouches_for_opens_nothing() {
    let story = Story::of(Believed::NotAtAll).await;
    let (named, _) = story.onezone.named("alice");
    for path in ["/users/alice/tokens/temporary", "/user/tokens/temporary", "/user/tokens/temporary/"] {
        assert_eq!(nested(&story.with("DELETE", path, &named).await), "tokenInvalid");
        assert_eq!(nested(&story.with("GET", path, &named).await), "tokenInvalid");
    }
    assert_eq!(story.refusal(&named).await, "", "but it goes on to whoever can tell");
    let story = Story::of(Believed::BySecret).await;
    let forged = mint("guessed", "2/nmd/usr-alice/act/1", &[]);
    assert_eq!(nested(&story.revoke("alice", &forged).await), "tokenInvalid");
    let stripped = mint("guessed", "2/tmp-9/usr-alice/act/1", &["time < 4102444800"]);
    assert_eq!(
        (story.refusal(&forged).await, story.refusal(&stripped).await),
        ("tokenInvalid".into(), "tokenInvalid".into())
    );
    assert_eq!(story.onezone.generation("alice"), 1);
}

#[tokio::test]
async fn another_users_tokens_are_not_ones_own_and_that_is_written_down() {
    for believed in [Believed::BySecret, Believed::ByOnezone] {
        let story = Story::of(believed).await;
        let (temporary, (bob, _)) = (story.onezone.temporary("alice"), story.onezone.named("bob"));
        assert_eq!(id(&story.revoke("alice", &bob).await), (403, "forbidden".to_owned()));
        assert_eq!(id(&story.revoke("nobody", &bob).await), (403, "forbidden".to_owned()));
        let refused = story.refused().await;
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(refused[0]["actor"], "bob@onezone");
        assert_eq!(story.refusal(&temporary).await, "");
        let (root, _) = story.onezone.named("root");
        story.onezone.promote("root");
        assert_eq!(story.revoke("alice", &root).await.status, 204);
        assert_eq!(story.revoke("nobody", &root).await.status, 204);
        assert_eq!(story.refusal(&temporary).await, "tokenRevoked");
    }
}

#[tokio::test]
async fn without_onezone_the_generations_are_counted_here_and_survive_a_crash() {
    let mut story = Story::of(Believed::NotAtAll).await;
    let temporary = story.onezone.temporary("alice");
    let path = "/users/alice/tokens/temporary";
    let basic = async |story: &Story, method: &str, name: &str, secret: &str| {
        story.by(method, path, (name, secret), None).await
    };
    assert_eq!(basic(&story, "GET", "ops", OPS).await.json(), json!({ "generation": 1 }));
    assert_eq!(nested(&basic(&story, "DELETE", "ops", "wrong").await), "badBasicCredentials");
    assert_eq!(nested(&basic(&story, "DELETE", "reader", OPS).await), "badBasicCredentials");
    assert_eq!(basic(&story, "DELETE", "ops", OPS).await.status, 204);
    assert_eq!(basic(&story, "DELETE", "revoker", REVOKER).await.status, 204);
    story.rig.restart().await;
    assert_eq!(basic(&story, "GET", "ops", OPS).await.json(), json!({ "generation": 3 }));
    assert_eq!(story.refusal(&temporary).await, "tokenRevoked");
    let listed = story.rig.admin.get("/v1/revocations?standing=true&temporary=alice").await;
    assert_eq!(listed["items"][0]["selector"], json!({ "issuer": DOMAIN, "temporary": "alice" }), "{listed}");
    assert_eq!((&listed["items"][0]["cutoff"], &listed["items"][0]["expires_at"]), (&json!(2), &Value::Null));
    let exported = story.rig.admin.call("GET", "/v1/revocations/bulk", None).await.text();
    story.rig.admin.lift(listed["items"][0]["id"].as_str().unwrap()).await;
    assert_eq!(story.refusal(&temporary).await, "");
    let media = Some("application/x-ndjson");
    let imported = story.rig.admin.send("POST", "/v1/revocations/bulk", media, exported).await;
    assert_eq!(imported.status, 200, "{}", imported.text());
    assert_eq!(story.refusal(&temporary).await, "tokenRevoked", "{}", imported.text());
}

#[tokio::test]
async fn a_generation_that_is_counted_here_goes_beyond_every_one_that_was_shown() {
    let story = Story::of(Believed::BySecretAlone).await;
    let until = format!("time < {}", now() + 3600);
    let temporary = |kind: &str, generation: u64| {
        mint(SECRET, &format!("2/tmp-{generation}/usr-alice/{kind}/id{generation}"), &[&until])
    };
    let show = async || story.by("GET", "/users/alice/tokens/temporary", ("ops", OPS), None).await.json();
    let revoke = async || story.by("DELETE", "/users/alice/tokens/temporary", ("ops", OPS), None).await.status;
    let own = temporary("act", 9);
    assert_eq!(story.with("DELETE", "/user/tokens/temporary", &own).await.status, 204);
    assert_eq!(story.refusal(&own).await, "tokenRevoked");
    assert_eq!(show().await, json!({ "generation": 10 }));
    // One that only passed by: whoever judges it behind the gate may know it as good.
    let seen = temporary("act:s1", 20);
    assert_ne!(story.refusal(&seen).await, "tokenRevoked");
    let forged = mint("guessed", "2/tmp-900/usr-alice/act/id", &[&until]);
    assert_eq!(story.refusal(&forged).await, "tokenInvalid");
    assert_eq!((revoke().await, show().await), (204, json!({ "generation": 21 })));
    assert_eq!(story.refusal(&seen).await, "tokenRevoked");
}

#[tokio::test]
async fn a_generation_seen_in_a_session_is_remembered_across_a_restart() {
    let mut story = Story::of(Believed::BySecretAlone).await;
    let until = format!("time < {}", now() + 3600);
    let seen = mint(SECRET, "2/tmp-7/usr-alice/act:s1/id7", &[&until]);
    assert_ne!(story.refusal(&seen).await, "tokenRevoked");
    within("the session", async {
        while story.rig.admin.get("/v1/sessions?user=alice").await["items"] == json!([]) {}
    })
    .await;
    story.rig.restart().await;
    let path = "/users/alice/tokens/temporary";
    assert_eq!(story.by("DELETE", path, ("ops", OPS), None).await.status, 204);
    assert_eq!(story.by("GET", path, ("ops", OPS), None).await.json(), json!({ "generation": 8 }));
}

#[tokio::test]
async fn each_of_many_at_once_moves_the_generation_on() {
    let story = Story::of(Believed::NotAtAll).await;
    let path = "/users/alice/tokens/temporary";
    let revoke = || story.by("DELETE", path, ("ops", OPS), None);
    let answers = futures_util::future::join_all((0..16).map(|_| revoke())).await;
    assert!(answers.iter().all(|answer| answer.status == 204));
    assert_eq!(story.by("GET", path, ("ops", OPS), None).await.json(), json!({ "generation": 17 }));
}

#[tokio::test]
async fn what_the_owner_revoked_is_the_owners_to_lift_until_somebody_else_has_revoked_it() {
    for believed in [Believed::BySecret, Believed::BySecretAlone] {
        let story = Story::of(believed).await;
        let ((named, id), (second, _)) = (story.onezone.named("alice"), story.onezone.named("alice"));
        let (bobs, _) = story.onezone.named("bob");
        for _ in 0..2 {
            assert_eq!(story.patch(&id, true, &named).await, 204, "{believed:?}");
            assert_eq!(story.refusal(&named).await, "tokenRevoked");
            assert_eq!(story.patch(&id, false, &bobs).await, 403);
            assert_eq!(story.patch(&id, false, &second).await, 204, "{believed:?}");
            assert_eq!(story.refusal(&named).await, "");
        }
        assert_eq!(story.patch(&id, true, &named).await, 204);
        story.rig.admin.revoke(json!({ "issuer": "onezone", "token_id": id })).await;
        assert_eq!(story.patch(&id, false, &second).await, 403, "{believed:?}");
        assert_eq!(story.refusal(&named).await, "tokenRevoked");
    }
}

#[tokio::test]
async fn what_was_deleted_comes_back_by_an_operators_word_alone() {
    for believed in [Believed::BySecret, Believed::BySecretAlone] {
        let story = Story::of(believed).await;
        let ((named, id), (second, _)) = (story.onezone.named("alice"), story.onezone.named("alice"));
        let path = format!("/tokens/named/{id}");
        assert_eq!(story.with("DELETE", &path, &named).await.status, 204);
        assert_eq!(story.refusal(&named).await, "tokenRevoked");
        assert_eq!(story.patch(&id, false, &second).await, 404, "{believed:?}");
        let operators = story.by("PATCH", &path, ("ops", OPS), Some(json!({ "revoked": false }))).await;
        assert_eq!(
            (self::id(&operators), story.refusal(&named).await),
            ((404, "notFound".into()), "tokenRevoked".into())
        );
        if believed == Believed::BySecretAlone {
            let listed = story.rig.admin.get("/v1/revocations?standing=true").await;
            story.rig.admin.lift(listed["items"][0]["id"].as_str().unwrap()).await;
            assert_eq!(story.refusal(&named).await, "");
        }
    }
}

#[tokio::test]
async fn whoever_is_refused_is_written_down() {
    for believed in [Believed::BySecret, Believed::BySecretAlone, Believed::ByOnezone] {
        let story = Story::of(believed).await;
        let ((_, id), (bobs, _)) = (story.onezone.named("alice"), story.onezone.named("bob"));
        let path = format!("/tokens/named/{id}");
        assert_eq!(story.patch(&id, true, &bobs).await, 403);
        assert_eq!(story.patch(&id, false, &bobs).await, 403);
        assert_eq!(story.with("DELETE", &path, &bobs).await.status, 403);
        assert_eq!(story.with("GET", "/users/alice/tokens/temporary", &bobs).await.status, 403);
        assert_eq!(story.by("DELETE", "/user/tokens/temporary", ("ops", OPS), None).await.status, 403);
        let actors: Vec<_> = story.refused().await.iter().map(|item| item["actor"].clone()).collect();
        assert_eq!(actors.len(), 5, "{believed:?} {actors:?}");
        assert_eq!(actors.iter().filter(|actor| **actor == "bob@onezone").count(), 4, "{believed:?} {actors:?}");
        assert!(story.refused().await.iter().all(|item| item["reason"].is_string() && item["action"] == "authorize"));
    }
}

#[tokio::test]
async fn what_could_be_another_path_is_no_id() {
    let story = Story::of(Believed::BySecret).await;
    let before = story.onezone.seen().len();
    for bad in ["%2e%2e", "%2E", "..%2f..%2fuser", "a%2fb", "a%5Cb", "a%00", "%0a", "%ff"] {
        for (method, path) in [
            ("DELETE", format!("{BASE}/users/{bad}/tokens/temporary")),
            ("GET", format!("{BASE}/users/{bad}/tokens/temporary/")),
            ("DELETE", format!("{BASE}/tokens/named/{bad}")),
            ("PATCH", format!("{BASE}/tokens/named/{bad}")),
        ] {
            let answer = story.rig.admin.call(method, &path, Some(&json!({ "revoked": true }))).await;
            assert_eq!(id(&answer), (400, "badValueIdentifier".to_owned()), "{method} {path}");
            assert_eq!(answer.json()["error"]["details"]["key"], "id");
            assert_eq!(id(&story.rig.admin.anonymous().call(method, &path, None).await).0, 401);
        }
        let at_proxy = story.by("DELETE", &format!("/tokens/named/{bad}"), ("ops", OPS), None).await;
        assert_eq!(at_proxy.status, 400, "{bad}");
    }
    assert_eq!(story.onezone.seen().len(), before, "nobody was told");
    let listed = story.rig.admin.get("/v1/revocations?standing=true").await;
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn where_a_token_says_it_is_from_saves_no_revoked_one() {
    let story = Story::of(Believed::BySecret).await;
    let (alice, dead) = (story.onezone.named("alice").0, story.onezone.temporary("bob"));
    let root = story.onezone.named("root").0;
    story.onezone.promote("root");
    let elsewhere = moved(&dead, "elsewhere.test");
    let about = json!({ "token": elsewhere });
    let verify = || story.call("POST", "/tokens/verify_access_token", "x-auth-token", "", Some(about.clone()));
    assert_eq!(verify().await.status, 200, "nobody's as far as we know, and Onezone does not look at it");
    assert_eq!(story.revoke("bob", &root).await.status, 204);
    let before = story.onezone.seen().len();
    assert_eq!(id(&verify().await), (400, "tokenRevoked".to_owned()));
    let request = Request::get(format!("{BASE}/user"));
    let request = request.header("x-auth-token", &alice).header("x-onedata-service-token", &elsewhere);
    assert_eq!(nested(&story.rig.send(request.body(full("")).unwrap()).await), "tokenRevoked");
    assert_eq!(story.onezone.seen().len(), before);
}

#[tokio::test]
async fn when_onezone_falls_silent_what_is_over_is_refused_and_nothing_new_is_locked_out() {
    let story = Story::of(Believed::BySecret).await;
    let (named, temporary) = (story.onezone.named("alice").0, story.onezone.temporary("alice"));
    story.onezone.falls_silent(Some(Method::DELETE));
    for _ in 0..3 {
        let answer = story.revoke("alice", &named).await;
        assert_eq!(id(&answer), (503, "serviceUnavailable".to_owned()));
        assert_eq!(answer.json()["error"]["details"]["refusedBelow"], 2, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(story.refusal(&temporary).await, "tokenRevoked", "it stands though Onezone was not told");
    story.onezone.falls_silent(None);
    assert_eq!(story.revoke("alice", &named).await.status, 503);
    story.onezone.speaks();
    assert_eq!(story.revoke("alice", &named).await.status, 204);
    assert_eq!(story.onezone.generation("alice"), 2);
    assert_eq!(story.refusal(&story.onezone.temporary("alice")).await, "");
    // Who cannot be known without Onezone may do nothing, and nothing is revoked.
    let story = Story::of(Believed::ByOnezone).await;
    let (named, temporary) = (story.onezone.named("alice").0, story.onezone.temporary("alice"));
    story.onezone.falls_silent(None);
    assert_eq!(id(&story.revoke("alice", &named).await), (503, "serviceUnavailable".to_owned()));
    story.onezone.speaks();
    assert_eq!(story.refusal(&temporary).await, "");
}

#[tokio::test]
async fn two_at_once_lock_nobody_out() {
    let story = Story::of(Believed::BySecret).await;
    let (one, other) = (story.onezone.named("alice").0, story.onezone.named("alice").0);
    let temporary = story.onezone.temporary("alice");
    story.onezone.revokes_together(2);
    let (first, second) = tokio::join!(story.revoke("alice", &one), story.revoke("alice", &other));
    assert_eq!((first.status, second.status), (204, 204));
    assert_eq!(story.refusal(&temporary).await, "tokenRevoked");
    assert_eq!(story.refusal(&story.onezone.temporary("alice")).await, "");
}

#[tokio::test]
async fn the_token_goes_where_onezone_looks_first_and_nothing_else_goes_with_it() {
    let story = Story::of(Believed::ByOnezone).await;
    let (alice, dead) = (story.onezone.named("alice").0, story.onezone.temporary("bob"));
    let root = story.onezone.named("root").0;
    story.onezone.promote("root");
    assert_eq!(story.revoke("bob", &root).await.status, 204);
    let send = async |fields: &[(&str, &str)]| {
        let request = Request::get(format!("{BASE}/user"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        story.rig.send(request.body(full("")).unwrap()).await
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let all = send(&[("X-Auth-Token", &alice), ("Authorization", &bearer(&dead)), ("Macaroon", &dead)]).await;
    assert_eq!(all.status, 200);
    let (_, _, headers) = story.onezone.seen().pop().unwrap();
    assert_eq!(headers["x-auth-token"], alice.as_str());
    assert!(!headers.contains_key("authorization") && !headers.contains_key("macaroon"));
    let hidden = send(&[("Authorization", &format!("bearer {alice}")), ("Macaroon", &dead)]).await;
    assert_eq!(hidden.status, 401, "a spelling that Onezone does not see hides nothing behind it");
    let first = send(&[("X-Auth-Token", &dead), ("Authorization", &bearer(&alice))]).await;
    assert_eq!(nested(&first), "tokenRevoked");
    for third in ["X-Onedata-Service-Token", "X-Onedata-Consumer-Token"] {
        assert_eq!(send(&[("X-Auth-Token", &alice), (third, &root)]).await.status, 200);
        assert_eq!(nested(&send(&[("X-Auth-Token", &alice), (third, &dead)]).await), "tokenRevoked");
    }
    assert_eq!(nested(&send(&[("X-Auth_Token", &dead)]).await), "", "another spelling is no credential");
}

#[tokio::test]
async fn a_revoked_token_in_a_body_does_not_reach_onezone() {
    let story = Story::of(Believed::ByOnezone).await;
    let (named, dead) = (story.onezone.named("alice").0, story.onezone.temporary("alice"));
    let ask = async |call: &str, body: &str| {
        let request = Request::post(format!("{BASE}/tokens/{call}")).header(CONTENT_TYPE, "application/json");
        story.rig.send(request.body(full(body.to_owned())).unwrap()).await
    };
    let about = |token: &str| json!({ "token": token }).to_string();
    assert_eq!(ask("verify_access_token", &about(&dead)).await.status, 200);
    assert_eq!(story.revoke("alice", &named).await.status, 204);
    let before = story.onezone.seen().len();
    let copy = confined(&dead, &["data.readonly"]);
    for call in ["verify_access_token", "infer_access_token_scope", "verify_identity_token", "confine", "confine/"] {
        for token in [&dead, &copy] {
            let answer = ask(call, &about(token)).await;
            assert_eq!(id(&answer), (400, "tokenRevoked".to_owned()), "{call}");
            assert_eq!(answer.header("access-control-allow-origin"), "*");
        }
    }
    let twice = format!(r#"{{"token":"{named}","token":"{dead}"}}"#);
    let alike = format!(r#"{{"token":"{named}","Token":"{dead}"}}"#);
    for ambiguous in [twice, alike, "{".to_owned(), "[]".to_owned()] {
        assert_eq!(id(&ask("verify_access_token", &ambiguous).await), (400, "malformedData".to_owned()), "{ambiguous}");
    }
    let padded = format!("{dead}05");
    assert_eq!(id(&ask("verify_access_token", &about(&padded)).await), (400, "badValueToken".to_owned()));
    assert_eq!(story.onezone.seen().len(), before);
    assert_eq!(ask("verify_access_token", &about(&named)).await.status, 200);
    assert_eq!(id(&ask("verify_access_token", "{}").await), (400, "missingRequiredValue".to_owned()), "Onezone's own");
}

#[tokio::test]
async fn other_methods_and_bodies_are_answered_in_its_words() {
    let story = Story::of(Believed::BySecret).await;
    let path = format!("{BASE}/users/alice/tokens/temporary");
    let answer = story.rig.admin.call("PUT", &path, None).await;
    assert_eq!((id(&answer), answer.header("allow")), ((405, "notSupported".to_owned()), "GET, DELETE, HEAD"));
    assert_eq!(id(&story.rig.admin.anonymous().call("DELETE", &path, None).await), (401, "unauthorized".to_owned()));
    assert_eq!(
        id(&story.rig.admin.call("DELETE", &path, None).await),
        (403, "forbidden".to_owned()),
        "nobody to tell by"
    );
    let named = format!("{BASE}/tokens/named/x");
    assert_eq!(
        id(&story.rig.admin.send("PATCH", &named, Some("text/plain"), "x").await),
        (415, "notSupported".to_owned())
    );
    assert_eq!(
        id(&story.rig.admin.send("PATCH", &named, Some("application/json"), "{").await),
        (400, "malformedData".to_owned())
    );
    let document = story.rig.admin.get("/v1/openapi/onezone.json").await;
    assert_eq!(document["paths"].as_object().unwrap().len(), 3, "{document}");
}

/// What schemathesis makes of the description, as a user at the proxy and as an operator at the admin side.
#[tokio::test]
async fn no_input_breaks_a_call() {
    let story = Story::of(Believed::BySecret).await;
    let (alice, _) = story.onezone.named("alice");
    let document = story.rig.admin.call("GET", "/v1/openapi/onezone.json", None).await.text();
    let schema = story.rig.folder.write("onezone.json", document);
    for (address, token) in [(story.rig.gateway.proxy, alice.as_str()), (story.rig.gateway.admin, OPS)] {
        let mut command = Command::new(project("tests/env/schemathesis/bin/schemathesis"));
        command.arg("run").arg(&schema).args(["--url", &format!("http://{address}")]);
        command.args(["-H", &format!("X-Auth-Token: {token}")]);
        command.args(["--checks", "not_a_server_error", "--max-examples", "30", "--seed", "1", "--no-color"]);
        command.args(["--generation-database", ":memory:"]).current_dir(story.rig.folder.path()).env("NO_PROXY", "*");
        let output = run(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(story.refusal(&alice).await, "");
}
