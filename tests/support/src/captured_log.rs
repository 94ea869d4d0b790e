//! Everything that a program and its libraries log, by `log` and by `tracing`, in one text.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// All that was logged, whichever way.
static LOG: Mutex<String> = Mutex::new(String::new());

fn note(line: fmt::Arguments<'_>) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(log, "{line}");
}

struct Everything;

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        note(format_args!("{}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut line = Line(format!("{}:", attributes.metadata().target()));
        attributes.record(&mut line);
        note(format_args!("{}", line.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("recorded:".to_owned());
        values.record(&mut line);
        note(format_args!("{}", line.0));
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        note(format_args!("{}", line.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A text in all the forms that a log may show it in.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex = |separator: &str| {
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(separator)
    };
    let mut forms = vec![
        secret.to_owned(),
        // As a byte string, and as a list of bytes.
        bytes.escape_ascii().to_string(),
        format!("{bytes:?}").replace(['[', ']'], ""),
        serde_json::to_string(secret)
            .expect("it is JSON")
            .replace('"', ""),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string(),
        hex(""),
        hex(" "),
        hex(":"),
    ];
    // Wherever in a longer text it begins: without the digits that hold bits of its neighbours.
    for offset in 0..3 {
        let padded = [&[0; 2][..offset], bytes].concat();
        let digits = STANDARD_NO_PAD.encode(&padded);
        let whole = (offset * 8).div_ceil(6)..padded.len() * 8 / 6;
        forms.push(digits[whole].to_owned());
    }
    forms
}

/// Captures what the process logs from now on, at every level.
///
/// # Panics
/// Something else takes it already.
pub fn install() {
    log::set_logger(&Everything).expect("the first one");
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(Everything).expect("the first one");
}

/// The lines so far.
#[must_use]
pub fn text() -> String {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Checks that the log holds none of these in any form.
///
/// # Panics
/// It does; the message has the line.
pub fn assert_holds_none_of(secrets: &[String]) {
    let log = text();
    println!("{} lines, {} secrets", log.lines().count(), secrets.len());
    for secret in secrets {
        for form in forms(secret) {
            assert!(form.len() > 4, "{form}");
            if let Some(at) = log.find(&form) {
                let start = log[..at].rfind('\n').map_or(0, |end| end + 1);
                let line = log[start..].lines().next();
                panic!("{form} of {secret} is logged: {line:?}");
            }
        }
    }
}
