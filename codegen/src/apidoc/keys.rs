//! The keys that a schema may have.

use crate::product::Dialect;

/// The position of a schema, which determines its allowed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
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

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Parameters => "at the root of parameters",
            Place::Parameter => "on a parameter",
            Place::Returns => "at the root of returns",
            Place::Field => "on a field of the result",
            Place::Key => "on a key of a property string",
            Place::Format => "on the schema of a property string",
            Place::Tag => "on the schema of a union's tag",
        }
    }

    /// The place of nested schemas.
    pub(super) fn inner(self) -> Place {
        match self {
            Place::Parameters | Place::Parameter => Place::Parameter,
            Place::Returns | Place::Field => Place::Field,
            Place::Key | Place::Format | Place::Tag => Place::Key,
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
            (Dialect::Perl, Place::Parameters) => {
                return ["type", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Perl, Place::Parameter) => &[
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
            (Dialect::Perl, Place::Returns) => &[
                "properties",
                "additionalProperties",
                "items",
                "links",
                "renderer",
            ],
            (Dialect::Perl, Place::Field) => &[
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
            (Dialect::Perl, Place::Key) => &[
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
            (Dialect::Perl, Place::Format | Place::Tag) => return false,
            (Dialect::Rust, Place::Parameters) => {
                return ["description", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Rust, Place::Parameter) => {
                &["typetext", "properties", "additionalProperties", "items"]
            }
            (Dialect::Rust, Place::Returns) => &["properties", "additionalProperties", "items"],
            (Dialect::Rust, Place::Field) => &[
                "title",
                "typetext",
                "properties",
                "additionalProperties",
                "items",
                "oneOf",
                "typeProperty",
                "typeSchema",
            ],
            (Dialect::Rust, Place::Key) => &["typetext"],
            (Dialect::Rust, Place::Format) => {
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
            (Dialect::Rust, Place::Tag) => return ["type", "description", "enum"].contains(&key),
        };
        VALUE.contains(&key) || more.contains(&key)
    }
}
