//! `sessions`: who is logged in, and ending it.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::{Admin, encode, query};
use super::output::{self, Table};
use super::wait::Waiting;
use super::when::When;
use super::{Failure, Options, revoke};
use crate::clock::SystemClock;
use crate::domain::{SessionType, Timestamp};

/// The most sessions asked for at once.
const PAGE: u32 = 1000;
const EXAMPLES: &str = "\
Examples:
  portcullis sessions --user alice --state active
  portcullis sessions --keyword firefox --sort=-updated --limit 20
  portcullis sessions show 4f1c0a
  portcullis sessions end 4f1c0a --reason 'laptop stolen'
  portcullis sessions end --user alice --issuer main";

/// List sessions, show one, or end some.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Sessions {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one session with its tokens
    Show(Show),
    /// End one session, or all of a user
    End(End),
}

/// Which sessions to list.
#[derive(Args, Debug)]
struct List {
    /// Only of this issuer: its configured name or its `iss`
    #[arg(long)]
    issuer: Option<String>,
    /// Only of this user (`sub`)
    #[arg(long)]
    user: Option<String>,
    /// Only of the user of this name
    #[arg(long)]
    username: Option<String>,
    /// Only of this client
    #[arg(long)]
    client: Option<String>,
    /// Only opened from this session
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Only used last from this address
    #[arg(long)]
    address: Option<String>,
    /// Only of this type: login or sso
    #[arg(long = "type", value_name = "TYPE", value_parser = str::parse::<SessionType>)]
    kind: Option<SessionType>,
    /// Only in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only with this in id, username, address, user agent or domain; of several any
    #[arg(long, value_name = "TEXT")]
    keyword: Vec<String>,
    #[command(flatten)]
    times: Times,
    /// By what to sort: id, user, username, issuer, parent, domain, address, type, created, updated, expires,
    /// token_expires; with - before it, from the greatest to the least
    #[arg(long, value_name = "KEY", default_value = "-updated", allow_hyphen_values = true)]
    sort: String,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// When.
#[derive(Args, Debug)]
struct Times {
    /// Only first seen since then: seconds, a date, or a time back from now such as 1h
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    created_since: Option<When>,
    /// Only first seen before then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    created_until: Option<When>,
    /// Only last seen since then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    updated_since: Option<When>,
    /// Only last seen before then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    updated_until: Option<When>,
    /// Only expiring since then: seconds, a date, or a time from now
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    expires_since: Option<When>,
    /// Only expiring before then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    expires_until: Option<When>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum State {
    /// It goes on
    Active,
    /// It was ended
    Revoked,
    /// Its time is over
    Expired,
}

/// One session.
#[derive(Args, Debug)]
struct Show {
    /// The session's id
    id: String,
    /// The issuer, where several know the session
    #[arg(long)]
    issuer: Option<String>,
}

/// What to end.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true))]
struct End {
    /// The session's id
    #[arg(group = "target")]
    id: Option<String>,
    /// All sessions of this user
    #[arg(long, group = "target")]
    user: Option<String>,
    /// The issuer, where it cannot be told
    #[arg(long)]
    issuer: Option<String>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Sessions {
    /// Lists, shows or ends.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        match self.action {
            None => self.list.run(&Admin::new(&options.admin)?, options.json).await,
            Some(Action::Show(show)) => show.run(&Admin::new(&options.admin)?, options.json).await,
            Some(Action::End(end)) => end.run(options).await,
        }
    }
}

impl List {
    /// Asks page by page and prints.
    async fn run(&self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let (items, total) = self.collect(admin, SystemClock::shared().now()).await?;
        if json { output::json(&json!({ "items": items, "total": total })) } else { print(&items, &total) }
    }

    async fn collect(&self, admin: &Admin, now: Timestamp) -> Result<(Vec<Value>, Value), Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let left = self.limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let path = self.path(now, left.clamp(1, PAGE), cursor.take());
            let mut page = admin.json(Method::GET, &path, None).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = page.get("next").and_then(|next| Some(next.as_str()?.to_owned()));
            if cursor.is_none() || items.len() >= self.limit as usize {
                items.truncate(self.limit as usize);
                return Ok((items, page.get_mut("total").map(Value::take).unwrap_or_default()));
            }
        }
    }

    fn path(&self, now: Timestamp, limit: u32, cursor: Option<String>) -> String {
        let past = |when: Option<When>| when.map(|when| when.ago(now).to_string());
        let future = |when: Option<When>| when.map(|when| when.ahead(now).to_string());
        let state = self.state.and_then(|state| Some(state.to_possible_value()?.get_name().to_owned()));
        let pairs = [
            ("issuer", self.issuer.clone()),
            ("user", self.user.clone()),
            ("username", self.username.clone()),
            ("client", self.client.clone()),
            ("parent", self.parent.clone()),
            ("address", self.address.clone()),
            ("type", self.kind.map(|kind| kind.to_string())),
            ("state", state),
            ("created_since", past(self.times.created_since)),
            ("created_until", past(self.times.created_until)),
            ("updated_since", past(self.times.updated_since)),
            ("updated_until", past(self.times.updated_until)),
            ("expires_since", future(self.times.expires_since)),
            ("expires_until", future(self.times.expires_until)),
            ("sort", Some(self.sort.clone())),
            ("limit", Some(limit.to_string())),
            ("cursor", cursor),
        ];
        let words = self.keyword.iter().map(|word| ("q", Some(word.clone())));
        format!("/v1/sessions{}", query(&pairs.into_iter().chain(words).collect::<Vec<_>>()))
    }
}

