//! The tour: what the demo prints for people to paste, and walks itself with `--check`. Both are made of the same steps, so
//! that what is printed is what was tried.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::Places;
use crate::cli::http::Admin;
use crate::cli::{Failure, output};
use crate::clock::SharedClock;

/// How long a step of `--check` may wait for the clock, in seconds.
const MAX_WAIT_SECS: u64 = 60;

/// One thing to do.
enum Act {
    /// Log in as that user and keep the token.
    LogIn(&'static str),
    /// Call the service through the gateway, with or without the token.
    Call { with_token: bool },
    /// Revoke; the text is the body, `$TOKEN` standing for the token.
    Revoke(Value),
    /// Wait until a login is sure to lie behind the cut-off.
    Wait,
}

struct Step {
    title: &'static str,
    act: Act,
    /// The status that is promised.
    status: u16,
}

const fn step(title: &'static str, act: Act, status: u16) -> Step {
    Step { title, act, status }
}

fn steps() -> Vec<Step> {
    let token = json!({ "selector": { "token": "$TOKEN" }, "reason": "lost laptop" });
    let user = json!({ "selector": { "issuer": "demo", "user": "alice" }, "reason": "password changed" });
    vec![
        step("Without a token nobody passes", Act::Call { with_token: false }, 401),
        step("Alice logs in", Act::LogIn("alice"), 200),
        step("and passes; the service learns who calls", Act::Call { with_token: true }, 200),
        step("Her token is revoked", Act::Revoke(token), 201),
        step("and is dead at the next request, although it has not expired", Act::Call { with_token: true }, 401),
        step("She logs in again", Act::LogIn("alice"), 200),
        step("and passes", Act::Call { with_token: true }, 200),
        step("Everything alice holds is revoked", Act::Revoke(user), 201),
        step("so this token is dead, too", Act::Call { with_token: true }, 401),
        step("A token of the very second of a revocation dies with it", Act::Wait, 0),
        step("but the next login", Act::LogIn("alice"), 200),
        step("passes", Act::Call { with_token: true }, 200),
    ]
}

/// The tour as lines for a shell.
pub(super) fn script(places: &Places) -> String {
    let head = format!("ADMIN='{}'\n", places.credential);
    steps().iter().fold(head, |script, step| {
        let promise = if step.status == 0 { String::new() } else { format!(": {}", step.status) };
        format!("{script}\n# {}{promise}\n{}\n", step.title, step.act.line(places))
    })
}

impl Act {
    fn line(&self, places: &Places) -> String {
        match self {
            Self::LogIn(user) => format!("TOKEN=$(curl -s 'http://{}/login?user={user}&as=text')", places.issuer),
            Self::Call { with_token: true } => {
                format!("curl -i -H \"Authorization: Bearer $TOKEN\" http://{}/hello", places.proxy)
            }
            Self::Call { with_token: false } => format!("curl -i http://{}/hello", places.proxy),
            // The quotes close around the variable, so that the shell fills it in.
            Self::Revoke(body) => format!(
                "curl -i -H \"Authorization: Bearer $ADMIN\" -H 'Content-Type: application/json' \\\n  \
                 -d '{}' http://{}/v1/revocations",
                body.to_string().replace("$TOKEN", "'\"$TOKEN\"'"),
                places.admin
            ),
            Self::Wait => "sleep 2".to_owned(),
        }
    }
}

/// Walks the tour itself.
pub(super) struct Walk<'a> {
    places: &'a Places,
    clock: SharedClock,
    json: bool,
    token: String,
    readmits_from: u64,
    broken: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(places: &'a Places, clock: SharedClock, json: bool) -> Self {
        Self { places, clock, json, token: String::new(), readmits_from: 0, broken: 0 }
    }

    /// Takes every step and prints its status; a promise that is not kept is a failure.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        for step in steps() {
            let status = self.take(&step.act).await?;
            self.print(&step, status)?;
        }
        if self.broken > 0 {
            Err(Failure::Failed(format!("{} steps did not go as promised", self.broken)))
        } else {
            Ok(())
        }
    }

    fn print(&mut self, step: &Step, status: u16) -> Result<(), Failure> {
        let kept = status == step.status;
        self.broken += usize::from(!kept);
        if self.json {
            return output::json(
                &json!({ "step": step.title, "status": status, "promised": step.status, "kept": kept }),
            );
        }
        if step.status == 0 {
            return output::line(&format!("---  {}", step.title));
        }
        let verdict = if kept { String::new() } else { format!(", but {} was promised", step.status) };
        output::line(&format!("{status}  {}{verdict}", step.title))
    }

    async fn take(&mut self, act: &Act) -> Result<u16, Failure> {
        match act {
            Act::LogIn(user) => {
                let path = format!("/login?user={user}&as=text");
                let (status, body) = self.call(self.places.issuer, None, Method::GET, &path, None).await?;
                self.token = String::from_utf8_lossy(&body).into_owned();
                Ok(status)
            }
            Act::Call { with_token } => {
                let token = with_token.then_some(self.token.as_str());
                Ok(self.call(self.places.proxy, token, Method::GET, "/hello", None).await?.0)
            }
            Act::Revoke(body) => self.revoke(body).await,
            Act::Wait => Ok(self.wait().await),
        }
    }

    async fn revoke(&mut self, body: &Value) -> Result<u16, Failure> {
        let body = body.to_string().replace("$TOKEN", &self.token);
        let credential = Some(self.places.credential.as_str());
        let (status, answer) =
            self.call(self.places.admin, credential, Method::POST, "/v1/revocations", Some(body)).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        self.readmits_from = answer.get("readmits_from").and_then(Value::as_u64).unwrap_or(self.readmits_from);
        Ok(status)
    }

    async fn wait(&self) -> u16 {
        for _ in 0..MAX_WAIT_SECS {
            if self.clock.now().as_secs() >= self.readmits_from {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        0
    }

    async fn call(
        &self,
        to: std::net::SocketAddr,
        bearer: Option<&str>,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, Bytes), Failure> {
        let body = body.map(|body| ("application/json", Bytes::from(body)));
        let reply = Admin::plain(to, bearer)?.call(method, path, body).await?;
        Ok((reply.status.as_u16(), reply.body))
    }
}
