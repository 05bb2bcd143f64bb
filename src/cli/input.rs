//! Reads secrets: from standard input or a file, never from the arguments, which every process of the machine can see.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::Failure;

/// The longest secret, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The secret in `file`, or on standard input when that is `None` or `-`. White space around it is dropped.
pub(super) fn secret(file: Option<&Path>, what: &str) -> Result<String, Failure> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => read(open(file)?, what),
        None => {
            if io::stdin().is_terminal() {
                eprintln!("Reading the {what} from standard input; end with Ctrl-D.");
            }
            read(io::stdin().lock(), what)
        }
    }
}

/// Opens a file the user named.
pub(super) fn open(file: &Path) -> Result<File, Failure> {
    File::open(file).map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))
}

fn read(from: impl Read, what: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = from.take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|_| Failure::Usage(format!("the {what} is not text")))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(Failure::Usage(format!("the {what} is empty")));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_secret_is_dropped() {
        assert_eq!(read(&b" abc\r\n"[..], "token").unwrap(), "abc");
        assert!(matches!(read(&b"\n"[..], "token"), Err(Failure::Usage(text)) if text.contains("empty")));
        assert!(matches!(read(&b"\xff"[..], "token"), Err(Failure::Usage(_))));
    }
}
