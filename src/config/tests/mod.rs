//! The file as a whole: every fault at once, each at its place; every example good.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::SessionType;
use crate::domain::TokenForm;
use crate::gateway::token_endpoint::{ClientTrait, Preset, Rotation, TokenEndpoint};
use crate::verify::{Algorithm, IssuerSettings, Verification};

mod dialects;
mod store;

const GOOD: &str = r#"
[[admin.credentials]]
name = "ops"
token_sha256 = "60d9cc31347afa20eb12747947fad2fc6748138a8a093f2d53065bf75734cca9"
rights = ["admin"]
[[issuers]]
name = "main"
issuer = "https://id.example.com/"
audiences = ["api"]
max_token_lifetime = "24h"
[[routes]]
path = "/"
upstreams = ["http://127.0.0.1:3000"]
"#;

fn environment(name: &str) -> Option<String> {
    (name == "INTROSPECTION_SECRET").then(|| "hunter2".to_owned())
}

fn read(text: &str) -> Result<Settings, Faults> {
    parse(Path::new("gate.toml"), text, &environment)
}

/// The faults as `line path text`, without the file's name.
fn faults(text: &str) -> Vec<String> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.lines().map(|line| line.replacen("gate.toml:", "", 1)).collect(),
    }
}

/// The good file with more lines behind it.
fn also(text: &str) -> Vec<String> {
    faults(&format!("{GOOD}{text}"))
}

fn assert_fault(text: &str, expected: &str) {
    let found = also(text);
    assert!(found.iter().any(|fault| fault.contains(expected)), "{text}\nfound {found:#?}");
}

#[test]
fn the_examples_load() {
    let mut count = 0;
    for entry in std::fs::read_dir("config").unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let settings = parse(&file, &text, &environment).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(!settings.gateway.routes.is_empty());
        let misled = settings.warnings.iter().any(|warning| warning.contains("nobody gets a first token"));
        assert!(!misled, "{}: {:?}", file.display(), settings.warnings);
        count += 1;
    }
    assert!(count > 1);
}

