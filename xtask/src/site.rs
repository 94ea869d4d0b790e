//! `cargo xtask site`: every call on one page that searches itself, without a server.

use std::path::PathBuf;

use proxmox_codegen::{generate, site};

use crate::{Outcome, files, regen, say, workspace};

/// Write a page in which every call can be found
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    #[arg(long, default_value = "target/site/index.html")]
    output: PathBuf,
    /// Where the crate's documentation is, from the page on
    #[arg(long, default_value = "../doc/proxmox_api")]
    rustdoc: String,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let input = regen::read_input(&workspace())?;
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
