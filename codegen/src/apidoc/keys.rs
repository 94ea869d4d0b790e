//! The keys that a schema may have.

use crate::product::Dialect;

/// The position of a schema, which determines its allowed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Parameters,
    Parameter,
    Returns,
    Field,
    /// A key of a property string.
    Key,
    /// The schema of a whole property string (Rust).
    Format,
    /// The property that distinguishes the alternatives of a union (Rust).
    Tag,
}

impl Position {
    pub(super) fn name(self) -> &'static str {
        match self {
            Position::Parameters => "at the root of parameters",
            Position::Parameter => "on a parameter",
            Position::Returns => "at the root of returns",
            Position::Field => "on a field of the result",
            Position::Key => "on a key of a property string",
            Position::Format => "on the schema of a property string",
            Position::Tag => "on the schema of a union's tag",
        }
    }

    /// The position of nested schemas.
    pub(super) fn inner(self) -> Position {
        match self {
            Position::Parameters | Position::Parameter => Position::Parameter,
            Position::Returns | Position::Field => Position::Field,
            Position::Key | Position::Format | Position::Tag => Position::Key,
        }
    }

    pub(super) fn allows(self, dialect: Dialect, key: &str) -> bool {
        const VALUE: &[&str] = &[
            "type",
            "description",
            "optional",
            "default",
            "enum",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "pattern",
            "format",
        ];
        let more: &[&str] = match (dialect, self) {
            (Dialect::Perl, Position::Parameters) => {
                return ["type", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Perl, Position::Parameter) => &[
                "verbose_description",
                "format_description",
                "title",
                "typetext",
                "items",
                "requires",
                "oneOf",
                "type-property",
                "instance-types",
            ],
            (Dialect::Perl, Position::Returns) => &[
                "properties",
                "additionalProperties",
                "items",
                "links",
                "renderer",
            ],
            (Dialect::Perl, Position::Field) => &[
                "verbose_description",
                "format_description",
                "title",
                "typetext",
                "properties",
                "additionalProperties",
                "items",
                "links",
                "renderer",
                "requires",
                "default_key",
                "oneOf",
                "type-property",
                "instance-types",
            ],
            (Dialect::Perl, Position::Key) => &[
                "verbose_description",
                "format_description",
                "typetext",
                "requires",
                "alias",
                "keyAlias",
                "default_key",
                "min",
                "max",
            ],
            (Dialect::Perl, Position::Format | Position::Tag) => return false,
            (Dialect::Rust, Position::Parameters) => {
                return ["description", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Rust, Position::Parameter) => {
                &["typetext", "properties", "additionalProperties", "items"]
            }
            (Dialect::Rust, Position::Returns) => &["properties", "additionalProperties", "items"],
            (Dialect::Rust, Position::Field) => &[
                "title",
                "typetext",
                "properties",
                "additionalProperties",
                "items",
                "oneOf",
                "typeProperty",
                "typeSchema",
            ],
            (Dialect::Rust, Position::Key) => &["typetext"],
            (Dialect::Rust, Position::Format) => {
                let known = [
                    "type",
                    "description",
                    "properties",
                    "additionalProperties",
                    "default_key",
                    "items",
                    "minLength",
                    "maxLength",
                ];
                return known.contains(&key);
            }
            (Dialect::Rust, Position::Tag) => {
                return ["type", "description", "enum"].contains(&key);
            }
        };
        VALUE.contains(&key) || more.contains(&key)
    }
}
