//! Parameters in forms that the cluster does not accept.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use crate::pages::escaped;
use crate::refusal::Refusal;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Parameters in the cluster's form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Appended to the query; empty or `a=b&c=d`.
    pub(super) query: String,
    pub(super) body: Bytes,
    pub(super) content_type: Option<String>,
}

/// Accepts JSON with every verb: the cluster refuses bodies of GET and DELETE, whose parameters go
/// into the query. A body without a content type that is a JSON object counts as JSON.
pub(super) fn read(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Parameters, Refusal> {
    let declared = headers.get(CONTENT_TYPE).map(|value| value.to_str());
    let declared = declared
        .transpose()
        .map_err(|_| Refusal::bad_request("the content type is not printable ASCII"))?;
    if body.is_empty() {
        return Ok(Parameters {
            content_type: declared.map(str::to_owned),
            ..Parameters::default()
        });
    }
    let kind = declared.map(|text| text.split(';').next().unwrap_or_default().trim());
    let is_json = match kind {
        Some(kind) => kind.eq_ignore_ascii_case(JSON),
        None => body.trim_ascii_start().starts_with(b"{"),
    };
    let in_query = *method == Method::GET || *method == Method::DELETE;
    if is_json {
        let object: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| {
            Refusal::bad_request(format!("the body is not a JSON object: {error}"))
        })?;
        let changed = adapt(method, path, &object)?;
        if in_query {
            let object = changed.as_ref().unwrap_or(&object);
            return Ok(Parameters {
                query: query_of(object)?,
                ..Parameters::default()
            });
        }
        let body = match changed {
            Some(changed) => Value::Object(changed).to_string().into(),
            None => body,
        };
        return Ok(Parameters {
            body,
            content_type: Some(JSON.to_owned()),
            ..Parameters::default()
        });
    }
    if in_query {
        let is_form = kind.is_none_or(|kind| kind.eq_ignore_ascii_case(FORM));
        let form = std::str::from_utf8(&body).ok().filter(|text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            is_form && plain && !text.contains('#')
        });
        let form = form
            .ok_or_else(|| Refusal::bad_request("the body must be JSON or a URL-encoded form"))?;
        return Ok(Parameters {
            query: form.to_owned(),
            ..Parameters::default()
        });
    }
    Ok(Parameters {
        body,
        content_type: declared.map(str::to_owned),
        ..Parameters::default()
    })
}

/// Parameters that the gateway accepts in a spelling other than Proxmox VE's; `None` if nothing
/// changes.
fn adapt(
    method: &Method,
    path: &str,
    object: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    if *method != Method::POST {
        return Ok(None);
    }
    // This stop is always immediate, so there is nothing to force.
    if path.ends_with("/status/stop") && object.contains_key("forceStop") {
        let mut changed = object.clone();
        changed.remove("forceStop");
        return Ok(Some(changed));
    }
    // The algorithm has a parameter of its own.
    if path.ends_with("/download-url")
        && let Some((algorithm, digits)) = (object.get("checksum"))
            .and_then(Value::as_str)
            .and_then(|text| text.split_once(':'))
    {
        let algorithm_parameter = object.get("checksum-algorithm").and_then(Value::as_str);
        if algorithm_parameter.is_some_and(|algorithm_parameter| algorithm_parameter != algorithm) {
            let problem = format!("is for {algorithm}, which contradicts checksum-algorithm");
            return Err(Refusal::parameters([("checksum", problem)]));
        }
        let mut changed = object.clone();
        changed.insert("checksum".to_owned(), digits.into());
        changed.insert("checksum-algorithm".to_owned(), algorithm.into());
        return Ok(Some(changed));
    }
    Ok(None)
}

/// A flat object as a query, lists as repeated keys.
fn query_of(object: &Map<String, Value>) -> Result<String, Refusal> {
    let mut query = Vec::new();
    for (key, value) in object {
        let mut add = |value: &Value| {
            let text = match value {
                Value::Bool(yes) => u8::from(*yes).to_string(),
                Value::Number(number) => number.to_string(),
                Value::String(text) => text.clone(),
                _ => {
                    return Err(Refusal::parameters([(
                        key.as_str(),
                        "is not a plain value",
                    )]));
                }
            };
            query.push(format!("{}={}", escaped(key), escaped(&text)));
            Ok(())
        };
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().try_for_each(add)?,
            plain => add(plain)?,
        }
    }
    Ok(query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(
        method: &Method,
        kind: Option<&str>,
        body: &'static str,
    ) -> Result<Parameters, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
        }
        read(
            method,
            "/api2/json/nodes/n/qemu/1",
            &headers,
            Bytes::from_static(body.as_bytes()),
        )
    }

    #[test]
    fn json_becomes_a_query_where_the_cluster_takes_no_body() {
        let body = r#"{"purge":true,"n":1.5,"t":"a&b=c\r\nd;+%","none":null,"list":["x",0]}"#;
        for kind in [
            Some("application/json"),
            Some("Application/JSON; charset=utf-8"),
            None,
        ] {
            let read = read_as(&Method::DELETE, kind, body).expect("good");
            assert!(read.body.is_empty() && read.content_type.is_none());
            let mut pairs: Vec<&str> = read.query.split('&').collect();
            pairs.sort_unstable();
            let expected = [
                "list=0",
                "list=x",
                "n=1.5",
                "purge=1",
                "t=a%26b%3Dc%0D%0Ad%3B%2B%25",
            ];
            assert_eq!(pairs, expected);
        }
        assert!(read_as(&Method::GET, None, r#"{"a":{"b":1}}"#).is_err());
        assert!(read_as(&Method::GET, Some("application/json"), "[1]").is_err());
    }

    #[test]
    fn json_stays_json_where_it_is_taken() {
        let read =
            read_as(&Method::POST, Some("APPLICATION/json"), r#"{"a": true}"#).expect("good");
        assert_eq!(read.content_type.as_deref(), Some("application/json"));
        assert_eq!(&read.body[..], br#"{"a": true}"#);
    }

    #[test]
    fn a_form_cannot_end_the_request_line() {
        let read = read_as(&Method::DELETE, Some(FORM), "a=1&b=%20").expect("good");
        assert_eq!(read.query, "a=1&b=%20");
        for body in ["a=1 HTTP/1.1\r\nX: y", "a=1#b", "a=ü"] {
            assert!(
                read_as(&Method::DELETE, Some(FORM), body).is_err(),
                "{body}"
            );
        }
    }
}
