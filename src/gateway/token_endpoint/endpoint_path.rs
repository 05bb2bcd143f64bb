//! Which paths are a token endpoint. Routing asks for the one path that is forwarded; here every spelling must be found that
//! some upstream takes for the endpoint, since a refresh token on a path that is not found is not checked. So matching is
//! looser than any router: letters' case, empty segments, blanks at a segment's end, `;parameters` and a final `.suffix` do
//! not matter. What is found by mistake is refused at worst, never forwarded unchecked.

use std::fmt;
use std::str::FromStr;

use crate::gateway::path::{self, Path};
use crate::gateway::token_endpoint::name::fold_case;

/// The path of a token endpoint; `*` stands for exactly one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointPath {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Any,
    /// This one, its case folded.
    Named(Box<str>),
}

impl EndpointPath {
    /// Whether a decoded path is this endpoint, or could be to an upstream that is lenient.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut wanted = self.segments.iter();
        let mut segments = path.split('/').map(bare).filter(|segment| !segment.is_empty()).peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            match wanted.next() {
                Some(wanted) if wanted.matches(segment, is_last) => {}
                // What follows a script is handed to the script.
                None => return matches!(self.segments.last(), Some(Segment::Named(name)) if name.contains('.')),
                Some(_) => return false,
            }
        }
        wanted.next().is_none()
    }

    /// Whether a request's path is this endpoint in any of its readings.
    #[must_use]
    pub fn is_meant_by(&self, path: &Path<'_>) -> bool {
        self.matches(path.decoded()) || path.readings().any(|reading| self.matches(&reading))
    }

    /// The segments as they were written; `*` stands for any.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether some path could be both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same = |pair: (&Segment, &Segment)| pair.0 == pair.1 || *pair.0 == Segment::Any || *pair.1 == Segment::Any;
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(same)
    }
}

impl Segment {
    fn matches(&self, segment: &str, is_last: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Named(name) => {
                let mut letters = fold_case(segment);
                let mut rest = name.chars();
                let begins = rest.by_ref().all(|wanted| letters.next() == Some(wanted));
                // `/token.json` is `/token` to routers that read a format off the path.
                begins && letters.next().is_none_or(|next| is_last && next == '.')
            }
        }
    }
}

/// A segment without what lenient servers drop.
fn bare(segment: &str) -> &str {
    segment.split(';').next().unwrap_or(segment).trim()
}

impl fmt::Display for EndpointPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no path of a token endpoint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEndpointPath {
    /// It is no path.
    #[error("the path of a token endpoint begins with / and has no query and no ambiguous part: {0}")]
    Path(path::PathFault),
    /// It names no segment, so every path could be meant.
    #[error("the path of a token endpoint names one segment at least")]
    Everything,
    /// A segment has a star and something else.
    #[error("* stands for one whole segment")]
    Star,
}

impl FromStr for EndpointPath {
    type Err = InvalidEndpointPath;

