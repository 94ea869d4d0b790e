//! `cargo xtask next`: guides a person through a new release, from the import to a green gate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proxmox_codegen::diff;
use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;
use proxmox_codegen::generate::{self, Output};
use proxmox_codegen::product::Product;

use crate::{Outcome, coverage, files, regen, say, workspace};

/// Show what is left to do for the newest release, with the commands and the lines to paste
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release to track [default: the newest one in schema/]
    #[arg(long)]
    release: Option<Release>,
    /// The number of lines that are shown for each step
    #[arg(long, default_value_t = 60)]
    lines: usize,
}

/// A step of a new release.
struct Step {
    title: &'static str,
    /// Information.
    notes: Vec<String>,
    /// The remaining work; empty if it is done.
    todo: Vec<String>,
}

impl Step {
    fn new(title: &'static str) -> Self {
        Self {
            title,
            notes: Vec::new(),
            todo: Vec::new(),
        }
    }
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let root = workspace();
    let mut steps = Vec::new();
    let complete = walk(product, args, &root, &mut steps)?;
    let mut text = String::new();
    let mut open = 0;
    for (number, step) in steps.iter().enumerate() {
        let state = if step.todo.is_empty() {
            "done"
        } else {
            "TO DO"
        };
        text.push_str(&format!("{}. {} - {state}\n", number + 1, step.title));
        for line in &step.notes {
            text.push_str(&format!("     {}\n", line.replace('\n', "\n     ")));
        }
        for line in step.todo.iter().take(args.lines) {
            text.push_str(&format!("   * {}\n", line.replace('\n', "\n     ")));
        }
        if let Some(more) = step
            .todo
            .len()
            .checked_sub(args.lines)
            .filter(|more| *more > 0)
        {
            text.push_str(&format!("   and {more} more; --lines shows them\n"));
        }
        open += step.todo.len();
    }
    if complete && open == 0 {
        text.push_str(
            "\nAll steps that this command can check are done. Now `.ci/run` and `cargo xtask budget`; then commit the overlay, and the \
             generated files by themselves.\n",
        );
        return say(&text);
    }
    say(&text)?;
    let things = if open == 1 { "thing" } else { "things" };
    let rest = match complete {
        true => "",
        false => "; further steps can be looked at once these are done",
    };
    Err(format!("{open} {things} left to do{rest}"))
}

/// Adds one step after the other; false if the next one needs the last one done.
fn walk(
    product: &Product,
    args: &Args,
    root: &Path,
    steps: &mut Vec<Step>,
) -> Result<bool, String> {
    let schema = product.schema("");
    let releases = releases(product, root)?;
    let newest = releases.keys().next_back().copied();
    let Some(release) = args.release.or(newest) else {
        return Err(format!("{}: contains no release", schema.display()));
    };

    let mut import = Step::new("Import the dump");
    let Some(facts) = releases.get(&release) else {
        import.todo.push(format!(
            "cargo xtask import https://NODE:{} --release {release} --package-version {release}.… --fingerprint AB:CD:…",
            product.port
        ));
        import.todo.push(
            "what the importer does not know ends it with the place: find out what it means, teach codegen/src/apidoc, \
             with a test in codegen/tests/apidoc.rs"
                .to_owned(),
        );
        steps.push(import);
        return Ok(false);
    };
    let count = |facts: &Facts| facts.endpoints.values().flatten().count();
    import.notes.push(format!(
        "{}/{release}.json: {} methods; commit it alone",
        schema.display(),
        count(facts)
    ));
    steps.push(import);

    let before = releases.range(..release).next_back();
    let mut fresh = Vec::new();
    let mut read = Step::new("Read the changes");
    if let Some((from, old)) = before {
        let changes = diff::compare(old, facts);
        read.notes.push(format!(
            "{} endpoints added, {} removed, {} changed: cargo xtask diff {from} {release}",
            changes.added.len(),
            changes.removed.len(),
            changes.changed.len()
        ));
        fresh = changes.added;
    }
    steps.push(read);

    let mut settle = Step::new("Make the decisions in the overlay");
    let input = regen::read_input(product, root)?;
    let output = match generate::generate(&input) {
        Ok(output) => output,
        Err(problems) => {
            settle.todo = problems;
            steps.push(settle);
            return Ok(false);
        }
    };
    settle.notes = areas(&input.overlay, &fresh);
    steps.push(settle);

    let mut write = Step::new("Write the crate");
    let stale = regen::stale(product, root, &output)?;
    if !stale.is_empty() {
        let breaks = regen::breaks(&product.code(root), &output)?;
        match breaks.is_empty() {
            true => write.todo.push("cargo xtask regen".to_owned()),
            false => {
                write.todo.extend(
                    breaks
                        .into_iter()
                        .map(|line| format!("breaks callers: {line}")),
                );
                write.todo.push(
                    "keep what callers know (`[renamed]`, `[names]` and `[enums]` of names.toml, a patch), or name it in CHANGELOG.md and \
                     run `cargo xtask regen --allow-breaking`"
                        .to_owned(),
                );
            }
        }
    }
    steps.push(write);
    steps.push(describe(&output, &fresh));

    let mut counts = Step::new("Record the counts");
    counts.todo = coverage::lag(product, root, &output)?;
    steps.push(counts);

    let mut documents = Step::new("Name the release in the documentation");
    for (file, where_) in [
        ("README.md", "the releases that are tracked"),
        ("schema/README.md", "where its dump comes from"),
        ("CHANGELOG.md", "additions and breaking changes"),
    ] {
        let text = files::read(&root.join(file))?;
        if !names(&text, release) {
            documents.todo.push(format!("{file}: {where_}"));
        }
    }
    steps.push(documents);
    Ok(true)
}

