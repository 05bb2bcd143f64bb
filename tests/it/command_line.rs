//! The command, as people and scripts use it.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::rig::gateway::BINARY;
use crate::rig::program::{run, succeed};
use crate::rig::{AUDITOR, OPS, READER, Rig, Token, id};

/// What came of a command.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|fault| panic!("{fault}: {} {}", self.stdout, self.stderr))
    }
}

/// Runs the admin client against a rig, with this credential and this standard input.
async fn as_caller(rig: &Rig, credential: &str, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .args(["--admin", &format!("http://{}", rig.gateway.admin)])
        .env("PORTCULLIS_CREDENTIAL", credential);
    let file = rig.folder.write("stdin", input);
    command.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    said(command).await
}

async fn said(command: Command) -> Said {
    let output = run(command).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("a command ends by itself");
    Said { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

async fn portcullis(rig: &Rig, arguments: &[&str]) -> Said {
    as_caller(rig, OPS, arguments, "").await
}

#[tokio::test]
async fn a_token_is_revoked_checked_and_lifted_from_the_shell() {
    let rig = Rig::start().await;
    let alice: Token = rig.issuer.token(json!({}));
    let passes = as_caller(&rig, OPS, &["check", "--json"], &alice.text).await;
    assert_eq!(passes.code, 0, "{} {}", passes.stdout, passes.stderr);
    let revoked = as_caller(&rig, OPS, &["revoke", "--token-stdin", "--reason", "lost", "--json"], &alice.text).await;
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    assert!(!rig.passes(&alice).await);
    let dead = as_caller(&rig, OPS, &["check"], &alice.text).await;
    assert_eq!(dead.code, 1, "a token that would not pass is a negative answer: {} {}", dead.stdout, dead.stderr);
    assert!(dead.stdout.contains("revoked"), "{}", dead.stdout);
    let lifted = portcullis(&rig, &["lift", &id(&revoked.json())]).await;
    assert_eq!(lifted.code, 0, "{}", lifted.stderr);
    assert!(rig.passes(&alice).await);
    for output in [&passes, &revoked, &dead, &lifted] {
        assert!(!crate::rig::gateway::holds_a_token(&format!("{}{}", output.stdout, output.stderr)));
    }
}

#[tokio::test]
async fn every_flag_of_a_selector_reaches_the_gateway() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({"sub": "alice", "sid": "s1", "jti": "j1", "azp": "web", "device_id": "d1"}));
    let ways: &[&[&str]] = &[
        &["--issuer", "main", "--session", "s1"],
        &["--issuer", "main", "--token-id", "j1"],
        &["--issuer", "main", "--user", "alice", "--block"],
        &["--issuer", "main", "--client", "web", "--block"],
        &["--issuer", "main", "--claim", "device_id=d1", "--block", "--expires", "1h"],
        &["--username", "alice@example.com", "--kinds", "access,refresh", "--block"],
        &["--key-id", "k0", "--block"],
        &["--issuer", "main", "--user", "alice", "--claim", "device_id=d1", "--cutoff", "0s"],
    ];
    for way in ways {
        let revoked = portcullis(&rig, &[&["revoke", "--json"], *way].concat()).await;
        assert_eq!(revoked.code, 0, "{way:?}: {}", revoked.stderr);
        assert!(!rig.passes(&token).await, "{way:?}");
        assert_eq!(portcullis(&rig, &["lift", &id(&revoked.json())]).await.code, 0);
        assert!(rig.passes(&token).await, "{way:?}");
    }
    let dry = portcullis(&rig, &["revoke", "--issuer", "main", "--user", "alice", "--dry-run"]).await;
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    assert!(rig.passes(&token).await);
}

