//! Reading of an answer that contains a whole file, while it arrives, so that memory holds the file
//! and not its JSON.

/// The limit on the answer apart from the file.
const MAX_REST: usize = 64 * 1024;

/// Extracts the content of a file from the answer of a release that sends it as text, one character
/// for each byte.
pub(super) struct WholeFile {
    /// The answer with an empty content.
    rest: Vec<u8>,
    content: Vec<u8>,
    max: usize,
    depth: usize,
    place: Place,
    /// The start of the last text in the rest.
    text: usize,
    /// Whether the next value is that of `data`, and of `content` in it.
    in_data: bool,
    is_content: bool,
    /// Bytes of an incomplete escape or character.
    open: Vec<u8>,
    /// The first half of a surrogate pair.
    half: Option<u16>,
    /// Whether a character was beyond a byte, so that the content is read as text.
    is_text: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Text,
    Escape,
    Content,
}

/// The reason why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// The file is longer than the limit.
    File,
    /// The answer holds more than a file.
    Beside,
}

impl WholeFile {
    /// With a limit on the file's bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            rest: Vec::new(),
            content: Vec::new(),
            max,
            depth: 0,
            place: Place::Between,
            text: 0,
            in_data: false,
            is_content: false,
            open: Vec::new(),
            half: None,
            is_text: false,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.place == Place::Content {
                let plain = match self.open.is_empty() && self.half.is_none() && !self.is_text {
                    true => self.in_a_row(rest),
                    false => 0,
                };
                match plain {
                    0 => {
                        self.of_content(byte);
                        rest = after;
                    }
                    count => rest = rest.get(count..).unwrap_or_default(),
                }
                if self.content.len() > self.max {
                    return Err(TooMuch::File);
                }
                continue;
            }
            rest = after;
            if self.rest.len() >= MAX_REST {
                return Err(TooMuch::Beside);
            }
            self.rest.push(byte);
            self.beside(byte);
        }
        Ok(())
    }

    /// The answer without the file, and the file.
    pub(super) fn end(self) -> (Vec<u8>, Vec<u8>) {
        (self.rest, self.content)
    }

    fn beside(&mut self, byte: u8) {
        match (self.place, byte) {
            (Place::Escape, _) => self.place = Place::Text,
            (Place::Text, b'\\') => self.place = Place::Escape,
            (Place::Text, b'"') => self.place = Place::Between,
            (Place::Between, b'"') if self.depth == 2 && self.is_content => {
                self.is_content = false;
                self.place = Place::Content;
            }
            (Place::Between, b'"') => {
                self.text = self.rest.len();
                self.place = Place::Text;
            }
            (Place::Between, b'{' | b'[') => self.depth += 1,
            (Place::Between, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
            (Place::Between, b',') => self.is_content = false,
            (Place::Between, b':') => {
                let text = self.rest.get(self.text..).unwrap_or_default();
                match self.depth {
                    1 => self.in_data = text.starts_with(b"data\""),
                    2 => self.is_content = self.in_data && text.starts_with(b"content\""),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Reads unescaped bytes, or one escape of a byte; returns how many.
    fn in_a_row(&mut self, bytes: &[u8]) -> usize {
        let plain = |byte: &u8| byte.is_ascii() && !matches!(byte, b'"' | b'\\');
        let count = bytes.iter().take_while(|byte| plain(byte)).count();
        if count > 0 {
            let room = self
                .max
                .saturating_add(1)
                .saturating_sub(self.content.len());
            let taken = bytes.get(..count.min(room)).unwrap_or_default();
            self.content.extend_from_slice(taken);
            return count;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = match *bytes {
            [b'\\', b'u', b'0', b'0', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        match value.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                self.content.push(byte);
                6
            }
            None => 0,
        }
    }

    fn of_content(&mut self, byte: u8) {
        if self.open.is_empty() {
            match byte {
                b'"' => {
                    self.close_half();
                    self.rest.push(byte);
                    self.place = Place::Between;
                }
                b'\\' | 0x80.. => self.open.push(byte),
                plain => self.unit(u16::from(plain)),
            }
            return;
        }
        self.open.push(byte);
        match *self.open.as_slice() {
            [b'\\', b'u', ref digits @ ..] => {
                if digits.len() == 4 {
                    let digits = std::str::from_utf8(digits).unwrap_or_default();
                    let unit = u16::from_str_radix(digits, 16).unwrap_or(0xfffd);
                    self.open.clear();
                    self.unit(unit);
                }
            }
            [b'\\', escaped] => {
                self.open.clear();
                self.unit(u16::from(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'f' => 12,
                    other => other,
                }));
            }
            [first, ref more @ ..] => {
                let length = match first {
                    0xf0.. => 3,
                    0xe0.. => 2,
                    _ => 1,
                };
                if more.len() >= length {
                    let text = std::str::from_utf8(&self.open).ok();
                    let c = text.and_then(|text| text.chars().next());
                    self.open.clear();
                    self.close_half();
                    self.character(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
            }
            [] => {}
        }
    }

    /// A UTF-16 code unit.
    fn unit(&mut self, unit: u16) {
        if let Some(half) = self.half.take() {
            match char::decode_utf16([half, unit]).next() {
                Some(Ok(c)) => return self.character(c),
                _ => self.character(char::REPLACEMENT_CHARACTER),
            }
        }
        match char::from_u32(u32::from(unit)) {
            Some(c) => self.character(c),
            None => self.half = Some(unit),
        }
    }

    fn close_half(&mut self) {
        if self.half.take().is_some() {
            self.character(char::REPLACEMENT_CHARACTER);
        }
    }

    fn character(&mut self, c: char) {
        if let (Ok(byte), false) = (u8::try_from(c), self.is_text) {
            self.content.push(byte);
            return;
        }
        if !self.is_text {
            self.is_text = true;
            let so_far = std::mem::take(&mut self.content);
            let so_far: String = so_far.into_iter().map(char::from).collect();
            self.content = so_far.into_bytes();
        }
        let mut bytes = [0; 4];
        let bytes = c.encode_utf8(&mut bytes).as_bytes();
        self.content.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(answer: &[u8], step: usize, max: usize) -> Result<(String, Vec<u8>), TooMuch> {
        let mut whole = WholeFile::new(max);
        for piece in answer.chunks(step.max(1)) {
            whole.take(piece)?;
        }
        let (rest, content) = whole.end();
        Ok((String::from_utf8_lossy(&rest).into_owned(), content))
    }

    proptest! {
        #[test]
        fn a_file_is_read_in_every_json_spelling(
            file in prop::collection::vec(any::<u8>(), 0..200), ways in prop::collection::vec(0_u8..3, 200), step in 1_usize..9,
        ) {
            let mut text = String::new();
            for (&byte, way) in file.iter().zip(ways) {
                let c = char::from(byte);
                match way {
                    0 => text.push_str(&format!("\\u{byte:04x}")),
                    1 => text.push_str(&format!("\\u{byte:04X}")),
                    _ => {
                        let quoted = serde_json::to_string(&c).expect("JSON");
                        text.push_str(&quoted[1..quoted.len() - 1]);
                    }
                }
            }
            let answer = format!(r#"{{"x":{{"content":"no"}},"data":{{"content" : "{text}","truncated":1}}}}"#);
            let (rest, content) = read(answer.as_bytes(), step, 1000).expect("short");
            prop_assert_eq!(content, file);
            prop_assert_eq!(rest, r#"{"x":{"content":"no"},"data":{"content" : "","truncated":1}}"#);
        }

        #[test]
        fn no_input_causes_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let answer = [br#"{"data":{"content":""#.as_slice(), &bytes].concat();
            let _ = read(&answer, 7, 100);
            let _ = read(&bytes, 3, 100);
        }
    }

    #[test]
    fn characters_above_255_make_it_text() {
        let answer = br#"{"data":{"content":"\u00e9\ud83d\ude00 \ud800x \u8a9e"}}"#;
        let (_, content) = read(answer, 4, 100).expect("short");
        assert_eq!(content, "é😀 \u{fffd}x 語".as_bytes());
    }

    #[test]
    fn the_file_and_the_rest_are_limited() {
        let answer = format!(r#"{{"data":{{"content":"{}"}}}}"#, "x".repeat(100));
        assert!(read(answer.as_bytes(), 64, 100).is_ok());
        assert_eq!(read(answer.as_bytes(), 64, 99), Err(TooMuch::File));
        let answer = format!(r#"{{"data":{{"other":"{}"}}}}"#, "x".repeat(MAX_REST));
        assert_eq!(read(answer.as_bytes(), 64, 100), Err(TooMuch::Beside));
    }
}
