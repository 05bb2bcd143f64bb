//! The text of a password: which one it is, and 192 random bits, in base64url. That it names itself lets an unknown one be
//! refused by a look-up, without the cost of a digest.

use std::fmt;

use aws_lc_rs::rand::fill;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::Timestamp;
use crate::sessions::passwords::PasswordError;
use crate::store::PasswordId;

/// How many bytes a password has: its id's, and the secret ones.
const BYTES: usize = 12 + 24;

/// A new password.
pub(super) struct Secret {
    /// Which.
    pub(super) id: PasswordId,
    /// What its bearer sends.
    pub(super) text: Box<str>,
}

impl Secret {
    /// One that nobody can guess.
    pub(super) fn random() -> Result<Self, PasswordError> {
        let mut bytes = [0; BYTES];
        fill(&mut bytes).map_err(|_| PasswordError::Machine)?;
        let text = URL_SAFE_NO_PAD.encode(bytes).into();
        let id = id_in(&bytes).ok_or(PasswordError::Machine)?;
        Ok(Self { id, text })
    }
}

/// Which password a text claims to be; `None` for a text that is none of ours.
pub(super) fn id_of(text: &str) -> Option<PasswordId> {
    // Canonical only: one password has one text.
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == BYTES)?;
    id_in(&bytes)
}

fn id_in(bytes: &[u8]) -> Option<PasswordId> {
    bytes.first_chunk().copied().map(PasswordId)
}

/// A password that was just given, to be told its bearer once.
#[derive(Clone, Eq, PartialEq)]
pub struct IssuedPassword {
    /// The name that has to come with it.
    pub username: Box<str>,
    /// The first second in which it is no good any more.
    pub expires_at: Timestamp,
    text: Box<str>,
}

impl IssuedPassword {
    /// The password of that text.
    pub(super) const fn new(username: Box<str>, text: Box<str>, expires_at: Timestamp) -> Self {
        Self { username, expires_at, text }
    }

    /// The secret itself. For the answer to its bearer; never for logs, errors or keys.
    #[must_use]
    pub const fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for IssuedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedPassword")
            .field("username", &self.username)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_tells_which_it_is_and_no_two_are_alike() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_eq!(id_of(&one.text), Some(one.id));
        assert!(one.id != other.id && one.text != other.text && one.text.len() == 48);
    }

    #[test]
    fn debug_shows_no_secret() {
        let Secret { text, .. } = Secret::random().unwrap();
        let issued = IssuedPassword::new("ann".into(), text.clone(), Timestamp::from_secs(1));
        assert!(!format!("{issued:?}").contains(&*text) && issued.expose() == &*text);
    }

    proptest! {
        #[test]
        fn one_password_has_one_text(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,60}") {
            let id = id_of(&URL_SAFE_NO_PAD.encode(&bytes));
            prop_assert_eq!(id.is_some(), bytes.len() == BYTES);
            if let Some(id) = id_of(&text) {
                prop_assert!(text.len() == 48 && URL_SAFE_NO_PAD.decode(&text).unwrap().starts_with(&id.0));
            }
        }
    }
}
