//! Requests recorded on a real server get the recorded answers: status, reason phrase, kind of
//! body, error keys and texts.
//!
//! The recordings are not part of the repository; without them the test prints that it is skipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proxmox_simulator::{Clock, Fault, Simulator};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Wire, ask_with};

/// Samples with a different answer of the simulator, by the number at the start of their name, with
/// the reason.
const DIFFERENT: &[(&str, &[&str])] = &[
    (
        "the recorded server was made to fail, sleep or answer test data there",
        &[
            "80", "80e", "81", "82", "83", "83e", "84", "85", "86", "87", "88", "88e", "89", "90",
            "90e", "91", "92", "93", "94", "95", "95e", "96", "97", "240", "243", "278", "279",
            "277", "280", "281", "282", "250", "255", "283", "283e", "380",
        ],
    ),
    (
        "shows what the recorded server lacked: a cluster file system, a database, QEMU, a native library",
        &["234", "284", "372", "332", "338"],
    ),
    (
        "needs a console ticket whose making was not recorded",
        &["292"],
    ),
];

/// The code of the user with a second factor.
const CODE: &str = "853059";

struct Sample {
    name: String,
    request: Vec<u8>,
    expected: Option<Answer>,
    /// The recorded server repeated the parameters instead of processing them.
    echo: bool,
}

/// Restores the part that was cut out of a long request, with filler of the original length.
fn restore(name: &str, request: Vec<u8>) -> Vec<u8> {
    let Some((before, after)) = split(&request, b"\n...[cut, ") else {
        return request;
    };
    let total = String::from_utf8_lossy(after);
    let total: usize = total
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a length");
    let token = "Authorization: PVEAPIToken=root@pam!test=11111111-2222-3333-4444-555555555555";
    let tail = match name.split('-').next() {
        Some("123") => "\r\n\r\n".to_owned(),
        Some("124") => format!(" HTTP/1.1\r\nHost: x\r\n{token}\r\n\r\n"),
        _ if split(before, b"multipart/form-data").is_some() => {
            "\r\n--BOUNDARY123--\r\n".to_owned()
        }
        _ => String::new(),
    };
    let mut request = before.to_vec();
    request.resize(total.max(before.len() + tail.len()) - tail.len(), b'a');
    request.extend_from_slice(tail.as_bytes());
    request
}

impl Sample {
    fn number(&self) -> &str {
        self.name.split('-').next().unwrap_or("")
    }

    fn read(name: String, text: &[u8]) -> Option<Self> {
        let (_, text) = split(text, b">>> REQUEST\n")?;
        let (request, rest) = split(text, b"\n<<< RESPONSE")?;
        let (_, response) = split(rest, b"\n")?;
        let mut request = request.to_vec();
        // Without a body, the blank line at the end of the file is not part of the request.
        if let Some((_, body)) = split(&request, b"\r\n\r\n")
            && body == b"\n"
        {
            request.pop();
        }
        let request = restore(&name, request);
        Some(Self {
            echo: split(response, b"\"params\":{").is_some(),
            name,
            expected: parse(response),
            request,
        })
    }
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = text.windows(at.len()).position(|window| window == at)?;
    Some((&text[..found], &text[found + at.len()..]))
}

fn parse(response: &[u8]) -> Option<Answer> {
    let (head, body) = split(response, b"\r\n\r\n")?;
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.split("\r\n");
    let (_, status) = lines.next()?.split_once(' ')?;
    let (code, reason) = status.split_once(' ')?;
    Some(Answer {
        status: code.parse().ok()?,
        reason: reason.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_vec(),
    })
}

/// The parts of two answers that must be equal.
fn compare(expected: &Answer, got: &Answer, echo: bool) -> Result<(), String> {
    let same = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        let (a, b) = (format!("{a:?}"), format!("{b:?}"));
        if a == b {
            Ok(())
        } else {
            Err(format!("{what} {b}, recorded {a}"))
        }
    };
    let reason = |answer: &Answer| without_place(&answer.reason).to_owned();
    same(
        "status",
        &(expected.status, reason(expected)),
        &(got.status, reason(got)),
    )?;
    same(
        "connection",
        &expected.all("connection"),
        &got.all("connection"),
    )?;
    same(
        "type",
        &expected.header("content-type"),
        &got.header("content-type"),
    )?;
    same(
        "encoding",
        &expected.header("content-encoding"),
        &got.header("content-encoding"),
    )?;
    same(
        "location",
        &expected.header("location").is_some(),
        &got.header("location").is_some(),
    )?;
    let json = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body).ok();
    let (Some(a), Some(b)) = (json(expected), json(got)) else {
        return same(
            "empty body",
            &expected.body.trim_ascii().is_empty(),
            &got.body.is_empty(),
        );
    };
    for key in ["message", "errors", "success", "status"] {
        same(key, &a.get(key), &b.get(key))?;
    }
    if echo {
        return Ok(());
    }
    same("data", &kind(&a["data"]), &kind(&b["data"]))
}

