//! `cargo xtask site`: every call on one page that searches itself, without a server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proxmox_codegen::catalog::Catalog;
use proxmox_codegen::generate;
use serde_json::{Map, Value, json};

use crate::{Outcome, files, regen, say, workspace};

const PAGE: &str = include_str!("site/page.html");
const SCRIPT: &str = include_str!("site/page.js");

/// Write a page in which every call can be found
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    #[arg(long, default_value = "target/site/index.html")]
    output: PathBuf,
    /// Where the crate's documentation is, from the page on
    #[arg(long, default_value = "../doc/proxmox_api")]
    rustdoc: String,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let input = regen::read_input(&workspace())?;
    let catalog = generate::catalog(&input).map_err(|problems| problems.join("\n"))?;
    let page = page(&catalog, &args.rustdoc)?;
    files::write(&args.output, &page)?;
    say(&format!(
        "{}: {} calls, {} kB\n",
        args.output.display(),
        catalog.calls.len(),
        page.len() / 1000
    ))
}

fn page(catalog: &Catalog, rustdoc: &str) -> Result<String, String> {
    let mut data = serde_json::to_value(catalog).map_err(|error| error.to_string())?;
    data["rustdoc"] = json!(rustdoc);
    share_texts(&mut data);
    // The page is HTML: no text may end the script element.
    let data = data.to_string().replace('<', "\\u003c");
    Ok(PAGE
        .replace("/*SCRIPT*/", SCRIPT.trim_end())
        .replace("/*DATA*/", &data))
}

/// Most parameters are described in the same words in many calls; each text stands once.
fn share_texts(data: &mut Value) {
    let mut texts: Vec<Value> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let calls = data["calls"].as_array_mut().into_iter().flatten();
    let parameters = calls.flat_map(|call| call["parameters"].as_array_mut().into_iter().flatten());
    for parameter in parameters.filter_map(Value::as_object_mut) {
        let about = parameter
            .get("about")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let index = *known.entry(about.clone()).or_insert_with(|| {
            texts.push(Value::String(about));
            texts.len() - 1
        });
        Map::insert(parameter, "about".to_owned(), json!(index));
    }
    data["texts"] = Value::Array(texts);
}
