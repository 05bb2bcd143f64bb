//! Refresh tokens, redeemed once: the rule is [`Redemption::judge`]; what it says is written only if what it judged is
//! still so, hence one of all replicas wins.

use crate::domain::{Timestamp, TokenDigest};
use crate::store::redemption::{Effect, Redemption};
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::commit::{Commit, Tries, Wait};
use crate::store::redis::sessions::keys::{REDEMPTIONS, SEALED};
use crate::store::redis::sessions::order::{time, written};
use crate::store::redis::sessions::page::{Listed, Page};
use crate::store::redis::sessions::put;
use crate::store::redis::sessions::put::HeldRedemption;
use crate::store::redis::sessions::records::corrupt;
use crate::store::{Claim, Claimed, StoreError};

/// How many answers are prolonged at once.
const PROLONG_ROWS: usize = 250;

async fn held(connection: &Connection, digest: TokenDigest) -> Result<HeldRedemption, StoreError> {
    let raw = connection.run(redis::cmd("HGET").arg(REDEMPTIONS).arg(digest.as_bytes())).await?;
    HeldRedemption::read(raw)
}

/// Takes a refresh token to be redeemed.
pub(super) async fn claim(connection: &Connection, wait: Wait, claim: &Claim) -> Result<Claimed, StoreError> {
    let mut tries = Tries::new();
    loop {
        let held = held(connection, claim.digest).await?;
        let (claimed, effect) = Redemption::judge(held.redemption.as_ref(), claim);
        let after = match (effect, &held.redemption) {
            (Effect::Take, _) => Redemption::claimed(claim),
            (Effect::Count, Some(held)) => Redemption { replays: held.replays + 1, ..held.clone() },
            (Effect::Count, None) | (Effect::Leave, _) => return Ok(claimed),
        };
        let mut commit = Commit::default();
        put::redeem(&mut commit, claim.digest, &held, Some(&after))?;
        if commit.run_safely(connection, wait).await? {
            return Ok(claimed);
        }
        tries.again().await?;
    }
}

/// Lets go of a refresh token that was claimed and not used.
pub(super) async fn release(connection: &Connection, wait: Wait, digest: TokenDigest) -> Result<(), StoreError> {
    let mut tries = Tries::new();
    loop {
        let held = held(connection, digest).await?;
        if held.redemption.as_ref().is_none_or(|redemption| redemption.answered) {
            return Ok(());
        }
        let mut commit = Commit::default();
        put::redeem(&mut commit, digest, &held, None)?;
        if commit.run_safely(connection, wait).await? {
            return Ok(());
        }
        tries.again().await?;
    }
}

/// Prolongs the grace of every sealed answer. Each moves out of the range that is read, so the end is reached.
pub(super) async fn prolong(connection: &Connection, until: Timestamp) -> Result<(), StoreError> {
    let mut tries = Tries::new();
    let max = [b"(", &written(&time(until))[..]].concat();
    loop {
        let mut commit = Commit::default();
        for (member, digest, held) in redemptions(connection, SEALED, &max, PROLONG_ROWS).await? {
            commit.relist(SEALED, Some(member), None);
            let longer = held.redemption.clone().map(|held| Redemption { grace_until: Some(until), ..held });
            put::redeem(&mut commit, digest, &held, longer.as_ref())?;
        }
        if commit.is_empty() {
            return Ok(());
        }
        if !commit.run(connection).await? {
            tries.again().await?;
        }
    }
}

/// The first redemptions of a sorted set of theirs, each with its member.
pub(super) async fn redemptions(
    connection: &Connection,
    key: &str,
    max: &[u8],
    limit: usize,
) -> Result<Vec<(Vec<u8>, TokenDigest, HeldRedemption)>, StoreError> {
    let page =
        Page { key, records: REDEMPTIONS, suffix_bytes: 32, min: b"-", max, descending: false, offset: 0, limit };
    let one = |Listed { member, raw }: Listed| {
        let digest = *member.last_chunk::<32>().ok_or_else(|| corrupt("a member without a digest"))?;
        Ok((member, TokenDigest::new(digest), HeldRedemption::read(raw)?))
    };
    page.read(connection).await?.into_iter().map(one).collect()
}
