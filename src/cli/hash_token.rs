//! `hash-token`: makes what stands as `token_sha256` in the configuration. The configuration never holds the token.

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::json;

use super::{Failure, input, output};

/// Below so many characters a token can be guessed.
const SHORT_TOKEN: usize = 20;

/// Hash an admin token, read from standard input, or make a new one.
#[derive(Args, Debug)]
pub(super) struct HashToken {
    /// Make a new token of 256 random bits and print it beside its hash
    #[arg(long)]
    generate: bool,
}

impl HashToken {
    /// Reads or makes the token, and prints its hash.
    pub(super) fn run(self, json: bool) -> Result<(), Failure> {
        if self.generate {
            return generated(&new_token()?, json);
        }
        let token = input::secret(None, "token")?;
        if token.len() < SHORT_TOKEN {
            eprintln!("portcullis: warning: a token of {} characters can be guessed; see --generate", token.len());
        }
        let hash = sha256(&token);
        if json { output::json(&json!({ "token_sha256": hash })) } else { output::line(&hash) }
    }
}

fn generated(token: &str, json: bool) -> Result<(), Failure> {
    let hash = sha256(token);
    if json {
        return output::json(&json!({ "token": token, "token_sha256": hash }));
    }
    output::line(&format!("token: {token}\ntoken_sha256 = \"{hash}\""))
}

/// A token of 256 random bits.
pub(super) fn new_token() -> Result<String, Failure> {
    let mut bits = [0; 32];
    rand::fill(&mut bits).map_err(|_| Failure::Failed("the machine gives no randomness".to_owned()))?;
    Ok(format!("pcl_{}", URL_SAFE_NO_PAD.encode(bits)))
}

/// The SHA-256 of a token's text, in hexadecimal.
pub(super) fn sha256(token: &str) -> String {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256_in_hexadecimal() {
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_new_token_is_new() {
        let [a, b] = [new_token().unwrap(), new_token().unwrap()];
        assert_ne!(a, b);
        assert_eq!(a.len(), 4 + 43);
    }
}
