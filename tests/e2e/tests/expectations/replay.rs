//! Answers recorded from real servers.
//!
//! They are beside the workspace; without them nothing is replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proxmox_codegen::recorded::{Observed, Shapes};
use proxmox_e2e::PROPERTY_STRINGS;
use proxmox_e2e::answer::{Answer, find};
use proxmox_e2e::shape::{self, Item, Returns, Ty};
use proxmox_e2e::show::{EXTRA, REST, TEXT, UNKNOWN_VALUE};
use serde_json::Value;

use crate::meaning::{Meaning, meaning};

pub(crate) struct Record {
    pub(crate) file: String,
    pub(crate) endpoint: &'static Answer,
    recorded: bool,
    request: Value,
    /// `None` if the call failed.
    pub(crate) answer: Option<Value>,
}

/// How often something happened.
#[derive(Debug, Default)]
struct Tally {
    decoded: usize,
    endpoints: BTreeSet<String>,
    failed: Vec<String>,
    extra: usize,
    extra_names: BTreeMap<String, usize>,
    unknown_values: BTreeMap<String, usize>,
    texts: BTreeMap<String, usize>,
    no_upid: Vec<String>,
    /// Rejected parts of top-level lists.
    kept_aside: Vec<String>,
}

pub(crate) fn corpus() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let Ok(sources) = std::fs::read_dir(&folder) else {
        println!("skipped: there are no recorded answers beside the workspace");
        return None;
    };
    let mut files = Vec::new();
    for source in sources {
        let source = source.expect("readable").path();
        for file in std::fs::read_dir(&source).into_iter().flatten() {
            let path = file.expect("readable").path();
            files.extend(
                path.extension()
                    .is_some_and(|e| e == "json")
                    .then_some(path),
            );
        }
    }
    files.sort();
    Some(files)
}

/// The records of known endpoints, and the calls of unknown ones.
pub(crate) fn records(files: &[PathBuf]) -> (Vec<Record>, BTreeMap<String, usize>) {
    let mut records = Vec::new();
    let mut unknown = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(path).expect("readable");
        let record: Value = serde_json::from_str(&text).expect("a record is JSON");
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        let (method, called) = (text("method"), text("path"));
        let good = record["status"]
            .as_u64()
            .is_some_and(|status| (200..300).contains(&status));
        let recorded = record["recorded"] == Value::Bool(true);
        let Some(endpoint) = find(method, called) else {
            assert!(
                !(good && recorded),
                "{}: a server answered {method} {called}, which is not an endpoint",
                path.display()
            );
            *unknown.entry(format!("{method} {called}")).or_default() += 1;
            continue;
        };
        let template = record["template"].as_str();
        assert!(
            template.is_none_or(|template| template == endpoint.path),
            "{}: {called} is taken for {endpoint:?}",
            path.display()
        );
        let parent = path.parent().and_then(Path::file_name);
        let names = [parent, path.file_name()];
        let names = names.map(|name| name.unwrap_or_default().to_string_lossy());
        records.push(Record {
            file: names.join("/"),
            endpoint,
            recorded,
            request: record["request_body"].clone(),
            answer: (good && record["response"].get("data").is_some())
                .then(|| record["response"].clone()),
        });
    }
    (records, unknown)
}

fn walk(place: &str, data: &Value, tally: &mut Tally) {
    match data {
        Value::Object(object) => {
            for (name, value) in object {
                match name.as_str() {
                    EXTRA => {
                        for key in value.as_object().into_iter().flatten() {
                            tally.extra += 1;
                            let name = format!("{place}.{}", key.0);
                            *tally.extra_names.entry(name).or_default() += 1;
                        }
                    }
                    REST => {
                        tally.kept_aside.push(format!("{place}: {value}"));
                    }
                    UNKNOWN_VALUE => {
                        let name = format!("{place} = {value}");
                        *tally.unknown_values.entry(name).or_default() += 1;
                    }
                    TEXT => *tally.texts.entry(format!("{place} = {value}")).or_default() += 1,
                    _ => walk(&format!("{place}.{name}"), value, tally),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(&format!("{place}[]"), item, tally);
            }
        }
        _ => {}
    }
}

impl Tally {
    fn take(&mut self, record: &Record, body: &Value) {
        let name = record.endpoint.to_string();
        let text = serde_json::to_vec(body).expect("JSON");
        match (record.endpoint.decode)(&text) {
            Ok(data) => {
                self.decoded += 1;
                if let Some(data) = data {
                    if data.get("(no UPID)").is_some() {
                        self.no_upid.push(format!("{} {name}: {body}", record.file));
                    }
                    walk(&name, &data, self);
                }
                self.endpoints.insert(name);
            }
            Err(error) => self.failed.push(format!("{} {name}: {error}", record.file)),
        }
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: {} answers of {} endpoints decoded, {} failed; {} values kept in extra \
             ({} names), {} unknown enum values, {} property strings kept as text",
            self.decoded,
            self.endpoints.len(),
            self.failed.len(),
            self.extra,
            self.extra_names.len(),
            self.unknown_values.values().sum::<usize>(),
            self.texts.values().sum::<usize>(),
        );
        for problem in self
            .failed
            .iter()
            .chain(&self.no_upid)
            .chain(&self.kept_aside)
        {
            println!("  {problem}");
        }
        for (title, names) in [
            ("in extra", &self.extra_names),
            ("unknown", &self.unknown_values),
            ("as text", &self.texts),
        ] {
            for (name, count) in names {
                println!("  {title}: {name} ({count} times)");
            }
        }
    }
}

