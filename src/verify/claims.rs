//! From a payload to claims, with types as strict as their meaning needs. A claim of the wrong type is never treated as a
//! claim that is missing: a token whose `exp` is a text would live for ever.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::json::Object;
use crate::domain::{Claims, Denial, Memo, OtherClaim, Timestamp, TokenDigest, TokenKind};
use crate::verify::jws::Header;
use crate::verify::kind::Marking;
use crate::verify::settings::{ClaimNames, IssuerSettings};

/// The longest value a selector can name, in bytes: a token whose identity is longer could not be revoked.
const MAX_VALUE_BYTES: usize = 1024;
/// The longest name a selector can ask for, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What a token says of itself, and what of it is only good for verifying it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// What everybody may know.
    pub(super) claims: Arc<Claims>,
    marking: Marking,
    not_before: Option<Timestamp>,
    audience: Box<[Box<str>]>,
}

/// Reads a payload, or an introspection answer, under an issuer's rules. Checks form only: neither time nor audience.
pub(super) fn read(
    payload: &Object,
    header: Option<&Header>,
    digest: TokenDigest,
    issuer: &IssuerSettings,
) -> Result<Reading, Denial> {
    let source = Source { payload, names: &issuer.claims };
    let marking = Marking::of(header, payload, issuer.token_type.as_deref());
    let claims = Claims {
        issuer: issuer.issuer.clone(),
        kind: marking.kind().unwrap_or(TokenKind::Access),
        digest,
        token_id: source.text(&source.names.token_id)?,
        session: source.text(&source.names.session)?,
        user: source.text(&source.names.user)?,
        username: source.text(&source.names.username)?,
        client: source.client()?,
        key_id: header.and_then(|header| header.key_id.clone()).filter(|kid| !kid.is_empty()),
        issued_at: source.moment("iat")?,
        expires_at: source.moment("exp")?,
        scopes: source.scopes()?,
        other: source.other(),
        family: None,
        twins: Box::default(),
        generation: None,
        memo: Memo::default(),
    };
    Ok(Reading { claims: Arc::new(claims), marking, not_before: source.moment("nbf")?, audience: source.audience()? })
}

impl Reading {
    /// About how much memory it holds, in bytes.
    pub(super) fn weight_bytes(&self) -> usize {
        let audience: usize = self.audience.iter().map(|audience| audience.len() + 16).sum();
        size_of::<Self>() + audience + self.claims.weight_bytes()
    }

    /// Whether the token is good now as `wanted`, under its issuer's rules. A refresh token is meant for its issuer
    /// (RFC 6749 §1.5), so it is not asked whether it is meant for us.
    pub(super) fn check(&self, issuer: &IssuerSettings, wanted: TokenKind, now: Timestamp) -> Result<(), Denial> {
        if self.deadline(issuer).is_some_and(|deadline| now >= deadline) {
            return Err(Denial::Expired);
        }
        if self.not_before.is_some_and(|not_before| now.after(issuer.leeway) < not_before) {
            return Err(Denial::NotYetValid);
        }
        if self.claims.issued_at.is_some_and(|issued_at| issued_at > now.after(issuer.leeway)) {
            return Err(Denial::NotYetValid);
        }
        if issuer.max_token_lifetime.is_some_and(|longest| self.outlives(longest.saturating_add(issuer.leeway), now)) {
            return Err(Denial::Lifetime);
        }
        if wanted != TokenKind::Refresh && !self.is_meant_for(&issuer.audiences) {
            return Err(Denial::Audience);
        }
        Ok(())
    }

    fn is_meant_for(&self, ours: &[Box<str>]) -> bool {
        ours.is_empty() || self.audience.iter().any(|audience| ours.contains(audience))
    }

    /// The first second in which the token is dead: `exp` (RFC 7519 §4.1.4), and what the clocks may differ.
    pub(super) fn deadline(&self, issuer: &IssuerSettings) -> Option<Timestamp> {
        self.claims.expires_at.map(|expires_at| expires_at.after(issuer.leeway))
    }

    /// The claims of a token that is used as `wanted`; one that does not say its kind is what it is used as.
    pub(super) fn used_as(&self, wanted: TokenKind) -> Result<Arc<Claims>, Denial> {
        if !self.marking.serves_as(wanted) {
            return Err(Denial::Type);
        }
        if self.marking.kind().is_some() || self.claims.kind == wanted {
            return Ok(self.claims.clone());
        }
        Ok(Arc::new(Claims { kind: wanted, ..(*self.claims).clone() }))
    }

    /// Whether a revocation that is kept for `longest` could be forgotten before the token is dead.
    fn outlives(&self, longest: Duration, now: Timestamp) -> bool {
        match (self.claims.issued_at, self.claims.expires_at) {
            (Some(issued_at), Some(expires_at)) => expires_at > issued_at.after(longest),
            (None, Some(expires_at)) => expires_at > now.after(longest),
            (Some(issued_at), None) => now > issued_at.after(longest),
            (None, None) => true,
        }
    }
}

/// A payload, and in which of its claims to look.
struct Source<'a> {
    payload: &'a Object,
    names: &'a ClaimNames,
}

