//! One request, one meaning: refuses what the next server could frame or address otherwise, before anything is decided.
//!
//! The listener's guard has read the raw head already; this looks at what became of it, and at HTTP/2, which has no raw head.

use hyper::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request, Uri, Version};

use crate::gateway::refusal::{Form, Refusal};
use crate::gateway::settings::Limits;

/// Checks a request's size, framing and address, and leaves it with exactly one `Host`.
///
/// # Errors
///
/// The rule that does not hold.
pub(super) fn check<B>(request: &mut Request<B>, limits: &Limits) -> Result<(), Refusal> {
    if request.headers().len() > limits.headers {
        return Err(Refusal::TooManyHeaders);
    }
    if target_bytes(request.uri()) > limits.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    if request.method() == Method::CONNECT && !is_extended_connect(request) {
        return Err(Refusal::Form(Form::Connect));
    }
    check_framing(request.version(), request.headers())?;
    settle_host(request)?;
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    // RFC 9110 §10.1.1: hyper answers 100 as soon as the body is wanted, and sends it on without waiting.
    request.headers_mut().remove(EXPECT);
    Ok(())
}

/// RFC 8441 §4: a CONNECT that names a protocol has a scheme and a path like any other request.
pub(super) fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_some()
}

fn target_bytes(uri: &Uri) -> usize {
    let authority_bytes = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority_bytes + uri.path_and_query().map_or(0, |target| target.as_str().len())
}

fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let digits = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let once = lengths.next().is_none() && codings.next().is_none();
    // RFC 9112 §6.1: both together are an attack or a fault; RFC 9113 §8.2.2: HTTP/2 knows no transfer coding.
    let sane = once
        && length.is_none_or(digits)
        && coding.is_none_or(|value| version == Version::HTTP_11 && chunked(value))
        && (length.is_none() || coding.is_none())
        && (version < Version::HTTP_2 || !headers.contains_key(UPGRADE));
    if sane { Ok(()) } else { Err(Refusal::Form(Form::Framing)) }
}

/// Finds the one host a request is for, and says it in `Host` alone.
fn settle_host<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let wrong = Refusal::Form(Form::Host);
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() || named.is_some_and(|host| split(host.as_bytes()).is_none()) {
        return Err(wrong);
    }
    let scheme = request.uri().scheme();
    if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(wrong);
    }
    let Some(authority) = request.uri().authority() else {
        // RFC 9112 §3.2: HTTP/1.1 demands a Host; HTTP/1.0 may leave it out, and then only routes for any host fit.
        return if named.is_none() && request.version() >= Version::HTTP_11 { Err(wrong) } else { Ok(()) };
    };
    let agrees =
        split(authority.as_str().as_bytes()).is_some() && named.is_none_or(|host| same(host, authority, scheme));
    if !agrees || (named.is_none() && request.version() == Version::HTTP_11) {
        return Err(wrong);
    }
    if named.is_none() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong)?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// The host without its port, as routes compare it; `None` when the request names none.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let (host, _) = split(headers.get(HOST)?.as_bytes())?;
    std::str::from_utf8(host).ok()
}

