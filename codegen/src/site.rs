//! The explorer: one page with all calls and a search, without a server.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::catalog::Catalog;

const PAGE: &str = include_str!("site/page.html");
const SCRIPT: &str = include_str!("site/page.js");

/// The page. `rustdoc` is the path of the crate's documentation, relative to the page; without it
/// there are no links to it.
///
/// # Errors
/// The catalog cannot be written as JSON.
pub fn page(catalog: &Catalog, rustdoc: Option<&str>) -> Result<String, String> {
    let mut data = serde_json::to_value(catalog).map_err(|error| error.to_string())?;
    data["rustdoc"] = json!(rustdoc);
    let product = catalog.product;
    data["product"] = json!({
        "name": product.name,
        "port": product.port,
        "credentials": match product.token {
            Some((prefix, _)) => format!("--header \"Authorization: {prefix}$TOKEN\""),
            None => format!("--cookie \"{}=$TICKET\"", product.cookie),
        },
    });
    share_texts(&mut data);
    // The page is HTML: no text may end the script element.
    let data = data.to_string().replace('<', "\\u003c");
    Ok(PAGE
        .replace("/*TITLE*/", product.title)
        .replace("/*SCRIPT*/", SCRIPT.trim_end())
        .replace("/*DATA*/", &data))
}

/// Many calls describe a parameter in the same words; each text is stored once.
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
