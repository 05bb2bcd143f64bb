//! Refresh tokens, redeemed once: the rule is [`Redemption::judge`], asked inside the transaction that writes what it
//! says.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{query, query_scalar};

use crate::domain::{Timestamp, TokenDigest};
use crate::store::redemption::{Effect, Redemption};
use crate::store::sqlite::rows::{optional_time, seconds, time};
use crate::store::sqlite::sessions::rows::corrupt;
use crate::store::sqlite::transaction::Failure;
use crate::store::{BoxError, Claim, Claimed, Redeemed};

/// Takes a refresh token to be redeemed.
pub(in crate::store::sqlite) async fn claim(
    connection: &mut SqliteConnection,
    claim: &Claim,
) -> Result<Claimed, Failure> {
    const HELD: &str = "SELECT text, client, claimed_at, answered, grace_until, replays, sealed, expires_at \
        FROM redemptions WHERE digest = ?1";
    const COUNT: &str = "UPDATE redemptions SET replays = replays + 1 WHERE digest = ?1";
    let digest = &claim.digest.as_bytes()[..];
    let row = query(HELD).bind(digest).fetch_optional(&mut *connection).await?;
    let held = row.as_ref().map(redemption).transpose().map_err(corrupt)?;
    let (claimed, effect) = Redemption::judge(held.as_ref(), claim);
    match effect {
        Effect::Take => take(connection, claim).await?,
        Effect::Count => {
            query(COUNT).bind(digest).execute(connection).await?;
        }
        Effect::Leave => {}
    }
    Ok(claimed)
}

fn redemption(row: &SqliteRow) -> Result<Redemption, BoxError> {
    let digest = |index: usize| -> Result<Option<TokenDigest>, BoxError> {
        let bytes = row.try_get::<Option<&[u8]>, _>(index)?;
        Ok(bytes.map(TryInto::try_into).transpose()?.map(TokenDigest::new))
    };
    Ok(Redemption {
        text: digest(0)?,
        client: digest(1)?,
        claimed_at: time(row.try_get(2)?)?,
        answered: row.try_get(3)?,
        grace_until: optional_time(row, 4)?,
        replays: row.try_get(5)?,
        sealed: row.try_get::<Option<&[u8]>, _>(6)?.map(Into::into),
        expires_at: optional_time(row, 7)?,
    })
}

async fn take(connection: &mut SqliteConnection, claim: &Claim) -> Result<(), sqlx::Error> {
    const TAKE: &str = "INSERT OR REPLACE INTO redemptions \
        (digest, text, client, claimed_at, answered, replays, expires_at) VALUES (?1, ?2, ?3, ?4, FALSE, 0, ?5)";
    let taken = query(TAKE)
        .bind(&claim.digest.as_bytes()[..])
        .bind(&claim.text.as_bytes()[..])
        .bind(&claim.client.as_bytes()[..])
        .bind(seconds(claim.now))
        .bind(claim.expires_at.map(seconds));
    taken.execute(connection).await.map(|_| ())
}

/// Marks a refresh token as used up. One that was not claimed may be forgotten when it is known to have expired.
pub(super) async fn answered(
    connection: &mut SqliteConnection,
    redeemed: &Redeemed,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const ANSWERED: &str = "INSERT INTO redemptions \
        (digest, claimed_at, answered, grace_until, replays, sealed, expires_at) VALUES (?1, ?2, TRUE, ?3, 0, ?4, ?5) \
        ON CONFLICT DO UPDATE SET answered = TRUE, grace_until = excluded.grace_until, sealed = excluded.sealed";
    let digest = &redeemed.digest.as_bytes()[..];
    let known = query_scalar("SELECT max(expires_at) FROM tokens WHERE digest = ?1").bind(digest);
    let expires_at: Option<i64> = known.fetch_one(&mut *connection).await?;
    let answered = query(ANSWERED)
        .bind(digest)
        .bind(seconds(now))
        .bind(seconds(redeemed.grace_until))
        .bind(redeemed.sealed.as_deref())
        .bind(expires_at);
    answered.execute(connection).await.map(|_| ())
}

/// Lets go of a refresh token that was claimed and not used.
pub(in crate::store::sqlite) async fn release(
    connection: &mut SqliteConnection,
    digest: TokenDigest,
) -> Result<(), sqlx::Error> {
    let released = query("DELETE FROM redemptions WHERE digest = ?1 AND NOT answered").bind(&digest.as_bytes()[..]);
    released.execute(connection).await.map(|_| ())
}

/// Prolongs the grace of every sealed answer.
pub(in crate::store::sqlite) async fn prolong(
    connection: &mut SqliteConnection,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    const PROLONG: &str =
        "UPDATE redemptions SET grace_until = ?1 WHERE sealed IS NOT NULL AND ifnull(grace_until, 0) < ?1";
    query(PROLONG).bind(seconds(until)).execute(connection).await.map(|_| ())
}
