//! Requests that the server refuses before it calls a handler: paths, types, formats, properties of
//! another type.
//!
//! `refusals/values.toml` has the texts for each kind of value. The tests here compare with the
//! results of the server's own code for each endpoint of 9.2, if they are beside the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proxmox_simulator::{MinimalRequest, ROOT_PASSWORD, Simulator, minimal_requests};
use serde::Deserialize;

use crate::support::{Answer, ask_with, login};

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn simulator() -> (Simulator, String) {
    let builder = Simulator::builder()
        .release("9.2")
        .node("pve1")
        .node("pve2");
    let pve = builder.start().await.expect("starts");
    let auth = login(&pve, "root@pam", ROOT_PASSWORD).await;
    (pve, auth)
}

fn name(request: &MinimalRequest) -> String {
    format!("{} {}", request.method, request.template)
}

/// An endpoint with anonymous placeholders, because their names differ between releases.
fn unnamed(endpoint: &str) -> String {
    let segments = endpoint.split('/');
    let segments = segments.map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn send(
    pve: &Simulator,
    auth: &str,
    request: &MinimalRequest,
    path: &str,
    more: &[(&str, &str)],
) -> Answer {
    let additional: BTreeSet<&str> = more.iter().map(|(key, _)| *key).collect();
    let parameters = request.params.iter();
    let parameters = parameters.map(|(key, value)| (key.as_str(), value.as_str()));
    let form: Vec<String> = parameters
        .filter(|(key, _)| !additional.contains(key))
        .chain(more.iter().copied())
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect();
    ask_with(pve, &request.method, path, auth, &form.join("&")).await
}

/// The path with white space in the value of each placeholder in turn.
fn paths_with_blanks(request: &MinimalRequest) -> Vec<String> {
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let template = segments(&request.template);
    let path = segments(&request.path);
    (0..template.len())
        .filter(|at| template[*at].starts_with('{'))
        .map(|at| {
            let mut path = path.clone();
            path[at] = "a%20b".to_owned();
            path.join("/")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_value_has_no_white_space() {
    let (pve, auth) = simulator().await;
    let mut calls = 0;
    for request in minimal_requests("9.2").expect("a known release") {
        // Uploads are recognized before the path is checked.
        if request.template.ends_with("/upload") {
            continue;
        }
        for path in paths_with_blanks(&request) {
            let answer = send(&pve, &auth, &request, &path, &[]).await;
            calls += 1;
            assert_eq!(answer.status, 501, "{} {path}: {answer}", name(&request));
            assert!(answer.reason.ends_with(" not implemented"), "{answer}");
        }
    }
    assert!(calls > 800, "{calls} paths");
}

/// The result of the server's own code for a request.
#[derive(Deserialize)]
struct Verdict {
    endpoint: String,
    accepted: bool,
    status: Option<u16>,
    errors: Option<BTreeMap<String, String>>,
    why: Option<String>,
}

/// The refused values in those requests.
const SENT: &[(&str, &str)] = &[
    ("affinity", "positive"),
    (
        "amd-sev",
        "allow-smt=1,kernel-hashes=1,no-debug=1,no-key-sharing=1,text",
    ),
    ("boot", "text,order=text"),
    ("cicustom", "meta=text,network=text,user=text,vendor=text"),
    (
        "cpu",
        "text,flags=text,guest-phys-bits=7,hidden=1,hv-vendor-id=text,level=7,phys-bits=text,reported-model=text",
    ),
    (
        "hostpci1",
        "device-id=text,driver=vfio,text,legacy-igd=1,mapping=text,mdev=text,pcie=1,rombar=1,romfile=text,\
         sub-device-id=text,sub-vendor-id=text,vendor-id=text,x-vga=1",
    ),
    ("intel-tdx", "attestation=1,text,vsock-cid=7,vsock-port=7"),
    ("ipconfig1", "gw=text,gw6=text,ip=text,ip6=text"),
    (
        "prune-backups",
        "keep-all=1,keep-daily=7,keep-hourly=7,keep-last=7,keep-monthly=7,keep-weekly=7,keep-yearly=7",
    ),
    (
        "smbios1",
        "base64=1,family=text,manufacturer=text,product=text,serial=text,sku=text,uuid=text,version=text",
    ),
    (
        "sync-defaults-options",
        "enable-new=1,full=1,purge=1,remove-vanished=text,scope=users",
    ),
    (
        "target-endpoint",
        "apitoken=text,fingerprint=text,host=text,port=7",
    ),
    ("tfa", "digits=7,id=text,key=text,step=7,type=text,url=text"),
    ("watchdog", "action=text,i6300esb"),
];

/// Parameters that the code lacked, because it was older than the facts of 9.2.
const NEWER: &[&str] = &[
    "auto-rebalance",
    "bgp-mode",
    "delete[0]",
    "delete[1]",
    "delete[2]",
    "nodes",
    "peer-group-name",
    "route-map-in",
    "route-map-out",
    "secondary-controllers",
];

/// The lines of an error, sorted, without the values of an enumeration, which can grow.
fn lines(text: &str) -> BTreeSet<&str> {
    let short = |line: &'_ str| line.find("in the enumeration '").unwrap_or(line.len());
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| &line[..short(line)])
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_agrees_with_the_servers() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/validation-9.2.jsonl");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: the results of the server's validation are not beside the workspace");
        return;
    };
    let verdicts: Vec<Verdict> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let (pve, auth) = simulator().await;
    let requests: BTreeMap<String, MinimalRequest> = minimal_requests("9.2")
        .expect("a known release")
        .into_iter()
        .map(|request| (unnamed(&name(&request)), request))
        .collect();
    let (mut accepted, mut refused, mut elsewhere) = (0, 0, Vec::new());
    for verdict in &verdicts {
        let endpoint = &verdict.endpoint;
        let why = verdict.why.as_deref().unwrap_or("");
        let apart = [
            "made-up credentials",
            "mirror",
            "form sent to the multipart",
        ];
        if apart.iter().any(|start| why.starts_with(start)) {
            elsewhere.push(endpoint.as_str());
            continue;
        }
        let Some(request) = requests.get(&unnamed(endpoint)) else {
            assert!(why.starts_with("endpoint gone"), "{endpoint} is not of 9.2");
            refused += 1;
            continue;
        };
        if why.starts_with("sample path value") {
            let mut answers = Vec::new();
            for path in paths_with_blanks(request) {
                answers.push(send(&pve, &auth, request, &path, &[]).await.status);
            }
            assert!(
                answers.contains(&verdict.status.expect("a status")),
                "{endpoint}"
            );
            refused += 1;
            continue;
        }
        let errors: BTreeMap<&str, &str> = verdict
            .errors
            .iter()
            .flatten()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .filter(|(key, _)| !NEWER.contains(key))
            .collect();
        if !verdict.accepted && errors.is_empty() {
            elsewhere.push(endpoint.as_str());
            continue;
        }
        // An unknown parameter keeps the handler from being called.
        let mut more = vec![("unknown", "1")];
        more.extend(SENT.iter().filter(|(key, _)| errors.contains_key(key)));
        if errors.contains_key("affinity") {
            more.push(("type", "node-affinity"));
        }
        let answer = send(&pve, &auth, request, &request.path, &more).await;
        let found: BTreeMap<String, String> =
            serde_json::from_value(answer.json()["errors"].clone()).unwrap_or_default();
        let about = |key: &str| key != "unknown";
        let found: BTreeMap<&str, BTreeSet<&str>> = found
            .iter()
            .filter(|(key, _)| about(key))
            .map(|(key, text)| (key.as_str(), lines(text)))
            .collect();
        let expected: BTreeMap<&str, BTreeSet<&str>> = errors
            .iter()
            .map(|(key, text)| (*key, lines(text)))
            .collect();
        // Some handlers refuse a parameter like the validation does, and are reached where
        // unknown parameters are allowed.
        let reached = answer.status != 400 || !answer.json()["errors"]["unknown"].is_string();
        if verdict.accepted && reached {
            assert!(
                !matches!(answer.status, 401 | 403 | 501),
                "{endpoint}: {answer}"
            );
        } else {
            assert_eq!(found, expected, "{endpoint}: {answer}");
        }
        accepted += usize::from(verdict.accepted);
        refused += usize::from(!verdict.accepted);
    }
    println!(
        "of {} requests {accepted} are accepted and {refused} refused as the server does; \
         {} say nothing of this: {elsewhere:?}",
        verdicts.len(),
        elsewhere.len()
    );
    assert_eq!(accepted + refused + elsewhere.len(), verdicts.len());
}
