//! The files of `schema/pve`, and the overlay entries that the simulator shares with the generator.

use std::sync::LazyLock;

/// All of `schema/pve`, by path below it.
pub(crate) const SCHEMA: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// The overlay's files. As in the generator, an entry may be in any file.
static OVERLAY: LazyLock<Vec<toml::Table>> = LazyLock::new(|| {
    let files = crate::embedded::SCHEMA.iter();
    let files = files.filter(|(name, _)| name.starts_with("overlay/") && name.ends_with(".toml"));
    files
        .filter_map(|(_, text)| toml::from_str(text).ok())
        .collect()
});

/// The tables of a section, in all files.
pub(crate) fn section(name: &'static str) -> impl Iterator<Item = &'static toml::Table> {
    let files = OVERLAY.iter();
    files.filter_map(move |file| file.get(name)?.as_table())
}
