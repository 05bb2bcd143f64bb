//! What is known of some servers' token endpoints, so that an operator need not know it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Dialect, TokenForm, TokenKind};
use crate::gateway::token_endpoint::{
    EndpointPath, FieldPlace, Handed, Learn, Pointer, RequestField, Rotation, Source, TokenEndpoint,
};

/// A kind of server.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Preset {
    /// One that does as RFC 6749 and OpenID Connect say.
    #[default]
    OAuth2,
    /// bluesky-httpserver: a login for each provider, and a refresh that does not rotate.
    Bluesky,
    /// Elasticsearch: opaque tokens, and an upstream that decodes them.
    Elasticsearch,
    /// PrivX: opaque refresh tokens, access tokens that name the session.
    PrivX,
    /// Onezone: nothing is handed out, but some calls are about a token that their body has.
    Onezone,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OAuth2, Self::Bluesky, Self::Elasticsearch, Self::PrivX, Self::Onezone];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OAuth2 => "oauth2",
            Self::Bluesky => "bluesky",
            Self::Elasticsearch => "elasticsearch",
            Self::PrivX => "privx",
            Self::Onezone => "onezone",
        }
    }

    /// The endpoints of a server that leaves them where they are; none for one that has them anywhere.
    #[must_use]
    pub fn endpoints(self, issuer: &Arc<str>, issuer_name: &Arc<str>) -> Vec<TokenEndpoint> {
        let paths = self.paths().iter().filter_map(|(path, renews)| Some((path.parse().ok()?, *renews)));
        let endpoint = |(path, renews): (EndpointPath, bool)| {
            let mut endpoint = self.endpoint(issuer.clone(), issuer_name.clone(), path);
            if !renews {
                endpoint.refresh_token.clear();
            }
            endpoint
        };
        paths.map(endpoint).collect()
    }

    /// An endpoint of such a server at another path.
    #[must_use]
    pub fn endpoint(self, issuer: Arc<str>, issuer_name: Arc<str>, path: EndpointPath) -> TokenEndpoint {
        let plain = TokenEndpoint { learn: self.learn(), ..TokenEndpoint::new(issuer, issuer_name, path) };
        let json = vec![FieldPlace::Json(Pointer::member("refresh_token"))];
        match self {
            Self::Onezone => TokenEndpoint {
                presented: TokenKind::Access,
                refresh_token: vec![FieldPlace::Json(Pointer::member("token"))],
                rotation: Rotation::Off,
                dialect: Dialect::Onezone,
                ..plain
            },
            Self::OAuth2 | Self::PrivX => plain,
            Self::Bluesky => {
                TokenEndpoint { refresh_token: json, rotation: Rotation::Off, dialect: Dialect::Bluesky, ..plain }
            }
            Self::Elasticsearch => TokenEndpoint {
                refresh_token: json,
                // The server's own window for concurrent refreshes.
                grace: Duration::from_secs(30),
                token_form: TokenForm::Elasticsearch,
                dialect: Dialect::Elasticsearch,
                ..plain
            },
        }
    }

    /// Where its answers and requests say what.
    #[must_use]
    pub fn learn(self) -> Learn {
        match self {
            Self::OAuth2 => oauth2(),
            Self::Bluesky => bluesky(),
            Self::Elasticsearch => elasticsearch(),
            Self::PrivX => privx(),
            Self::Onezone => Learn::default(),
        }
    }

    /// Where they are, and whether refresh tokens are taken there.
    const fn paths(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::OAuth2 => &[],
            Self::Bluesky => &[("/api/auth/provider/*/token", false), ("/api/auth/session/refresh", true)],
            Self::Elasticsearch => &[("/_security/oauth2/token", true), ("/_xpack/security/oauth2/token", true)],
            Self::PrivX => &[("/auth/api/v1/oauth/token", true)],
            Self::Onezone => &[
                ("/api/v3/onezone/tokens/confine", true),
                ("/api/v3/onezone/tokens/infer_access_token_scope", true),
                ("/api/v3/onezone/tokens/verify_access_token", true),
                ("/api/v3/onezone/tokens/verify_identity_token", true),
                ("/api/v3/onezone/tokens/verify_invite_token", true),
            ],
        }
    }
}

