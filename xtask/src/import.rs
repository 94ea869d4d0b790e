//! `cargo xtask import`: an official API dump becomes `schema/<product>/<release>.json`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use proxmox_codegen::apidoc::{self, Origin, Product};
use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;

use crate::source::{self, Tls};
use crate::{Outcome, say, workspace};

/// Import an official API dump into the schema folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The dump: a file (apidoc.js, apidata.js, or the bare JSON array), the URL of one, or a Proxmox VE
    /// host such as https://pve:8006, which serves its own
    source: String,
    /// pve, pbs, pmg or pdm
    #[arg(long, default_value = "pve")]
    product: Product,
    /// The release the dump is of, such as 9.2
    #[arg(long)]
    release: Release,
    /// Version of the package that shipped the dump [default: as recorded for the same source, else unknown]
    #[arg(long)]
    package_version: Option<String>,
    /// Folder to write to [default: schema/ of this workspace]
    #[arg(long)]
    schema_dir: Option<PathBuf>,
    #[command(flatten)]
    tls: Tls,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(source) = source::read(&args.source, args.product, &args.tls)? else {
        return Ok(());
    };
    let folder = args
        .schema_dir
        .clone()
        .unwrap_or_else(|| workspace().join("schema"))
        .join(args.product.to_string());
    let target = folder.join(format!("{}.json", args.release));
    let old = fs::read_to_string(&target).ok();

    let mut origin = Origin {
        product: args.product,
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
            .0
            .iter()
            .map(|problem| format!("{}: {problem}", args.source))
            .collect();
        format!("{}\n{} left as it was", lines.join("\n"), target.display())
    })?;

    let text = facts_json::write(&facts);
    let same = old.as_deref() == Some(text.as_str());
    if !same {
        replace(&target, text.as_bytes()).map_err(|err| format!("{}: {err}", target.display()))?;
    }
    let note = if same { " (unchanged)" } else { "" };
    say(&format!("{}{}{note}\n", summary(&facts), target.display()))
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

/// Writes a file so that it is either the old one or the whole new one.
fn replace(target: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // A temporary file is private by default; a schema file is for everybody the umask allows.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".import-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}
