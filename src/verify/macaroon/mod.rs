//! Macaroons, as Onedata's Onezone issues them: an identifier that says whose token it is, and caveats that anybody who
//! holds one may add, so that one token has endlessly many texts. What is the token's own is the identifier alone: all that
//! was derived from one is one token here.
//!
//! Only the issuer's secret can tell a real macaroon from a made-up one. Without it nobody vouches for what one says: that
//! is good for refusing and never for granting. With it the chain of HMACs is verified and each caveat judged; where one
//! says what cannot be judged here, still nobody vouches.

mod caveat;
mod identifier;
mod packets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use crate::domain::{Claims, Denial, Timestamp, TokenDigest, TokenKind};
use crate::verify::Assurance;
use crate::verify::jws;
use crate::verify::macaroon::caveat::{Caveat, Verdict};
use crate::verify::macaroon::identifier::{Identity, Subject, Type};
use crate::verify::settings::{IssuerSettings, MacaroonSettings};

/// What the secret is hashed with to make the first key: libmacaroons' own constant.
const KEY_GENERATOR: &[u8] = b"macaroons-key-generator";

/// A macaroon, decoded and not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Macaroon {
    /// Where it says it is from; nothing signs that.
    pub(super) location: Box<str>,
    identifier: Box<str>,
    identity: Identity,
    caveats: Vec<Box<[u8]>>,
    signature: [u8; 32],
}

/// What a macaroon says, how far it may be believed, and why it is no good, if it is not.
#[derive(Clone, Debug)]
pub(super) struct Testimony {
    pub(super) claims: Arc<Claims>,
    pub(super) assurance: Assurance,
    pub(super) flaw: Option<Denial>,
}

impl Testimony {
    /// Whether its issuer made it, good or not.
    pub(super) fn is_genuine(&self) -> bool {
        self.assurance == Assurance::Vouched && self.flaw.is_none_or(|flaw| flaw == Denial::Expired)
    }
}

impl Macaroon {
    /// Takes a text apart; `None` for anything but the one way a macaroon is written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let packets::Packets { location, identifier, caveats, signature } = packets::read(text)?;
        let identity = Identity::parse(&identifier)?;
        Some(Self { location, identifier, identity, caveats, signature })
    }

    /// Whether a reader more lenient than we are might find a macaroon in a text: one that is not written as it must be.
    pub(super) fn is_like(text: &str) -> bool {
        packets::resembles(text)
    }

    /// Whether the issuer of these settings may have made it.
    pub(super) fn is_from(&self, issuer: &IssuerSettings, settings: &MacaroonSettings) -> bool {
        *self.location == *issuer.issuer || settings.domains.contains(&self.location)
    }

    /// What it says of itself under that issuer, whether or not that is true.
    pub(super) fn claims(&self, issuer: &IssuerSettings) -> Claims {
        let Identity { subject, kind, generation, id } = &self.identity;
        let (user, provider) = match subject {
            Some(Subject::User(user)) => (Some(user.clone()), None),
            Some(Subject::Provider(provider)) => (None, Some(provider.clone())),
            None => (None, None),
        };
        let session = match kind {
            Type::Access(session) => session.clone(),
            Type::Identity | Type::Invite => None,
        };
        let persistence: Box<str> = if generation.is_some() { "temporary" } else { "named" }.into();
        // In the order of their names.
        let other =
            [("persistence", Some(persistence)), ("provider", provider), ("token_type", Some(kind.name().into()))];
        Claims {
            token_id: Some(id.clone()),
            session,
            user,
            expires_at: self.expires_at(),
            generation: *generation,
            other: other.into_iter().filter_map(|(name, value)| Some((name.into(), [value?].into()))).collect(),
            ..Claims::bare(issuer.issuer.clone(), TokenKind::Access, self.digest())
        }
    }

    /// What it is worth, now and used as `wanted`.
    pub(super) fn testify(
        &self,
        issuer: &IssuerSettings,
        settings: &MacaroonSettings,
        wanted: TokenKind,
        now: Timestamp,
    ) -> Testimony {
        let claims = Arc::new(self.claims(issuer));
        let verdict = settings.secret.as_ref().map(|_| self.verdict(&settings.service));
        let assurance = if verdict == Some(Verdict::Satisfied) { Assurance::Vouched } else { Assurance::Unchecked };
        let serves = wanted == TokenKind::Access && matches!(self.identity.kind, Type::Access(_));
        let flaw = match settings.secret.as_ref().map(|secret| self.is_signed_with(secret.expose().as_bytes())) {
            _ if !serves => Some(Denial::Type),
            Some(false) => Some(Denial::Signature),
            _ if verdict == Some(Verdict::Unsatisfied) => Some(Denial::Audience),
            _ => out_of_time(&claims, issuer, now),
        };
        Testimony { claims, assurance, flaw }
    }

    /// The SHA-256 of the identifier: the same for all that was derived from one token.
    fn digest(&self) -> TokenDigest {
        jws::sha256(&self.identifier)
    }

    /// The first second in which it is dead by its own word.
    fn expires_at(&self) -> Option<Timestamp> {
        self.read_caveats().filter_map(|caveat| caveat.until()).min()
    }

    fn verdict(&self, service: &str) -> Verdict {
        self.read_caveats().map(|caveat| caveat.judge(service)).max().unwrap_or(Verdict::Satisfied)
    }

    fn read_caveats(&self) -> impl Iterator<Item = Caveat<'_>> {
        self.caveats.iter().map(|caveat| Caveat::parse(caveat))
    }

    /// Whether the chain of HMACs over identifier and caveats ends in the signature, when it begins with the secret.
    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let first = hmac(hmac(KEY_GENERATOR, secret).as_ref(), self.identifier.as_bytes());
        let chained = self.caveats.iter().fold(first, |key, caveat| hmac(key.as_ref(), caveat));
        verify_slices_are_equal(chained.as_ref(), &self.signature).is_ok()
    }
}

/// Why its time is not now. A token that never ends, or ends later than revocations are kept, would outlive its own.
fn out_of_time(claims: &Claims, issuer: &IssuerSettings, now: Timestamp) -> Option<Denial> {
    let longest = issuer.max_token_lifetime.map(|longest| now.after(longest.saturating_add(issuer.leeway)));
    match (claims.expires_at, longest) {
        (Some(expires_at), _) if now >= expires_at.after(issuer.leeway) => Some(Denial::Expired),
        (Some(expires_at), Some(longest)) if expires_at > longest => Some(Denial::Lifetime),
        (None, Some(_)) => Some(Denial::Lifetime),
        _ => None,
    }
}

fn hmac(key: &[u8], message: &[u8]) -> aws_lc_rs::hmac::Tag {
    sign(&Key::new(HMAC_SHA256, key), message)
}
