//! `cargo xtask words`: checks that the documentation is not copied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::product::Product;
use serde_json::Value;

use crate::{Outcome, files, say, workspace};

/// The maximum length of a run of words that may occur in both; a longer one is copied.
const LONGEST: usize = 7;

/// Look for runs of more than seven words that also occur in an official dump
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An official dump; may be given several times
    #[arg(long, required = true)]
    against: Vec<PathBuf>,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let mut official = BTreeMap::new();
    for path in &args.against {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        collect(
            &dump(path, &text)?,
            &mut official,
            &path.display().to_string(),
        );
    }
    let root = workspace();
    let mut files = 0;
    let mut borrowed = Vec::new();
    let mut folders = vec![product.overlay(&root)];
    folders.extend(
        [
            "proxmox-api",
            "codegen",
            "xtask",
            "tests",
            "gateway",
            "docs",
            ".ci",
            ".github",
        ]
        .map(|name| root.join(name)),
    );
    let found = folders.iter().map(|folder| files::files_below(folder));
    for found in found.chain([top_level(&root)]) {
        let found = found?;
        for path in found.into_iter().filter(|path| is_text(path)) {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            files += 1;
            let file = path
                .strip_prefix(&root)
                .unwrap_or(&path)
                .display()
                .to_string();
            borrowed.extend(
                runs(&words(&text))
                    .filter_map(|run| official.get(&run).map(|from| (run, from)))
                    .map(|(run, from)| format!("{file}: \"{run}\" also occurs in {from}")),
            );
        }
    }
    let mut twice = Vec::new();
    for path in files::files_below(&product.code(&root))? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for paragraph in paragraphs(&text) {
            if let Some(what) = said_twice(&paragraph) {
                twice.push(format!("{}: {what}: {paragraph}", path.display()));
            }
        }
    }
    if !twice.is_empty() {
        return Err(format!(
            "repeated in one paragraph:\n  {}",
            twice.join("\n  ")
        ));
    }
    let summary = format!(
        "{} copied runs in {files} files (against {} official runs)\n",
        borrowed.len(),
        official.len()
    );
    match borrowed.is_empty() {
        true => say(&summary),
        false => Err(format!("{summary}  {}", borrowed.join("\n  "))),
    }
}

/// Paragraphs and list items of documentation comments, each as one line.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut code = false;
    for line in text.lines().map(str::trim).chain([""]) {
        let doc = line.strip_prefix("///").map(str::trim);
        let fence = doc.is_some_and(|line| line.starts_with("```"));
        code = doc.is_some() && (code != fence);
        let words = doc.filter(|line| !line.is_empty() && !code && !fence);
        if words.is_none_or(|line| line.starts_with("* ")) && !open.is_empty() {
            paragraphs.push(open.join(" "));
            open.clear();
        }
        open.extend(words);
    }
    paragraphs
}

/// A repetition in a paragraph of documentation: a sentence, a unit, or equal bounds of releases.
fn said_twice(paragraph: &str) -> Option<&'static str> {
    let sentences: Vec<&str> = paragraph.split_inclusive(". ").map(str::trim).collect();
    let repeated = sentences
        .iter()
        .enumerate()
        .any(|(at, sentence)| !sentence.is_empty() && sentences[..at].contains(sentence));
    if repeated {
        return Some("a sentence");
    }
    for (whole, sign) in [("In bytes.", "byte"), ("In seconds.", "second")] {
        let (own, other): (Vec<&str>, Vec<&str>) =
            sentences.iter().partition(|sentence| **sentence == whole);
        if !own.is_empty() && other.iter().any(|sentence| sentence.contains(sign)) {
            return Some("a unit");
        }
    }
    if ["; in the request", "; as a parameter"]
        .iter()
        .any(|sign| paragraph.contains(sign))
    {
        return Some("one place and another");
    }
    let starts = |word: &str| sentences.iter().any(|sentence| sentence.starts_with(word));
    (starts("Since ") && starts("Until ")).then_some("releases")
}

/// The JSON array of a dump, which may be inside a script.
fn dump(path: &Path, text: &str) -> Result<Value, String> {
    let start = text
        .find('[')
        .ok_or_else(|| format!("{}: no array in it", path.display()))?;
    serde_json::Deserializer::from_str(&text[start..])
        .into_iter()
        .next()
        .ok_or_else(|| format!("{}: no array in it", path.display()))?
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn collect(json: &Value, into: &mut BTreeMap<String, String>, from: &str) {
    match json {
        Value::Array(list) => list.iter().for_each(|json| collect(json, into, from)),
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key.ends_with("description") => {
                        for run in runs(&words(text)) {
                            into.entry(run).or_insert_with(|| from.to_owned());
                        }
                    }
                    value => collect(value, into, from),
                }
            }
        }
        _ => {}
    }
}

/// Comment marks are not words, so that a sentence over several comment lines is one run.
fn words(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches(['/', '!']));
    lines
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '\'' && c != '-'))
        .map(|word| word.trim_matches(['-', '\'']).to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

fn runs(words: &[String]) -> impl Iterator<Item = String> {
    words.windows(LONGEST + 1).map(|run| run.join(" "))
}

fn is_text(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| ["rs", "md", "toml"].contains(&extension))
}

fn top_level(root: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{paragraphs, said_twice};

    #[test]
    fn repetitions_are_found() {
        let found = [
            (
                "Memory in use, in bytes. In bytes. At least 0.",
                Some("a unit"),
            ),
            ("How long, in seconds. In seconds.", Some("a unit")),
            ("In bytes. In bytes.", Some("a sentence")),
            ("The value `a`. Since 9.0. Until 9.0.", Some("releases")),
            (
                "Kind of the zone; in the request, lists only zones of this kind.",
                Some("one place and another"),
            ),
            ("Memory in use. In bytes. At least 0. Since 9.0.", None),
            ("The value `a`. Only in 9.0.", None),
        ];
        for (line, wanted) in found {
            assert_eq!(said_twice(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_paragraph_is_read_over_its_lines() {
        let text = "/// How long it runs, in\n/// seconds. In seconds.\n///\n/// ```\n/// a. a.\n/// ```\n\
                    /// * one\n/// * two\nstruct S;";
        assert_eq!(
            paragraphs(text),
            [
                "How long it runs, in seconds. In seconds.",
                "* one",
                "* two"
            ]
        );
        assert_eq!(said_twice(&paragraphs(text)[0]), Some("a unit"));
    }
}
