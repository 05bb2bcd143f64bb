//! PrivX's session storage, on the proxy's listener where its clients expect it, and on the admin listener. Behind the gate
//! is an upstream of our own that logs in as PrivX does and serves whatever else is asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::rig::http::{Answer, ask, get, with_token};
use crate::rig::privx::{ADMIN, ALICE, Account, BOB, MANAGER, OAUTH, PrivX, STORAGE, Tokens, VIEWER};
use crate::rig::privx::{login, login_from, refresh};
use crate::rig::program::{project, python, run, succeed};
use crate::rig::serve::full;
use crate::rig::{Builder, OPS, READER, REVOKER, Rig};

/// As an operator sets it up. What PrivX's answers do not say of parents, the upstream's do.
const GUARDED: &str = "[[issuers]]\nname = 'privx'\nissuer = 'oam.auth.ssh.com'\npreset = 'privx'\n\
    jwks_file = '{privx_jwks}'\naudiences = ['privx-ui']\nleeway = '5s'\nmax_token_lifetime = '1h'\n\
    max_refresh_token_lifetime = '24h'\n\
    [[issuers.token_endpoints]]\npreset = 'privx'\nlearn = { parent = 'reply:/parent' }\n\
    [[routes]]\npath = '/'\nupstreams = ['{privx}']\ndialect = 'privx'\n\
    [[routes]]\npath = '/roles'\nupstreams = ['{privx}']\ndialect = 'privx'\nscopes = ['privx-admin']\n\
    [[routes]]\npath = '/auth/api/v1/oauth'\nupstreams = ['{privx}']\nauth = 'none'\n\
    [[routes]]\npath = '/repositories'\nupstreams = ['{privx}']\ntokens = ['session-password']\n\
    [dialects.privx]\non = ['admin', 'proxy']\n";

/// A gateway, and the upstream behind it.
struct Guarded {
    rig: Rig,
    privx: PrivX,
}

async fn builder(privx: &PrivX) -> Builder {
    let builder = Rig::builder().await;
    let jwks = builder.folder().write("privx-jwks.json", privx.jwks());
    builder.word("privx", privx.url()).word("privx_jwks", jwks.display()).config(GUARDED)
}

async fn guarded() -> Guarded {
    let privx = PrivX::start().await;
    Guarded { rig: builder(&privx).await.start().await, privx }
}

impl Guarded {
    async fn login(&self, of: Account) -> Tokens {
        Tokens::of(&ask(self.rig.gateway.proxy, login(of)).await)
    }

    async fn login_from(&self, of: Account, parent: &Tokens) -> Tokens {
        Tokens::of(&ask(self.rig.gateway.proxy, login_from(of, &parent.session)).await)
    }

    async fn refresh(&self, tokens: &Tokens) -> Answer {
        ask(self.rig.gateway.proxy, refresh(&tokens.refresh)).await
    }

    /// Whether an access token opens what is behind the gate.
    async fn opens(&self, token: &str) -> bool {
        let answer = ask(self.rig.gateway.proxy, get("/files", token)).await;
        if answer.status == 200 {
            return true;
        }
        assert_refused(&answer, 401);
        false
    }

