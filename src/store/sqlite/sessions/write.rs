//! What traffic and token endpoints tell, written: each account is joined with what is held by [`Session::learn`], and
//! rows are written only where that made a difference. Nothing here commits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use crate::domain::{Session, SessionKey, Timestamp};
use crate::store::accounts::{begin, by_session};
use crate::store::session_end::naming_session;
use crate::store::session_query::{fold, words_of};
use crate::store::sqlite::sessions::redeem;
use crate::store::sqlite::sessions::rows::{Numbered, numbers, session, session_columns, written, written_token};
use crate::store::sqlite::sessions::sweep::{Standing, standing};
use crate::store::sqlite::sessions::tidy::forget_agents;
use crate::store::sqlite::transaction::Failure;
use crate::store::{Learned, Lesson, Sighting};

/// Writes what one answer taught.
pub(in crate::store::sqlite) async fn learn(
    connection: &mut SqliteConnection,
    lesson: &Lesson,
) -> Result<Learned, Failure> {
    let (key, now) = (&lesson.session.key, lesson.session.updated_at);
    let told = tell(connection, vec![lesson.session.clone()]).await?;
    let Some(told) = told.get(key) else { return Ok(Learned::default()) };
    let family = Some(&*lesson.family);
    let tokens = lesson.tokens.iter().map(|token| written_token(token, told.number, family, now));
    see(connection, tokens.collect()).await?;
    if let Some(redeemed) = &lesson.redeemed {
        redeem::answered(connection, redeemed, now).await?;
    }
    let parent_ended = match &told.parent {
        Some(parent) => has_ended(connection, &key.issuer, parent, now).await?,
        None => false,
    };
    Ok(Learned { is_new: told.is_new, parent_ended })
}

/// Writes what requests told. Returns the sessions that were new, in the order in which they came.
pub(in crate::store::sqlite) async fn touch(
    connection: &mut SqliteConnection,
    sightings: &[Sighting],
) -> Result<Vec<SessionKey>, Failure> {
    let told = tell(connection, sightings.iter().map(|sighting| sighting.session.clone()).collect()).await?;
    let token = |sighting: &Sighting| {
        let number = told.get(&sighting.session.key)?.number;
        Some(written_token(sighting.token.as_ref()?, number, None, sighting.session.updated_at))
    };
    see(connection, sightings.iter().filter_map(token).collect()).await?;
    let mut new: Vec<_> = told.into_iter().filter(|(_, told)| told.is_new).collect();
    new.sort_by_key(|(_, told)| told.number);
    Ok(new.into_iter().map(|(key, _)| key).collect())
}

/// What became of an account.
struct Told {
    number: i64,
    is_new: bool,
    parent: Option<Box<str>>,
}

/// What has to be written.
#[derive(Default)]
struct Changes {
    new: Vec<Numbered>,
    /// Only its times moved: the common case, and the cheapest.
    moved: Vec<Numbered>,
    changed: Vec<Numbered>,
    /// Those whose words changed.
    reworded: HashSet<i64>,
    /// The user agents that were given up for another.
    former_agents: Vec<Box<str>>,
}

async fn tell(connection: &mut SqliteConnection, told: Vec<Session>) -> Result<HashMap<SessionKey, Told>, Failure> {
    let accounts = by_session(told);
    let mut held = held(connection, &accounts).await?;
    let mut last = last_number(connection).await?;
    let (mut changes, mut answer) = (Changes::default(), HashMap::with_capacity(accounts.len()));
    for (key, accounts) in accounts {
        let known = held.remove(&key);
        let is_new = known.is_none();
        let (number, parent) = match known {
            Some(known) => changes.join(known, accounts),
            None => {
                last += 1;
                changes.begin(last, key.clone(), accounts)
            }
        };
        answer.insert(key, Told { number, is_new, parent });
    }
    changes.end_the_new(connection).await?;
    changes.write(connection).await?;
    Ok(answer)
}

async fn held(
    connection: &mut SqliteConnection,
    accounts: &[(SessionKey, Vec<Session>)],
) -> Result<HashMap<SessionKey, Numbered>, Failure> {
    const HELD: &str = concat!(
        "SELECT ",
        session_columns!(),
        " FROM jsonb_each(?1) AS wanted CROSS JOIN sessions \
         ON sessions.id = wanted.value ->> 0 AND issuer = wanted.value ->> 1"
    );
    let keys: Value = accounts.iter().map(|(key, _)| json!([key.id, key.issuer])).collect();
    let rows = query(HELD).bind(keys.to_string()).fetch_all(connection).await?;
    let read = rows.iter().map(session).map(|held| held.map(|held| (held.session.key.clone(), held)));
    Ok(read.collect::<Result<_, _>>()?)
}

