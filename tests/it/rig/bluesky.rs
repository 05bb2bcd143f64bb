//! The real bluesky-httpserver, as `tests/clients/bluesky/serve.py` starts it. Its access tokens name no session and
//! no time of issue, and its refresh tokens stay good when they are used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use hyper::Request;
use hyper::header::AUTHORIZATION;
use serde_json::json;

use crate::rig::Folder;
use crate::rig::http::{Answer, ask, form, posted};
use crate::rig::keys::payload;
use crate::rig::program::{Companion, project};
use crate::rig::serve::full;

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

/// A command that holds a server, or a gateway in front of it, to its contract with the real client.
pub(crate) fn check(url: &str) -> Command {
    let mut command = script("check.py");
    command.arg(url).env("NO_PROXY", "*");
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
