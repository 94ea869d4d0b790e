//! The table that a run prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The notation of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Megabytes,
    Kilobytes,
    MegabytesPerSecond,
    PerSecond,
    Count,
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        let digits = match value {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            _ => 2,
        };
        match self {
            Self::Seconds => format!("{value:.digits$} s"),
            Self::Milliseconds => format!("{value:.digits$} ms"),
            Self::Microseconds => format!("{value:.digits$} µs"),
            Self::Megabytes => format!("{value:.digits$} MB"),
            Self::Kilobytes => format!("{value:.digits$} kB"),
            Self::MegabytesPerSecond => format!("{value:.0} MB/s"),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// Figures by row and column; every cell may hold several runs.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Unit)>,
    cells: BTreeMap<(usize, usize), Vec<f64>>,
    notes: Vec<String>,
}

impl Table {
    /// The first column is ours; the ratios of the others are ours by theirs.
    pub(super) fn new(columns: &[&str]) -> Self {
        Self {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            cells: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a run's figure, and prints it at once: a run may take an hour, and may be stopped.
    pub(super) fn add(&mut self, row: &str, unit: Unit, column: &str, value: f64) {
        eprintln!("  {column}, {row}: {}", unit.show(value));
        let row = match self.rows.iter().position(|(label, _)| label == row) {
            Some(row) => row,
            None => {
                self.rows.push((row.to_owned(), unit));
                self.rows.len() - 1
            }
        };
        if let Some(column) = self.columns.iter().position(|known| known == column) {
            self.cells.entry((row, column)).or_default().push(value);
        }
    }

    /// Reports a figure that could not be measured, once.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn median(&self, row: usize, column: usize) -> Option<f64> {
        let mut runs = self.cells.get(&(row, column))?.clone();
        runs.sort_by(f64::total_cmp);
        let middle = runs.len() / 2;
        Some(match runs.len() % 2 {
            1 => runs[middle],
            _ => (runs[middle - 1] + runs[middle]) / 2.0,
        })
    }

    /// The median of a cell.
    pub(super) fn cell(&self, row: &str, column: &str) -> Option<f64> {
        let row = self.rows.iter().position(|(label, _)| label == row)?;
        let column = self.columns.iter().position(|known| known == column)?;
        self.median(row, column)
    }

    /// The table in Markdown: medians, with our ratio behind each.
    pub(super) fn show(&self) -> String {
        let mut text = String::from("| |");
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        text.push_str("\n|---|");
        text.push_str(&"---:|".repeat(self.columns.len()));
        text.push('\n');
        for (row, (label, unit)) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {label} |");
            let ours = self.median(row, 0);
            for column in 0..self.columns.len() {
                let cell = match (self.median(row, column), ours) {
                    (None, _) => "–".to_owned(),
                    (Some(value), Some(ours)) if column > 0 && value > 0.0 => {
                        format!("{} ({:.2})", unit.show(value), ours / value)
                    }
                    (Some(value), _) => unit.show(value),
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = write!(text, "\n* {note}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_medians_and_ratios() {
        let mut table = Table::new(&["ours", "theirs"]);
        for (column, value) in [("ours", 3.0), ("ours", 1.0), ("ours", 2.0), ("theirs", 8.0)] {
            table.add("check", Unit::Seconds, column, value);
        }
        table.add("docs", Unit::Megabytes, "ours", 120.4);
        table.note("theirs has no docs");
        table.note("theirs has no docs");
        assert_eq!(
            table.show(),
            "| | ours | theirs |\n|---|---:|---:|\n\
             | check | 2.00 s | 8.00 s (0.25) |\n\
             | docs | 120 MB | – |\n\n* theirs has no docs\n"
        );
    }
}