    fn from_str(text: &str) -> Result<Self, InvalidEndpointPath> {
        let path = path::normalise(text).map_err(InvalidEndpointPath::Path)?;
        if path.readings().next().is_some() {
            return Err(InvalidEndpointPath::Path(path::PathFault::Ambiguous));
        }
        let text = path.decoded().trim_end_matches('/');
        let segment = |segment: &str| match segment {
            "*" => Ok(Segment::Any),
            named if named.contains('*') => Err(InvalidEndpointPath::Star),
            named => Ok(Segment::Named(fold_case(named).collect::<String>().into())),
        };
        let segments = text.split('/').filter(|s| !s.is_empty()).map(segment).collect::<Result<Box<[_]>, _>>()?;
        if segments.iter().all(|segment| *segment == Segment::Any) {
            return Err(InvalidEndpointPath::Everything);
        }
        Ok(Self { text: text.into(), segments })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(text: &str) -> EndpointPath {
        text.parse().unwrap()
    }

    fn is_meant(endpoint: &EndpointPath, raw: &str) -> bool {
        endpoint.is_meant_by(&path::normalise(raw).unwrap())
    }

    #[test]
    fn every_spelling_an_upstream_might_take_is_meant() {
        let token = endpoint("/oauth/token");
        for raw in [
            "/oauth/token",
            "/oauth/token/",
            "/oauth//token",
            "/oauth/token//",
            "/OAuth/TOKEN",
            "/oauth/%74oken",
            "/oauth/%2574oken",
            "/oauth;a=1/token;jsessionid=2",
            "/oauth%3ba/token",
            "/oauth/token.json",
            "/oauth/token.",
            "/oauth/token%20",
            "/oauth/to%e2%84%aaen",
            "/;x/oauth/token",
        ] {
            assert!(is_meant(&token, raw), "{raw}");
        }
        for raw in
            ["/", "/oauth", "/oauth/tokens", "/oauth/token/x", "/oauth.json/token", "/x/oauth/token", "/oauthtoken"]
        {
            assert!(!is_meant(&token, raw), "{raw}");
        }
    }

    #[test]
    fn what_follows_a_script_is_still_the_script() {
        assert!(is_meant(&endpoint("/oauth/token.php"), "/oauth/token.php/x/y"));
        assert!(!is_meant(&endpoint("/oauth/token.php"), "/oauth/x/token.php"));
    }

    #[test]
    fn a_star_is_one_segment() {
        let login = endpoint("/api/auth/provider/*/token");
        assert!(is_meant(&login, "/api/auth/provider/toy/token"));
        assert!(is_meant(&login, "/api/auth/provider/a%20b/token/"));
        assert!(!is_meant(&login, "/api/auth/provider/token"));
        assert!(!is_meant(&login, "/api/auth/provider/a/b/token"));
    }

    #[test]
    fn what_could_be_any_path_is_refused() {
        for wrong in ["", "oauth", "/", "/*", "/*/*", "/a*/b", "/a//b", "/a;x", "/a?b", "/a/../b", "/a%2fb"] {
            assert!(wrong.parse::<EndpointPath>().is_err(), "{wrong}");
        }
        assert_eq!(endpoint("/OAuth/token/").to_string(), "/OAuth/token");
    }

    #[test]
    fn paths_overlap_where_one_path_is_both() {
        assert!(endpoint("/a/*/c").overlaps(&endpoint("/*/B/c")) && endpoint("/a").overlaps(&endpoint("/A/")));
        assert!(!endpoint("/a/*").overlaps(&endpoint("/a")) && !endpoint("/a/b").overlaps(&endpoint("/a/c")));
    }

    proptest! {
        #[test]
        fn no_spelling_escapes(
            flips in prop::collection::vec((any::<bool>(), 0..5_usize), 12),
            between in "(/|//|/;a/|/ /)",
        ) {
            let spell = |text: &str| -> String {
                text.chars().zip(flips.iter()).map(|(c, (upper, how))| {
                    let c = if *upper { c.to_ascii_uppercase() } else { c };
                    match how {
                        0 => format!("%{:02x}", u32::from(c)),
                        1 => format!("%25{:02X}", u32::from(c)),
                        _ => c.to_string(),
                    }
                }).collect()
            };
            let raw = format!("/{}{}{}", spell("oauth"), between.replace(' ', "%20"), spell("token"));
            prop_assert!(is_meant(&endpoint("/oauth/token"), &raw), "{}", raw);
        }

        #[test]
        fn any_text_is_a_path_or_a_fault(text in "/?[a-z*;%/.]{0,12}", asked in "\\PC{0,20}") {
            if let Ok(endpoint) = text.parse::<EndpointPath>() {
                let _ = endpoint.matches(&asked);
                prop_assert!(endpoint.overlaps(&endpoint));
                prop_assert!(endpoint.text.contains('*') || endpoint.matches(&endpoint.text));
            }
        }
    }
}
