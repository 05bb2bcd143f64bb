//! The port of what is known of sessions: which there are, which tokens belong to them, which refresh tokens were used.
//!
//! A store never sees a token: only digests, and answers sealed so that they open with the refresh token alone. What
//! was learned survives a crash once it is acknowledged, and is known to every replica that shares the store.

use std::fmt;

use async_trait::async_trait;

use crate::domain::{SeenToken, Session, SessionKey, SessionState, SessionType, Timestamp, TokenDigest, TokenKind};
use crate::store::StoreError;

/// What is known of sessions and their tokens.
///
/// A session is marked as ended in the transaction that appends the revocation (or lift) which does it, for selectors
/// that name a session, a user, a username, a client or an issuer and nothing else; a session that is learned after its
/// own end is marked at once. Of a revocation or lift that concerns very many, some are marked then and the rest by
/// [`tidy`](Self::tidy).
#[async_trait]
pub trait SessionTable: fmt::Debug + Send + Sync + 'static {
    /// Writes what a token endpoint's answer taught, all of it or nothing. After `Ok` it survives a crash, and
    /// [`known`](Self::known) tells of it on every replica.
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError>;

    /// What is known of a token; `None` when it was never learned, or is forgotten.
    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError>;

    /// Takes a refresh token to be redeemed, once. See [`Claimed`]. After `Ok` it survives a crash.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// Lets go of a refresh token that was claimed and turned out not to be redeemed; one that was is left alone.
    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError>;

    /// Writes what traffic told, coalesced: sessions and the tokens seen in them. Returns the sessions that were new.
    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError>;

    /// A page of sessions, and how many there are in all.
    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError>;

    /// One session with its tokens, the newest 100 first.
    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError>;

    /// The tokens seen in a session, the first issued first, at most 1,000; those after `after`, which is one of them. What
    /// one answer handed out stands together, for it was issued in the same second.
    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError>;

    /// The sessions opened from this one, and from those, and so on; at most 10,000.
    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError>;

    /// Forgets, in small batches, what is over at `now`: sealed answers beyond their grace, tokens, redemptions and session
    /// passwords that expired, sessions that expired and have no token left. What is not known to expire goes thirty days after it was
    /// last seen; a redemption that is not known to expire stays. Returns how many of these went.
    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Prolongs the grace of every sealed answer to `until` at least: for a start after a crash, which may have kept an
    /// answer from its client.
    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError>;
}

/// What one answer of a token endpoint taught.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The session, as far as it is known now.
    pub session: Session,
    /// The family its tokens belong to.
    pub family: Box<str>,
    /// The tokens handed out.
    pub tokens: Vec<SeenToken>,
    /// The refresh token that was redeemed for them, when it is used up.
    pub redeemed: Option<Redeemed>,
}

/// A refresh token that is used up.
#[derive(Clone)]
pub struct Redeemed {
    /// Which.
    pub digest: TokenDigest,
    /// The answer it brought, sealed; `None` where nobody is to get it again.
    pub sealed: Option<Box<[u8]>>,
    /// The first second in which a repetition is no longer forgiven.
    pub grace_until: Timestamp,
}

impl fmt::Debug for Redeemed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed_bytes = self.sealed.as_ref().map(|sealed| sealed.len());
        f.debug_struct("Redeemed")
            .field("digest", &self.digest)
            .field("sealed_bytes", &sealed_bytes)
            .finish_non_exhaustive()
    }
}

/// What became of a lesson.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Learned {
    /// The session was not known before.
    pub is_new: bool,
    /// The session it was opened from has been ended.
    pub parent_ended: bool,
}

/// A token that was learned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownToken {
    /// What it is good for.
    pub kind: TokenKind,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// `iat`, or when portcullis saw it issued.
    pub issued_at: Option<Timestamp>,
    /// The first second in which it is dead by itself, leeway included.
    pub expires_at: Option<Timestamp>,
    /// The logins it belongs to, one at least, the first learned first.
    pub logins: Vec<Login>,
}

