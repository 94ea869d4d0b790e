//! `cargo xtask regen`: writes the generated crate from `schema/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::generate::{self, Input, Output};
use proxmox_codegen::surface;

use crate::files::{self, files_below, read, relative};
use crate::product::PVE;
use crate::{Outcome, say, workspace};

/// Write the generated part of the crate from the committed schema, offline.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; list what differs and fail if anything does
    #[arg(long)]
    check: bool,
    /// Write the crate although code that uses the one on disk may no longer compile, or send something else
    #[arg(long, conflicts_with = "check")]
    allow_breaking: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let root = workspace();
    let output = generate(&root)?;
    check_features(&root, &output)?;
    let generated = PVE.code(&root);
    let mut wanted: BTreeMap<PathBuf, &str> = output
        .files
        .iter()
        .map(|(name, text)| (generated.join(name), text.as_str()))
        .collect();
    let proof = PVE.proof(&root);
    wanted.extend(
        output
            .proof
            .iter()
            .map(|(name, text)| (proof.join(name), text.as_str())),
    );
    wanted.insert(PVE.lock(&root), &output.lock);
    let mut present = files_below(&generated)?;
    present.extend(files_below(&proof)?);
    let stray: Vec<&PathBuf> = present
        .iter()
        .filter(|path| !wanted.contains_key(*path))
        .collect();
    let mut differing = Vec::new();
    for (path, text) in &wanted {
        match fs::read_to_string(path) {
            Ok(old) if old == **text => {}
            Ok(_) => differing.push((path, "differs")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                differing.push((path, "is missing"));
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    let name = |path: &Path| {
        path.strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    if args.check {
        let mut list: Vec<String> = differing
            .iter()
            .map(|(path, what)| format!("{} {what}", name(path)))
            .collect();
        list.extend(stray.iter().map(|path| format!("{} is stray", name(path))));
        if !list.is_empty() {
            return Err(format!(
                "the generated crate is not what the schema says; run `cargo xtask regen`:\n  {}",
                list.join("\n  ")
            ));
        }
    } else {
        if !args.allow_breaking {
            refuse_breaks(&generated, &output)?;
        }
        let changed = differing
            .iter()
            .map(|(path, _)| ((*path).clone(), wanted[*path]))
            .collect();
        files::write_all(&changed)?;
        for path in stray {
            fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let changed = match args.check {
        true => "nothing differs".to_owned(),
        false => format!("{} files written, the rest was up to date", differing.len()),
    };
    say(&format!("{}\n{changed}\n", output.report))
}

/// How many breaks are named.
const SHOWN: usize = 60;

/// Compares the crate on disk with the one to be.
fn refuse_breaks(folder: &Path, output: &Output) -> Outcome {
    let mut old = BTreeMap::new();
    for path in files_below(folder)? {
        old.insert(relative(folder, &path), read(&path)?);
    }
    let (Ok(old), Ok(new)) = (surface::collect(&old), surface::collect(&output.files)) else {
        // What is no Rust on disk has no users; regenerating mends it.
        return Ok(());
    };
    let breaks = surface::compare(&old, &new).breaks;
    if breaks.is_empty() {
        return Ok(());
    }
    let more = match breaks.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    Err(format!(
        "{} changes break code that uses the crate on disk:\n  {}{more}\nnothing was written. If they are meant, run \
         `cargo xtask regen --allow-breaking` and name them in CHANGELOG.md",
        breaks.len(),
        breaks[..breaks.len().min(SHOWN)].join("\n  ")
    ))
}

/// Generates from the schema folder of the workspace.
pub(crate) fn generate(root: &Path) -> Result<Output, String> {
    generate_from(&read_input(root)?)
}

pub(crate) fn generate_from(input: &Input) -> Result<Output, String> {
    generate::generate(input)
        .map_err(|problems| format!("{} problems:\n  {}", problems.len(), problems.join("\n  ")))
}

/// Everything there is to generate from.
pub(crate) fn read_input(root: &Path) -> Result<Input, String> {
    let schema = PVE.schema(root);
    let mut input = Input::default();
    let entries =
        fs::read_dir(&schema).map_err(|error| format!("{}: {error}", schema.display()))?;
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", schema.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            input
                .releases
                .insert(relative(&schema, &path), read(&path)?);
        }
    }
    let overlay = PVE.overlay(root);
    for path in files_below(&overlay)? {
        input
            .overlay
            .insert(relative(&overlay, &path), read(&path)?);
    }
    let lock = PVE.lock(root);
    if lock.exists() {
        input.lock = Some(read(&lock)?);
    }
    Ok(input)
}

/// The manifest is written by hand; its features have to name the areas.
fn check_features(root: &Path, output: &Output) -> Outcome {
    let path = root.join("proxmox-api/Cargo.toml");
    let manifest: toml::Table =
        toml::from_str(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let list = |name: &str| -> Option<Vec<String>> {
        let list = features?.get(name)?.as_array()?;
        Some(
            list.iter()
                .filter_map(|entry| entry.as_str().map(str::to_owned))
                .collect(),
        )
    };
    let mut problems = Vec::new();
    for (feature, needs) in &output.features {
        if list(feature).as_ref() != Some(needs) {
            problems.push(format!("{feature} = {needs:?}"));
        }
    }
    let full = list("full").unwrap_or_default();
    let missing: Vec<_> = output
        .features
        .keys()
        .filter(|name| !full.contains(name))
        .collect();
    if !missing.is_empty() {
        problems.push(format!("full lacks {missing:?}"));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "proxmox-api/Cargo.toml: the features do not match the areas; wanted:\n  {}",
            problems.join("\n  ")
        )),
    }
}
