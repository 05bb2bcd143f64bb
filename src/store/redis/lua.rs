//! A script that the server carries out as one: it knows it by its digest, and is taught it when it does not.

use redis::{Cmd, Script, cmd};

/// A script, and the digest the server knows it by.
#[derive(Debug)]
pub(in crate::store) struct Lua {
    code: &'static str,
    digest: String,
}

impl Lua {
    pub(in crate::store) fn new(code: &'static str) -> Self {
        Self { code, digest: Script::new(code).get_hash().to_owned() }
    }

    /// A call with these keys, to which the arguments are added.
    pub(in crate::store) fn call(&self, keys: &[&str]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.digest).arg(keys.len()).arg(keys);
        call
    }

    /// What teaches it to a server.
    pub(super) fn lesson(&self) -> Cmd {
        let mut lesson = cmd("SCRIPT");
        lesson.arg("LOAD").arg(self.code);
        lesson
    }
}
