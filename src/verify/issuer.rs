//! One issuer: its rules, the means by which its tokens are verified, and how far its clock runs ahead of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{BearerToken, Claims, Denial, Timestamp, TokenDigest, TokenKind};
use crate::verify::claims::{self, Reading};
use crate::verify::generations::Generations;
use crate::verify::jws::{self, Jws};
use crate::verify::jwt::KeyIdentity;
use crate::verify::key_set::KeySet;
use crate::verify::keys::{self, Keys, KeysError, Renewal, Surroundings};
use crate::verify::opaque::{Introspection, Outcome};
use crate::verify::settings::{IssuerSettings, KeySource, MacaroonSettings, Verification};
use crate::verify::{IssuerFacts, VerifyError};

/// An issuer as it is configured.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Its rules.
    pub(super) settings: IssuerSettings,
    /// How many introspection answers it may remember; part of what makes it the same across a reload.
    pub(super) introspection_entries: u64,
    means: Means,
    lead_secs: AtomicU64,
    /// Of its users' temporary tokens.
    pub(super) generations: Generations,
}

/// How tokens are verified.
#[derive(Debug)]
enum Means {
    Signature(Keys),
    Introspection(Box<Introspection>),
    Macaroon,
    None,
}

/// Who vouches for what was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Voucher {
    /// That key.
    Key(KeyIdentity),
    /// The issuer's word.
    Word,
    /// Nobody.
    Nobody,
}

impl Issuer {
    /// An issuer with nothing fetched yet. Needs a runtime when keys are to be fetched.
    pub(super) fn start(
        settings: IssuerSettings,
        introspection_entries: u64,
        around: Surroundings,
    ) -> Result<Self, KeysError> {
        let means = match &settings.verification {
            Verification::Signature(signature) => {
                let (name, issuer) = (settings.name.clone(), settings.issuer.clone());
                Means::Signature(Keys::start(name, issuer, signature.clone(), around)?)
            }
            Verification::Introspection(asked) => {
                Means::Introspection(Box::new(Introspection::new(asked.clone(), introspection_entries, around)))
            }
            Verification::Macaroon(_) => Means::Macaroon,
            Verification::None => Means::None,
        };
        Ok(Self {
            settings,
            introspection_entries,
            means,
            lead_secs: AtomicU64::new(0),
            generations: Generations::default(),
        })
    }

    /// Reads the key file anew, if there is one.
    pub(super) fn reread(&self) -> Result<Option<Arc<KeySet>>, KeysError> {
        match &self.settings.verification {
            Verification::Signature(signature) => match &signature.keys {
                KeySource::File(path) => keys::from_file(path, signature).map(Some),
                KeySource::Url(_) | KeySource::Discovery => Ok(None),
            },
            Verification::Introspection(_) | Verification::Macaroon(_) | Verification::None => Ok(None),
        }
    }

    /// Takes over keys that were read anew.
    pub(super) fn replace_keys(&self, set: Arc<KeySet>) {
        if let Means::Signature(keys) = &self.means {
            keys.replace(set);
        }
    }

    /// The part that is asked, if this issuer is.
    pub(super) fn introspection(&self) -> Option<&Introspection> {
        match &self.means {
            Means::Introspection(introspection) => Some(introspection),
            Means::Signature(_) | Means::Macaroon | Means::None => None,
        }
    }

    /// How its macaroons are verified, if it has such.
    pub(super) const fn macaroons(&self) -> Option<&MacaroonSettings> {
        match &self.settings.verification {
            Verification::Macaroon(settings) => Some(settings),
            Verification::Signature(_) | Verification::Introspection(_) | Verification::None => None,
        }
    }

    /// Whether some of its tokens may be no JWTs: access tokens that are asked about or left to the upstream, refresh tokens.
    pub(super) const fn has_opaque_tokens(&self) -> bool {
        let settings = &self.settings;
        matches!(self.means, Means::Introspection(_)) || settings.opaque_tokens || settings.has_token_endpoints
    }

    /// The digest that an opaque token of this issuer is known by.
    pub(super) fn digest(&self, token: &BearerToken) -> TokenDigest {
        jws::sha256(&self.settings.token_form.identity(token.expose()))
    }

    /// Verifies a JWT of this issuer. What is returned is good now.
    pub(super) async fn verify(
        &self,
        token: &BearerToken,
        jws: &Jws<'_>,
        wanted: TokenKind,
        now: Timestamp,
    ) -> Result<(Reading, Voucher), VerifyError> {
        self.check_form(jws)?;
        match &self.means {
            Means::Signature(keys) => {
                let key = self.signature(keys, jws).await?;
                let reading = self.read(jws)?;
                if reading.claims.expires_at.is_none() {
                    return Err(Denial::Claim.into());
                }
                self.vouched(reading, Voucher::Key(key), wanted, now)
            }
            Means::Introspection(introspection) => {
                let reading = self.heard(introspection.ask(&self.settings, token, Some(jws), wanted).await)?;
                self.vouched(reading, Voucher::Word, wanted, now)
            }
            // Its tokens are no JWTs.
            Means::Macaroon => Err(Denial::Malformed.into()),
            Means::None => {
                let reading = self.read(jws)?;
                reading.check(&self.settings, wanted, now)?;
                Ok((reading, Voucher::Nobody))
            }
        }
    }