async fn last_number(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let last: Option<i64> = query_scalar("SELECT max(number) FROM sessions").fetch_one(connection).await?;
    Ok(last.unwrap_or_default())
}

impl Changes {
    /// Begins a session; its number and the session it was opened from.
    fn begin(&mut self, number: i64, key: SessionKey, accounts: Vec<Session>) -> (i64, Option<Box<str>>) {
        let session = begin(accounts).unwrap_or_else(|| Session::new(key, Timestamp::default()));
        let parent = session.parent.clone();
        self.new.push(Numbered { number, session });
        (number, parent)
    }

    /// Joins accounts with what is held; the session's number and the session it was opened from.
    fn join(&mut self, held: Numbered, accounts: Vec<Session>) -> (i64, Option<Box<str>>) {
        let Numbered { number, session: before } = held;
        let mut after = before.clone();
        accounts.into_iter().for_each(|account| after.learn(account));
        let parent = after.parent.clone();
        if words(&before) != words(&after) {
            self.reworded.insert(number);
        }
        if before.user_agent != after.user_agent {
            self.former_agents.extend(before.user_agent.clone());
        }
        let moved = Session {
            updated_at: after.updated_at,
            expires_at: after.expires_at,
            token_expires_at: after.token_expires_at,
            ..before.clone()
        };
        match () {
            () if after == before => {}
            () if after == moved => self.moved.push(Numbered { number, session: after }),
            () => self.changed.push(Numbered { number, session: after }),
        }
        (number, parent)
    }

    /// A session that is learned after a revocation that names it is ended from the first.
    async fn end_the_new(&mut self, connection: &mut SqliteConnection) -> Result<(), Failure> {
        let named = |new: &Numbered| naming_session(&new.session.key.issuer, &new.session.key.id);
        let Some(now) = self.new.iter().map(|new| new.session.updated_at).min() else { return Ok(()) };
        let standing = standing(connection, self.new.iter().filter_map(named).collect(), now).await?;
        for new in &mut self.new {
            new.session.ended = named(new).and_then(|selector| standing.end_of(&new.session, &[selector]));
        }
        Ok(())
    }

    async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        note_agents(connection, self.new.iter().chain(&self.changed)).await?;
        run(connection, INSERT, &self.new).await?;
        run(connection, MOVE, &self.moved).await?;
        run(connection, CHANGE, &self.changed).await?;
        forget_agents(connection, &self.former_agents).await?;
        self.write_words(connection).await
    }

    async fn write_words(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.reworded.is_empty() {
            forget_words(connection, &numbers(self.reworded.iter().copied())).await?;
        }
        let reworded = self.moved.iter().chain(&self.changed).filter(|held| self.reworded.contains(&held.number));
        let rows: Vec<Value> =
            reworded.chain(&self.new).map(|held| json!([held.number, words(&held.session)])).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let rows = Value::from(rows).to_string();
        query("INSERT INTO words (number, text) SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1) ORDER BY 1")
            .bind(&rows)
            .execute(&mut *connection)
            .await?;
        query("INSERT INTO grams (rowid, text) SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1) ORDER BY 1")
            .bind(&rows)
            .execute(connection)
            .await
            .map(|_| ())
    }
}

/// Forgets the words of these sessions. The index of letters must be told what it held.
pub(super) async fn forget_words(connection: &mut SqliteConnection, sessions: &str) -> Result<(), sqlx::Error> {
    const GRAMS: &str = "INSERT INTO grams (grams, rowid, text) \
        SELECT 'delete', number, text FROM words WHERE number IN (SELECT value FROM json_each(?1)) ORDER BY number";
    const WORDS: &str = "DELETE FROM words WHERE number IN (SELECT value FROM json_each(?1))";
    query(GRAMS).bind(sessions).execute(&mut *connection).await?;
    query(WORDS).bind(sessions).execute(connection).await.map(|_| ())
}

