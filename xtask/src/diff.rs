//! `cargo xtask diff`: the changes between two tracked releases, as Markdown.

use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::diff;
use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::Product;
use proxmox_codegen::surface;

use crate::{Outcome, regen, say, workspace};

/// Show the changes between two tracked releases
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release to start from, such as 9.1
    from: Release,
    /// The release to compare it with
    to: Release,
    /// Folder to read from [default: schema/ of this workspace]
    #[arg(long)]
    schema_dir: Option<PathBuf>,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let folder = match &args.schema_dir {
        Some(folder) => folder.join(product.name),
        None => product.schema(workspace()),
    };
    let old = load(&folder, args.from)?;
    let new = load(&folder, args.to)?;
    // Printed first, so that it is not lost if the crate cannot be generated.
    say(&diff::compare(&old, &new).to_string())?;
    let why = if product.expectations(workspace()).is_none() {
        "no code is generated for this product"
    } else if args.schema_dir.is_some() {
        "the overlay belongs to the schema of the workspace; leave --schema-dir out"
    } else if args.from >= args.to {
        "the crate grows with the releases; name the older one first"
    } else {
        return say(&crate_change(product, args)?);
    };
    say(&format!("\n### This crate\n\nNot compared: {why}.\n"))
}

/// The changes of the newer release in the generated crate, with all releases up to each.
fn crate_change(product: &Product, args: &Args) -> Result<String, String> {
    let input = regen::read_input(product, &workspace())?;
    let up_to = |release: Release| -> Result<surface::Surface, String> {
        let mut part = input.clone();
        part.partial = true;
        // The features are those of all releases.
        part.manifest = None;
        part.releases.retain(|name, _| {
            let known = name
                .strip_suffix(".json")
                .and_then(|name| name.parse::<Release>().ok());
            known.is_some_and(|known| known <= release)
        });
        surface::collect(&regen::generate_from(&part)?.files)
    };
    let change = surface::compare(&up_to(args.from)?, &up_to(args.to)?);
    let mut text = format!(
        "\n### This crate\n\n{} additions. {}\n",
        change.added,
        match change.breaks.len() {
            0 => "Nothing breaks.".to_owned(),
            n => format!("{n} changes that old code may notice:"),
        }
    );
    if !change.breaks.is_empty() {
        text.push('\n');
        for line in &change.breaks {
            text.push_str(&format!("- {line}\n"));
        }
    }
    Ok(text)
}

fn load(folder: &Path, release: Release) -> Result<Facts, String> {
    let path = folder.join(format!("{release}.json"));
    let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    facts_json::read(&text).map_err(|err| format!("{}: {err}", path.display()))
}
