//! The JSON array in a dump's file.

use serde::Deserialize;

use crate::json::Json;

/// The JSON array in the file.
pub(super) fn tree(source: &[u8]) -> Result<Vec<Json>, String> {
    let text = std::str::from_utf8(source).map_err(|err| format!("not UTF-8 text: {err}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = array_start(text)?;
    let (before, array) = text.split_at(start);
    let mut reader = serde_json::Deserializer::from_str(array);
    match Json::deserialize(&mut reader) {
        Ok(Json::Array(list)) => Ok(list),
        Ok(other) => Err(format!("expected an array, found {}", other.kind())),
        Err(err) => {
            let place = format!(" at line {} column {}", err.line(), err.column());
            let message = err.to_string();
            let message = message.strip_suffix(&place).unwrap_or(&message);
            let line = before.matches('\n').count() + err.line();
            let column = match err.line() {
                1 => before.len() - before.rfind('\n').map_or(0, |at| at + 1) + err.column(),
                _ => err.column(),
            };
            let cut = if err.is_eof() {
                "; the file is cut off"
            } else {
                ""
            };
            Err(format!("line {line}, column {column}: {message}{cut}"))
        }
    }
}

/// The start of the array: at the start, or after the first `const NAME =` (or `var`, `let`) that
/// assigns one.
fn array_start(text: &str) -> Result<usize, String> {
    let body = text.trim_start();
    if body.starts_with('[') {
        return Ok(text.len() - body.len());
    }
    if body.starts_with('<') {
        return Err("this is an HTML page, not an API dump (a login or error page?)".to_owned());
    }
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        // Blank lines start nothing; without this check each would be read again for each line
        // before it.
        if !line.trim_start().is_empty()
            && let Some(offset) = assignment(&text[at..])
        {
            return Ok(at + offset);
        }
        at += line.len();
    }
    Err("no API dump: found neither a JSON array nor `const … = [`".to_owned())
}

/// The offset of the `[` if `text` begins with an assignment of an array.
fn assignment(text: &str) -> Option<usize> {
    let rest = text.trim_start();
    let rest = ["const", "var", "let"]
        .into_iter()
        .find_map(|word| rest.strip_prefix(word))?;
    let name = rest.trim_start();
    if name.len() == rest.len() {
        return None;
    }
    let rest = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if rest.len() == name.len() {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    rest.starts_with('[').then_some(text.len() - rest.len())
}
