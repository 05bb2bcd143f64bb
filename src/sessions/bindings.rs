//! What was learned of a token, put into its claims: the session, family and user it was handed out for, and when.
//!
//! Many issuers name no session in an access token, and an opaque token names nothing at all; the answer they were handed
//! out in did. What is learned is looked up once per token and kept for a while, within a bound; a token that was never
//! learned is remembered as such for as long. What is put in is only ever more to refuse by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::future::Cache;

use crate::domain::{Claims, SessionKey, TokenDigest};
use crate::store::{KnownToken, Login, SharedSessions, StoreError};

/// How many tokens are remembered.
const ENTRIES: u64 = 200_000;
/// For how long; a token that another replica hands out a second time, to another login, is known here after this.
const TTL: Duration = Duration::from_secs(30);

/// What is known of tokens, in front of the store.
pub struct Bindings {
    table: SharedSessions,
    known: Cache<TokenDigest, Arc<Binding>>,
}

/// What is known of one token, and the claims that it was put into last.
struct Binding {
    known: Option<KnownToken>,
    bound: ArcSwapOption<Bound>,
}

/// Claims as they were verified, and with what was learned.
struct Bound {
    own: Arc<Claims>,
    with_learned: Arc<Claims>,
}

impl Bindings {
    /// Nothing looked up yet.
    #[must_use]
    pub fn new(table: SharedSessions) -> Arc<Self> {
        let known = Cache::builder().max_capacity(ENTRIES).time_to_live(TTL).build();
        Arc::new(Self { table, known })
    }

    /// These claims, with what was learned of their token.
    ///
    /// # Errors
    ///
    /// The store's, when it has to be asked and cannot be.
    pub async fn complete(&self, own: &Arc<Claims>) -> Result<Arc<Claims>, Arc<StoreError>> {
        let binding = self.binding(own.digest).await?;
        let Some(known) = &binding.known else { return Ok(own.clone()) };
        if let Some(bound) = binding.bound.load().as_ref().filter(|bound| Arc::ptr_eq(&bound.own, own)) {
            return Ok(bound.with_learned.clone());
        }
        let with_learned = Arc::new(completed(own, known));
        let bound = Bound { own: own.clone(), with_learned: with_learned.clone() };
        binding.bound.store(Some(Arc::new(bound)));
        Ok(with_learned)
    }

    /// Whether a session was ever seen here, and is not forgotten.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn knows(&self, session: &SessionKey) -> Result<bool, StoreError> {
        Ok(self.table.session(session).await?.is_some())
    }

    /// Looks these up anew: something was learned of them.
    pub async fn forget(&self, digests: Vec<TokenDigest>) {
        for digest in digests {
            self.known.invalidate(&digest).await;
        }
    }

    /// Looks all of them up anew.
    pub fn forget_all(&self) {
        self.known.invalidate_all();
    }

    async fn binding(&self, digest: TokenDigest) -> Result<Arc<Binding>, Arc<StoreError>> {
        if let Some(binding) = self.known.get(&digest).await {
            return Ok(binding);
        }
        let table = self.table.clone();
        let asked = async move {
            let known = table.known(digest).await?;
            Ok(Arc::new(Binding { known, bound: ArcSwapOption::empty() }))
        };
        self.known.try_get_with(digest, asked).await
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bindings({} tokens)", self.known.entry_count())
    }
}

/// The claims with what was learned where they are silent. A token that names its session belongs to that one alone; one
/// that names none belongs to every login it was handed out in.
#[must_use]
pub fn completed(own: &Claims, known: &KnownToken) -> Claims {
    let mut logins = known.logins.iter().filter(|login| {
        let named = own.session.as_ref().is_none_or(|session| *session == login.session.id);
        named && login.session.issuer == own.issuer
    });
    let mut claims = own.clone();
    claims.issued_at = claims.issued_at.or(known.issued_at);
    claims.expires_at = claims.expires_at.or(known.expires_at);
    let Some(first) = logins.next() else { return claims };
    let twins = logins.map(|login| Arc::new(within(&claims, login))).collect();
    Claims { twins, ..within(&claims, first) }
}

fn within(claims: &Claims, login: &Login) -> Claims {
    let mut claims = claims.clone();
    claims.session.get_or_insert_with(|| login.session.id.clone());
    claims.family = claims.family.or_else(|| login.family.clone());
    claims.user = claims.user.or_else(|| login.user.clone());
    claims.username = claims.username.or_else(|| login.username.clone());
    claims.client = claims.client.or_else(|| login.client.clone());
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, TokenKind};

    const ISS: &str = "https://id.example/";

    fn login(session: &str, family: &str) -> Login {
        Login {
            session: SessionKey { issuer: ISS.into(), id: session.into() },
            family: Some(family.into()),
            user: Some("alice".into()),
            username: None,
            client: None,
        }
    }

    fn known(logins: Vec<Login>) -> KnownToken {
        let at = |secs| Some(Timestamp::from_secs(secs));
        KnownToken { kind: TokenKind::Access, token_id: None, issued_at: at(100), expires_at: at(200), logins }
    }

    fn bare() -> Claims {
        Claims::bare(ISS.into(), TokenKind::Access, TokenDigest::new([1; 32]))
    }

    #[test]
    fn what_a_token_does_not_say_is_filled_in_and_what_it_says_stays() {
        let own = Claims { user: Some("bob".into()), ..bare() };
        let claims = completed(&own, &known(vec![login("s1", "f1")]));
        assert_eq!(claims.session.as_deref(), Some("s1"));
        assert_eq!(claims.family.as_deref(), Some("f1"));
        assert_eq!(claims.user.as_deref(), Some("bob"));
        assert_eq!(claims.issued_at, Some(Timestamp::from_secs(100)));
        assert!(claims.twins.is_empty());
    }

    #[test]
    fn a_token_of_two_logins_has_a_twin_unless_it_names_its_session() {
        let both = known(vec![login("s1", "f1"), login("s2", "f2")]);
        let claims = completed(&bare(), &both);
        assert_eq!(claims.session.as_deref(), Some("s1"));
        assert_eq!(claims.twins.iter().map(|twin| twin.session.as_deref()).collect::<Vec<_>>(), [Some("s2")]);
        let named = completed(&Claims { session: Some("s2".into()), ..bare() }, &both);
        assert_eq!((named.family.as_deref(), named.twins.len()), (Some("f2"), 0));
    }

    #[test]
    fn another_issuers_login_teaches_nothing_but_times() {
        let mut foreign = login("s1", "f1");
        foreign.session.issuer = "https://other.example/".into();
        assert_eq!(completed(&bare(), &known(vec![foreign])).session, None);
    }
}