    /// Asks about an opaque token, if this issuer can be asked. What is returned is good now.
    pub(super) async fn introspect(
        &self,
        token: &BearerToken,
        wanted: TokenKind,
        now: Timestamp,
    ) -> Result<Reading, VerifyError> {
        let introspection = self.introspection().ok_or(Denial::UnknownIssuer)?;
        let reading = self.heard(introspection.ask(&self.settings, token, None, wanted).await)?;
        self.vouched(reading, Voucher::Word, wanted, now).map(|(reading, _)| reading)
    }

    /// What a JWT of this issuer says, checked for form alone.
    pub(super) fn read(&self, jws: &Jws<'_>) -> Result<Reading, Denial> {
        claims::read(&jws.claims, Some(&jws.header), jws.digest(), &self.settings)
    }

    /// What the issuer's section says about form.
    pub(super) fn check_form(&self, jws: &Jws<'_>) -> Result<(), Denial> {
        if jws.padded && !self.settings.allow_padding { Err(Denial::Malformed) } else { Ok(()) }
    }

    /// Whether the key that vouched for a token still does.
    pub(super) fn still_holds(&self, key: &KeyIdentity) -> bool {
        match &self.means {
            Means::Signature(keys) => keys.current().is_some_and(|set| set.holds(key)),
            Means::Introspection(_) | Means::Macaroon | Means::None => false,
        }
    }

    /// What control needs to know.
    pub(super) fn facts(&self) -> IssuerFacts {
        IssuerFacts {
            name: self.settings.name.clone(),
            issuer: self.settings.issuer.clone(),
            max_token_lifetime: self.settings.max_token_lifetime,
            max_refresh_token_lifetime: self.settings.max_refresh_token_lifetime,
            longest_life: self.longest_life(),
            leeway: self.settings.leeway,
            lead: Duration::from_secs(self.lead_secs.load(Ordering::Relaxed)),
            uuid_sessions: self.settings.uuid_sessions,
        }
    }

    fn longest_life(&self) -> Option<Duration> {
        let access = self.settings.max_token_lifetime?;
        if self.settings.has_token_endpoints {
            Some(access.max(self.settings.max_refresh_token_lifetime?))
        } else {
            Some(access)
        }
    }

    /// Finds the key whose signature the token bears; where a newer key set could know it, asks for one.
    async fn signature(&self, keys: &Keys, jws: &Jws<'_>) -> Result<KeyIdentity, VerifyError> {
        if !self.allows(&jws.header.algorithm) {
            return Err(Denial::Signature.into());
        }
        let set = keys.first().await.ok_or_else(|| self.unavailable())?;
        if let Some(key) = set.verify(jws) {
            return Ok(key);
        }
        if !set.may_lack(jws) {
            return Err(Denial::Signature.into());
        }
        match keys.renew().await {
            Renewal::Fetched(newer) => newer.verify(jws).ok_or_else(|| Denial::Signature.into()),
            Renewal::Current => Err(Denial::Signature.into()),
            Renewal::Failed => Err(self.unavailable()),
        }
    }

    fn allows(&self, named: &str) -> bool {
        match &self.settings.verification {
            Verification::Signature(signature) => signature.algorithms.iter().any(|known| known.name() == named),
            Verification::Introspection(_) | Verification::Macaroon(_) | Verification::None => false,
        }
    }

    fn heard(&self, outcome: Outcome) -> Result<Reading, VerifyError> {
        match outcome {
            Outcome::Active(reading) => Ok(reading),
            Outcome::Refused(denial) => Err(denial.into()),
            Outcome::Unknown => Err(self.unavailable()),
        }
    }

    /// Checks what is vouched for, and learns from it how far the issuer's clock runs ahead.
    fn vouched(
        &self,
        reading: Reading,
        by: Voucher,
        wanted: TokenKind,
        now: Timestamp,
    ) -> Result<(Reading, Voucher), VerifyError> {
        reading.check(&self.settings, wanted, now)?;
        self.observe(&reading.claims, now);
        Ok((reading, by))
    }

    fn observe(&self, claims: &Claims, now: Timestamp) {
        let ahead = claims.issued_at.map_or(Duration::ZERO, |issued_at| issued_at.since(now));
        let lead_secs = ahead.min(self.settings.leeway).as_secs();
        if lead_secs > self.lead_secs.load(Ordering::Relaxed) {
            self.lead_secs.fetch_max(lead_secs, Ordering::Relaxed);
        }
    }

    fn unavailable(&self) -> VerifyError {
        VerifyError::Unavailable { issuer: self.settings.name.clone() }
    }
}