    async fn list(&self, token: &str, path: &str) -> Value {
        let answer = ask(self.rig.gateway.proxy, get(&format!("{STORAGE}{path}"), token)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    async fn post(&self, token: &str, path: &str) -> Answer {
        ask(self.rig.gateway.proxy, with_token("POST", &format!("{STORAGE}{path}"), token, "")).await
    }

    async fn terminate(&self, token: &str, path: &str) {
        let answer = self.post(token, &format!("{path}/terminate")).await;
        assert_eq!((answer.status, answer.text()), (200, String::new()), "{path}");
        assert_eq!(answer.header("content-length"), "0");
    }
}

/// A refusal in PrivX's words.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let error = answer.json();
    assert!(error["error_code"].is_string() && error["details"].is_array(), "{error}");
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// Every request of the vendor's client, as its contract's own script makes them.
#[tokio::test]
async fn the_clients_checks_pass_over_tls() {
    let privx = PrivX::start().await;
    let rig = builder(&privx).await.tls().start().await;
    let mut victim = Vec::new();
    for _ in 0..3 {
        let mut connection = rig.connect(crate::rig::Wire::TlsH1).await;
        victim.push(Tokens::of(&connection.send(login(ALICE)).await.unwrap()).access);
    }
    let mut command = std::process::Command::new(python());
    command.arg(project("tests/clients/privx/check_privx.py"));
    let (port, tokens) = (rig.gateway.proxy.port().to_string(), json!(victim[..2]).to_string());
    command.args(["--client", "http", "--host", "localhost", "--port", &port, "--ca-file"]).arg(rig.certs.ca());
    command.args([
        "--oauth-id",
        OAUTH.0,
        "--oauth-secret",
        OAUTH.1,
        "--api-id",
        ADMIN.name,
        "--api-secret",
        ADMIN.secret,
    ]);
    command.args(["--low-id", VIEWER.name, "--low-secret", VIEWER.secret, "--victim", ALICE.user]);
    command.args(["--victim-tokens", &tokens]).env("NO_PROXY", "*");
    let said = succeed(command).await;
    assert!(said.contains("PASS: 28 checks (http)"), "{said}");
    assert!(!privx.seen().iter().any(|path| path.starts_with(STORAGE)), "the upstream has a storage of its own");
}

#[tokio::test]
async fn a_terminated_session_takes_its_access_and_refresh_tokens_along() {
    let guarded = guarded().await;
    let (phone, laptop, admin) =
        (guarded.login(ALICE).await, guarded.login(ALICE).await, guarded.login(ADMIN).await.access);
    let renewed = Tokens::of(&guarded.refresh(&phone).await);
    assert_eq!(renewed.session, phone.session);
    assert!(guarded.opens(&phone.access).await && guarded.opens(&renewed.access).await);
    let page = guarded.list(&admin, &format!("/users/{}/sessions?", ALICE.user)).await;
    assert_eq!((&page["count"], page["items"][0]["username"].as_str()), (&json!(2), Some("alice")));
    assert_eq!(page["items"][0]["source_id"], "privx");

    guarded.terminate(&admin, &format!("/sessions/{}", phone.session)).await;
    assert!(!guarded.opens(&phone.access).await && !guarded.opens(&renewed.access).await);
    let before = guarded.privx.seen().len();
    let refused = guarded.refresh(&renewed).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_grant")), "{}", refused.text());
    assert_eq!(guarded.privx.seen().len(), before, "the upstream heard of a dead one");
    assert!(guarded.opens(&laptop.access).await && guarded.refresh(&laptop).await.status == 200);
    let page = guarded.list(&admin, &format!("/users/{}/sessions", ALICE.user)).await;
    assert_eq!(ids(&page), [&*laptop.session], "it left the list at once");
    guarded.terminate(&admin, &format!("/sessions/{}", phone.session)).await;

    let told = guarded.rig.admin.get(&format!("/v1/sessions/{}", phone.session)).await;
    assert_eq!(told["state"], "revoked", "our own API tells the same story");
    assert_eq!(told["revoked"]["by"], format!("{}@privx", ADMIN.user));
}

#[tokio::test]
async fn a_child_session_ends_with_the_one_it_was_opened_from() {
    let guarded = guarded().await;
    let (parent, other) = (guarded.login(ALICE).await, guarded.login(ALICE).await);
    let child = guarded.login_from(ALICE, &parent).await;
    let grandchild = guarded.login_from(BOB, &child).await;
    let admin = guarded.login(ADMIN).await.access;
    let page = guarded.list(&admin, &format!("/users/{}/sessions", BOB.user)).await;
    assert_eq!(page["items"][0]["parent_session_id"], *child.session);
    guarded.terminate(&admin, &format!("/sessions/{}", parent.session)).await;
    for tokens in [&parent, &child, &grandchild] {
        assert!(!guarded.opens(&tokens.access).await && guarded.refresh(tokens).await.status == 400);
    }
    assert!(guarded.opens(&other.access).await);
    assert_eq!(guarded.list(&admin, &format!("/users/{}/sessions", BOB.user)).await, json!({"count": 0, "items": []}));
}

#[tokio::test]
async fn a_user_sees_and_ends_the_own_sessions_alone() {
    let guarded = guarded().await;
    let (phone, laptop, bob) = (guarded.login(ALICE).await, guarded.login(ALICE).await, guarded.login(BOB).await);
    let page = guarded.list(&laptop.access, "/users/current/sessions?sortkey=created").await;
    let mut own = [&*phone.session, &*laptop.session];
    own.sort_unstable();
    let mut listed = ids(&page);
    listed.sort_unstable();
    assert_eq!(listed, own);
    let current = page["items"].as_array().unwrap().iter().find(|item| item["current"] == true).unwrap();
    assert_eq!(current["id"], *laptop.session);
    let foreign = guarded.post(&laptop.access, &format!("/users/current/sessions/{}/terminate", bob.session)).await;
    assert_refused(&foreign, 404);
    assert!(guarded.opens(&bob.access).await);
    guarded.terminate(&laptop.access, &format!("/users/current/sessions/{}", phone.session)).await;
    assert!(!guarded.opens(&phone.access).await && guarded.opens(&laptop.access).await);
    guarded.terminate(&laptop.access, &format!("/users/current/sessions/{}", laptop.session)).await;
    assert_refused(&guarded.post(&laptop.access, "/users/current/sessions/x/terminate").await, 401);
}

#[tokio::test]
async fn a_token_is_one_token_with_its_padding_and_without() {
    let guarded = guarded().await;
    let alice = guarded.login(ALICE).await;
    let renewed = Tokens::of(&guarded.refresh(&alice).await);
    let spelled = alice.access.trim_end_matches('=').to_owned();
    assert_ne!(spelled, alice.access, "the upstream leaves the padding on");
    assert!(guarded.opens(&alice.access).await && guarded.opens(&spelled).await);
    guarded.rig.admin.revoke(json!({ "token": alice.access.replace('=', "") })).await;
    assert!(!guarded.opens(&alice.access).await && !guarded.opens(&spelled).await);
    assert!(guarded.opens(&renewed.access).await, "another token of the session goes on");
}

/// A tool that can only send HTTP Basic passes as the session whose password it was given.
#[tokio::test]
async fn a_session_password_opens_what_takes_it_until_the_session_is_terminated() {
    let mut guarded = guarded().await;
    let (alice, admin) = (guarded.login(ALICE).await, guarded.login(ADMIN).await.access);
    let given = guarded.list(&alice.access, "/users/current/sessionpassword").await;
    let password = given["password"].as_str().unwrap().to_owned();
    assert_eq!(given, json!({ "password": password }));
    guarded.rig.gateway.keeps_secret(&password);
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("{}:{password}", ALICE.name)));
    let proxy = guarded.rig.gateway.proxy;
    let status = async |path: &str, credentials: String| {
        let request = Request::get(path).header(AUTHORIZATION, credentials);
        ask(proxy, request.body(full("")).unwrap()).await.status
    };
    assert_eq!(status("/repositories", basic(&password)).await, 200);
    assert_eq!(status("/repositories", basic("wrong")).await, 401);
    assert_eq!(status("/files", basic(&password)).await, 401, "only where a route says so");
    assert_eq!(status("/auth/api/v1/sessionstorage/users/current/sessions", basic(&password)).await, 401);
    guarded.terminate(&admin, &format!("/sessions/{}", alice.session)).await;
    assert_eq!(status("/repositories", basic(&password)).await, 401);
    let refused = ask(proxy, get(&format!("{STORAGE}/users/current/sessionpassword"), &alice.access)).await;
    assert_refused(&refused, 401);
    assert_refused(&ask(proxy, get(&format!("{STORAGE}/users/current/sessionpassword"), OPS)).await, 403);
}

