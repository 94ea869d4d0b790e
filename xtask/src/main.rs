//! The maintainer's commands.

mod bench;
mod coverage;
mod diff;
mod explain;
mod files;
mod import;
mod mock;
mod next;
mod openapi;
mod recorded;
mod regen;
mod site;
mod source;
mod tidy;
mod words;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use proxmox_codegen::product::Product;

/// Import schemas, regenerate the crate, compare releases
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Line {
    /// Work on this checkout instead of the one this program was built in
    #[arg(long, global = true, value_name = "FOLDER")]
    workspace: Option<PathBuf>,
    /// pve, pbs, pmg or pdm
    #[arg(long, global = true, default_value = "pve", value_parser = Product::named)]
    product: &'static Product,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Bench(bench::Args),
    Budget(bench::BudgetArgs),
    Import(import::Args),
    Regen(regen::Args),
    Diff(diff::Args),
    Coverage(coverage::Args),
    Explain(explain::Args),
    Mock(mock::Args),
    Next(next::Args),
    Openapi(openapi::Args),
    Site(site::Args),
    Tidy(tidy::Args),
    Words(words::Args),
}

/// The result of a command: success, or a message.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let line = Line::parse();
    if let Some(folder) = line.workspace {
        // Set once, before its first use.
        let _ = WORKSPACE.set(folder);
    }
    let product = line.product;
    let outcome = match line.command {
        Command::Bench(args) => bench::run(&args),
        Command::Budget(args) => bench::run_budget(&args),
        Command::Import(args) => import::run(product, &args),
        Command::Regen(args) => regen::run(product, &args),
        Command::Diff(args) => diff::run(product, &args),
        Command::Coverage(args) => coverage::run(product, &args),
        Command::Explain(args) => explain::run(product, &args),
        Command::Mock(args) => mock::run(&args),
        Command::Next(args) => next::run(product, &args),
        Command::Openapi(args) => openapi::run(product, &args),
        Command::Site(args) => site::run(product, &args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Words(args) => words::run(product, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the result of a command. A reader that closes the pipe is not an error.
fn say(text: &str) -> Outcome {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {err}")),
        _ => Ok(()),
    }
}

static WORKSPACE: OnceLock<PathBuf> = OnceLock::new();

/// The root of the workspace.
fn workspace() -> PathBuf {
    if let Some(folder) = WORKSPACE.get() {
        return folder.clone();
    }
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}
