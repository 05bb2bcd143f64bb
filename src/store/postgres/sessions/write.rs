//! What traffic and token endpoints tell, written: each account is joined with what is held by [`Session::learn`], and
//! rows are written only where that made a difference. Nothing here commits.
//!
//! Replicas write at once. Each locks the rows that are held, in the order of their keys, then adds those that are not, in
//! that order too; so none waits for one that waits for it. Where another adds the same session first, the whole is to be
//! done anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{Row, query, query_scalar};

use crate::domain::{Session, SessionKey, Timestamp};
use crate::store::accounts::{begin, by_session};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::sessions::redeem;
use crate::store::postgres::sessions::rows::{Numbered, SessionArrays, corrupt, session, session_columns, session_key};
use crate::store::postgres::sessions::sweep::standing;
use crate::store::postgres::sessions::text::stored;
use crate::store::postgres::sessions::tokens::Tokens;
use crate::store::session_end::naming_session;
use crate::store::session_query::{fold, words_of};
use crate::store::{Lesson, Sighting};

/// What became of the accounts of a session.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) number: i64,
    pub(super) is_new: bool,
    /// The session it was opened from.
    pub(super) parent: Option<Box<str>>,
}

/// What became of each session; `None` if another replica was faster with one.
type Outcome = Option<HashMap<SessionKey, Told>>;

/// Writes what one answer taught.
pub(super) async fn learn(connection: &mut PgConnection, lesson: &Lesson) -> Result<Option<Told>, Failure> {
    let (key, now) = (&lesson.session.key, lesson.session.updated_at);
    let told = tell(connection, vec![lesson.session.clone()]).await?;
    let Some(told) = told.and_then(|mut told| told.remove(key)) else { return Ok(None) };
    let mut tokens = Tokens::default();
    lesson.tokens.iter().for_each(|token| tokens.add(told.number, token.clone(), Some(&lesson.family), now));
    tokens.write(connection).await?;
    if let Some(redeemed) = &lesson.redeemed {
        redeem::answered(connection, redeemed, now).await?;
    }
    Ok(Some(told))
}

/// Writes what requests told. Returns the sessions that were new, in the order in which they came.
pub(super) async fn touch(
    connection: &mut PgConnection,
    sightings: &[Sighting],
) -> Result<Option<Vec<SessionKey>>, Failure> {
    let sessions = sightings.iter().map(|sighting| sighting.session.clone()).collect();
    let Some(told) = tell(connection, sessions).await? else { return Ok(None) };
    let mut tokens = Tokens::default();
    for Sighting { session, token } in sightings {
        if let (Some(token), Some(told)) = (token, told.get(&session.key)) {
            tokens.add(told.number, token.clone(), None, session.updated_at);
        }
    }
    tokens.write(connection).await?;
    let mut new: Vec<_> = told.into_iter().filter(|(_, told)| told.is_new).collect();
    new.sort_by_key(|(_, told)| told.number);
    Ok(Some(new.into_iter().map(|(key, _)| key).collect()))
}

/// What has to be written.
#[derive(Default)]
struct Changes {
    /// Without a number yet.
    new: Vec<Session>,
    /// Only its times moved: the common case, and the cheapest.
    moved: Vec<Numbered>,
    changed: Vec<Numbered>,
    /// Those whose words changed.
    reworded: HashSet<i64>,
}

async fn tell(connection: &mut PgConnection, told: Vec<Session>) -> Result<Outcome, Failure> {
    let accounts = by_session(told);
    let mut held = held(connection, &accounts).await?;
    let (mut changes, mut answer) = (Changes::default(), HashMap::with_capacity(accounts.len()));
    for (key, accounts) in accounts {
        match held.remove(&key) {
            Some(held) => drop(answer.insert(key, changes.join(held, accounts))),
            None => changes.new.extend(begin(accounts)),
        }
    }
    let added = add(connection, &changes.new).await?;
    if added.len() < changes.new.len() {
        return Ok(None);
    }
    changes.write(connection, &added).await?;
    for (key, number) in added {
        let parent = changes.new.iter().find(|new| new.key == key).and_then(|new| new.parent.clone());
        answer.insert(key, Told { number, is_new: true, parent });
    }
    Ok(Some(answer))
}

/// What is held of these sessions, locked.
async fn held(
    connection: &mut PgConnection,
    accounts: &[(SessionKey, Vec<Session>)],
) -> Result<HashMap<SessionKey, Numbered>, Failure> {
    const HELD: &str = concat!(
        "SELECT ",
        session_columns!(),
        " FROM unnest($1::text[], $2::text[]) AS wanted (id, issuer) JOIN portcullis.sessions \
         ON sessions.id = wanted.id AND sessions.issuer = wanted.issuer \
         ORDER BY sessions.id, sessions.issuer FOR NO KEY UPDATE OF sessions"
    );
    let ids: Vec<_> = accounts.iter().map(|(key, _)| stored(&key.id)).collect();
    let issuers: Vec<_> = accounts.iter().map(|(key, _)| stored(&key.issuer)).collect();
    let rows = query(HELD).bind(ids).bind(issuers).fetch_all(connection).await?;
    let read = rows.iter().map(session).map(|held| held.map(|held| (held.session.key.clone(), held)));
    Ok(read.collect::<Result<_, _>>()?)
}

