//! Property strings whose keys the dump shows only in a usage line, such as `[[enabled=]<1|0>]
//! [,storage=<storage ID>]`.
//!
//! A usage line is a sequence of parts. Square brackets around a part make it optional; square
//! brackets around `key=` alone mark the key that may be omitted. Angle brackets hold a type, a set
//! of values, or a hint for people; a hint only means that the value is a string.

use crate::facts::{Schema, Schemas, Type};

/// Words in angle brackets that stand for a whole number.
const INTEGERS: [&str; 5] = ["integer", "N", "COUNT", "SECONDS", "PORT"];

/// The keys of the property string, or the problem with the line.
pub(crate) fn parse(text: &str) -> Result<Schemas, String> {
    let mut keys = Schemas::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, schema, after) = part(rest)?;
        if schema.default_key && keys.values().any(|known| known.default_key) {
            return Err(format!("{name:?} is the second key that may be omitted"));
        }
        if keys.insert(name.to_owned(), schema).is_some() {
            return Err(format!("the key {name:?} appears twice"));
        }
        rest = after.trim_start();
    }
    if keys.is_empty() {
        return Err("no key found".to_owned());
    }
    Ok(keys)
}

fn part(text: &str) -> Result<(&str, Schema, &str), String> {
    let bare = text.strip_prefix(',').unwrap_or(text);
    if let Some((name, default_key, rest)) = key(bare) {
        let (mut schema, rest) = value(rest, ' ')?;
        schema.default_key = default_key;
        return Ok((name, schema, rest));
    }
    let optional = text.strip_prefix('[').and_then(|inner| {
        let inner = inner.strip_prefix(',').unwrap_or(inner);
        key(inner)
    });
    let Some((name, default_key, rest)) = optional else {
        return Err(format!("expected `key=` at {text:?}"));
    };
    let (mut schema, rest) = value(rest, ']')?;
    let Some(rest) = rest.strip_prefix(']') else {
        return Err(format!("expected `]` after the value of {name:?}"));
    };
    schema.default_key = default_key;
    schema.optional = true;
    Ok((name, schema, rest))
}

/// `name=` or `[name=]`, and the rest.
fn key(text: &str) -> Option<(&str, bool, &str)> {
    let (default_key, text) = match text.strip_prefix('[') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))?;
    let (name, rest) = text.split_at(end);
    let rest = rest.strip_prefix(if default_key { "=]" } else { "=" })?;
    (!name.is_empty()).then_some((name, default_key, rest))
}

/// A value up to `end`, which stays in the rest.
fn value(text: &str, end: char) -> Result<(Schema, &str), String> {
    if let Some(inner) = text.strip_prefix('<') {
        let Some((hint, rest)) = inner.split_once('>') else {
            return Err(format!("no `>` in {text:?}"));
        };
        return Ok((in_brackets(hint), rest));
    }
    let mut depth = 0_usize;
    let stop = text.char_indices().find(|&(_, c)| {
        if depth == 0 && c == end {
            return true;
        }
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        false
    });
    let (bare, rest) = text.split_at(stop.map_or(text.len(), |(at, _)| at));
    if bare.is_empty() {
        return Err(format!("expected a value at {text:?}"));
    }
    let ty = if bare == r"\d+" {
        Type::Integer
    } else {
        Type::String
    };
    Ok((Schema::of(ty), rest))
}

fn in_brackets(hint: &str) -> Schema {
    match hint {
        "1|0" | "boolean" => Schema::of(Type::Boolean),
        "number" => Schema::of(Type::Number),
        _ if INTEGERS.contains(&hint) => Schema::of(Type::Integer),
        _ => Schema {
            values: choices(hint),
            ..Schema::of(Type::String)
        },
    }
}

/// The values of `a|b|c`, unless one of them is not a literal but, for example, the range in
/// `8-64|host`.
fn choices(hint: &str) -> Option<Vec<String>> {
    let literal = |text: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(word)
    };
    let list: Vec<&str> = hint.split('|').collect();
    (list.len() > 1 && list.iter().all(|text| literal(text)))
        .then(|| list.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse(text) {
            Ok(keys) => keys
                .iter()
                .map(|(name, key)| {
                    format!(
                        "{name}:{}{}{}{}",
                        key.ty.map_or("-", Type::name),
                        if key.optional { "?" } else { "" },
                        if key.default_key { "!" } else { "" },
                        key.values
                            .as_ref()
                            .map_or(String::new(), |v| format!("{v:?}")),
                    )
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(message) => format!("error: {message}"),
        }
    }

    #[test]
    fn optional_default_key_and_flags() {
        assert_eq!(
            show("[[alpha=]<1|0>] [,beta=<some thing>] [,gamma=<N>]"),
            "alpha:boolean?! beta:string? gamma:integer?"
        );
    }

    #[test]
    fn required_keys() {
        assert_eq!(
            show("[kind=]<kind name> ,flag=<1|0> [,size=<integer>]"),
            "flag:boolean kind:string! size:integer?"
        );
        assert_eq!(
            show("token=<A=B!C> ,host=<H> [,x=<y>]"),
            "host:string token:string x:string?"
        );
    }

    #[test]
    fn values_only_where_all_are_literal() {
        assert_eq!(show("[a=<x|y-1>]"), r#"a:string?["x", "y-1"]"#);
        assert_eq!(show("[[a=]</d/x|/d/y>]"), r#"a:string?!["/d/x", "/d/y"]"#);
        assert_eq!(show("[a=<8-64|host>]"), "a:string?");
        assert_eq!(show("[a=<enum>]"), "a:string?");
        assert_eq!(show("[a=<[abc]{1,4}>]"), "a:string?");
        assert_eq!(show("[a=<X[;Y...]>]"), "a:string?");
    }

    #[test]
    fn values_without_angle_brackets() {
        assert_eq!(show(r"[[a=]\d+] [,b=\d+] "), "a:integer?! b:integer?");
        assert_eq!(
            show("[a=([x];[y])|none] [,b=<1|0>]"),
            "a:string? b:boolean?"
        );
    }

    #[test]
    fn invalid_usage_lines_are_errors() {
        for text in [
            "",
            "<a>",
            "[a]",
            "[a=]",
            "[a=<b]",
            "[a=<b> ,c=<d>",
            "[a=<b>] [,a=<c>]",
            "[[a=]<b>] [,[c=]<d>]",
            "=<x>",
        ] {
            assert!(
                show(text).starts_with("error: "),
                "{text:?} gave {}",
                show(text)
            );
        }
    }
}