/// One login a token belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// The session.
    pub session: SessionKey,
    /// The token family.
    pub family: Option<Box<str>>,
    /// `sub`.
    pub user: Option<Box<str>>,
    /// The name people know the user by.
    pub username: Option<Box<str>>,
    /// The client.
    pub client: Option<Box<str>>,
}

/// A refresh token about to be redeemed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Which: the digest that revocations know it by.
    pub digest: TokenDigest,
    /// The digest of its whole text, signature included: who shows another text does not hold the token.
    pub text: TokenDigest,
    /// Who wants to redeem it: a digest of what tells clients apart.
    pub client: TokenDigest,
    /// When.
    pub now: Timestamp,
    /// Who claimed it then or earlier, and has no answer, has given up.
    pub given_up_at: Timestamp,
    /// How often an answer may be repeated.
    pub max_replays: u32,
    /// When the redemption may be forgotten; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// What becomes of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// Nobody redeemed it before; or the same client tried and no answer was learned, as after a crash; or another did and
    /// gave up long ago.
    Granted,
    /// The same client redeemed it a moment ago: this is the answer it got, sealed.
    Repeated(Box<[u8]>),
    /// It was used up, or is being redeemed by another client just now.
    Reused,
    /// Another text that says the same is being redeemed just now; which of them is the token's will be known then.
    Contended,
    /// The text differs from the one that was redeemed, though it says the same: somebody else's making.
    Forged,
}

/// What one request told of a session.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The session, as far as the token and the request tell.
    pub session: Session,
    /// The token.
    pub token: Option<SeenToken>,
}

/// Which sessions a search wants.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// Only of this issuer (`iss`).
    pub issuer: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only of this username.
    pub username: Option<String>,
    /// Only of this client.
    pub client: Option<String>,
    /// Only opened from this session.
    pub parent: Option<String>,
    /// Only of this part of the issuer.
    pub domain: Option<SoughtDomain>,
    /// Only used last from this address.
    pub address: Option<String>,
    /// Only of this type.
    pub kind: Option<SessionType>,
    /// Only in this state at `now`.
    pub state: Option<SessionState>,
    /// Any of these in id, username, address, user agent or domain, without regard to case. Empty: all.
    pub keywords: Vec<String>,
    /// Only first seen then.
    pub created: Span,
    /// Only last seen then.
    pub updated: Span,
    /// Only expiring then.
    pub expires: Span,
    /// In which order.
    pub sort: SortKey,
    /// From the greatest to the least.
    pub descending: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// Only what comes after this one: the cursor. It goes with the same query only.
    pub after: Option<Cursor>,
    /// So many are left out first.
    pub offset: u64,
    /// At most so many; 1 to 1,000.
    pub limit: u32,
}

/// Which part of its issuer a session is to belong to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SoughtDomain {
    /// The one of that name.
    Named(String),
    /// None that is known.
    Unknown,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Until then, exclusive.
    pub until: Option<Timestamp>,
}

/// What sessions are sorted by; ties in the order in which they were first learned. What is not known comes first. From
/// the greatest to the least it is the very same order backwards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum SortKey {
    Id,
    User,
    Username,
    Issuer,
    Parent,
    Domain,
    Address,
    Type,
    Created,
    Updated,
    #[default]
    Expires,
    TokenExpires,
}

/// A place in a sorted list: the value sorted by, and the row's number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The value sorted by, of the last row shown: a text, or seconds in decimal; `None` where it was not known.
    pub value: Option<String>,
    /// The row's number.
    pub number: u64,
}

/// A page of sessions.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// In order.
    pub items: Vec<Session>,
    /// How many there are in all, whatever the page shows.
    pub total: u64,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// A session with its tokens.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// The session.
    pub session: Session,
    /// The tokens seen in it, the newest first.
    pub tokens: Vec<SeenToken>,
}

/// A token seen in a session, with the family it was handed out in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionToken {
    /// The token.
    pub token: SeenToken,
    /// The family, where a token endpoint's answer told it.
    pub family: Option<Box<str>>,
}
