//! From host, path and method to the one route that is meant, without allocation.
//!
//! The longest path wins, at segment boundaries; among routes of one path the more exact host, then the one that names its
//! methods. A path found for the host but not for the method is 405 and is not looked for further up: a wider route with a
//! laxer policy must not catch what a narrower one left out. Nothing matches by default.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};

use crate::admission::Policy;
use crate::domain::Dialect;
use crate::gateway::balance::Upstreams;
use crate::gateway::framing;
use crate::gateway::path::{self, Path, PathFault};
use crate::gateway::refusal::{Form, Refusal};
use crate::gateway::settings::{HostPattern, IdentityHeaders, RoutePath};
use crate::telemetry::Requests;

/// One route, ready for requests.
#[derive(Debug)]
pub(super) struct Route {
    /// The label in logs and metrics.
    pub(super) name: Arc<str>,
    /// Only for these hosts; empty for any.
    pub(super) hosts: Box<[HostPattern]>,
    /// Only these methods; empty for any.
    pub(super) methods: Box<[Method]>,
    /// Where requests go.
    pub(super) upstreams: Upstreams,
    /// What a token must show.
    pub(super) policy: Policy,
    /// Protocols a connection may be upgraded to, in lower case.
    pub(super) upgrades: Box<[Box<str>]>,
    /// The names identity is told under.
    pub(super) identity_headers: Option<IdentityHeaders>,
    /// Whether what is open ends when its token expires.
    pub(super) cut_on_expiry: bool,
    /// Whose clients call.
    pub(super) dialect: Dialect,
    /// Counts what came of its requests.
    pub(super) requests: Requests,
}

impl Route {
    /// How well `host` fits: nothing when it does not, the greater the more exact.
    fn fit(&self, host: Option<&str>) -> Option<usize> {
        if self.hosts.is_empty() {
            return Some(0);
        }
        let fitting = self.hosts.iter().filter(|pattern| host.is_some_and(|host| pattern.matches(host)));
        fitting.map(HostPattern::exactness).max()
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

/// All routes, by the segments of their paths.
#[derive(Debug, Default)]
pub(super) struct Routes {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    below: HashMap<Box<str>, Node>,
    here: Vec<Arc<Route>>,
}

/// Nothing fits, or only other methods do.
enum Miss<'a> {
    NoRoute,
    Method(&'a Node),
}

impl Routes {
    /// Adds a route.
    pub(super) fn add(&mut self, path: &RoutePath, route: Route) {
        let mut node = &mut self.root;
        for segment in path.segments() {
            node = node.below.entry(segment.into()).or_default();
        }
        node.here.push(Arc::new(route));
    }

    /// The route of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Route> {
        self.root.named(name)
    }

    /// Finds the route of a request, and leaves in the request exactly the path that was matched, in origin-form.
    ///
    /// # Errors
    ///
    /// 400 for a path that could be read otherwise, 404 for none of ours, 405 for another method.
    pub(super) fn find<B>(&self, request: &mut Request<B>) -> Result<Arc<Route>, Refusal> {
        let path = path::normalise(request.uri().path()).map_err(|fault| Refusal::Form(Form::Path(fault)))?;
        // RFC 8441 §5: an extended CONNECT stands for the GET of the HTTP/1.1 handshake.
        let method = if framing::is_extended_connect(request) { &Method::GET } else { request.method() };
        let route = self.find_by(request.headers(), &path, method)?.clone();
        let target = forwarded_target(request.uri(), &path)?;
        *request.uri_mut() = target;
        Ok(route)
    }

    pub(super) fn find_by(
        &self,
        headers: &HeaderMap,
        path: &Path<'_>,
        method: &Method,
    ) -> Result<&Arc<Route>, Refusal> {
        let host = framing::host(headers);
        let found = self.reading(host, path.decoded(), method);
        for reading in path.readings() {
            let same = match (&found, self.reading(host, &reading, method)) {
                (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
                (Err(Miss::NoRoute), Err(Miss::NoRoute)) => true,
                (Err(Miss::Method(one)), Err(Miss::Method(other))) => std::ptr::eq(*one, other),
                _ => false,
            };
            if !same {
                return Err(Refusal::Form(Form::Path(PathFault::Ambiguous)));
            }
        }
        found.map_err(|miss| match miss {
            Miss::NoRoute => Refusal::NoRoute,
            Miss::Method(node) => Refusal::Method { allow: node.allow(host) },
        })
    }

    /// The route of one reading of a path.
    fn reading(&self, host: Option<&str>, path: &str, method: &Method) -> Result<&Arc<Route>, Miss<'_>> {
        let mut node = &self.root;
        let mut deepest = node.serves(host).then_some(node);
        for segment in path.split('/').skip(1) {
            let Some(below) = node.below.get(segment) else { break };
            node = below;
            if node.serves(host) {
                deepest = Some(node);
            }
        }
        let node = deepest.ok_or(Miss::NoRoute)?;
        node.best(host, method).ok_or(Miss::Method(node))
    }
}

impl Node {
    fn named(&self, name: &str) -> Option<&Route> {
        let here = self.here.iter().find(|route| *route.name == *name).map(|route| &**route);
        here.or_else(|| self.below.values().find_map(|node| node.named(name)))
    }

