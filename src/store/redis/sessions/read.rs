//! One session, one token, one family tree: what is looked up by key.

use std::collections::HashSet;

use crate::domain::{SeenToken, SessionKey, TokenDigest};
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::keys::{SESSIONS, TOKENS, tokens_of};
use crate::store::redis::sessions::order::{Index, Range, written};
use crate::store::redis::sessions::page::{Held, Listed, Page, find, sessions};
use crate::store::redis::sessions::put::HeldToken;
use crate::store::redis::sessions::records::{TokenRow, corrupt, session};
use crate::store::session_query::SortValue;
use crate::store::{
    KnownToken, Login, MAX_DESCENDANTS, SESSION_TOKENS, SessionRecord, SessionToken, SortKey, StoreError, TOKEN_PAGE,
};

/// How many children of a session are read at once.
const CHILDREN: usize = 500;

/// What is known of a token.
pub(super) async fn known(connection: &Connection, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
    let raw = connection.run(redis::cmd("HGET").arg(TOKENS).arg(digest.as_bytes())).await?;
    let rows = HeldToken::read(raw)?.rows;
    let Some(first) = rows.first() else { return Ok(None) };
    Ok(Some(KnownToken {
        kind: first.kind,
        token_id: rows.iter().find_map(|row| row.token_id.clone()),
        issued_at: rows.iter().find_map(|row| row.issued_at),
        expires_at: rows.iter().filter_map(|row| row.expires_at).max(),
        logins: logins(connection, &rows).await?,
    }))
}

/// The logins of a token, the first learned first.
async fn logins(connection: &Connection, rows: &[TokenRow]) -> Result<Vec<Login>, StoreError> {
    let mut rows: Vec<&TokenRow> = rows.iter().collect();
    rows.sort_by_key(|row| row.session);
    let mut command = redis::cmd("HMGET");
    command.arg(SESSIONS);
    rows.iter().for_each(|row| {
        command.arg(&row.session.to_be_bytes());
    });
    let sessions: Vec<Option<Vec<u8>>> = connection.run(&command).await?;
    let login = |(row, raw): (&TokenRow, Option<Vec<u8>>)| {
        let session = session(&raw?).map(|session| Login {
            session: session.key,
            family: row.family.clone(),
            user: session.user,
            username: session.username,
            client: session.client,
        });
        Some(session)
    };
    rows.into_iter().zip(sessions).filter_map(login).collect()
}

/// One session with its newest tokens.
pub(super) async fn record(connection: &Connection, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
    let Some(Held { number, session, .. }) = find(connection, key).await? else { return Ok(None) };
    let of = tokens_of(number);
    let page = Page { descending: true, limit: SESSION_TOKENS, ..tokens_page(&of, b"-") };
    let listed = page.read(connection).await?;
    let tokens = listed.into_iter().filter_map(|one| token(one, number).transpose());
    let tokens = tokens.map(|token| token.map(|token| token.token)).collect::<Result<_, _>>()?;
    Ok(Some(SessionRecord { session, tokens }))
}

/// A page of a session's tokens.
pub(super) async fn tokens(
    connection: &Connection,
    key: &SessionKey,
    after: Option<&SeenToken>,
) -> Result<Vec<SessionToken>, StoreError> {
    let Some(Held { number, .. }) = find(connection, key).await? else { return Ok(Vec::new()) };
    let of = tokens_of(number);
    let min = after.map_or_else(
        || b"-".to_vec(),
        |after| {
            let issued_at = SortValue::Number(after.issued_at.map(|at| at.as_secs()));
            [b"(", &written(&issued_at)[..], after.digest.as_bytes()].concat()
        },
    );
    let listed = tokens_page(&of, &min).read(connection).await?;
    listed.into_iter().filter_map(|one| token(one, number).transpose()).collect()
}

fn tokens_page<'a>(of: &'a str, min: &'a [u8]) -> Page<'a> {
    Page { key: of, records: TOKENS, suffix_bytes: 32, min, max: b"+", descending: false, offset: 0, limit: TOKEN_PAGE }
}

/// A token as that session tells of it.
fn token(Listed { member, raw }: Listed, session: u64) -> Result<Option<SessionToken>, StoreError> {
    let digest = member.last_chunk::<32>().ok_or_else(|| corrupt("a member without a digest"))?;
    let rows = HeldToken::read(raw)?.rows;
    let row = rows.into_iter().find(|row| row.session == session);
    Ok(row.map(|row| SessionToken { token: row.token(TokenDigest::new(*digest)), family: row.family }))
}

/// The sessions opened from this one, from those, and so on; a page of children a round trip.
pub(super) async fn descendants(connection: &Connection, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
    let mut found: Vec<SessionKey> = Vec::new();
    let mut seen = HashSet::from([key.id.clone()]);
    let mut parent = Some(key.id.clone());
    let mut done = 0;
    while let Some(id) = parent {
        let mut range = Range::of(Index::By(SortKey::Parent), &SortValue::Text(Some(id)));
        loop {
            let (children, last) = sessions(connection, &Page::of(&range, CHILDREN)).await?;
            for child in children.into_iter().map(|held| held.session.key) {
                if child.issuer == key.issuer && found.len() < MAX_DESCENDANTS && seen.insert(child.id.clone()) {
                    found.push(child);
                }
            }
            match last.filter(|_| found.len() < MAX_DESCENDANTS) {
                Some(last) => range = range.beyond(&last, false),
                None => break,
            }
        }
        parent = found.get(done).filter(|_| found.len() < MAX_DESCENDANTS).map(|next| next.id.clone());
        done += 1;
    }
    Ok(found)
}
