//! The compared crates, and the projects that use them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proxmox_codegen::product::PVE;
use serde_json::Value;

use super::measure;
use crate::files::{files_below, newest_release, write};

/// A library, or none, with a project that uses it as a user would.
#[derive(Debug)]
pub(super) struct Subject {
    /// The column's title.
    pub(super) title: &'static str,
    /// The package; none for the program without one.
    pub(super) package: Option<&'static str>,
    /// The library's name for the compiler.
    pub(super) library: &'static str,
    folder: &'static str,
    dependencies: &'static str,
    subject: &'static str,
    decoder: &'static str,
}

pub(super) const OURS: &str = "this crate";
pub(super) const RAW: &str = "raw reqwest";

/// The same TLS and the same features for all crates that have the choice.
macro_rules! http {
    () => {
        "reqwest = { version = \"0.13\", default-features = false, features = [\"rustls-no-provider\", \"gzip\"] }\n\
         rustls = { version = \"0.23\", default-features = false, features = [\"ring\", \"std\", \"tls12\"] }\n"
    };
}

macro_rules! serde {
    () => {
        "serde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"\n"
    };
}

macro_rules! programs {
    ($folder:literal) => {
        (
            include_str!(concat!("programs/", $folder, "/subject.rs")),
            include_str!(concat!("programs/", $folder, "/decoder.rs")),
        )
    };
}

/// Everything that is compared; ours first.
pub(super) fn all() -> Vec<Subject> {
    let subject = |title, package, library, folder, dependencies, (subject, decoder)| Subject {
        title,
        package,
        library,
        folder,
        dependencies,
        subject,
        decoder,
    };
    vec![
        subject(
            OURS,
            Some("proxmox-api"),
            "proxmox_api",
            "ours",
            "proxmox-api = { path = \"{workspace}/proxmox-api\" }\n",
            programs!("ours"),
        ),
        subject(
            RAW,
            None,
            "",
            "raw",
            concat!(http!(), serde!()),
            programs!("raw"),
        ),
        subject(
            "proxmox-api 0.2.0",
            Some("proxmox-api"),
            "proxmox_api",
            "proxmox_api",
            concat!(
                "proxmox-api = { version = \"=0.2.0\", features = [\"reqwest-client\"] }\n",
                serde!()
            ),
            programs!("proxmox_api"),
        ),
        subject(
            "pve 0.1.0",
            Some("pve"),
            "pve",
            "pve",
            concat!("pve = \"=0.1.0\"\n", http!(), serde!()),
            programs!("pve"),
        ),
        subject(
            "proxmox-client 0.9.2",
            Some("proxmox-client"),
            "proxmox_client",
            "proxmox_client",
            concat!("proxmox-client = \"=0.9.2\"\n", serde!()),
            programs!("proxmox_client"),
        ),
    ]
}

/// A project in the scratch folder.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    /// The target folder of cargo. One for all projects, so that common dependencies are built
    /// once.
    pub(super) target: PathBuf,
    /// Endpoints in the larger program.
    pub(super) many: usize,
    /// Endpoints the library knows; 0 without a library.
    pub(super) endpoints: usize,
}

impl Subject {
    /// The package of the programs that use it.
    pub(super) fn program(&self) -> String {
        format!("bench-{}", self.folder)
    }
}

impl Project {
    /// Writes the project of a subject.
    pub(super) fn new(subject: &Subject, workspace: &Path, scratch: &Path) -> Result<Self, String> {
        let folder = scratch.join(subject.folder);
        let workspace_text = workspace
            .to_str()
            .ok_or("the path of the workspace is not UTF-8")?;
        let dependencies = subject.dependencies.replace("{workspace}", workspace_text);
        let all = match subject.title {
            OURS => our_features(workspace)?,
            _ => Vec::new(),
        };
        let dependencies = format!("{dependencies}\n[features]\nall = {all:?}\n");
        package(&folder, subject.folder, &dependencies, workspace)?;
        let source = folder.join("src");
        for (name, text) in [
            ("lib.rs", "\n"),
            ("subject.rs", subject.subject),
            ("decoder.rs", subject.decoder),
            ("bin/three.rs", include_str!("programs/three.rs")),
            ("bin/calls.rs", include_str!("programs/calls.rs")),
            ("bin/decode.rs", include_str!("programs/decode.rs")),
            ("bin/peak.rs", include_str!("programs/peak.rs")),
        ] {
            write_file(&source.join(name), text)?;
        }
        let mut project = Self {
            folder,
            target: scratch.join("target"),
            many: 0,
            endpoints: 0,
        };
        if subject.package.is_some() {
            let library = project.library(subject)?;
            project.endpoints = endpoints(&library)?;
            let calls = match subject.folder {
                "ours" => our_calls(workspace)?,
                _ => their_calls(subject, &library)?,
            };
            let calls: Vec<String> = calls.into_iter().take(100).collect();
            project.many = calls.len();
            write_file(&source.join("bin/many.rs"), &many(&calls))?;
        }
        Ok(project)
    }

    /// Cargo in the project.
    pub(super) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = measure::command(cargo, &self.folder);
        command
            .args(arguments)
            .env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// The sources of the library.
    fn library(&self, subject: &Subject) -> Result<PathBuf, String> {
        let output = self
            .cargo(&["metadata", "--format-version=1"])
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(text.trim().to_owned());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = metadata["packages"].as_array();
        packages
            .into_iter()
            .flatten()
            .find(|package| package["name"].as_str() == subject.package)
            .and_then(|package| package["manifest_path"].as_str())
            .and_then(|manifest| Some(Path::new(manifest).parent()?.join("src")))
            .ok_or_else(|| "cargo metadata does not name the library".to_owned())
    }
}

