//! When two names could be one to somebody. Servers disagree about names: some do not see letters' case, PHP turns dots,
//! blanks and brackets into underscores, frameworks take `refreshToken` for `refresh_token`. A field that is not exactly
//! the one we read, but the same to one of them, is one that we did not check.

/// A text's characters without their case, as Unicode folds them: `ſ` is an `s` and the Kelvin sign a `k`.
pub(super) fn fold_case(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// A name without what any server is known to ignore: all but its letters and digits, without their case.
pub(super) fn folded(name: &str) -> String {
    fold_case(name).filter(|c| c.is_alphanumeric()).collect()
}

/// Whether somebody could take `other` for the field `name`, or for a part of it, as `name[]` and `name[x]` are.
pub(super) fn is_like(other: &str, name: &str) -> bool {
    let wanted = folded(name);
    let base = other.split('[').find(|part| !part.trim().is_empty()).unwrap_or(other);
    folded(other) == wanted || folded(base) == wanted
}

/// Whether `other` is not `name`, but somebody could take it for `name`.
pub(super) fn imitates(other: &str, name: &str) -> bool {
    other != name && is_like(other, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_server_might_take_for_the_field_are_known() {
        for name in [
            "Refresh_Token",
            "refresh.token",
            "refresh token",
            " refresh_token",
            "refresh-token",
            "refreshToken",
            "refresh_token[]",
            "refresh_token[0]",
            "refresh[token",
            "[refresh_token]",
            "refre\u{17f}h_to\u{212a}en",
            "refresh_token\u{0}",
            "\u{feff}refresh_token",
        ] {
            assert!(imitates(name, "refresh_token"), "{name}");
        }
        for name in ["refresh_token", "token", "refresh_tokens", "old_refresh_token", "a[refresh_token]", "", "[]"] {
            assert!(!imitates(name, "refresh_token"), "{name}");
        }
    }
}
