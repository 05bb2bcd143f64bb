//! From an answer of a token endpoint to what is written down of it: which session its tokens belong to, which family, and
//! until when they live.
//!
//! A session that its issuer names nowhere has the name of its token family, which is made of the first refresh token's
//! digest, so that every replica finds the same. What was known of the refresh token that was redeemed is believed before what the answer says: a
//! session that was ended by its name must not go on under another.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::domain::{Claims, Dialect, SeenToken, Session, SessionKey, Timestamp, TokenDigest};
use crate::gateway::token_endpoint::TokenEndpoint;
use crate::gateway::token_endpoint::reply::Taught;
use crate::sessions::{Ended, Lesson};

/// Everything a lesson is made of.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    /// Where.
    pub(super) endpoint: &'a TokenEndpoint,
    /// What the answer said.
    pub(super) taught: &'a Taught,
    /// The refresh token that was redeemed.
    pub(super) presented: Option<&'a Claims>,
    /// The access token handed out.
    pub(super) access: Option<Claims>,
    /// The refresh token handed out.
    pub(super) refresh: Option<Claims>,
    /// Who asked.
    pub(super) from: &'a Origin,
    /// Tolerance for the issuer's clock.
    pub(super) leeway: Duration,
    /// How long a refresh token lives when nothing says so.
    pub(super) refresh_lifetime: Option<Duration>,
    /// When the answer came.
    pub(super) now: Timestamp,
}

/// Where a request came from.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Origin {
    /// The client's address.
    pub(in crate::gateway) address: Option<IpAddr>,
    /// Its `User-Agent`.
    pub(in crate::gateway) user_agent: Option<Box<str>>,
    /// The client it says it is by HTTP Basic, which a 200 vouches for.
    pub(in crate::gateway) client: Option<Box<str>>,
}

impl Exchange<'_> {
    /// What is to be written down; `None` when the tokens belong to nobody's login, as those of a machine do.
    pub(super) fn lesson(&self) -> Option<Lesson> {
        let root = self.root()?;
        let told = |own: &Option<Box<str>>| own.clone();
        let session = self.presented.and_then(|claims| claims.session.clone()).or_else(|| told(&self.taught.session));
        let user = told(&self.taught.user).or_else(|| self.presented?.user.clone()).or_else(|| self.asker());
        if session.is_none() && user.is_none() && self.refresh.is_none() && self.presented.is_none() {
            return None;
        }
        let family = self.presented.and_then(|claims| claims.family.clone()).unwrap_or_else(|| named(root));
        let id = session.unwrap_or_else(|| family.clone());
        let tokens: Vec<_> = [self.access_seen(), self.refresh_seen()].into_iter().flatten().collect();
        let key = SessionKey { issuer: self.endpoint.issuer.clone(), id };
        let session = Session {
            user,
            username: told(&self.taught.username).or_else(|| self.presented?.username.clone()).or_else(|| self.asker()),
            parent: told(&self.taught.parent).filter(|parent| *parent != key.id),
            domain: told(&self.taught.domain),
            client: told(&self.taught.client)
                .or_else(|| self.from.client.clone())
                .or_else(|| self.presented?.client.clone()),
            address: self.from.address.map(|address| address.to_string().into()),
            user_agent: self.from.user_agent.clone(),
            kind: self.endpoint.session_type,
            expires_at: self.session_expires_at(&tokens),
            token_expires_at: self.access_seen().and_then(|token| token.expires_at),
            ..Session::new(key, self.now)
        };
        Some(Lesson { session, family, tokens, redeemed: None })
    }

    /// Whose token it is where nothing says so: Elasticsearch's clients are users, and a token that one gets for its own
    /// credentials is its own.
    fn asker(&self) -> Option<Box<str>> {
        self.from.client.clone().filter(|_| self.endpoint.dialect == Dialect::Elasticsearch)
    }

    /// The token that a session without a name is named after: the family's first.
    fn root(&self) -> Option<TokenDigest> {
        [self.presented, self.refresh.as_ref(), self.access.as_ref()].into_iter().flatten().map(|of| of.digest).next()
    }

    fn access_seen(&self) -> Option<SeenToken> {
        let claims = self.access.as_ref()?;
        Some(self.seen(claims, self.taught.expires_in_secs.map(Duration::from_secs)))
    }

    fn refresh_seen(&self) -> Option<SeenToken> {
        let claims = self.refresh.as_ref()?;
        let told = self.taught.refresh_expires_in_secs.map(Duration::from_secs);
        Some(self.seen(claims, told.or(self.refresh_lifetime)))
    }

    /// A token lives until its own `exp`, else as long as the answer says; without either, nobody knows.
    fn seen(&self, claims: &Claims, lives: Option<Duration>) -> SeenToken {
        let ends = claims.expires_at.or_else(|| lives.map(|lives| self.now.after(lives)));
        SeenToken {
            digest: claims.digest,
            token_id: claims.token_id.clone(),
            kind: claims.kind,
            issued_at: Some(claims.issued_at.unwrap_or(self.now)),
            expires_at: ends.map(|ends| ends.after(self.leeway)).filter(|ends| *ends <= Timestamp::MAX),
            generation: claims.generation,
        }
    }

    /// A session lives as long as the answer says, and as long as its longest token; nobody knows when one of them is for
    /// ever.
    fn session_expires_at(&self, tokens: &[SeenToken]) -> Option<Timestamp> {
        let told = self.taught.session_expires_in_secs.map(|secs| self.now.after(Duration::from_secs(secs)));
        let longest: Option<Vec<Timestamp>> = tokens.iter().map(|token| token.expires_at).collect();
        told.max(longest.and_then(|ends| ends.into_iter().max()))
    }
}

