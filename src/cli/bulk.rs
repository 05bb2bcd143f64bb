//! `revoke --bulk`: sends revocations from a file in batches, with a bar on a terminal and plain lines elsewhere.
//!
//! A batch whose outcome is unknown is sent again: revoking twice is revoking once. Memory holds one batch.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::http::{Admin, Reply, query};
use super::wait::Waiting;
use super::{Failure, Options, input, output};

/// Lines in a batch.
const BATCH_LINES: usize = 1000;
/// Bytes in a batch, but for its last line.
const BATCH_BYTES: usize = 512 << 10;
/// The longest line, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// How often a batch is sent while the admin side cannot take it.
const ATTEMPTS: u32 = 5;
/// Batches between two plain lines.
const BATCHES_PER_LINE: u64 = 10;

/// Sends what is in `file`, or on standard input when that is `-`.
///
/// With `--wait all` the last batch asks for it: where its confirmation is, what came before it is too.
pub(super) async fn run(admin: &Admin, file: &Path, waiting: Waiting, options: &Options) -> Result<(), Failure> {
    let (from, bytes): (Box<dyn Read + Send>, _) = if file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let opened = input::open(file)?;
        let bytes = size(&opened);
        (Box::new(opened), bytes)
    };
    let mut tally = Tally::new(bytes, options.json);
    let mut lines = Lines { from: BufReader::new(from), number: 0 };
    let mut next = lines.batch()?;
    while let Some(batch) = next.take() {
        next = lines.batch()?;
        let [wait, timeout] = waiting.parameters(options);
        let query = if next.is_none() { query(&[wait, timeout]) } else { String::new() };
        let (results, spread) = send(admin, &batch, &query).await?;
        tally.add(&batch, &results)?;
        tally.spread = spread;
    }
    let spread = tally.spread.take();
    tally.finish()?;
    let Some(spread) = spread else { return Ok(()) };
    if options.json {
        output::json(&spread)?;
    }
    waiting.tell(&spread, options.json)
}

fn size(file: &File) -> Option<u64> {
    file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Some lines of the input.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    /// The numbers of its lines in the input, counted from 1; empty lines are left out.
    numbers: Vec<u64>,
    /// How much of the input it took.
    bytes: u64,
}

struct Lines<R> {
    from: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn batch(&mut self) -> Result<Option<Batch>, Failure> {
        let mut batch = Batch::default();
        while batch.numbers.len() < BATCH_LINES && batch.text.len() < BATCH_BYTES {
            let mut line = Vec::new();
            let read = self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
                return Err(Failure::Usage(format!("line {} is longer than 64 KiB", self.number)));
            }
            batch.push(&line, self.number);
        }
        Ok((batch.bytes > 0).then_some(batch))
    }
}

impl Batch {
    fn push(&mut self, line: &[u8], number: u64) {
        self.bytes += line.len() as u64;
        let line = line.trim_ascii();
        if !line.is_empty() {
            self.numbers.push(number);
            self.text.extend_from_slice(line);
            self.text.push(b'\n');
        }
    }
}

/// The answer to each line of a batch, and who has confirmed it, where that was asked for.
type Answers = (Vec<Value>, Option<Value>);

/// The answers to a batch.
async fn send(admin: &Admin, batch: &Batch, query: &str) -> Result<Answers, Failure> {
    if batch.numbers.is_empty() && query.is_empty() {
        return Ok((Vec::new(), None));
    }
    let mut attempt = 1;
    loop {
        let body = Bytes::from(batch.text.clone());
        let path = format!("/v1/revocations/bulk{query}");
        let outcome = admin.call(Method::POST, &path, Some(("application/x-ndjson", body))).await;
        let (failure, pause) = match outcome {
            Ok(reply) if reply.status.is_success() => match answers(&reply, batch) {
                Ok(answers) => return Ok(answers),
                Err(failure) => (failure, None),
            },
            Ok(reply) => (reply.failure(), reply.retry_after),
            Err(failure) => (failure, None),
        };
        let passing = matches!(failure, Failure::Unavailable(_) | Failure::Unreachable(_));
        if !passing || attempt == ATTEMPTS {
            return Err(failure);
        }
        tokio::time::sleep(pause.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(30)) * attempt).await;
        attempt += 1;
    }
}

