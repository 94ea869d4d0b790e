//! Parameters that were renamed.

use crate::facts::{Facts, Method, Release};

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
    /// No release has it, or none has another name for it.
    Nothing,
    Wrong(String),
}

/// Names a parameter `old` in every release that names it `new`. The releases are in order, oldest
/// first.
pub(super) fn apply(
    endpoint: &str,
    old: &str,
    new: &str,
    releases: &mut [Facts],
) -> Result<Renamed, Problem> {
    let wrong = |problem: &str| Problem::Wrong(problem.to_owned());
    let (verb, path) = endpoint
        .split_once(' ')
        .ok_or_else(|| wrong("an endpoint is VERB /path"))?;
    let method: Method = verb.parse().map_err(Problem::Wrong)?;
    let mut before = false;
    let mut since = None;
    for facts in releases.iter_mut() {
        let release = facts.release;
        let methods = facts.endpoints.get_mut(path);
        let Some(found) = methods.and_then(|methods| methods.get_mut(&method)) else {
            continue;
        };
        let parameters = &mut found.parameters.properties;
        match (parameters.contains_key(old), parameters.remove(new)) {
            (true, Some(_)) => {
                return Err(Problem::Wrong(format!(
                    "release {release} has {old} beside it, so they are two parameters; name one of them under \
                     [names.\"{endpoint}\"]"
                )));
            }
            (true, None) if since.is_some() => {
                return Err(Problem::Wrong(format!(
                    "release {release} calls it {old} again"
                )));
            }
            (true, None) => before = true,
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
    match (before, since) {
        (true, Some(since)) => Ok(Renamed {
            old: old.to_owned(),
            new: new.to_owned(),
            since,
        }),
        _ => Err(Problem::Nothing),
    }
}
