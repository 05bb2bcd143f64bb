//! Dialects, where they are mounted, and what their clients make of routes and token endpoints.

use super::*;

#[test]
fn session_passwords_are_good_for_as_long_as_privxs_dialect_says() {
    assert_eq!(read(GOOD).unwrap().session_passwords.ttl, Duration::from_secs(8 * 3_600));
    let settings = read(&format!("{GOOD}[dialects.privx]\nsession_password_ttl = \"30d\"")).unwrap();
    assert_eq!(settings.session_passwords.ttl, Duration::from_secs(30 * 86_400));
    for ttl in ["59s", "31d", "never"] {
        assert_fault(
            &format!("[dialects.privx]\nsession_password_ttl = \"{ttl}\""),
            "dialects.privx.session_password_ttl",
        );
    }
}

#[test]
fn a_dialect_is_mounted_where_and_for_whom_the_file_says() {
    let mounted = |section: &str| {
        let settings = read(&format!("{GOOD}[dialects.elasticsearch]\n{section}")).unwrap();
        settings.admin.dialects.elasticsearch.unwrap().mount
    };
    let usual = mounted("");
    assert_eq!((usual.admin, usual.proxy, &*usual.prefix, &*usual.issuer_name), (true, false, "", "main"));
    let moved = mounted("on = [\"proxy\"]\nprefix = \"/a/b-c\"\nissuer = \"main\"");
    assert_eq!((moved.admin, moved.proxy, &*moved.prefix), (false, true, "/a/b-c"));
    assert!(read(GOOD).unwrap().admin.dialects.elasticsearch.is_none());
    for (section, fault) in [
        ("on = []", "must name one listener at least"),
        ("on = [\"both\"]", "must be one of"),
        ("issuer = \"other\"", "no issuer has the name"),
        ("prefix = \"/a/\"", "must be empty, or begin with a slash"),
        ("prefix = \"a\"", "must be empty, or begin with a slash"),
        ("prefix = \"/{a}\"", "must be empty, or begin with a slash"),
        ("prefix = \"/..\"", "must be empty, or begin with a slash"),
        ("prefix = \"/v1\"", "is where our own calls are"),
        ("prefix = \"/metrics\"", "is where our own calls are"),
        ("prefix = \"/readyz/x\"", "is where our own calls are"),
        ("path = \"/a\"", "is not a key"),
    ] {
        assert_fault(&format!("[dialects.elasticsearch]\n{section}"), fault);
    }
}

const ONEZONE: &str = "[[issuers]]\nname = \"zone\"\nissuer = \"zone.test\"\npreset = \"onezone\"\n[dialects.onezone]\nissuer = \"zone\"\n";

#[test]
fn onezones_clients_put_their_tokens_where_onezone_looks() {
    let route = "[[routes]]\npath = \"/zone\"\nupstreams = [\"http://127.0.0.1:3000\"]\ndialect = \"onezone\"";
    let settings = read(&format!("{GOOD}{ONEZONE}upstream = \"https://zone.test\"\n{route}")).unwrap();
    let policy = &settings.gateway.routes[1].policy;
    let places: Vec<String> = policy.places.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["header:x-auth-token", "bearer", "header:macaroon"]);
    assert!(policy.first_only && policy.companions.len() == 2);
    assert!(!settings.gateway.routes[0].policy.first_only);
    let dialect = settings.admin.dialects.onezone.unwrap();
    assert_eq!((&*dialect.mount.issuer, dialect.upstream.unwrap().url.host()), ("zone.test", Some("zone.test")));
    assert!(
        settings.warnings.iter().any(|warning| warning.contains("macaroons are not verified")),
        "{:?}",
        settings.warnings
    );
}

#[test]
fn generations_that_are_counted_here_are_worth_a_warning() {
    let warned = |text: &str| {
        let settings = read(&format!("{GOOD}{ONEZONE}{text}")).unwrap();
        settings.warnings.iter().any(|warning| warning.contains("generations are counted here"))
    };
    assert!(warned("") && !warned("upstream = \"https://zone.test\""));
}

#[test]
fn what_would_be_told_to_onezone_in_the_clear_is_a_fault() {
    let with = |text: &str| format!("{ONEZONE}{text}");
    assert_fault(&with("upstream = \"http://zone.test\""), "dialects.onezone.upstream: is plain http");
    assert_fault(&with("upstream = \"https://zone.test/?a\""), "dialects.onezone.upstream: must not have a query");
    assert_fault(&with("token_file = \"x\""), "dialects.onezone.token_file: ");
    let scoped =
        "[[routes]]\npath = \"/x\"\nupstreams = [\"http://127.0.0.1:3000\"]\nissuers = [\"zone\"]\nscopes = [\"a\"]";
    assert_fault(&with(scoped), "scopes: cannot be met by tokens of \"zone\"");
}

