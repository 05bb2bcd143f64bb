//! `preset`: what is known of the tokens of some systems, so that an operator need not know it. A key that stands beside it
//! counts more.

use super::Way;
use crate::config::table::Table;
use crate::config::value::choice;
use crate::domain::TokenForm;
use crate::verify::{Algorithm, ClaimNames};

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Preset {
    /// Those of an issuer that does as OpenID Connect and RFC 9068 say.
    #[default]
    OAuth2,
    /// bluesky-httpserver's: JWTs without `iss` and without `sid`, signed with a key of its own; API keys.
    Bluesky,
    /// Elasticsearch's: opaque, and decoded by it.
    Elasticsearch,
    /// PrivX's: JWTs that keep their padding, under an algorithm's name that others do not use.
    PrivX,
    /// Onezone's: macaroons.
    Onezone,
}

impl Preset {
    const NAMES: [(&str, Self); 5] = [
        ("oauth2", Self::OAuth2),
        ("bluesky", Self::Bluesky),
        ("elasticsearch", Self::Elasticsearch),
        ("privx", Self::PrivX),
        ("onezone", Self::Onezone),
    ];

    /// The one an issuer's section names.
    pub(super) fn of(table: &mut Table<'_>) -> Self {
        table.node("preset").and_then(|node| choice(&node, &Self::NAMES)).unwrap_or_default()
    }

    /// How its tokens are verified.
    pub(super) const fn way(self) -> Way {
        match self {
            Self::OAuth2 | Self::PrivX => Way::Signature,
            Self::Onezone => Way::Macaroon,
            Self::Bluesky | Self::Elasticsearch => Way::Unverified,
        }
    }

    /// Whether a JWT without `iss` is its.
    pub(super) const fn misses_iss(self) -> bool {
        matches!(self, Self::Bluesky)
    }

    /// Whether texts that are no JWT are its tokens.
    pub(super) const fn has_opaque_tokens(self) -> bool {
        matches!(self, Self::Bluesky | Self::Elasticsearch)
    }

    /// What its JWTs are signed with. PrivX's say so by the name of the curve, which nobody else's may unless a section asks
    /// for it: the name is younger than most verifiers (RFC 9864).
    pub(super) fn algorithms(self) -> Vec<Algorithm> {
        match self {
            Self::PrivX => vec![Algorithm::Ed25519],
            _ => vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        }
    }

    /// Whether the parts of its JWTs may keep their padding.
    pub(super) const fn allows_padding(self) -> bool {
        matches!(self, Self::PrivX)
    }

    /// How its opaque tokens are written.
    pub(super) const fn token_form(self) -> TokenForm {
        match self {
            Self::Bluesky => TokenForm::Hexadecimal,
            Self::Elasticsearch => TokenForm::Elasticsearch,
            _ => TokenForm::Any,
        }
    }

    /// Whether its session ids are UUIDs.
    pub(super) const fn has_uuid_sessions(self) -> bool {
        matches!(self, Self::Bluesky)
    }

    /// In which claims its tokens say what.
    pub(super) fn claims(self) -> ClaimNames {
        let usual = ClaimNames::default();
        match self {
            Self::Bluesky => ClaimNames { username: "/ids/0/id".into(), ..usual },
            Self::PrivX => ClaimNames {
                user: "userid".into(),
                session: "sessionid".into(),
                scope: Some("permissions".into()),
                comma_separated_scopes: true,
                ..usual
            },
            _ => usual,
        }
    }
}
