//! What the dialects share: where each is mounted, which requests are its own, and how its calls get to it.
//!
//! A dialect is a module of its own: wire types in, a command, a receipt, wire types out, and its own words for what goes
//! wrong. It has no rule of its own. Mounted on the proxy's listener it takes the calls it lists and leaves all others to
//! their routes.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;

use crate::admin::Admin;
use crate::net::Taken;

/// Where a dialect is served, and for whom it speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// On the admin listener.
    pub admin: bool,
    /// On the proxy's listener, before any route.
    pub proxy: bool,
    /// What stands before its paths: empty, or `/x` without a slash at the end.
    pub prefix: Arc<str>,
    /// The `iss` of the issuer whose tokens and sessions it is about.
    pub issuer: Arc<str>,
    /// That issuer's configured name.
    pub issuer_name: Arc<str>,
}

/// Which dialects are spoken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dialects {
    /// Elasticsearch's invalidate token.
    pub elasticsearch: Option<super::elasticsearch::Settings>,
    /// PrivX's session storage.
    pub privx: Option<super::privx::Settings>,
    /// Onezone's temporary tokens.
    pub onezone: Option<super::onezone::Settings>,
    /// Bluesky's session revoke.
    pub bluesky: Option<super::bluesky::Settings>,
}

/// One call of a dialect, as its client makes it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The method.
    pub(super) method: Method,
    /// The path, with `{name}` for a segment that varies.
    pub(super) path: &'static str,
    /// Whether a route that takes the path goes first on the proxy's listener.
    pub(super) unless_routed: bool,
}

impl Call {
    /// A call that is always the dialect's own.
    pub(super) const fn own(method: Method, path: &'static str) -> Self {
        Self { method, path, unless_routed: false }
    }
}

/// One dialect as it is mounted.
struct Mounted {
    mount: Mount,
    calls: &'static [Call],
    router: Router,
}

/// The dialects of one configuration, ready to answer.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// The calls on the proxy's listener, each with its prefix.
    calls: Vec<(Arc<str>, &'static Call)>,
    /// What stands before the paths of each dialect.
    prefixes: Vec<Arc<str>>,
    /// What answers those.
    pub(super) on_proxy: Router,
    /// What the admin listener serves beside the native calls.
    pub(super) on_admin: Router,
}

impl Spoken {
    /// The dialects of these settings.
    pub(super) fn new(admin: &Arc<Admin>, dialects: &Dialects) -> Self {
        let mut spoken = Self::default();
        for Mounted { mount, calls, router } in mounted(admin, dialects) {
            let router = if mount.prefix.is_empty() { router } else { Router::new().nest(&mount.prefix, router) };
            spoken.prefixes.push(mount.prefix.clone());
            if mount.admin {
                spoken.on_admin = std::mem::take(&mut spoken.on_admin).merge(router.clone());
            }
            if mount.proxy {
                spoken.on_proxy = std::mem::take(&mut spoken.on_proxy).merge(router);
                spoken.calls.extend(calls.iter().map(|call| (mount.prefix.clone(), call)));
            }
        }
        spoken
    }

    /// The path to a dialect's root as its router knows it, for one that ends in a slash as clients write it.
    pub(super) fn at_root<'p>(&self, path: &'p str) -> Option<&'p str> {
        let bare = path.strip_suffix('/')?;
        self.prefixes.iter().any(|prefix| !prefix.is_empty() && **prefix == *bare).then_some(bare)
    }

    /// Whether a request on the proxy's listener is a call of a dialect. `path` is decoded.
    pub(super) fn takes(&self, method: &Method, path: &str) -> Taken {
        let path = self.at_root(path).unwrap_or(path);
        let meant = self.calls.iter().filter(|(prefix, call)| {
            call.method == *method && path.strip_prefix(&**prefix).is_some_and(|path| fits(call.path, or_root(path)))
        });
        let taken = meant.map(|(_, call)| if call.unless_routed { Taken::UnlessRouted } else { Taken::Yes });
        taken.max().unwrap_or(Taken::No)
    }
}

