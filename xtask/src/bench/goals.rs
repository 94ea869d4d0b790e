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
const RIVAL: &str = "proxmox-api 0.2.0";

const GOALS: &[Goal] = &[
    Goal {
        row: "check of the crate alone, CPU",
        column: RIVAL,
        bound: AtMost(0.125),
        obstacle: "a quarter is the client without any endpoint, the rest is spread over 15,000 small functions: setters, steps \
                   of paths, Clone and Debug of 1,400 types",
    },
    Goal {
        row: "check of the crate alone, peak memory",
        column: RIVAL,
        bound: AtMost(0.25),
        obstacle: "without any endpoint it is 300 MB, for the dependencies' traits; the compiler then takes 10 to \
                   20 kB for every function and every impl, whatever is in it",
    },
    Goal {
        row: "release build of the crate alone, CPU",
        column: RIVAL,
        bound: AtMost(1.0 / 6.0),
        obstacle: "two fifths are reading, checking and metadata; most of the rest is code for our own transport, \
                   authentication and streams, which a library of bindings alone does not have",
    },
    Goal {
        row: "rlib of the crate",
        column: RIVAL,
        bound: AtMost(0.125),
        obstacle: "nine tenths are metadata: 11 MB for functions that are compiled only where they are used, 14 MB for \
                   tables of items",
    },
    Goal {
        row: "program with 3 endpoints, clean build, CPU",
        column: RAW,
        bound: AtMost(1.3),
        obstacle: "the crate itself must be built",
    },
    Goal {
        row: "program with 3 endpoints, rebuild, CPU",
        column: RAW,
        bound: AtMost(1.3),
        obstacle: "",
    },
    Goal {
        row: "program with 3 endpoints, stripped size",
        column: RAW,
        bound: Above(0.5),
        obstacle: "",
    },
    Goal {
        row: "rustdoc, size",
        column: OURS,
        bound: Ours(25.0),
        obstacle: "two thirds are what rustdoc writes on the page of every type about std's blanket implementations \
                   and auto traits; it has no switch for that",
    },
    Goal {
        row: "rustdoc, peak memory",
        column: OURS,
        bound: Ours(3000.0),
        obstacle: "",
    },
    Goal {
        row: "10,000 guests of a cluster (3294 kB), mean",
        column: "serde_json, own structs",
        bound: AtLeast(1.0),
        obstacle: "serde_json writes the nineteen members that came into a struct of nineteen; ours has 35 and keeps what is \
                   unknown, for three to five instructions a byte more",
    },
    Goal {
        row: "10,000 guests of a cluster (3294 kB), memory kept",
        column: "serde_json, Value",
        bound: AtMost(1.0 / 3.0),
        obstacle: "",
    },
    Goal {
        row: "1 at once, CPU per request",
        column: RAW,
        bound: AtMost(1.03),
        obstacle: "",
    },
    Goal {
        row: "64 at once, CPU per request",
        column: RAW,
        bound: AtMost(1.03),
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
        let mut table = Table::new(&[OURS, RAW, RIVAL]);
        let check = "check of the crate alone, CPU";
        table.add(check, Unit::Seconds, OURS, 2.0);
        table.add(check, Unit::Seconds, RIVAL, 8.0);
        let size = "program with 3 endpoints, stripped size";
        table.add(size, Unit::Megabytes, OURS, 3.4);
        table.add(size, Unit::Megabytes, RAW, 3.0);
        table.add("rustdoc, size", Unit::Megabytes, RIVAL, 3.0);
        let text = show(&table);
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("0.250, missed; reason: "), "{text}");
        assert!(lines[1].ends_with("0.40 above, met"), "{text}");
    }
}
