//! The file as a whole: every fault at once, each at its place; every example good.

use std::path::Path;

use proptest::prelude::*;

use super::*;

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

#[test]
fn token_endpoints_are_read_but_do_nothing_yet() {
    let endpoint =
        "[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\n[[issuers.token_endpoints]]\npath = \"/oauth/token\"\n";
    assert_eq!(
        also(&format!("{endpoint}refresh_token = \"form:refresh_token\"\nrotation = \"observe\"")),
        Vec::<String>::new()
    );
    assert_fault(&format!("{endpoint}rotation = \"always\""), "issuers[1].token_endpoints[0].rotation");
    let settings = read(&format!("{GOOD}{endpoint}")).unwrap();
    assert!(settings.warnings.iter().any(|warning| warning.contains("not active")), "{:?}", settings.warnings);
}

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

    #[test]
    fn no_value_upsets_a_key(value in prop_oneof![
        Just("1"), Just("-1"), Just("1.5"), Just("true"), Just("[]"), Just("{}"), Just("\"\""), Just("[[1]]"),
        Just("1979-05-27"), Just("nan"), Just("0xffffffffffffffffffffffffffffffff"), Just("[{ a = 1 }]"),
    ]) {
        for line in std::fs::read_to_string("config/portcullis.toml").unwrap().lines() {
            let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
            for section in ["proxy", "proxy.timeouts", "proxy.limits", "admin", "store", "cache", "log", "upstream"] {
                let _ = read(&format!("{GOOD}[{section}]\n{key} = {value}\n"));
            }
            for section in ["admin.credentials", "issuers", "routes"] {
                let _ = read(&format!("{GOOD}[[{section}]]\n{key} = {value}\n"));
            }
        }
    }
}
