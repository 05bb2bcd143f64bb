//! Imports point down. This table is the one of the architecture: what is not in it is not allowed.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test, as it should")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What everything may import: values, the time, and the counters.
const COMMON: [&str; 3] = ["domain", "clock", "telemetry"];

/// Each module, and what it may import besides `COMMON`.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("index", &[]),
    ("store", &[]),
    ("live", &[]),
    ("net", &[]),
    ("verify", &["net"]),
    ("sync", &["store", "index", "live"]),
    ("sessions", &["store"]),
    // A token that names no session belongs to the one it was handed out in, which admission has to know.
    ("admission", &["index", "verify", "sessions"]),
    // The answer of a revoke counts the connections it cut.
    ("control", &["store", "index", "verify", "sessions", "live"]),
    ("gateway", &["admission", "live", "net", "sessions"]),
    ("admin", &["control", "verify", "net"]),
    ("feeds", &["control", "verify", "net"]),
];

/// These alone see everything. `config` names the settings of every part, which its own test below holds it to.
const ROOTS: [&str; 4] = ["app", "cli", "main", "lib"];

#[test]
fn imports_point_down() {
    let wrong: Vec<String> = sources().iter().flat_map(|path| violations(path)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn only_the_roots_know_the_configuration_file() {
    let knows = |path: &&PathBuf| production(path).contains("crate::config");
    let inside = |path: &&PathBuf| module(path) != "config" && !ROOTS.contains(&&*module(path));
    let wrong: Vec<_> = sources().iter().filter(knows).filter(inside).cloned().collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_domain_knows_no_runtime_and_no_clock() {
    let foreign = ["tokio", "hyper", "std::time::Instant", "SystemTime", "crate::clock"];
    let domain = sources().into_iter().filter(|path| module(path) == "domain");
    for path in domain {
        let text = production(&path);
        let found: Vec<_> = foreign.iter().filter(|name| text.contains(**name)).collect();
        assert!(found.is_empty(), "{} mentions {found:?}", path.display());
    }
}

#[test]
fn the_binary_stays_thin() {
    let lines = fs::read_to_string(root().join("main.rs")).unwrap().lines().count();
    assert!(lines < 60, "main.rs has {lines} lines");
}

#[test]
fn no_file_grows_past_500_lines() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|path| !is_test(path))
        .map(|path| (production(path).lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

fn violations(path: &Path) -> Vec<String> {
    let from = module(path);
    if ROOTS.contains(&&*from) || is_test(path) {
        return Vec::new();
    }
    let allowed = ALLOWED.iter().find(|(name, _)| *name == from).map(|(_, allowed)| *allowed);
    let may = |to: &str| {
        to == from || COMMON.contains(&to) || from == "config" || allowed.is_some_and(|list| list.contains(&to))
    };
    let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string();
    let lines = production(path);
    let numbered = lines.lines().enumerate();
    let imports = numbered.flat_map(|(at, line)| imported(line).into_iter().map(move |to| (at + 1, to)));
    let wrong = imports.filter(|(_, to)| modules().contains(to) && !may(to));
    wrong.map(|(line, to)| format!("{shown}:{line}: {from} may not import {to}")).collect()
}

/// The modules named as `crate::x` in a line of code. Groups (`crate::{a, b}`) are not written here, so that a line says all.
fn imported(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    assert!(!code.contains("crate::{"), "import by full path, a line a module: {line}");
    let names = code.split("crate::").skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

fn modules() -> BTreeSet<String> {
    sources().iter().map(|path| module(path)).collect()
}

/// The first step below `src`: `src/admin/caller.rs` and `src/admin.rs` are both `admin`.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The file's text up to its unit tests.
fn production(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_owned()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    let below = path.strip_prefix(root()).unwrap();
    name == "tests" || name.ends_with("_tests") || below.components().any(|part| part.as_os_str() == "tests")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found
}
