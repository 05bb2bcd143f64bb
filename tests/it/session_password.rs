//! Tools that can only send a username and a password pass the gate as the session that the password was given for, and
//! no longer than it.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use serde_json::json;

use crate::rig::program::{Companion, find, project, run, succeed};
use crate::rig::serve::full;
use crate::rig::{Answer, Body, Connection, Rig, Token, Wire, now, until, within};

const ROUTES: &str = "[[routes]]\npath = '/'\nupstreams = ['{upstream}']\ntokens = ['bearer', 'session-password', 'cookie:sid']\n\
    [[routes]]\npath = '/scoped'\nupstreams = ['{upstream}']\ntokens = ['session-password']\nscopes = ['write']\n\
    [[routes]]\npath = '/bearer'\nupstreams = ['{upstream}']\n\
    [[routes]]\npath = '/public'\nupstreams = ['{upstream}']\nauth = 'none'\n\
    [dialects.privx]\nsession_password_ttl = '1h'";

/// A username and a password.
struct Pair {
    username: String,
    password: String,
    expires_at: u64,
}

impl Pair {
    fn basic(&self) -> String {
        basic(&self.username, &self.password)
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// The password of a token's session, which no log may show from now on.
async fn password(rig: &mut Rig, token: &Token) -> Pair {
    let answer = rig.admin.by(&token.text).call("POST", "/v1/me/session-password", None).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text());
    let given = answer.json();
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    rig.gateway.keeps_secret(&text("password"));
    let expires_at = given["expires_at"].as_u64().unwrap();
    Pair { username: text("username"), password: text("password"), expires_at }
}

fn login(rig: &Rig, session: &str) -> Token {
    let claims = json!({"sub": "u-1", "preferred_username": "alice", "sid": session, "azp": "web", "scope": "read"});
    rig.issuer.token(claims)
}

fn request(path: &str, authorization: &str) -> Request<Body> {
    Request::get(path).header(AUTHORIZATION, authorization).body(full("")).unwrap()
}

async fn ask(rig: &Rig, path: &str, authorization: &str) -> Answer {
    rig.send(request(path, authorization)).await
}

async fn end(rig: &Rig, session: &str) {
    let ended = rig.admin.call("DELETE", &format!("/v1/sessions/{session}"), None).await;
    assert_eq!(ended.status, 201, "{}", ended.text());
}

/// The status curl is answered with.
async fn curl(rig: &Rig, path: &str, user: &str) -> String {
    let mut command = Command::new(find("curl", "apt-get install curl"));
    command.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}", "--anyauth"]);
    command.args(["--user", user]).arg(format!("http://{}{path}", rig.gateway.proxy));
    succeed(command).await
}

#[tokio::test]
async fn curl_passes_with_the_password_until_the_session_ends() {
    let mut rig = Rig::with(ROUTES).await;
    let (token, other) = (login(&rig, "s1"), login(&rig, "s2"));
    let (own, others) = (password(&mut rig, &token).await, password(&mut rig, &other).await);
    assert_eq!(own.username, "alice");
    let user = |pair: &Pair| format!("{}:{}", pair.username, pair.password);
    assert_eq!(curl(&rig, "/", &user(&own)).await, "200");
    let seen = rig.upstream.last();
    assert_eq!(seen.header("authorization"), None, "the password is nobody else's business");
    let told = ["x-auth-user", "x-auth-username", "x-auth-session", "x-auth-client", "x-auth-scopes"];
    let told = told.map(|name| seen.header(name).unwrap_or("-").to_owned());
    assert_eq!(told, ["u-1", "alice", "s1", "web", "read"]);

    for wrong in [format!("bob:{}", own.password), format!("u-1:{}", own.password), "alice:wrong".to_owned()] {
        assert_eq!(curl(&rig, "/", &wrong).await, "401", "{wrong}");
    }
    end(&rig, "s1").await;
    assert_eq!(curl(&rig, "/", &user(&own)).await, "401");
    assert_eq!(curl(&rig, "/", &user(&others)).await, "200", "it is nobody else's end");
    let refused = rig.admin.by(&token.text).call("POST", "/v1/me/session-password", None).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn what_is_open_ends_with_the_session() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    let mut connection = rig.connect(Wire::H1).await;
    let answer = connection.start(request("/events", &own.basic())).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body: Incoming = answer.into_body();
    within("the first event", body.frame()).await.unwrap().unwrap();
    let receipt = rig.admin.revoke(json!({"issuer": "main", "session": "s1"})).await;
    assert_eq!(receipt["cut"], 1, "{receipt}");
    while let Some(frame) = within("the end of the stream", body.frame()).await {
        assert!(frame.is_ok(), "an event stream ends properly");
    }
    assert_eq!(ask(&rig, "/", &own.basic()).await.status, 401);
}

