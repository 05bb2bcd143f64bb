//! What traffic and token endpoints tell, written: each account is joined with what is held by [`Session::learn`], here,
//! and written if nobody else was faster. A round trip reads, another writes; new sessions cost one more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::domain::{SeenToken, Session, SessionKey, Timestamp, TokenDigest};
use crate::store::accounts::by_session;
use crate::store::redemption::Redemption;
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::commit::{Commit, Tries, Wait};
use crate::store::redis::sessions::keys::{LAST_NUMBER, REDEMPTIONS, TOKENS};
use crate::store::redis::sessions::page::{Found, Held, find, found, look_up};
use crate::store::redis::sessions::put;
use crate::store::redis::sessions::put::{HeldRedemption, HeldToken};
use crate::store::redis::sessions::records::TokenRow;
use crate::store::redis::sessions::standing::{Standing, standing};
use crate::store::session_end::naming_session;
use crate::store::{Learned, Lesson, Redeemed, Sighting, StoreError};

/// Writes what one answer taught.
pub(super) async fn learn(connection: &Connection, wait: Wait, lesson: Lesson) -> Result<Learned, StoreError> {
    let Lesson { session, family, tokens, redeemed } = lesson;
    let (key, now) = (session.key.clone(), session.updated_at);
    let of = |token| Account { session: key.clone(), family: Some(family.clone()), token, seen_at: now };
    let tokens = tokens.into_iter().map(of).collect();
    let told = Told { sessions: by_session(vec![session]), tokens, redeemed, now };
    let Some(outcome) = write(connection, wait, &told).await?.pop() else { return Ok(Learned::default()) };
    // Asked afterwards: whoever ends the parent from now on finds this session among its descendants.
    let parent_ended = match &outcome.parent {
        Some(parent) => has_ended(connection, &key.issuer, parent, now).await?,
        None => false,
    };
    Ok(Learned { is_new: outcome.is_new, parent_ended })
}

/// Writes what requests told. Returns the sessions that were new, in the order in which they came.
pub(super) async fn touch(
    connection: &Connection,
    sightings: Vec<Sighting>,
) -> Result<impl Iterator<Item = SessionKey>, StoreError> {
    let now = sightings.iter().map(|sighting| sighting.session.updated_at).min().unwrap_or_default();
    let (mut sessions, mut tokens) = (Vec::with_capacity(sightings.len()), Vec::new());
    for Sighting { session, token } in sightings {
        let account =
            |token| Account { session: session.key.clone(), family: None, token, seen_at: session.updated_at };
        tokens.extend(token.map(account));
        sessions.push(session);
    }
    let told = Told { sessions: by_session(sessions), tokens, redeemed: None, now };
    let outcomes = write(connection, None, &told).await?;
    let new = told.sessions.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.is_new);
    Ok(new.map(|((key, _), _)| key))
}

/// What is to be written.
struct Told {
    /// See [`by_session`].
    sessions: Vec<(SessionKey, Vec<Session>)>,
    tokens: Vec<Account>,
    redeemed: Option<Redeemed>,
    now: Timestamp,
}

/// A token as it was seen in a session.
struct Account {
    session: SessionKey,
    family: Option<Box<str>>,
    token: SeenToken,
    seen_at: Timestamp,
}

/// What became of a session.
struct Outcome {
    is_new: bool,
    parent: Option<Box<str>>,
}

async fn write(connection: &Connection, wait: Wait, told: &Told) -> Result<Vec<Outcome>, StoreError> {
    if told.sessions.is_empty() {
        return Ok(Vec::new());
    }
    let mut tries = Tries::new();
    let mut numbers = Numbers::default();
    loop {
        let moment = Moment::read(connection, told).await?;
        let new = moment.sessions.iter().filter(|held| held.is_none()).count();
        numbers.provide(connection, new as u64).await?;
        let mut draft = Draft { moment, numbers, of: HashMap::new(), commit: Commit::default() };
        let outcomes = draft.sessions(connection, told).await?;
        draft.tokens(told)?;
        draft.redeemed(told)?;
        if draft.commit.run_safely(connection, wait).await? {
            return Ok(outcomes);
        }
        tries.again().await?;
    }
}

/// Numbers that were taken for new sessions and are not used yet. They are in the order in which sessions were learned, as
/// far as that can be said of several replicas.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    next: u64,
    left: u64,
}

impl Numbers {
    async fn provide(&mut self, connection: &Connection, wanted: u64) -> Result<(), StoreError> {
        if self.left < wanted {
            let last: u64 = connection.run(redis::cmd("INCRBY").arg(LAST_NUMBER).arg(wanted)).await?;
            *self = Self { next: last - wanted + 1, left: wanted };
        }
        Ok(())
    }

    const fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.left = self.left.saturating_sub(1);
        number
    }
}

/// What is held of what is told.
struct Moment {
    sessions: Vec<Option<Held>>,
    tokens: HashMap<TokenDigest, HeldToken>,
    redemption: HeldRedemption,
}