/// What was seen a moment ago may not be known yet; whose session it is says the token.
#[tokio::test]
async fn a_session_that_nobody_knows_is_told_as_unknown_and_dead_all_the_same() {
    let guarded = guarded().await;
    let admin = guarded.login(ADMIN).await.access;
    let session = "0dd00000-0000-4000-8000-000000000006";
    let token = guarded.privx.sign(&json!({}), ALICE, session);
    assert_refused(&guarded.post(&admin, &format!("/sessions/{session}/terminate")).await, 404);
    assert!(!guarded.opens(&token).await);
    assert_refused(&guarded.post(&admin, "/users/current/sessions/terminate").await, 404);
}

/// Who logs out at the upstream leaves the session, and all that stands for it.
#[tokio::test]
async fn a_logout_ends_the_session_and_its_password() {
    let guarded = guarded().await;
    let (phone, laptop) = (guarded.login(ALICE).await, guarded.login(ALICE).await);
    let given = guarded.list(&phone.access, "/users/current/sessionpassword").await;
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", ALICE.name, given["password"].as_str().unwrap())));
    let proxy = guarded.rig.gateway.proxy;
    let request = || Request::get("/repositories").header(AUTHORIZATION, &basic).body(full("")).unwrap();
    assert_eq!(ask(proxy, request()).await.status, 200);
    let logout = ask(proxy, with_token("POST", "/auth/api/v1/logout", &phone.access, "")).await;
    assert_eq!(logout.status, 200, "{}", logout.text());
    assert_eq!(ask(proxy, request()).await.status, 401);
    assert!(!guarded.opens(&phone.access).await && guarded.opens(&laptop.access).await);
}

