//! Several processes with one file of known hosts.

use std::collections::BTreeSet;
use std::process::{Child, Command};

use proxmox_api::tls::{Fingerprint, KnownHosts, TrustStore};

const FILE: &str = "PROCESSES_FILE";
const NUMBER: &str = "PROCESSES_NUMBER";
const PROCESSES: u8 = 6;
const HOSTS: usize = 60;
const OLD: usize = 100;
const PORT: u16 = 8006;

fn print(byte: u8) -> Fingerprint {
    Fingerprint::from([byte; 32])
}

/// One of the processes: connects to hosts of its own, to shared ones, and to known ones.
#[test]
#[ignore = "one of several processes; started by the test below"]
fn one_process() {
    let (Ok(path), Ok(number)) = (std::env::var(FILE), std::env::var(NUMBER)) else {
        return;
    };
    let number: u8 = number.parse().expect("a number");
    let known = KnownHosts::in_file(path, |_, _| true);
    let mut won = Vec::new();
    for host in 0..HOSTS {
        let own = format!("own{number}-{host}");
        known.check(&own, PORT, print(1)).expect("first use");
        let all = format!("all{host}");
        if known.check(&all, PORT, print(number)).is_ok() {
            won.push(all);
        }
        let wrong = known.check(&format!("old{}", host % OLD), PORT, print(8));
        wrong.expect_err("it was known before");
    }
    println!("won: {}", won.join(" "));
}

#[test]
fn processes_with_one_file_lose_no_host_and_agree_on_every_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hosts");
    let old: String = (0..OLD)
        .map(|host| format!("old{host}:8006 {}\n", print(7)))
        .collect();
    std::fs::write(&path, &old).expect("written");
    let start = |number: u8| -> Child {
        Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "one_process", "--ignored", "--nocapture"])
            .env(FILE, &path)
            .env(NUMBER, number.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let running: Vec<Child> = (0..PROCESSES).map(start).collect();
    let mut won = Vec::new();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let line = text
            .split("won: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let line = line.unwrap_or_default().to_owned();
        won.extend(
            line.split(' ')
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
    }
    let text = std::fs::read_to_string(&path).expect("it is there");
    assert!(text.starts_with(&old), "what was there stays");
    let lines = OLD + usize::from(PROCESSES) * HOSTS + HOSTS;
    assert_eq!(text.lines().count(), lines, "none is lost or repeated");
    let names: BTreeSet<_> = (text.lines())
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names.len(), lines);
    // For each shared host, one process accepted one certificate.
    assert_eq!(won.len(), HOSTS, "{won:?}");
    assert_eq!(won.iter().collect::<BTreeSet<_>>().len(), HOSTS);
}
