//! Run time of programs that use the crates.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::data;
use super::measure;
use super::subjects::{OURS, Project, RAW, Subject, package};
use super::table::{Table, Unit};

/// The ways to decode; the raw program has three.
pub(super) const DECODERS: [&str; 7] = [
    OURS,
    "serde_json, all members",
    "serde_json, own structs",
    "serde_json, Value",
    "proxmox-api 0.2.0",
    "pve 0.1.0",
    "proxmox-client 0.9.2",
];

pub(super) fn decode(
    subjects: &[(Subject, Project)],
    rounds: usize,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    let folder = scratch.join("documents");
    let mut ways = Vec::new();
    for (subject, project) in subjects {
        super::progress(&format!("decode, building: {}", subject.title));
        let built = binary(project, "decode", scratch)
            .and_then(|decode| Ok((decode, binary(project, "peak", scratch)?)));
        match built {
            Ok(programs) if subject.title == RAW => {
                ways.push((DECODERS[1], "whole", programs.clone()));
                ways.push((DECODERS[2], "structs", programs.clone()));
                ways.push((DECODERS[3], "value", programs));
            }
            Ok(programs) => ways.push((subject.title, "only", programs)),
            Err(problem) => table.note(format!("{}: {problem}", subject.title)),
        }
    }
    for kind in data::KINDS {
        let body = data::body(kind);
        let file = folder.join(kind);
        crate::files::write(&file, &body)?;
        let megabytes = body.len() as f64 / 1e6;
        // Some tenths of a second each.
        let repeat = (60.0 / megabytes).clamp(20.0, 20_000.0) as u64;
        for round in 0..rounds * 3 {
            super::progress(&format!(
                "decode, round {}: {}",
                round + 1,
                data::title(kind)
            ));
            for (column, way, (decode, peak)) in &ways {
                let mut command = measure::command(decode, scratch);
                command.args([way, kind]).arg(&file).arg(repeat.to_string());
                let [mean, best, resident] = match measure::run(&command, scratch) {
                    Ok((_, output)) => figures(&output)?,
                    Err(problem) => {
                        table.note(format!("{column}, {}: {problem}", data::title(kind)));
                        continue;
                    }
                };
                let row =
                    |what| format!("{} ({:.0} kB), {what}", data::title(kind), megabytes * 1e3);
                table.add(
                    &row("mean"),
                    Unit::MegabytesPerSecond,
                    column,
                    megabytes / mean,
                );
                table.add(
                    &row("best"),
                    Unit::MegabytesPerSecond,
                    column,
                    megabytes / best,
                );
                if round == 0 {
                    let mut command = measure::command(peak, scratch);
                    command.args([way, kind]).arg(&file);
                    let (_, output) = measure::run(&command, scratch)?;
                    let [peak, kept] = figures(&output)?;
                    table.add(
                        &row("peak memory, allocated"),
                        Unit::Kilobytes,
                        column,
                        peak / 1e3,
                    );
                    if kind != "config" {
                        let label = row("peak memory, resident");
                        table.add(&label, Unit::Kilobytes, column, resident / 1e3);
                    }
                    table.add(&row("memory kept"), Unit::Kilobytes, column, kept / 1e3);
                }
            }
        }
    }
    Ok(())
}

/// Builds a program of a project.
pub(super) fn binary(project: &Project, name: &str, scratch: &Path) -> Result<PathBuf, String> {
    let cargo = project.cargo(&["build", "--release", "--bin", name]);
    measure::run(&cargo, scratch)?;
    // The next project has a program of the same name.
    let program = project.folder.join(name);
    let built = project.target.join("release").join(name);
    std::fs::copy(&built, &program).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(program)
}

pub(super) fn figures<const N: usize>(output: &str) -> Result<[f64; N], String> {
    let figures: Option<Vec<f64>> = (output.split_whitespace())
        .map(|figure| figure.parse().ok())
        .collect();
    figures
        .and_then(|figures| figures.try_into().ok())
        .ok_or_else(|| format!("other figures than these were expected: {output:?}"))
}