/// Adds sessions, numbered in their order; those that another replica added meanwhile are left out.
async fn add(connection: &mut PgConnection, new: &[Session]) -> Result<HashMap<SessionKey, i64>, Failure> {
    const ADD: &str = "INSERT INTO portcullis.sessions (number, id, issuer, sub, username, parent, domain, client, \
            address, user_agent, kind, created_at, updated_at, expires_at, token_expires_at) \
        SELECT * FROM (SELECT nextval('portcullis.session_numbers'), told.* \
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
                $9::text[], $10::smallint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[]) \
            AS told (id, issuer)) AS numbered ORDER BY id COLLATE \"C\", issuer COLLATE \"C\" \
        ON CONFLICT (id, issuer) DO NOTHING RETURNING number, id, issuer";
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let mut arrays = SessionArrays::default();
    new.iter().for_each(|session| arrays.push(0, session));
    let added = query(ADD).bind(arrays.ids).bind(arrays.issuers).bind(arrays.subs).bind(arrays.usernames);
    let added = added.bind(arrays.parents).bind(arrays.domains).bind(arrays.clients).bind(arrays.addresses);
    let added = added.bind(arrays.user_agents).bind(arrays.kinds).bind(arrays.created_at).bind(arrays.updated_at);
    let added = added.bind(arrays.expires_at).bind(arrays.token_expires_at).fetch_all(connection).await?;
    let read = added.iter().map(|row| Ok((session_key(row, 1)?, row.try_get(0)?)));
    Ok(read.collect::<Result<_, sqlx::Error>>().map_err(corrupt)?)
}

impl Changes {
    /// Joins accounts with what is held.
    fn join(&mut self, held: Numbered, accounts: Vec<Session>) -> Told {
        let Numbered { number, session: before } = held;
        let mut after = before.clone();
        accounts.into_iter().for_each(|account| after.learn(account));
        let told = Told { number, is_new: false, parent: after.parent.clone() };
        if words(&before) != words(&after) {
            self.reworded.insert(number);
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
        told
    }

    async fn write(&self, connection: &mut PgConnection, added: &HashMap<SessionKey, i64>) -> Result<(), sqlx::Error> {
        self.write_moved(connection).await?;
        self.write_changed(connection).await?;
        let reworded = self.moved.iter().chain(&self.changed).filter(|held| self.reworded.contains(&held.number));
        let reworded = reworded.map(|held| (held.number, words(&held.session)));
        let new = self.new.iter().filter_map(|new| Some((*added.get(&new.key)?, words(new))));
        write_words(connection, reworded.chain(new).unzip()).await
    }

    async fn write_moved(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        const MOVE: &str = "UPDATE portcullis.sessions SET updated_at = told.updated_at, expires_at = told.expires_at, \
                token_expires_at = told.token_expires_at \
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) \
                AS told (number, updated_at, expires_at, token_expires_at) WHERE sessions.number = told.number";
        if self.moved.is_empty() {
            return Ok(());
        }
        let SessionArrays { numbers, updated_at, expires_at, token_expires_at, .. } = self.moved.iter().collect();
        let moved = query(MOVE).bind(numbers).bind(updated_at).bind(expires_at).bind(token_expires_at);
        moved.execute(connection).await.map(|_| ())
    }

    async fn write_changed(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        const CHANGE: &str = "UPDATE portcullis.sessions SET sub = told.sub, username = told.username, \
                parent = told.parent, domain = told.domain, client = told.client, address = told.address, \
                user_agent = told.user_agent, kind = told.kind, created_at = told.created_at, \
                updated_at = told.updated_at, expires_at = told.expires_at, token_expires_at = told.token_expires_at \
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
                    $8::text[], $9::smallint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
                AS told (number, sub, username, parent, domain, client, address, user_agent, kind, created_at, \
                    updated_at, expires_at, token_expires_at) WHERE sessions.number = told.number";
        if self.changed.is_empty() {
            return Ok(());
        }
        let arrays: SessionArrays = self.changed.iter().collect();
        let changed = query(CHANGE).bind(arrays.numbers).bind(arrays.subs).bind(arrays.usernames).bind(arrays.parents);
        let changed = changed.bind(arrays.domains).bind(arrays.clients).bind(arrays.addresses);
        let changed = changed.bind(arrays.user_agents).bind(arrays.kinds).bind(arrays.created_at);
        let changed = changed.bind(arrays.updated_at).bind(arrays.expires_at).bind(arrays.token_expires_at);
        changed.execute(connection).await.map(|_| ())
    }
}

async fn write_words(
    connection: &mut PgConnection,
    (numbers, texts): (Vec<i64>, Vec<String>),
) -> Result<(), sqlx::Error> {
    const WORDS: &str = "INSERT INTO portcullis.words (number, text) SELECT * FROM unnest($1::bigint[], $2::text[]) \
        ON CONFLICT (number) DO UPDATE SET text = excluded.text";
    if numbers.is_empty() {
        return Ok(());
    }
    query(WORDS).bind(numbers).bind(texts).execute(connection).await.map(|_| ())
}

/// What keywords are looked for in. Folded text holds no control character, so none spans two fields, and NUL is none of
/// its letters.
fn words(session: &Session) -> String {
    let texts = words_of(session).into_iter().flatten().chain(session.user_agent.as_deref());
    texts.map(fold).collect::<Vec<_>>().join("\n")
}

/// Whether a session has been ended, known or not.
pub(super) async fn has_ended(
    connection: &mut PgConnection,
    issuer: &Arc<str>,
    id: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    const ENDED: &str =
        "SELECT EXISTS (SELECT FROM portcullis.sessions WHERE id = $1 AND issuer = $2 AND ended_at IS NOT NULL)";
    if query_scalar(ENDED).bind(stored(id)).bind(stored(issuer)).fetch_one(&mut *connection).await? {
        return Ok(true);
    }
    let Some(named) = naming_session(issuer, id) else { return Ok(false) };
    let standing = standing(connection, vec![named.clone()], now).await?;
    let key = SessionKey { issuer: issuer.clone(), id: id.into() };
    Ok(standing.end_of(&Session::new(key, now), &[named]).is_some())
}