#[tokio::test]
async fn every_bad_pair_is_answered_alike_and_asked_for_again() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    let (head, tail) = own.password.split_at(47);
    let wrong = format!("{head}{}", if tail == "A" { "B" } else { "A" });
    let unknown = "A".repeat(48);
    let mut answers = Vec::new();
    for authorization in [
        basic("alice", &wrong),
        basic("bob", &own.password),
        basic("alice", &unknown),
        basic("alice", "x"),
        basic("", ":"),
    ] {
        answers.push(ask(&rig, "/", &authorization).await);
    }
    answers.push(ask(&rig, "/", "Basic not-base64").await);
    end(&rig, "s1").await;
    answers.push(ask(&rig, "/", &own.basic()).await);
    for answer in answers {
        assert_eq!((answer.status, answer.json()["detail"].as_str()), (401, Some("the token is not valid")));
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, [r#"Bearer error="invalid_token""#, r#"Basic realm="portcullis", charset="UTF-8""#]);
    }
    let nobody = rig.send(Request::get("/").body(full("")).unwrap()).await;
    assert_eq!((nobody.status, nobody.headers.get_all("www-authenticate").iter().count()), (401, 2));
    let elsewhere = ask(&rig, "/bearer", &own.basic()).await;
    assert_eq!((elsewhere.status, elsewhere.headers.get_all("www-authenticate").iter().count()), (401, 1));
}

#[tokio::test]
async fn a_request_speaks_for_one_caller() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    let before = rig.upstream.seen().len();
    for (name, value) in [
        ("authorization", own.basic()),
        ("authorization", format!("Bearer {}", token.text)),
        ("cookie", format!("sid={}", token.text)),
    ] {
        let mut two = request("/", &own.basic());
        two.headers_mut().append(name, value.parse().unwrap());
        assert_eq!(rig.send(two).await.status, 400, "{name}");
    }
    assert_eq!(ask(&rig, "/", &format!("{}, Bearer {}", own.basic(), token.text)).await.status, 400);
    assert_eq!(rig.upstream.seen().len(), before);
}

#[tokio::test]
async fn the_password_is_taken_where_a_route_says_so_and_has_the_tokens_scopes() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    assert_eq!(ask(&rig, "/bearer", &own.basic()).await.status, 401);
    assert_eq!(ask(&rig, "/scoped", &own.basic()).await.status, 403);
    assert_eq!(ask(&rig, "/scoped", &format!("Bearer {}", token.text)).await.status, 401, "only passwords are taken");
    // Where nothing is looked at, nothing is ours to keep.
    assert_eq!(ask(&rig, "/public", "Basic YTpi").await.status, 200);
    assert_eq!(rig.upstream.last().header("authorization"), Some("Basic YTpi"));
    let bearer = format!("Bearer {}", token.text);
    assert_eq!(ask(&rig, "/", &bearer).await.status, 200);
    assert_eq!(rig.upstream.last().header("authorization"), Some(&*bearer));
}

#[tokio::test]
async fn it_survives_a_crash_and_is_nowhere_to_be_read() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    let expected = now() + 3_600;
    assert!((expected - 60..=expected).contains(&own.expires_at), "the configured time: {}", own.expires_at);
    rig.restart().await;
    rig.gateway.keeps_secret(&own.password);
    assert_eq!(ask(&rig, "/", &own.basic()).await.status, 200);
    let secret = &own.password.as_bytes()[16..];
    let raw = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).unwrap();
    for file in ["portcullis.db", "portcullis.db-wal"] {
        let bytes = std::fs::read(rig.folder.join(file)).unwrap_or_default();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(secret) && !holds(&raw), "{file}");
        assert!(file.ends_with("-wal") || !bytes.is_empty());
    }
    end(&rig, "s1").await;
    rig.restart().await;
    assert_eq!(ask(&rig, "/", &own.basic()).await.status, 401, "the end survives as well");
}

