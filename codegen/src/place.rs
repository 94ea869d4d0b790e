//! The place of a value in the API.

use heck::ToUpperCamelCase;

use crate::facts::Method;

/// The place of an item or of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) method: Method,
    /// The names of the members that lead to it; empty for a result itself.
    pub(crate) fields: Vec<String>,
    /// It is an element of the array at that place.
    pub(crate) element: bool,
    /// It is part of the result, not of the parameters.
    pub(crate) result: bool,
    /// The property string it is part of.
    pub(crate) owner: Option<String>,
}

impl Place {
    /// `GET /pools`
    pub(crate) fn endpoint(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The overlay's notation: `GET /pools?type` is a parameter, `GET /pools#type` part of the
    /// result.
    pub(crate) fn key(&self) -> String {
        let element = if self.element { "[]" } else { "" };
        let role = if self.result { '#' } else { '?' };
        format!(
            "{} {}{role}{}{element}",
            self.method,
            self.path,
            self.fields.join(".")
        )
    }

    pub(crate) fn down(&self, name: &str) -> Self {
        let mut down = self.clone();
        down.fields.push(name.to_owned());
        down.element = false;
        down
    }

    pub(crate) fn element(&self) -> Self {
        Self {
            element: true,
            ..self.clone()
        }
    }
}

/// The words of a path for a name: `/qemu/{vmid}/config` is `QemuConfig`.
pub(crate) fn words(path: &str, placeholders: bool) -> String {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let mut words = String::new();
    for (position, segment) in segments.iter().enumerate() {
        let is_placeholder = segment.starts_with('{');
        if placeholders || !is_placeholder {
            let last_of_pair = !placeholders
                && position + 2 == segments.len()
                && segments[position + 1].starts_with('{');
            match last_of_pair {
                true => words.push_str(&singular(&camel(segment))),
                false => words.push_str(&camel(segment)),
            }
        }
    }
    words
}

fn camel(segment: &str) -> String {
    segment.trim_matches(['{', '}']).to_upper_camel_case()
}

/// The singular of a plural.
fn singular(word: &str) -> String {
    if ["Dns", "Zfs"].contains(&word) {
        // Names of systems, not plurals.
        word.to_owned()
    } else if let Some(stem) = word.strip_suffix("ies") {
        format!("{stem}y")
    } else if let Some(stem) = word.strip_suffix("ses").filter(|_| !word.ends_with("ases")) {
        format!("{stem}s")
    } else if let Some(stem) = word.strip_suffix("ases") {
        format!("{stem}as")
    } else if word.ends_with("ss") || word.ends_with("us") {
        word.to_owned()
    } else {
        word.strip_suffix('s').unwrap_or(word).to_owned()
    }
}

/// A field as part of a type's name.
pub(crate) fn camel_field(field: &str) -> String {
    match field {
        "*" => "Value".to_owned(),
        field => field
            .strip_suffix("[n]")
            .unwrap_or(field)
            .to_upper_camel_case(),
    }
}
