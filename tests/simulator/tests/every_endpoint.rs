//! Every endpoint of every release answers a minimal valid call.

mod support;

use proxmox_simulator::{ROOT_PASSWORD, Simulator, minimal_requests, releases};

use crate::support::{Wire, login};

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn walk(release: &str) -> (usize, Vec<String>) {
    let pve = Simulator::builder()
        .release(release)
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let auth = login(&pve, "root@pam", ROOT_PASSWORD).await;
    let mut wire = Wire::open(&pve).await;
    let mut complaints = Vec::new();
    let requests = minimal_requests(release).expect("a known release");
    for request in &requests {
        let form: Vec<String> = request
            .params
            .iter()
            .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
            .collect();
        let form = form.join("&");
        let text = match request.method.as_str() {
            "GET" | "DELETE" => format!(
                "{} /api2/json{}?{form} HTTP/1.1\r\nHost: x\r\n{auth}\r\n",
                request.method, request.path
            ),
            method => format!(
                "{method} /api2/json{} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {}\r\n\r\n{form}",
                request.path,
                form.len()
            ),
        };
        wire.send(text.as_bytes()).await;
        let answer = wire.answer().await;
        // The sampled ids name nothing, so 500 is right for calls with state; never to be seen are an unknown
        // endpoint, a refused parameter and a refused caller.
        let known_refusal = answer.status == 400 && answer.body.windows(6).any(|w| w == b"upid\":");
        if !(matches!(answer.status, 200 | 500) || known_refusal) {
            complaints.push(format!(
                "{release} {} {} [{form}]: {answer}",
                request.method, request.template
            ));
        }
        // A privileged daemon's own header comes first; the last one is about this connection.
        if answer.all("connection").last() == Some(&"close") {
            wire = Wire::open(&pve).await;
        }
    }
    (requests.len(), complaints)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_releases() {
    let mut total = 0;
    let mut complaints = Vec::new();
    for release in releases() {
        let (calls, found) = walk(release).await;
        total += calls;
        complaints.extend(found);
    }
    assert!(
        complaints.is_empty(),
        "{} of {total} calls:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert_eq!(total, 540 + 549 + 584 + 586 + 600 + 605 + 628 + 649 + 675);
}
