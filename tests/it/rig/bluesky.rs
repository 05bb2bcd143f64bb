//! The real bluesky-httpserver, as `tests/clients/bluesky/serve.py` starts it. Its access tokens name no session and
//! no time of issue, and its refresh tokens stay good when they are used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, TRANSFER_ENCODING};
use hyper::{Request, Response};
use serde_json::json;

use crate::rig::Folder;
use crate::rig::http::{Answer, ask, form, posted};
use crate::rig::keys::payload;
use crate::rig::program::{Companion, project};
use crate::rig::serve::{Server, full};

/// Where a login's form goes.
pub(crate) const LOGIN: &str = "/api/auth/provider/toy/token";
/// Where refresh tokens are redeemed.
pub(crate) const REFRESH: &str = "/api/auth/session/refresh";
/// Tells a caller about itself.
pub(crate) const WHOAMI: &str = "/api/auth/whoami";

/// A running server; its users are bob, alice and tom.
pub(crate) struct Bluesky {
    server: Companion,
    /// Goes after the server that writes to it.
    _folder: Folder,
}

/// What a login or a refresh answered.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    /// `sid` of the refresh token.
    pub(crate) session: String,
    /// `sub` of the access token.
    pub(crate) user: String,
}

impl Bluesky {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with options of `serve.py`, such as `--access-ttl`.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let folder = Folder::new();
        let mut command = script("serve.py");
        command.arg(folder.path()).args(options);
        Self { server: Companion::start(command).await, _folder: folder }
    }

    pub(crate) fn url(&self) -> &str {
        self.server.text("url")
    }

    /// Where it listens itself, past any gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url().trim_start_matches("http://").parse().unwrap()
    }
}

impl Tokens {
    /// Reads a good answer of either endpoint.
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let reply = answer.json();
        let text = |name: &str| reply[name].as_str().unwrap_or_else(|| panic!("no {name} in {reply}")).to_owned();
        let (access, refresh) = (text("access_token"), text("refresh_token"));
        let (session, user) = (payload(&refresh)["sid"].clone(), payload(&access)["sub"].clone());
        Self { access, refresh, session: session.as_str().unwrap().into(), user: user.as_str().unwrap().into() }
    }
}

/// Logs a user in at a server or at a gateway in front of it.
pub(crate) async fn login(at: SocketAddr, user: &str) -> Tokens {
    let fields = [("username", user), ("password", &format!("{user}_password"))];
    Tokens::of(&ask(at, form(LOGIN, &fields)).await)
}

/// Redeems a refresh token, whatever comes of it.
pub(crate) async fn refresh(at: SocketAddr, token: &str) -> Answer {
    ask(at, posted(REFRESH, "application/json", json!({ "refresh_token": token }).to_string())).await
}

/// Asks who the bearer of these credentials is; `credentials` is the whole header.
pub(crate) async fn whoami(at: SocketAddr, credentials: &str) -> Answer {
    ask(at, Request::get(WHOAMI).header(AUTHORIZATION, credentials).body(full("")).unwrap()).await
}

/// The same server below another base path, as if it were mounted there.
pub(crate) async fn below(base: &'static str, bluesky: &Bluesky) -> Server {
    let address = bluesky.address();
    Server::start(None, move |request| async move {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.to_string();
        parts.uri = target.strip_prefix(base).unwrap_or("/elsewhere").parse().unwrap();
        let body = body.collect().await.unwrap().to_bytes();
        parts.headers.remove(TRANSFER_ENCODING);
        let answer = ask(address, Request::from_parts(parts, full(body))).await;
        let mut response = Response::new(full(answer.body));
        *response.status_mut() = answer.status.try_into().unwrap();
        *response.headers_mut() = answer.headers;
        response.headers_mut().remove(TRANSFER_ENCODING);
        response
    })
    .await
}

/// A command that holds a server, or a gateway in front of it, to its contract with the real client. A gateway may block
/// the access tokens of a session that was revoked, and answers what is unknown as the server means to.
pub(crate) fn contract(url: &str, gateway: Option<&str>) -> Command {
    let mut command = script("check_bluesky.py");
    command.args(["--url", url]).env("NO_PROXY", "*");
    if let Some(access) = gateway {
        command.args(["--access-after-revoke", access, "--unknown-session", "404"]);
    }
    command
}

/// A command that holds a gateway with this admin side to what it adds to the server.
pub(crate) fn check(url: &str, admin: &str, credential: &str) -> Command {
    let mut command = script("check.py");
    command.arg(url).args(["--admin", admin, "--credential", credential]).env("NO_PROXY", "*");
    command
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(project("tests/clients/bluesky").join(name));
    command
}

/// The Python that has the server and its client.
fn python() -> PathBuf {
    let python = project("tests/env/bluesky/bin/python");
    assert!(python.is_file(), "bluesky-httpserver is missing: run `tests/run --setup`");
    python
}
