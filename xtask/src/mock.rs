//! `cargo xtask mock`: the dump of a release that does not exist, for practice and for tests.
//!
//! It is the newest tracked release, changed in the ways in which releases have changed before.

use std::path::PathBuf;

use proxmox_codegen::dump;
use proxmox_codegen::facts::{
    Endpoint, Facts, Format, Method, Parameters, Permissions, Schema, Schemas, Type,
};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::PVE;
use serde_json::{Value, json};

use crate::{Outcome, files, say, workspace};

/// Write a made-up dump of the release after the newest one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    out: PathBuf,
    /// Give some methods a key that the importer does not know
    #[arg(long)]
    unknown_key: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let path = files::newest_release(&PVE, &workspace())?;
    let mut facts = facts_json::read(&files::read(&path)?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let release = facts.release;
    let list = change(&mut facts)?;
    let text = match args.unknown_key {
        false => dump::write(&facts),
        true => {
            let mut tree = dump::tree(&facts);
            mark(&mut tree, &mut 0);
            format!("const apiSchema = {tree}\n;\n")
        }
    };
    files::write(&args.out, &text)?;
    let next = format!("{}.{}", release.major, release.minor + 1);
    say(&format!(
        "{}: release {release} with {} changes; import it as {next}:\n  {}\n",
        args.out.display(),
        list.len(),
        list.join("\n  ")
    ))
}

fn optional(schema: Schema) -> Schema {
    Schema {
        optional: true,
        ..schema
    }
}

fn text(format: &str) -> Schema {
    Schema {
        format: Some(Format::Name(format.to_owned())),
        ..Schema::of(Type::String)
    }
}

fn object<const N: usize>(members: [(&str, Schema); N]) -> Schema {
    let members = members.map(|(name, schema)| (name.to_owned(), schema));
    Schema {
        properties: Some(Schemas::from(members)),
        ..Schema::of(Type::Object)
    }
}

fn list(items: Schema) -> Schema {
    Schema {
        items: Some(Box::new(items)),
        ..Schema::of(Type::Array)
    }
}

fn endpoint<const N: usize>(
    name: &str,
    parameters: [(&str, Schema); N],
    returns: Schema,
) -> Endpoint {
    let parameters = parameters.map(|(name, schema)| (name.to_owned(), schema));
    Endpoint {
        name: Some(name.to_owned()),
        protected: false,
        proxyto: None,
        allowtoken: true,
        download: false,
        upload: false,
        unstable: false,
        expose_credentials: false,
        permissions: Some(Permissions {
            user: Some("all".to_owned()),
            check: None,
            described: true,
        }),
        parameters: Parameters {
            additional: Some(false),
            properties: Schemas::from(parameters),
        },
        returns,
    }
}

fn method<'f>(
    facts: &'f mut Facts,
    path: &str,
    method: Method,
) -> Result<&'f mut Endpoint, String> {
    let methods = facts.endpoints.get_mut(path);
    methods
        .and_then(|methods| methods.get_mut(&method))
        .ok_or_else(|| format!("{method} {path} is not there any more; change the mock"))
}

fn add(facts: &mut Facts, path: &str, verb: Method, endpoint: Endpoint) {
    let methods = facts.endpoints.entry(path.to_owned()).or_default();
    methods.insert(verb, endpoint);
}

