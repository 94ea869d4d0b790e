//! `cargo xtask coverage`: how much of the API is covered, typed and documented.

use std::collections::BTreeMap;
use std::fs;

use proxmox_codegen::generate::{Output, Report};
use proxmox_codegen::product::Product;
use serde_json::{Value, json};

use crate::recorded::{self, Recorded};
use crate::{Outcome, files, regen, say, workspace};

#[path = "../../proxmox-api/src/error/api/kind/table.rs"]
mod table;

/// Count covered, typed and documented items; list the others
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail if a count is worse than the recorded one (schema/coverage.json)
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// List the texts of refusals that have no kind
    #[arg(long)]
    refusals: bool,
    /// Record the counts, for later checks
    #[arg(long)]
    record: bool,
}

/// The counts of each product.
const RECORD: &str = "schema/coverage.json";

/// The counts that may only grow, and those that may only shrink.
const GROW: &[&str] = &[
    "endpoints",
    "returns.typed",
    "parameters.total",
    "property_strings",
    "refusals.texts",
];
const SHRINK: &[&str] = &[
    "returns.open",
    "returns.untyped",
    "returns.untyped_members",
    "parameters.untyped",
    "privileges.unreviewed",
    "refusals.other",
    "required.unsourced",
    "undocumented",
];

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let root = workspace();
    let output = regen::generate(product, &root)?;
    let report = &output.report;
    let recorded = recorded::observe(product, &root, &output)?;
    let refusals = Refusals::read(product, &root)?;
    let json = to_json(report, &refusals);
    let pretty = |json: &Value| {
        serde_json::to_string_pretty(json)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string())
    };
    let mut counts = counts(&root)?;
    if args.record {
        counts[product.name] = json.clone();
        files::write(&root.join(RECORD), &pretty(&counts)?)?;
    }
    if args.check {
        let mut worse = compare(&counts[product.name], &json);
        worse.extend(refusals.unexplained.iter().cloned());
        if let Some(recorded) = &recorded {
            worse.extend(recorded.unconfirmed.iter().cloned());
            let named = recorded.observed.extra.keys();
            worse.extend(named.map(|place| format!("{place}: recorded, but not declared")));
        }
        if !worse.is_empty() {
            return Err(format!(
                "coverage got worse:\n  {}\n`cargo xtask next` names what is new and lacks something, with the lines to paste",
                worse.join("\n  ")
            ));
        }
    }
    match args.json {
        true => say(&pretty(&json)?),
        false => {
            let mut text = describe(product, report, recorded.as_ref());
            text.push_str(&refusals.describe(args.refusals));
            say(&text)
        }
    }
}

/// The recorded counts, by product.
fn counts(root: &std::path::Path) -> Result<Value, String> {
    let record = root.join(RECORD);
    serde_json::from_str(&files::read(&record)?)
        .map_err(|error| format!("{}: {error}", record.display()))
}

/// Counts behind the recorded ones, as things to do.
pub(crate) fn lag(
    product: &Product,
    root: &std::path::Path,
    output: &Output,
) -> Result<Vec<String>, String> {
    let old = &counts(root)?[product.name];
    let new = to_json(&output.report, &Refusals::read(product, root)?);
    let mut todo: Vec<String> = (compare(old, &new).into_iter())
        .map(|worse| format!("got worse: {worse}; `cargo xtask coverage` names the places"))
        .collect();
    if *old != new {
        todo.push("cargo xtask coverage --record".to_owned());
    }
    Ok(todo)
}

/// The texts that handlers can end with, and those without a kind.
struct Refusals {
    kinds: BTreeMap<&'static str, usize>,
    other: Vec<String>,
    /// Refusals without a kind and without a reason.
    unexplained: Vec<String>,
    texts: usize,
}

impl Refusals {
    fn read(product: &Product, root: &std::path::Path) -> Result<Self, String> {
        let path = product.schema(root).join("refusals.tsv");
        let file =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut found = Self {
            kinds: BTreeMap::new(),
            other: Vec::new(),
            unexplained: Vec::new(),
            texts: 0,
        };
        for (number, line) in file.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let mut columns = line.split('\t');
            let (Some(how), Some(text), Some(place)) =
                (columns.next(), columns.next(), columns.next())
            else {
                return Err(format!(
                    "{}:{}: wants three columns",
                    path.display(),
                    number + 1
                ));
            };
            let refusal = match how {
                "text" => table::Refusal::Text,
                "parameter" => table::Refusal::Parameter,
                "permission" => table::Refusal::Status(403),
                _ => return Err(format!("{}:{}: {how}?", path.display(), number + 1)),
            };
            found.texts += 1;
            match table::find(refusal, &text.replace('*', "x")) {
                Some(kind) => *found.kinds.entry(kind).or_default() += 1,
                None => match columns.next() {
                    Some(why) => found.other.push(format!("{text}  ({place}): {why}")),
                    None => {
                        found.other.push(format!("{text}  ({place})"));
                        found.unexplained.push(format!(
                            "{text} ({place}): of no kind, and without a reason"
                        ));
                    }
                },
            }
        }
        Ok(found)
    }

    fn describe(&self, named: bool) -> String {
        let mut text = format!(
            "{:<22}{} texts of handlers, {} of a kind, {} of none (named by --refusals)\n",
            "refusals",
            self.texts,
            self.texts - self.other.len(),
            self.other.len()
        );
        if named {
            for (kind, count) in &self.kinds {
                text.push_str(&format!("  {count:>4} {kind}\n"));
            }
            text.push_str("  of no kind:\n");
            for other in &self.other {
                text.push_str(&format!("    {other}\n"));
            }
        }
        text
    }
}

