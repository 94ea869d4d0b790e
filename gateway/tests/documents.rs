//! The OpenAPI document compared with the program, and the page that shows it.

use crate::common::Pair;
use proxmox_simulator::Simulator;
use serde_json::Value;

#[tokio::test]
async fn the_document_lists_exactly_the_calls_of_the_gateway() {
    let pair = Pair::start(Simulator::builder().time_factor(0.0), |config| {
        config.limits.authentication = 0
    })
    .await;
    let answer = pair.send("GET /api2/json/openapi.json", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let document = answer.json();
    let paths = document["paths"].as_object().expect("paths");
    let native = paths.iter().filter(|(path, _)| path.starts_with("/v1/"));
    let mut known = 0;
    for (path, item) in native {
        for verb in ["get", "post", "put", "patch", "delete"] {
            let path = path.replace(['{', '}'], "");
            let request = format!("{} {path}", verb.to_uppercase());
            // Without credentials the call does nothing; the order of the checks does not matter
            // here.
            let answer = pair.send_with(&request, &[], "").await;
            let is_there = answer.status != 405 && answer.json()["message"] != "no such path";
            assert_eq!(
                is_there,
                item[verb].is_object(),
                "{request}: {}",
                answer.text()
            );
            known += usize::from(is_there);
        }
    }
    assert!(known >= 20, "{known}");
    // Every reference has a target.
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    let pointer = to.strip_prefix('#').expect("within the document");
                    assert!(document.pointer(pointer).is_some(), "{to}");
                }
                open.extend(members.values());
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_document_is_for_the_release_of_the_cluster() {
    let old = Pair::start(Simulator::builder().release("8.4"), |_| {}).await;
    let document = old.send("GET /api2/json/openapi.json", "").await.json();
    assert_eq!(document["info"]["version"], "8.4");
    // A caller without credentials cannot read the cluster's release.
    let document = old
        .send_with("GET /api2/json/openapi.json", &[], "")
        .await
        .json();
    assert_eq!(
        document["info"]["version"],
        proxmox_simulator::newest_release()
    );
}

#[tokio::test]
async fn the_page_loads_nothing_from_other_servers() {
    let pair = Pair::start(Simulator::builder(), |_| {}).await;
    let page = pair.send_with("GET /api-explorer/", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    let script = pair
        .send_with("GET /api-explorer/explorer.js", &[], "")
        .await;
    assert_eq!(
        (script.status, script.header("x-content-type-options")),
        (200, "nosniff")
    );
    assert!(!script.text().contains("innerHTML"));
    assert_eq!(
        pair.send_with("GET /api-explorer", &[], "").await.status,
        308
    );
}