/// Changes facts, and reports the changes.
fn change(facts: &mut Facts) -> Result<Vec<String>, String> {
    let mut list_of = Vec::new();
    let mut note = |text: &str| list_of.push(text.to_owned());
    let node = || ("node", text("pve-node"));

    note("GET /cluster/multipath: an index, in an area that is none of its own");
    let mut index = list(object([("name", Schema::of(Type::String))]));
    index.links = Some(vec!["{name}".to_owned()]);
    add(
        facts,
        "/cluster/multipath",
        Method::Get,
        endpoint("index", [], index),
    );

    note("GET /cluster/multipath/status: a list of objects");
    let row = object([
        ("name", Schema::of(Type::String)),
        ("paths", Schema::of(Type::Integer)),
        ("healthy", optional(Schema::of(Type::Boolean))),
    ]);
    let status = endpoint("status", [], list(row));
    add(facts, "/cluster/multipath/status", Method::Get, status);

    note("POST /nodes/{node}/multipath/scan: a task, with a list in one text and a secret");
    let scan = endpoint(
        "scan",
        [
            node(),
            ("targets", text("pve-storage-id-list")),
            ("passphrase", optional(Schema::of(Type::String))),
        ],
        Schema::of(Type::String),
    );
    add(facts, "/nodes/{node}/multipath/scan", Method::Post, scan);

    note("GET /nodes/{node}/multipath/report: a text that is no task");
    let report = endpoint("report", [node()], Schema::of(Type::String));
    add(facts, "/nodes/{node}/multipath/report", Method::Get, report);

    note("vfio[n], an indexed property string of virtual machines, on three sides");
    let keys = Schemas::from([
        (
            "host".to_owned(),
            Schema {
                default_key: true,
                ..Schema::of(Type::String)
            },
        ),
        ("migratable".to_owned(), optional(Schema::of(Type::Boolean))),
    ]);
    let vfio = || {
        optional(Schema {
            format: Some(Format::Keys(keys.clone())),
            ..Schema::of(Type::String)
        })
    };
    let config = "/nodes/{node}/qemu/{vmid}/config";
    for (path, verb) in [
        ("/nodes/{node}/qemu", Method::Post),
        (config, Method::Post),
        (config, Method::Put),
    ] {
        let parameters = &mut method(facts, path, verb)?.parameters;
        parameters.properties.insert("vfio[n]".to_owned(), vfio());
    }
    let answer = method(facts, config, Method::Get)?
        .returns
        .properties
        .as_mut();
    let answer = answer.ok_or("the configuration has no members any more; change the mock")?;
    answer.insert("vfio[n]".to_owned(), vfio());
    note("win13 among the systems of virtual machines");
    for (path, verb) in [
        ("/nodes/{node}/qemu", Method::Post),
        (config, Method::Post),
        (config, Method::Put),
    ] {
        let parameters = &mut method(facts, path, verb)?.parameters.properties;
        let values = parameters
            .get_mut("ostype")
            .and_then(|schema| schema.values.as_mut());
        values
            .ok_or("ostype has no values any more; change the mock")?
            .push("win13".to_owned());
    }
    let answer = method(facts, config, Method::Get)?
        .returns
        .properties
        .as_mut();
    let ostype = answer.and_then(|members| members.get_mut("ostype"));
    if let Some(values) = ostype.and_then(|schema| schema.values.as_mut()) {
        values.push("win13".to_owned());
    }

    note("a named format with a usage line: multipath-policy of PUT /cluster/options");
    let policy = Schemas::from([
        (
            "kind".to_owned(),
            Schema {
                values: Some(vec!["failover".to_owned(), "spread".to_owned()]),
                default_key: true,
                ..Schema::of(Type::String)
            },
        ),
        ("queue".to_owned(), optional(Schema::of(Type::Integer))),
    ]);
    facts
        .formats
        .insert("pve-multipath-policy".to_owned(), policy);
    let options = &mut method(facts, "/cluster/options", Method::Put)?
        .parameters
        .properties;
    options.insert(
        "multipath".to_owned(),
        optional(text("pve-multipath-policy")),
    );
    note("max_workers of PUT /cluster/options is called max-workers");
    let workers = options.remove("max_workers");
    options.insert(
        "max-workers".to_owned(),
        workers.ok_or("max_workers is gone; change the mock")?,
    );

    note("newid of POST /nodes/{node}/qemu/{vmid}/clone, which is required, is called new-id");
    let clone = method(facts, "/nodes/{node}/qemu/{vmid}/clone", Method::Post)?;
    let parameters = &mut clone.parameters.properties;
    let newid = parameters.remove("newid");
    parameters.insert(
        "new-id".to_owned(),
        newid.ok_or("newid is gone; change the mock")?,
    );

    note("comment of POST /pools is required");
    let pool = method(facts, "/pools", Method::Post)?;
    let comment = pool.parameters.properties.get_mut("comment");
    comment.ok_or("comment is gone; change the mock")?.optional = false;

    note("DELETE /nodes/{node}/tasks/{upid} has an answer");
    method(facts, "/nodes/{node}/tasks/{upid}", Method::Delete)?.returns =
        Schema::of(Type::Boolean);

    note("GET /nodes/{node}/hosts is gone");
    if let Some(methods) = facts.endpoints.get_mut("/nodes/{node}/hosts") {
        methods.remove(&Method::Get);
    }
    Ok(list_of)
}

/// Gives a few methods an unknown key.
fn mark(tree: &mut Value, marked: &mut usize) {
    let nodes = tree.as_array_mut().into_iter().flatten();
    for node in nodes {
        let methods = node.get_mut("info").and_then(Value::as_object_mut);
        for (_, method) in methods.into_iter().flatten() {
            if *marked < 6 {
                method["stability"] = json!("preview");
                *marked += 1;
            }
        }
        if let Some(children) = node.get_mut("children") {
            mark(children, marked);
        }
    }
}