pub(super) fn calls(
    subjects: &[(Subject, Project)],
    rounds: usize,
    workspace: &Path,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    super::progress("calls, building: the server");
    let server = server(workspace, scratch)?;
    let mut programs = Vec::new();
    for (subject, project) in subjects {
        super::progress(&format!("calls, building: {}", subject.title));
        match binary(project, "calls", scratch) {
            Ok(program) => programs.push((subject.title, program)),
            Err(problem) => table.note(format!("{}: {problem}", subject.title)),
        }
    }
    for (in_flight, total) in [(1, 5_000_u32), (64, 10_000)] {
        for round in 0..rounds * 3 {
            super::progress(&format!("calls, round {}: {in_flight} at once", round + 1));
            for (column, program) in &programs {
                let mut command = measure::command(program, scratch);
                command.args([&server.url, &in_flight.to_string(), &total.to_string()]);
                let [wall, cpu] = match measure::run(&command, scratch) {
                    Ok((_, output)) => figures(&output)?,
                    Err(problem) => {
                        table.note(format!("{column}: {problem}"));
                        continue;
                    }
                };
                let total = f64::from(total);
                table.add(
                    &format!("{in_flight} at once, requests"),
                    Unit::PerSecond,
                    column,
                    total / wall,
                );
                table.add(
                    &format!("{in_flight} at once, CPU per request"),
                    Unit::Microseconds,
                    column,
                    cpu * 1e6 / total,
                );
            }
        }
    }
    Ok(())
}

/// Streams a file of zeros, which costs the disk nothing, to a server that discards it.
pub(super) fn upload(
    rounds: usize,
    gibibytes: f64,
    workspace: &Path,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    super::progress("upload, building");
    let server = server(workspace, scratch)?;
    let folder = scratch.join("upload");
    let root = workspace
        .to_str()
        .ok_or("the path of the workspace is not UTF-8")?;
    package(
        &folder,
        "upload",
        &format!(
            "proxmox-api = {{ path = \"{root}/proxmox-api\" }}\n\
             reqwest = {{ version = \"0.13\", default-features = false, features = [\"rustls-no-provider\", \"multipart\", \"stream\"] }}\n\
             rustls = {{ version = \"0.23\", default-features = false, features = [\"ring\", \"std\", \"tls12\"] }}\n"
        ),
        workspace,
    )?;
    crate::files::write(
        &folder.join("src/main.rs"),
        include_str!("programs/upload.rs"),
    )?;
    let project = Project {
        folder,
        target: scratch.join("target"),
        many: 0,
        endpoints: 0,
    };
    let program = binary(&project, "bench-upload", scratch)?;
    let file = scratch.join("zeros.iso");
    let size = gibibytes * f64::from(1 << 30);
    std::fs::File::create(&file)
        .and_then(|file| file.set_len(size as u64))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    for round in 0..rounds {
        super::progress(&format!("upload, round {}", round + 1));
        for (column, way) in [(OURS, "ours"), (RAW, "raw")] {
            let mut command = measure::command(&program, scratch);
            command.args([way, &server.url]).arg(&file);
            let (_, output) = measure::run(&command, scratch)?;
            let [wall, cpu, peak] = figures(&output)?;
            let row = |what: &str| format!("{gibibytes} GiB, {what}");
            let speed = size / 1e6 / wall;
            table.add(&row("speed"), Unit::MegabytesPerSecond, column, speed);
            table.add(&row("CPU"), Unit::Seconds, column, cpu);
            table.add(&row("peak memory"), Unit::Megabytes, column, peak / 1e6);
        }
    }
    Ok(())
}

/// A server that runs until this is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its standard input ends it, too; nothing is left to do if this fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server(workspace: &Path, scratch: &Path) -> Result<Server, String> {
    let folder = scratch.join("server");
    package(
        &folder,
        "server",
        "rcgen = { version = \"0.14\", default-features = false, features = [\"ring\"] }\n\
         tokio-rustls = { version = \"0.26\", default-features = false, features = [\"ring\", \"tls12\"] }\n",
        workspace,
    )?;
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("{}: {error}", manifest.display()))?
        .replace("\"rt\"]", "\"rt\", \"net\", \"io-util\"]");
    crate::files::write(&manifest, &text)?;
    crate::files::write(
        &folder.join("src/main.rs"),
        include_str!("programs/server.rs"),
    )?;
    let project = Project {
        folder,
        target: scratch.join("target"),
        many: 0,
        endpoints: 0,
    };
    let program = binary(&project, "bench-server", scratch)?;
    let mut process = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let output = process.stdout.take().ok_or("the server has no output")?;
    let mut url = String::new();
    let read = BufReader::new(output).read_line(&mut url);
    let server = Server {
        process,
        url: url.trim().to_owned(),
    };
    match read {
        Ok(length) if length > 0 => Ok(server),
        _ => Err("the server did not start".to_owned()),
    }
}
