//! A username and a password as HTTP Basic sends them (RFC 7617): base64 of UTF-8, parted by the first colon.
//!
//! There is one reading: canonical base64 with its padding, no control characters, and a password that is visible ASCII, as
//! every password is that is given here. Anything else is a bad credential.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::BearerToken;

/// A username and the password that came with it. The password's text is treated as a token's is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserPassword {
    /// Who it claims to be.
    pub username: Box<str>,
    /// The secret.
    pub password: BearerToken,
}

/// Reads what stands behind the scheme.
pub(super) fn parse(credentials: &[u8]) -> Option<UserPassword> {
    if credentials.len() > BearerToken::MAX_BYTES {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = BearerToken::parse(password)?;
    (!username.contains(char::is_control)).then(|| UserPassword { username: username.into(), password })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        let read = parse(STANDARD.encode(text).as_bytes())?;
        Some((read.username.into(), read.password.expose().to_owned()))
    }

    fn pair(username: &str, password: &str) -> Option<(String, String)> {
        Some((username.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_first_colon_parts_them() {
        assert_eq!(read("ann:pa:ss"), pair("ann", "pa:ss"));
        assert_eq!(read(":pass"), pair("", "pass"));
        assert_eq!(read("Łukasz Ø:pass"), pair("Łukasz Ø", "pass"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_bad() {
        for text in ["ann", "ann:", "ann:pa ss", "ann:päss", "a\nnn:pass", "ann:pass\0", "\u{85}:pass"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        for credentials in ["", "!", "YTpi=", "YTpi YTpi", "YTpiYw", "YTpiYx==", "YTpi\u{e9}", "gDpi", "YTpiYw==YTpi"] {
            assert_eq!(parse(credentials.as_bytes()), None, "{credentials}");
        }
        assert_eq!(parse(&b"YTpi".repeat(5_000)), None);
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", parse(STANDARD.encode("ann:hunter2").as_bytes()).unwrap()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so(credentials in "[A-Za-z0-9+/=]{0,40}", text in "[^:]{0,8}:[!-~]{1,8}") {
            if let Some(read) = parse(credentials.as_bytes()) {
                prop_assert_eq!(STANDARD.encode(format!("{}:{}", read.username, read.password.expose())), credentials);
            }
            prop_assert_eq!(read(&text).is_some(), !text.split(':').next().unwrap().contains(char::is_control));
        }
    }
}
