//! `cargo xtask regen`: writes the generated crate from `schema/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::generate::{self, Input, Output};
use proxmox_codegen::product::Product;
use proxmox_codegen::surface;

use crate::files::{self, files_below, read, relative};
use crate::{Outcome, say, workspace};

/// Write the generated part of the crate from the committed schema, offline.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; list the files that differ and fail if there are any
    #[arg(long)]
    check: bool,
    /// Write the crate although code that uses the present one may no longer compile, or may send
    /// something else
    #[arg(long, conflicts_with = "check")]
    allow_breaking: bool,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let root = workspace();
    let output = generate(product, &root)?;
    let Plan {
        wanted,
        differing,
        stray,
    } = Plan::new(product, &root, &output)?;
    if args.check {
        let list = stale(product, &root, &output)?;
        if !list.is_empty() {
            return Err(format!(
                "the generated crate does not match the schema; run `cargo xtask regen`:\n  {}",
                list.join("\n  ")
            ));
        }
    } else {
        if !args.allow_breaking {
            refuse_breaks(&product.code(&root), &output)?;
        }
        let changed = differing
            .iter()
            .map(|(path, _)| (path.clone(), wanted[path]))
            .collect();
        files::write_all(&changed)?;
        for path in stray {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let changed = match args.check {
        true => "nothing differs".to_owned(),
        false => format!("{} files written, the rest was up to date", differing.len()),
    };
    say(&format!("{}\n{changed}\n", output.report))
}

/// The wanted files, and those that differ on disk.
struct Plan<'a> {
    wanted: BTreeMap<PathBuf, &'a str>,
    differing: Vec<(PathBuf, &'static str)>,
    stray: Vec<PathBuf>,
}

impl<'a> Plan<'a> {
    fn new(product: &Product, root: &Path, output: &'a Output) -> Result<Self, String> {
        let generated = product.code(root);
        let mut wanted: BTreeMap<PathBuf, &str> = (output.files.iter())
            .map(|(name, text)| (generated.join(name), text.as_str()))
            .collect();
        let expectations = product
            .expectations(root)
            .ok_or_else(|| format!("no code of {product} is generated: its row in codegen/src/product.rs names no expectations"))?;
        let proofs = output.expectations.iter();
        wanted.extend(proofs.map(|(name, text)| (expectations.join(name), text.as_str())));
        wanted.insert(product.lock(root), &output.lock);
        let mut present = files_below(&generated)?;
        present.extend(files_below(&expectations)?);
        present.retain(|path| !wanted.contains_key(path));
        let mut differing = Vec::new();
        for (path, text) in &wanted {
            match fs::read_to_string(path) {
                Ok(old) if old == **text => {}
                Ok(_) => differing.push((path.clone(), "differs")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    differing.push((path.clone(), "is missing"));
                }
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Ok(Self {
            wanted,
            differing,
            stray: present,
        })
    }
}

/// The files on disk that differ from the schema's output.
pub(crate) fn stale(
    product: &Product,
    root: &Path,
    output: &Output,
) -> Result<Vec<String>, String> {
    let plan = Plan::new(product, root, output)?;
    let name = |path: &Path| relative(root, path);
    let differing = plan.differing.iter();
    let mut list: Vec<String> = differing
        .map(|(path, what)| format!("{} {what}", name(path)))
        .collect();
    let stray = plan.stray.iter();
    list.extend(stray.map(|path| format!("{} is stray", name(path))));
    Ok(list)
}

/// The number of breaking changes that are listed.
const SHOWN: usize = 60;

/// The breaking changes against the crate on disk.
pub(crate) fn breaks(folder: &Path, output: &Output) -> Result<Vec<String>, String> {
    let mut old = BTreeMap::new();
    for path in files_below(folder)? {
        old.insert(relative(folder, &path), read(&path)?);
    }
    let (Ok(old), Ok(new)) = (surface::collect(&old), surface::collect(&output.files)) else {
        // Code on disk that is not Rust has no users; regenerating replaces it.
        return Ok(Vec::new());
    };
    Ok(surface::compare(&old, &new).breaks)
}

fn refuse_breaks(folder: &Path, output: &Output) -> Outcome {
    let breaks = breaks(folder, output)?;
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
pub(crate) fn generate(product: &Product, root: &Path) -> Result<Output, String> {
    generate_from(&read_input(product, root)?)
}

pub(crate) fn generate_from(input: &Input) -> Result<Output, String> {
    generate::generate(input).map_err(|problems| match problems.as_slice() {
        [problem] => format!("one problem:\n  {problem}"),
        problems => format!("{} problems:\n  {}", problems.len(), problems.join("\n  ")),
    })
}

/// All input for generating.
pub(crate) fn read_input(product: &Product, root: &Path) -> Result<Input, String> {
    let schema = product.schema(root);
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
    let overlay = product.overlay(root);
    for path in files_below(&overlay)? {
        input
            .overlay
            .insert(relative(&overlay, &path), read(&path)?);
    }
    let lock = product.lock(root);
    if lock.exists() {
        input.lock = Some(read(&lock)?);
    }
    input.manifest = Some(read(&root.join("proxmox-api/Cargo.toml"))?);
    Ok(input)
}