/// The algorithm's name and the padding are taken from the issuer that is set up so, and from no other.
#[tokio::test]
async fn no_other_issuer_may_write_its_tokens_so() {
    let privx = PrivX::start().await;
    let plain = GUARDED.replacen("preset = 'privx'\n", "claims = { user = 'userid', session = 'sessionid' }\n", 1);
    let rig = builder(&privx).await.config(&plain).start().await;
    let guarded = Guarded { rig, privx };
    let padded = guarded.privx.sign(&json!({}), ALICE, "s1");
    assert!(!guarded.opens(&padded).await && !guarded.opens(padded.trim_end_matches('=')).await);
    let confused = self::guarded().await;
    assert!(confused.opens(&confused.privx.sign(&json!({}), ALICE, "s1")).await);
    for name in ["none", "HS256", "EdDSA", "ed25519", "ES256"] {
        let token = confused.privx.sign(&json!({ "alg": name }), ALICE, "s1");
        assert!(!confused.opens(&token).await, "{name}");
    }
}

#[tokio::test]
async fn who_may_do_what_is_by_scope_and_refusals_are_audited() {
    let guarded = guarded().await;
    let alice = guarded.login(ALICE).await;
    let (viewer, manager) = (guarded.login(VIEWER).await.access, guarded.login(MANAGER).await.access);
    let (list, end) = (format!("/users/{}/sessions", ALICE.user), format!("/sessions/{}/terminate", alice.session));
    assert_eq!(guarded.list(&viewer, &list).await["count"], 1);
    assert_refused(&guarded.post(&viewer, &end).await, 403);
    assert_refused(&ask(guarded.rig.gateway.proxy, get(&format!("{STORAGE}{list}"), &manager)).await, 403);
    assert_refused(&guarded.post(&alice.access, &end).await, 403);
    assert_refused(&guarded.post("nonsense", &end).await, 401);
    let anonymous = Request::post(format!("{STORAGE}{end}")).body(full("")).unwrap();
    assert_refused(&ask(guarded.rig.gateway.proxy, anonymous).await, 401);
    assert!(guarded.opens(&alice.access).await);
    assert_refused(&ask(guarded.rig.gateway.proxy, get("/roles", &alice.access)).await, 403);

    let trail = guarded.rig.admin.get("/v1/audit").await;
    let refused: Vec<_> =
        trail["items"].as_array().unwrap().iter().filter(|item| item["result"] == "refused").collect();
    for user in [VIEWER.user, MANAGER.user, ALICE.user] {
        let by = |item: &&&Value| item["actor"] == format!("{user}@privx");
        assert_eq!(refused.iter().filter(by).count(), 1, "{user}: {trail}");
    }
    assert_eq!(refused.iter().filter(|item| item["action"] == "authenticate").count(), 2, "{trail}");

    // Configured credentials do here as they do everywhere.
    assert_eq!(guarded.list(READER, &list).await["count"], 1);
    assert_refused(&guarded.post(READER, &end).await, 403);
    guarded.terminate(REVOKER, &format!("/sessions/{}", alice.session)).await;
    assert!(!guarded.opens(&alice.access).await);
    guarded.terminate(&manager, &format!("/users/{}/sessions", BOB.user)).await;
    assert_refused(&guarded.post(OPS, "/sessions/00000000-0000-4000-8000-000000000000/terminate").await, 404);
}