/// What keywords are looked for in. Folded text holds no control character, so none spans two fields.
fn words(session: &Session) -> String {
    words_of(session).into_iter().flatten().map(fold).collect::<Vec<_>>().join("\n")
}

async fn note_agents<'a>(
    connection: &mut SqliteConnection,
    sessions: impl Iterator<Item = &'a Numbered>,
) -> Result<(), sqlx::Error> {
    const NOTE: &str = "INSERT INTO agents (text, folded) SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1) WHERE TRUE \
        ON CONFLICT DO NOTHING";
    let agents: BTreeSet<&str> = sessions.filter_map(|told| told.session.user_agent.as_deref()).collect();
    if agents.is_empty() {
        return Ok(());
    }
    let agents: Value = agents.into_iter().map(|agent| json!([agent, fold(agent)])).collect();
    query(NOTE).bind(agents.to_string()).execute(connection).await.map(|_| ())
}

const INSERT: &str = "INSERT INTO sessions (number, id, issuer, user, username, parent, domain, client, address, agent, \
        kind, created_at, updated_at, expires_at, token_expires_at, ended_at, ended_by, end_reason, revocation) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
        value ->> 8, (SELECT number FROM agents WHERE text = value ->> 9), value ->> 10, value ->> 11, value ->> 12, \
        value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17, value ->> 18 FROM jsonb_each(?1)";
const MOVE: &str = "UPDATE sessions SET updated_at = value ->> 12, expires_at = value ->> 13, \
        token_expires_at = value ->> 14 \
    FROM jsonb_each(?1) WHERE number = value ->> 0";
const CHANGE: &str = "UPDATE sessions SET user = value ->> 3, username = value ->> 4, parent = value ->> 5, \
        domain = value ->> 6, client = value ->> 7, address = value ->> 8, \
        agent = (SELECT number FROM agents WHERE text = value ->> 9), kind = value ->> 10, created_at = value ->> 11, \
        updated_at = value ->> 12, expires_at = value ->> 13, token_expires_at = value ->> 14 \
    FROM jsonb_each(?1) WHERE sessions.number = value ->> 0";

async fn run(connection: &mut SqliteConnection, statement: &'static str, rows: &[Numbered]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Value = rows.iter().map(written).collect();
    query(statement).bind(rows.to_string()).execute(connection).await.map(|_| ())
}

/// Writes tokens; one that is held already is written anew only if this account knows more.
async fn see(connection: &mut SqliteConnection, tokens: Vec<Value>) -> Result<(), sqlx::Error> {
    const SEE: &str = "INSERT INTO tokens (digest, session, family, kind, token_id, issued_at, expires_at, seen_at, generation) \
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
            value ->> 7, value ->> 8 FROM jsonb_each(?1) WHERE TRUE \
        ON CONFLICT DO UPDATE SET family = ifnull(family, excluded.family), \
            token_id = ifnull(token_id, excluded.token_id), issued_at = ifnull(issued_at, excluded.issued_at), \
            expires_at = nullif(max(ifnull(expires_at, -1), ifnull(excluded.expires_at, -1)), -1), \
            seen_at = max(seen_at, excluded.seen_at) \
        WHERE (family IS NULL AND excluded.family IS NOT NULL) OR (token_id IS NULL AND excluded.token_id IS NOT NULL) \
            OR (issued_at IS NULL AND excluded.issued_at IS NOT NULL) \
            OR ifnull(expires_at, -1) < ifnull(excluded.expires_at, -1) \
            OR (expires_at IS NULL AND seen_at < excluded.seen_at)";
    if tokens.is_empty() {
        return Ok(());
    }
    query(SEE).bind(Value::from(tokens).to_string()).execute(connection).await.map(|_| ())
}

/// Whether a session has been ended, known or not.
async fn has_ended(
    connection: &mut SqliteConnection,
    issuer: &Arc<str>,
    id: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    const ENDED: &str = "SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND issuer = ?2 AND ended_at IS NOT NULL)";
    if query_scalar::<_, bool>(ENDED).bind(id).bind(&**issuer).fetch_one(&mut *connection).await? {
        return Ok(true);
    }
    let Some(named) = naming_session(issuer, id) else { return Ok(false) };
    let standing: Standing = standing(connection, vec![named.clone()], now).await?;
    let key = SessionKey { issuer: issuer.clone(), id: id.into() };
    Ok(standing.end_of(&Session::new(key, now), &[named]).is_some())
}