fn to_json(report: &Report, refusals: &Refusals) -> Value {
    json!({
        "releases": report.releases,
        "endpoints": report.endpoints,
        "endpoints_by_release": report.endpoints_by_release,
        "tasks": report.tasks,
        "returns": {
            "typed": report.returns_typed,
            "open": report.returns_open.len(),
            "untyped": report.returns_untyped.len(),
            "untyped_members": report.members_untyped,
        },
        "parameters": { "total": report.parameters, "untyped": report.parameters_untyped },
        "required": { "sourced": report.required, "unsourced": report.required_without_reason.len() },
        "privileges": { "checks": report.privileges, "unreviewed": report.privileges_unreviewed.len() },
        "property_strings": report.property_strings,
        "refusals": { "texts": refusals.texts, "other": refusals.other.len() },
        "formats": { "mapped": report.formats_mapped.len(), "plain": report.formats_plain.len() },
        "documented": report.documented - report.undocumented + report.endpoints - report.undescribed.len(),
        "undocumented": report.undocumented + report.undescribed.len(),
    })
}

fn number(json: &Value, path: &str) -> u64 {
    path.split('.')
        .try_fold(json, |json, key| json.get(key))
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

fn compare(old: &Value, new: &Value) -> Vec<String> {
    let change = |path: &&'static str| (*path, number(old, path), number(new, path));
    let fell = GROW.iter().map(change).filter(|(_, old, new)| new < old);
    let rose = SHRINK.iter().map(change).filter(|(_, old, new)| new > old);
    fell.chain(rose)
        .map(|(path, old, new)| format!("{path}: {old} before, {new} now"))
        .collect()
}

fn describe(product: &Product, report: &Report, recorded: Option<&Recorded>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<22}{value}\n"));
    line("product", product.name.to_owned());
    let by_release: Vec<String> = report
        .endpoints_by_release
        .iter()
        .map(|(release, count)| format!("{release}: {count}"))
        .collect();
    line(
        "endpoints",
        format!("{} ({})", report.endpoints, by_release.join(", ")),
    );
    line(
        "returns",
        format!(
            "{} of {} typed, {} open, {} untyped",
            report.returns_typed,
            report.endpoints,
            report.returns_open.len(),
            report.returns_untyped.len()
        ),
    );
    line("untyped members", report.members_untyped.to_string());
    line(
        "parameters",
        format!(
            "{}, {} untyped",
            report.parameters, report.parameters_untyped
        ),
    );
    line("property strings", report.property_strings.to_string());
    line(
        "named formats",
        format!(
            "{} with a type of their own, {} plain text",
            report.formats_mapped.len(),
            report.formats_plain.len()
        ),
    );
    line(
        "privileges",
        format!(
            "{} checks of handlers that the schema does not declare, {} endpoints not reviewed",
            report.privileges,
            report.privileges_unreviewed.len()
        ),
    );
    line(
        "undocumented",
        format!(
            "{} of {} endpoints, {} of {} fields and parameters",
            report.undescribed.len(),
            report.endpoints,
            report.undocumented,
            report.documented
        ),
    );
    line(
        "required members",
        format!(
            "{} with a reason, {} more that the schema requires are optional without one",
            report.required,
            report.required_without_reason.len()
        ),
    );
    let observed = recorded.map(|recorded| &recorded.observed);
    line(
        "recorded answers",
        match observed {
            Some(observed) => format!(
                "{}: {} members of them not declared, {} listed as open",
                observed.answers,
                observed.extra.len(),
                observed.open.len()
            ),
            None => "there are none beside the workspace".to_owned(),
        },
    );
    if let Some(observed) = observed {
        let times = |(place, times): (&String, &usize)| (place.clone(), format!("{times} times"));
        section(
            &mut text,
            "Recorded members that are not declared",
            &observed.extra.iter().map(times).collect(),
        );
    }
    section(
        &mut text,
        "Open answers, with the reason",
        &report.returns_open,
    );
    let names = |list: &std::collections::BTreeSet<String>| {
        list.iter()
            .map(|name| (name.clone(), String::new()))
            .collect()
    };
    section(
        &mut text,
        "Answers without a type",
        &names(&report.returns_untyped),
    );
    section(
        &mut text,
        "Members that the schema requires, and that are optional without a reason (required.toml)",
        &names(&report.required_without_reason),
    );
    section(
        &mut text,
        "Endpoints whose handler's checks are not reviewed (privileges.toml)",
        &names(&report.privileges_unreviewed),
    );
    section(
        &mut text,
        "Endpoints without documentation",
        &names(&report.undescribed),
    );
    section(
        &mut text,
        "Fields and parameters without documentation",
        &names(&report.undocumented_places),
    );
    text
}

fn section(text: &mut String, title: &str, list: &BTreeMap<String, String>) {
    if list.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}:\n"));
    for (name, reason) in list {
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        text.push_str(&format!("  {name}{reason}\n"));
    }
}
