//! `[[issuers]]`: whose tokens pass, and how they are verified.

mod preset;

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;

use self::preset::Preset;
use crate::config::range::{DAY, HOUR, MINUTE, SECOND, YEAR};
use crate::config::table::{Read, Table};
use crate::config::token_endpoints::{self, Placed};
use crate::config::value::{File, Hidden, HttpUrl, SecretFile, choice};
use crate::domain::{TokenForm, TokenKind};
use crate::verify::{
    ClaimNames, ClientSecret, IntrospectionSettings, IssuerSettings, KeySource, MacaroonSettings, SignatureSettings,
    Verification,
};

/// The issuers, and what must be known of them elsewhere.
#[derive(Debug, Default)]
pub(super) struct Issuers {
    /// Those without faults, in the order of the file.
    pub(super) settled: Vec<IssuerSettings>,
    /// All names, also of the faulty ones, so that a route that names one is not blamed for it.
    pub(super) names: Vec<String>,
    /// What whoever runs this ought to know.
    pub(super) warnings: Vec<String>,
    /// The token endpoints of all issuers.
    pub(super) endpoints: Vec<Placed>,
    /// How many sessions a user may have, by the issuer's `iss`.
    pub(super) session_limits: Vec<(Arc<str>, u32)>,
    /// Whether an issuer has them already.
    missing_iss: bool,
    opaque_tokens: bool,
}

/// Reads all issuers.
pub(super) fn settle_all(root: &mut Table<'_>) -> Issuers {
    let mut issuers = Issuers::default();
    let mut taken = Vec::new();
    root.sections("issuers", |table| {
        let issuer = settle(table, &mut issuers, &mut taken)?;
        issuers.warn_of(&issuer);
        issuers.settled.push(issuer);
        Some(())
    });
    issuers
}

fn settle(table: &mut Table<'_>, issuers: &mut Issuers, taken: &mut Vec<String>) -> Option<IssuerSettings> {
    let preset = Preset::of(table);
    let name = identifier(table, "name", taken);
    let issuer = identifier(table, "issuer", taken);
    issuers.names.extend(name.clone());
    // Admin calls name an issuer by either, so that both must be its own.
    taken.extend(name.iter().chain(&issuer).cloned());
    let verification = verification(table, issuer.as_deref(), preset);
    let audiences: Vec<String> = table.or("audiences", Vec::new());
    let leeway = table.within("leeway", 30 * SECOND, Duration::ZERO..=10 * MINUTE);
    let max_token_lifetime = table.optional_within("max_token_lifetime", SECOND..=10 * YEAR);
    let token_type = table.optional::<String>("token_type").map(Into::into);
    let claims = table.section("claims", |table| claims(table, preset.claims()));
    let allow_padding = table.or("allow_padding", preset.allows_padding());
    let uuid_sessions = table.or("uuid_sessions", preset.has_uuid_sessions());
    let ca = table.optional::<File>("ca").map(|file| file.0);
    let max_refresh_token_lifetime = table.optional_within("max_refresh_token_lifetime", SECOND..=10 * YEAR);
    let session_limit = table.optional_within("max_sessions_per_user", 1..=100_000);
    let (missing_iss, opaque_tokens) = unverified(table, verification.as_ref(), preset, issuers);
    let own: (Arc<str>, Arc<str>) =
        (issuer.clone().unwrap_or_default().into(), name.clone().unwrap_or_default().into());
    let endpoints = table.sections("token_endpoints", |table| token_endpoints::settle(table, &own.0, &own.1));
    let settings = IssuerSettings {
        audiences: audiences.into_iter().map(Into::into).collect(),
        leeway,
        max_token_lifetime,
        max_refresh_token_lifetime,
        has_token_endpoints: endpoints.iter().flatten().any(|placed| placed.endpoint.presented == TokenKind::Refresh),
        token_form: token_form(&endpoints, preset),
        uuid_sessions,
        missing_iss,
        opaque_tokens,
        token_type,
        claims: claims?,
        allow_padding,
        ca,
        ..IssuerSettings::new(name.as_deref()?, issuer.as_deref()?, verification?)
    };
    issuers.endpoints.extend(endpoints.into_iter().flatten());
    issuers.session_limits.extend(session_limit.map(|limit| (settings.issuer.clone(), limit)));
    Some(settings)
}

