use proptest::prelude::*;

use super::*;
use crate::client::Client;
use crate::testing::{Fake, json, ok};
use crate::transport::WireResponse;
use crate::value::endpoint::Method;

/// Splits a body that arrives in pieces of one size.
fn split(mut splitter: Splitter, body: &[u8], size: usize) -> Result<Vec<String>, Problem> {
    let mut lines = VecDeque::new();
    for piece in body.chunks(size.max(1)) {
        splitter.take(piece, &mut lines)?;
    }
    splitter.end(&mut lines)?;
    Ok(lines.into())
}

fn list(body: &str, size: usize) -> Result<Vec<String>, Problem> {
    split(Splitter::List(List::new(1000)), body.as_bytes(), size)
}

proptest! {
    #[test]
    fn a_list_is_split_regardless_of_its_chunks(
        lines in proptest::collection::vec(".*", 0..6),
        size in 1_usize..40,
        beside in ".*",
        first in any::<bool>(),
    ) {
        let data = serde_json::json!(lines);
        let beside = serde_json::json!({"x": [beside, {"data": ["no"]}], "data": "no"});
        let body = match first {
            true => format!(" {{\"data\" : {data}, \"more\":{beside}}}\n"),
            false => format!("{{\"more\":{beside},\"total\":7,\"data\":{data}}}"),
        };
        prop_assert_eq!(list(&body, size), Ok(lines));
    }

    #[test]
    fn a_text_is_split_regardless_of_its_chunks(
        lines in proptest::collection::vec("[^\r\n]*", 0..6),
        size in 1_usize..40,
    ) {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let text = Splitter::Text(Vec::new(), 1000);
        prop_assert_eq!(split(text, body.as_bytes(), size), Ok(lines));
    }

    #[test]
    fn no_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
        let _ = split(Splitter::List(List::new(1000)), &body, size);
        let _ = split(Splitter::Text(Vec::new(), 1000), &body, size);
    }
}

#[test]
fn a_line_beyond_the_limit_is_an_error() {
    for size in [1, 7, 5000] {
        let long = format!("a\n{}\nb", "x".repeat(1001));
        let text = Splitter::Text(Vec::new(), 1000);
        let exceeded = Exceeded::new(Bound::Line, 1000);
        assert_eq!(split(text, long.as_bytes(), size), Err(exceeded.into()));
        let long = format!("{{\"data\":[\"a\",\"{}\"]}}", "x".repeat(1001));
        let exceeded = Exceeded::new(Bound::Element, 1000);
        assert_eq!(list(&long, size), Err(exceeded.into()));
    }
}

#[test]
fn the_rows_of_a_log_are_lines() {
    let body = r#"{"total":2,"data":[{"n":1,"t":"a,b]\"}"},{"t":"c","n":2}]}"#;
    let lines = vec!["a,b]\"}".to_owned(), "c".to_owned()];
    assert_eq!(list(body, 3), Ok(lines));
}

#[test]
fn invalid_lists_are_errors_with_a_path() {
    for (body, text) in [
        ("", "at data: expected a list, found none"),
        ("{\"data\":null}", "at data: expected a list, found none"),
        ("{\"x\":[\"data\"]}", "at data: expected a list, found none"),
        (
            "{\"data\":[\"a\",7]}",
            "at data[1]: expected a line, found another value",
        ),
        (
            "{\"data\":[{}]}",
            "at data[0]: expected a line, found an object without one",
        ),
        (
            "{\"data\":[\"a\",oh]}",
            "at data[1]: expected a line, found no JSON",
        ),
        (
            "{\"data\":[\"a\",\"b",
            "at data: the answer ends within the list",
        ),
        (
            "{\"data\":[\"a\"]",
            "at data: the answer ends within the list",
        ),
        ("<html>", "expected a JSON object with a list of lines"),
        ("}", "expected a JSON object with a list of lines"),
    ] {
        let error = list(body, 2).expect_err(body);
        let Problem::Unreadable(error) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error.to_string(), text, "{body}");
    }
}

async fn read(client: &Client) -> Result<Vec<String>, Error> {
    let journal = client.request::<crate::Value>(Method::Get, "/nodes/pve1/journal");
    let mut lines = journal.stream().await?.lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.try_next().await? {
        seen.push(line);
    }
    assert_eq!(lines.try_next().await.expect("over"), None);
    Ok(seen)
}

#[tokio::test]
async fn a_journal_is_read_as_json_and_as_text() {
    let fake = Fake::new(|_| ok("{\"data\":[\"s=1\",\"Jan 01 pve1 x: \\u00fc\",\"s=2\"]}"));
    let lines = read(&fake.token_client()).await.expect("a journal");
    assert_eq!(lines, ["s=1", "Jan 01 pve1 x: ü", "s=2"]);

    let fake = Fake::new(|_| {
        let mut response = WireResponse::new(200, "one\r\ntwo\n\nlast");
        let kind = ("Content-Type".to_owned(), "text/plain".to_owned());
        response.headers.push(kind);
        Ok(response)
    });
    let lines = read(&fake.token_client()).await.expect("a journal");
    assert_eq!(lines, ["one", "two", "", "last"]);
}

#[tokio::test]
async fn an_incomplete_list_is_an_error_that_names_the_request() {
    let fake = Fake::new(|_| Ok(json(200, "OK", "{\"data\":[\"a\",\"b")));
    let error = read(&fake.token_client()).await.expect_err("cut off");
    assert!(matches!(error, Error::Decode(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "GET /nodes/pve1/journal #1: cannot read the answer: at data: the answer ends within the list"
    );
}

proptest! {
    #[test]
    fn lines_and_elements_are_limited(
        parts in proptest::collection::vec("[\\[\\]{}\"\\\\,:a\n\u{0}é]{0,30}", 0..20), size in 1_usize..50,
    ) {
        let body = format!("{{\"data\":[{}", parts.concat());
        for splitter in [Splitter::List(List::new(40)), Splitter::Text(Vec::new(), 40)] {
            if let Ok(lines) = split(splitter, body.as_bytes(), size) {
                // An element is at least as long as the text in it.
                prop_assert!(lines.iter().all(|line| line.len() <= 40), "{lines:?}");
            }
        }
    }
}
