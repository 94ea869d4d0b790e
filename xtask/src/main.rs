//! The maintainer's commands.

mod import;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Import schemas, regenerate the crate, compare releases.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Import(import::Args),
}

/// What a command ends with: nothing, or a message for people.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Import(args) => import::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn workspace() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}