/// The answer to each line. When one could not be done now, the whole batch is to be sent again.
fn answers(reply: &Reply, batch: &Batch) -> Result<Answers, Failure> {
    let lines = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut answers: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap_or_default()).collect();
    // The line about replicas comes last, and is no answer to a line.
    let spread = answers.pop_if(|last| last.get("complete").is_some());
    if answers.len() != batch.numbers.len() {
        let text = format!("{} lines were sent and {} answered", batch.numbers.len(), answers.len());
        return Err(Failure::Unavailable(text));
    }
    match answers.iter().find(|answer| status(answer) >= 500) {
        Some(answer) => Err(Failure::Unavailable(output::member(answer, "error"))),
        None => Ok((answers, spread)),
    }
}

/// 201 new, 200 already so, anything else not done.
fn status(answer: &Value) -> u64 {
    answer.get("status").and_then(Value::as_u64).unwrap_or(500)
}

/// What became of the lines so far.
struct Tally {
    bar: ProgressBar,
    plain: bool,
    json: bool,
    batches: u64,
    revoked: u64,
    already: u64,
    failed: u64,
    /// Who has confirmed the last batch.
    spread: Option<Value>,
}

impl Tally {
    fn new(bytes: Option<u64>, json: bool) -> Self {
        let plain = json || !io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { bar(bytes) };
        Self { bar, plain, json, batches: 0, revoked: 0, already: 0, failed: 0, spread: None }
    }

    fn add(&mut self, batch: &Batch, results: &[Value]) -> Result<(), Failure> {
        for (number, result) in batch.numbers.iter().zip(results) {
            self.line(*number, result)?;
        }
        self.batches += 1;
        self.bar.inc(batch.bytes);
        self.bar.set_message(self.summary());
        if self.plain && !self.json && self.batches.is_multiple_of(BATCHES_PER_LINE) {
            eprintln!("{}", self.summary());
        }
        Ok(())
    }

    /// Counts one answer; its line's number is that of the input, not of the batch.
    fn line(&mut self, number: u64, result: &Value) -> Result<(), Failure> {
        match status(result) {
            201 => self.revoked += 1,
            200 => self.already += 1,
            _ => self.fault(number, result),
        }
        if !self.json {
            return Ok(());
        }
        let mut result = result.clone();
        if let Some(members) = result.as_object_mut() {
            members.insert("line".to_owned(), number.into());
        }
        output::json(&result)
    }

    fn fault(&mut self, number: u64, result: &Value) {
        self.failed += 1;
        let text = format!("line {number}: {}", output::member(result, "error"));
        if self.plain { eprintln!("{text}") } else { self.bar.println(text) }
    }

    fn summary(&self) -> String {
        format!("{} revoked, {} already, {} failed", self.revoked, self.already, self.failed)
    }

    fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if !self.json {
            output::line(&self.summary())?;
        }
        if self.failed > 0 { Err(Failure::Failed(format!("{} lines failed", self.failed))) } else { Ok(()) }
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if bytes.is_some() { "{bar:30} {percent:>3}% eta {eta} {msg}" } else { "{spinner} {bytes} {msg}" };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str) -> Vec<Batch> {
        let mut lines = Lines { from: BufReader::new(text.as_bytes()), number: 0 };
        std::iter::from_fn(|| lines.batch().unwrap()).collect()
    }

    #[test]
    fn lines_keep_their_numbers() {
        let batches = batches("{\"a\":1}\r\n\n  {\"b\":2}");
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].numbers, [1, 3]);
        assert_eq!(batches[0].text, b"{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(batches[0].bytes, 19);
    }

    #[test]
    fn batches_are_bounded() {
        let sizes: Vec<_> = batches(&"{}\n".repeat(2500)).iter().map(|batch| batch.numbers.len()).collect();
        assert_eq!(sizes, [1000, 1000, 500]);
        assert!(batches("").is_empty());
        let mut endless = Lines { from: BufReader::new(io::repeat(b'x')), number: 0 };
        assert!(matches!(endless.batch(), Err(Failure::Usage(_))));
    }

    #[test]
    fn each_answer_is_counted() {
        let mut tally = Tally::new(None, true);
        let results = [r#"{"line":1,"status":201,"id":"a"}"#, r#"{"status":200}"#, r#"{"status":422,"error":"no"}"#];
        for (at, result) in results.iter().enumerate() {
            tally.line(at as u64, &serde_json::from_str(result).unwrap()).unwrap();
        }
        assert_eq!(tally.summary(), "1 revoked, 1 already, 1 failed");
        assert!(tally.finish().is_err());
    }
}
