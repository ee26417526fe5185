//! The event stream format: fields on lines, an empty line ends an event.
//!
//! Bytes go in as they arrive, events come out. Bounded: a line or an event beyond the limit is
//! an error, never memory.

/// The longest line, and the most data of one event.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// One event as the stream carried it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What `Last-Event-ID` resumes after.
    pub(crate) id: Option<String>,
    /// The data, without the line breaks around it.
    pub(crate) data: String,
}

/// Reads events from pieces of a stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pending: Vec<u8>,
    id: Option<String>,
    data: String,
    has_data: bool,
}

/// The stream has a line or an event longer than any of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Parser {
    /// Takes what arrived, and gives the events that it completes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut frames = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if self.pending.len() + piece.len() > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
            self.pending.extend_from_slice(piece);
            if self.pending.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.pending);
                frames.extend(self.line(&String::from_utf8_lossy(&line))?);
            }
        }
        Ok(frames)
    }

    fn line(&mut self, line: &str) -> Result<Option<Frame>, TooLong> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            let (data, had_data) = (std::mem::take(&mut self.data), self.has_data);
            self.has_data = false;
            return Ok(had_data.then(|| Frame {
                id: self.id.clone(),
                data,
            }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.data.len() + value.len() > MAX_EVENT_BYTES {
                    return Err(TooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: &str, data: &str) -> Frame {
        Frame {
            id: Some(id.into()),
            data: data.into(),
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_events() {
        let text =
            b": hello\n\nid: 7\nevent: volume\ndata: {\"a\":\ndata: 1}\n\nid: 8\r\ndata:x\r\n\r\n";
        let expected = vec![frame("7", "{\"a\":\n1}"), frame("8", "x")];
        for size in 1..=text.len() {
            let mut parser = Parser::default();
            let frames: Vec<_> = text
                .chunks(size)
                .flat_map(|piece| parser.push(piece).unwrap())
                .collect();
            assert_eq!(frames, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let outcome = (0..100).try_for_each(|_| parser.push(&[b'x'; 1024]).map(|_| ()));
        assert_eq!(outcome, Err(TooLong));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let outcome = (0..100).try_for_each(|_| {
            let line = format!("data: {}\n", "x".repeat(1024));
            parser.push(line.as_bytes()).map(|_| ())
        });
        assert_eq!(outcome, Err(TooLong));
    }
}
