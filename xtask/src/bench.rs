//! `cargo xtask bench`: builds and times this crate and comparable ones, in turn, in one run.

mod budget;
mod compile;
mod data;
mod generation;
mod goals;
mod growth;
mod measure;
mod running;
mod subjects;
mod table;

use std::path::PathBuf;

use clap::ValueEnum;

pub(crate) use budget::{Args as BudgetArgs, run as run_budget};
use subjects::{Project, Subject};
use table::Table;

use crate::{Outcome, say, workspace};

/// Time this crate and comparable ones from crates.io, and print a comparison
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum, default_value_t = Measurement::All)]
    what: Measurement,
    /// Run one round of each, without the documentation
    #[arg(long)]
    quick: bool,
    /// Rounds of building; running programs takes three times as many
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave out the crates of others
    #[arg(long, conflicts_with = "only")]
    alone: bool,
    /// Compare with this column only; may be given several times
    #[arg(long, value_name = "COLUMN")]
    only: Vec<String>,
    /// Leave out clean builds of users' programs, which take longest
    #[arg(long)]
    no_clean: bool,
    /// Keep the projects and their built dependencies in this folder, and reuse them [default: a
    /// temporary folder that is removed]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Draw the growth of time and memory into this folder, as time.svg and memory.svg
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Folder with the official dumps, one RELEASE.js each, for timing their import
    #[arg(long, value_name = "FOLDER")]
    dumps: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "RELEASES")]
    only_regen: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    Compile,
    Decode,
    Calls,
    Upload,
    Growth,
    Regen,
    All,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if let Some(count) = args.only_regen {
        return generation::regen(count);
    }
    measure::available()?;
    let temporary;
    let scratch = match &args.keep {
        Some(folder) => folder.clone(),
        None => {
            temporary =
                tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
            temporary.path().to_owned()
        }
    };
    std::fs::create_dir_all(&scratch)
        .and_then(|()| scratch.canonicalize())
        .map_err(|error| format!("{}: {error}", scratch.display()))
        .and_then(|scratch| {
            if scratch.starts_with(workspace()) {
                return Err("--keep: the folder must be outside the workspace".to_owned());
            }
            measure_all(args, &scratch)
        })
}

fn measure_all(args: &Args, scratch: &std::path::Path) -> Outcome {
    let root = workspace();
    let rounds = if args.quick { 1 } else { args.rounds.max(1) };
    let wanted = |one| [Measurement::All, one].contains(&args.what);
    let mut left_out = Vec::new();
    let mut subjects: Vec<(Subject, Project)> = Vec::new();
    if [
        Measurement::Compile,
        Measurement::Decode,
        Measurement::Calls,
    ]
    .into_iter()
    .any(wanted)
    {
        for subject in subjects::all() {
            let core = [subjects::OURS, subjects::RAW].contains(&subject.title);
            let named = args.only.iter().any(|name| name == subject.title);
            let skip = match args.only.is_empty() {
                true => args.alone && !core,
                false => !named && subject.title != subjects::OURS,
            };
            if skip {
                continue;
            }
            match Project::new(&subject, &root, scratch) {
                Ok(project) => subjects.push((subject, project)),
                Err(problem) => left_out.push(format!("{}: {problem}", subject.title)),
            }
        }
    }
    let titles: Vec<&str> = subjects.iter().map(|(subject, _)| subject.title).collect();
    let new = |columns: &[&str]| {
        let mut table = Table::new(columns);
        for note in &left_out {
            table.note(note.clone());
        }
        table
    };
    if wanted(Measurement::Compile) {
        let mut table = new(&titles);
        let plan = compile::Plan {
            rounds,
            clean: !args.no_clean,
            documentation: !args.quick,
        };
        compile::run(&subjects, &plan, scratch, &mut table)?;
        say(&format!(
            "\n## Compiling\n\n{}{}",
            table.show(),
            goals::show(&table)
        ))?;
    }
    if wanted(Measurement::Decode) {
        let mut table = new(&running::DECODERS);
        running::decode(&subjects, rounds, scratch, &mut table)?;
        say(&format!(
            "\n## Decoding\n\n{}{}",
            table.show(),
            goals::show(&table)
        ))?;
    }
    if wanted(Measurement::Calls) {
        let mut table = new(&titles);
        running::calls(&subjects, rounds, &root, scratch, &mut table)?;
        say(&format!(
            "\n## Calls\n\n{}{}",
            table.show(),
            goals::show(&table)
        ))?;
    }
    if wanted(Measurement::Upload) {
        let mut table = Table::new(&[subjects::OURS, subjects::RAW]);
        let gibibytes = if args.quick { 0.25 } else { 2.0 };
        running::upload(rounds, gibibytes, &root, scratch, &mut table)?;
        say(&format!("\n## Uploads\n\n{}", table.show()))?;
    }
    if wanted(Measurement::Growth) {
        let plots = match &args.plots {
            Some(folder) => Some(
                std::fs::create_dir_all(folder)
                    .and_then(|()| folder.canonicalize())
                    .map_err(|error| format!("{}: {error}", folder.display()))?,
            ),
            None => None,
        };
        let table = growth::run(rounds, &root, scratch, plots.as_deref())?;
        say(&format!("\n## As a cluster grows\n\n{table}"))?;
    }
    if wanted(Measurement::Regen) {
        let mut table = Table::new(&[generation::COLUMN]);
        generation::run(args.dumps.as_deref(), rounds, scratch, &mut table)?;
        say(&format!("\n## Generating\n\n{}", table.show()))?;
    }
    Ok(())
}

/// Reports progress, apart from the result.
fn progress(text: &str) {
    eprintln!("· {text}");
}