fn reply(names: &[&str]) -> Vec<Source> {
    names.iter().map(|name| Source::Reply(Pointer::member(name))).collect()
}

fn claim(names: &[(Handed, &str)]) -> Vec<Source> {
    names.iter().map(|(token, name)| Source::Claim(*token, Pointer::member(name))).collect()
}

fn request(name: &str) -> Vec<Source> {
    vec![Source::Request(RequestField::named(name))]
}

fn oauth2() -> Learn {
    use Handed::{Access, Id, Refresh};
    let everywhere = |name| claim(&[(Access, name), (Id, name), (Refresh, name)]);
    let username = claim(&[(Access, "preferred_username"), (Id, "preferred_username")]);
    let client = claim(&[(Access, "azp"), (Access, "client_id")]);
    Learn {
        access_token: reply(&["access_token"]),
        refresh_token: reply(&["refresh_token"]),
        id_token: reply(&["id_token"]),
        session: [everywhere("sid"), reply(&["session_state", "sid"])].concat(),
        user: everywhere("sub"),
        username: [username, request("username")].concat(),
        client: [client, request("client_id")].concat(),
        expires_in: reply(&["expires_in"]),
        refresh_expires_in: reply(&["refresh_expires_in", "refresh_token_expires_in"]),
        ..Learn::default()
    }
}

fn bluesky() -> Learn {
    let identity = |name: &str| vec![Source::Claim(Handed::Access, Pointer::through(&["ids", "0", name]))];
    Learn {
        access_token: reply(&["access_token"]),
        refresh_token: reply(&["refresh_token"]),
        session: claim(&[(Handed::Refresh, "sid")]),
        user: claim(&[(Handed::Access, "sub")]),
        username: identity("id"),
        domain: identity("idp"),
        expires_in: reply(&["expires_in"]),
        refresh_expires_in: reply(&["refresh_token_expires_in"]),
        ..Learn::default()
    }
}

fn elasticsearch() -> Learn {
    let authentication = |names: &[&str]| vec![Source::Reply(Pointer::through(&[&["authentication"], names].concat()))];
    let username = || [authentication(&["username"]), request("username")].concat();
    Learn {
        access_token: reply(&["access_token"]),
        refresh_token: reply(&["refresh_token"]),
        // A user has no other id there.
        user: username(),
        username: username(),
        domain: authentication(&["authentication_realm", "name"]),
        expires_in: reply(&["expires_in"]),
        ..Learn::default()
    }
}

fn privx() -> Learn {
    Learn {
        access_token: reply(&["access_token"]),
        refresh_token: reply(&["refresh_token"]),
        session: claim(&[(Handed::Access, "sessionid")]),
        user: claim(&[(Handed::Access, "userid")]),
        username: request("username"),
        client: request("client_id"),
        domain: claim(&[(Handed::Access, "domain")]),
        expires_in: reply(&["expires_in"]),
        ..Learn::default()
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no preset.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown preset {0:?}; the presets are oauth2, bluesky, elasticsearch, privx, onezone")]
pub struct UnknownPreset(String);

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| UnknownPreset(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_its_endpoints_where_its_server_has_them() {
        let paths = |preset: Preset| {
            let endpoints = preset.endpoints(&"https://i".into(), &"main".into());
            endpoints.iter().map(|e| (e.path.to_string(), e.refresh_token.len())).collect::<Vec<_>>()
        };
        assert_eq!(paths(Preset::OAuth2), []);
        let bluesky = [("/api/auth/provider/*/token".to_owned(), 0), ("/api/auth/session/refresh".to_owned(), 1)];
        assert_eq!(paths(Preset::Bluesky), bluesky);
        assert_eq!(paths(Preset::Elasticsearch).len(), 2);
        assert_eq!(paths(Preset::PrivX), [("/auth/api/v1/oauth/token".to_owned(), 1)]);
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
            assert_eq!(preset.endpoints(&"i".into(), &"i".into()).len(), preset.paths().len());
        }
    }
}