/// Perl ends some texts with the source position, which is not part of the protocol.
fn without_place(text: &str) -> &str {
    match text.rsplit_once(" at /") {
        Some((before, place)) if place.contains(" line ") => before,
        _ => text,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(text) if text.starts_with("UPID:") => "a task",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

async fn simulator(samples: &[Sample], running: bool) -> Simulator {
    let mut builder = Simulator::builder()
        .node("pve1")
        .offline_node("pve2")
        .cluster("testcluster")
        .user("root@pam", "rootpass")
        .user("admin@pve", "adminpass")
        .user("off@pve", "offpass")
        .disabled_user("off@pve")
        .user("limited@pve", "limitedpass")
        .acl("/vms/100", "limited@pve", "PVEVMUser")
        .user("tfa@pve", "tfapass")
        .second_factor("tfa@pve", CODE)
        .storage(
            "local",
            "dir",
            &["images", "iso", "rootdir", "snippets", "backup", "vztmpl"],
            1 << 40,
        )
        .qemu(
            100,
            "pve1",
            &[
                ("name", "vm-a"),
                ("cores", "2"),
                ("memory", "2048"),
                ("description", "line one\nline two"),
                ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"),
                ("agent", "1,fstrim_cloned_disks=1"),
            ],
        )
        .lxc(101, "pve1", &[("hostname", "ct1"), ("rootfs", "local:8")])
        .qemu(102, "pve1", &[("name", "locked"), ("memory", "512")])
        .clock(Clock::manual(1_795_290_000))
        .time_factor(0.0)
        .idle_timeout(Duration::from_secs(1));
    if running {
        builder = builder.running(100);
    }
    // Creates every token that was accepted.
    for sample in samples {
        let refused = sample
            .expected
            .as_ref()
            .is_none_or(|answer| answer.status == 401);
        let head = String::from_utf8_lossy(&sample.request);
        if let (false, Some((_, token))) = (refused, head.split_once("PVEAPIToken="))
            && let Some((id, secret)) = token.lines().next().unwrap_or("").trim().split_once('=')
        {
            builder = builder.token(id, secret);
        }
    }
    let pve = builder
        .separate_token("root@pam!sep")
        .start()
        .await
        .expect("starts");
    pve.set_lock(102, Some("backup"));
    // The recorded server accepted a migration of all guests without `maxworkers`.
    let answer = crate::support::ask(&pve, "PUT", "/cluster/options", "max_workers=2").await;
    assert_eq!(answer.status, 200);
    // The recorded server had no QEMU, so nothing could be started, and no snapshot exists.
    for call in ["/status/start", "/snapshot"] {
        let path = format!("/nodes/*/qemu/*{call}");
        let failure = Fault::TaskFails("command 'kvm' failed".into());
        let _ = pve.faults().on("POST", &path).respond(failure);
    }
    pve
}

/// Replaces recorded tickets by tickets of this server.
async fn refresh(pve: &Simulator, request: &[u8], challenge: &mut String) -> Vec<u8> {
    let text: String = request.iter().copied().map(char::from).collect();
    let login = ask_with(
        pve,
        "POST",
        "/access/ticket",
        "",
        "username=admin%40pve&password=adminpass",
    )
    .await;
    let data = login.data();
    let ticket = data["ticket"].as_str().expect("a ticket").to_owned();
    let csrf = data["CSRFPreventionToken"]
        .as_str()
        .expect("a token")
        .to_owned();
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    if text.contains("username=tfa%40pve") && challenge.is_empty() {
        let first = ask_with(
            pve,
            "POST",
            "/access/ticket",
            "",
            "username=tfa%40pve&password=tfapass",
        )
        .await;
        *challenge = first.data()["ticket"]
            .as_str()
            .expect("a challenge")
            .to_owned();
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return request.to_vec();
    };
    let head: Vec<String> = head
        .split("\r\n")
        .map(|line| {
            let fresh = |line: &str| match line.split_once("PVEAuthCookie") {
                Some((before, after)) if after.contains("admin") && !after.contains("00000000") => {
                    let raw = after.contains("PVE:");
                    let rest = after
                        .split_once("; ")
                        .map(|(_, rest)| format!("; {rest}"))
                        .unwrap_or_default();
                    let ticket = if raw { ticket.clone() } else { encode(&ticket) };
                    format!("{before}PVEAuthCookie{}{ticket}{rest}", &after[..1])
                }
                _ => line.to_owned(),
            };
            if line.starts_with("CSRFPreventionToken: 6B01") {
                format!("CSRFPreventionToken: {csrf}")
            } else {
                fresh(line)
            }
        })
        .collect();
    let mut parts: Vec<String> = body.split('&').map(str::to_owned).collect();
    for part in &mut parts {
        if part.starts_with("password=PVE%3A") {
            *part = format!("password={}", encode(&ticket));
        } else if part.starts_with("otp=") {
            // The recorded codes are not valid any more.
            *part = format!("otp={CODE}");
        } else if part.starts_with("tfa-challenge=") {
            *part = format!("tfa-challenge={}", encode(challenge));
        }
    }
    let changed = parts.join("&");
    let mut text = head.join("\r\n");
    if changed != body {
        text = text.replace(
            &format!("Content-Length: {}", body.len()),
            &format!("Content-Length: {}", changed.len()),
        );
    }
    format!("{text}\r\n\r\n{changed}")
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

/// Values from earlier answers that later requests need.
#[derive(Default)]
struct Session {
    challenge: String,
    /// Recorded tasks, with the corresponding tasks of this server.
    tasks: Vec<(String, String)>,
}

impl Session {
    fn learn(&mut self, expected: &Answer, got: &Answer) {
        let upid = |answer: &Answer| {
            let body: Value = serde_json::from_slice(&answer.body).ok()?;
            Some(
                body["data"]
                    .as_str()
                    .filter(|text| text.starts_with("UPID:"))?
                    .to_owned(),
            )
        };
        if let (Some(theirs), Some(ours)) = (upid(expected), upid(got)) {
            self.tasks.push((theirs, ours));
        }
    }
}

async fn replay(pve: &Simulator, sample: &Sample, session: &mut Session) -> Result<(), String> {
    let mut request = refresh(pve, &sample.request, &mut session.challenge).await;
    for (theirs, ours) in &session.tasks {
        let plain = request.iter().copied().map(char::from).collect::<String>();
        let encoded = |text: &str| {
            text.replace(':', "%3A")
                .replace('@', "%40")
                .replace('!', "%21")
        };
        let plain = plain
            .replace(theirs, ours)
            .replace(&encoded(theirs), &encoded(ours));
        request = plain
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
            .collect();
    }
    if matches!(sample.number(), "114" | "115" | "116") {
        let mut tcp = TcpStream::connect(pve.address()).await.expect("listening");
        tcp.write_all(&request).await.expect("open");
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.expect("an end");
        return match (&sample.expected, parse(&answer)) {
            (Some(expected), Some(got)) => compare(expected, &got, false),
            (None, None) => Ok(()),
            (_, got) => Err(format!("answered {got:?}")),
        };
    }
    let mut wire = Wire::open(pve).await;
    wire.send(&request).await;
    match &sample.expected {
        Some(expected) => match wire.try_answer().await {
            Some(got) => {
                session.learn(expected, &got);
                compare(expected, &got, sample.echo)
            }
            None => Err("closed without an answer".into()),
        },
        None => {
            let rest = wire.rest().await;
            if rest.is_empty() {
                Ok(())
            } else {
                Err(format!("answered {}", String::from_utf8_lossy(&rest)))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/wire-samples");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no recorded exchanges beside the repository");
        return;
    };
    let mut samples: Vec<Sample> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Sample::read(
                path.file_stem()?.to_str()?.to_owned(),
                &std::fs::read(&path).ok()?,
            )
        })
        .collect();
    let order = |sample: &Sample| {
        let number = sample.number().trim_end_matches(char::is_alphabetic);
        (number.parse::<u32>().unwrap_or(0), sample.name.clone())
    };
    samples.sort_by_key(order);
    assert!(
        samples.len() > 100,
        "only {} recorded exchanges",
        samples.len()
    );

    let reasons: BTreeMap<&str, &str> = DIFFERENT
        .iter()
        .flat_map(|(reason, numbers)| numbers.iter().map(|number| (*number, *reason)))
        .collect();
    let pve = simulator(&samples, false).await;
    let mut session = Session::default();
    let (mut matched, mut left, mut wrong) = (0, BTreeMap::<&str, Vec<&str>>::new(), Vec::new());
    for sample in &samples {
        if let Some(reason) = reasons.get(sample.number()) {
            left.entry(reason).or_default().push(sample.number());
            continue;
        }
        let fresh;
        let pve = if sample.echo {
            // Only requests to the guest agent need a running machine.
            let agent = split(&sample.request, b"/agent/").is_some();
            fresh = simulator(&samples, agent).await;
            &fresh
        } else {
            &pve
        };
        // The recorded server had no qemu-img at that time; later it had a replacement.
        if matches!(sample.number(), "333" | "335") {
            let failure = Fault::TaskFails("command 'qemu-img' failed".into());
            let rule = pve.faults().on("POST", "/nodes/*/qemu").times(1);
            let _ = rule.respond(failure);
        }
        match replay(pve, sample, &mut session).await {
            Ok(()) => matched += 1,
            Err(text) => wrong.push(format!("{}: {text}", sample.name)),
        }
        pve.clock().advance(Duration::from_secs(3));
    }
    println!("{matched} of {} recorded exchanges match", samples.len());
    for (reason, numbers) in &left {
        println!("not compared, {reason}: {}", numbers.join(" "));
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