#[tokio::test]
async fn every_replica_is_waited_for_and_shown() {
    let rig = Rig::start().await;
    let wait = ["--wait", "all", "--timeout", "30s", "--json"];
    let revoked = portcullis(&rig, &[&["revoke", "--issuer", "main", "--session", "s1"][..], &wait].concat()).await;
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    let said = revoked.json();
    assert_eq!((&said["complete"], said["replicas"].as_array().unwrap().len()), (&json!(true), 1));
    let name = said["replicas"][0]["name"].as_str().unwrap().to_owned();
    let lifted = portcullis(&rig, &[&["lift", &id(&said)][..], &wait].concat()).await;
    assert_eq!((lifted.code, &lifted.json()["complete"]), (0, &json!(true)));
    let ended = portcullis(&rig, &["sessions", "end", "s2", "--issuer", "main", "--wait", "all"]).await;
    assert!(ended.code == 0 && ended.stdout.contains(&format!("confirmed by {name}")), "{}", ended.stdout);
    let line = json!({"selector": {"issuer": "main", "session": "s3"}}).to_string();
    let file = rig.folder.write("some.ndjson", [&*line; 1_200].join("\n"));
    let bulk = portcullis(&rig, &["revoke", "--bulk", file.to_str().unwrap(), "--wait", "all"]).await;
    assert!(bulk.code == 0 && bulk.stdout.contains(&format!("confirmed by {name}")), "{} {}", bulk.stdout, bulk.stderr);
    let status = portcullis(&rig, &["status"]).await;
    let shown = status.stdout.lines().skip_while(|line| !line.starts_with("REPLICA")).nth(1).unwrap_or_default();
    assert!(shown.starts_with(&name) && shown.contains("in_step"), "{}", status.stdout);
}

#[tokio::test]
async fn exit_codes_tell_what_to_do_next() {
    let rig = Rig::start().await;
    let unknown = "0".repeat(32);
    assert_eq!(portcullis(&rig, &["lift", &unknown]).await.code, 1, "nothing to lift");
    assert_eq!(portcullis(&rig, &["lift", "nonsense"]).await.code, 2, "wrong usage");
    assert_eq!(portcullis(&rig, &["revoke"]).await.code, 2, "wrong usage");
    assert_eq!(as_caller(&rig, "wrong", &["status"], "").await.code, 4, "refused");
    assert_eq!(as_caller(&rig, READER, &["revoke", "--issuer", "main", "--session", "s"], "").await.code, 4, "refused");
    let mut nobody = Command::new(BINARY);
    nobody.args(["status", "--admin", "http://127.0.0.1:1"]).env("PORTCULLIS_CREDENTIAL", OPS);
    assert_eq!(said(nobody).await.code, 3, "unreachable");
}

#[tokio::test]
async fn bulk_reads_a_file_and_says_which_lines_failed() {
    let rig = Rig::start().await;
    let tokens: Vec<Token> = (0..1500).map(|n| rig.issuer.token(json!({"sid": format!("s{n}")}))).collect();
    let mut lines: Vec<String> = tokens
        .iter()
        .map(|token| json!({"selector": {"issuer": "main", "session": token.claim("sid")}}).to_string())
        .collect();
    let good = rig.folder.write("good.ndjson", lines.join("\n"));
    let done = portcullis(&rig, &["revoke", "--bulk", good.to_str().unwrap()]).await;
    assert_eq!(done.code, 0, "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1500 revoked"), "{}", done.stdout);
    assert!(!rig.passes(&tokens[0]).await && !rig.passes(&tokens[1499]).await);
    lines.insert(7, "nonsense".to_owned());
    let bad = rig.folder.write("bad.ndjson", lines.join("\n"));
    let failed = portcullis(&rig, &["revoke", "--bulk", bad.to_str().unwrap()]).await;
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("line 8"), "{}", failed.stderr);
    assert!(failed.stdout.contains("1500 already"), "{}", failed.stdout);
}

#[tokio::test]
async fn status_audit_and_events_speak_to_people_and_to_machines() {
    let rig = Rig::start().await;
    rig.admin.revoke_as(json!({"selector": {"issuer": "main", "user": "alice"}, "reason": "left"})).await;
    let status = portcullis(&rig, &["status"]).await;
    assert!(status.code == 0 && status.stdout.contains("in_step"), "{}", status.stdout);
    assert_eq!(portcullis(&rig, &["status", "--json"]).await.json()["standing"], "in_step");
    let audit = as_caller(&rig, AUDITOR, &["audit", "--action", "revoke"], "").await;
    assert!(audit.stdout.contains("ops") && audit.stdout.contains("left"), "{}", audit.stdout);
    let audit = as_caller(&rig, AUDITOR, &["audit", "--json", "--since", "1h"], "").await.json();
    assert!(audit["items"].as_array().is_some_and(|items| !items.is_empty()), "{audit}");
    let events = portcullis(&rig, &["events", "--after", "0", "--count", "1", "--json"]).await;
    assert_eq!(events.code, 0, "{}", events.stderr);
    assert_eq!(events.json()["data"]["selector"]["user"], "alice", "{}", events.stdout);
}

