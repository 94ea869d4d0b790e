//! Goals for the figures, and the reasons for missed ones.

use std::fmt::Write as _;

use super::table::Table;

/// A bound for our figure.
enum Bound {
    /// Ours divided by theirs.
    AtMost(f64),
    /// Ours divided by theirs.
    AtLeast(f64),
    /// Ours less theirs.
    Above(f64),
    /// Ours alone.
    Ours(f64),
}

use Bound::{Above, AtLeast, AtMost, Ours};

struct Goal {
    row: &'static str,
    /// The column of the crate to compare with; ours for none.
    column: &'static str,
    bound: Bound,
    /// Printed if the goal is missed.
    obstacle: &'static str,
}

const OURS: &str = super::subjects::OURS;
const RAW: &str = super::subjects::RAW;
const WHOLE: &str = super::running::DECODERS[1];

const CAREFUL: &str = "every value is counted against the limit of memory, accepted in each form that servers send, and kept with \
                       its place if it does not fit";

const GOALS: &[Goal] = &[
    Goal {
        row: "check of the crate alone, peak memory",
        column: OURS,
        bound: Ours(700.0),
        obstacle: "without any endpoint it is 300 MB, for the dependencies' traits; the everyday layer is 190 MB, constructors \
                   and setters of answers 110 MB, documentation 80 MB, setters of requests 65 MB",
    },
    Goal {
        row: "program with 3 endpoints, clean build, CPU",
        column: RAW,
        bound: AtMost(0.95),
        obstacle: "the crate itself must be built: its default features have the whole API and the everyday layer",
    },
    Goal {
        row: "program with 3 endpoints, rebuild, CPU",
        column: RAW,
        bound: AtMost(0.6),
        obstacle: "linking is most of it, and the program is as large as with reqwest",
    },
    Goal {
        row: "program with 3 endpoints, stripped size",
        column: RAW,
        bound: Above(0.2),
        obstacle: "retries, limits, several hosts, logins and the check of answers",
    },
    Goal {
        row: "program with 100 endpoints, rebuild, CPU",
        column: OURS,
        bound: Ours(6.0),
        obstacle: "each type of answers is compiled in the program that uses it, with its copies, comparison and drop",
    },
    Goal {
        row: "rustdoc, size",
        column: OURS,
        bound: Ours(60.0),
        obstacle: "two thirds are what rustdoc writes on the page of every type about std's blanket implementations \
                   and auto traits; it has no option to omit them",
    },
    Goal {
        row: "rustdoc, peak memory",
        column: OURS,
        bound: Ours(3000.0),
        obstacle: "",
    },
    Goal {
        row: "10,000 guests of a cluster (3294 kB), mean",
        column: WHOLE,
        bound: AtLeast(1.0),
        obstacle: CAREFUL,
    },
    Goal {
        row: "10,000 guests of a cluster (3294 kB), peak memory, allocated",
        column: WHOLE,
        bound: AtMost(1.2),
        obstacle: "ours includes the body, which the others hold outside of the measurement",
    },
    Goal {
        row: "1,000 virtual machines of a node (271 kB), mean",
        column: WHOLE,
        bound: AtLeast(1.0),
        obstacle: CAREFUL,
    },
    Goal {
        row: "one full VM configuration (4 kB), mean",
        column: WHOLE,
        bound: AtLeast(1.0),
        obstacle: "",
    },
    Goal {
        row: "64 at once, CPU per request",
        column: RAW,
        bound: AtMost(1.0),
        obstacle: "data about each request for errors, spans, limits and retries",
    },
];

/// A line for each goal whose row the table has.
pub(super) fn show(table: &Table) -> String {
    let mut text = String::new();
    for goal in GOALS {
        let Some(ours) = table.cell(goal.row, OURS) else {
            continue;
        };
        let Some(theirs) = table.cell(goal.row, goal.column) else {
            continue;
        };
        let (wanted, is, met) = match goal.bound {
            AtMost(most) => {
                let is = ours / theirs;
                (
                    format!("at most {most:.3} of"),
                    format!("{is:.3}"),
                    is <= most,
                )
            }
            AtLeast(least) => {
                let is = ours / theirs;
                (
                    format!("at least {least:.2} of"),
                    format!("{is:.2}"),
                    is >= least,
                )
            }
            Above(most) => {
                let is = ours - theirs;
                (
                    format!("at most {most} above"),
                    format!("{is:.2} above"),
                    is <= most,
                )
            }
            Ours(most) => (
                format!("at most {most} for"),
                format!("{ours:.0}"),
                ours <= most,
            ),
        };
        let _ = write!(
            text,
            "* goal: {}, {wanted} {}: {is}, ",
            goal.row, goal.column
        );
        let _ = match (met, goal.obstacle) {
            (true, _) => writeln!(text, "met"),
            (false, "") => writeln!(text, "missed"),
            (false, obstacle) => writeln!(text, "missed; reason: {obstacle}"),
        };
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Unit;
    use super::*;

    #[test]
    fn met_and_missed_goals_are_reported() {
        let mut table = Table::new(&[OURS, RAW]);
        let rebuild = "program with 3 endpoints, rebuild, CPU";
        table.add(rebuild, Unit::Seconds, OURS, 2.0);
        table.add(rebuild, Unit::Seconds, RAW, 2.5);
        let size = "program with 3 endpoints, stripped size";
        table.add(size, Unit::Megabytes, OURS, 3.1);
        table.add(size, Unit::Megabytes, RAW, 3.0);
        table.add("rustdoc, size", Unit::Megabytes, RAW, 3.0);
        let text = show(&table);
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("0.800, missed; reason: "), "{text}");
        assert!(lines[1].ends_with("0.10 above, met"), "{text}");
    }
}