/// How its opaque tokens are written: as its token endpoints say, else as its kind of server does.
fn token_form(endpoints: &[Vec<Placed>], preset: Preset) -> TokenForm {
    let told = endpoints.iter().flatten().map(|placed| placed.endpoint.token_form).max();
    told.unwrap_or_default().max(preset.token_form())
}

/// What an issuer is called by, and no other issuer.
fn identifier(table: &mut Table<'_>, key: &'static str, taken: &[String]) -> Option<String> {
    let text = table.required::<String>(key)?;
    if text.is_empty() || text.contains(char::is_control) {
        table.fault(key, "must not be empty, nor hold control characters");
    }
    if taken.contains(&text) {
        table.fault(key, "is another issuer's name or iss already");
    }
    Some(text)
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Signature,
    Introspection,
    Macaroon,
    Unverified,
}

/// The four ways. The keys of the others are unknown keys, so that nobody believes they count.
fn verification(table: &mut Table<'_>, issuer: Option<&str>, preset: Preset) -> Option<Verification> {
    const WAYS: [(&str, Way); 4] = [
        ("signature", Way::Signature),
        ("introspection", Way::Introspection),
        ("macaroon", Way::Macaroon),
        ("none", Way::Unverified),
    ];
    let way = match table.node("verification") {
        Some(node) => choice(&node, &WAYS),
        None => Some(preset.way()),
    };
    let Some(way) = way else {
        // Which of the other keys belong there cannot be told.
        table.forgive();
        return None;
    };
    match way {
        Way::Signature => signature(table, issuer, preset).map(Verification::Signature),
        Way::Introspection => introspection(table).map(Verification::Introspection),
        Way::Macaroon => Some(Verification::Macaroon(macaroon(table))),
        Way::Unverified => Some(Verification::None),
    }
}

fn signature(table: &mut Table<'_>, issuer: Option<&str>, preset: Preset) -> Option<SignatureSettings> {
    let keys = key_source(table, issuer);
    let algorithms = table.or("algorithms", preset.algorithms());
    if algorithms.is_empty() {
        table.fault("algorithms", "must name one at least");
    }
    let cooldown = table.within("jwks_cooldown", 30 * SECOND, SECOND..=HOUR);
    let refresh = table.within("jwks_refresh", 15 * MINUTE, SECOND..=DAY);
    if cooldown > refresh {
        table.fault("jwks_cooldown", "must not be longer than jwks_refresh");
    }
    Some(SignatureSettings { cooldown, refresh, ..SignatureSettings::new(keys?, algorithms) })
}

fn key_source(table: &mut Table<'_>, issuer: Option<&str>) -> Option<KeySource> {
    let (url, file) = (table.node("jwks_url"), table.node("jwks_file"));
    match (url, file) {
        (Some(_), Some(file)) => {
            file.fault("stands beside jwks_url; only one can be");
            None
        }
        (Some(url), None) => Read::read(&url).map(|HttpUrl(url)| KeySource::Url(url)),
        (None, Some(file)) => Read::read(&file).map(|File(path)| KeySource::File(path)),
        (None, None) => {
            // Over plain http anybody on the way could put in keys of his own.
            if HttpUrl::parse(issuer?, &["https", "http"]).is_ok_and(|url| !is_open(&url)) {
                return Some(KeySource::Discovery);
            }
            let text = "is missing, and the issuer is no https URL to discover keys from; set it, or jwks_file";
            table.fault("jwks_url", text);
            None
        }
    }
}

fn introspection(table: &mut Table<'_>) -> Option<IntrospectionSettings> {
    let url = table.required::<HttpUrl>("introspection_url");
    let client_id = table.required::<String>("introspection_client_id");
    let secret = client_secret(table);
    let cache_ttl = table.within("introspection_cache_ttl", 30 * SECOND, Duration::ZERO..=HOUR);
    let HttpUrl(url) = url?;
    Some(IntrospectionSettings { url, client_id: client_id?.into(), client_secret: secret?, cache_ttl })
}

