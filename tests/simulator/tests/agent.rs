//! The guest agent of a virtual machine: programs, files, and when it does not respond.

use std::time::Duration;

use proxmox_simulator::{Clock, CommandOutput, Simulator};
use serde_json::{Value, json};

use crate::support::{Answer, ask, finish};

const AGENT: &str = "/nodes/pve1/qemu/100/agent";

async fn pve(release: &str) -> Simulator {
    let machine = [
        ("name", "web"),
        ("agent", "1"),
        ("scsi0", "local-lvm:8"),
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ("ipconfig0", "ip=192.0.2.7/24"),
    ];
    Simulator::builder()
        .release(release)
        .clock(Clock::manual(1_800_000_000))
        .time_factor(1.0)
        .qemu(100, "pve1", &machine)
        .running(100)
        .guest_file(100, "/srv/blob", vec![0, 0x41, 0xe9, 0xff])
        .guest_command(
            100,
            &["apt-get", "update"],
            CommandOutput::failure(100, "no network\n").seconds(5.0),
        )
        .start()
        .await
        .expect("starts")
}

async fn get(pve: &Simulator, command: &str, form: &str) -> Answer {
    ask(pve, "GET", &format!("{AGENT}/{command}"), form).await
}

async fn post(pve: &Simulator, command: &str, form: &str) -> Answer {
    ask(pve, "POST", &format!("{AGENT}/{command}"), form).await
}

/// Runs a program to its end.
async fn run(pve: &Simulator, form: &str) -> Value {
    let pid = post(pve, "exec", form).await.data()["pid"].clone();
    loop {
        let status = get(pve, "exec-status", &format!("pid={pid}")).await.data();
        if status["exited"] == 1 {
            return status;
        }
        pve.clock().advance(Duration::from_millis(100));
    }
}

fn refused(answer: &Answer) -> &str {
    assert_eq!(answer.status, 500, "{answer}");
    &answer.reason
}

#[tokio::test]
async fn programs_run_and_their_status_can_be_read() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let echoed = json!({ "exited": 1, "exitcode": 0, "out-data": "a b\n" });
    assert_eq!(run(&pve, "command=echo&command=a&command=b").await, echoed);
    let input = run(&pve, "command=cat&input-data=x%C3%A9").await;
    assert_eq!(input["out-data"], "x\u{e9}");
    assert_eq!(run(&pve, "command=false").await["exitcode"], 1);
    let script = "command=sh&command=-c&command=base64+-d+>>+%22%241%22&command=sh&command=/tmp/x";
    run(&pve, &format!("{script}&input-data=aGk%3D")).await;
    run(&pve, &format!("{script}&input-data=aG8%3D")).await;
    assert_eq!(
        pve.guest_agent(100).read_file("/tmp/x"),
        Some(b"hiho".to_vec())
    );

    let pid = post(&pve, "exec", "command=apt-get&command=update&command=-q").await;
    let pid = format!("pid={}", pid.data()["pid"]);
    pve.clock().advance(Duration::from_millis(4_900));
    let running = get(&pve, "exec-status", &pid).await.data();
    assert_eq!(running, json!({ "exited": 0 }));
    pve.clock().advance(Duration::from_millis(200));
    let ended = json!({ "exited": 1, "exitcode": 100, "err-data": "no network\n" });
    assert_eq!(get(&pve, "exec-status", &pid).await.data(), ended);
    // The end of a program is reported once.
    let gone = get(&pve, "exec-status", &pid).await;
    assert!(refused(&gone).starts_with("Agent error: PID "), "{gone}");
    let none = post(&pve, "exec", "command=no-such-program").await;
    assert!(refused(&none).contains("Failed to execute child process"));
}

#[tokio::test]
async fn before_8_0_a_command_is_one_string() {
    let pve = pve("7.4").await;
    for form in ["command=echo+a", "command=echo&command=a"] {
        assert_eq!(run(&pve, form).await["out-data"], "a\n");
    }
    let nothing = post(&pve, "exec", "").await;
    assert_eq!(
        refused(&nothing),
        "command or input-data (or both) required"
    );
}