    fn serves(&self, host: Option<&str>) -> bool {
        self.here.iter().any(|route| route.fit(host).is_some())
    }

    fn best(&self, host: Option<&str>, method: &Method) -> Option<&Arc<Route>> {
        let mut best = None;
        for route in self.here.iter().filter(|route| route.takes(method)) {
            let rank = route.fit(host).map(|fit| (fit, !route.methods.is_empty()));
            if rank.is_some() && best.is_none_or(|(held, _)| rank > held) {
                best = Some((rank, route));
            }
        }
        best.map(|(_, route)| route)
    }

    /// The value of `Allow` (RFC 9110 §15.5.6).
    fn allow(&self, host: Option<&str>) -> HeaderValue {
        let mut names: Vec<&str> = Vec::new();
        for route in self.here.iter().filter(|route| route.fit(host).is_some()) {
            names.extend(route.methods.iter().map(Method::as_str));
        }
        names.sort_unstable();
        names.dedup();
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The target in origin-form (RFC 9112 §3.2.1): the normalised path, and the query as it stood.
pub(super) fn forwarded_target(uri: &Uri, path: &Path<'_>) -> Result<Uri, Refusal> {
    let unchanged = |target: &PathAndQuery| !path.is_rewritten() && target.as_str().starts_with('/');
    let as_it_stood = || uri.path_and_query().filter(|target| unchanged(target)).cloned();
    let rewritten = || {
        let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
        PathAndQuery::try_from(format!("{}{query}", path.forwarded())).ok()
    };
    let target = as_it_stood().or_else(rewritten).ok_or(Refusal::Form(Form::Path(PathFault::Character)))?;
    Ok(Uri::from(target))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn route(name: &str, hosts: &[&str], methods: &[&str]) -> Route {
        Route {
            name: name.into(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
            upstreams: Upstreams::new(Vec::new()),
            policy: Policy::default(),
            upgrades: Box::default(),
            identity_headers: None,
            cut_on_expiry: true,
            dialect: Dialect::OAuth2,
            requests: Metrics::new().requests(&name.into()),
        }
    }

    fn routes(list: &[(&str, &str, &[&str], &[&str])]) -> Routes {
        let mut routes = Routes::default();
        for (name, path, hosts, methods) in list {
            routes.add(&path.parse().unwrap(), route(name, hosts, methods));
        }
        routes
    }

    /// The route's name and the target that would be forwarded, or the status.
    fn find(routes: &Routes, method: &str, host: &str, target: &str) -> Result<(String, String), String> {
        let mut request = Request::builder().method(method).uri(target).header("host", host).body(()).unwrap();
        match routes.find(&mut request) {
            Ok(route) => Ok((route.name.to_string(), request.uri().to_string())),
            Err(Refusal::NoRoute) => Err("404".into()),
            Err(Refusal::Method { allow }) => Err(format!("405 {}", allow.to_str().unwrap())),
            Err(Refusal::Form(_)) => Err("400".into()),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn name(routes: &Routes, method: &str, host: &str, target: &str) -> Result<String, String> {
        find(routes, method, host, target).map(|(name, _)| name)
    }

    #[test]
    fn the_longest_prefix_wins_at_segment_boundaries() {
        let routes = routes(&[("root", "/", &[], &[]), ("api", "/api", &[], &[]), ("v1", "/api/v1/", &[], &[])]);
        let found = |target| name(&routes, "GET", "a", target).unwrap();
        assert_eq!(found("/"), "root");
        assert_eq!(found("/apix"), "root");
        assert_eq!(found("/api"), "api");
        assert_eq!(found("/api/"), "api");
        assert_eq!(found("/api/v10"), "api");
        assert_eq!(found("/api/v1"), "v1");
        assert_eq!(found("/api/v1/x?y=/"), "v1");
    }

    #[test]
    fn nothing_matches_by_default() {
        let routes = routes(&[("api", "/api", &["a.example"], &[])]);
        assert_eq!(name(&routes, "GET", "a.example", "/"), Err("404".into()));
        assert_eq!(name(&routes, "GET", "b.example", "/api"), Err("404".into()));
    }

    #[test]
    fn the_more_exact_host_wins() {
        let all: [(&str, &str, &[&str], &[&str]); 4] = [
            ("any", "/", &[], &[]),
            ("wild", "/", &["*.example"], &[]),
            ("wilder", "/", &["*.a.example"], &[]),
            ("exact", "/", &["x.a.example"], &[]),
        ];
        let routes = routes(&all);
        let found = |host| name(&routes, "GET", host, "/").unwrap();
        assert_eq!(found("other"), "any");
        assert_eq!(found("b.example"), "wild");
        assert_eq!(found("y.a.example:8080"), "wilder");
        assert_eq!(found("X.A.example."), "exact");
    }

    #[test]
    fn another_method_is_refused_and_not_caught_by_a_wider_route() {
        let all: [(&str, &str, &[&str], &[&str]); 3] =
            [("open", "/", &[], &[]), ("read", "/admin", &[], &["GET", "HEAD"]), ("write", "/admin", &[], &["POST"])];
        let routes = routes(&all);
        assert_eq!(name(&routes, "GET", "a", "/admin/x").unwrap(), "read");
        assert_eq!(name(&routes, "POST", "a", "/admin/x").unwrap(), "write");
        assert_eq!(name(&routes, "DELETE", "a", "/admin/x"), Err("405 GET, HEAD, POST".into()));
        assert_eq!(name(&routes, "get", "a", "/admin/x"), Err("405 GET, HEAD, POST".into()));
    }

    #[test]
    fn no_spelling_of_a_path_escapes_its_route() {
        let routes = routes(&[("open", "/", &[], &[]), ("admin", "/admin", &[], &[]), ("verb", "/v1/a:b", &[], &[])]);
        let spelled = |target| find(&routes, "GET", "a", target);
        assert_eq!(spelled("/%61dmin/x?q=%61"), Ok(("admin".into(), "/admin/x?q=%61".into())));
        assert_eq!(spelled("/v1/a%3ab"), Ok(("verb".into(), "/v1/a%3Ab".into())));
        for ambiguous in ["/x//../admin", "/;x/admin", "/admin;x/y", "/%2561dmin", "/x/%2e%2e/admin", "/admin%2fx"] {
            assert_eq!(spelled(ambiguous), Err("400".into()), "{ambiguous}");
        }
        assert_eq!(spelled("/files//a;v=1"), Ok(("open".into(), "/files//a;v=1".into())));
        assert_eq!(spelled("/admin//x"), Ok(("admin".into(), "/admin//x".into())));
    }

    #[test]
    fn an_absolute_target_is_forwarded_in_origin_form() {
        let routes = routes(&[("open", "/", &[], &[])]);
        assert_eq!(find(&routes, "GET", "a", "http://a/x?y").unwrap().1, "/x?y");
        assert_eq!(find(&routes, "GET", "a", "http://a").unwrap().1, "/");
    }
}