/// RFC 3986 §3.2, strictly: a name or address, perhaps a port in range, no userinfo, no escapes.
fn split(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = if authority.starts_with(b"[") {
        authority.iter().position(|b| *b == b']')? + 1
    } else {
        authority.iter().position(|b| *b == b':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end)?;
    if host.is_empty() || !host.iter().all(|b| host_byte(*b, host.starts_with(b"["))) {
        return None;
    }
    match rest.split_first() {
        None => Some((host, None)),
        Some((b':', port)) => Some((host, Some(port_number(port)?))),
        Some(_) => None,
    }
}

fn host_byte(byte: u8, is_address: bool) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_')
        || (is_address && matches!(byte, b'[' | b']' | b':'))
}

fn port_number(port: &[u8]) -> Option<u16> {
    let digits = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(port).ok().filter(|_| digits)?.parse().ok()?;
    (number != 0).then_some(number)
}

/// Whether `Host` and the target's authority mean the same, the scheme's own port aside.
fn same(host: &HeaderValue, authority: &Authority, scheme: Option<&Scheme>) -> bool {
    let own_port = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let whole = |text| split(text).map(|(name, port)| (name, port.unwrap_or(own_port)));
    match (whole(host.as_bytes()), whole(authority.as_str().as_bytes())) {
        (Some((one, port)), Some((other, other_port))) => one.eq_ignore_ascii_case(other) && port == other_port,
        _ => false,
    }
}

/// RFC 9113 §8.2.3: HTTP/2 may split `Cookie` into crumbs; HTTP/1.1 and whoever looks for tokens want one field.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(version: Version, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn verdict(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<Option<String>, Form> {
        let mut request = request(version, target, headers);
        match check(&mut request, &Limits::default()) {
            Ok(()) => Ok(host(request.headers()).map(str::to_owned)),
            Err(Refusal::Form(form)) => Err(form),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let h1 = |target: &str, headers: &[(&str, &str)]| verdict(Version::HTTP_11, target, headers);
        let h2 = |target: &str, headers: &[(&str, &str)]| verdict(Version::HTTP_2, target, headers);
        let named = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(h1("/", &[("host", "a.example:80")]), named("a.example"));
        assert_eq!(h1("/", &[("host", "[::1]:8080")]), named("[::1]"));
        assert_eq!(h1("http://a.example/x", &[("host", "A.example:80")]), named("A.example"));
        assert_eq!(h2("https://a.example/x", &[]), named("a.example"));
        assert_eq!(h2("https://a.example/x", &[("host", "a.example:443")]), named("a.example"));
        assert_eq!(h2("/", &[("host", "a.example")]), named("a.example"));
        assert_eq!(verdict(Version::HTTP_10, "/", &[]), Ok(None));
    }

    #[test]
    fn a_request_that_names_none_or_two_is_refused() {
        let h1 = |target: &str, headers: &[(&str, &str)]| verdict(Version::HTTP_11, target, headers);
        let h2 = |target: &str, headers: &[(&str, &str)]| verdict(Version::HTTP_2, target, headers);
        assert_eq!(h1("/", &[]), Err(Form::Host));
        assert_eq!(h1("/", &[("host", "a"), ("host", "a")]), Err(Form::Host));
        assert_eq!(h1("http://b.example/", &[("host", "a.example")]), Err(Form::Host));
        assert_eq!(h1("http://a.example/", &[]), Err(Form::Host));
        assert_eq!(h1("http://u@a.example/", &[("host", "a.example")]), Err(Form::Host));
        assert_eq!(h1("ftp://a.example/", &[("host", "a.example")]), Err(Form::Host));
        for wrong in
            ["", "a b", "a,b", "u@a", "a:", "a:0", "a:65536", "a:8x", "a:+80", "[::1", "[::1]x", "a/b", "a%20", "é"]
        {
            assert_eq!(h1("/", &[("host", wrong)]), Err(Form::Host), "{wrong}");
        }
        assert_eq!(h2("https://a.example/", &[("host", "b.example")]), Err(Form::Host));
        assert_eq!(h2("/", &[]), Err(Form::Host));
    }

    #[test]
    fn framing_with_two_meanings_is_refused() {
        let framing = |version, headers: &[(&str, &str)]| {
            let mut headers = headers.to_vec();
            headers.push(("host", "a"));
            verdict(version, "/", &headers).map(|_| ())
        };
        assert_eq!(framing(Version::HTTP_11, &[("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(framing(Version::HTTP_11, &[("content-length", "0")]), Ok(()));
        for wrong in ["gzip, chunked", "identity", "chunked, chunked", "chunked,", "", "xchunked"] {
            let refused = framing(Version::HTTP_11, &[("transfer-encoding", wrong)]);
            assert_eq!(refused, Err(Form::Framing), "{wrong}");
        }
        for wrong in ["+1", "-1", "0x1", "1, 1", "", "1 "] {
            let value = HeaderValue::from_bytes(wrong.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(CONTENT_LENGTH, value)]);
            assert!(check_framing(Version::HTTP_11, &headers).is_err(), "{wrong}");
        }
        let both = [("transfer-encoding", "chunked"), ("content-length", "1")];
        assert_eq!(framing(Version::HTTP_11, &both), Err(Form::Framing));
        assert_eq!(framing(Version::HTTP_11, &[("content-length", "1"), ("content-length", "1")]), Err(Form::Framing));
        assert_eq!(framing(Version::HTTP_10, &[("transfer-encoding", "chunked")]), Err(Form::Framing));
        assert_eq!(framing(Version::HTTP_2, &[("transfer-encoding", "chunked")]), Err(Form::Framing));
    }

    #[test]
    fn sizes_are_bounded_and_connect_is_refused() {
        let limits = Limits { headers: 1, uri_bytes: 8, ..Limits::default() };
        let mut many = request(Version::HTTP_11, "/", &[("host", "a"), ("x", "y")]);
        assert!(matches!(check(&mut many, &limits), Err(Refusal::TooManyHeaders)));
        let mut long = request(Version::HTTP_11, "/12345678", &[("host", "a")]);
        assert!(matches!(check(&mut long, &limits), Err(Refusal::UriTooLong)));
        let mut connect = request(Version::HTTP_11, "a:80", &[("host", "a:80")]);
        *connect.method_mut() = Method::CONNECT;
        assert!(matches!(check(&mut connect, &Limits::default()), Err(Refusal::Form(Form::Connect))));
    }

    #[test]
    fn cookie_crumbs_become_one_cookie() {
        let mut crumbs = request(Version::HTTP_2, "https://a/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        check(&mut crumbs, &Limits::default()).unwrap();
        let cookies: Vec<_> = crumbs.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    proptest! {
        #[test]
        fn no_host_makes_it_panic(host in "[a-z0-9:@\\[\\].,% -]{0,20}") {
            let _ = split(host.as_bytes());
        }
    }
}
