//! A store in trouble: said clearly at the start, survived at run time, and nothing is lost by it.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

use crate::rig::gateway::BINARY;
use crate::rig::program::find;
use crate::rig::{Admin, Gateway, OPS, Rig, Token, within};

/// A folder with a store in it that holds one revocation; answers the revoked token too.
async fn used() -> (Rig, Token) {
    let mut rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    rig.admin.revoke(json!({ "token": token.text })).await;
    rig.gateway.signal("TERM");
    assert!(rig.gateway.exit().await.success());
    (rig, token)
}

/// What the gateway says when it cannot start on this store.
async fn refusal(config: &Path) -> String {
    let refused = Gateway::start(config).await.expect_err("a gateway must not start on a broken store");
    assert!(!refused.status.success(), "{}", refused.status);
    assert!(refused.status.code().is_some(), "it ended by itself: {}", refused.status);
    assert!(!refused.log.contains("panicked"), "{}", refused.log);
    refused.log
}

/// Runs SQL on the store while no gateway does.
async fn sql(file: &Path, text: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    connection.execute(text).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let builder = Rig::builder().await;
    let file = builder.folder().write("portcullis.db", "this is the accountant's letter, not a database. ".repeat(200));
    let before = std::fs::read(&file).unwrap();
    let said = refusal(&builder.write()).await;
    assert!(said.contains("portcullis.db") && said.contains("not a database"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_alone() {
    let builder = Rig::builder().await;
    let file = builder.folder().join("portcullis.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    options.connect().await.unwrap().execute("CREATE TABLE letters (text TEXT)").await.unwrap();
    let before = std::fs::read(&file).unwrap();
    let said = refusal(&builder.write()).await;
    assert!(said.contains("another program"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_corrupt_file_is_found_at_the_start() {
    let (rig, _) = used().await;
    let length = std::fs::metadata(rig.store_file()).unwrap().len();
    let mut file = std::fs::OpenOptions::new().write(true).open(rig.store_file()).unwrap();
    for at in (4096..length).step_by(4096) {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[0xa5; 512]).unwrap();
    }
    let said = refusal(&rig.config_file()).await;
    assert!(said.contains("damaged"), "{said}");
}

#[tokio::test]
async fn a_truncated_file_is_found_at_the_start() {
    for keep in [0, 100, 4096 * 2] {
        let (rig, _) = used().await;
        std::fs::OpenOptions::new().write(true).open(rig.store_file()).unwrap().set_len(keep).unwrap();
        let said = refusal(&rig.config_file()).await;
        assert!(said.contains("truncated") || said.contains("damaged"), "{keep} bytes: {said}");
    }
}

#[tokio::test]
async fn a_schema_newer_than_the_binary_is_refused_and_left_alone() {
    let (mut rig, token) = used().await;
    sql(&rig.store_file(), "PRAGMA user_version = 99").await;
    let said = refusal(&rig.config_file()).await;
    assert!(said.contains("99") && said.contains("newer"), "{said}");
    sql(&rig.store_file(), "PRAGMA user_version = 3").await;
    rig.restart().await;
    assert!(!rig.passes(&token).await, "nothing was lost");
}

#[tokio::test]
async fn a_store_in_use_by_another_gateway_is_refused() {
    let rig = Rig::start().await;
    let said = refusal(&rig.config_file()).await;
    assert!(said.contains("in use"), "{said}");
    assert!(rig.passes(&rig.issuer.token(json!({}))).await, "the first one serves on");
}

#[tokio::test]
async fn a_store_locked_by_another_program_is_refused() {
    let (rig, _) = used().await;
    let mut holder = SqliteConnectOptions::new().filename(rig.store_file()).connect().await.unwrap();
    holder.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").await.unwrap();
    let said = refusal(&rig.config_file()).await;
    assert!(said.contains("locked"), "{said}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused() {
    for url in ["sqlite:/proc/portcullis/portcullis.db", "sqlite:{folder}/file/portcullis.db"] {
        let builder = Rig::builder().await;
        builder.folder().write("file", "");
        let said = refusal(&builder.config(&format!("[store]\nurl = '{url}'")).write()).await;
        assert!(said.contains("portcullis.db") || said.contains("/proc/portcullis"), "{said}");
    }
}

/// A disk that takes no more: the kernel's bound on the size of files, which needs no rights, stands for it.
fn disk_takes(gateway: &Gateway, limit: &str) {
    let prlimit = find("prlimit", "apt-get install util-linux");
    let set = Command::new(prlimit)
        .args(["--pid", &gateway.pid().to_string(), &format!("--fsize={limit}:unlimited")])
        .status();
    assert!(set.unwrap().success());
}

/// A gateway that is told of a full disk by an error and not by a signal.
fn patient(config: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\"", BINARY]).arg(config);
    shell
}

#[tokio::test]
async fn a_full_disk_refuses_revokes_with_503_and_serves_on() {
    let builder = Rig::builder().await;
    let mut rig = builder.start_by(patient).await;
    let (dead, alive) = (rig.issuer.token(json!({})), rig.issuer.token(json!({})));
    rig.admin.revoke(json!({ "token": dead.text })).await;
    disk_takes(&rig.gateway, "1");
    for _ in 0..5 {
        let answer = rig.admin.try_revoke(&json!({"selector": {"token": alive.text}})).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(!answer.header("retry-after").is_empty());
        assert!(!rig.passes(&dead).await, "what was revoked stays so");
    }
    let other = rig.issuer.token(json!({}));
    assert!(rig.passes(&other).await, "proxying goes on");
    disk_takes(&rig.gateway, "unlimited");
    within("the store's recovery", async {
        while rig.admin.try_revoke(&json!({"selector": {"token": other.text}})).await.status == 503 {}
    })
    .await;
    assert!(!rig.passes(&other).await);
    rig.restart().await;
    assert!(!rig.passes(&dead).await && !rig.passes(&other).await, "nothing acknowledged was lost");
}

#[tokio::test]
async fn a_full_disk_at_the_start_is_refused() {
    let builder = Rig::builder().await;
    let config = builder.write();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" serve --config \"$1\"", BINARY]).arg(&config);
    let refused = Gateway::spawn(&mut shell).await.expect_err("a gateway must not start without its store");
    assert!(!refused.status.success());
    assert!(refused.log.contains("store"), "{}", refused.log);
    // With space again it starts as if nothing had been.
    assert!(Gateway::start(&config).await.is_ok());
}

/// A file system of this size for the gateway alone, where the machine lets its users have one.
fn on_a_small_disk(folder: &Path, size: &str) -> Command {
    let mut unshare = Command::new("unshare");
    let script = "mount -t tmpfs -o size=$0 tmpfs \"$1\" && trap '' XFSZ && exec \"$2\" serve --config \"$3\"";
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, size]).arg(folder).arg(BINARY);
    unshare
}

fn namespaces_allowed() -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .status();
    tried.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_small_disk_fills_and_is_emptied_again() {
    if !namespaces_allowed() {
        println!("this machine gives its users no file systems; the bound on file sizes above stands for a full disk");
        return;
    }
    let builder = Rig::builder().await.config("[store]\nurl = 'sqlite:{folder}/disk/portcullis.db'");
    let disk = builder.folder().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let rig = builder
        .start_by(|config| {
            let mut command = on_a_small_disk(&disk, "2m");
            command.arg(config);
            command
        })
        .await;
    // The gateway sees a disk that we see through it only.
    let filler = format!("/proc/{}/root{}/filler", rig.gateway.pid(), disk.display());
    let written = std::fs::File::create(&filler).and_then(|mut file| file.write_all(&vec![0; 4 << 20]));
    assert!(written.is_err(), "the disk is full");
    let token = rig.issuer.token(json!({}));
    assert_eq!(rig.admin.try_revoke(&json!({"selector": {"token": token.text}})).await.status, 503);
    assert!(rig.passes(&rig.issuer.token(json!({}))).await);
    std::fs::remove_file(&filler).unwrap();
    within("the store's recovery", async {
        while rig.admin.try_revoke(&json!({"selector": {"token": token.text}})).await.status == 503 {}
    })
    .await;
    assert!(!rig.passes(&token).await);
}

#[tokio::test]
async fn a_store_that_vanishes_under_the_gateway_is_not_success() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    rig.admin.revoke(json!({ "token": token.text })).await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", rig.store_file().display()));
    }
    let other = rig.issuer.token(json!({}));
    let answer = rig.admin.try_revoke(&json!({"selector": {"token": other.text}})).await;
    assert!(!rig.passes(&token).await, "what is known stays refused");
    assert_eq!(answer.status, 503, "what nobody will find again must not be acknowledged: {}", answer.text());
    within("the gateway to say that it is out of step", async {
        while rig.admin.send("GET", "/readyz", None, String::new()).await.status == 200 {}
    })
    .await;
}

/// What the store held is there after the trouble is mended: nothing was made anew behind its back.
#[tokio::test]
async fn a_store_that_was_moved_away_and_back_has_all_it_had() {
    let (mut rig, token) = used().await;
    let aside = rig.folder.join("aside.db");
    std::fs::rename(rig.store_file(), &aside).unwrap();
    let fresh = Gateway::start(&rig.config_file()).await.expect("an empty folder gets a new store");
    let admin = Admin { address: fresh.admin, credential: Some(OPS.to_owned()), tls: None };
    assert_eq!(admin.get("/v1/revocations").await["items"], json!([]));
    drop(fresh);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", rig.store_file().display()));
    }
    std::fs::rename(&aside, rig.store_file()).unwrap();
    rig.restart().await;
    assert!(!rig.passes(&token).await);
    let held = rig.admin.get("/v1/revocations").await["items"][0].clone();
    rig.admin.lift(held["id"].as_str().unwrap()).await;
    assert!(rig.passes(&token).await);
}