/// All features of this crate; those of the others are on already.
fn our_features(workspace: &Path) -> Result<Vec<String>, String> {
    let path = workspace.join("proxmox-api/Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let manifest: toml::Table =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let names = features.into_iter().flat_map(toml::Table::keys);
    Ok(names.map(|name| format!("proxmox-api/{name}")).collect())
}

/// A package outside of any workspace, with the workspace's versions of common dependencies.
pub(super) fn package(
    folder: &Path,
    name: &str,
    dependencies: &str,
    workspace: &Path,
) -> Result<(), String> {
    let manifest = format!(
        "[package]\nname = \"bench-{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[profile.release]\nstrip = true\n\n[dependencies]\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt\"] }}\npeak_alloc = \"0.3\"\n\
         {dependencies}"
    );
    write_file(&folder.join("Cargo.toml"), &manifest)?;
    let lock = folder.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(workspace.join("Cargo.lock"), &lock)
            .map_err(|error| format!("{}: {error}", lock.display()))?;
    }
    Ok(())
}

/// Writes a file unless it is unchanged, so that cargo sees no change.
fn write_file(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    write(path, text)
}

fn many(calls: &[String]) -> String {
    let mut text = String::from(
        "#[path = \"../subject.rs\"]\n#[allow(dead_code)]\nmod subject;\n\n\
         use subject::Client;\n\ntype Result = std::result::Result<(), Box<dyn std::error::Error>>;\n\n\
         fn text(error: impl std::fmt::Debug) -> String {\n    format!(\"{error:?}\")\n}\n\n",
    );
    for (index, call) in calls.iter().enumerate() {
        let _ = writeln!(
            text,
            "async fn call{index}(client: &Client) -> Result {{\n    \
             std::hint::black_box({call}.await.map_err(text)?);\n    Ok(())\n}}\n"
        );
    }
    text.push_str(
        "#[tokio::main(flavor = \"current_thread\")]\nasync fn main() -> Result {\n    \
         let url = std::env::args().nth(1).ok_or(\"which server?\")?;\n    \
         let client = subject::connect(&url)?;\n",
    );
    for index in 0..calls.len() {
        let _ = writeln!(text, "    call{index}(&client).await?;");
    }
    text.push_str("    Ok(())\n}\n");
    text
}

/// Every GET of the newest release that needs nothing but its path.
fn our_calls(workspace: &Path) -> Result<Vec<String>, String> {
    let path = newest_release(&PVE, workspace)?;
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let facts: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let endpoints = facts["endpoints"].as_object();
    let mut calls = Vec::new();
    for (path, methods) in endpoints.into_iter().flatten() {
        let Some(get) = methods.get("GET") else {
            continue;
        };
        let in_path = |name: &str| path.contains(&format!("{{{name}}}"));
        let parameters = get["parameters"].as_object();
        let needy = parameters
            .into_iter()
            .flatten()
            .any(|(name, parameter)| parameter["optional"] != true && !in_path(name));
        if needy || get["returns"]["type"] == "null" {
            continue;
        }
        let mut call = String::from("client");
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let name = segment.trim_matches(['{', '}']).replace('-', "_");
            let value = match (segment.starts_with('{'), &*name) {
                (false, _) => "",
                (true, "vmid") => "100_u32",
                (true, "pos" | "osdid") => "0",
                (true, _) => "\"x\"",
            };
            let _ = write!(call, ".{name}({value})");
        }
        call.push_str(".get()");
        calls.push(call);
    }
    Ok(calls)
}

/// Their GETs of the same kind, found in their sources.
fn their_calls(subject: &Subject, library: &Path) -> Result<Vec<String>, String> {
    let mut calls = Vec::new();
    for path in files_below(library)? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if subject.folder == "proxmox_client" {
            calls.extend(flat_calls(&text));
            continue;
        }
        let simple = text.contains("pub fn new(client: T, parent_path: &str) -> Self")
            && text.contains("pub async fn get(&self)");
        let client = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("pub struct ")?
                    .strip_suffix("Client<T> {")
            })
            .find(|name| subject.folder != "pve" || name.starts_with("Async"));
        if let (true, Some(client)) = (simple, client) {
            let below = path.strip_prefix(library).unwrap_or(&path);
            let module = below.with_extension("").display().to_string();
            let module = module.trim_start_matches("generated/").replace('/', "::");
            calls.push(format!(
                "{}::{module}::{client}Client::new(client.clone(), \"/x\").get()",
                subject.library
            ));
        }
    }
    Ok(calls)
}

/// Methods of a flat client that take nothing or a node.
fn flat_calls(text: &str) -> Vec<String> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some(signature) = line.trim().strip_prefix("pub async fn ") else {
            continue;
        };
        if !signature.starts_with("get_") && !signature.starts_with("list_") {
            continue;
        }
        if let Some((name, _)) = signature.split_once("(&self) ->") {
            calls.push(format!("client.{name}()"));
        } else if let Some((name, _)) = signature.split_once("(&self, node: &str) ->") {
            calls.push(format!("client.{name}(\"x\")"));
        }
    }
    calls
}

/// Methods that send a request, in the sources of a library.
fn endpoints(library: &Path) -> Result<usize, String> {
    let generated = ["pve", "generated"].map(|name| library.join(name));
    let folder = generated.iter().find(|folder| folder.is_dir());
    let mut count = 0;
    for path in files_below(folder.map_or(library, |folder| folder))? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let ours = text.matches("const ENDPOINT: ").count();
        count += match ours {
            0 => text.matches("    pub async fn ").count(),
            ours => ours,
        };
    }
    Ok(count)
}