#[test]
fn a_short_file_is_enough() {
    let settings = read(GOOD).unwrap();
    assert_eq!(settings.proxy.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.admin_listener.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(settings.warnings, Vec::<String>::new());
    assert_eq!(&*settings.admin.store, "sqlite");
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = r#"
[proxy]
lisen = "0.0.0.0:8080"
timeouts = { header = 10, body = "0s" }
[store]
url = "mysql:x"
max_staleness = "1y"
[[issuers]]
name = "main"
issuer = "x"
jwks_file = "nowhere.json"
algorithms = ["HS256", "none", "RS1"]
[[routes]]
path = "api"
upstreams = ["ftp://x"]
issuers = ["other"]
auth = "maybe"
"#;
    let found = faults(text);
    let expected = [
        "3: proxy.lisen: is not a key of this version; did you mean listen?",
        "4: proxy.timeouts.header: must be a duration with its unit",
        "4: proxy.timeouts.body: must lie between 1ms and 1day",
        "6: store.url: ",
        "7: store.max_staleness: must lie between 2s and 1h",
        "11: issuers[0].jwks_file: nowhere.json cannot be read",
        "12: issuers[0].algorithms[0]: HS256 is an HMAC",
        "12: issuers[0].algorithms[1]: would accept tokens that nobody signed",
        "12: issuers[0].algorithms[2]: ",
        "14: routes[0].path: ",
        "15: routes[0].upstreams[0]: ",
        "16: routes[0].issuers[0]: no issuer has the name \"other\"; known: main",
        "17: routes[0].auth: must be one of \"required\", \"optional\", \"none\"",
    ];
    for (fault, expected) in found.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault} is not {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_route_may_say_what_a_stale_index_means_there() {
    let settings = settled("[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nwhen_stale = \"allow\"");
    let said: Vec<_> = settings.gateway.routes.iter().map(|route| route.policy.when_stale).collect();
    assert_eq!(said, [None, Some(crate::admission::WhenStale::Allow)]);
    assert_fault(
        "[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nwhen_stale = \"maybe\"",
        "routes[1].when_stale",
    );
}

#[test]
fn one_fault_does_not_make_others() {
    let issuer = |rest: &str| format!("[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\n{rest}\nleeway = \"1s\"");
    assert_eq!(also(&issuer("verification = \"guess\"\nalgorithms = [\"RS256\"]")).len(), 1);
    assert_eq!(
        also(&issuer(
            "verification = \"introspection\"\nintrospection_url = \"https://b\"\nintrospection_client_id = \"c\""
        ))
        .len(),
        1
    );
    assert_eq!(also(&issuer("claims = 3\nallow_padding = true")).len(), 1);
    assert_eq!(also("[proxy]\ntimeouts = 3\nlimits = { headers = 10 }").len(), 1);
    let faulty = "[[issuers]]\nname = \"b\"\n[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nissuers = [\"b\"]";
    assert_eq!(also(faulty).len(), 1, "{:?}", also(faulty));
}

#[test]
fn what_is_no_toml_is_located() {
    assert!(faults("a = \n[b\n").iter().all(|fault| fault.starts_with(['1', '2'])), "{:?}", faults("a = \n[b\n"));
    assert!(faults("a = 1\na = 2\n")[0].starts_with("2: "));
}

#[test]
fn an_empty_file_says_what_is_missing() {
    assert_eq!(faults(""), [" routes: is missing: without a route every request is answered 404"]);
}

#[test]
fn sections_are_judged_together() {
    assert_fault("[[routes]]\npath = \"/\"\nupstreams = [\"http://a\"]", "15: routes[1].path: is taken");
    assert_fault("[[issuers]]\nname = \"main\"\nissuer = \"https://b\"", "issuers[1].name: is another issuer's");
    assert_fault(
        "[[issuers]]\nname = \"b\"\nissuer = \"https://id.example.com/\"",
        "issuers[1].issuer: is another issuer's",
    );
    assert_fault("[proxy]\nlisten = \"0.0.0.0:9090\"", "admin.listen: is the address of the proxy");
    assert_fault("[proxy]\nproxy_protocol = true", "needs trusted_proxies");
    assert_fault(
        "[[issuers]]\nname = \"b\"\nissuer = \"b\"\nverification = \"none\"\n[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nscopes = [\"x\"]",
        "routes[1].scopes: cannot be met by tokens of \"b\"",
    );
    let unverified = "[[issuers]]\nname = \"b\"\nissuer = \"b\"\nverification = \"none\"\n";
    let passwords =
        |demands: &str| format!("{unverified}[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\n{demands}");
    assert_fault(
        &passwords("tokens = [\"bearer\", \"session-password\"]\nissuers = [\"b\"]"),
        "routes[1].tokens: cannot be session-password",
    );
    assert_eq!(also(&passwords("tokens = [\"session-password\"]")), Vec::<String>::new());
    assert_fault(
        &passwords("api_keys = [\"session-password\"]"),
        "routes[1].api_keys: session-password is a place for tokens",
    );
    assert_fault(
        &passwords("tokens = [\"session-password\"]\napi_keys = [\"scheme:Basic\"]"),
        "routes[1].api_keys: scheme:basic is where session passwords stand",
    );
    let nobody = "[[routes]]\npath = \"/\"\nupstreams = [\"http://a\"]";
    assert!(faults(nobody)[0].contains("routes[0].auth: cannot be met"), "{:?}", faults(nobody));
}

#[test]
fn routes_may_share_a_path_when_hosts_or_methods_differ() {
    let routes = "[[routes]]\npath = \"/\"\nmethods = [\"POST\"]\nupstreams = [\"http://a\"]\n\
                  [[routes]]\npath = \"/\"\nhosts = [\"a.example\"]\nupstreams = [\"http://a\"]\n";
    assert_eq!(also(routes), Vec::<String>::new());
    assert_fault(
        &format!("{routes}[[routes]]\npath = \"/\"\nmethods = [\"GET\", \"POST\"]\nupstreams = [\"http://a\"]"),
        "routes[3].path",
    );
    assert_fault("[[routes]]\npath = \"/a\"\nmethods = [\"post\"]\nupstreams = [\"http://a\"]", "capitals");
}

#[test]
fn each_way_of_verification_has_its_own_keys() {
    let issuer = |rest: &str| format!("[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\n{rest}");
    assert_fault(&issuer("jwks_url = \"https://b\"\njwks_file = \"Cargo.toml\""), "stands beside jwks_url");
    assert_fault(&issuer("verification = \"introspection\""), "issuers[1].introspection_url: is missing");
    assert_fault(&issuer("verification = \"none\"\nalgorithms = [\"RS256\"]"), "issuers[1].algorithms: is not a key");
    assert_fault("[[issuers]]\nname = \"b\"\nissuer = \"b\"", "issuers[1].jwks_url: is missing");
    assert_fault("[[issuers]]\nname = \"b\"\nissuer = \"http://b.example\"", "no https URL to discover keys from");
}

#[test]
fn callers_of_the_admin_side_are_told_apart() {
    let caller = |name: &str, sha256: &str| {
        format!("[[admin.credentials]]\nname = \"{name}\"\ntoken_sha256 = \"{sha256}\"\nrights = [\"admin\"]")
    };
    assert_fault(&caller("ops", &"a".repeat(64)), "admin.credentials[1].name");
    assert_fault(&caller("x", "secret"), "admin.credentials[1].token_sha256");
    assert_fault(
        &caller("x", "60d9cc31347afa20eb12747947fad2fc6748138a8a093f2d53065bf75734cca9"),
        "stands in another entry",
    );
    assert_fault(
        "[[admin.tokens]]\nissuer = \"x\"\nclaim = \"scope\"\nvalue = \"v\"\nrights = []",
        "admin.tokens[0].rights",
    );
}

/// An issuer with one token endpoint and a route that serves it.
fn endpoint(lines: &str) -> String {
    format!(
        "[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\naudiences = [\"a\"]\nmax_token_lifetime = \"1h\"\n\
         max_refresh_token_lifetime = \"30d\"\n[[issuers.token_endpoints]]\n{lines}\n\
         [[routes]]\npath = \"/oauth\"\nupstreams = [\"http://a\"]\nauth = \"none\"\n"
    )
}

fn settled(text: &str) -> Settings {
    read(&format!("{GOOD}{text}")).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn a_token_endpoint_needs_its_path_and_nothing_else() {
    let settings = settled(&endpoint("path = \"/oauth/token\""));
    assert_eq!(settings.warnings, Vec::<String>::new());
    let path = "/oauth/token".parse().unwrap();
    assert_eq!(settings.gateway.token_endpoints, [TokenEndpoint::new("https://b".into(), "b".into(), path)]);
    let issuer = &settings.verify.issuers[1];
    assert!(issuer.has_token_endpoints && !issuer.missing_iss && !issuer.opaque_tokens);
    assert_eq!(issuer.max_refresh_token_lifetime, Some(Duration::from_secs(30 * 24 * 3600)));
    assert!(!settings.verify.issuers[0].has_token_endpoints);
}

#[test]
fn what_stands_beside_a_preset_counts_more() {
    let settings = settled(&endpoint(
        "preset = \"privx\"\npath = \"/oauth/token\"\nrefresh_token = [\"json:/a\", \"form:b\"]\n\
         rotation = \"enforce\"\ngrace = \"0s\"\ngrace_replays = 3\nsame_client = [\"address\"]\n\
         token_form = \"base64\"\ntype = \"sso\"\n\
         [issuers.token_endpoints.learn]\nsession = \"reply:/s\"\nuser = [\"id:sub\", \"request:user\"]\nusername = []",
    ));
    let [endpoint] = &settings.gateway.token_endpoints[..] else { panic!("one endpoint") };
    assert_eq!(endpoint.refresh_token, ["json:/a", "form:b"].map(|place| place.parse().unwrap()));
    assert_eq!((endpoint.rotation, endpoint.grace, endpoint.grace_replays), (Rotation::Enforce, Duration::ZERO, 3));
    assert_eq!(endpoint.same_client, [ClientTrait::Address]);
    assert_eq!((endpoint.token_form, endpoint.session_type), (TokenForm::Base64, SessionType::Sso));
    assert_eq!(endpoint.learn.session, ["reply:/s".parse().unwrap()]);
    assert_eq!((endpoint.learn.user.len(), endpoint.learn.username.len()), (2, 0));
    assert_eq!(endpoint.learn.domain, Preset::PrivX.learn().domain, "what is not told is the preset's");
}

#[test]
fn privxs_preset_takes_its_tokens_as_they_are_and_no_other_issuer_does() {
    let issuer = |keys: &str| {
        let section = format!("\n[[issuers]]\nname = \"b\"\nissuer = \"b\"\njwks_url = \"https://b/\"\n{keys}\n");
        read(&format!("{GOOD}{section}")).unwrap().verify.issuers.pop().unwrap()
    };
    let algorithms = |issuer: &IssuerSettings| match &issuer.verification {
        Verification::Signature(signature) => signature.algorithms.clone(),
        other => panic!("{other:?}"),
    };
    let (privx, usual) = (issuer("preset = \"privx\""), issuer(""));
    assert_eq!((algorithms(&privx), privx.allow_padding), (vec![Algorithm::Ed25519], true));
    assert_eq!((&*privx.claims.session, &*privx.claims.user), ("sessionid", "userid"));
    assert!(privx.claims.scope.as_deref() == Some("permissions") && privx.claims.comma_separated_scopes);
    assert!(!algorithms(&usual).contains(&Algorithm::Ed25519) && !usual.allow_padding);
    assert!(!usual.claims.comma_separated_scopes);
    let told =
        issuer("preset = \"privx\"\nallow_padding = false\nalgorithms = [\"ES256\"]\nclaims = { scope = \"scope\" }");
    assert_eq!((algorithms(&told), told.allow_padding), (vec![Algorithm::Es256], false), "a key beside it counts more");
}

#[test]
fn a_preset_knows_where_its_server_has_its_endpoints() {
    let bluesky = "[[issuers]]\nname = \"b\"\nissuer = \"b\"\nverification = \"none\"\nmissing_iss = true\n\
                   [[issuers.token_endpoints]]\npreset = \"bluesky\"\ngrace = \"1s\"\nrefresh_token = \"json:/token\"\n\
                   [[routes]]\npath = \"/api/auth\"\nupstreams = [\"http://a\"]\nauth = \"none\"";
    let settings = settled(bluesky);
    let shown: Vec<_> =
        settings.gateway.token_endpoints.iter().map(|e| (e.path.to_string(), e.refresh_token.len())).collect();
    let expected = [("/api/auth/provider/*/token".to_owned(), 0), ("/api/auth/session/refresh".to_owned(), 1)];
    assert_eq!(shown, expected, "the login only hands out, whatever is told of refresh tokens");
    assert!(settings.gateway.token_endpoints.iter().all(|endpoint| endpoint.grace == Duration::from_secs(1)));
    assert!(settings.verify.issuers[1].missing_iss);
    assert!(settings.warnings.iter().any(|warning| warning.contains("max_refresh_token_lifetime is not set")));
}

#[test]
fn all_faults_of_a_token_endpoint_are_reported_at_once() {
    let found = also(&endpoint(
        "preset = \"oauth\"\npath = \"/oauth/*x\"\nrefresh_token = [\"cookie:a\"]\nrotation = \"always\"\n\
         grace = \"2m\"\ngrace_replays = 0\nsame_client = [\"face\"]\ntoken_form = \"hex\"\ntype = \"x\"\nrotatoin = 1\n\
         [issuers.token_endpoints.learn]\nsession = \"header:X\"\naccess_token = \"id:sub\"\nuserr = []",
    ));
    let expected = [
        "preset: unknown preset \"oauth\"",
        "path: * stands for one whole segment",
        "refresh_token[0]: \"cookie:a\" is no place",
        "rotation: must be one of",
        "grace: must lie between 0s and 1m",
        "grace_replays: must lie between 1 and 100",
        "same_client[0]: must be one of",
        "token_form: must be one of",
        "type: unknown type",
        "rotatoin: is not a key of this version; did you mean rotation?",
        "learn.session: \"header:X\" is no source",
        "learn.access_token: must be reply:/POINTER",
        "learn.userr: is not a key of this version; did you mean user?",
    ];
    for (fault, expected) in found.iter().zip(expected) {
        assert!(fault.contains(&format!("issuers[1].token_endpoints[0].{expected}")), "{fault} is not {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_token_endpoint_must_be_reached_and_be_one() {
    assert_fault(&endpoint("rotation = \"off\""), "token_endpoints[0].path: is missing");
    assert_fault(
        &endpoint("path = \"/oauth/token\"\nrefresh_token = []\nrotation = \"enforce\""),
        "token_endpoints[0].rotation: cannot be enforced",
    );
    assert_fault(
        &endpoint("path = \"/oauth/token\"\n[[issuers.token_endpoints]]\npath = \"/OAuth/*\""),
        "token_endpoints[1].path: /OAuth/* could be the same path as /oauth/token",
    );
    assert_fault(&endpoint("path = \"/oauth/token\"\nsame_client = []"), "same_client: must name one trait");
    let only_get =
        endpoint("path = \"/oauth/token\"").replace("auth = \"none\"", "auth = \"none\"\nmethods = [\"GET\"]");
    let unreached = faults(&format!("{GOOD}{only_get}").replace("path = \"/\"", "path = \"/x\""));
    assert!(
        unreached.len() == 1 && unreached[0].contains("path: no route serves this path with POST"),
        "{unreached:?}"
    );
    let unreached = unreached[0].split(':').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(format!("{GOOD}{only_get}").lines().nth(unreached - 1), Some("path = \"/oauth/token\""));
}

#[test]
fn a_faulty_route_is_not_missed() {
    let text = endpoint("path = \"/oauth/token\"").replace("auth = \"none\"", "auth = \"none\"\nupgrades = [3]");
    let found = faults(&format!("{GOOD}{text}").replace("path = \"/\"", "path = \"/x\"").replace("http://a", "a"));
    assert!(found.iter().all(|fault| !fault.contains("no route serves")), "{found:?}");
}

#[test]
fn a_token_endpoint_behind_a_token_is_worth_a_warning() {
    let text = endpoint("path = \"/oauth/token\"").replace("auth = \"none\"", "auth = \"required\"");
    assert!(settled(&text).warnings.iter().any(|warning| warning.contains("nobody gets a first token there")));
}

#[test]
fn only_one_unverified_issuer_takes_what_names_none() {
    let issuer = |name: &str, rest: &str| format!("[[issuers]]\nname = \"{name}\"\nissuer = \"{name}\"\n{rest}\n");
    let taking = "verification = \"none\"\nmissing_iss = true\nopaque_tokens = true";
    assert_eq!(also(&issuer("b", taking)), Vec::<String>::new());
    let two = issuer("b", taking) + &issuer("c", taking);
    assert_fault(&two, "issuers[2].missing_iss: is true for another issuer");
    assert_fault(&two, "issuers[2].opaque_tokens: is true for another issuer");
    assert_fault(&issuer("https://b", "opaque_tokens = true"), "issuers[1].opaque_tokens: is not a key");
}

#[test]
fn sessions_have_bounds() {
    let settings = settled("[sessions]\ntrack = false\nqueue = 7\nlast_seen = \"5s\"");
    assert_eq!(settings.sessions, crate::sessions::Settings { track: false, queue: 7, every: Duration::from_secs(5) });
    assert_eq!(settled("").sessions, crate::sessions::Settings::default());
    assert_fault("[sessions]\nqueue = 0", "sessions.queue: must lie between");
    let limited = GOOD.replace("max_token_lifetime", "max_sessions_per_user = 3\nmax_token_lifetime");
    assert_eq!(read(&limited).unwrap().session_limits, [("https://id.example.com/".into(), 3)]);
    assert!(faults(&limited.replace("= 3", "= 0"))[0].contains("issuers[0].max_sessions_per_user: must lie between"));
}

#[test]
fn api_keys_have_places_of_their_own() {
    let route = |keys: &str| format!("[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\n{keys}");
    let keys = "api_keys = [\"scheme:ApiKey\", \"header:X-API-Key\", \"cookie:key\", \"query:api_key\"]";
    let settings = settled(&route(keys));
    let shown: Vec<_> = settings.gateway.routes[1].policy.api_keys.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["scheme:apikey", "header:x-api-key", "cookie:key", "query:api_key"]);
    assert!(settings.gateway.routes[0].policy.api_keys.is_empty());
    assert_fault(&route("api_keys = [\"bearer\"]"), "api_keys: bearer is a place for tokens");
    assert_fault(&route("api_keys = [\"scheme:Bearer\"]"), "api_keys[0]: ");
    assert_fault(&route("tokens = [\"scheme:ApiKey\"]"), "tokens: have no scheme but bearer");
    assert_fault(&route("tokens = [\"cookie:a\"]\napi_keys = [\"cookie:a\"]"), "one of the places for tokens");
    assert_fault(&route("auth = \"none\"\napi_keys = [\"cookie:a\"]"), "api_keys: means nothing");
    assert_fault(&route("tokens = [\"query:a\"]"), "tokens: stand in no query but by query_token");
    assert_fault(&route("api_keys = [\"query:a\"]\nquery_token = \"a\""), "query:a is where tokens stand");
    assert_fault(&route("api_keys = [\"query:a\"]\ndialect = \"onezone\""), "query:a cannot be ignored");
}

/// The places where bluesky-httpserver looks for API keys are those of its routes, unless they say otherwise.
#[test]
fn a_secret_from_the_environment_stays_hidden() {
    let text = "[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\nverification = \"introspection\"\n\
                introspection_url = \"${INTROSPECTION_SECRET}\"\nintrospection_client_id = \"c\"\n\
                introspection_client_secret = \"${INTROSPECTION_SECRET}\"\n";
    let found = also(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
    let good = text.replacen("${INTROSPECTION_SECRET}", "https://b/i", 1);
    let shown = format!("{:?}", read(&format!("{GOOD}{good}")).unwrap());
    assert!(!shown.contains("hunter2"));
}

#[test]
fn identity_headers_cannot_be_anything() {
    let route =
        |headers: &str| format!("[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nidentity_headers = {headers}");
    assert_eq!(also(&route("false")), Vec::<String>::new());
    assert_eq!(also(&route("{ user = \"X-Remote-User\" }")), Vec::<String>::new());
    assert_fault(&route("{ user = \"Host\" }"), "means something else");
    assert_fault(&route("{ user = \"X-A\", session = \"x-a\" }"), "twice");
    assert_fault(&route("{ user = \"X_A\" }"), "is not the name of a header");
    assert_fault(&route("3"), "must be true, false or a table of names");
    assert_fault(&route("{ usr = \"X-A\" }"), "did you mean user?");
}

#[test]
fn upgrades_to_another_http_are_refused() {
    let route =
        |upgrade: &str| format!("[[routes]]\npath = \"/b\"\nupstreams = [\"http://a\"]\nupgrades = [\"{upgrade}\"]");
    assert_eq!(also(&route("websocket")), Vec::<String>::new());
    assert_fault(&route("h2c"), "cannot be upgraded to");
    assert_fault(&route("web socket"), "is not the name of a protocol");
}

proptest! {
    #[test]
    fn no_text_upsets_the_reader(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_mutilated_file_upsets_the_reader(cut in 0..GOOD.len(), add in "[\\[\\]{}=\"'.,a-z0-9\\n]{0,8}") {
        let (head, tail) = GOOD.split_at(cut);
        let _ = read(&format!("{head}{add}{tail}"));
    }
}

#[test]
fn no_value_upsets_a_key() {
    let values = [
        "1",
        "-1",
        "1.5",
        "true",
        "[]",
        "{}",
        "\"\"",
        "[[1]]",
        "1979-05-27",
        "nan",
        "0xffffffffffffffffffffffffffffffff",
        "[{ a = 1 }]",
    ];
    let example = std::fs::read_to_string("config/portcullis.toml").unwrap();
    let keys = example.lines().filter_map(|line| Some(line.trim_start_matches("# ").split_once(" = ")?.0));
    let tables = ["proxy", "proxy.timeouts", "proxy.limits", "admin", "store", "sessions", "cache", "log", "upstream"];
    let dialects = ["dialects.elasticsearch", "dialects.privx", "dialects.onezone", "dialects.bluesky"];
    let arrays = ["admin.credentials", "issuers", "issuers.token_endpoints", "routes"];
    let headers =
        tables.iter().chain(&dialects).map(|name| format!("[{name}]")).chain(arrays.map(|name| format!("[[{name}]]")));
    let learn = "[[issuers]]\n[[issuers.token_endpoints]]\n[issuers.token_endpoints.learn]".to_owned();
    let headers: Vec<String> = headers.chain([learn]).collect();
    for key in keys {
        for (header, value) in headers.iter().flat_map(|header| values.map(|value| (header, value))) {
            let _ = read(&format!("{GOOD}{header}\n{key} = {value}\n"));
        }
    }
}
