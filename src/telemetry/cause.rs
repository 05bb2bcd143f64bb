//! An error in one line, for logs and for the terminal: errors of ours do not repeat what caused them.

use std::error::Error;
use std::iter;

/// The error's text and those of its causes, in order.
#[must_use]
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(error.source(), |cause| Error::source(*cause));
    let mut texts = vec![error.to_string()];
    for cause in causes.map(ToString::to_string) {
        // An error that passes its source's text on as its own would say it twice.
        if !texts.iter().any(|text| text.ends_with(&cause)) {
            texts.push(cause);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_cause_comes_after_the_error() {
        let error = Outer(std::io::Error::other("no key"));
        assert_eq!(in_one_line(&error), "cannot open the door: no key");
    }
}