#[tokio::test]
async fn it_outlives_the_token_it_was_got_with_and_then_expires() {
    // Tokens of this issuer live twelve seconds at most, so that nothing is remembered of one for longer.
    let mut rig = Rig::with(&format!("{ROUTES}\n[[issuers]]\nname = 'main'\nissuer = 'https://id.test/'\n\
        verification = 'signature'\njwks_url = '{{jwks}}'\naudiences = ['api']\nalgorithms = ['RS256', 'ES256', 'EdDSA']\n\
        leeway = '0s'\nmax_token_lifetime = '12s'"))
    .await;
    let issued_at = now();
    let claims = json!({"sub": "u-1", "sid": "s1", "iat": issued_at, "exp": issued_at + 3});
    let token = rig.issuer.token(claims);
    let own = password(&mut rig, &token).await;
    assert_eq!(own.expires_at, issued_at + 12);
    until(issued_at + 3).await;
    assert_eq!(rig.get("/", &token.text).await.status, 401);
    assert_eq!(ask(&rig, "/", &own.basic()).await.status, 200);
    until(own.expires_at).await;
    assert_eq!(ask(&rig, "/", &own.basic()).await.status, 401);
}

/// git, which knows nothing but usernames and passwords.
struct Git<'r> {
    rig: &'r Rig,
    pair: &'r Pair,
}

impl Git<'_> {
    fn command(&self, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(find("git", "apt-get install git"));
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.rig.folder.path()).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        // What a credential helper of the user's would say when the server asks.
        let helper =
            "credential.helper=!f() { echo \"username=$GATE_USERNAME\"; echo \"password=$GATE_PASSWORD\"; }; f";
        command.env("GATE_USERNAME", &self.pair.username).env("GATE_PASSWORD", &self.pair.password);
        command.args(["-c", helper, "-c", "user.name=Alice", "-c", "user.email=alice@id.test"]);
        command.arg("-C").arg(self.rig.folder.join(folder)).args(arguments);
        command
    }

    fn url(&self) -> String {
        format!("http://{}/repo.git", self.rig.gateway.proxy)
    }
}

#[tokio::test]
async fn git_clones_and_pushes_as_the_session_and_stops_with_it() {
    find("git", "apt-get install git");
    let builder = Rig::builder().await;
    let mut serve = Command::new(find("python3", "apt-get install python3"));
    serve.arg(project("tests/git/serve.py")).arg(builder.folder().join("repositories"));
    let server = Companion::start(serve).await;
    let builder = builder.word("git", server.text("url"));
    let routes = "[[routes]]\npath = '/'\nupstreams = ['{git}']\ntokens = ['session-password']";
    let mut rig = builder.config(routes).start().await;
    let token = login(&rig, "s1");
    let pair = password(&mut rig, &token).await;
    let git = Git { rig: &rig, pair: &pair };
    succeed(git.command("", &["clone", "--quiet", &git.url(), "work"])).await;
    std::fs::write(rig.folder.join("work/large"), vec![b'x'; 3 << 20]).unwrap();
    succeed(git.command("work", &["add", "large"])).await;
    succeed(git.command("work", &["commit", "--quiet", "--message", "More"])).await;
    // Sent in chunks, since it does not fit what git keeps in memory.
    succeed(git.command("work", &["-c", "http.postBuffer=65536", "push", "--quiet", "origin", "HEAD:main"])).await;
    let listed = succeed(git.command("work", &["ls-remote", "origin", "main"])).await;
    let head = succeed(git.command("work", &["rev-parse", "HEAD"])).await;
    assert!(listed.starts_with(head.trim()), "{listed} {head}");

    end(&rig, "s1").await;
    let refused = run(git.command("work", &["ls-remote", "origin"])).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Authentication failed"), "{said}");
}

#[tokio::test]
async fn many_requests_with_one_password_are_one_check() {
    let mut rig = Rig::with(ROUTES).await;
    let token = login(&rig, "s1");
    let own = password(&mut rig, &token).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(Connection::open(rig.gateway.proxy, Wire::H1, None).await.unwrap());
    }
    let asking = connections.into_iter().map(|mut connection| {
        let request = request("/", &own.basic());
        tokio::spawn(async move { connection.send(request).await.unwrap().status })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), 200);
    }
}
