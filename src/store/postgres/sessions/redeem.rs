//! Refresh tokens, redeemed once by whichever replica: the rule is [`Redemption::judge`], asked while the token's row is
//! locked. The first claim of a token adds its row, which only one can.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query, query_scalar};

use crate::domain::{Timestamp, TokenDigest};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{optional_time, seconds, time};
use crate::store::postgres::sessions::rows::{corrupt, digest};
use crate::store::redemption::{Effect, Redemption};
use crate::store::{BoxError, Claim, Claimed, Redeemed};

/// Takes a refresh token that nobody claimed before; whether that was so.
pub(super) async fn claim_first(connection: &mut PgConnection, claim: &Claim) -> Result<bool, sqlx::Error> {
    const FIRST: &str = "INSERT INTO portcullis.redemptions \
        (digest, text, client, claimed_at, answered, replays, expires_at) VALUES ($1, $2, $3, $4, FALSE, 0, $5) \
        ON CONFLICT (digest) DO NOTHING";
    Ok(write(FIRST, connection, claim).await? == 1)
}

/// Judges the claim of a token that was claimed before, or redeemed. `None` if it has been let go of meanwhile.
pub(super) async fn claim_again(connection: &mut PgConnection, claim: &Claim) -> Result<Option<Claimed>, Failure> {
    const HELD: &str = "SELECT text, client, claimed_at, answered, grace_until, replays, sealed, expires_at \
        FROM portcullis.redemptions WHERE digest = $1 FOR UPDATE";
    const TAKE: &str = "UPDATE portcullis.redemptions SET text = $2, client = $3, claimed_at = $4, answered = FALSE, \
        grace_until = NULL, replays = 0, sealed = NULL, expires_at = $5 WHERE digest = $1";
    const COUNT: &str = "UPDATE portcullis.redemptions SET replays = replays + 1 WHERE digest = $1";
    let digest = &claim.digest.as_bytes()[..];
    let Some(row) = query(HELD).bind(digest).fetch_optional(&mut *connection).await? else { return Ok(None) };
    let held = redemption(&row).map_err(corrupt)?;
    let (claimed, effect) = Redemption::judge(Some(&held), claim);
    match effect {
        Effect::Take => drop(write(TAKE, connection, claim).await?),
        Effect::Count => {
            query(COUNT).bind(digest).execute(connection).await?;
        }
        Effect::Leave => {}
    }
    Ok(Some(claimed))
}

async fn write(statement: &'static str, connection: &mut PgConnection, claim: &Claim) -> Result<u64, sqlx::Error> {
    let written = query(statement)
        .bind(&claim.digest.as_bytes()[..])
        .bind(&claim.text.as_bytes()[..])
        .bind(&claim.client.as_bytes()[..])
        .bind(seconds(claim.now))
        .bind(claim.expires_at.map(seconds));
    Ok(written.execute(connection).await?.rows_affected())
}

fn redemption(row: &PgRow) -> Result<Redemption, BoxError> {
    let optional_digest = |index: usize| -> Result<Option<TokenDigest>, BoxError> {
        row.try_get::<Option<&[u8]>, _>(index)?.map(digest).transpose()
    };
    Ok(Redemption {
        text: optional_digest(0)?,
        client: optional_digest(1)?,
        claimed_at: time(row.try_get(2)?)?,
        answered: row.try_get(3)?,
        grace_until: optional_time(row, 4)?,
        replays: row.try_get::<i64, _>(5)?.try_into()?,
        sealed: row.try_get::<Option<&[u8]>, _>(6)?.map(Into::into),
        expires_at: optional_time(row, 7)?,
    })
}

/// Marks a refresh token as used up. One that was not claimed may be forgotten when it is known to have expired.
pub(super) async fn answered(
    connection: &mut PgConnection,
    redeemed: &Redeemed,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const ANSWERED: &str = "INSERT INTO portcullis.redemptions \
        (digest, claimed_at, answered, grace_until, replays, sealed, expires_at) VALUES ($1, $2, TRUE, $3, 0, $4, $5) \
        ON CONFLICT (digest) DO UPDATE SET answered = TRUE, grace_until = excluded.grace_until, \
            sealed = excluded.sealed";
    let digest = &redeemed.digest.as_bytes()[..];
    let known = query_scalar("SELECT max(expires_at) FROM portcullis.tokens WHERE digest = $1").bind(digest);
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
pub(super) async fn release(connection: &mut PgConnection, digest: TokenDigest) -> Result<(), sqlx::Error> {
    const RELEASE: &str = "DELETE FROM portcullis.redemptions WHERE digest = $1 AND NOT answered";
    query(RELEASE).bind(&digest.as_bytes()[..]).execute(connection).await.map(|_| ())
}

/// Prolongs the grace of every sealed answer. Two replicas that start at once lock the rows in the same order.
pub(super) async fn prolong(connection: &mut PgConnection, until: Timestamp) -> Result<(), sqlx::Error> {
    const PROLONG: &str = "WITH sealed AS MATERIALIZED (SELECT digest FROM portcullis.redemptions \
            WHERE sealed IS NOT NULL AND coalesce(grace_until, 0) < $1 ORDER BY digest FOR UPDATE) \
        UPDATE portcullis.redemptions SET grace_until = $1 WHERE digest IN (SELECT digest FROM sealed)";
    query(PROLONG).bind(seconds(until)).execute(connection).await.map(|_| ())
}