fn print(items: &[Value], total: &Value) -> Result<(), Failure> {
    let headings = ["ID", "USER", "USERNAME", "ISSUER", "TYPE", "STATE", "CLIENT", "ADDRESS", "LAST SEEN", "EXPIRES"];
    let mut table = Table::new(headings);
    for item in items {
        let member = |name| output::member(item, name);
        table.row([
            member("id"),
            member("user"),
            member("username"),
            member("issuer"),
            member("type"),
            member("state"),
            member("client"),
            member("address"),
            output::moment(item, "updated_at"),
            output::moment(item, "expires_at"),
        ]);
    }
    if table.is_empty() {
        return output::line("no sessions");
    }
    output::line(&table.text())?;
    let all = total.as_u64().is_none_or(|total| total == items.len() as u64);
    if all { Ok(()) } else { output::line(&format!("{} of {}", items.len(), output::plain(total))) }
}

impl Show {
    /// Shows it. That there is no such session is a negative answer.
    async fn run(self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let path = format!("/v1/sessions/{}{}", encode(&self.id), query(&[("issuer", self.issuer)]));
        let reply = admin.call(Method::GET, &path, None).await?;
        if reply.status == StatusCode::NOT_FOUND {
            output::line(&format!("no session {}", output::printable(&self.id)))?;
            return Err(Failure::Negative);
        }
        let answer = reply.json()?;
        if json { output::json(&answer) } else { print_one(&answer) }
    }
}

/// A member a line, times as dates, then a table of the tokens.
fn print_one(session: &Value) -> Result<(), Failure> {
    let members = session
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !output::is_empty(value) && name.as_str() != "tokens");
    for (name, value) in members {
        let text = if name.ends_with("_at") { output::moment(session, name) } else { output::plain(value) };
        output::line(&format!("{name}: {text}"))?;
    }
    let mut table = Table::new(["TOKEN", "KIND", "STATE", "ISSUED", "EXPIRES"]);
    for token in session.get("tokens").and_then(Value::as_array).into_iter().flatten() {
        let member = |name| output::member(token, name);
        let (issued, expires) = (output::moment(token, "issued_at"), output::moment(token, "expires_at"));
        table.row([member("identity"), member("kind"), member("state"), issued, expires]);
    }
    if table.is_empty() { Ok(()) } else { output::line(&table.text()) }
}

impl End {
    /// Ends, and prints what came of it.
    async fn run(self, options: &Options) -> Result<(), Failure> {
        let path = self.path(self.waiting.parameters(options));
        let answer = self.waiting.admin(options)?.json(Method::DELETE, &path, None).await?;
        if options.json {
            output::json(&answer)?
        } else {
            output::line(&revoke::receipt(&answer))?
        }
        if self.waiting.for_all() { self.waiting.tell(&answer, options.json) } else { Ok(()) }
    }

    fn path(&self, [wait, timeout]: [(&'static str, Option<String>); 2]) -> String {
        let place = match (&self.id, &self.user) {
            (Some(id), _) => format!("/v1/sessions/{}", encode(id)),
            (None, user) => format!("/v1/users/{}/sessions", encode(user.as_deref().unwrap_or_default())),
        };
        let (issuer, reason) = (self.issuer.clone(), self.reason.clone());
        format!("{place}{}", query(&[("issuer", issuer), ("reason", reason), wait, timeout]))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sessions: Sessions,
    }

    fn parse(line: &str) -> Result<Sessions, clap::Error> {
        Line::try_parse_from(std::iter::once("sessions").chain(line.split_whitespace())).map(|line| line.sessions)
    }

    #[test]
    fn filters_go_into_the_query() {
        let line = "--user a/b --type sso --state revoked --keyword x --keyword y,z --created-since 10s --expires-until 5s \
                    --sort -created";
        let path = parse(line).unwrap().list.path(Timestamp::from_secs(100), 7, Some("c".into()));
        assert_eq!(
            path,
            "/v1/sessions?user=a%2Fb&type=sso&state=revoked&created_since=90&expires_until=105&sort=-created&limit=7\
             &cursor=c&q=x&q=y%2Cz"
        );
    }

    #[test]
    fn one_session_or_one_user_is_ended() {
        let path = |line: &str| match parse(line).unwrap().action {
            Some(Action::End(end)) => end.path([("wait", None), ("timeout", None)]),
            other => panic!("{other:?}"),
        };
        assert_eq!(path("end s/1 --issuer main --reason x"), "/v1/sessions/s%2F1?issuer=main&reason=x");
        assert_eq!(path("end --user alice"), "/v1/users/alice/sessions");
        for wrong in ["end", "end s1 --user alice", "show", "--user a end s1", "--type x", "--state x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
