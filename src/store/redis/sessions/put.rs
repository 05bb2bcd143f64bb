//! What a changed record brings with it: the comparison with what was read, and its places in the sorted sets.

use crate::domain::{Session, TokenDigest};
use crate::store::StoreError;
use crate::store::redemption::Redemption;
use crate::store::redis::sessions::commit::Commit;
use crate::store::redis::sessions::keys::{
    NUMBERS, REDEMPTIONS, REDEMPTIONS_OVER, SEALED, SESSIONS, TOKENS, TOKENS_OVER, tokens_of,
};
use crate::store::redis::sessions::order::{Index, place, time, written};
use crate::store::redis::sessions::page::{Held, written_key};
use crate::store::redis::sessions::records::{SessionRow, TokenRow, redemption, write, write_redemption};
use crate::store::session_query::SortValue;

/// A session that nobody knew, under a number of its own.
pub(super) fn begin(commit: &mut Commit, number: u64, session: &Session) -> Result<(), StoreError> {
    let (key, field) = (written_key(&session.key), number.to_be_bytes());
    commit.only_if(NUMBERS, key.clone(), None);
    commit.keep(NUMBERS, key, field.to_vec());
    commit.keep(SESSIONS, field, write(&SessionRow::from(session))?);
    Index::ALL.into_iter().for_each(|index| commit.relist(index.key(), None, index.member(session, number)));
    Ok(())
}

/// A session that is held, as it is now.
pub(super) fn change(commit: &mut Commit, held: &Held, after: &Session) -> Result<(), StoreError> {
    let field = held.number.to_be_bytes();
    commit.only_if(SESSIONS, field, Some(&held.raw));
    if held.session == *after {
        return Ok(());
    }
    commit.keep(SESSIONS, field, write(&SessionRow::from(after))?);
    for index in Index::ALL {
        let member = |session| index.member(session, held.number);
        commit.relist(index.key(), member(&held.session), member(after));
    }
    Ok(())
}

/// A session that goes, if it has no token.
pub(super) fn end(commit: &mut Commit, held: &Held) {
    let field = held.number.to_be_bytes();
    commit.only_if(SESSIONS, field, Some(&held.raw));
    commit.only_without(tokens_of(held.number));
    commit.forget(SESSIONS, field);
    commit.forget(NUMBERS, written_key(&held.session.key));
    for index in Index::ALL {
        commit.relist(index.key(), index.member(&held.session, held.number), None);
    }
}

/// A token as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldToken {
    pub(super) raw: Option<Vec<u8>>,
    pub(super) rows: Vec<TokenRow>,
}

impl HeldToken {
    pub(super) fn read(raw: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let rows = raw.as_deref().map(super::records::read).transpose()?.unwrap_or_default();
        Ok(Self { raw, rows })
    }
}

/// A token as it is now; without rows, it goes.
pub(super) fn token(
    commit: &mut Commit,
    digest: TokenDigest,
    held: &HeldToken,
    after: &[TokenRow],
) -> Result<(), StoreError> {
    let field = digest.as_bytes();
    commit.only_if(TOKENS, *field, held.raw.as_deref());
    if held.rows == after {
        return Ok(());
    }
    match after {
        [] => commit.forget(TOKENS, *field),
        rows => commit.keep(TOKENS, *field, write(&rows)?),
    }
    let of = |rows: &[TokenRow], session| rows.iter().find(|row| row.session == session).cloned();
    let gone = held.rows.iter().filter(|row| of(after, row.session).is_none());
    for TokenRow { session, .. } in gone.chain(after) {
        let (before, after) = (of(&held.rows, *session), of(after, *session));
        let over = |row: &TokenRow| token_over(row, digest);
        commit.relist(TOKENS_OVER, before.as_ref().map(over), after.as_ref().map(over));
        let issued = |row: &TokenRow| token_place(row, digest);
        commit.relist(&tokens_of(*session), before.as_ref().map(issued), after.as_ref().map(issued));
    }
    Ok(())
}

/// Where a token stands among those that will be over: by time, its session's number, its digest.
fn token_over(row: &TokenRow, digest: TokenDigest) -> Vec<u8> {
    let mut member = place(&time(row.over()), row.session);
    member.extend(digest.as_bytes());
    member
}

/// Where a token stands among those of its session.
pub(super) fn token_place(row: &TokenRow, digest: TokenDigest) -> Vec<u8> {
    let mut member = written(&SortValue::Number(row.issued_at.map(|at| at.as_secs())));
    member.extend(digest.as_bytes());
    member
}

/// A redemption as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldRedemption {
    raw: Option<Vec<u8>>,
    pub(super) redemption: Option<Redemption>,
}

impl HeldRedemption {
    pub(super) fn read(raw: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let redemption = raw.as_deref().map(redemption).transpose()?;
        Ok(Self { raw, redemption })
    }
}

/// A redemption as it is now; `None` and it goes.
pub(super) fn redeem(
    commit: &mut Commit,
    digest: TokenDigest,
    held: &HeldRedemption,
    after: Option<&Redemption>,
) -> Result<(), StoreError> {
    let field = digest.as_bytes();
    commit.only_if(REDEMPTIONS, *field, held.raw.as_deref());
    match after {
        None => commit.forget(REDEMPTIONS, *field),
        Some(after) => commit.keep(REDEMPTIONS, *field, write_redemption(after)?),
    }
    let at = |at| {
        let mut member = written(&time(at));
        member.extend(field);
        member
    };
    let over = |redemption: &Redemption| redemption.expires_at.map(at);
    let sealed = |redemption: &Redemption| redemption.sealed.as_ref().and(redemption.grace_until).map(at);
    let before = held.redemption.as_ref();
    commit.relist(REDEMPTIONS_OVER, before.and_then(over), after.and_then(over));
    commit.relist(SEALED, before.and_then(sealed), after.and_then(sealed));
    Ok(())
}
