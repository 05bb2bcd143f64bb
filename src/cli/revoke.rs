//! `revoke`: takes tokens back. What about stands in flags, or line by line in a file (`--bulk`).

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::http::query;
use super::wait::Waiting;
use super::when::When;
use super::{Failure, Options, bulk, input, output};
use crate::clock::SystemClock;
use crate::domain::{Timestamp, TokenKind};

const EXAMPLES: &str = "\
Examples:
  portcullis revoke --issuer main --user alice --reason 'lost laptop'
  portcullis revoke --issuer main --session s-42 --wait all --timeout 5s
  portcullis revoke --issuer main --claim device_id=d-7
  portcullis revoke --token-stdin < token.txt
  portcullis revoke --bulk revocations.ndjson

Each line of a bulk file is a JSON object as POST /v1/revocations takes it:
  {\"selector\": {\"issuer\": \"main\", \"user\": \"alice\"}, \"reason\": \"left\"}";

/// Take tokens back.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("target").required(true).multiple(true))]
pub(super) struct RevokeTokens {
    #[command(flatten)]
    selector: SelectorFlags,
    #[command(flatten)]
    text: TokenFlags,
    /// Read revocations from a file, or from standard input (-), one JSON object in a line
    #[arg(long, value_name = "FILE", group = "target", conflicts_with_all = ["issuer", "user", "username", "session", "token_id", "client", "key_id", "claim", "token_stdin", "token_file", "kinds", "cutoff", "block", "reason", "expires", "dry_run"])]
    bulk: Option<PathBuf>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    waiting: Waiting,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
}

/// Claims that must all match.
#[derive(Args, Debug)]
struct SelectorFlags {
    /// The issuer: its configured name or its `iss`
    #[arg(long, group = "target")]
    issuer: Option<String>,
    /// A user (`sub`)
    #[arg(long, group = "target")]
    user: Option<String>,
    /// A user, by the name people know
    #[arg(long, group = "target")]
    username: Option<String>,
    /// A session (`sid`)
    #[arg(long, group = "target")]
    session: Option<String>,
    /// A token, by its id (`jti`)
    #[arg(long, value_name = "ID", group = "target")]
    token_id: Option<String>,
    /// A client (`azp` or `client_id`)
    #[arg(long, group = "target")]
    client: Option<String>,
    /// A signing key (`kid`)
    #[arg(long, value_name = "KID", group = "target")]
    key_id: Option<String>,
    /// Any other claim; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim, group = "target")]
    claim: Vec<(String, String)>,
}

/// A token itself.
#[derive(Args, Debug)]
struct TokenFlags {
    /// That very token, read from standard input
    #[arg(long, group = "target", conflicts_with_all = ["issuer", "user", "username", "session", "token_id", "client", "key_id", "claim", "token_file"])]
    token_stdin: bool,
    /// That very token, read from a file
    #[arg(long, value_name = "FILE", group = "target", conflicts_with_all = ["issuer", "user", "username", "session", "token_id", "client", "key_id", "claim"])]
    token_file: Option<PathBuf>,
}

/// How far it reaches.
#[derive(Args, Debug)]
struct Extent {
    /// The kinds of token that die: access, refresh, api_key [default: all but api_key]
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = str::parse::<TokenKind>)]
    kinds: Vec<TokenKind>,
    /// Kill what was issued up to this moment: seconds, a date, or a time back from now such as 10m [default: now]
    #[arg(long, value_name = "WHEN", value_parser = When::parse, conflicts_with = "block")]
    cutoff: Option<When>,
    /// Ban: kill what will be issued, too, until it is lifted or expires
    #[arg(long)]
    block: bool,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Until when: seconds, a date, or a time from now such as 7d
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    expires: Option<When>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is written NAME=VALUE")?;
    if name.is_empty() { Err("a claim needs a name".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

impl RevokeTokens {
    /// Revokes, and prints what came of it.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let admin = self.waiting.admin(options)?;
        if let Some(file) = &self.bulk {
            return bulk::run(&admin, file, self.waiting, options).await;
        }
        let body = self.body(SystemClock::shared().now())?;
        let [wait, timeout] = self.waiting.parameters(options);
        let query = query(&[wait, timeout, ("dry_run", self.dry_run.then(|| "true".to_owned()))]);
        let answer = admin.json(Method::POST, &format!("/v1/revocations{query}"), Some(&body)).await?;
        match (options.json, self.dry_run) {
            (true, _) => output::json(&answer)?,
            (false, true) => return output::line(&forecast(&answer)),
            (false, false) => output::line(&receipt(&answer))?,
        }
        self.waiting.tell(&answer, options.json)
    }

    fn body(&self, now: Timestamp) -> Result<Value, Failure> {
        let mut body = Map::new();
        body.insert("selector".to_owned(), Value::Object(self.target()?));
        self.extent.describe(&mut body, now);
        Ok(Value::Object(body))
    }

    fn target(&self) -> Result<Map<String, Value>, Failure> {
        if !self.text.token_stdin && self.text.token_file.is_none() {
            return Ok(self.selector.claims());
        }
        let token = input::secret(self.text.token_file.as_deref(), "token")?;
        Ok(Map::from_iter([("token".to_owned(), Value::String(token))]))
    }
}

impl SelectorFlags {
    fn claims(&self) -> Map<String, Value> {
        let plain = [
            ("issuer", &self.issuer),
            ("user", &self.user),
            ("username", &self.username),
            ("session", &self.session),
            ("token_id", &self.token_id),
            ("client", &self.client),
            ("key_id", &self.key_id),
        ];
        let plain = plain.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        let other = self.claim.iter().map(|(name, value)| (format!("claim:{name}"), json!(value)));
        plain.chain(other).collect()
    }
}

impl Extent {
    fn describe(&self, body: &mut Map<String, Value>, now: Timestamp) {
        let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        if !self.kinds.is_empty() {
            put("kinds", json!(self.kinds));
        }
        if let Some(cutoff) = self.cutoff {
            put("cutoff", json!(cutoff.ago(now)));
        }
        if self.block {
            put("block", json!(true));
        }
        if let Some(reason) = &self.reason {
            put("reason", json!(reason));
        }
        if let Some(expires) = self.expires {
            put("expires_at", json!(expires.ahead(now)));
        }
    }
}

/// What came of a revocation, in a line.
pub(super) fn receipt(answer: &Value) -> String {
    let revocation = answer.get("revocation").unwrap_or(&Value::Null);
    let already = answer.get("already") == Some(&Value::Bool(true));
    let verb = if already { "already revoked" } else { "revoked" };
    let id = output::member(revocation, "id");
    let selector = output::member(revocation, "selector");
    let readmits = answer.get("readmits_from").filter(|from| !from.is_null());
    let readmits =
        readmits.map(|_| format!("; tokens issued from {} on pass", output::moment(answer, "readmits_from")));
    let cut = match answer.get("cut").and_then(Value::as_u64).unwrap_or_default() {
        0 => String::new(),
        1 => "; 1 open connection cut".to_owned(),
        cut => format!("; {cut} open connections cut"),
    };
    let ended = match answer.get("sessions").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(1) => "; 1 session ended".to_owned(),
        Some(several) => format!("; {several} sessions ended"),
    };
    format!("{verb}: {selector} ({id}){ended}{cut}{}", readmits.unwrap_or_default())
}