#[tokio::test]
async fn files_are_read_in_chunks() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let whole = get(&pve, "file-read", "file=/srv/blob").await.data();
    let content = json!({ "content": "\u{0}A\u{e9}\u{ff}", "bytes-read": 4 });
    assert_eq!(whole, content);
    let part = get(&pve, "file-read", "file=/srv/blob&offset=1&count=2").await;
    let content = json!({ "content": "A\u{e9}", "bytes-read": 2, "truncated": 1 });
    assert_eq!(part.data(), content);

    // Each chunk of a megabyte is encoded separately.
    pve.guest_agent(100)
        .write_file("/srv/large", vec![b'x'; (1 << 20) + 1]);
    let large = get(&pve, "file-read", "file=/srv/large&decode=0").await;
    let large = large.data();
    assert_eq!(large["bytes-read"], (1 << 20) + 1);
    let text = large["content"].as_str().expect("a text");
    assert!(text.ends_with("eA==eA=="), "padding in the middle");
    pve.guest_agent(100)
        .write_file("/srv/huge", vec![b'x'; (16 << 20) + 1]);
    let huge = get(&pve, "file-read", "file=/srv/huge").await.data();
    assert_eq!(huge["bytes-read"], 16 << 20);
    assert_eq!(huge["truncated"], 1);

    let missing = get(&pve, "file-read", "file=/srv/none").await;
    assert_eq!(
        refused(&missing),
        "Agent error: failed to open file '/srv/none' (mode: 'r'): No such file or directory"
    );
}

#[tokio::test]
async fn files_are_written() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let write = async |form: &str| post(&pve, "file-write", form).await;
    let agent = pve.guest_agent(100);
    write("file=/tmp/a&content=caf%C3%A9").await.data();
    assert_eq!(agent.read_file("/tmp/a"), Some(b"caf\xe9".to_vec()));
    write("file=/tmp/a&content=AP8%3D&encode=0").await.data();
    assert_eq!(agent.read_file("/tmp/a"), Some(vec![0, 255]));
    let wide = write("file=/tmp/a&content=%E2%82%AC").await;
    assert!(refused(&wide).starts_with("Wide character"), "{wide}");
    let nowhere = write("file=/no/such&content=x").await;
    assert!(refused(&nowhere).ends_with("No such file or directory"));
    let broken = write("file=/tmp/a&content=!&encode=0").await;
    assert!(refused(&broken).starts_with("Agent error:"), "{broken}");
    let long = format!("file=/tmp/a&content={}", "x".repeat(61_441));
    assert_eq!(write(&long).await.status, 400);
}

#[tokio::test]
async fn the_agent_responds_once_the_system_has_booted() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    assert_eq!(post(&pve, "ping", "").await.data(), json!({ "result": {} }));
    assert_eq!(
        post(&pve, "shutdown", "").await.data(),
        json!({ "result": null })
    );
    pve.clock().advance(Duration::from_secs(1));
    let off = post(&pve, "ping", "").await;
    assert_eq!(refused(&off), "VM 100 is not running");
    let start = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/start", "").await;
    assert_eq!(finish(&pve, &start).await, "OK");
    let booting = post(&pve, "ping", "").await;
    assert_eq!(refused(&booting), "QEMU guest agent is not running");
    pve.clock().advance(Duration::from_secs(10));
    post(&pve, "ping", "").await.data();

    pve.guest_agent(100).set_answering(false);
    assert_eq!(
        refused(&post(&pve, "ping", "").await),
        "QEMU guest agent is not running"
    );
    pve.guest_agent(100).set_answering(true);
    let config = "/nodes/pve1/qemu/100/config";
    ask(&pve, "PUT", config, "agent=0").await.data();
    assert_eq!(
        refused(&post(&pve, "ping", "").await),
        "QEMU guest agent is not running"
    );
    ask(&pve, "PUT", config, "delete=agent").await.data();
    assert_eq!(
        refused(&post(&pve, "ping", "").await),
        "No QEMU guest agent configured"
    );
}

