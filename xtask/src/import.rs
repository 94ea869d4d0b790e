//! `cargo xtask import`: writes `schema/<product>/<release>.json` from an official API dump.

use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::apidoc::{self, Origin};
use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::Product;

use crate::source::{self, Tls};
use crate::{Outcome, files, say, workspace};

/// Import an official API dump into the schema folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The dump: a file (apidoc.js, apidata.js, or the bare JSON array), the URL of one, or a host of
    /// Proxmox VE such as https://pve:8006, which serves its own
    source: String,
    /// The release the dump is of, such as 9.2
    #[arg(long)]
    release: Release,
    /// Version of the package that shipped the dump [default: as recorded for the same source, else unknown]
    #[arg(long)]
    package_version: Option<String>,
    /// Folder to write to [default: schema/ of this workspace]
    #[arg(long)]
    schema_dir: Option<PathBuf>,
    /// Import although the dump does not look like one of this product and release
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    tls: Tls,
}

pub(crate) fn run(product: &'static Product, args: &Args) -> Outcome {
    let Some(source) = source::read(&args.source, product, &args.tls)? else {
        return Ok(());
    };
    let folder = match &args.schema_dir {
        Some(folder) => folder.join(product.name),
        None => product.schema(workspace()),
    };
    let target = folder.join(format!("{}.json", args.release));
    let old = fs::read_to_string(&target).ok();

    let mut origin = Origin {
        product,
        release: args.release,
        package_version: args.package_version.clone(),
    };
    if origin.package_version.is_none() {
        let recorded = old.as_deref().and_then(|text| facts_json::read(text).ok());
        origin.package_version = recorded
            .filter(|facts| facts.source_sha256 == apidoc::sha256(&source))
            .and_then(|facts| facts.package_version);
    }
    let facts = apidoc::parse(&source, &origin).map_err(|problems| {
        let lines: Vec<String> = problems
            .lines()
            .iter()
            .map(|problem| format!("{}: {problem}", args.source))
            .collect();
        let left = match old {
            Some(_) => "unchanged",
            None => "not written",
        };
        format!("{}\n{} {left}", lines.join("\n"), target.display())
    })?;
    let doubts = doubts(&facts, product, &folder);
    if !doubts.is_empty() && !args.force {
        return Err(format!(
            "{}:\n  {}\nnothing was written; --force imports it all the same",
            args.source,
            doubts.join("\n  ")
        ));
    }

    let text = facts_json::write(&facts);
    let same = old.as_deref() == Some(text.as_str());
    if !same {
        files::write(&target, &text)?;
    }
    let note = if same { " (unchanged)" } else { "" };
    say(&format!("{}{}{note}\n", summary(&facts), target.display()))
}

/// Signs that a dump is of another product or release than given.
fn doubts(facts: &Facts, product: &Product, folder: &Path) -> Vec<String> {
    let mut doubts = Vec::new();
    match Product::of(facts.endpoints.keys().map(String::as_str)) {
        Some(seen) if seen != product => {
            doubts.push(format!("its paths are those of {seen}, not of {product}"));
        }
        _ => {}
    }
    let mut others: Vec<Facts> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| facts_json::read(&text).ok())
        .filter(|other| other.release != facts.release)
        .collect();
    others.sort_by_key(|other| other.release);
    for other in &others {
        if other.source_sha256 == facts.source_sha256 {
            doubts.push(format!(
                "the same file was imported as release {}",
                other.release
            ));
        }
    }
    let count = |facts: &Facts| facts.endpoints.values().flatten().count();
    let before = others
        .iter()
        .rfind(|other| other.release < facts.release)
        .filter(|other| count(other) > count(facts));
    if let Some(before) = before {
        doubts.push(format!(
            "it has {} methods, fewer than the {} of release {}",
            count(facts),
            count(before),
            before.release
        ));
    }
    let after = others
        .iter()
        .find(|other| other.release > facts.release)
        .filter(|other| count(other) < count(facts));
    if let Some(after) = after {
        doubts.push(format!(
            "it has {} methods, more than the {} of release {}",
            count(facts),
            count(after),
            after.release
        ));
    }
    doubts
}

fn summary(facts: &Facts) -> String {
    let methods = facts.endpoints.values().flatten();
    let parameters: usize = methods
        .clone()
        .map(|(_, endpoint)| endpoint.parameters.properties.len())
        .sum();
    format!(
        "{} {}{}: {} paths, {} methods, {parameters} parameters, {} named formats with known keys\n",
        facts.product,
        facts.release,
        facts
            .package_version
            .as_ref()
            .map_or(String::new(), |version| format!(" (package {version})")),
        facts.endpoints.len(),
        methods.count(),
        facts.formats.len(),
    )
}