#[test]
fn bluesky_is_strict_and_asks_nobody_unless_told() {
    use crate::admin::bluesky::AccessTokens;
    let bluesky = |text: &str| {
        let settings = read(&format!("{GOOD}[dialects.bluesky]\n{text}")).unwrap_or_else(|faults| panic!("{faults}"));
        settings.admin.dialects.bluesky.unwrap()
    };
    let plain = bluesky("");
    assert_eq!((plain.access_tokens, plain.upstream), (AccessTokens::Strict, None));
    assert_eq!(plain.admin_scopes, ["admin:apikeys"]);
    let told = bluesky("access_tokens = 'as_original'\nupstream = 'http://127.0.0.1/lab'\nadmin_scopes = []");
    assert_eq!((told.access_tokens, told.admin_scopes.len()), (AccessTokens::AsOriginal, 0));
    assert_eq!(told.upstream.unwrap().url, "http://127.0.0.1/lab");
    for (text, expected) in [
        ("access_tokens = 'lax'", "dialects.bluesky.access_tokens"),
        ("upstream = 'http://a/?b'", "it has no query"),
        ("upstream = 'http://a'\nupstream_timeout = '1h'", "dialects.bluesky.upstream_timeout"),
        ("upstream = 'http://a'\nupstream_ca = 'missing.pem'", "dialects.bluesky.upstream_ca"),
        ("upstream_timeout = '1s'", "dialects.bluesky.upstream_timeout"),
    ] {
        assert_fault(&format!("[dialects.bluesky]\n{text}"), expected);
    }
}

#[test]
fn dialects_that_would_answer_one_path_are_a_fault() {
    let both = "[dialects.privx]\nprefix = \"/x\"\n[dialects.elasticsearch]\nprefix = \"/x/auth/api/v1/sessionstorage";
    assert_fault(&format!("{both}/sessions/search\""), "dialects.elasticsearch: has a call where privx has one");
    assert_eq!(also(&format!("{both}/other\"")), Vec::<String>::new());
}

#[test]
fn token_endpoints_are_where_the_dialects_clients_go() {
    let lab = |endpoint: &str| {
        format!(
            "[[issuers]]\nname = \"b\"\nissuer = \"b\"\npreset = \"bluesky\"\n[[issuers.token_endpoints]]\n\
             preset = \"bluesky\"\n{endpoint}\n[dialects.bluesky]\nissuer = \"b\"\non = [\"proxy\"]\nprefix = \"/lab\""
        )
    };
    assert_fault(&lab(""), "is not below /lab, where the dialect bluesky is on the proxy's listener");
    let settings = read(&format!("{GOOD}{}", lab("prefix = \"/lab\""))).unwrap();
    let paths: Vec<_> = settings.gateway.token_endpoints.iter().map(|endpoint| endpoint.path.to_string()).collect();
    assert_eq!(paths, ["/lab/api/auth/provider/*/token", "/lab/api/auth/session/refresh"]);
    assert_fault(&lab("prefix = \"lab\""), "must be empty, or begin with a slash");
    assert_fault(&lab("prefix = \"/lab\"\npath = \"/lab/token\""), "is for the paths that a preset knows");
}

#[test]
fn blueskys_routes_know_where_its_api_keys_stand() {
    let shown = |issuer: &str, route: &str| -> Vec<String> {
        let settings = settled(&format!(
            "[[issuers]]\nname = \"b\"\nissuer = \"b\"\npreset = \"bluesky\"\n{issuer}\n\
             [[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\n{route}"
        ));
        settings.gateway.routes[1].policy.api_keys.iter().map(ToString::to_string).collect()
    };
    let usual = ["query:api_key", "scheme:apikey", "cookie:bluesky_httpserver_api_key"];
    assert_eq!(shown("", "dialect = \"bluesky\""), usual);
    assert_eq!(shown("uuid_sessions = false", "dialect = \"bluesky\""), usual);
    assert_eq!(shown("", "dialect = \"bluesky\"\nissuers = [\"b\"]"), usual);
    assert_eq!(shown("", "dialect = \"bluesky\"\napi_keys = [\"scheme:Key\"]"), ["scheme:key"]);
    assert_eq!(shown("", "dialect = \"bluesky\"\ntokens = [\"cookie:bluesky_httpserver_api_key\"]"), usual[..2]);
    for (issuer, route) in [
        ("", "dialect = \"bluesky\"\napi_keys = []"),
        ("", "dialect = \"bluesky\"\nauth = \"none\""),
        ("", "dialect = \"bluesky\"\nissuers = [\"main\"]"),
        ("opaque_tokens = false", "dialect = \"bluesky\""),
        ("", ""),
    ] {
        assert_eq!(shown(issuer, route), Vec::<String>::new(), "{issuer} {route}");
    }
}