impl Moment {
    async fn read(connection: &Connection, told: &Told) -> Result<Self, StoreError> {
        let redeemed = told.redeemed.as_ref().map(|redeemed| redeemed.digest);
        let mut digests: Vec<_> = told.tokens.iter().map(|account| account.token.digest).chain(redeemed).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut pipe = redis::pipe();
        pipe.add_command(look_up(told.sessions.iter().map(|(key, _)| key)));
        pipe.add_command(fields(TOKENS, &digests));
        pipe.add_command(fields(REDEMPTIONS, redeemed.as_slice()));
        type Raw = Vec<Option<Vec<u8>>>;
        let (sessions, tokens, redemption): (Found, Raw, Raw) = connection.pipe(&pipe).await?;
        let tokens = digests.into_iter().zip(tokens).map(|(digest, raw)| Ok((digest, HeldToken::read(raw)?)));
        Ok(Self {
            sessions: found(sessions)?,
            tokens: tokens.collect::<Result<_, StoreError>>()?,
            redemption: HeldRedemption::read(redemption.into_iter().next().flatten())?,
        })
    }
}

/// Reads the fields of some digests; of a field that is none if there are none, for the command wants one.
fn fields(key: &str, digests: &[TokenDigest]) -> redis::Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(key);
    digests.iter().for_each(|digest| {
        command.arg(digest.as_bytes());
    });
    if digests.is_empty() {
        command.arg("");
    }
    command
}

/// What will be written over a moment.
struct Draft {
    moment: Moment,
    numbers: Numbers,
    /// The number of each session.
    of: HashMap<SessionKey, u64>,
    commit: Commit,
}

impl Draft {
    async fn sessions(&mut self, connection: &Connection, told: &Told) -> Result<Vec<Outcome>, StoreError> {
        let held = std::mem::take(&mut self.moment.sessions);
        let new = told.sessions.iter().zip(&held).filter(|(_, held)| held.is_none());
        let named = new.filter_map(|((key, _), _)| naming_session(&key.issuer, &key.id)).collect();
        let standing = standing(connection, named, told.now).await?;
        standing.guard(&mut self.commit);
        let mut outcomes = Vec::with_capacity(held.len());
        for ((key, accounts), held) in told.sessions.iter().zip(held) {
            let is_new = held.is_none();
            let (number, after) = match held {
                Some(held) => self.join(held, accounts)?,
                None => self.begin(key, accounts, &standing)?,
            };
            self.of.insert(key.clone(), number);
            outcomes.push(Outcome { is_new, parent: after.parent });
        }
        Ok(outcomes)
    }

    fn join(&mut self, held: Held, accounts: &[Session]) -> Result<(u64, Session), StoreError> {
        let mut after = held.session.clone();
        accounts.iter().cloned().for_each(|account| after.learn(account));
        put::change(&mut self.commit, &held, &after)?;
        Ok((held.number, after))
    }

    /// A session that is learned after a revocation that names it is ended from the first.
    fn begin(
        &mut self,
        key: &SessionKey,
        accounts: &[Session],
        standing: &Standing,
    ) -> Result<(u64, Session), StoreError> {
        let number = self.numbers.take();
        let mut accounts = accounts.iter().cloned();
        let first = accounts.next().unwrap_or_else(|| Session::new(key.clone(), Timestamp::default()));
        let mut session = Session { ended: None, ..first };
        accounts.for_each(|account| session.learn(account));
        let named: Vec<String> = naming_session(&key.issuer, &key.id).into_iter().collect();
        session.ended = standing.end_of(&session, &named);
        put::begin(&mut self.commit, number, &session)?;
        Ok((number, session))
    }

    fn tokens(&mut self, told: &Told) -> Result<(), StoreError> {
        let mut after: HashMap<TokenDigest, Vec<TokenRow>> = HashMap::new();
        for Account { session, family, token, seen_at } in &told.tokens {
            let Some(number) = self.of.get(session) else { continue };
            let rows = match after.entry(token.digest) {
                Entry::Occupied(rows) => rows.into_mut(),
                Entry::Vacant(rows) => {
                    let held = self.moment.tokens.get(&token.digest);
                    rows.insert(held.map(|held| held.rows.clone()).unwrap_or_default())
                }
            };
            let row = TokenRow::new(*number, token.clone(), family.clone(), *seen_at);
            match rows.iter_mut().find(|held| held.session == *number) {
                Some(held) => held.learn(row),
                None => rows.push(row),
            }
        }
        for (digest, rows) in after {
            let held = self.moment.tokens.entry(digest).or_default();
            put::token(&mut self.commit, digest, held, &rows)?;
            held.rows = rows;
        }
        Ok(())
    }

    /// Marks a refresh token as used up. One that was not claimed may be forgotten when it is known to have expired.
    fn redeemed(&mut self, told: &Told) -> Result<(), StoreError> {
        let Some(Redeemed { digest, sealed, grace_until }) = &told.redeemed else { return Ok(()) };
        let held = &self.moment.redemption;
        let before = held.redemption.clone().unwrap_or_else(|| {
            let rows = self.moment.tokens.get(digest).into_iter().flat_map(|held| &held.rows);
            Redemption::unclaimed(told.now, rows.filter_map(|row| row.expires_at).max())
        });
        let after = Redemption { answered: true, sealed: sealed.clone(), grace_until: Some(*grace_until), ..before };
        put::redeem(&mut self.commit, *digest, held, Some(&after))
    }
}

/// Whether a session has been ended, known or not.
async fn has_ended(connection: &Connection, issuer: &Arc<str>, id: &str, now: Timestamp) -> Result<bool, StoreError> {
    let key = SessionKey { issuer: issuer.clone(), id: id.into() };
    if find(connection, &key).await?.is_some_and(|held| held.session.ended.is_some()) {
        return Ok(true);
    }
    let Some(named) = naming_session(issuer, id) else { return Ok(false) };
    let standing = standing(connection, vec![named.clone()], now).await?;
    Ok(standing.end_of(&Session::new(key, now), &[named]).is_some())
}
