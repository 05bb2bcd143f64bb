//! A body read line by line, in batches of bounded size: what has come is handed on soon, so that a caller who waits for each
//! answer gets it, and much that comes at once is handed on together. A line that is too long is passed over, not kept.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::admin::extract::{BODY_PATIENCE, MAX_JSON_BYTES};

/// Lines in one batch, at most.
const MAX_LINES: usize = 1000;
/// Bytes in one batch, about: the line that passes it is the last.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// How long a batch that has a line waits for more.
const LINGER: Duration = Duration::from_millis(10);

/// A body, as lines.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    /// What came and was not handed on: from `start` on, no more than a frame and a line.
    buffer: Vec<u8>,
    start: usize,
    /// The number of the line that begins at `start`.
    number: u64,
    /// Whether that line was found too long already, and its rest is to be passed over.
    passing_over: bool,
    ended: bool,
}

/// One line.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// Its number, from 1; blank lines count too.
    pub number: u64,
    /// What it says; `None` when it is too long.
    pub text: Option<Vec<u8>>,
}

/// Some lines, and whether there will be more.
#[derive(Debug)]
pub(super) struct Batch {
    /// In order.
    pub lines: Vec<Line>,
    /// How the body ended, if it has.
    pub end: Option<End>,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// As it should.
    Complete,
    /// In the middle, or against the rules of HTTP.
    Broken,
    /// It stood still for too long; the number is that of the line it stood in.
    Stalled(u64),
}

impl Lines {
    pub(super) const fn of(body: Body) -> Self {
        Self { body, buffer: Vec::new(), start: 0, number: 1, passing_over: false, ended: false }
    }

    /// The next lines, none only at the end.
    pub(super) async fn batch(&mut self) -> Batch {
        let mut lines = Vec::new();
        let mut bytes = 0;
        let mut deadline = Instant::now() + BODY_PATIENCE;
        loop {
            while let Some(line) = self.next_line() {
                if lines.is_empty() {
                    deadline = Instant::now() + LINGER;
                }
                bytes += line.text.as_ref().map_or(0, Vec::len);
                lines.push(line);
                if lines.len() >= MAX_LINES || bytes >= MAX_BATCH_BYTES {
                    return Batch { lines, end: None };
                }
            }
            if self.ended {
                return Batch { lines, end: Some(End::Complete) };
            }
            match timeout_at(deadline, self.refill()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return Batch { lines, end: Some(end) },
                Err(_) if lines.is_empty() => return Batch { lines, end: Some(End::Stalled(self.number)) },
                Err(_) => return Batch { lines, end: None },
            }
        }
    }

    /// The next line that is complete and not blank.
    fn next_line(&mut self) -> Option<Line> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let length = match rest.iter().position(|byte| *byte == b'\n') {
                Some(length) => length,
                None if self.ended && !rest.is_empty() => rest.len(),
                None => return self.overlong(rest.len()),
            };
            let text = rest.get(..length).unwrap_or_default().trim_ascii();
            let fits = (text.len() <= MAX_JSON_BYTES).then(|| text.to_vec());
            let silent = text.is_empty() || self.passing_over;
            let number = self.number;
            self.start += length + 1;
            self.number += 1;
            self.passing_over = false;
            if !silent {
                return Some(Line { number, text: fits });
            }
        }
    }

    /// Passes over what came of a line that is too long already; reports it once.
    fn overlong(&mut self, length: usize) -> Option<Line> {
        if length <= MAX_JSON_BYTES && !self.passing_over {
            return None;
        }
        self.start += length;
        let reported = std::mem::replace(&mut self.passing_over, true);
        (!reported).then_some(Line { number: self.number, text: None })
    }

    /// Takes in one more piece of the body.
    async fn refill(&mut self) -> Result<(), End> {
        // Cancel safe: nothing was taken from the buffer, and `frame` itself keeps nothing.
        let frame = self.body.frame().await;
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
            Some(Err(_)) => Err(End::Broken),
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: Vec<Vec<u8>>) -> Vec<Line> {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        let mut lines = Lines::of(Body::from_stream(stream::iter(pieces)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut all = Vec::new();
            loop {
                let batch = lines.batch().await;
                assert!(batch.lines.len() <= MAX_LINES);
                all.extend(batch.lines);
                if let Some(end) = batch.end {
                    assert_eq!(end, End::Complete);
                    return all;
                }
            }
        })
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_the_next_is_read() {
        let long = vec![b'x'; MAX_JSON_BYTES];
        let found = lines_of(vec![b"a\n".to_vec(), long.clone(), long, b"y\n\nb".to_vec()]);
        let line = |number, text: Option<&str>| Line { number, text: text.map(|text| text.as_bytes().to_vec()) };
        assert_eq!(found, [line(1, Some("a")), line(2, None), line(4, Some("b"))]);
    }

    #[test]
    fn a_long_body_comes_in_batches_and_in_order() {
        let text: Vec<u8> = (0..2500).flat_map(|n| format!("{n}\r\n").into_bytes()).collect();
        let found = lines_of(vec![text]);
        assert_eq!(found.len(), 2500);
        assert!(
            found
                .iter()
                .zip(0..)
                .all(|(line, n)| { line.number == n + 1 && line.text.as_deref() == Some(n.to_string().as_bytes()) })
        );
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_body_is_cut(text in "[a-c\n ]{0,200}", cuts in prop::collection::vec(0..20_usize, 0..30)) {
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece.to_vec());
                rest = after;
            }
            pieces.push(rest.to_vec());
            let expected: Vec<_> = text.split('\n').zip(1..)
                .filter(|(line, _)| !line.trim().is_empty())
                .map(|(line, number)| Line { number, text: Some(line.trim().as_bytes().to_vec()) })
                .collect();
            prop_assert_eq!(lines_of(pieces), expected);
        }
    }
}
