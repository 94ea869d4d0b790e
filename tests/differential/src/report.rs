//! The results of a run, as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::compare::{Difference, Kind};
use crate::list;
use crate::server::Server;

/// A call and both answers.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// `reading`, `refusals`, or the scenario.
    pub group: String,
    /// With filled placeholders.
    pub call: Call,
    pub differences: Vec<Difference>,
    pub first: Answer,
    pub second: Answer,
}

/// A call that was not made.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    pub group: String,
    pub call: Call,
    pub why: String,
}

/// The totals of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub accepted: usize,
    /// Status 501: there is no such call, or the path is invalid.
    pub not_there: usize,
    pub refused: usize,
    pub unanswered: usize,
    pub tasks: usize,
    pub tasks_failed: usize,
    pub decoded: usize,
    pub undecoded: usize,
    /// Extra members, by endpoint and place.
    pub extra_members: usize,
    /// Unknown enum values, and invalid property strings.
    pub unknown_values: usize,
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub first: String,
    pub second: String,
    pub exchanges: Vec<Exchange>,
    pub skipped: Vec<Skipped>,
    /// Objects that are left behind.
    pub left: Vec<String>,
    pub interrupted: bool,
}

impl Report {
    pub(crate) fn new(first: &Server, second: &Server) -> Self {
        Self {
            first: first.title.clone(),
            second: second.title.clone(),
            exchanges: Vec::new(),
            skipped: Vec::new(),
            left: Vec::new(),
            interrupted: false,
        }
    }

    pub(crate) fn add(&mut self, exchange: Exchange) {
        self.exchanges.push(exchange);
    }

    pub(crate) fn skip(&mut self, group: &str, call: &Call, why: String) {
        self.skipped.push(Skipped {
            group: group.to_owned(),
            call: call.clone(),
            why,
        });
    }

    /// The number of calls with each kind of difference.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for exchange in &self.exchanges {
            let of_call: BTreeSet<Kind> = exchange.differences.iter().map(|d| d.kind).collect();
            for kind in of_call {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        kinds
    }

    /// Whether both servers did the same, and all accepted answers decode.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let problem = |answer: &Answer| answer.fit.problem.is_some();
        self.exchanges.iter().all(|exchange| {
            exchange.differences.is_empty()
                && !problem(&exchange.first)
                && !problem(&exchange.second)
        })
    }

    /// The called endpoints.
    #[must_use]
    pub fn endpoints(&self) -> BTreeSet<String> {
        self.exchanges
            .iter()
            .filter_map(|exchange| list::endpoint(&exchange.call))
            .collect()
    }

    /// The totals of both servers.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        [
            count(self.exchanges.iter().map(|exchange| &exchange.first)),
            count(self.exchanges.iter().map(|exchange| &exchange.second)),
        ]
    }

    /// As JSON, without the bodies of answers unless requested.
    ///
    /// # Errors None known.
    pub fn json(&self, bodies: bool) -> Result<String, String> {
        let mut report = self.clone();
        if !bodies {
            for exchange in &mut report.exchanges {
                exchange.first.body = None;
                exchange.second.body = None;
            }
        }
        let json = serde_json::json!({
            "counts": report.counts().map(|counts| serde_json::to_value(counts).unwrap_or_default()),
            "kinds": report.kinds().into_iter().map(|(kind, count)| {
                (serde_json::to_value(kind).unwrap_or_default().as_str().unwrap_or_default().to_owned(), count)
            }).collect::<BTreeMap<_, _>>(),
            "run": report,
        });
        serde_json::to_string_pretty(&json).map_err(|error| error.to_string())
    }
}

fn count<'a>(answers: impl Iterator<Item = &'a Answer>) -> Counts {
    let mut counts = Counts::default();
    let (mut extra_members, mut unknown_values) = (BTreeSet::new(), BTreeSet::new());
    for answer in answers {
        match answer.status {
            None => counts.unanswered += 1,
            Some(501) => counts.not_there += 1,
            Some(_) if answer.accepted() => counts.accepted += 1,
            Some(_) => counts.refused += 1,
        }
        if let Some(end) = &answer.task {
            counts.tasks += 1;
            counts.tasks_failed += usize::from(end != "Ok" && !end.starts_with("Warnings"));
        }
        counts.decoded += usize::from(answer.fit.decoded);
        counts.undecoded += usize::from(answer.fit.problem.is_some());
        for place in &answer.fit.extra_members {
            extra_members.insert((&answer.fit.endpoint, place));
        }
        for place in &answer.fit.unknown_values {
            unknown_values.insert((&answer.fit.endpoint, place));
        }
    }
    counts.extra_members = extra_members.len();
    counts.unknown_values = unknown_values.len();
    counts
}

