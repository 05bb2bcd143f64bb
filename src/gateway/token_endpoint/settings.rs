//! One token endpoint, as the operator describes it. Plain data: the configuration file is somebody else's business.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Dialect, SessionType, TokenForm, TokenKind};
use crate::gateway::token_endpoint::{EndpointPath, FieldPlace, Preset, Source};

/// One token endpoint of one issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEndpoint {
    /// The issuer's `iss`.
    pub issuer: Arc<str>,
    /// The issuer's name in the configuration.
    pub issuer_name: Arc<str>,
    /// Which paths it is.
    pub path: EndpointPath,
    /// What a request shows there: a refresh token to be redeemed, or an access token that the call is about.
    pub presented: TokenKind,
    /// Where a request carries that token. Without a place none is accepted here: the endpoint only hands out.
    pub refresh_token: Vec<FieldPlace>,
    /// Whether a refresh token is good once.
    pub rotation: Rotation,
    /// How long after its first use a refresh token may come again from the same client.
    pub grace: Duration,
    /// How often it may come again in that time.
    pub grace_replays: u32,
    /// What must be equal for a client to be the same.
    pub same_client: Vec<ClientTrait>,
    /// Where its answers and requests say what.
    pub learn: Learn,
    /// How its refresh tokens are written.
    pub token_form: TokenForm,
    /// What a session that begins here is.
    pub session_type: SessionType,
    /// Whose answers ours resemble.
    pub dialect: Dialect,
}

impl TokenEndpoint {
    /// An endpoint as RFC 6749 describes it, with the defaults of everything.
    #[must_use]
    pub fn new(issuer: Arc<str>, issuer_name: Arc<str>, path: EndpointPath) -> Self {
        Self {
            issuer,
            issuer_name,
            path,
            presented: TokenKind::Refresh,
            refresh_token: vec![FieldPlace::Form("refresh_token".into())],
            rotation: Rotation::Observe,
            grace: Duration::from_secs(10),
            grace_replays: 16,
            same_client: vec![ClientTrait::Address, ClientTrait::UserAgent, ClientTrait::Credentials],
            learn: Preset::OAuth2.learn(),
            token_form: TokenForm::Any,
            session_type: SessionType::Login,
            dialect: Dialect::OAuth2,
        }
    }
}

/// Whether a refresh token is good once (RFC 9700 §4.14).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rotation {
    /// Families are not looked at.
    Off,
    /// Families are learned and second uses counted.
    #[default]
    Observe,
    /// A second use ends the family.
    Enforce,
}

/// What tells one client from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientTrait {
    /// Its address.
    Address,
    /// Its `User-Agent`.
    UserAgent,
    /// The client credentials of RFC 6749 §2.3.
    Credentials,
}

/// Where to learn what. Sources are tried in order, and the first that says something counts. A field of the request counts
/// only where somebody logs in with name and password, so that the answer vouches for it; that of `client`, always.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Learn {
    /// The access token handed out.
    pub access_token: Vec<Source>,
    /// The refresh token handed out.
    pub refresh_token: Vec<Source>,
    /// The ID token handed out (OpenID Connect Core §2).
    pub id_token: Vec<Source>,
    /// The session.
    pub session: Vec<Source>,
    /// The session it was opened from.
    pub parent: Vec<Source>,
    /// The user.
    pub user: Vec<Source>,
    /// The name people know the user by.
    pub username: Vec<Source>,
    /// The client.
    pub client: Vec<Source>,
    /// The part of the issuer the session belongs to.
    pub domain: Vec<Source>,
    /// How long the access token lives, in seconds.
    pub expires_in: Vec<Source>,
    /// How long the refresh token lives, in seconds.
    pub refresh_expires_in: Vec<Source>,
    /// How long the session lives, in seconds.
    pub session_expires_in: Vec<Source>,
}

impl Learn {
    /// All sources, by what they tell.
    #[must_use]
    pub const fn all(&self) -> [&Vec<Source>; 12] {
        [
            &self.access_token,
            &self.refresh_token,
            &self.id_token,
            &self.session,
            &self.parent,
            &self.user,
            &self.username,
            &self.client,
            &self.domain,
            &self.expires_in,
            &self.refresh_expires_in,
            &self.session_expires_in,
        ]
    }
}