#[test]
fn recorded_answers_decode() {
    let Some(files) = corpus() else { return };
    let (records, unknown) = records(&files);
    let mut live = Tally::default();
    let mut other = Tally::default();
    let mut failures = 0;
    for record in &records {
        let Some(body) = &record.answer else {
            failures += 1;
            continue;
        };
        match record.recorded {
            true => live.take(record, body),
            false => other.take(record, body),
        }
    }
    println!(
        "{} records: {failures} are errors of the server, {} belong to no endpoint",
        files.len(),
        unknown.values().sum::<usize>()
    );
    for (call, count) in &unknown {
        println!("  {call} ({count} times)");
    }
    live.report("recorded live");
    other.report("of unclear origin or written by hand");
    let shapes = Shapes::read(
        include_str!("../../src/generated/shapes.json"),
        &crate::overlay(),
    );
    let shapes = shapes.expect("both are readable");
    let mut observed = Observed::default();
    for record in &records {
        if let Some(body) = &record.answer {
            let endpoint = record.endpoint.to_string();
            shapes.observe(&endpoint, &body["data"], record.recorded, &mut observed);
        }
    }
    println!("listed as open: {:?}", observed.open);
    assert!(
        observed.extra.is_empty(),
        "declared nowhere, and not listed as open: {:?}",
        observed.extra
    );
    let unconfirmed = shapes.unconfirmed(&observed);
    assert!(unconfirmed.is_empty(), "{unconfirmed:#?}");
    assert!(live.decoded > 0, "the recordings hold no answer");
    assert!(
        live.failed.is_empty() && live.no_upid.is_empty() && live.kept_aside.is_empty(),
        "{} recorded answers do not decode, {} in parts",
        live.failed.len() + live.no_upid.len(),
        live.kept_aside.len()
    );
}

/// The property strings in a value, with their types.
fn collect<'a>(
    shapes: &'a shape::Shapes,
    ty: &'a Ty,
    json: &Value,
    found: &mut BTreeSet<(&'a str, String)>,
) {
    match (ty, json) {
        (Ty::Optional(of) | Ty::Pending(of), _) => collect(shapes, of, json, found),
        (Ty::Array(of), Value::Array(items)) => {
            for item in items {
                collect(shapes, of, item, found);
            }
        }
        (Ty::Array(of), json) => collect(shapes, of, json, found),
        (Ty::Map(of), Value::Object(object)) => {
            for value in object.values() {
                collect(shapes, of, value, found);
            }
        }
        (Ty::Item(name), json) => match (&shapes.items[name], json) {
            (Item::Properties(_), Value::String(text)) => {
                found.insert((name, text.clone()));
            }
            (Item::Struct(members), Value::Object(object)) => {
                for (key, value) in object {
                    let base = key.trim_end_matches(|c: char| c.is_ascii_digit());
                    let member = members.iter().find(|member| match member.indexed {
                        true => member.name == base && base != key,
                        false => member.name == *key,
                    });
                    if let Some(member) = member {
                        collect(shapes, &member.ty, value, found);
                    }
                }
            }
            _ => {}
        },
        _ => {}
    }
}

#[test]
fn recorded_property_strings_keep_their_meaning() {
    let Some(files) = corpus() else { return };
    let shapes = shape::Shapes::get();
    let (records, _) = records(&files);
    let mut found: BTreeSet<(&str, String)> = BTreeSet::new();
    for record in &records {
        let key = record.endpoint.to_string();
        if let (Some(body), Returns::Data(ty)) = (&record.answer, &shapes.answers[&key]) {
            collect(shapes, ty, &body["data"], &mut found);
        }
        for (name, value) in record.request.as_object().into_iter().flatten() {
            let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let accepted = &shapes.parameters[&key];
            let indexed = || accepted.get(&format!("{base}[n]"));
            if let Some(ty) = accepted.get(name).or_else(indexed) {
                collect(shapes, ty, value, &mut found);
            }
        }
    }
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept_as_text = 0;
    for (name, text) in &found {
        let property = PROPERTY_STRINGS
            .iter()
            .find(|property| property.name == *name);
        let property = property.expect("a type of property string");
        let Item::Properties(of) = &shapes.items[*name] else {
            panic!("{name} is no property string");
        };
        let read = (property.read)(text);
        let expected = meaning(text, of);
        assert_eq!(
            meaning(&read.written, of),
            expected,
            "{name}: {text:?} became {:?}",
            read.written
        );
        match (&read.strict, &expected) {
            (Ok(_), Meaning::Keys(_)) => {}
            (Err(_), Meaning::Text(_)) => {
                kept_as_text += 1;
                println!("  kept as text: {name} {text:?}");
            }
            // From another release, or with a value that no release accepts.
            (Err(error), Meaning::Keys(_)) => {
                println!("  only leniently: {name} {text:?}: {error}")
            }
            (strict, _) => panic!("{name}: {text:?} is {expected:?}, read as {strict:?}"),
        }
        *types.entry(name).or_default() += 1;
    }
    println!(
        "{} recorded property strings of {} types keep their meaning, {kept_as_text} of them as text: {types:?}",
        found.len(),
        types.len()
    );
    assert!(found.len() > 100);
}