/// By endpoint: the differences, and their number.
type Grouped<T> = BTreeMap<String, BTreeMap<T, Vec<String>>>;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "first:  {}", self.first)?;
        writeln!(f, "second: {}", self.second)?;
        for kind in Kind::ALL {
            let mut grouped: Grouped<&Difference> = BTreeMap::new();
            for exchange in &self.exchanges {
                let endpoint = endpoint(exchange);
                for difference in exchange.differences.iter().filter(|d| d.kind == kind) {
                    let calls = grouped.entry(endpoint.clone()).or_default();
                    calls.entry(difference).or_default().push(origin(exchange));
                }
            }
            if grouped.is_empty() {
                continue;
            }
            let calls = self.kinds().get(&kind).copied().unwrap_or_default();
            writeln!(
                f,
                "\n== {kind}: {calls} calls of {} endpoints",
                grouped.len()
            )?;
            for (endpoint, differences) in grouped {
                writeln!(f, "  {endpoint}")?;
                for (difference, calls) in differences {
                    if !difference.place.is_empty() {
                        writeln!(f, "    at {}", difference.place)?;
                    }
                    writeln!(f, "    first:  {}", indented(&difference.first))?;
                    writeln!(f, "    second: {}", indented(&difference.second))?;
                    let more = match calls.len() {
                        1 => String::new(),
                        count => format!(" and {} more", count - 1),
                    };
                    writeln!(f, "      {}{more}", calls[0])?;
                }
            }
        }
        self.fits(f)?;
        self.totals(f)
    }
}

impl Report {
    /// Values that do not fit the crate's types.
    fn fits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Look = fn(&Answer) -> Vec<String>;
        let looks: [(&str, Look); 3] = [
            ("answers that do not decode decode", |answer| {
                answer.fit.problem.iter().cloned().collect()
            }),
            ("extra members", |answer| {
                answer.fit.extra_members.iter().cloned().collect()
            }),
            ("unknown values", |answer| {
                answer.fit.unknown_values.iter().cloned().collect()
            }),
        ];
        for (title, look) in looks {
            let mut grouped: Grouped<String> = BTreeMap::new();
            for exchange in &self.exchanges {
                for (whose, answer) in [("first", &exchange.first), ("second", &exchange.second)] {
                    for what in look(answer) {
                        let found = grouped.entry(endpoint(exchange)).or_default();
                        found.entry(what).or_default().push(whose.to_owned());
                    }
                }
            }
            if grouped.is_empty() {
                continue;
            }
            writeln!(f, "\n== {title}")?;
            for (endpoint, found) in grouped {
                writeln!(f, "  {endpoint}")?;
                for (what, mut whose) in found {
                    whose.sort();
                    whose.dedup();
                    writeln!(f, "    {what} ({})", whose.join(" and "))?;
                }
            }
        }
        Ok(())
    }

    fn totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.counts();
        writeln!(f, "\n{:28}{:>8}{:>8}", "", "first", "second")?;
        for (what, a, b) in [
            ("accepted", first.accepted, second.accepted),
            ("refused", first.refused, second.refused),
            ("not there (501)", first.not_there, second.not_there),
            ("not answered", first.unanswered, second.unanswered),
            ("tasks", first.tasks, second.tasks),
            ("tasks that failed", first.tasks_failed, second.tasks_failed),
            ("answers that decode", first.decoded, second.decoded),
            (
                "answers that do not decode",
                first.undecoded,
                second.undecoded,
            ),
            (
                "members without a type",
                first.extra_members,
                second.extra_members,
            ),
            (
                "unknown values",
                first.unknown_values,
                second.unknown_values,
            ),
        ] {
            writeln!(f, "{what:28}{a:>8}{b:>8}")?;
        }
        let same = self
            .exchanges
            .iter()
            .filter(|e| e.differences.is_empty())
            .count();
        writeln!(
            f,
            "\n{} calls of {} endpoints, {same} without differences, {} with differences; {} calls not made",
            self.exchanges.len(),
            self.endpoints().len(),
            self.exchanges.len() - same,
            self.skipped.len()
        )?;
        let mut why: BTreeMap<&str, usize> = BTreeMap::new();
        for skipped in &self.skipped {
            *why.entry(&skipped.why).or_default() += 1;
        }
        for (why, count) in why {
            writeln!(f, "  not made: {count}, because {why}")?;
        }
        if self.interrupted {
            writeln!(f, "interrupted: some calls were not sent")?;
        }
        match self.left.is_empty() {
            true => Ok(()),
            false => {
                writeln!(f, "\nLEFT BEHIND, to be removed by hand:")?;
                self.left
                    .iter()
                    .try_for_each(|left| writeln!(f, "  {left}"))
            }
        }
    }
}

fn endpoint(exchange: &Exchange) -> String {
    list::endpoint(&exchange.call).unwrap_or_else(|| exchange.call.path.clone())
}

/// The position of the call in the list.
fn origin(exchange: &Exchange) -> String {
    const MAX_LENGTH: usize = 160;
    let mut text = format!("{}: {}", exchange.group, exchange.call);
    if let Some((at, _)) = text.char_indices().nth(MAX_LENGTH) {
        text.truncate(at);
        let _ = write!(text, "…");
    }
    text
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n            ")
}
