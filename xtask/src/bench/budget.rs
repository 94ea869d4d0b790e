//! `cargo xtask budget`: figures that are the same on every machine, against recorded limits.

use std::fs;
use std::path::Path;

use super::data;
use super::measure;
use super::subjects::{self, Project};
use crate::files::files_below;
use crate::{Outcome, say, workspace};

const LIMITS: &str = "xtask/src/bench/limits.toml";

/// Check figures that do not depend on the machine against their recorded limits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out figures that need a build: the size of the library, its lines for LLVM, the
    /// instructions of decoding
    #[arg(long)]
    no_build: bool,
}

/// A figure and its source.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let root = workspace();
    let mut figures = texts(&proxmox_codegen::product::PVE.code(&root))?;
    let mut left_out = Vec::new();
    if args.no_build {
        left_out.push("release_*, decode_*: --no-build".to_owned());
    } else {
        built(&root, &mut figures, &mut left_out)?;
    }
    let path = root.join(LIMITS);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let limits: toml::Table =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let (report, over) = compare(&figures, &limits);
    say(&report)?;
    for name in left_out {
        say(&format!("left out: {name}\n"))?;
    }
    match over.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} over budget; make it smaller, or raise the limit in {LIMITS} and say why in docs/performance.md",
            over.join(", ")
        )),
    }
}

fn compare(figures: &[Figure], limits: &toml::Table) -> (String, Vec<&'static str>) {
    let mut report = String::new();
    let mut over = Vec::new();
    for Figure { name, value } in figures {
        let limit = limits.get(*name).and_then(toml::Value::as_integer);
        let limit = limit.and_then(|limit| u64::try_from(limit).ok());
        report += &match limit {
            Some(limit) if *value <= limit => format!("{name}: {value}, limit {limit}\n"),
            Some(limit) => {
                over.push(*name);
                format!("{name}: {value}, OVER its limit {limit}\n")
            }
            None => {
                over.push(*name);
                format!("{name}: {value}, which has no limit\n")
            }
        };
    }
    (report, over)
}

/// Figures of the generated text.
fn texts(folder: &Path) -> Result<Vec<Figure>, String> {
    let (mut lines, mut bytes, mut types, mut endpoints, mut tables) = (0, 0, 0, 0, 0);
    for path in files_below(folder)? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        lines += text.lines().count();
        bytes += text.len();
        types += text
            .lines()
            .filter(|line| line.starts_with("pub struct ") || line.starts_with("pub enum "))
            .count();
        endpoints += text.matches("const ENDPOINT: ").count();
        tables += text.matches("object!(").count();
    }
    if endpoints == 0 {
        return Err(format!("{}: no endpoint", folder.display()));
    }
    let figure = |name, value| Figure {
        name,
        value: value as u64,
    };
    Ok(vec![
        figure("generated_lines", lines),
        figure("generated_kilobytes", bytes / 1024),
        figure("generated_types", types),
        figure("generated_decoders", tables),
        figure("generated_lines_per_endpoint", lines / endpoints),
    ])
}

/// Figures that need a compiler, in a temporary folder.
fn built(root: &Path, figures: &mut Vec<Figure>, left_out: &mut Vec<String>) -> Outcome {
    measure::available()?;
    let scratch = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
    let scratch = scratch.path();
    let subject = subjects::all()
        .into_iter()
        .find(|subject| subject.title == subjects::OURS)
        .ok_or("there is nothing to build")?;
    let project = Project::new(&subject, root, scratch)?;
    let build = project.cargo(&["build", "--release", "--bin", "decode"]);
    measure::run(&build, scratch)?;
    let release = project.target.join("release");
    let rlib = measure::artifact(&release.join("deps"), "libproxmox_api-", ".rlib")?;
    figures.push(Figure {
        name: "release_rlib_kilobytes",
        value: measure::size(&rlib)? / 1024,
    });
    let program = release.join("decode");
    // Before LLVM's first pass, in one piece: the size of its input, independent of optimisations.
    let lines = project.cargo(&[
        "rustc",
        "--release",
        "--package",
        "proxmox-api",
        "--lib",
        "--",
        "--emit=llvm-ir",
        "-Cno-prepopulate-passes",
        "-Ccodegen-units=1",
    ]);
    measure::run(&lines, scratch)?;
    let code = measure::artifact(&release.join("deps"), "proxmox_api-", ".ll")?;
    figures.push(Figure {
        name: "release_llvm_lines",
        value: llvm_lines(&code)?,
    });
    for (kind, name) in [
        ("resources", "decode_resources_instructions_per_byte"),
        ("guests", "decode_guests_instructions_per_byte"),
        ("config", "decode_config_instructions_per_byte"),
    ] {
        let file = scratch.join(kind);
        let body = data::body(kind);
        crate::files::write(&file, &body)?;
        // The rounds between these two cost nothing but decoding.
        let few = instructions(&program, kind, &file, 1, scratch);
        let many = instructions(&program, kind, &file, 4, scratch);
        match (few, many) {
            (Ok(few), Ok(many)) if many <= few => {
                return Err(format!("{name}: more rounds took no more instructions"));
            }
            (Ok(few), Ok(many)) => figures.push(Figure {
                name,
                value: (many - few) / 3 / body.len() as u64,
            }),
            (Err(problem), _) | (_, Err(problem)) => left_out.push(format!("{name}: {problem}")),
        }
    }
    Ok(())
}

/// Lines within functions.
fn llvm_lines(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut within = false;
    let mut lines = 0;
    for line in text.lines() {
        if line.starts_with("define ") {
            within = true;
        } else if line == "}" {
            within = false;
        } else if within {
            lines += 1;
        }
    }
    match lines {
        0 => Err(format!("{}: no function", path.display())),
        lines => Ok(lines),
    }
}

/// Instructions of a whole run, by valgrind.
fn instructions(
    program: &Path,
    kind: &str,
    file: &Path,
    rounds: u32,
    scratch: &Path,
) -> Result<u64, String> {
    let mut command = measure::command("valgrind", scratch);
    let output = scratch.join("callgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program)
        .args(["only", kind])
        .arg(file)
        .arg(rounds.to_string());
    measure::run(&command, scratch)?;
    let text =
        fs::read_to_string(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok())
        .ok_or_else(|| "valgrind counted nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_over_its_limit_or_has_none() {
        let limits = toml::from_str("small = 3\nlarge = 3\n").unwrap();
        let figure = |name, value| Figure { name, value };
        let figures = [figure("small", 3), figure("large", 4), figure("new", 1)];
        let (report, over) = compare(&figures, &limits);
        assert_eq!(over, ["large", "new"]);
        assert_eq!(
            report,
            "small: 3, limit 3\nlarge: 4, OVER its limit 3\nnew: 1, which has no limit\n"
        );
    }
}
