//! The growth of time and memory with the number of guests.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::data;
use super::measure;
use super::running::{binary, figures};
use super::subjects::{Project, package};
use super::table::Unit;

const GUESTS: [u64; 4] = [100, 1_000, 10_000, 100_000];

const WORK: [(&str, &str); 5] = [
    ("decode", "decoding the list of resources"),
    (
        "inventory",
        "an inventory, its capacity and the guests with a tag",
    ),
    ("metrics", "all metrics as Prometheus reads them"),
    (
        "events",
        "one poll for events, every hundredth guest changed",
    ),
    ("batch", "starting every guest and waiting for its task"),
];

/// Measures, and prints a table; with a folder for plots, draws `time.svg` and `memory.svg` there.
pub(super) fn run(
    rounds: usize,
    workspace: &Path,
    scratch: &Path,
    plots: Option<&Path>,
) -> Result<String, String> {
    super::progress("growth, building");
    let root = workspace
        .to_str()
        .ok_or("the path of the workspace is not UTF-8")?;
    let program = build(
        "growth",
        &format!("proxmox-api = {{ path = \"{root}/proxmox-api\" }}\n"),
        include_str!("programs/growth.rs"),
        workspace,
        scratch,
    )?;
    let folder = scratch.join("documents");
    let mut times = String::new();
    let mut memories = String::new();
    let mut text = String::from("| |");
    for count in GUESTS {
        let _ = write!(text, " {count} guests |");
    }
    text.push_str(" exponent |\n|---|");
    text.push_str(&"---:|".repeat(GUESTS.len() + 1));
    text.push('\n');
    for (work, title) in WORK {
        let mut row = [Vec::new(), Vec::new()];
        for count in GUESTS {
            let documents = [false, true].map(|later| folder.join(format!("{count}-{later}")));
            for (later, file) in [false, true].into_iter().zip(&documents) {
                if !file.exists() {
                    crate::files::write(file, &data::cluster(count, later))?;
                }
            }
            let mut runs = Vec::new();
            for _ in 0..rounds.max(1) * 3 {
                let mut command = measure::command(&program, scratch);
                command.arg(work).args(&documents).arg(count.to_string());
                let (_, output) = measure::run(&command, scratch)?;
                runs.push(figures::<2>(&output)?);
            }
            runs.sort_by(|one, other| one[0].total_cmp(&other[0]));
            let [time, memory] = runs[runs.len() / 2];
            super::progress(&format!("growth: {work}, {count} guests: {time:.6} s"));
            let _ = writeln!(times, "{work} {count} {}", time * 1e3);
            let _ = writeln!(memories, "{work} {count} {}", memory / 1e6);
            row[0].push((count as f64, time));
            row[1].push((count as f64, memory));
        }
        let [time, memory] = row;
        let _ = write!(text, "| {title}, CPU |");
        for (_, seconds) in &time {
            let _ = write!(text, " {} |", Unit::Milliseconds.show(seconds * 1e3));
        }
        let _ = write!(text, " {:.2} |\n| … peak memory |", exponent(&time));
        for (_, bytes) in &memory {
            let _ = write!(text, " {} |", Unit::Megabytes.show(bytes / 1e6));
        }
        let _ = writeln!(text, " {:.2} |", exponent(&memory));
    }
    if let Some(plots) = plots {
        let program = build(
            "plot",
            "plotters = { version = \"0.3\", default-features = false, features = [\"svg_backend\", \"line_series\", \"full_palette\"] }\n",
            include_str!("programs/plot.rs"),
            workspace,
            scratch,
        )?;
        for (name, rows, title, label) in [
            ("time", &times, "Processor time by guests", "milliseconds"),
            ("memory", &memories, "Peak memory by guests", "MB"),
        ] {
            let file = scratch.join(format!("{name}.txt"));
            crate::files::write(&file, rows)?;
            let mut command = measure::command(&program, scratch);
            command.arg(&file).args([title, "guests", label]);
            command.arg(plots.join(format!("{name}.svg")));
            measure::run(&command, scratch)?;
        }
    }
    Ok(text)
}

/// The slope of the last decade in logarithms: 1 is linear. Smaller clusters are left out, because
/// fixed costs dominate there.
fn exponent(points: &[(f64, f64)]) -> f64 {
    match points {
        [.., (less, small), (more, large)] => (large / small).ln() / (more / less).ln(),
        _ => f64::NAN,
    }
}

fn build(
    name: &str,
    dependencies: &str,
    source: &str,
    workspace: &Path,
    scratch: &Path,
) -> Result<PathBuf, String> {
    let folder = scratch.join(name);
    package(&folder, name, dependencies, workspace)?;
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("{}: {error}", manifest.display()))?
        .replace("\"rt\"]", "\"rt\", \"time\", \"test-util\"]");
    crate::files::write(&manifest, &text)?;
    crate::files::write(&folder.join("src/main.rs"), source)?;
    let project = Project {
        folder,
        target: scratch.join("target"),
        many: 0,
        endpoints: 0,
    };
    binary(&project, &format!("bench-{name}"), scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_line_is_one_and_of_a_square_two() {
        let line = [(10.0, 5.0), (100.0, 50.0)];
        let square = [(1.0, 3.0), (10.0, 1.0), (100.0, 100.0)];
        assert!((exponent(&line) - 1.0).abs() < 1e-9);
        assert!((exponent(&square) - 2.0).abs() < 1e-9);
    }
}
