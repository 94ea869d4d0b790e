//! Where a value stands in the API.

use crate::facts::Method;

/// A place where an item stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) path: String,
    pub(crate) method: Method,
    /// Names down to it; empty for a result itself.
    pub(crate) fields: Vec<String>,
    /// It is an element of the array at that place.
    pub(crate) element: bool,
    /// It is part of the result, not of the parameters.
    pub(crate) result: bool,
    /// The property string it is part of.
    pub(crate) owner: Option<String>,
}

impl Use {
    /// `GET /pools`
    pub(crate) fn endpoint(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The way overlays name it: `GET /pools?type` is a parameter, `GET /pools#type` part of the result.
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