#[tokio::test]
async fn the_agent_reports_the_system() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let result = async |command: &str| get(&pve, command, "").await.data()["result"].clone();
    assert_eq!(result("get-host-name").await["host-name"], "web");
    assert_eq!(result("get-osinfo").await["id"], "debian");
    let interfaces = result("network-get-interfaces").await;
    assert_eq!(interfaces[1]["name"], "eth0");
    assert_eq!(interfaces[1]["hardware-address"], "bc:24:11:00:00:01");
    let address = json!({ "ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24 });
    assert_eq!(interfaces[1]["ip-addresses"][0], address);
    let systems = result("get-fsinfo").await;
    assert_eq!(systems[0]["mountpoint"], "/");
    assert_eq!(systems[0]["total-bytes"], 8_u64 << 30);
    assert_eq!(result("get-vcpus").await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn frozen_file_systems_disable_most_commands() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let frozen = async |command| post(&pve, command, "").await.data()["result"].clone();
    assert_eq!(frozen("fsfreeze-freeze").await, 1);
    assert_eq!(frozen("fsfreeze-status").await, "frozen");
    let refusal = "Command guest-file-open has been disabled: the agent is in frozen state";
    let read = get(&pve, "file-read", "file=/srv/blob").await;
    assert_eq!(refused(&read), format!("Agent error: {refusal}"));
    let info = get(&pve, "get-osinfo", "").await.data();
    assert_eq!(info["result"]["error"]["class"], "CommandNotFound");
    assert_eq!(frozen("fsfreeze-thaw").await, 1);
    assert_eq!(frozen("fsfreeze-status").await, "thawed");
    get(&pve, "file-read", "file=/srv/blob").await.data();
}

#[tokio::test]
async fn files_belong_to_the_disk() {
    let pve = pve(proxmox_simulator::newest_release()).await;
    let agent = pve.guest_agent(100);
    agent.write_file("/srv/v", "one");
    let vm = "/nodes/pve1/qemu/100";
    let snapshot = ask(&pve, "POST", &format!("{vm}/snapshot"), "snapname=s1").await;
    assert_eq!(finish(&pve, &snapshot).await, "OK");
    agent.write_file("/srv/v", "two");
    let clone = ask(&pve, "POST", &format!("{vm}/clone"), "newid=200").await;
    assert_eq!(finish(&pve, &clone).await, "OK");
    assert_eq!(
        pve.guest_agent(200).read_file("/srv/v"),
        Some(b"two".to_vec())
    );
    let back = ask(&pve, "POST", &format!("{vm}/snapshot/s1/rollback"), "").await;
    assert_eq!(finish(&pve, &back).await, "OK");
    assert_eq!(agent.read_file("/srv/v"), Some(b"one".to_vec()));

    let state = pve.snapshot();
    agent.write_file("/srv/v", "three");
    pve.restore(&state).expect("its own state");
    assert_eq!(agent.read_file("/srv/v"), Some(b"one".to_vec()));
}

#[tokio::test]
async fn a_container_shows_its_addresses() {
    let pve = Simulator::builder()
        .lxc(
            101,
            "pve1",
            &[("net0", "name=eth0,bridge=vmbr0,ip=192.0.2.9/24")],
        )
        .start()
        .await
        .expect("starts");
    let path = "/nodes/pve1/lxc/101/interfaces";
    assert_eq!(ask(&pve, "GET", path, "").await.data(), Value::Null);
    let start = ask(&pve, "POST", "/nodes/pve1/lxc/101/status/start", "").await;
    assert_eq!(finish(&pve, &start).await, "OK");
    let rows = ask(&pve, "GET", path, "").await.data();
    assert_eq!(rows[1]["inet"], "192.0.2.9/24");
    assert_eq!(rows[1]["name"], "eth0");
}
