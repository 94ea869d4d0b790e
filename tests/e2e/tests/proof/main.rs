//! Every endpoint, every answer and every property string, held against the schema.

mod answers;
mod documents;
mod meaning;
mod members;
mod noise;
mod properties;
mod releases;
mod replay;
mod secrets;
mod settings;
mod strict;
mod wires;
