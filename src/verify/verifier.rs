//! All issuers together: which of them a token is from, what was verified of it before, and what its text says.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock::SharedClock;
use crate::domain::{BearerToken, Change, Claims, Denial, Revocation, TokenDigest, TokenKind};
use crate::telemetry::Metrics;
use crate::verify::cache::{Entry, Verifications};
use crate::verify::claims::Reading;
use crate::verify::fetch::Fetch;
use crate::verify::issuer::{Issuer, Voucher};
use crate::verify::jws::{self, Jws};
use crate::verify::jwt::KeyIdentity;
use crate::verify::keys::{KeysError, Surroundings};
use crate::verify::macaroon::{Macaroon, Testimony};
use crate::verify::opaque::{Introspection, Outcome};
use crate::verify::settings::{CacheSettings, IssuerSettings, MacaroonSettings, Settings};
use crate::verify::{Accepted, Assurance, IssuerFacts, Verified, VerifyError};

/// Why a verifier cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// Two issuers have the same name, or one's name is another's `iss`.
    #[error("two issuers are called {0:?}")]
    Ambiguous(Arc<str>),
    /// An issuer's keys cannot be read.
    #[error("issuer {issuer:?}: {source}")]
    Keys {
        /// The issuer's configured name.
        issuer: Arc<str>,
        /// Why.
        source: KeysError,
    },
    /// Calls to an issuer cannot be made.
    #[error("issuer {issuer:?}: {source}")]
    Calls {
        /// The issuer's configured name.
        issuer: Arc<str>,
        /// Why: a file of trust roots, most likely.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes what calls an issuer, with the trust its section asks for. It is asked once for each new issuer.
pub type Calls<'a> = &'a dyn Fn(&IssuerSettings) -> Result<Arc<dyn Fetch>, Box<dyn std::error::Error + Send + Sync>>;

/// A macaroon and its issuer.
type Found<'v> = (&'v Arc<Issuer>, &'v MacaroonSettings, Macaroon);

/// Verifies tokens, and remembers the verified.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Arc<Issuer>>,
    verifications: Verifications,
    cache: CacheSettings,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

impl Verifier {
    /// A verifier that has seen nothing yet. Starts to fetch keys, so it needs a runtime; reads key files.
    ///
    /// # Errors
    ///
    /// See [`VerifierError`]. An issuer that cannot be reached is no error: its tokens are, until it can be.
    pub fn new(
        settings: Settings,
        calls: Calls<'_>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, VerifierError> {
        let verifications = Verifications::new(settings.cache, metrics.clone());
        let empty = Self { issuers: Vec::new(), verifications, cache: settings.cache, clock, metrics };
        empty.succeed(settings, calls)
    }

    /// The verifier for a new configuration. Issuers whose section did not change keep their keys, their answers and what
    /// was verified of them; key files are read anew. On an error nothing has changed.
    ///
    /// # Errors
    ///
    /// See [`VerifierError`].
    pub fn succeed(&self, settings: Settings, calls: Calls<'_>) -> Result<Self, VerifierError> {
        refuse_ambiguous(&settings.issuers)?;
        let cache = settings.cache;
        let mut issuers = Vec::with_capacity(settings.issuers.len());
        let mut reread = Vec::new();
        for section in settings.issuers {
            let Some(kept) = self.unchanged(&section, cache.introspection_entries) else {
                issuers.push(self.start(section, cache.introspection_entries, calls)?);
                continue;
            };
            let keys = kept.reread().map_err(|source| VerifierError::Keys { issuer: section.name.clone(), source })?;
            reread.extend(keys.map(|set| (kept.clone(), set)));
            issuers.push(kept.clone());
        }
        // From here on nothing can fail, so that a bad file changes nothing.
        reread.into_iter().for_each(|(issuer, set)| issuer.replace_keys(set));
        let fresh = || Verifications::new(cache, self.metrics.clone());
        let verifications = if cache == self.cache { self.verifications.clone() } else { fresh() };
        Ok(Self { issuers, verifications, cache, clock: self.clock.clone(), metrics: self.metrics.clone() })
    }

    /// Verifies a token that is used as `kind`, from one of the `accepted` issuers.
    ///
    /// # Errors
    ///
    /// See [`VerifyError`].
    pub async fn verify(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Result<Verified, VerifyError> {
        let verified = self.examine(token, kind, accepted).await?;
        verified.flaw().map_or(Ok(verified), |flaw| Err(flaw.into()))
    }

    /// As [`Self::verify`], but a token may come back that has a [`Verified::flaw`], for whoever looks for revocations first.
    ///
    /// # Errors
    ///
    /// See [`VerifyError`].
    pub async fn examine(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Result<Verified, VerifyError> {
        if let Some(verified) = self.verify_macaroon(token, kind, accepted) {
            return verified;
        }
        match token.expose().matches('.').count() {
            0 => Box::pin(self.verify_opaque(token, kind, accepted)).await,
            // Keys are often written as a name and a secret.
            1 if kind == TokenKind::ApiKey => Box::pin(self.verify_opaque(token, kind, accepted)).await,
            2 => self.verify_jwt(token, kind, accepted).await,
            _ => Err(Denial::Malformed.into()),
        }
    }

    /// What a token that passes a token endpoint of `issuer`, an `iss`, says of itself; nobody vouches for it but the
    /// upstream. A text that is no JWT is known by its digest alone.
    ///
    /// # Errors
    ///
    /// [`Denial::UnknownIssuer`]; for a text of three parts [`Denial::Malformed`] when it is no JWT in the strict sense, and
    /// [`Denial::Claim`] for a claim of the wrong type.
    pub fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        let issuer = self.issuers.iter().find(|own| *own.settings.issuer == *issuer).ok_or(Denial::UnknownIssuer)?;
        if let Some(read) = issuer.macaroons().and_then(|_| self.read_macaroon(token)) {
            return read.map(|claims| Claims { kind, ..claims });
        }
        if token.expose().matches('.').count() != 2 {
            return Ok(Claims::bare(issuer.settings.issuer.clone(), kind, issuer.digest(token)));
        }
        let jws = Jws::parse(token.expose()).ok_or(Denial::Malformed)?;
        issuer.check_form(&jws)?;
        Ok(Claims { kind, ..(*issuer.read(&jws)?.claims).clone() })
    }

    /// What a token's text says of itself, of whatever kind, checked for form but neither for signature nor for time: for
    /// revoking it, which anyone allowed to revoke may do with any claims. An opaque token is known by what introspection or
    /// the cache says of it, else by its digest alone, under the first issuer that may have such tokens.
    ///
    /// # Errors
    ///
    /// [`Denial::Malformed`], [`Denial::UnknownIssuer`], and [`Denial::Claim`] for a claim of the wrong type.
    pub async fn read(&self, token: &BearerToken) -> Result<Claims, Denial> {
        if let Some(read) = self.read_macaroon(token) {
            return read;
        }
        match token.expose().matches('.').count() {
            0 => self.read_opaque(token).await,
            2 => self.read_jwt(token).await,
            _ => Err(Denial::Malformed),
        }
    }

    /// All that a token may be, as [`Self::read`] has it: for refusing. Nothing signs where a macaroon says it is from, so
    /// that it may be any issuer's that has macaroons.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub async fn readings(&self, token: &BearerToken) -> Result<Vec<Claims>, Denial> {
        match self.macaroon_of_any(token) {
            Some(readings) => Ok(readings),
            None => self.read(token).await.map(|claims| vec![claims]),
        }
    }

    /// The highest generation of a user's temporary tokens that the secret of `issuer`, an `iss`, vouched for, as far as this
    /// replica remembers.
    #[must_use]
    pub fn highest_generation(&self, issuer: &str, user: &str) -> Option<u64> {
        let issuer = self.issuers.iter().find(|own| *own.settings.issuer == *issuer)?;
        issuer.generations.highest(user)
    }

    /// The issuer of that configured name or that `iss`.
    #[must_use]
    pub fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        let called =
            |issuer: &&Arc<Issuer>| *issuer.settings.name == *name_or_iss || *issuer.settings.issuer == *name_or_iss;
        self.issuers.iter().find(called).map(|issuer| issuer.facts())
    }

    /// All issuers, in the order of the configuration.
    #[must_use]
    pub fn issuers(&self) -> Vec<IssuerFacts> {
        self.issuers.iter().map(|issuer| issuer.facts()).collect()
    }

    /// Drops introspection answers that `change` covers.
    pub fn purge(&self, change: &Change) {
        self.introspections().for_each(|introspection| introspection.purge(change));
    }

    /// How many tokens verified of late this revocation would kill. Looks at all that are cached.
    #[must_use]
    pub fn would_kill(&self, revocation: &Revocation) -> usize {
        let now = self.clock.now();
        let alive = |claims: &Arc<Claims>| claims.expires_at.is_none_or(|expires_at| now < expires_at);
        let asked = self.introspections().flat_map(Introspection::claims);
        self.verifications.claims().chain(asked).filter(|claims| alive(claims) && revocation.covers(claims)).count()
    }
}

