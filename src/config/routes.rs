//! `[[routes]]`: which requests go where. What they must show is read in `demands.rs`.

use hyper::Method;
use hyper::header::HeaderName;
use toml::de::DeValue;

use super::demands;
use super::issuers::Issuers;
use super::table::{Node, Read, Table};
use crate::domain::Dialect;
use crate::gateway::{HostPattern, IdentityHeaders, RoutePath, RouteSettings, UpstreamUrl};

/// What must not be the same in two routes.
#[derive(Default)]
struct Taken {
    names: Vec<String>,
    places: Vec<(RoutePath, Option<HostPattern>, Option<Method>)>,
}

/// Reads all routes, and says whether those without faults are all there are.
pub(super) fn settle_all(root: &mut Table<'_>, issuers: &Issuers) -> (Vec<RouteSettings>, bool) {
    let mut taken = Taken::default();
    let mut count = 0;
    let routes = root.sections("routes", |table| {
        count += 1;
        settle(table, issuers, &mut taken)
    });
    let all = count > 0 && count == routes.len();
    (routes, all)
}

fn settle(table: &mut Table<'_>, issuers: &Issuers, taken: &mut Taken) -> Option<RouteSettings> {
    let path = table.node("path");
    if path.is_none() {
        table.fault("path", "is missing");
    }
    let text = path.as_ref().and_then(|node| node.text("a path such as \"/api\""));
    let path = path.and_then(|node| RoutePath::read(&node));
    let hosts: Vec<HostPattern> = table.or("hosts", Vec::new());
    let methods: Vec<Method> = table.or("methods", Vec::new());
    if let Some(path) = &path {
        taken.claim(table, path, &hosts, &methods);
    }
    let name = taken.name(table, text.as_deref(), &hosts, &methods);
    let upstreams: Option<Vec<UpstreamUrl>> = table.required("upstreams");
    if upstreams.as_ref().is_some_and(Vec::is_empty) {
        table.fault("upstreams", "must name one at least");
    }
    let dialect = table.or("dialect", Dialect::OAuth2);
    let policy = demands::settle(table, issuers, dialect);
    let upgrades = upgrades(table);
    let identity_headers = identity_headers(table);
    let cut_on_expiry = table.or("cut_on_expiry", true);
    Some(RouteSettings {
        name: name?.into(),
        path: path?,
        hosts,
        methods,
        upstreams: upstreams?,
        policy: policy?,
        upgrades,
        identity_headers,
        cut_on_expiry,
        dialect,
    })
}

impl Taken {
    /// Notes what a route takes; that another takes it already is a fault.
    fn claim(&mut self, table: &Table<'_>, path: &RoutePath, hosts: &[HostPattern], methods: &[Method]) {
        let hosts = if hosts.is_empty() { vec![None] } else { hosts.iter().cloned().map(Some).collect() };
        let methods = if methods.is_empty() { vec![None] } else { methods.iter().cloned().map(Some).collect() };
        let pairs = hosts.iter().flat_map(|host| methods.iter().map(move |method| (host, method)));
        let places: Vec<_> = pairs.map(|(host, method)| (path.clone(), host.clone(), method.clone())).collect();
        if places.iter().any(|place| self.places.contains(place)) {
            table.fault("path", "is taken by another route for the same hosts and methods");
        }
        self.places.extend(places);
    }

    /// The label in logs and metrics: by default the path, with the hosts and methods where that is not enough.
    fn name(
        &mut self,
        table: &mut Table<'_>,
        path: Option<&str>,
        hosts: &[HostPattern],
        methods: &[Method],
    ) -> Option<String> {
        let given = table.optional::<String>("name");
        let name = match given {
            Some(given) => {
                if given.is_empty() || given.contains(char::is_control) || self.names.contains(&given) {
                    table.fault("name", "must be there and be no other route's");
                }
                given
            }
            None => {
                let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
                let narrowed = [methods.join(","), path?.to_owned()].join(" ").trim().to_owned();
                if self.names.contains(&narrowed) {
                    format!("{narrowed} {}", hosts.len() + self.names.len())
                } else {
                    narrowed
                }
            }
        };
        self.names.push(name.clone());
        Some(name)
    }
}

/// The protocols a connection may be upgraded to, in lower case.
fn upgrades(table: &mut Table<'_>) -> Vec<String> {
    let Some(node) = table.node("upgrades") else { return Vec::new() };
    let members = node.members().unwrap_or_default();
    let upgrade = |node: &Node<'_>| {
        node.parse("the name of a protocol such as \"websocket\"", |text| {
            let protocol = text.to_ascii_lowercase();
            let token = !protocol.is_empty() && HeaderName::try_from(&protocol).is_ok();
            match protocol.as_str() {
                // An upgrade to HTTP/2 would take requests past the gate (RFC 9113 §3.1 removed it).
                "h2c" | "h2" | "http" => {
                    Err("cannot be upgraded to; HTTP/2 in the clear is by prior knowledge".to_owned())
                }
                _ if token => Ok(protocol),
                _ => Err("is not the name of a protocol such as \"websocket\"".to_owned()),
            }
        })
    };
    members.iter().filter_map(upgrade).collect()
}

/// `true` for the usual names, `false` for none, or a table of other names.
fn identity_headers(table: &mut Table<'_>) -> Option<IdentityHeaders> {
    let Some(node) = table.node("identity_headers") else { return Some(IdentityHeaders::default()) };
    match node.value() {
        DeValue::Boolean(flag) => flag.then(IdentityHeaders::default),
        DeValue::Table(_) => node.table(|table| {
            let usual = IdentityHeaders::default();
            let headers = IdentityHeaders {
                user: table.or("user", usual.user),
                username: table.or("username", usual.username),
                session: table.or("session", usual.session),
                issuer: table.or("issuer", usual.issuer),
                client: table.or("client", usual.client),
                scopes: table.or("scopes", usual.scopes),
            };
            refuse_bad_names(table, &headers);
            Some(headers)
        }),
        _ => {
            node.expected("true, false or a table of names");
            None
        }
    }
}

/// Names that are two things at once, or that mean something to HTTP itself.
fn refuse_bad_names(table: &Table<'_>, headers: &IdentityHeaders) {
    const RESERVED: [&str; 12] = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let names = headers.names();
    for (at, name) in names.iter().enumerate() {
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            table.fault("", format!("cannot use {name:?}, which means something else"));
        }
        if names.iter().skip(at + 1).any(|other| other == name) {
            table.fault("", format!("names {name:?} twice"));
        }
    }
}
