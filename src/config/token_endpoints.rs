//! `[[issuers.token_endpoints]]`: where an issuer's tokens are handed out and renewed. A preset says what is known of a kind
//! of server; a key that stands beside it counts more.

use std::sync::Arc;
use std::time::Duration;

use super::dialects::Prefix;
use super::range::MINUTE;
use super::table::{Node, Read, Spot, Table};
use super::value::{Several, choice};
use crate::admin::Dialects;
use crate::admission::Auth;
use crate::domain::{SessionType, TokenForm};
use crate::gateway::RouteSettings;
use crate::gateway::token_endpoint::{
    ClientTrait, EndpointPath, FieldPlace, Learn, Preset, Rotation, Source, TokenEndpoint,
};

/// An endpoint, and where the file speaks of its path.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) endpoint: TokenEndpoint,
    spot: Spot,
}

/// Reads one section, which may describe several endpoints of one server.
pub(super) fn settle(table: &mut Table<'_>, issuer: &Arc<str>, name: &Arc<str>) -> Option<Vec<Placed>> {
    let preset = match table.node("preset") {
        Some(node) => Preset::read(&node),
        None => Some(Preset::default()),
    };
    let path = table.optional::<EndpointPath>("path");
    let prefix = table.optional::<Prefix>("prefix");
    let told = Told::read(table);
    let mut endpoints = match (preset?, path) {
        (preset, Some(path)) => vec![preset.endpoint(issuer.clone(), name.clone(), path)],
        (_, None) if table.was_given("path") => return None,
        (preset, None) => preset.endpoints(issuer, name),
    };
    if endpoints.is_empty() {
        table.fault("path", "is missing");
    }
    if prefix.is_some() && table.was_given("path") {
        table.fault("prefix", "is for the paths that a preset knows; write it into path");
    }
    for endpoint in &mut endpoints {
        put_below(table, endpoint, prefix.as_ref());
    }
    for endpoint in &mut endpoints {
        told.put_into(endpoint, table.was_given("path"));
    }
    let renews = endpoints.iter().any(|endpoint| !endpoint.refresh_token.is_empty());
    if told.rotation == Some(Rotation::Enforce) && !renews && !endpoints.is_empty() {
        table.fault("rotation", "cannot be enforced, since refresh_token names no place");
    }
    let spot = table.spot("path");
    Some(endpoints.into_iter().map(|endpoint| Placed { endpoint, spot: spot.clone() }).collect())
}

fn put_below(table: &Table<'_>, endpoint: &mut TokenEndpoint, prefix: Option<&Prefix>) {
    let Some(Prefix(prefix)) = prefix else { return };
    match format!("{prefix}{}", endpoint.path).parse() {
        Ok(path) => endpoint.path = path,
        Err(error) => table.fault("prefix", format!("{error}")),
    }
}

/// Notes the endpoints of a dialect's issuer that are not where its clients go.
pub(super) fn judge_places(root: &Table<'_>, endpoints: &[Placed], dialects: &Dialects) {
    let elsewhere = dialects.mounts().filter(|(_, mount)| mount.proxy && !mount.prefix.is_empty());
    for (name, mount) in elsewhere {
        let own = || endpoints.iter().filter(|placed| placed.endpoint.issuer == mount.issuer);
        let is_below = |placed: &Placed| placed.endpoint.path.to_string().starts_with(&format!("{}/", mount.prefix));
        if let Some(first) = own().next().filter(|_| !own().any(is_below)) {
            let text = format!(
                "is not below {0}, where the dialect {name} is on the proxy's listener, so nothing would be learned; \
                 set prefix = \"{0}\"",
                mount.prefix
            );
            root.fault_at(&first.spot, text);
        }
    }
}

/// What stands beside the preset.
struct Told {
    refresh_token: Option<Vec<FieldPlace>>,
    rotation: Option<Rotation>,
    grace: Option<Duration>,
    grace_replays: Option<u32>,
    same_client: Option<Vec<ClientTrait>>,
    token_form: Option<TokenForm>,
    session_type: Option<SessionType>,
    learn: Vec<(Part, Vec<Source>)>,
}

/// A part of what is learned.
type Part = fn(&mut Learn) -> &mut Vec<Source>;

impl Told {
    fn read(table: &mut Table<'_>) -> Self {
        const ROTATIONS: [(&str, Rotation); 3] =
            [("off", Rotation::Off), ("observe", Rotation::Observe), ("enforce", Rotation::Enforce)];
        const FORMS: [(&str, TokenForm); 4] = [
            ("any", TokenForm::Any),
            ("hexadecimal", TokenForm::Hexadecimal),
            ("base64", TokenForm::Base64),
            ("elasticsearch", TokenForm::Elasticsearch),
        ];
        let told = Self {
            refresh_token: table.optional::<Several<FieldPlace>>("refresh_token").map(|several| several.0),
            rotation: table.node("rotation").and_then(|node| choice(&node, &ROTATIONS)),
            grace: table.optional_within("grace", Duration::ZERO..=MINUTE),
            grace_replays: table.optional_within("grace_replays", 1..=100),
            same_client: table.optional("same_client"),
            token_form: table.node("token_form").and_then(|node| choice(&node, &FORMS)),
            session_type: table.optional("type"),
            learn: table.section("learn", |table| Some(learn(table))).unwrap_or_default(),
        };
        if told.same_client.as_ref().is_some_and(Vec::is_empty) {
            table.fault("same_client", "must name one trait at least, else a thief is the same client");
        }
        told
    }

