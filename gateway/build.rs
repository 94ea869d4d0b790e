//! Makes the code of the gRPC services, with a compiler for Protocol Buffers that is written in Rust, so that none has to be
//! installed; and lists the facts that the OpenAPI document is made from.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const SERVICES: &str = "proto/gpve/v1/gpve.proto";
const SCHEMA: &str = "../schema/pve";

fn main() -> Result<(), Box<dyn Error>> {
    let output = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    println!("cargo:rerun-if-changed={SERVICES}");
    let descriptors = protox::compile([SERVICES], ["proto"])?;
    let bytes = prost::Message::encode_to_vec(&descriptors);
    std::fs::write(output.join("gpve.bin"), bytes)?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    std::fs::write(output.join("schema.rs"), schema()?)?;
    Ok(())
}

/// Constants with the texts of the schema, by their names.
fn schema() -> Result<String, Box<dyn Error>> {
    let schema =
        Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").ok_or("no folder")?).join(SCHEMA);
    println!("cargo:rerun-if-changed={}", schema.display());
    let files = below(&schema)?;
    let named = |path: &Path, base: &Path| -> Result<String, Box<dyn Error>> {
        let parts = path.strip_prefix(base)?.components();
        let parts = parts.map(|part| part.as_os_str().to_string_lossy().into_owned());
        Ok(parts.collect::<Vec<_>>().join("/"))
    };
    let overlay = schema.join("overlay");
    let (laid_over, own): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|path| path.starts_with(&overlay));
    let mut releases: Vec<_> = own
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    let version = |path: &PathBuf| -> Vec<u32> {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.split('.')
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    releases.sort_by_key(version);
    let mut text = String::new();
    for (name, base, paths) in [
        ("RELEASES", &schema, releases),
        ("OVERLAY", &overlay, laid_over),
    ] {
        writeln!(
            text,
            "pub(super) const {name}: [(&str, &str); {}] = [",
            paths.len()
        )?;
        for path in paths {
            writeln!(
                text,
                "    ({:?}, include_str!({:?})),",
                named(&path, base)?,
                path
            )?;
        }
        writeln!(text, "];")?;
    }
    writeln!(
        text,
        "pub(super) const LOCK: &str = include_str!({:?});",
        schema.join("names.lock")
    )?;
    Ok(text)
}

fn below(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(below(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}
