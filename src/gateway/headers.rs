//! Which header fields cross the gateway: strip first, add last.
//!
//! Everything that belongs to one connection stays on it (RFC 9110 §7.6.1), and everything an upstream might take for the
//! gateway's own word is dropped, in every spelling some server folds: names with `_`, and names that differ from ours only in
//! what stands for `-`. `Connection` can drop a field of its own hop, but not one that says who calls, where to, or how long.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::gateway::settings::IdentityHeaders;

/// The request's id, ours or a trusted proxy's; on the answer too.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Of the upgrade to h2c, which is not offered (RFC 9113 §3.1).
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that are about one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// Fields `Connection` cannot name: without them the message would mean something else.
const NOT_OF_A_CONNECTION: [&str; 9] = [
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "set-cookie",
    "te",
    "x-request-id",
];

/// What earlier hops say: dropped unless a trusted peer says it.
const OF_EARLIER_HOPS: [&str; 13] = [
    "client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

/// And all that begin so.
const OF_EARLIER_HOPS_BEGIN: [&str; 2] = ["x-forwarded", "x-original-"];

/// Fields that frame, address or identify a message, and so may not come after its body (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: [&str; 8] =
    ["authorization", "content-encoding", "content-length", "content-type", "cookie", "host", "te", "trailer"];

/// Decides which fields of a request pass, on every route alike.
#[derive(Debug)]
pub(super) struct Hygiene {
    identity: Box<[HeaderName]>,
}

impl Hygiene {
    /// Keeps clients from saying any of the names that any route tells identity under.
    pub(super) fn new<'a>(identity: impl Iterator<Item = &'a IdentityHeaders>) -> Self {
        let mut names: Vec<HeaderName> = identity.flat_map(|headers| headers.names().map(Clone::clone)).collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self { identity: names.into() }
    }

    /// Leaves of a request's fields what may go upstream. `trusted` says whether the peer's word on earlier hops counts;
    /// `is_token` whether the route looks for a token in a field, which then goes on although it begins as identity does.
    pub(super) fn clean_request(&self, headers: &mut HeaderMap, trusted: bool, is_token: impl Fn(&HeaderName) -> bool) {
        let wants_trailers = accepts_trailers(headers);
        strip_hop_by_hop(headers, |name| self.is_ours(name) || is_of_earlier_hops(name));
        headers.remove(TE);
        let tells_identity = |name: &HeaderName| self.identity.contains(name) || name.as_str().contains('_');
        let passes = |name: &HeaderName| is_token(name) && !tells_identity(name);
        let forbidden = |name: &HeaderName| self.is_forbidden(name.as_str(), trusted) && !passes(name);
        let dropped: Vec<HeaderName> = headers.keys().filter(|name| forbidden(name)).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
        if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }

    /// Leaves of a request's trailers what may go upstream.
    pub(super) fn clean_trailers(&self, trailers: &mut HeaderMap) {
        let forbidden = |name: &HeaderName| {
            let text = name.as_str();
            self.is_forbidden(text, false) || HOP_BY_HOP.contains(name) || NOT_IN_TRAILERS.contains(&text)
        };
        let dropped: Vec<HeaderName> = trailers.keys().filter(|name| forbidden(name)).cloned().collect();
        for name in dropped {
            trailers.remove(name);
        }
    }

    fn is_forbidden(&self, name: &str, trusted: bool) -> bool {
        // `Proxy` becomes HTTP_PROXY in a CGI's environment (CVE-2016-5385).
        name.contains('_') || name == "proxy" || self.is_ours(name) || (!trusted && is_of_earlier_hops(name))
    }

    /// Whether some server would take `name` for one of the names identity is told under.
    fn is_ours(&self, name: &str) -> bool {
        begins_like(name, "x-auth-") || self.identity.iter().any(|ours| folds_to(name, ours.as_str()))
    }
}

/// Leaves of an answer's fields what may go to the client.
pub(super) fn clean_answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, |_| false);
}

/// Drops what is about one connection only, and what `Connection` names as such.
fn strip_hop_by_hop(headers: &mut HeaderMap, kept: impl Fn(&str) -> bool) {
    let named: Vec<HeaderName> = listed(headers, &CONNECTION)
        .filter(|option| !is_common_option(option))
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| !NOT_OF_A_CONNECTION.contains(&name.as_str()) && !kept(name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
    // To compare is cheaper than to hash, and most messages have one of them at most.
    while let Some(at) = headers.keys().find_map(|name| HOP_BY_HOP.iter().position(|own| own == name)) {
        HOP_BY_HOP.get(at).map(|name| headers.remove(name));
    }
}

/// Options that name fields which are dropped anyway, or none at all.
fn is_common_option(option: &str) -> bool {
    ["keep-alive", "close", "upgrade", "te"].iter().any(|common| option.eq_ignore_ascii_case(common))
}

/// The members of all fields of that name, at commas (RFC 9110 §5.6.1).
pub(super) fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(TE) && listed(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

fn is_of_earlier_hops(name: &str) -> bool {
    // Nearly all names that pass begin otherwise.
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b't' | b'x'))
        && (OF_EARLIER_HOPS_BEGIN.iter().any(|prefix| begins_like(name, prefix))
            || OF_EARLIER_HOPS.iter().any(|held| folds_to(name, held)))
}