/// A gate has one reading of a path: what an upstream might take for two segments is refused before anybody acts on it.
/// The admin listener has no upstream, so that an id is whatever it decodes to.
#[tokio::test]
async fn an_escaped_slash_is_refused_where_paths_are_forwarded_and_part_of_an_id_where_not() {
    let guarded = guarded().await;
    let alice = guarded.login(ALICE).await;
    let before = guarded.privx.seen().len();
    for path in [
        format!("/sessions/x%2F..%2F{}/terminate", alice.session),
        format!("/sessions/x%5c{}/terminate", alice.session),
        format!("/sessions/%2e%2e/{}/terminate", alice.session),
        format!("/sessions/{}%00/terminate", alice.session),
    ] {
        let answer = guarded.post(OPS, &path).await;
        assert!(matches!(answer.status, 400 | 401), "{path}: {} {}", answer.status, answer.text());
    }
    let escaped = format!("/sessions/x%2F{}/terminate", alice.session);
    assert_refused(&guarded.rig.admin.call("POST", &format!("{STORAGE}{escaped}"), None).await, 404);
    assert_eq!(guarded.privx.seen().len(), before, "the upstream was asked");
    assert!(guarded.opens(&alice.access).await);
    // Escapes that mean nothing else are the same id everywhere.
    let (first, rest) = alice.session.split_at(1);
    let spelled = format!("%{:02x}{rest}", first.as_bytes()[0]);
    guarded.terminate(OPS, &format!("/sessions/{spelled}")).await;
    assert!(!guarded.opens(&alice.access).await);
}

/// What schemathesis makes of the description, against both listeners: nothing it sends is too much.
#[tokio::test]
async fn no_input_breaks_a_call() {
    let privx = PrivX::start().await;
    // It also shows wrong credentials, and would not be listened to for long.
    let rig = builder(&privx).await.config("[admin]\nfailures_per_minute = 100000").start().await;
    let guarded = Guarded { rig, privx };
    let document = guarded.rig.admin.call("GET", "/v1/openapi/privx.json", None).await.text();
    let schema = guarded.rig.folder.write("privx.json", document);
    let token = guarded.login(ADMIN).await.access;
    for (address, credential) in [(guarded.rig.gateway.proxy, token.as_str()), (guarded.rig.gateway.admin, OPS)] {
        let mut command = std::process::Command::new(project("tests/env/schemathesis/bin/schemathesis"));
        command.arg("run").arg(&schema).args(["--url", &format!("http://{address}")]);
        command.args(["-H", &format!("Authorization: Bearer {credential}")]);
        command.args(["--checks", "not_a_server_error", "--max-examples", "15", "--seed", "1", "--no-color"]);
        command.args(["--generation-database", ":memory:"]).current_dir(guarded.rig.folder.path()).env("NO_PROXY", "*");
        let output = run(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(guarded.rig.admin.call("GET", "/healthz", None).await.status == 200);
}
