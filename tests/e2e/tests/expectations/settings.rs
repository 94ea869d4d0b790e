//! Setters of PUT and POST accept the values of GET's answers.

use std::collections::BTreeSet;

use proxmox_api::request::Call;
use proxmox_e2e::request::WriteBack;
use proxmox_e2e::shape::{Returns, Shapes, Ty};
use proxmox_e2e::{ANSWERS, REQUESTS, WRITE_BACKS};
use serde_json::Value;

use crate::documents::{Kind, Maker};
use crate::replay::{corpus, records};

/// Writes an answer back, and returns the number of parameters.
fn write_back(of: &WriteBack, answer: &Value) -> Result<usize, String> {
    // Lists keep rejected elements separately.
    let Ok(written) = (of.write)(answer.clone()) else {
        return Ok(0);
    };
    let names = |call: &Call| -> BTreeSet<String> {
        let names = call.params().iter();
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let (whole, singly) = (names(&written.whole), names(&written.singly));
    for name in &singly {
        let (one, other) = (
            written.whole.params().get(name),
            written.singly.params().get(name),
        );
        // Required parameters were set before, and the settings replace them.
        let is_unchanged = names(&written.unchanged).contains(name);
        if one != other && !is_unchanged {
            return Err(format!(
                "`{name}` is {one:?} as a whole and {other:?} by its setter"
            ));
        }
    }
    if let Some(name) = whole.difference(&singly).find(|name| {
        // Members without a type are sent, too.
        answer.get(name.as_str()).is_none() && !name.ends_with(|c: char| c.is_ascii_digit())
    }) {
        return Err(format!("`{name}` comes from nowhere"));
    }
    let mut changed = names(&written.unchanged);
    changed.remove("digest");
    changed.retain(|name| !whole.contains(name) || !singly.contains(name));
    match changed.is_empty() {
        true => Ok(whole.len()),
        false => Err(format!("{changed:?} differ from themselves")),
    }
}

fn finish(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems[..problems.len().min(40)].join("\n")
    );
}

#[test]
fn every_writable_answer_is_written_back() {
    let shapes = Shapes::get();
    let mut problems = Vec::new();
    let mut parameters = 0;
    for of in WRITE_BACKS {
        let returns = Returns::Data(Ty::Item(of.of.to_owned()));
        for kind in [Kind::Full, Kind::Minimal] {
            let (body, _) = Maker::new(shapes, kind).document(&returns);
            match write_back(of, &body["data"]) {
                Ok(count) => parameters += count,
                Err(problem) => problems.push(format!("{} of {}: {problem}", of.endpoint, of.of)),
            }
        }
    }
    let puts: BTreeSet<&str> = (WRITE_BACKS.iter())
        .map(|of| of.endpoint)
        .filter(|endpoint| endpoint.starts_with("PUT "))
        .collect();
    println!(
        "{} requests take {} answers, with {parameters} parameters; {} of them are PUTs",
        WRITE_BACKS
            .iter()
            .map(|of| of.endpoint)
            .collect::<BTreeSet<_>>()
            .len(),
        WRITE_BACKS.len(),
        puts.len()
    );
    finish(&problems);
    // Values that PUT and GET of one path do not share.
    let apart: Vec<&str> = REQUESTS
        .iter()
        .filter(|wire| wire.method == "PUT" && !puts.contains(wire.endpoint))
        .map(|wire| wire.endpoint.trim_start_matches("PUT "))
        .filter(|path| {
            ANSWERS
                .iter()
                .any(|answer| answer.method == "GET" && answer.path == *path)
        })
        .collect();
    assert_eq!(apart, APART);
}

/// Paths whose PUT sets nothing that their GET returns.
const APART: &[&str] = &[
    "/access/acl",
    "/cluster/acme/account/{name}",
    "/cluster/ceph/flags",
    "/cluster/ceph/flags/{flag}",
    "/cluster/sdn",
    "/nodes/{node}/apt/repositories",
    "/nodes/{node}/network",
    "/nodes/{node}/qemu/{vmid}/cloudinit",
    "/nodes/{node}/subscription",
    "/nodes/{node}/time",
    "/pools",
];

#[test]
fn recorded_answers_can_be_written_back() {
    let Some(files) = corpus() else { return };
    let (records, _) = records(&files);
    let shapes = Shapes::get();
    let mut problems = Vec::new();
    let mut written = 0;
    for record in &records {
        let (Some(answer), Some(Returns::Data(ty))) = (
            &record.answer,
            shapes.answers.get(&record.endpoint.to_string()),
        ) else {
            continue;
        };
        let (rows, ty) = match (ty, &answer["data"]) {
            (Ty::Array(of), Value::Array(rows)) => (rows.iter().collect(), &**of),
            (ty, data) => (vec![data], ty),
        };
        let Ty::Item(item) = ty else { continue };
        for of in WRITE_BACKS.iter().filter(|of| of.of == item) {
            for row in &rows {
                match write_back(of, row) {
                    Ok(0) => {}
                    Ok(_) => written += 1,
                    Err(problem) => {
                        problems.push(format!("{}: {}: {problem}", record.file, of.endpoint))
                    }
                }
            }
        }
    }
    println!("{written} recorded objects were written back");
    finish(&problems);
    assert!(written > 0);
}