/// Whether `name` is `target` once everything but letters and digits counts as `-`. Header names are in lower case already.
fn folds_to(name: &str, target: &str) -> bool {
    name.len() == target.len() && begins_like(name, target)
}

fn begins_like(name: &str, prefix: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(one, other)| fold(one) == fold(other))
}

/// The length a request declares.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hygiene() -> Hygiene {
        let own = IdentityHeaders { user: HeaderName::from_static("remote-user"), ..IdentityHeaders::default() };
        Hygiene::new([&own].into_iter())
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(parse) {
            headers.append(name, value);
        }
        headers
    }

    fn left(fields: &[(&str, &str)], trusted: bool) -> Vec<String> {
        let mut headers = map(fields);
        hygiene().clean_request(&mut headers, trusted, |_| false);
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn identity_is_dropped_in_every_spelling() {
        let spellings = ["X-Auth-User", "x_auth_user", "X-Auth_User", "X.Auth.User", "x-auth-anything", "Remote-User"];
        for spelling in spellings.into_iter().chain(["Remote_User", "remote.user", "x!auth-user", "Any_thing", "Proxy"])
        {
            for trusted in [false, true] {
                assert_eq!(left(&[(spelling, "mallory"), ("accept", "*/*")], trusted), ["accept"], "{spelling}");
            }
        }
    }

    #[test]
    fn a_tokens_own_header_passes_in_one_spelling_and_never_as_identity() {
        let fields = [("X-Auth-Token", "t"), ("X-Auth_Token", "t"), ("X.Auth.Token", "t"), ("Remote-User", "mallory")];
        let mut headers = map(&fields);
        hygiene().clean_request(&mut headers, false, |name| name == "x-auth-token" || name == "remote-user");
        assert_eq!(headers, map(&[("X-Auth-Token", "t")]));
    }

    #[test]
    fn earlier_hops_are_believed_from_trusted_peers_only() {
        let fields = [
            ("Forwarded", "for=1.2.3.4"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded.Host", "a"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-URL", "/admin"),
            ("X-Real-IP", "1.2.3.4"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Request-Id", "1"),
        ];
        assert!(left(&fields, false).is_empty());
        assert_eq!(left(&fields, true).len(), fields.len());
    }

    #[test]
    fn what_belongs_to_a_connection_stays_on_it() {
        let fields = [
            ("Connection", "close, X-Hop, X-Auth-User"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic x"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("TE", "gzip"),
            ("Trailer", "x-sum"),
        ];
        assert_eq!(left(&fields, false), ["trailer"]);
        assert_eq!(left(&[("TE", "gzip, trailers"), ("Connection", "TE")], false), ["te"]);
    }

    #[test]
    fn connection_cannot_drop_what_gives_a_request_its_meaning() {
        let fields = [
            ("Connection", "Authorization, Host, Content-Length, Cookie, Forwarded, X-Forwarded-For, X-Request-Id"),
            ("Authorization", "Bearer x"),
            ("Host", "a"),
            ("Content-Length", "3"),
            ("Cookie", "a=b"),
            ("Forwarded", "for=1.2.3.4"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Request-Id", "1"),
        ];
        assert_eq!(left(&fields, true).len(), fields.len() - 1);
    }

    #[test]
    fn trailers_cannot_frame_or_identify() {
        let mut trailers = map(&[
            ("Content-Length", "3"),
            ("Transfer-Encoding", "chunked"),
            ("X-Auth-User", "mallory"),
            ("X_Auth_User", "mallory"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Host", "a"),
            ("Grpc-Status", "0"),
        ]);
        hygiene().clean_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("grpc-status", "0")]));
    }

    #[test]
    fn an_answer_loses_what_belongs_to_the_upstream_connection() {
        let mut answer =
            map(&[("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1"), ("ETag", "x"), ("Trailer", "y")]);
        clean_answer(&mut answer);
        assert_eq!(answer, map(&[("etag", "x"), ("trailer", "y")]));
    }

    proptest! {
        #[test]
        fn nothing_that_folds_to_identity_passes(mid in "[-_.!#$%&'*+^`|~]", end in "[-_.!]", connection in "[a-zA-Z, -]{0,30}") {
            let name = format!("x{mid}auth{end}user");
            prop_assert!(left(&[(&name, "mallory"), ("connection", &connection)], true).is_empty());
        }
    }
}