fn macaroon(table: &mut Table<'_>) -> MacaroonSettings {
    let usual = MacaroonSettings::default();
    let secret = table.optional::<SecretFile>("secret_file");
    let domains: Vec<String> = table.or("domains", Vec::new());
    MacaroonSettings {
        secret: secret.map(|SecretFile(Hidden(secret))| ClientSecret::new(&secret)),
        domains: domains.into_iter().map(Into::into).collect(),
        service: table.optional::<String>("service").map_or(usual.service, Into::into),
    }
}

fn client_secret(table: &mut Table<'_>) -> Option<ClientSecret> {
    let (text, file) = (table.node("introspection_client_secret"), table.node("introspection_client_secret_file"));
    let Hidden(secret) = match (text, file) {
        (None, None) => {
            table.fault("introspection_client_secret_file", "is missing");
            None
        }
        (Some(_), Some(file)) => {
            file.fault("stands beside introspection_client_secret; only one can be");
            None
        }
        (Some(text), None) => Read::read(&text),
        (None, Some(file)) => Read::read(&file).map(|SecretFile(secret)| secret),
    }?;
    Some(ClientSecret::new(&secret))
}

fn claims(table: &mut Table<'_>, usual: ClaimNames) -> Option<ClaimNames> {
    let mut name = |key: &'static str| table.optional::<String>(key).filter(|name| !name.is_empty()).map(Into::into);
    Some(ClaimNames {
        user: name("user").unwrap_or(usual.user),
        username: name("username").unwrap_or(usual.username),
        session: name("session").unwrap_or(usual.session),
        client: name("client").or(usual.client),
        token_id: name("token_id").unwrap_or(usual.token_id),
        scope: name("scope").or(usual.scope),
        comma_separated_scopes: usual.comma_separated_scopes,
    })
}

/// What an issuer whose tokens nobody verifies here may be given besides: for others, these are unknown keys.
fn unverified(
    table: &mut Table<'_>,
    way: Option<&Verification>,
    preset: Preset,
    issuers: &mut Issuers,
) -> (bool, bool) {
    if way != Some(&Verification::None) {
        return (false, false);
    }
    let mut alone = |key: &'static str, usual: bool, taken: &mut bool| {
        let given = table.or(key, usual);
        if given && std::mem::replace(taken, true) {
            table.fault(key, "is true for another issuer already; whose a token is could not be told");
        }
        given
    };
    (
        alone("missing_iss", preset.misses_iss(), &mut issuers.missing_iss),
        alone("opaque_tokens", preset.has_opaque_tokens(), &mut issuers.opaque_tokens),
    )
}

impl Issuers {
    fn warn_of(&mut self, issuer: &IssuerSettings) {
        let mut warn = |text: &str| self.warnings.push(format!("issuers {}: {text}", issuer.name));
        if issuer.max_token_lifetime.is_none() {
            warn("max_token_lifetime is not set, so revocations are kept for ever");
        }
        if issuer.has_token_endpoints && issuer.max_refresh_token_lifetime.is_none() {
            warn("max_refresh_token_lifetime is not set, so revocations of sessions and users are kept for ever");
        }
        match &issuer.verification {
            Verification::Signature(signature) => {
                if issuer.audiences.is_empty() {
                    warn("audiences is not set, so tokens that were issued for others pass");
                }
                if matches!(&signature.keys, KeySource::Url(url) if is_open(url)) {
                    warn("jwks_url is plain http; whoever is on the way can put in a key");
                }
            }
            Verification::Introspection(introspection) => {
                if is_open(&introspection.url) {
                    warn("introspection_url is plain http; whoever is on the way sees tokens and the secret");
                }
            }
            Verification::Macaroon(MacaroonSettings { secret: Some(_), .. }) => {}
            Verification::Macaroon(_) => {
                warn("secret_file is not set, so macaroons are not verified; the upstream must do it")
            }
            Verification::None => warn("tokens are not verified here; the upstream must do it"),
        }
    }
}

/// Whether a call goes over plain http and leaves the machine.
pub(super) fn is_open(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    url.scheme_str() == Some("http") && !local
}
