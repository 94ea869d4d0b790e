//! `cargo xtask site`: one page with all calls and a search, without a server.

use std::path::PathBuf;

use proxmox_codegen::product::Product;
use proxmox_codegen::{generate, site};

use crate::{Outcome, files, regen, say, workspace};

/// Write a page with all calls and a search
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    #[arg(long, default_value = "target/site/index.html")]
    output: PathBuf,
    /// Path of the crate's documentation, relative to the page
    #[arg(long, default_value = "../doc/proxmox_api")]
    rustdoc: String,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let input = regen::read_input(product, &workspace())?;
    let catalog = generate::catalog(&input).map_err(|problems| problems.join("\n"))?;
    let page = site::page(&catalog, Some(&args.rustdoc))?;
    files::write(&args.output, &page)?;
    say(&format!(
        "{}: {} calls, {} kB\n",
        args.output.display(),
        catalog.calls.len(),
        page.len() / 1000
    ))
}
