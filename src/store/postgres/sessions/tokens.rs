//! The tokens of sessions, written many at once. Only who holds a session's row writes its tokens.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use sqlx::query;

use crate::domain::{SeenToken, Timestamp, TokenDigest};
use crate::store::postgres::rows::{integer, seconds};
use crate::store::postgres::sessions::text::stored;

/// Tokens to be written, by digest and session: a statement may write no row twice.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<(TokenDigest, i64), Seen>);

#[derive(Debug)]
struct Seen {
    token: SeenToken,
    family: Option<String>,
    seen_at: Timestamp,
}

impl Tokens {
    /// Adds what was seen of a token in a session.
    pub(super) fn add(&mut self, session: i64, token: SeenToken, family: Option<&str>, seen_at: Timestamp) {
        let family = family.map(|family| stored(family).into_owned());
        let seen = Seen { family, seen_at, token };
        match self.0.get_mut(&(seen.token.digest, session)) {
            Some(held) => held.learn(seen),
            None => drop(self.0.insert((seen.token.digest, session), seen)),
        }
    }

    /// Writes them; one that is held already is written anew only if this account knows more.
    pub(super) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sessions: Vec<i64> = self.0.keys().map(|(_, session)| *session).collect();
        let digests: Vec<&[u8]> = self.0.keys().map(|(digest, _)| &digest.as_bytes()[..]).collect();
        let seen = || self.0.values();
        let families: Vec<Option<&str>> = seen().map(|seen| seen.family.as_deref()).collect();
        let kinds: Vec<i16> = seen().map(|seen| seen.token.kind as i16).collect();
        let ids: Vec<Option<String>> =
            seen().map(|seen| seen.token.token_id.as_deref().map(|id| stored(id).into())).collect();
        let times = |time: fn(&SeenToken) -> Option<Timestamp>| -> Vec<Option<i64>> {
            seen().map(|seen| time(&seen.token).map(seconds)).collect()
        };
        let seen_at: Vec<i64> = seen().map(|seen| seconds(seen.seen_at)).collect();
        let generations: Vec<Option<i64>> = seen().map(|seen| seen.token.generation.map(integer)).collect();
        let written = query(SEE).bind(&digests).bind(sessions).bind(families).bind(kinds).bind(ids);
        let written = written.bind(times(|token| token.issued_at)).bind(times(|token| token.expires_at));
        written.bind(seen_at).bind(generations).execute(connection).await.map(|_| ())
    }
}

const SEE: &str = "INSERT INTO portcullis.tokens \
        (digest, session, family, kind, token_id, issued_at, expires_at, seen_at, generation) \
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::smallint[], $5::text[], $6::bigint[], $7::bigint[], \
        $8::bigint[], $9::bigint[]) \
    ON CONFLICT (digest, session) DO UPDATE SET family = coalesce(tokens.family, excluded.family), \
        token_id = coalesce(tokens.token_id, excluded.token_id), \
        issued_at = coalesce(tokens.issued_at, excluded.issued_at), \
        expires_at = greatest(tokens.expires_at, excluded.expires_at), \
        seen_at = greatest(tokens.seen_at, excluded.seen_at) \
    WHERE (tokens.family IS NULL AND excluded.family IS NOT NULL) \
        OR (tokens.token_id IS NULL AND excluded.token_id IS NOT NULL) \
        OR (tokens.issued_at IS NULL AND excluded.issued_at IS NOT NULL) \
        OR coalesce(tokens.expires_at, -1) < coalesce(excluded.expires_at, -1) \
        OR (tokens.expires_at IS NULL AND tokens.seen_at < excluded.seen_at)";

impl Seen {
    /// Takes over what a later account of the same token tells.
    fn learn(&mut self, later: Self) {
        self.family = self.family.take().or(later.family);
        self.token.token_id = self.token.token_id.take().or(later.token.token_id);
        self.token.issued_at = self.token.issued_at.or(later.token.issued_at);
        self.token.expires_at = self.token.expires_at.max(later.token.expires_at);
        self.seen_at = self.seen_at.max(later.seen_at);
    }
}