#[tokio::test]
async fn check_config_lists_every_fault_with_its_place() {
    let builder = Rig::builder().await;
    let file = builder.write();
    let check = |file: &std::path::Path, json: bool| {
        let mut command = Command::new(BINARY);
        command.args(["check-config", "--config"]).arg(file).args(json.then_some("--json"));
        said(command)
    };
    let good = check(&file, false).await;
    assert_eq!(good.code, 0, "{}", good.stderr);
    let broken = std::fs::read_to_string(&file).unwrap()
        + "\n[cache]\nverified_bytes = 'lots'\nsurprise = 1\n\n[log]\nformat = 'poem'\n\n[upstream]\nca = '/no/such/file'\n\
           \n[[routes]]\npath = 'no-slash'\nupstreams = ['ftp://x']\nauth = 'perhaps'\nissuers = ['nobody']\n\
           \n[[issuers]]\nname = 'main'\nissuer = ''\nalgorithms = ['none']\n";
    let broken = builder.folder().write("broken.toml", broken);
    let faults = check(&broken, false).await;
    assert_eq!(faults.code, 2);
    let expected = [
        "cache.verified_bytes",
        "cache.surprise",
        "log.format",
        "upstream.ca",
        "routes",
        "routes[1].upstreams[0]",
        "auth",
        "nobody",
        "none",
    ];
    for text in expected {
        assert!(faults.stderr.contains(text), "{text} is missing in:\n{}", faults.stderr);
    }
    let listed = check(&broken, true).await.json();
    assert!(listed["good"] == false && listed["faults"].as_array().unwrap().len() >= 8, "{listed}");
    assert_eq!(check(&builder.folder().join("absent.toml"), false).await.code, 2);
    let serve = crate::rig::Gateway::start(&broken).await.expect_err("nothing starts on a broken configuration");
    assert_eq!(serve.status.code(), Some(2));
    assert!(expected.iter().all(|text| serve.log.contains(text)), "{}", serve.log);
}

#[tokio::test]
async fn the_environment_fills_in_and_what_is_missing_there_is_a_fault() {
    let builder = Rig::builder().await;
    let text = std::fs::read_to_string(builder.write()).unwrap().replace("https://id.test/", "${IT_ISSUER}");
    let file = builder.folder().write("env.toml", text);
    let check = |value: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.args(["check-config", "--config"]).arg(&file).env_remove("IT_ISSUER");
        value.map(|value| command.env("IT_ISSUER", value));
        said(command)
    };
    assert_eq!(check(Some("https://id.test/")).await.code, 0);
    let missing = check(None).await;
    assert!(missing.code == 2 && missing.stderr.contains("IT_ISSUER"), "{}", missing.stderr);
}

#[tokio::test]
async fn hash_token_makes_what_the_configuration_wants() {
    let folder = crate::rig::Folder::new();
    let mut command = Command::new(BINARY);
    command.arg("hash-token").stdin(Stdio::from(std::fs::File::open(folder.write("token", OPS)).unwrap()));
    let hash = succeed(command).await;
    assert_eq!(hash.trim(), crate::rig::sha256_hex(OPS.as_bytes()));
    let mut generate = Command::new(BINARY);
    generate.args(["hash-token", "--generate", "--json"]);
    let made: Value = serde_json::from_str(&succeed(generate).await).unwrap();
    assert_eq!(made["token_sha256"], crate::rig::sha256_hex(made["token"].as_str().unwrap().as_bytes()));
}

#[tokio::test]
async fn the_demo_keeps_its_promises() {
    let mut command = Command::new(BINARY);
    command.args(["demo", "--check"]);
    let tour = said(command).await;
    assert_eq!(tour.code, 0, "{}{}", tour.stdout, tour.stderr);
    assert!(
        tour.stdout.contains("200") && tour.stdout.contains("201") && tour.stdout.contains("401"),
        "{}",
        tour.stdout
    );
}

#[tokio::test]
async fn completions_help_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = Command::new(BINARY);
        command.args(["completions", shell]);
        assert!(succeed(command).await.contains("portcullis"));
    }
    let mut man = Command::new(BINARY);
    man.arg("man");
    assert!(succeed(man).await.contains(".TH"));
    let mut help = Command::new(BINARY);
    help.arg("--help");
    let help = succeed(help).await;
    for command in [
        "serve",
        "check-config",
        "hash-token",
        "demo",
        "revoke",
        "lift",
        "check",
        "status",
        "audit",
        "events",
        "completions",
        "man",
    ] {
        assert!(help.contains(command), "{command}");
    }
    assert!(help.contains("Exit codes"));
}
