//! Parameters that were renamed.

use super::patch::endpoint_of;
use crate::facts::{Facts, Release};

/// A parameter that is sent by another name since some release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// Its previous name, which callers use.
    pub(crate) old: String,
    pub(crate) new: String,
    /// The first release with the new name.
    pub(crate) since: Release,
}

pub(super) enum Problem {
    /// No release has the new name, or no earlier one has the old name.
    NotRenamed,
    Invalid(String),
}

/// Names a parameter `old` in every release that names it `new`. The releases are in order, oldest
/// first.
pub(super) fn apply(
    endpoint: &str,
    old: &str,
    new: &str,
    releases: &mut [Facts],
) -> Result<Renamed, Problem> {
    let mut has_old = false;
    let mut since = None;
    for facts in releases.iter_mut() {
        let release = facts.release;
        let Some(found) = endpoint_of(facts, endpoint).map_err(Problem::Invalid)? else {
            continue;
        };
        let parameters = &mut found.parameters.properties;
        match (parameters.contains_key(old), parameters.remove(new)) {
            (true, Some(_)) => {
                return Err(Problem::Invalid(format!(
                    "release {release} has {old} as well, so they are two parameters; name one of them under \
                     [names.\"{endpoint}\"]"
                )));
            }
            (true, None) if since.is_some() => {
                return Err(Problem::Invalid(format!(
                    "release {release} calls it {old} again"
                )));
            }
            (true, None) => has_old = true,
            (false, Some(schema)) => {
                since.get_or_insert(release);
                parameters.insert(old.to_owned(), schema);
            }
            (false, None) => {}
        }
        for other in parameters.values_mut() {
            if other.requires.as_deref() == Some(new) {
                other.requires = Some(old.to_owned());
            }
        }
    }
    match (has_old, since) {
        (true, Some(since)) => Ok(Renamed {
            old: old.to_owned(),
            new: new.to_owned(),
            since,
        }),
        _ => Err(Problem::NotRenamed),
    }
}
