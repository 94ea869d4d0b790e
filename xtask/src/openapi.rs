//! `cargo xtask openapi`: the API as an OpenAPI document.

use std::path::PathBuf;

use proxmox_codegen::facts::Release;
use proxmox_codegen::generate;
use proxmox_codegen::product::Product;

use crate::{Outcome, files, regen, say, workspace};

/// Write the API as an OpenAPI 3.1 document
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A tracked release, such as 9.2 [default: all of them together]
    #[arg(long)]
    release: Option<Release>,
    /// The file to write [default: standard output]
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let input = regen::read_input(product, &workspace())?;
    let document =
        generate::openapi(&input, args.release).map_err(|problems| problems.join("\n"))?;
    let mut text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
    text.push('\n');
    match &args.output {
        Some(path) => files::write(path, &text),
        None => say(&text),
    }
}