/// How a verifier comes about.
impl Verifier {
    fn unchanged(&self, section: &IssuerSettings, introspection_entries: u64) -> Option<&Arc<Issuer>> {
        let same = |issuer: &&Arc<Issuer>| {
            issuer.settings == *section && issuer.introspection_entries == introspection_entries
        };
        self.issuers.iter().find(same)
    }

    fn start(
        &self,
        section: IssuerSettings,
        introspection_entries: u64,
        calls: Calls<'_>,
    ) -> Result<Arc<Issuer>, VerifierError> {
        let name = section.name.clone();
        let fetch = calls(&section).map_err(|source| VerifierError::Calls { issuer: name.clone(), source })?;
        let around = Surroundings { fetch, clock: self.clock.clone(), metrics: self.metrics.clone() };
        let issuer = Issuer::start(section, introspection_entries, around);
        issuer.map(Arc::new).map_err(|source| VerifierError::Keys { issuer: name, source })
    }
}

/// How a token is verified.
impl Verifier {
    async fn verify_jwt(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Result<Verified, VerifyError> {
        let whole = jws::sha256(token.expose());
        if let Some((issuer, entry)) = self.recall(&whole).await {
            accept(&issuer, accepted)?;
            entry.reading.check(&issuer.settings, kind, self.clock.now())?;
            return verified(&issuer, &entry.reading, kind, Assurance::Vouched);
        }
        // In a box: nearly all tokens were seen before, and need not carry the room for this.
        Box::pin(self.verify_anew(whole, token, kind, accepted)).await
    }

    async fn verify_anew(
        &self,
        whole: TokenDigest,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Result<Verified, VerifyError> {
        let jws = Jws::parse(token.expose()).ok_or(Denial::Malformed)?;
        let issuer = self.named(&jws)?;
        accept(issuer, accepted)?;
        let (reading, voucher) = issuer.verify(token, &jws, kind, self.clock.now()).await?;
        let assurance = if voucher == Voucher::Nobody { Assurance::Unchecked } else { Assurance::Vouched };
        let verified = verified(issuer, &reading, kind, assurance);
        if let Voucher::Key(key) = voucher {
            self.remember(whole, issuer, reading, key).await;
        }
        verified
    }

    /// The verification of a macaroon; `None` for what nobody could take for one, and where no accepted issuer has any. One
    /// that is not written as it must be is refused: some issuer that takes any text would know it by that, and not by what it is.
    fn verify_macaroon(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Option<Result<Verified, VerifyError>> {
        let has_any = |issuer: &Arc<Issuer>| issuer.macaroons().is_some() && accept(issuer, accepted).is_ok();
        let found = self.issuers.iter().any(has_any).then(|| self.macaroon(token)).flatten()?;
        let accepted = found.and_then(|(issuer, settings, macaroon)| {
            accept(issuer, accepted)?;
            let testimony = macaroon.testify(&issuer.settings, settings, kind, self.clock.now());
            if testimony.is_genuine() {
                issuer.generations.observe(&testimony.claims);
            }
            Ok(testimony.into_verified(issuer))
        });
        Some(accepted.map_err(VerifyError::from))
    }

    fn read_macaroon(&self, token: &BearerToken) -> Option<Result<Claims, Denial>> {
        let found = self.macaroon(token)?;
        Some(found.map(|(issuer, _, macaroon)| macaroon.claims(&issuer.settings)))
    }

    /// What a macaroon says under each issuer that has any.
    fn macaroon_of_any(&self, token: &BearerToken) -> Option<Vec<Claims>> {
        let issuers: Vec<_> = self.issuers.iter().filter(|issuer| issuer.macaroons().is_some()).collect();
        let macaroon = Macaroon::parse(token.expose()).filter(|_| !issuers.is_empty())?;
        Some(issuers.into_iter().map(|issuer| macaroon.claims(&issuer.settings)).collect())
    }

    /// The macaroon that a text is, and whose it is.
    fn macaroon(&self, token: &BearerToken) -> Option<Result<Found<'_>, Denial>> {
        let mut issuers = self.issuers.iter().filter_map(|issuer| Some((issuer, issuer.macaroons()?))).peekable();
        issuers.peek()?;
        match Macaroon::parse(token.expose()) {
            Some(macaroon) => {
                let own = issuers.find(|(issuer, settings)| macaroon.is_from(&issuer.settings, settings));
                Some(own.map(|(issuer, settings)| (issuer, settings, macaroon)).ok_or(Denial::UnknownIssuer))
            }
            None => Macaroon::is_like(token.expose()).then_some(Err(Denial::Malformed)),
        }
    }

    /// Shows an opaque token to the issuers that can be asked, in order, until one knows it.
    async fn verify_opaque(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
    ) -> Result<Verified, VerifyError> {
        let mut failure = VerifyError::from(Denial::UnknownIssuer);
        for issuer in self.issuers.iter().filter(|issuer| issuer.introspection().is_some()) {
            if accept(issuer, accepted).is_err() {
                continue;
            }
            match issuer.introspect(token, kind, self.clock.now()).await {
                Ok(reading) => return verified(issuer, &reading, kind, Assurance::Vouched),
                Err(error) => failure = graver(failure, error),
            }
        }
        self.unchecked(token, kind, accepted, failure)
    }

    /// The issuer whose upstream verifies opaque tokens takes what no other knows.
    fn unchecked(
        &self,
        token: &BearerToken,
        kind: TokenKind,
        accepted: &Accepted,
        failure: VerifyError,
    ) -> Result<Verified, VerifyError> {
        let unknown = matches!(failure, VerifyError::Denied(Denial::UnknownIssuer | Denial::Inactive));
        let takes = |issuer: &&Arc<Issuer>| issuer.settings.opaque_tokens && accept(issuer, accepted).is_ok();
        let issuer = self.issuers.iter().find(takes).filter(|_| unknown).ok_or(failure)?;
        if !issuer.settings.token_form.admits(token.expose()) {
            return Err(Denial::Malformed.into());
        }
        let claims = Claims::bare(issuer.settings.issuer.clone(), kind, issuer.digest(token));
        Ok(Verified {
            claims: Arc::new(claims),
            assurance: Assurance::Unchecked,
            deadline: None,
            is_known: false,
            flaw: None,
        })
    }

    /// What was verified of that very token, if it still holds: the issuer's section has not changed, and the key is there.
    async fn recall(&self, whole: &TokenDigest) -> Option<(Arc<Issuer>, Arc<Entry>)> {
        let entry = self.verifications.find(whole, self.clock.elapsed()).await;
        let held = entry.as_ref().and_then(|entry| {
            let issuer = entry.issuer.upgrade().filter(|issuer| self.is_ours(issuer))?;
            issuer.still_holds(&entry.key).then(|| (issuer, entry.clone()))
        });
        self.verifications.count(held.is_some());
        if entry.is_some() && held.is_none() {
            self.verifications.forget(whole).await;
        }
        held
    }

    async fn remember(&self, whole: TokenDigest, issuer: &Arc<Issuer>, reading: Reading, key: KeyIdentity) {
        let left = reading.deadline(&issuer.settings).map(|deadline| deadline.since(self.clock.now()));
        let (issuer, verified_at) = (Arc::downgrade(issuer), self.clock.elapsed());
        self.verifications.insert(whole, Entry { issuer, reading, key, verified_at, left }).await;
    }

    async fn read_jwt(&self, token: &BearerToken) -> Result<Claims, Denial> {
        let jws = Jws::parse(token.expose()).ok_or(Denial::Malformed)?;
        let issuer = self.named(&jws)?;
        issuer.check_form(&jws)?;
        Ok((*issuer.read(&jws)?.claims).clone())
    }

    async fn read_opaque(&self, token: &BearerToken) -> Result<Claims, Denial> {
        let digest = jws::sha256(token.expose());
        let asked = || self.issuers.iter().filter_map(|issuer| Some((issuer, issuer.introspection()?)));
        for (_, introspection) in asked() {
            if let Some(reading) = introspection.remembered(&digest).await {
                return Ok((*reading.claims).clone());
            }
        }
        for (issuer, introspection) in asked() {
            if let Outcome::Active(reading) = introspection.ask(&issuer.settings, token, None, TokenKind::Access).await
            {
                return Ok((*reading.claims).clone());
            }
        }
        let issuer = self.issuers.iter().find(|issuer| issuer.has_opaque_tokens()).ok_or(Denial::UnknownIssuer)?;
        Ok(Claims::bare(issuer.settings.issuer.clone(), TokenKind::Access, issuer.digest(token)))
    }

    fn named(&self, jws: &Jws<'_>) -> Result<&Arc<Issuer>, Denial> {
        if !jws.claims.contains_key("iss") {
            return self.issuers.iter().find(|issuer| issuer.settings.missing_iss).ok_or(Denial::Claim);
        }
        let iss = jws.issuer().ok_or(Denial::Claim)?;
        self.issuers.iter().find(|issuer| *issuer.settings.issuer == *iss).ok_or(Denial::UnknownIssuer)
    }

    fn is_ours(&self, issuer: &Arc<Issuer>) -> bool {
        self.issuers.iter().any(|own| Arc::ptr_eq(own, issuer))
    }

    fn introspections(&self) -> impl Iterator<Item = &Introspection> {
        self.issuers.iter().filter_map(|issuer| issuer.introspection())
    }
}

impl Testimony {
    fn into_verified(self, issuer: &Issuer) -> Verified {
        let Self { claims, assurance, flaw } = self;
        let deadline = claims.expires_at.map(|expires_at| expires_at.after(issuer.settings.leeway));
        Verified { claims, assurance, deadline, is_known: false, flaw }
    }
}

fn accept(issuer: &Issuer, accepted: &Accepted) -> Result<(), Denial> {
    let named = accepted.as_ref().is_none_or(|names| names.contains(&issuer.settings.name));
    if named { Ok(()) } else { Err(Denial::UnknownIssuer) }
}

fn verified(
    issuer: &Issuer,
    reading: &Reading,
    kind: TokenKind,
    assurance: Assurance,
) -> Result<Verified, VerifyError> {
    Ok(Verified {
        claims: reading.used_as(kind)?,
        assurance,
        deadline: reading.deadline(&issuer.settings),
        is_known: false,
        flaw: None,
    })
}

/// Of two issuers' refusals, the one that says more: that nobody knows, that the token is one's own but no good, that it
/// is not active.
fn graver(one: VerifyError, other: VerifyError) -> VerifyError {
    let gravity = |error: &VerifyError| match error {
        VerifyError::Denied(Denial::UnknownIssuer) => 0,
        VerifyError::Denied(Denial::Inactive) => 1,
        VerifyError::Denied(_) => 2,
        VerifyError::Unavailable { .. } => 3,
    };
    if gravity(&other) > gravity(&one) { other } else { one }
}

fn refuse_ambiguous(sections: &[IssuerSettings]) -> Result<(), VerifierError> {
    let mut names = HashSet::new();
    for section in sections {
        let calls_itself_so = section.name == section.issuer;
        let fresh = names.insert(&section.name) && (calls_itself_so || names.insert(&section.issuer));
        if !fresh {
            return Err(VerifierError::Ambiguous(section.name.clone()));
        }
    }
    Ok(())
}
