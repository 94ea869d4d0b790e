//! The differential run with simulators, whose differences are known.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proxmox_codegen::facts::{Facts, Method};
use proxmox_differential::compare::Kind;
use proxmox_differential::list;
use proxmox_differential::report::Report;
use proxmox_differential::run::{Plan, Run};
use proxmox_differential::server::{Access, Address, Names};
use proxmox_simulator::{Fault, Simulator, TOKEN_ID, TOKEN_SECRET, facts, newest_release};

static NEVER: AtomicBool = AtomicBool::new(false);

async fn run(
    first: &Address,
    second: (&Address, &Access),
    refusals: bool,
    write: bool,
    only: &[&str],
) -> Report {
    let names = Names {
        node: None,
        storage: "local-lvm".into(),
        bridge: "vmbr0".into(),
        template: None,
        prefix: "dfr".into(),
        vmids: 9000..=9019,
    };
    let (first, second) = proxmox_differential::open((first, &Access::default()), second, &names)
        .await
        .expect("both servers are there");
    let scenarios = match write {
        true => list::scenarios().expect("calls.toml reads"),
        false => Vec::new(),
    };
    let plan = Plan {
        refusals,
        scenarios,
        only: only.iter().map(|only| (*only).to_owned()).collect(),
        patience: Duration::from_secs(60),
    };
    let run = Run {
        first,
        second,
        names,
        plan,
        progress: false,
        stop: &NEVER,
    };
    run.execute().await.expect("nothing is in the way")
}

fn simulator(release: &str) -> Address {
    Address::Simulator(Some(release.to_owned()))
}

#[tokio::test]
async fn a_release_does_not_differ_from_itself_and_nothing_is_left_behind() {
    let second = (&simulator(newest_release()), &Access::default());
    let only = [
        "/pools",
        "/cluster/firewall",
        "vm-config",
        "vm-disks",
        "nobody",
    ];
    let report = run(&simulator(newest_release()), second, true, true, &only).await;
    assert!(report.kinds().is_empty(), "{report}");
    assert!(report.left.is_empty(), "{report}");
    let [first, second] = report.counts();
    assert_eq!(first, second);
    assert!(first.accepted > 100 && first.refused > 100, "{first:?}");
    assert!(first.tasks > 3, "{first:?}");
    let groups: BTreeSet<&str> = report.exchanges.iter().map(|e| e.group.as_str()).collect();
    for group in [
        "reading",
        "refusals",
        "vm-config",
        "vm-disks",
        "nobody",
        "pools",
    ] {
        assert!(groups.contains(group), "{group} is not among {groups:?}");
    }
}

#[tokio::test]
async fn another_release_answers_501_where_its_schema_has_no_endpoint() {
    let second = (&simulator("8.0"), &Access::default());
    let report = run(&simulator(newest_release()), second, false, false, &[]).await;
    let newer = facts(newest_release()).expect("a release");
    let older = facts("8.0").expect("a release");
    // A placeholder may have another name in another release; the path is the same.
    let neutral = |path: &str| -> String {
        path.split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect::<Vec<_>>()
            .join("/")
    };
    let has = |facts: &Facts, path: &str| {
        let path = neutral(path);
        facts.endpoints.iter().any(|(template, methods)| {
            neutral(template) == path && methods.contains_key(&Method::Get)
        })
    };
    let (mut same, mut different) = (0, 0);
    for exchange in &report.exchanges {
        let path = exchange.call.path.as_str();
        let differs = exchange.differences.iter().any(|d| d.kind == Kind::Status);
        match (has(&newer, path), has(&older, path)) {
            (true, true) => same += 1,
            (true, false) | (false, true) => {
                different += 1;
                assert!(differs, "{path} is in one release only: {exchange:?}");
            }
            (false, false) => assert!(!differs, "{path} is in neither release: {exchange:?}"),
        }
    }
    assert!(same > 150 && different > 20, "{same} {different}");
    assert!(!report.is_clean());
}

#[tokio::test]
async fn a_different_server_is_detected() {
    let faulty = Simulator::builder()
        .node("pve1")
        .node("pve2")
        .start()
        .await
        .expect("it starts");
    let _refused = faulty
        .faults()
        .on("GET", "/pools")
        .respond(Fault::Status(500, "pools are closed".into()));
    let _failed = faulty
        .faults()
        .on("POST", "/nodes/*/qemu")
        .respond(Fault::TaskFails("no space left".into()));
    let access = Access {
        token: Some((TOKEN_ID.into(), TOKEN_SECRET.into())),
        fingerprint: faulty.fingerprint().parse().ok(),
        ..Access::default()
    };
    let second = (&Address::Url(faulty.url()), &access);
    let report = run(
        &Address::Simulator(None),
        second,
        false,
        true,
        &["/pools", "vm-config"],
    )
    .await;
    let kinds = report.kinds();
    assert!(kinds.contains_key(&Kind::Status), "{report}");
    assert!(kinds.contains_key(&Kind::Task), "{report}");
    let text = report.to_string();
    assert!(
        text.contains("pools are closed") && text.contains("no space left"),
        "{text}"
    );
    let json = report.json(false).expect("JSON");
    assert!(!json.contains("\"body\""));
    assert!(json.contains("pools are closed"));
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_differential"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

#[test]
fn the_program_has_help_and_clear_errors() {
    let help = program(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success());
    for word in [
        "--write",
        "--vmids",
        "--fingerprint",
        "--refusals",
        "Exit status",
    ] {
        assert!(text.contains(word), "{word} is not in the help");
    }
    for (arguments, word) in [
        (&["pve1"][..], "https://HOST:8006"),
        (&["simulator:1.0"], newest_release()),
        (&["simulator", "--write"], "--vmids"),
        (
            &["simulator", "--write", "--vmids", "100-200"],
            "at least 1000",
        ),
        (&["simulator", "--storage", "dfrnothing"], "dfrnothing"),
        (&["https://127.0.0.1:1", "--insecure"], "no login"),
        (
            &["https://127.0.0.1:1", "--token-file", "no-such-file"],
            "no-such-file",
        ),
    ] {
        let output = program(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

#[test]
fn the_exit_status_shows_differences() {
    let newest = format!("simulator:{}", newest_release());
    let same = [
        newest.as_str(),
        "--against",
        &newest,
        "--only",
        "GET /version",
    ];
    assert_eq!(program(&same).status.code(), Some(0));
    let other = [
        "simulator:8.0",
        "--against",
        &newest,
        "--only",
        "GET /cluster/ha/rules",
    ];
    assert_eq!(program(&other).status.code(), Some(1));
}
