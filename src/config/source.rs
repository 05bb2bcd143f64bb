//! The text of a configuration file and where in it we are: lines, the environment, and the faults found so far.
//!
//! `${NAME}` in any string takes a value from the environment, `$${` stands for itself. A fault shows the text as it
//! stands in the file, so that a secret from the environment is not shown with it.

use std::cell::RefCell;

use super::faults::Fault;

/// Looks a name up in the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is being read.
pub(super) struct Source<'a> {
    line_starts: Vec<usize>,
    environment: Environment<'a>,
    faults: RefCell<Vec<Fault>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &str, environment: Environment<'a>) -> Self {
        let line_starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect();
        Self { line_starts, environment, faults: RefCell::default() }
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at) + 1
    }

    /// Notes a fault; reading goes on.
    pub(super) fn fault(&self, path: &str, line: Option<usize>, text: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::new(path, line, text));
    }

    /// Everything noted.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    /// `text` with its variables replaced.
    ///
    /// # Errors
    ///
    /// What is wrong with the first variable that cannot be replaced.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(escaped) = before.strip_suffix('$') {
                out.push_str(escaped);
                out.push_str("${");
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or("has a ${ without its }; write $${ for the text itself")?;
            out.push_str(before);
            out.push_str(&self.variable(name)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let proper = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !proper {
            return Err(format!("${{{name}}} is no name of an environment variable"));
        }
        (self.environment)(name).ok_or_else(|| format!("the environment variable {name} is not set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let environment = |name: &str| (name == "PORT").then(|| "8080".to_owned());
        Source::new("", &environment).expand(text)
    }

    #[test]
    fn variables_come_from_the_environment() {
        assert_eq!(expand("0.0.0.0:${PORT}"), Ok("0.0.0.0:8080".to_owned()));
        assert_eq!(expand("a $${PORT} b ${PORT}"), Ok("a ${PORT} b 8080".to_owned()));
        assert_eq!(expand("$PORT $ {x}"), Ok("$PORT $ {x}".to_owned()));
        assert!(expand("${HOST}").unwrap_err().contains("HOST is not set"));
        assert!(expand("${PORT").is_err());
        assert!(expand("${}").is_err());
    }

    #[test]
    fn lines_count_from_one() {
        let source = Source::new("a\nb\n\nc", &|_| None);
        assert_eq!([0, 1, 2, 4, 5].map(|at| source.line(at)), [1, 1, 2, 3, 4]);
    }
}
