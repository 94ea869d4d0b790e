//! Compile time of the crates.

use std::fs;
use std::path::Path;

use super::measure::{self, Compilers};
use super::subjects::{Project, Subject};
use super::table::{Table, Unit};

const MB: f64 = 1024.0 * 1024.0;

/// What is built.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rounds: usize,
    /// Clean builds of users' programs.
    pub(super) clean: bool,
    pub(super) documentation: bool,
}

/// Builds everything, in turn.
pub(super) fn run(
    subjects: &[(Subject, Project)],
    plan: &Plan,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    let compilers = Compilers::new(scratch)?;
    for (subject, project) in subjects {
        if subject.package.is_some() {
            let count = project.endpoints as f64;
            table.add("endpoints", Unit::Count, subject.title, count);
        }
    }
    for round in 0..plan.rounds {
        for (subject, project) in subjects {
            super::progress(&format!("compile, round {}: {}", round + 1, subject.title));
            let result = alone(subject, project, &compilers, scratch, table).and_then(|()| {
                programs(subject, project, round == 0 && plan.clean, scratch, table)
            });
            if let Err(problem) = result {
                table.note(format!("{}: {problem}", subject.title));
            }
        }
    }
    if !plan.documentation {
        table.note("documentation: left out of a quick run");
        return Ok(());
    }
    for (subject, project) in subjects {
        super::progress(&format!("documentation: {}", subject.title));
        if let Err(problem) = documentation(subject, project, &compilers, scratch, table) {
            table.note(format!("{}: {problem}", subject.title));
        }
    }
    Ok(())
}

/// The crate itself with all its features; its dependencies are built already.
fn alone(
    subject: &Subject,
    project: &Project,
    compilers: &Compilers,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    let Some(package) = subject.package else {
        return Ok(());
    };
    for (label, arguments, end) in [
        (
            "check",
            &["check", "--lib", "--features", "all"] as &[&str],
            "debug",
        ),
        (
            "release build",
            &["build", "--release", "--lib", "--features", "all"],
            "release",
        ),
    ] {
        let mut clean = vec!["clean", "--package", package];
        if end == "release" {
            clean.push("--release");
        }
        if project.target.join(end).exists() {
            measure::run(&project.cargo(&clean), scratch)?;
        }
        let mut cargo = project.cargo(arguments);
        let cost = compilers.run(&mut cargo, subject.library, scratch)?;
        let row = |what: &str| format!("{label} of the crate alone, {what}");
        table.add(&row("CPU"), Unit::Seconds, subject.title, cost.cpu);
        table.add(
            &row("CPU per endpoint"),
            Unit::Milliseconds,
            subject.title,
            cost.cpu * 1000.0 / project.endpoints.max(1) as f64,
        );
        table.add(
            &row("peak memory"),
            Unit::Megabytes,
            subject.title,
            cost.peak,
        );
        let (kind, suffix) = match end {
            "release" => ("rlib", ".rlib"),
            _ => ("rmeta", ".rmeta"),
        };
        let prefix = format!("lib{}-", subject.library);
        let artifact = measure::artifact(&project.target.join(end).join("deps"), &prefix, suffix)?;
        let size = measure::size(&artifact)? as f64 / MB;
        table.add(
            &format!("{kind} of the crate"),
            Unit::Megabytes,
            subject.title,
            size,
        );
    }
    Ok(())
}

/// A user's programs.
fn programs(
    subject: &Subject,
    project: &Project,
    clean: bool,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    // A separate folder, for a clean build.
    let own = project.folder.join("target-user");
    let target = if own.exists() || clean {
        own
    } else {
        project.target.clone()
    };
    let build = |name: &str| {
        let mut cargo = project.cargo(&["build", "--release", "--bin", name]);
        cargo.env("CARGO_TARGET_DIR", &target);
        measure::run(&cargo, scratch).map(|(cost, _)| cost)
    };
    if clean {
        if target.exists() {
            fs::remove_dir_all(&target)
                .map_err(|error| format!("{}: {error}", target.display()))?;
        }
        let cost = build("three")?;
        let row = |what| format!("program with 3 endpoints, clean build, {what}");
        table.add(&row("CPU"), Unit::Seconds, subject.title, cost.cpu);
        table.add(&row("wall"), Unit::Seconds, subject.title, cost.wall);
    }
    build("three")?;
    if project.many == 100 {
        build("many")?;
    } else if subject.package.is_some() {
        table.note(format!(
            "{}: only {} calls were found for the program with 100 endpoints",
            subject.title, project.many
        ));
    }
    for (name, count) in [("three", 3), ("many", 100)] {
        if name == "many" && project.many != 100 {
            continue;
        }
        touch(&project.folder.join(format!("src/bin/{name}.rs")))?;
        let cost = build(name)?;
        let row = |what| format!("program with {count} endpoints, {what}");
        table.add(&row("rebuild, CPU"), Unit::Seconds, subject.title, cost.cpu);
        let size = measure::size(&target.join("release").join(name))? as f64 / MB;
        table.add(&row("stripped size"), Unit::Megabytes, subject.title, size);
    }
    Ok(())
}

/// Makes cargo see a change.
fn touch(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    crate::files::write(path, &text)
}

fn documentation(
    subject: &Subject,
    project: &Project,
    compilers: &Compilers,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    let Some(package) = subject.package else {
        return Ok(());
    };
    let output = project.target.join("doc");
    if output.exists() {
        fs::remove_dir_all(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    }
    // The features are those of the program, which must be named for that; it has next to no
    // documentation.
    let mut cargo = project.cargo(&[
        "doc",
        "--no-deps",
        "--features",
        "all",
        "--package",
        &subject.program(),
        "--package",
        package,
    ]);
    let cost = compilers.run(&mut cargo, subject.library, scratch)?;
    table.add("rustdoc, CPU", Unit::Seconds, subject.title, cost.cpu);
    table.add(
        "rustdoc, peak memory",
        Unit::Megabytes,
        subject.title,
        cost.peak,
    );
    let size = measure::size(&output)? as f64 / MB;
    table.add("rustdoc, size", Unit::Megabytes, subject.title, size);
    let pages = crate::files::files_below(&output)?
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "html"))
        .count();
    table.add("rustdoc, pages", Unit::Count, subject.title, pages as f64);
    Ok(())
}
