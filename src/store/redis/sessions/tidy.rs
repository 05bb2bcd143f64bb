//! Upkeep: what is over is forgotten, a small batch at a time, each as one. Replicas that tidy at once find less to do, and
//! count only what they did themselves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::domain::{Timestamp, TokenDigest};
use crate::store::StoreError;
use crate::store::redemption::Redemption;
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::commit::{Commit, Tries};
use crate::store::redis::sessions::keys::{REDEMPTIONS_OVER, SEALED, TOKENS, TOKENS_OVER, tokens_of};
use crate::store::redis::sessions::order::{Index, Range};
use crate::store::redis::sessions::page::{Held, Page, sessions};
use crate::store::redis::sessions::put;
use crate::store::redis::sessions::put::{HeldRedemption, HeldToken};
use crate::store::redis::sessions::records::corrupt;
use crate::store::redis::sessions::redeem::redemptions;
use crate::store::redis::sessions::{passwords, sweep};

/// How many of each kind one batch forgets, at most.
pub(super) const TIDY_ROWS: usize = if cfg!(test) { 5 } else { 250 };

/// Forgets what is over at `now`, and finishes what revocations mean for sessions.
pub(super) async fn tidy(connection: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let max = upto(now);
    let mut gone = 0;
    gone += redeemed(connection, SEALED, &max, |held| {
        held.redemption.clone().map(|redemption| Redemption { sealed: None, ..redemption })
    })
    .await?;
    gone += redeemed(connection, REDEMPTIONS_OVER, &max, |_| None).await?;
    gone += tokens(connection, &max).await?;
    gone += passwords::forget(connection, &max).await?;
    gone += forget_sessions(connection, now).await?;
    sweep::finish(connection, now).await?;
    Ok(gone)
}

/// The bound of what is over at `now`.
fn upto(now: Timestamp) -> Vec<u8> {
    Range::upto(Index::Over, now).max
}

async fn redeemed(
    connection: &Connection,
    key: &str,
    max: &[u8],
    after: impl Fn(&HeldRedemption) -> Option<Redemption> + Send,
) -> Result<u64, StoreError> {
    let (mut gone, mut tries) = (0, Tries::new());
    loop {
        let mut commit = Commit::default();
        let some = redemptions(connection, key, max, TIDY_ROWS).await?;
        for (member, digest, held) in &some {
            commit.relist(key, Some(member.clone()), None);
            put::redeem(&mut commit, *digest, held, after(held).as_ref())?;
        }
        if !commit.run(connection).await? {
            tries.again().await?;
            continue;
        }
        gone += some.len() as u64;
        if some.len() < TIDY_ROWS {
            return Ok(gone);
        }
    }
}

async fn tokens(connection: &Connection, max: &[u8]) -> Result<u64, StoreError> {
    let (mut gone, mut tries) = (0, Tries::new());
    let page = Page {
        key: TOKENS_OVER,
        records: TOKENS,
        suffix_bytes: 32,
        min: b"-",
        max,
        descending: false,
        offset: 0,
        limit: TIDY_ROWS,
    };
    loop {
        let listed = page.read(connection).await?;
        let count = listed.len();
        let mut commit = Commit::default();
        let mut tokens: HashMap<TokenDigest, (HeldToken, Vec<u64>)> = HashMap::new();
        for one in listed {
            let (session, digest) = session_and_digest(&one.member)?;
            let (_, sessions) = match tokens.entry(digest) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(held) => held.insert((HeldToken::read(one.raw)?, Vec::new())),
            };
            sessions.push(session);
            commit.relist(TOKENS_OVER, Some(one.member), None);
        }
        for (digest, (held, sessions)) in &tokens {
            let mut after = held.rows.clone();
            after.retain(|row| !sessions.contains(&row.session));
            put::token(&mut commit, *digest, held, &after)?;
        }
        if !commit.run(connection).await? {
            tries.again().await?;
            continue;
        }
        gone += count as u64;
        if count < TIDY_ROWS {
            return Ok(gone);
        }
    }
}

/// What a member of [`TOKENS_OVER`] ends with.
fn session_and_digest(member: &[u8]) -> Result<(u64, TokenDigest), StoreError> {
    let tail = member.last_chunk::<40>().and_then(|tail| tail.split_first_chunk::<8>());
    let (number, digest) = tail.ok_or_else(|| corrupt("a member without a token"))?;
    let digest: [u8; 32] = digest.try_into().map_err(corrupt)?;
    Ok((u64::from_be_bytes(*number), TokenDigest::new(digest)))
}

/// Forgets sessions that are over and have no token left. One that has is passed over, so that its tokens are known for
/// what they are.
async fn forget_sessions(connection: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let (mut gone, mut tries) = (0, Tries::new());
    let mut range = Range { index: Index::Over, min: b"-".to_vec(), max: upto(now) };
    loop {
        let (some, last) = sessions(connection, &Page::of(&range, TIDY_ROWS)).await?;
        let bare = without_tokens(connection, some).await?;
        let mut commit = Commit::default();
        bare.iter().for_each(|held| put::end(&mut commit, held));
        if !commit.run(connection).await? {
            tries.again().await?;
            continue;
        }
        gone += bare.len() as u64;
        match last {
            Some(last) => range = range.beyond(&last, false),
            None => return Ok(gone),
        }
    }
}

async fn without_tokens(connection: &Connection, some: Vec<Held>) -> Result<Vec<Held>, StoreError> {
    if some.is_empty() {
        return Ok(some);
    }
    let mut pipe = redis::pipe();
    some.iter().for_each(|held| {
        pipe.cmd("EXISTS").arg(tokens_of(held.number));
    });
    let has_tokens: Vec<bool> = connection.pipe(&pipe).await?;
    Ok(some.into_iter().zip(has_tokens).filter(|(_, has)| !has).map(|(held, _)| held).collect())
}
