//! Printing texts of a server for people.

use std::fmt;

/// The limit on a text in an error, in characters.
const MAX_CHARS: usize = 1000;

/// The text, shortened to [`MAX_CHARS`].
pub(crate) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        let note = format!("… ({} bytes in all)", text.len());
        text.truncate(end);
        text += &note;
        text.shrink_to_fit();
    }
    text
}

/// Prints a text of a server on one line, without terminal control, and with a limit on its length.
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(MAX_CHARS);
        let (start, rest) = self.0.split_at(end.map_or(self.0.len(), |(end, _)| end));
        let mut separator = "";
        for line in start.lines().map(str::trim).filter(|line| !line.is_empty()) {
            write!(f, "{separator}{}", Visible(line))?;
            separator = " / ";
        }
        match rest.trim().is_empty() {
            true => Ok(()),
            false => write!(f, "… ({} bytes in all)", self.0.len()),
        }
    }
}

/// Prints a text with escapes for all control and invisible characters.
pub(crate) struct Visible<'a>(pub(crate) &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c.is_control() || is_invisible(c) {
                true => write!(f, "{}", c.escape_default())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Characters without a glyph, including those that change the direction of text.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The server writes a reason phrase as single Latin-1 bytes; a UTF-8 one comes from a proxy.
pub(crate) fn latin1_or_utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        let text = "a\u{1b}[2J\r\nb\u{202e}cba \u{200b}x\u{7f}\u{2028}y é 語";
        assert_eq!(
            OneLine(text).to_string(),
            "a\\u{1b}[2J / b\\u{202e}cba \\u{200b}x\\u{7f}\\u{2028}y é 語"
        );
        assert_eq!(Visible("a\r\nb").to_string(), "a\\r\\nb");
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_one_line_of_limited_length(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
            let printed = OneLine(&latin1_or_utf8(&bytes)).to_string();
            proptest::prop_assert!(!printed.chars().any(|c| c.is_control() || is_invisible(c)));
            proptest::prop_assert!(printed.len() < 11_000);
        }
    }

    #[test]
    fn a_long_text_is_shortened() {
        assert_eq!(shortened("é".repeat(1000)), "é".repeat(1000));
        let cut = shortened("é".repeat(5000));
        assert_eq!(cut, format!("{}… (10000 bytes in all)", "é".repeat(1000)));
    }

    #[test]
    fn a_long_line_is_shortened() {
        let text = OneLine(&"é".repeat(5000)).to_string();
        assert_eq!(text, format!("{}… (10000 bytes in all)", "é".repeat(1000)));
        let spaces = format!("a{}", " ".repeat(5000));
        assert_eq!(OneLine(&spaces).to_string(), "a");
    }
}