    /// Of a preset's several endpoints some only hand out, and stay so.
    fn put_into(&self, endpoint: &mut TokenEndpoint, alone: bool) {
        let places = self.refresh_token.clone().filter(|_| alone || !endpoint.refresh_token.is_empty());
        put(&mut endpoint.refresh_token, places);
        put(&mut endpoint.rotation, self.rotation);
        put(&mut endpoint.grace, self.grace);
        put(&mut endpoint.grace_replays, self.grace_replays);
        put(&mut endpoint.same_client, self.same_client.clone());
        put(&mut endpoint.token_form, self.token_form);
        put(&mut endpoint.session_type, self.session_type);
        for (part, sources) in &self.learn {
            part(&mut endpoint.learn).clone_from(sources);
        }
    }
}

fn put<T>(place: &mut T, told: Option<T>) {
    if let Some(told) = told {
        *place = told;
    }
}

/// The sources that are told. A token is text of the answer itself; claims are what is in it.
fn learn(table: &mut Table<'_>) -> Vec<(Part, Vec<Source>)> {
    const TOKENS: [(&str, Part); 3] = [
        ("access_token", |learn| &mut learn.access_token),
        ("refresh_token", |learn| &mut learn.refresh_token),
        ("id_token", |learn| &mut learn.id_token),
    ];
    const OTHERS: [(&str, Part); 9] = [
        ("session", |learn| &mut learn.session),
        ("parent", |learn| &mut learn.parent),
        ("user", |learn| &mut learn.user),
        ("username", |learn| &mut learn.username),
        ("client", |learn| &mut learn.client),
        ("domain", |learn| &mut learn.domain),
        ("expires_in", |learn| &mut learn.expires_in),
        ("refresh_expires_in", |learn| &mut learn.refresh_expires_in),
        ("session_expires_in", |learn| &mut learn.session_expires_in),
    ];
    let mut told = Vec::new();
    for (key, part) in TOKENS.into_iter().chain(OTHERS) {
        let Some(Several(sources)) = table.optional::<Several<Source>>(key) else { continue };
        let is_token = TOKENS.iter().any(|(token, _)| *token == key);
        if is_token && !sources.iter().all(|source| matches!(source, Source::Reply(_))) {
            table.fault(key, "must be reply:/POINTER: a token is handed out in the answer itself");
        }
        told.push((part, sources));
    }
    told
}

impl Read for ClientTrait {
    fn read(node: &Node<'_>) -> Option<Self> {
        let traits = [("address", Self::Address), ("user_agent", Self::UserAgent), ("credentials", Self::Credentials)];
        choice(node, &traits)
    }
}

/// Notes what is wrong with the endpoints as a whole, and answers what ought to be known. Which routes reach them is asked
/// only when `routes` are all of the file's.
pub(super) fn judge(root: &Table<'_>, endpoints: &[Placed], routes: Option<&[RouteSettings]>) -> Vec<String> {
    for (at, one) in endpoints.iter().enumerate() {
        let earlier = endpoints.iter().take(at).find(|other| other.endpoint.path.overlaps(&one.endpoint.path));
        if let Some(earlier) = earlier {
            let text = format!("{} could be the same path as {}", one.endpoint.path, earlier.endpoint.path);
            root.fault_at(&one.spot, text);
        }
    }
    let reached = |placed: &Placed| reached(root, placed, routes?);
    endpoints.iter().filter_map(reached).collect()
}

/// What ought to be known of the route that serves an endpoint.
fn reached(root: &Table<'_>, placed: &Placed, routes: &[RouteSettings]) -> Option<String> {
    let endpoint = &placed.endpoint;
    let serving = || routes.iter().filter(|route| serves(route, &endpoint.path));
    let Some(longest) = serving().map(|route| route.path.segments().count()).max() else {
        root.fault_at(&placed.spot, format!("no route serves this path with POST: {}", endpoint.path));
        return None;
    };
    let mut closest = serving().filter(|route| route.path.segments().count() == longest);
    // Where another host's route leads to another issuer, this one's clients do not go there.
    let concerns = |route: &RouteSettings| {
        route.policy.accepted.as_ref().is_none_or(|accepted| accepted.contains(&endpoint.issuer_name))
    };
    let demanding = closest.find(|route| route.policy.auth == Auth::Required && concerns(route))?;
    Some(format!(
        "issuers {}: token endpoint {}: route {:?} has auth = \"required\", so nobody gets a first token there",
        endpoint.issuer_name, endpoint.path, demanding.name
    ))
}

/// Whether a token request for some path of the endpoint could come to the route.
fn serves(route: &RouteSettings, path: &EndpointPath) -> bool {
    let takes_post = route.methods.is_empty() || route.methods.contains(&hyper::Method::POST);
    let mut segments = path.segments();
    takes_post && route.path.segments().all(|wanted| segments.next().is_some_and(|own| own == "*" || own == wanted))
}
