//! `[store]`: one replica or many, and what goes together.

use super::*;
use crate::store::Backend;

/// A folder with files in it, gone with the test.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["a.pem", "a.key"] {
            std::fs::write(folder.join(file), "x").unwrap();
        }
        std::fs::write(folder.join("password"), "hunter2\n").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn store(text: &str) -> Settings {
    read(&format!("{GOOD}[store]\n{text}")).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn a_store_on_a_server_is_described_whole() {
    let files = Files::new("whole");
    let (password, cert, key) = (files.path("password"), files.path("a.pem"), files.path("a.key"));
    let settings = store(&format!(
        "url = \"rediss://portcullis@redis.internal:6380/0\"\npassword_file = \"{password}\"\nca = \"{cert}\"\n\
         client_cert = \"{cert}\"\nclient_key = \"{key}\"\nwait_replicas = 1\nwait_timeout = \"500ms\"\nreplica = \"gw-1\"\n\
         max_staleness = \"5s\"\nwhen_stale = \"allow\"\nsnapshot = \"{}\"\nsnapshot_max_age = \"1h\"\ntimeout = \"3s\"\n\
         connections = 4\npoll = \"500ms\"\n",
        files.path("snapshot")
    ));
    let remote = &settings.store.remote;
    assert!(matches!(settings.store.backend, Backend::Redis(_)));
    assert_eq!(remote.password.as_ref().map(|password| password.reveal()), Some("hunter2"));
    assert_eq!(remote.identity, Some((cert.clone().into(), key.into())));
    assert_eq!((&remote.ca, remote.wait_replicas), (&Some(cert.into()), 1));
    assert_eq!((remote.wait_timeout, remote.poll), (Duration::from_millis(500), Duration::from_millis(500)));
    assert_eq!((settings.store.timeout, remote.connections), (Duration::from_secs(3), 4));
    assert_eq!(settings.replica.as_deref(), Some("gw-1"));
    let snapshot = settings.snapshot.as_ref().unwrap();
    assert_eq!((&snapshot.path, snapshot.max_age), (&files.0.join("snapshot"), Duration::from_secs(3_600)));
    assert_eq!(&*settings.admin.store, "redis");
    assert_eq!(settings.warnings, Vec::<String>::new());
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn what_is_not_said_has_its_usual_value() {
    let settings = store("url = \"postgres://u@localhost/d\"\n");
    assert_eq!(settings.store.remote, crate::store::Remote::default());
    assert_eq!((settings.snapshot, settings.replica), (None, None));
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn what_does_not_go_together_is_named_at_its_key() {
    let files = Files::new("faults");
    let (password, cert) = (files.path("password"), files.path("a.pem"));
    let faults: [(String, &str); 18] = [
        ("url = \"memory:\"\nsnapshot = \"x\"".into(), "store.snapshot: is for a store on a server"),
        ("wait_replicas = 1".into(), "store.wait_replicas: is for a store on a server"),
        ("connections = 4".into(), "store.connections: is for a store on a server"),
        ("url = \"postgres://h/d\"\nwait_replicas = 1".into(), "store.wait_replicas: is for Redis"),
        (format!("url = \"rediss://h\"\nclient_cert = \"{cert}\""), "store.client_cert: needs client_key"),
        (format!("url = \"rediss://h\"\nclient_key = \"{cert}\""), "store.client_key: needs client_cert"),
        (format!("url = \"redis://h\"\nca = \"{cert}\""), "store.ca: is for TLS"),
        (format!("url = \"postgres://h/d?sslmode=disable\"\nca = \"{cert}\""), "store.ca: is for TLS"),
        ("url = \"rediss://h\"\nca = \"nowhere.pem\"".into(), "store.ca: nowhere.pem cannot be read"),
        ("url = \"redis://h\"\npassword_file = \"nowhere\"".into(), "store.password_file: nowhere cannot be read"),
        (
            format!("url = \"redis://:p@h\"\npassword_file = \"{password}\""),
            "store.password_file: is a second password",
        ),
        ("url = \"redis://h\"\nsnapshot_max_age = \"1h\"".into(), "store.snapshot_max_age: needs snapshot"),
        ("url = \"redis://h\"\nsnapshot = \"/\"".into(), "store.snapshot: must name a file"),
        ("url = \"redis://h\"\nmax_staleness = \"2s\"\npoll = \"1500ms\"".into(), "store.poll: must be at most half"),
        (
            "url = \"redis://h\"\ntimeout = \"1s\"\nwait_timeout = \"1s\"".into(),
            "store.wait_timeout: must be less than",
        ),
        ("replica = \"two words\"".into(), "store.replica: must have 1 to 255 bytes"),
        ("url = \"redis+sentinel://h\"".into(), "store.url: needs the name of the master"),
        ("url = \"postgres://u:hunter2@h:x/d\"".into(), "store.url: has a wrong port"),
    ];
    for (text, expected) in faults {
        assert_fault(&format!("[store]\n{text}\n"), expected);
    }
}

#[test]
fn a_url_with_a_password_is_repeated_nowhere() {
    for url in
        ["postgres://u:hunter2@h:x/d", "redis://:hunter2@", "mysql://u:hunter2@h", "redis+cluster://:hunter2@h/3"]
    {
        let found = also(&format!("[store]\nurl = \"{url}\"\n"));
        assert!(!found.is_empty() && !found.iter().any(|fault| fault.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn an_open_line_is_warned_of() {
    for (url, warned) in [
        ("redis://cache.internal", "rediss://"),
        ("postgres://u@db.internal/d", "sslmode=verify-full"),
        ("postgres://u@db.internal/d?sslmode=require", "sslmode=verify-full"),
    ] {
        let settings = store(&format!("url = \"{url}\"\n"));
        assert!(settings.warnings.iter().any(|warning| warning.contains(warned)), "{url}: {:?}", settings.warnings);
    }
}
