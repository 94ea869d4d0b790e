//! `cargo xtask diff`: what changed between two tracked releases, as Markdown.

use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::apidoc::Product;
use proxmox_codegen::diff;
use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;

use crate::{Outcome, say, workspace};

/// Show what changed between two tracked releases
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release to start from, such as 9.1
    from: Release,
    /// The release to compare it with
    to: Release,
    /// pve, pbs, pmg or pdm
    #[arg(long, default_value = "pve")]
    product: Product,
    /// Folder to read from [default: schema/ of this workspace]
    #[arg(long)]
    schema_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let folder = args
        .schema_dir
        .clone()
        .unwrap_or_else(|| workspace().join("schema"))
        .join(args.product.to_string());
    let old = load(&folder, args.from)?;
    let new = load(&folder, args.to)?;
    say(&diff::compare(&old, &new).to_string())
}

fn load(folder: &Path, release: Release) -> Result<Facts, String> {
    let path = folder.join(format!("{release}.json"));
    let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    facts_json::read(&text).map_err(|err| format!("{}: {err}", path.display()))
}
