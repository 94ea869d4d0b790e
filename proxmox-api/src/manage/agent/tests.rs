//! The agent with a scripted machine that has files and programs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::files::WRITE_CHUNK;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manage::guest::{GuestErrorKind, Kind};
use crate::pve::qemu::QemuVmidPath;
use crate::request::ApiRequest;
use crate::testing::{Fake, TOKEN_SECRET, json, ok};
use crate::transport::{TransportError, WireRequest, WireResponse};

#[derive(Default)]
struct Machine {
    files: BTreeMap<String, Vec<u8>>,
    /// Pending answers of exec-status, by process.
    ends: BTreeMap<usize, Vec<String>>,
    started: usize,
    pings_until_up: usize,
    /// Whether files can only be read as a whole.
    old: bool,
}

type Answer = Result<WireResponse, TransportError>;

fn error(reason: &'static str) -> Answer {
    Ok(json(500, reason, r#"{"data":null}"#))
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |raw: &str| {
        percent_encoding::percent_decode_str(raw)
            .decode_utf8_lossy()
            .into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// Bytes as Perl writes them into JSON: one character for each.
fn as_characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl Machine {
    fn answer(&mut self, request: &WireRequest) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let params = pairs(if query.is_empty() { &body } else { query });
        let all = |name: &str| -> Vec<String> {
            let fit = params.iter().filter(|(key, _)| key == name);
            fit.map(|(_, value)| value.clone()).collect()
        };
        let one = |name: &str| all(name).pop().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "resources" => {
                ok(r#"{"data":[{"id":"qemu/101","type":"qemu","vmid":101,"node":"pve1"}]}"#)
            }
            "ping" if self.pings_until_up > 0 => {
                self.pings_until_up -= 1;
                error("QEMU guest agent is not running")
            }
            "ping" => ok(r#"{"data":{"result":{}}}"#),
            "exec" => {
                self.started += 1;
                let input = one("input-data");
                let end = self.run(&all("command"), &input);
                // The program runs for a while.
                let running = r#"{"data":{"exited":0}}"#.to_owned();
                self.ends.insert(self.started, vec![end, running]);
                ok(format!(r#"{{"data":{{"pid":{}}}}}"#, self.started))
            }
            "exec-status" => {
                let pid: usize = one("pid").parse().expect("a number");
                let ends = self.ends.get_mut(&pid).expect("a process that was started");
                ok(ends.pop().expect("nobody asks again after the end"))
            }
            "file-read" if self.old && !one("offset").is_empty() => Ok(json(
                400,
                "Parameter verification failed.",
                r#"{"data":null,"errors":{"offset":"property is not defined in schema and the schema does not allow additional properties"}}"#,
            )),
            "file-read" => {
                let Some(file) = self.files.get(&one("file")) else {
                    return error("can't open file: No such file or directory");
                };
                let data = if self.old {
                    serde_json::json!({ "content": as_characters(file), "bytes-read": file.len() })
                } else {
                    let offset: usize = one("offset").parse().expect("a number");
                    // The agent returns less than requested.
                    let end = file.len().min(offset + 100_000);
                    serde_json::json!({
                        "content": STANDARD.encode(&file[offset..end]),
                        "bytes-read": end - offset,
                        "truncated": u8::from(end < file.len()),
                    })
                };
                ok(serde_json::json!({ "data": data }).to_string())
            }
            "file-write" => {
                assert_eq!(one("encode"), "0");
                let content = one("content");
                assert!(content.len() <= 61_440, "{} characters", content.len());
                let content = STANDARD.decode(content).expect("it says it is encoded");
                self.files.insert(one("file"), content);
                ok(r#"{"data":null}"#)
            }
            other => panic!("unexpected call of {other}"),
        }
    }

    fn run(&mut self, command: &[String], input: &str) -> String {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut code = 0;
        let mut out = Vec::new();
        match command.as_slice() {
            ["sh", "-c", r#"base64 -d >> "$1""#, "sh", path] => match STANDARD.decode(input) {
                Ok(bytes) => self
                    .files
                    .entry((*path).to_owned())
                    .or_default()
                    .extend(bytes),
                Err(_) => code = 1,
            },
            ["mv", "-f", "--", from, to] => match self.files.remove(*from) {
                Some(file) if !to.starts_with("/full/") => {
                    self.files.insert((*to).to_owned(), file);
                }
                Some(file) => {
                    self.files.insert((*from).to_owned(), file);
                    code = 1;
                }
                None => code = 1,
            },
            ["rm", "-f", "--", path] => {
                self.files.remove(*path);
            }
            ["echo", words @ ..] => out = words.join(" ").into_bytes(),
            other => panic!("unexpected program {other:?}"),
        }
        let mut data = serde_json::json!({ "exited": 1, "exitcode": code });
        if !out.is_empty() {
            data["out-data"] = as_characters(&out).into();
        }
        if code != 0 {
            data["err-data"] = "no space left\n".into();
        }
        serde_json::json!({ "data": data }).to_string()
    }
}

fn machine(machine: Machine) -> (Arc<Mutex<Machine>>, Client) {
    let machine = Arc::new(Mutex::new(machine));
    let inside = Arc::clone(&machine);
    let fake = Fake::new(move |request| inside.lock().expect("one at a time").answer(request));
    (machine, fake.token_client())
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_agent() {
    let (_, client) = machine(Machine {
        pings_until_up: 3,
        ..Machine::default()
    });
    let agent = client.guest(101).agent();
    assert_eq!(
        agent.ping().await.expect_err("it is not up yet").kind(),
        Some(ErrorKind::AgentNotRunning)
    );
    agent
        .wait_until_up(Duration::MAX)
        .await
        .expect("it comes up");

    let (_, client) = machine(Machine {
        pings_until_up: usize::MAX,
        ..Machine::default()
    });
    let late = client
        .guest(101)
        .agent()
        .wait_until_up(Duration::from_secs(60))
        .await;
    let late = late.expect_err("it never comes up");
    assert!(late.to_string().contains("within 60s"), "{late}");
}

#[tokio::test(start_paused = true)]
async fn programs_are_polled_to_their_end() {
    let (_, client) = machine(Machine::default());
    let output = client
        .guest(101)
        .agent()
        .exec(["echo", "grüße", "& more=1"])
        .await;
    let output = output.expect("it runs");
    assert!(output.success());
    assert_eq!(output.stdout_text(), "grüße & more=1");
}

#[tokio::test(start_paused = true)]
async fn files_of_any_size_and_content() {
    for old in [false, true] {
        let (inside, client) = machine(Machine {
            old,
            ..Machine::default()
        });
        let agent = client.guest(101).agent();
        for size in [0, 1, WRITE_CHUNK, WRITE_CHUNK + 1, 3 * WRITE_CHUNK + 17] {
            let content: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251) as u8).collect();
            agent
                .write_file("/srv/data", &content)
                .await
                .expect("it is written");
            assert_eq!(
                agent.read_file("/srv/data").await.expect("it is read"),
                content
            );
        }
        let files: Vec<String> = inside
            .lock()
            .expect("one at a time")
            .files
            .keys()
            .cloned()
            .collect();
        assert_eq!(files, ["/srv/data"], "nothing else is left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_leaves_no_partial_file() {
    let (inside, client) = machine(Machine::default());
    let agent = client.guest(101).agent();
    let error = (agent
        .write_file("/full/data", &vec![1; WRITE_CHUNK * 2])
        .await)
        .expect_err("there is no space");
    assert!(
        error.to_string().contains("exit code 1: no space left"),
        "{error}"
    );
    assert!(inside.lock().expect("one at a time").files.is_empty());
    assert!(agent.read_file("/full/data").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_reachable_addresses() {
    let fake = Fake::new(|request| {
        if request.path.contains("/resources") {
            return ok(
                r#"{"data":[{"id":"qemu/101","type":"qemu","vmid":101,"node":"pve1"},
                {"id":"lxc/201","type":"lxc","vmid":201,"node":"pve1"}]}"#,
            );
        }
        if request.path.ends_with("/interfaces") {
            return ok(r#"{"data":[{"name":"lo","inet":"127.0.0.1/8"},
                {"name":"eth0","hwaddr":"bc:24:11:00:00:01","inet":"192.0.2.9/24","inet6":"2001:db8::9/64"}]}"#);
        }
        ok(r#"{"data":{"result":[
            {"name":"lo","ip-addresses":[{"ip-address":"127.0.0.1","ip-address-type":"ipv4","prefix":8}]},
            {"name":"eth0","hardware-address":"bc:24:11:00:00:02","ip-addresses":[
                {"ip-address":"192.0.2.7","ip-address-type":"ipv4","prefix":24},
                {"ip-address":"fe80::1%eth0","ip-address-type":"ipv6","prefix":64}]},
            {"name":"down0"}]}}"#)
    });
    let client = fake.token_client();
    let found = client
        .guest(101)
        .interfaces()
        .await
        .expect("the agent tells");
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].addresses[0].to_string(), "192.0.2.7/24");
    let wait = client
        .guest(101)
        .wait_for_address(Duration::from_secs(9))
        .await;
    assert_eq!(
        wait.expect("it has one"),
        ["192.0.2.7".parse::<IpAddr>().expect("an address")]
    );
    let wait = client
        .guest(201)
        .wait_for_address(Duration::from_secs(9))
        .await;
    let texts: Vec<String> = wait
        .expect("it has two")
        .iter()
        .map(IpAddr::to_string)
        .collect();
    assert_eq!(texts, ["192.0.2.9", "2001:db8::9"]);
}

const REFUSED: &str = r#"{"data":{"result":{"error":{"class":"CommandNotFound","desc":"Command guest-ping has been disabled"}}}}"#;

/// The refusal of the agent.
fn refused<T: fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Guest(error)) => match error.reason() {
            GuestErrorKind::AgentRefused { class, desc, vmid } => format!("{vmid} {class}: {desc}"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_inside_an_answer_is_an_error_for_every_call() {
    for body in [
        REFUSED,
        &REFUSED.replace(r#"{"result":"#, "").replace("}}}}", "}}}"),
    ] {
        let body = body.to_owned();
        let fake = Fake::new(move |_| ok(body.clone()));
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let agent = guest.agent();
        let expected = "101 CommandNotFound: Command guest-ping has been disabled";
        assert_eq!(refused(agent.ping().await), expected);
        let up = agent.wait_until_up(Duration::from_secs(60)).await;
        assert_eq!(refused(up), expected);
        assert_eq!(refused(guest.interfaces().await), expected);
        let address = guest.wait_for_address(Duration::from_secs(60)).await;
        assert_eq!(refused(address), expected);
        assert_eq!(refused(agent.file_systems().await), expected);
        assert_eq!(refused(agent.exec(["true"]).await), expected);
        assert_eq!(refused(agent.read_file("/x").await), expected);
        assert_eq!(refused(agent.write_file("/x", b"y").await), expected);
        assert_eq!(fake.requests().len(), 8, "nothing is asked twice");
    }
}

#[tokio::test(start_paused = true)]
async fn temporary_refusals_are_retried_and_finally_reported() {
    let body = REFUSED
        .replace("CommandNotFound", "GenericError")
        .replace("disabled", "delayed");
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    let fake = Fake::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..5 => ok(body.clone()),
        _ => ok(r#"{"data":{"result":{}}}"#),
    });
    let agent = fake.token_client().guest_at(101, "n1", Kind::Qemu).agent();
    agent
        .wait_until_up(Duration::from_secs(60))
        .await
        .expect("it is up in the end");
    answers.store(0, Ordering::SeqCst);
    let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
    let late = guest.wait_for_address(Duration::from_secs(5)).await;
    assert!(refused(late).contains("has been delayed"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_timeout_is_retried() {
    for silence in [
        "VM 101 qmp command 'guest-network-get-interfaces' failed - got timeout",
        "VM 101 qmp command 'guest-ping' failed - unable to connect to VM 101 qga socket - timeout after 31 retries",
        "QEMU guest agent is not running",
    ] {
        let answers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answers);
        let fake = Fake::new(move |request| {
            if count.fetch_add(1, Ordering::SeqCst) < 4 {
                let mut refusal = crate::testing::json(500, "", "");
                refusal.reason = silence.into();
                return Ok(refusal);
            }
            if request.path.contains("get-interfaces") {
                return ok(r#"{"data":{"result":[{"name":"eth0","ip-addresses":[
                    {"ip-address":"192.0.2.1","ip-address-type":"ipv4","prefix":24}]}]}}"#);
            }
            ok(r#"{"data":{"result":{}}}"#)
        });
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let found = guest.wait_for_address(Duration::from_secs(20)).await;
        assert_eq!(found.expect(silence).len(), 1);
        answers.store(0, Ordering::SeqCst);
        let up = guest.agent().wait_until_up(Duration::from_secs(20)).await;
        up.expect(silence);
        answers.store(0, Ordering::SeqCst);
        let late = guest.agent().wait_until_up(Duration::from_secs(3)).await;
        assert!(
            late.expect_err("it takes longer")
                .to_string()
                .contains("within 3s")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_of_internal_interfaces_are_left_out() {
    let fake = Fake::new(|request| {
        if request.path.ends_with("/config") {
            return ok(
                r#"{"data":{"digest":"0","net0":"virtio=BC:24:11:00:00:01,bridge=vmbr0",
                "net1":"virtio=BC:24:11:00:00:02,bridge=vmbr1"}}"#,
            );
        }
        let row = |name: &str, mac: &str, ips: &[&str]| {
            let ips: Vec<String> = (ips.iter())
                .map(|ip| format!(r#"{{"ip-address":"{ip}","prefix":24}}"#))
                .collect();
            format!(
                r#"{{"name":"{name}","hardware-address":"{mac}","ip-addresses":[{}]}}"#,
                ips.join(",")
            )
        };
        let rows = [
            row("lo", "00:00:00:00:00:00", &["127.0.0.1", "::1"]),
            row("docker0", "02:42:00:00:00:01", &["172.17.0.1"]),
            row("br-0123456789ab", "02:42:00:00:00:02", &["172.18.0.1"]),
            row("br-lan", "bc:24:11:00:00:03", &["192.0.2.3"]),
            row("eth0", "bc:24:11:00:00:01", &["fe80::1%2", "2001:db8::1"]),
            row("eth1", "bc:24:11:00:00:02", &["192.0.2.2", "2001:db8::2"]),
        ];
        ok(format!(r#"{{"data":{{"result":[{}]}}}}"#, rows.join(",")))
    });
    let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
    let wait = || guest.wait_for_address(Duration::from_secs(3));
    for (wait, expected) in [
        (wait(), "192.0.2.3 2001:db8::1 192.0.2.2 2001:db8::2"),
        (wait().ipv4(), "192.0.2.3 192.0.2.2"),
        (wait().card(0), "2001:db8::1"),
        (wait().card(1).ipv4(), "192.0.2.2"),
        (wait().mac("BC:24:11:00:00:03"), "192.0.2.3"),
        (wait().interface("eth1").ipv6(), "2001:db8::2"),
        (wait().interface("docker0"), "172.17.0.1"),
        (wait().interface("eth0").all(), "fe80::1 2001:db8::1"),
    ] {
        let printed = format!("{wait:?}");
        let found: Vec<String> = (wait.await.expect(&printed).iter())
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.join(" "), expected, "{printed}");
    }
    let none = wait()
        .card(0)
        .ipv4()
        .await
        .expect_err("it has only the other");
    assert!(none.to_string().contains("no address within 3s"), "{none}");
    let missing = wait().card(7).await.expect_err("there is no such card");
    assert!(missing.to_string().contains("net7"), "{missing}");
}

#[tokio::test]
async fn a_refusal_repeats_no_secret() {
    let fake = Fake::new(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let desc = format!("cannot set {body} for {TOKEN_SECRET}");
        let refusal = serde_json::json!({ "error": { "class": "GenericError", "desc": desc } });
        ok(serde_json::json!({ "data": { "result": refusal } }).to_string())
    });
    let client = fake.token_client();
    let guest = client.guest_at(100, "pve1", Kind::Qemu);
    let request = |vm: &QemuVmidPath| {
        let call = vm
            .agent()
            .set_user_password()
            .post()
            .username("root")
            .password("n3w/pass word");
        call.into_request()
    };
    let error = guest.ask_agent(request).await.expect_err("refused");
    let text = format!("{error} {error:?}");
    assert!(text.contains("cannot set"), "{text}");
    for secret in ["n3w/pass", "n3w%2Fpass", TOKEN_SECRET] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