fn forecast(answer: &Value) -> String {
    let members = answer.as_object().map(|members| members.iter()).into_iter().flatten();
    let lines = members.map(|(name, value)| format!("  {name}: {}", output::plain(value)));
    std::iter::once("nothing was revoked; it would be:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        revoke: RevokeTokens,
    }

    fn parse(line: &str) -> Result<RevokeTokens, clap::Error> {
        Line::try_parse_from(std::iter::once("revoke").chain(line.split_whitespace())).map(|line| line.revoke)
    }

    fn body(line: &str) -> Value {
        parse(line).unwrap().body(Timestamp::from_secs(1_000)).unwrap()
    }

    #[test]
    fn flags_become_a_selector() {
        assert_eq!(
            body("--issuer main --user alice --claim device=d=7 --reason lost"),
            json!({"selector": {"issuer": "main", "user": "alice", "claim:device": "d=7"}, "reason": "lost"})
        );
    }

    #[test]
    fn the_extent_is_passed_on() {
        assert_eq!(
            body("--issuer main --kinds access,api_key --cutoff 100s --expires 50"),
            json!({"selector": {"issuer": "main"}, "kinds": ["access", "api_key"], "cutoff": 900, "expires_at": 50})
        );
        assert_eq!(body("--username x --block"), json!({"selector": {"username": "x"}, "block": true}));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "--reason x",
            "--issuer a --token-stdin",
            "--token-file x --token-stdin",
            "--bulk x --issuer y",
            "--issuer a --cutoff 1 --block",
            "--issuer a --kinds id",
            "--claim x",
            "--claim =x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_receipt_is_one_line() {
        let answer = json!({"revocation": {"id": "ab", "selector": {"issuer": "i", "user": "u"}}, "already": false, "readmits_from": 60});
        assert_eq!(receipt(&answer), "revoked: issuer=i user=u (ab); tokens issued from 1970-01-01T00:01:00Z on pass");
        let answer = json!({"revocation": {"id": "ab", "selector": {"session": "s"}}, "already": false, "cut": 2});
        assert_eq!(receipt(&answer), "revoked: session=s (ab); 2 open connections cut");
        let answer = json!({"revocation": {"id": "ab", "selector": {"session": "s"}}, "already": false, "sessions": 2});
        assert_eq!(receipt(&answer), "revoked: session=s (ab); 2 sessions ended");
    }
}