/// What ends when a refresh token comes back: its family, which is all of its session where the session is named after it.
pub(super) fn ended_by_reuse(claims: &Claims) -> Ended {
    let family = claims.family.clone().unwrap_or_else(|| named(claims.digest));
    if claims.session.as_ref() == Some(&family) { Ended::Session(family) } else { Ended::Family(family) }
}

/// A name of ours, for a family and for a session that has no other: 128 bits of a digest of a digest, in hexadecimal.
fn named(root: TokenDigest) -> Box<str> {
    let digest = digest(&SHA256, &[b"token family".as_slice(), root.as_bytes()].concat());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenKind;
    use crate::gateway::token_endpoint::TokenEndpoint;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn claims(kind: TokenKind, digest: u8) -> Claims {
        Claims::bare("https://id.example/".into(), kind, TokenDigest::new([digest; 32]))
    }

    fn lesson(
        taught: &Taught,
        presented: Option<&Claims>,
        access: Option<Claims>,
        refresh: Option<Claims>,
    ) -> Option<Lesson> {
        let endpoint = TokenEndpoint::new("https://id.example/".into(), "main".into(), "/token".parse().unwrap());
        let exchange = Exchange {
            endpoint: &endpoint,
            taught,
            presented,
            access,
            refresh,
            from: &Origin::default(),
            leeway: Duration::from_secs(5),
            refresh_lifetime: Some(Duration::from_secs(500)),
            now: NOW,
        };
        exchange.lesson()
    }

    #[test]
    fn a_session_that_nobody_names_keeps_one_name_over_its_refreshes() {
        let nothing = Taught::default();
        let first = lesson(&nothing, None, None, Some(claims(TokenKind::Refresh, 1))).unwrap();
        let again = lesson(&nothing, None, None, Some(claims(TokenKind::Refresh, 1))).unwrap();
        assert_eq!(first.session.key, again.session.key);
        let bound = Claims {
            session: Some(first.session.key.id.clone()),
            family: Some(first.family.clone()),
            ..claims(TokenKind::Refresh, 1)
        };
        let second = lesson(&nothing, Some(&bound), None, Some(claims(TokenKind::Refresh, 2))).unwrap();
        assert_eq!((&second.session.key, &second.family), (&first.session.key, &first.family));
        let other = lesson(&nothing, None, None, Some(claims(TokenKind::Refresh, 3))).unwrap();
        assert_ne!(other.session.key, first.session.key);
    }

    #[test]
    fn what_was_known_of_the_session_is_believed_before_the_answer() {
        let taught = Taught { session: Some("new".into()), ..Taught::default() };
        let presented = Claims { session: Some("old".into()), ..claims(TokenKind::Refresh, 1) };
        let lesson = lesson(&taught, Some(&presented), None, Some(claims(TokenKind::Refresh, 2))).unwrap();
        assert_eq!(&*lesson.session.key.id, "old");
    }

    #[test]
    fn times_are_the_tokens_own_or_the_answers_with_leeway() {
        let taught = Taught { expires_in_secs: Some(60), ..Taught::default() };
        let access = Claims { issued_at: None, ..claims(TokenKind::Access, 1) };
        let refresh = Claims { expires_at: Some(Timestamp::from_secs(9_000)), ..claims(TokenKind::Refresh, 2) };
        let lesson = lesson(&taught, None, Some(access), Some(refresh)).unwrap();
        let seen: Vec<_> = lesson.tokens.iter().map(|token| (token.issued_at, token.expires_at)).collect();
        assert_eq!(
            seen,
            [(Some(NOW), Some(Timestamp::from_secs(1_065))), (Some(NOW), Some(Timestamp::from_secs(9_005)))]
        );
        assert_eq!(lesson.session.expires_at, Some(Timestamp::from_secs(9_005)));
        assert_eq!(lesson.session.token_expires_at, Some(Timestamp::from_secs(1_065)));
    }

    #[test]
    fn elasticsearchs_token_for_ones_own_credentials_is_ones_own() {
        let endpoint = TokenEndpoint {
            dialect: Dialect::Elasticsearch,
            ..TokenEndpoint::new("https://id.example/".into(), "main".into(), "/token".parse().unwrap())
        };
        let (taught, from) = (Taught::default(), Origin { client: Some("cc1".into()), ..Origin::default() });
        let exchange = Exchange {
            endpoint: &endpoint,
            taught: &taught,
            presented: None,
            access: Some(claims(TokenKind::Access, 1)),
            refresh: None,
            from: &from,
            leeway: Duration::ZERO,
            refresh_lifetime: None,
            now: NOW,
        };
        let session = exchange.lesson().unwrap().session;
        assert_eq!((session.user.as_deref(), session.username.as_deref()), (Some("cc1"), Some("cc1")));
    }

    #[test]
    fn a_machines_token_is_nobodys_login() {
        assert!(lesson(&Taught::default(), None, Some(claims(TokenKind::Access, 1)), None).is_none());
    }
}