impl Source<'_> {
    /// A text that can be named by a selector. A claim that an issuer's section renamed may be an integer too; an empty
    /// one says nothing. A name that begins with a slash leads into a claim (RFC 6901): `/ids/0/id`.
    fn text(&self, name: &str) -> Result<Option<Box<str>>, Denial> {
        let registered = matches!(name, "sub" | "sid" | "jti" | "azp" | "client_id");
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if nameable(text) => Ok(Some(text.as_str().into())),
            Some(Value::Number(number)) if !registered && !number.is_f64() => Ok(Some(number.to_string().into())),
            Some(_) => Err(Denial::Claim),
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let Some(path) = name.strip_prefix('/') else { return self.payload.get(name) };
        let (first, rest) = path.find('/').map_or((path, ""), |at| path.split_at(at));
        self.payload.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }

    fn client(&self) -> Result<Option<Box<str>>, Denial> {
        match &self.names.client {
            Some(name) => self.text(name),
            None => Ok(self.text("azp")?.or(self.text("client_id")?)),
        }
    }

    /// A NumericDate (RFC 7519 §2): a number, floored to the second, from the epoch to [`Timestamp::MAX`].
    fn moment(&self, name: &str) -> Result<Option<Timestamp>, Denial> {
        let Some(value) = self.payload.get(name) else { return Ok(None) };
        let secs = value.as_u64().or_else(|| value.as_f64().and_then(floor)).ok_or(Denial::Claim)?;
        let moment = Timestamp::from_secs(secs);
        if moment > Timestamp::MAX { Err(Denial::Claim) } else { Ok(Some(moment)) }
    }

    /// One text or an array of texts (RFC 7519 §4.1.3).
    fn audience(&self) -> Result<Box<[Box<str>]>, Denial> {
        self.payload.get("aud").map_or(Ok(Box::default()), |value| texts(value).ok_or(Denial::Claim))
    }

    /// One text split at blanks (RFC 8693 §4.2), and at commas where the issuer writes lists so; or an array of texts.
    fn scopes(&self) -> Result<Box<[Box<str>]>, Denial> {
        let value = self.scope_name().and_then(|name| self.payload.get(name));
        let scopes = value.map_or(Ok(Box::default()), |value| texts(value).ok_or(Denial::Claim))?;
        let parts = |letter: char| letter == ' ' || (letter == ',' && self.names.comma_separated_scopes);
        Ok(scopes
            .iter()
            .flat_map(|scope| scope.split(parts))
            .filter(|scope| !scope.is_empty())
            .map(Into::into)
            .collect())
    }

    fn scope_name(&self) -> Option<&str> {
        match &self.names.scope {
            Some(name) => Some(name),
            None => ["scope", "scp"].into_iter().find(|name| self.payload.contains_key(*name)),
        }
    }

    /// Every claim as text, sorted by name, those that have a field of their own too: a selector may ask for any by the name
    /// the issuer gives it. Without the moments, which differ from token to token, and what no selector could name.
    fn other(&self) -> Box<[OtherClaim]> {
        let moment = |name: &str| matches!(name, "iss" | "iat" | "exp" | "nbf");
        let named = self.payload.iter().filter(|(name, _)| !moment(name) && name.len() <= MAX_NAME_BYTES);
        let mut other: Vec<OtherClaim> =
            named.map(|(name, value)| (name.as_str().into(), values(value))).filter(|(_, v)| !v.is_empty()).collect();
        other.sort_unstable();
        other.into()
    }
}

/// Whether a selector can name this value.
fn nameable(text: &str) -> bool {
    (1..=MAX_VALUE_BYTES).contains(&text.len()) && !text.contains('\0')
}

/// Whole seconds of a fraction; `None` for what lies before the epoch or beyond what is counted.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored, and checked to be in range")]
fn floor(secs: f64) -> Option<u64> {
    let floored = secs.floor();
    (0.0..=f64::from(u32::MAX)).contains(&floored).then_some(floored as u64)
}

/// One text, or the members of an array of texts; `None` for anything else.
fn texts(value: &Value) -> Option<Box<[Box<str>]>> {
    match value {
        Value::String(text) => Some(Box::new([text.as_str().into()])),
        Value::Array(members) => members.iter().map(|member| member.as_str().map(Into::into)).collect(),
        _ => None,
    }
}

/// A claim as selectors see it: texts as they are, integers in decimal, booleans by name; members of arrays likewise.
fn values(value: &Value) -> Box<[Box<str>]> {
    match value {
        Value::Array(members) => members.iter().filter_map(plain).collect(),
        value => plain(value).into_iter().collect(),
    }
}

fn plain(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if nameable(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(decimal(number).into()),
        Value::Bool(truth) => Some(truth.to_string().into()),
        _ => None,
    }
}

/// The decimal text of a number: 1.0 and 1e0 are 1, as they are to whoever reads JSON's numbers as numbers.
fn decimal(number: &serde_json::Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => format!("{float}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_lead_into_a_claim() {
        let payload = json!({"ids": [{"id": "bob"}, {"id": 7}], "a/b": {"~": "x"}, "": {"": "y"}});
        let payload = payload.as_object().unwrap();
        let source = Source { payload, names: &ClaimNames::default() };
        let text = |name: &str| source.text(name).map(|text| text.map(String::from));
        assert_eq!(text("/ids/0/id"), Ok(Some("bob".to_owned())));
        assert_eq!(text("/ids/1/id"), Ok(Some("7".to_owned())));
        assert_eq!(text("/a~1b/~0"), Ok(Some("x".to_owned())));
        assert_eq!(text("//"), Ok(Some("y".to_owned())));
        for nowhere in ["/ids/2/id", "/ids/0/x", "/x", "ids/0/id"] {
            assert_eq!(text(nowhere), Ok(None), "{nowhere}");
        }
        assert_eq!(text("/ids/0"), Err(Denial::Claim), "no text");
    }
}
