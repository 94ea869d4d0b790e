//! Runs commands and records their cost.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::files_below;

/// GNU time asks the kernel for the resources of a finished process, which needs no unsafe code
/// here.
const TIME: &str = "/usr/bin/time";

/// Resources used by a process and its children.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// Processor seconds, user and system.
    pub(super) cpu: f64,
    /// Peak memory of the largest single process, in MB.
    pub(super) peak: f64,
    pub(super) wall: f64,
}

/// Whether costs can be measured on this machine.
pub(super) fn available() -> Result<(), String> {
    match Path::new(TIME).exists() {
        true => Ok(()),
        false => Err(format!(
            "{TIME} is missing: install GNU time (package `time`)"
        )),
    }
}

/// A command in a folder, without the settings of the cargo that runs this program.
pub(super) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    clean(&mut command).current_dir(folder);
    command
}

fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_TARGET_DIR", "CARGO_MANIFEST", "CARGO_PKG", "RUSTC_"];
        if ours.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TERM_COLOR", "never")
        // As cargo does for every crate from a registry, so that ours is not slower for its lints.
        .env("RUSTFLAGS", "--cap-lints=allow")
        .env("RUSTDOCFLAGS", "--cap-lints=allow")
}

/// Runs a command to its end; returns its cost and its standard output.
pub(super) fn run(command: &Command, scratch: &Path) -> Result<(Cost, String), String> {
    let log = scratch.join("cost");
    let mut timed = Command::new(TIME);
    timed.args(["-f", "%U %S %e %M", "-o"]).arg(&log);
    timed.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    let output = timed
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{TIME}: {error}"))?;
    if !output.status.success() {
        return Err(failure(
            command,
            &String::from_utf8_lossy(&output.stderr),
            &String::from_utf8_lossy(&output.stdout),
        ));
    }
    let text = fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let cost = text
        .lines()
        .find_map(cost)
        .ok_or_else(|| format!("{TIME} wrote no figures"))?;
    Ok((cost, String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn failure(command: &Command, stderr: &str, stdout: &str) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text.push_str("` failed");
    // The first error of a compiler is the most useful; a program prints one line.
    let line = stderr
        .lines()
        .chain(stdout.lines())
        .find(|line| line.starts_with("error") || line.contains("Error"))
        .or_else(|| stderr.lines().rfind(|line| !line.trim().is_empty()));
    if let Some(line) = line {
        let _ = write!(text, ": {}", line.chars().take(300).collect::<String>());
    }
    text
}

fn cost(line: &str) -> Option<Cost> {
    let mut figures = line.split(' ');
    let mut next = || figures.next()?.parse::<f64>().ok();
    let (user, system, wall, peak) = (next()?, next()?, next()?, next()?);
    Some(Cost {
        cpu: user + system,
        peak: peak / 1024.0,
        wall,
    })
}

/// Runs between cargo and the compilers and records the cost of each call.
#[derive(Debug)]
pub(super) struct Compilers {
    rustc: PathBuf,
    rustdoc: PathBuf,
    log: PathBuf,
}

impl Compilers {
    pub(super) fn new(folder: &Path) -> Result<Self, String> {
        let log = folder.join("compilers.log");
        let note = "-a -o \"$COMPILERS_LOG\" -f '%U %S %e %M %C'";
        let script = |name: &str, call: &str| -> Result<PathBuf, String> {
            let path = folder.join(name);
            let text = format!("#!/bin/sh\nexec {TIME} {note} {call} \"$@\"\n");
            crate::files::write(&path, &text)?;
            executable(&path)?;
            Ok(path)
        };
        Ok(Self {
            rustc: script("rustc.sh", "")?,
            rustdoc: script("rustdoc.sh", "rustdoc")?,
            log,
        })
    }

    /// Runs cargo; returns the cost of compiling the library of that name.
    pub(super) fn run(
        &self,
        cargo: &mut Command,
        library: &str,
        scratch: &Path,
    ) -> Result<Cost, String> {
        let _ = fs::remove_file(&self.log);
        cargo
            .env("RUSTC_WRAPPER", &self.rustc)
            .env("RUSTDOC", &self.rustdoc)
            .env("COMPILERS_LOG", &self.log);
        run(cargo, scratch)?;
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let name = format!(" --crate-name {library} ");
        text.lines()
            .filter(|line| line.contains(&name))
            .filter_map(cost)
            .next_back()
            .ok_or_else(|| format!("cargo did not compile {library}"))
    }
}

fn executable(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Bytes in a file, or in all files below a folder.
pub(super) fn size(path: &Path) -> Result<u64, String> {
    let length = |path: &Path| {
        fs::metadata(path)
            .map(|data| data.len())
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    if path.is_file() {
        return length(path);
    }
    files_below(path)?.iter().map(|path| length(path)).sum()
}

/// The newest file of a folder whose name starts and ends with these.
pub(super) fn artifact(folder: &Path, start: &str, end: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(start) && name.ends_with(end)
        })
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path())
        .ok_or_else(|| format!("{}: no {start}*{end}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_figures_of_a_process() {
        let cost = cost("1.50 0.25 2.00 2048 rustc --crate-name x").unwrap();
        assert_eq!((cost.cpu, cost.wall, cost.peak), (1.75, 2.0, 2.0));
        assert!(super::cost("Command exited with non-zero status 1").is_none());
    }
}
