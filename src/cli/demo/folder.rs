//! A temporary folder of the demo's own: nobody else may look into it, and it goes when the demo does.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::Failure;

/// The folder, as long as this value lives.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new and empty folder.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut bits = [0; 8];
        aws_lc_rs::rand::fill(&mut bits).map_err(|_| Failure::Failed("the machine gives no randomness".to_owned()))?;
        let path = std::env::temp_dir().join(format!("portcullis-demo-{:016x}", u64::from_be_bytes(bits)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::Failed(format!("cannot make the folder {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let file = self.0.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("portcullis: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_its_owner() {
        let folder = Folder::new().unwrap();
        let file = folder.write("a", "b").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "b");
        drop(folder);
        assert!(!file.exists());
    }
}
