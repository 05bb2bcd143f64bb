//! Reads server-sent events out of the pieces they arrive in, as the HTML standard (§9.2.6) says.

/// The longest event, in bytes; a longer one is dropped.
const MAX_BYTES: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Event {
    /// `id`, the place to go on from; empty when the event has none.
    pub(super) id: String,
    /// `event`; empty for the default type.
    pub(super) name: String,
    /// `data`, its lines joined.
    pub(super) data: String,
}

/// What was read of the stream so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_return: bool,
}

impl Reader {
    /// The events that `piece` completes.
    pub(super) fn read(&mut self, piece: &[u8]) -> Vec<Event> {
        piece.iter().filter_map(|byte| self.byte(*byte)).collect()
    }

    fn byte(&mut self, byte: u8) -> Option<Event> {
        let second_half_of_a_line_end = self.after_return && byte == b'\n';
        self.after_return = byte == b'\r';
        if second_half_of_a_line_end {
            return None;
        }
        if byte != b'\r' && byte != b'\n' {
            if self.line.len() < MAX_BYTES {
                self.line.push(byte);
            }
            return None;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        self.field(&line)
    }

    fn field(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.name),
            "data" => self.data(value),
            // A comment, which keeps the connection alive, or a field we have no use for.
            _ => {}
        }
        None
    }

    fn data(&mut self, value: &str) {
        if self.has_data {
            self.event.data.push('\n');
        }
        self.has_data = true;
        if self.event.data.len() + value.len() <= MAX_BYTES {
            self.event.data.push_str(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str =
        ": hello\n\nid: 7\nevent: revoked\ndata: {\"a\":1}\n\ndata: x\r\ndata:y\r\n\r\nevent: empty\n\n";

    fn expected() -> Vec<Event> {
        vec![
            Event { id: "7".into(), name: "revoked".into(), data: "{\"a\":1}".into() },
            Event { id: String::new(), name: String::new(), data: "x\ny".into() },
        ]
    }

    #[test]
    fn events_are_read_whole() {
        assert_eq!(Reader::default().read(STREAM.as_bytes()), expected());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_stream_is_cut(cut in 0..STREAM.len()) {
            let (head, tail) = STREAM.as_bytes().split_at(cut);
            let mut reader = Reader::default();
            let mut events = reader.read(head);
            events.extend(reader.read(tail));
            prop_assert_eq!(events, expected());
        }

        #[test]
        fn no_stream_upsets_it(bytes: Vec<u8>) {
            Reader::default().read(&bytes);
        }
    }
}