impl Dialects {
    /// Those that are spoken: the name, where, and the calls.
    fn spoken(&self) -> impl Iterator<Item = (&'static str, &Mount, &'static [Call])> {
        use super::{bluesky, elasticsearch, onezone, privx};
        let elasticsearch = self.elasticsearch.iter().map(|s| ("elasticsearch", &s.mount, elasticsearch::CALLS));
        let privx = self.privx.iter().map(|s| ("privx", &s.mount, privx::CALLS));
        let onezone = self.onezone.iter().map(|s| ("onezone", &s.mount, onezone::CALLS));
        elasticsearch
            .chain(privx)
            .chain(onezone)
            .chain(self.bluesky.iter().map(|s| ("bluesky", &s.mount, bluesky::CALLS)))
    }

    /// Where each is mounted, by its name.
    pub fn mounts(&self) -> impl Iterator<Item = (&'static str, &Mount)> {
        self.spoken().map(|(name, mount, _)| (name, mount))
    }

    /// Two of them that have a path in common on one listener, by their names.
    #[must_use]
    pub fn clash(&self) -> Option<(&'static str, &'static str)> {
        let clashing = |one: (&Mount, &[Call]), other: (&Mount, &[Call])| {
            let meet = one.0.admin && other.0.admin || one.0.proxy && other.0.proxy;
            // Below a prefix the root has no slash of its own.
            let below = |mount: &Mount, path| if path == "/" && !mount.prefix.is_empty() { "" } else { path };
            let path = |mount: &Mount, call: &Call| format!("{}{}", mount.prefix, below(mount, call.path));
            meet && one.1.iter().any(|a| other.1.iter().any(|b| unify(&path(one.0, a), &path(other.0, b))))
        };
        let spoken: Vec<_> = self.spoken().collect();
        spoken.iter().enumerate().find_map(|(at, (name, mount, calls))| {
            let mut later = spoken.iter().skip(at + 1);
            later.find(|(_, m, c)| clashing((mount, calls), (m, c))).map(|(other, ..)| (*name, *other))
        })
    }
}

fn mounted(admin: &Arc<Admin>, dialects: &Dialects) -> Vec<Mounted> {
    use super::{bluesky, elasticsearch, onezone, privx};
    let elasticsearch = dialects.elasticsearch.iter().map(|s| elasticsearch::router(admin, &Arc::new(s.clone())));
    let privx = dialects.privx.iter().map(|s| privx::router(admin, &Arc::new(s.clone())));
    let onezone = dialects.onezone.iter().map(|s| onezone::router(admin, &Arc::new(s.clone())));
    let bluesky = dialects.bluesky.iter().map(|s| bluesky::router(admin, &Arc::new(s.clone())));
    let routers = elasticsearch.chain(privx).chain(onezone).chain(bluesky);
    let spoken = dialects.spoken().zip(routers);
    spoken.map(|((_, mount, calls), router)| Mounted { mount: mount.clone(), calls, router }).collect()
}

/// Whether some path has the form of both.
fn unify(one: &str, other: &str) -> bool {
    let varies = |segment: &str| segment.starts_with('{');
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || varies(a) && !b.is_empty() || varies(b) && !a.is_empty() => {}
            _ => return false,
        }
    }
}

/// Whether a path has the form of a call's; a segment that varies is never empty.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(segment)) if wanted == segment => {}
            (Some(wanted), Some(segment)) if wanted.starts_with('{') && !segment.is_empty() => {}
            _ => return false,
        }
    }
}

/// The root of what has nothing behind its prefix.
const fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_forms_meet_where_some_path_has_both() {
        for (one, other) in [("/a/{id}", "/a/b"), ("/{x}/b", "/a/{y}"), ("/", "/")] {
            assert!(unify(one, other) && unify(other, one), "{one} {other}");
        }
        for (one, other) in [("/a/{id}", "/a/"), ("/a", "/a/b"), ("/a/{id}", "/b/c")] {
            assert!(!unify(one, other) && !unify(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_path_fits_segment_by_segment() {
        assert!(fits("/a/{id}/b", "/a/x/b") && fits("/", "/") && fits("/a/", "/a/"));
        for path in ["/a//b", "/a/x", "/a/x/b/", "/a/x/c", "a/x/b", ""] {
            assert!(!fits("/a/{id}/b", path), "{path}");
        }
    }
}