/// The tracked releases.
fn releases(product: &Product, root: &Path) -> Result<BTreeMap<Release, Facts>, String> {
    let folder = product.schema(root);
    let mut found = BTreeMap::new();
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", folder.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let facts = facts_json::read(&files::read(&path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            found.insert(facts.release, facts);
        }
    }
    Ok(found)
}

/// The module of each new endpoint; nothing else asks whether it needs an area of its own.
fn areas(overlay: &BTreeMap<String, String>, fresh: &[diff::Name]) -> Vec<String> {
    let tables = overlay
        .values()
        .filter_map(|text| toml::from_str::<toml::Table>(text).ok());
    let areas: Vec<(String, String)> = tables
        .flat_map(|table| table.get("area").and_then(toml::Value::as_array).cloned())
        .flatten()
        .filter_map(|area| {
            let text = |key: &str| Some(area.get(key)?.as_str()?.to_owned());
            Some((text("prefix")?, text("name")?))
        })
        .collect();
    let mut by_area: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for endpoint in fresh {
        let below = |prefix: &str| {
            let rest = endpoint.path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let area = areas.iter().filter(|(prefix, _)| below(prefix));
        if let Some((_, name)) = area.max_by_key(|(prefix, _)| prefix.len()) {
            by_area.entry(name).or_default().push(endpoint.to_string());
        }
    }
    let lines = by_area.into_iter().map(|(area, endpoints)| {
        format!(
            "goes to the module `{area}`: {} (one of its own is an `[[area]]` in areas.toml)",
            endpoints.join(", ")
        )
    });
    lines.collect()
}

fn describe(output: &Output, fresh: &[diff::Name]) -> Step {
    let mut step = Step::new("Write documentation for new items");
    let report = &output.report;
    for endpoint in &report.undescribed {
        step.todo.push(format!(
            "docs.toml: `\"{endpoint}\" = \"…\"` under [endpoints]"
        ));
    }
    let mut listed: Vec<(&str, &str)> = Vec::new();
    let (types, fields): (Vec<&String>, Vec<&String>) =
        (report.undocumented_places.iter()).partition(|place| place.starts_with("type "));
    for place in types {
        let name = place.trim_start_matches("type ");
        step.todo.push(format!(
            "types.toml: `{name} = \"…\"` under [types]: its fields are described differently, and it needs words that fit all"
        ));
    }
    let mut places: Vec<(&str, &str, &String)> = (fields.into_iter())
        .map(|place| {
            let (endpoint, field) = place.split_once(['?', '#']).unwrap_or((place, ""));
            let path = endpoint.split_once(' ').map_or(endpoint, |(_, path)| path);
            (path, field.trim_end_matches("[]"), place)
        })
        .collect();
    places.sort();
    for (path, field, place) in places {
        // An entry covers everything below its path.
        if listed
            .iter()
            .any(|(above, name)| *name == field && path.starts_with(above))
        {
            continue;
        }
        listed.push((path, field));
        step.todo.push(format!(
            "docs.toml: `\"{field}\" = \"…\"` under [fields.\"{path}\"]   ({place})"
        ));
    }
    for endpoint in &report.returns_untyped {
        step.todo.push(format!(
            "the answer of {endpoint} has no type: a patch of `/returns`, or `\"{endpoint}\" = \"why it has none\"` under [open] of \
             open.toml"
        ));
    }
    let is_new = |place: &str| {
        fresh
            .iter()
            .any(|name| place.starts_with(&format!("{name}#")))
    };
    let unsourced: Vec<&str> = (report.required_without_reason.iter())
        .map(String::as_str)
        .filter(|place| is_new(place))
        .collect();
    if !unsourced.is_empty() {
        step.notes.push(format!(
            "optional here, because nothing shows that they always come: {} (one is required with `\"PLACE\" = \"PACKAGE FILE:LINE\"` in \
             required.toml)",
            unsourced.join(", ")
        ));
    }
    for endpoint in &report.privileges_unreviewed {
        step.todo.push(format!(
            "privileges.toml: what the handler of {endpoint} checks, or `\"{endpoint}\" = \"PACKAGE FILE:LINE\"` under [declared]"
        ));
    }
    step
}

/// Whether a text names a release, and not only a longer number.
fn names(text: &str, release: Release) -> bool {
    let name = release.to_string();
    text.match_indices(&name).any(|(at, _)| {
        let digit = |c: char| c.is_ascii_digit();
        let rest = &text[at + name.len()..];
        let longer = rest.starts_with(digit);
        !longer && !text[..at].ends_with(|c: char| digit(c) || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_recognized_by_its_whole_number() {
        let release: Release = "9.3".parse().unwrap_or(Release { major: 0, minor: 0 });
        for (text, named) in [
            ("9.0 to 9.3.", true),
            ("`9.3`", true),
            ("19.3", false),
            ("9.30", false),
            ("1.9.3", false),
        ] {
            assert_eq!(names(text, release), named, "{text}");
        }
    }
}
