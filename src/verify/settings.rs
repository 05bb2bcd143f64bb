//! What the operator decides about issuers and caches. Plain data: the configuration file is somebody else's business.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;

use crate::domain::TokenForm;
use crate::verify::jwt::Algorithm;

/// Everything the verifier is told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The issuers, in the order in which opaque tokens are shown to them.
    pub issuers: Vec<IssuerSettings>,
    /// The bounds of the caches.
    pub cache: CacheSettings,
}

/// The bounds of the caches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheSettings {
    /// How much memory verified tokens may take.
    pub verified_bytes: u64,
    /// How long a verification is remembered; never past `exp`.
    pub verified_ttl: Duration,
    /// How many introspection answers are remembered, per issuer.
    pub introspection_entries: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            verified_bytes: 64 * 1024 * 1024,
            verified_ttl: Duration::from_secs(300),
            introspection_entries: 100_000,
        }
    }
}

/// One issuer: who it is and how its tokens are verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerSettings {
    /// The name in routes, metrics and admin calls.
    pub name: Arc<str>,
    /// Compared exactly with `iss`.
    pub issuer: Arc<str>,
    /// How its tokens are verified.
    pub verification: Verification,
    /// One of them must be in `aud`; none asks for no audience.
    pub audiences: Vec<Box<str>>,
    /// Tolerance for clocks.
    pub leeway: Duration,
    /// No token may live longer. Revocations are kept as long as this says.
    pub max_token_lifetime: Option<Duration>,
    /// No refresh token lives longer than this after it was issued; `None` when that is not known. Revocations that reach
    /// refresh tokens are kept as long as this says too.
    pub max_refresh_token_lifetime: Option<Duration>,
    /// Whether it has token endpoints here, so that refresh tokens are checked and revocations must outlive them.
    pub has_token_endpoints: bool,
    /// A JWT without `iss` is this issuer's; for one issuer at most, whose verification is `none`.
    pub missing_iss: bool,
    /// Texts that are no JWT are this issuer's tokens too, known by their digest and by what was learned; for one issuer
    /// at most, whose verification is `none`.
    pub opaque_tokens: bool,
    /// How its opaque tokens are written; several texts may be one token to an upstream that decodes them.
    pub token_form: TokenForm,
    /// Whether its session ids are UUIDs, which its tokens write without dashes: admin calls may spell them otherwise.
    pub uuid_sessions: bool,
    /// What `typ` must be, with or without `application/` (RFC 9068 §4); of an opaque token, its `token_type`.
    pub token_type: Option<Box<str>>,
    /// In which claims a token says what we want to know.
    pub claims: ClaimNames,
    /// Whether base64url may end in `=`, as some load balancers write it.
    pub allow_padding: bool,
    /// Extra trust roots for calls to it, as PEM.
    pub ca: Option<PathBuf>,
}

impl IssuerSettings {
    /// An issuer with the defaults of everything but these.
    #[must_use]
    pub fn new(name: &str, issuer: &str, verification: Verification) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            verification,
            audiences: Vec::new(),
            leeway: Duration::from_secs(5),
            max_token_lifetime: None,
            max_refresh_token_lifetime: None,
            has_token_endpoints: false,
            missing_iss: false,
            opaque_tokens: false,
            token_form: TokenForm::Any,
            uuid_sessions: false,
            token_type: None,
            claims: ClaimNames::default(),
            allow_padding: false,
            ca: None,
        }
    }
}

/// How an issuer's tokens are verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verification {
    /// By signature, with keys of the issuer.
    Signature(SignatureSettings),
    /// By asking the issuer (RFC 7662).
    Introspection(IntrospectionSettings),
    /// As a macaroon of Onezone's: with a secret, or only to refuse.
    Macaroon(MacaroonSettings),
    /// Not at all: the upstream does it. Claims are read only to refuse.
    None,
}

/// How macaroons are verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MacaroonSettings {
    /// What their chain of HMACs begins with. Without it they are read only to refuse.
    pub secret: Option<ClientSecret>,
    /// Locations of its macaroons beside its own name.
    pub domains: Vec<Box<str>>,
    /// Which service this gate stands before, as caveats call it.
    pub service: Box<str>,
}

impl Default for MacaroonSettings {
    fn default() -> Self {
        Self { secret: None, domains: Vec::new(), service: "ozw-onezone".into() }
    }
}

/// How signatures are verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureSettings {
    /// Where the keys come from.
    pub keys: KeySource,
    /// The algorithms allowed; there is no way to name `none` or an HMAC.
    pub algorithms: Vec<Algorithm>,
    /// The shortest time between two fetches of the key set.
    pub cooldown: Duration,
    /// The longest time between two fetches of the key set.
    pub refresh: Duration,
}

impl SignatureSettings {
    /// Keys from there, for those algorithms, fetched as often as is customary.
    #[must_use]
    pub fn new(keys: KeySource, algorithms: Vec<Algorithm>) -> Self {
        Self { keys, algorithms, cooldown: Duration::from_secs(30), refresh: Duration::from_secs(15 * 60) }
    }
}

/// Where keys come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// A JWKS at this URL.
    Url(Uri),
    /// A JWKS in this file.
    File(PathBuf),
    /// The JWKS that the issuer's discovery document names (OpenID Connect Discovery §4).
    Discovery,
}

/// How an issuer is asked about a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IntrospectionSettings {
    /// Its introspection endpoint.
    pub url: Uri,
    /// Who we are there.
    pub client_id: Box<str>,
    /// How we prove it.
    pub client_secret: ClientSecret,
    /// How long its answer is believed.
    pub cache_ttl: Duration,
}

/// A secret that cannot be displayed, and whose `Debug` says nothing.
#[derive(Clone, Eq, PartialEq)]
pub struct ClientSecret(Box<str>);

impl ClientSecret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret itself, to be sent to the issuer.
    pub(super) const fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

/// In which claims a token says what we want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimNames {
    /// The user.
    pub user: Box<str>,
    /// The name people know the user by.
    pub username: Box<str>,
    /// The session.
    pub session: Box<str>,
    /// The client; `None` looks for `azp`, then `client_id`.
    pub client: Option<Box<str>>,
    /// The token's own id.
    pub token_id: Box<str>,
    /// The scopes; `None` looks for `scope`, then `scp`.
    pub scope: Option<Box<str>>,
    /// Whether commas part scopes as blanks do, as in PrivX's `permissions`.
    pub comma_separated_scopes: bool,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            user: "sub".into(),
            username: "preferred_username".into(),
            session: "sid".into(),
            client: None,
            token_id: "jti".into(),
            scope: None,
            comma_separated_scopes: false,
        }
    }
}
