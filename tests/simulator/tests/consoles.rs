//! Consoles: tickets, the upgrade, frames, the terminal protocol.

use std::time::Duration;

use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Wire, ask, ask_with, login};

async fn pve() -> Simulator {
    Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .time_factor(0.0)
        .qemu(100, "pve1", &[("name", "one")])
        .running(100)
        .qemu(101, "pve1", &[])
        .lxc(
            102,
            "pve1",
            &[("hostname", "ct"), ("rootfs", "local-lvm:4")],
        )
        .start()
        .await
        .expect("starts")
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn text(data: &Value, key: &str) -> String {
    data[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {data}"))
        .to_owned()
}

/// Sends the upgrade; returns the connection, or the refusal.
async fn upgrade(pve: &Simulator, path: &str, port: &str, ticket: &str) -> Result<Wire, Answer> {
    let mut wire = Wire::open(pve).await;
    let request = format!(
        "GET /api2/json{path}/vncwebsocket?port={port}&vncticket={} HTTP/1.1\r\nHost: x\r\n\
         Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: binary\r\n\r\n",
        encode(ticket)
    );
    wire.send(request.as_bytes()).await;
    let answer = wire.answer().await;
    if answer.status != 101 {
        return Err(answer);
    }
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(answer.header("sec-websocket-protocol"), Some("binary"));
    assert_eq!(answer.header("connection"), Some("upgrade"));
    Ok(wire)
}

async fn send_frame(wire: &mut Wire, first: u8, data: &[u8]) {
    let mask = [7, 1, 200, 33];
    let length = u16::try_from(data.len()).expect("short");
    let mut frame = vec![first];
    if length < 126 {
        frame.push(0x80 | u8::try_from(length).expect("short"));
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&mask);
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k));
    wire.send(&frame).await;
}

/// First byte and payload of the next frame; `None` at the end of the connection.
async fn frame(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let head = wire.take(2).await?;
    assert_eq!(head[1] & 0x80, 0, "servers do not mask");
    let length = match head[1] {
        126 => {
            let bytes = wire.take(2).await?;
            usize::from(bytes[0]) << 8 | usize::from(bytes[1])
        }
        127 => wire
            .take(8)
            .await?
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)),
        short => usize::from(short),
    };
    Some((head[0], wire.take(length).await?))
}

/// Reads binary frames until the received text has this ending.
async fn until(wire: &mut Wire, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let (first, data) = frame(wire).await.expect("an open connection");
        assert_eq!(first, 0x82);
        text.push_str(&String::from_utf8(data).expect("text"));
    }
    text
}

async fn task_status(pve: &Simulator, upid: &str) -> Value {
    ask(pve, "GET", &format!("/nodes/pve1/tasks/{upid}/status"), "")
        .await
        .data()
}

#[tokio::test]
async fn a_terminal_session() {
    let pve = pve().await;
    let path = "/nodes/pve1/qemu/100";
    let data = ask(&pve, "POST", &format!("{path}/termproxy"), "")
        .await
        .data();
    assert_eq!(data["user"], TOKEN_ID);
    let (port, ticket, upid) = (
        text(&data, "port"),
        text(&data, "ticket"),
        text(&data, "upid"),
    );
    assert!(ticket.starts_with("PVEVNC:"), "{ticket}");
    let mut wire = upgrade(&pve, path, &port, &ticket).await.expect("upgraded");
    assert_eq!(
        pve.requests().last().map(|request| request.status),
        Some(101)
    );
    assert_eq!(task_status(&pve, &upid).await["status"], "running");

    let hello = format!("{TOKEN_ID}:{ticket}\n");
    let (first, second) = hello.split_at(20);
    send_frame(&mut wire, 0x81, first.as_bytes()).await;
    send_frame(&mut wire, 0x82, second.as_bytes()).await;
    assert_eq!(until(&mut wire, "# ").await, "OKroot@one:~# ");
    send_frame(&mut wire, 0x82, b"1:132:43:20:10:stty size\r").await;
    assert_eq!(
        until(&mut wire, "# ").await,
        "stty size\r\n43 132\r\nroot@one:~# "
    );
    send_frame(&mut wire, 0x89, b"there?").await;
    assert_eq!(frame(&mut wire).await, Some((0x8a, b"there?".to_vec())));
    // More than one frame of any kind can hold.
    send_frame(&mut wire, 0x82, b"0:14:repeat 300000\r").await;
    let long = until(&mut wire, "# ").await;
    assert_eq!(long.matches('x').count(), 300_000);
    send_frame(&mut wire, 0x82, b"0:5:exit\r").await;
    assert_eq!(frame(&mut wire).await, Some((0x82, b"exit\r\n".to_vec())));
    // The connection ends without a close frame; the task ends with it.
    assert_eq!(frame(&mut wire).await, None);
    assert_eq!(task_status(&pve, &upid).await["exitstatus"], "OK");
}

#[tokio::test]
async fn tickets_are_valid_for_one_path_one_port_and_a_short_time() {
    let pve = pve().await;
    let path = "/nodes/pve1/qemu/100";
    let data = ask(&pve, "POST", &format!("{path}/vncproxy"), "websocket=1")
        .await
        .data();
    let (port, ticket) = (text(&data, "port"), text(&data, "ticket"));
    let password = text(&data, "password");
    assert!(text(&data, "cert").starts_with("-----BEGIN CERTIFICATE-----"));
    let bare = ticket
        .strip_prefix(&format!("{password}:"))
        .expect("the password first");
    let check = format!("port={port}&vncticket={}", encode(&ticket));
    let dry = ask(&pve, "GET", &format!("{path}/vncwebsocket"), &check).await;
    assert_eq!(dry.data(), json!({ "port": port }));
    for (path, port, ticket) in [
        (path, port.as_str(), "x"),
        (path, "5999", &ticket),
        ("/nodes/pve1/lxc/102", &port, &ticket),
        ("/nodes/pve1", &port, &ticket),
    ] {
        let refused = upgrade(&pve, path, port, ticket)
            .await
            .err()
            .expect("refused");
        assert_eq!(
            (refused.status, refused.reason.as_str()),
            (401, "permission denied - invalid PVEVNC ticket")
        );
    }
    // A ticket of another user.
    let other = login(&pve, "root@pam", ROOT_PASSWORD).await;
    let theirs = ask_with(&pve, "GET", &format!("{path}/vncwebsocket"), &other, &check).await;
    assert_eq!(theirs.status, 401);

    let mut wire = upgrade(&pve, path, &port, bare).await.expect("upgraded");
    assert_eq!(
        frame(&mut wire).await,
        Some((0x82, b"RFB 003.008\n".to_vec()))
    );
    send_frame(&mut wire, 0x82, b"RFB 003.008\n").await;
    assert_eq!(frame(&mut wire).await, Some((0x82, vec![1, 1])));
    send_frame(&mut wire, 0x88, &[]).await;
    assert_eq!(frame(&mut wire).await, None);

    pve.clock().advance(Duration::from_secs(41));
    let late = upgrade(&pve, path, &port, &ticket)
        .await
        .err()
        .expect("refused");
    assert_eq!(late.status, 401);
}

#[tokio::test]
async fn wrong_logins_and_stopped_guests_end_the_connection() {
    let pve = pve().await;
    let data = ask(&pve, "POST", "/nodes/pve1/termproxy", "").await.data();
    let (port, ticket) = (text(&data, "port"), text(&data, "ticket"));
    let mut wire = upgrade(&pve, "/nodes/pve1", &port, &ticket)
        .await
        .expect("upgraded");
    send_frame(&mut wire, 0x82, b"root@pam:nonsense\n").await;
    assert_eq!(frame(&mut wire).await, None);

    let path = "/nodes/pve1/qemu/101";
    let data = ask(&pve, "POST", &format!("{path}/vncproxy"), "websocket=1")
        .await
        .data();
    let (port, ticket, upid) = (
        text(&data, "port"),
        text(&data, "ticket"),
        text(&data, "upid"),
    );
    assert_eq!(
        task_status(&pve, &upid).await["exitstatus"],
        "VM 101 not running"
    );
    let mut wire = upgrade(&pve, path, &port, &ticket).await.expect("upgraded");
    assert_eq!(frame(&mut wire).await, None);

    let shell = ask(&pve, "POST", "/nodes/pve1/vncshell", "").await;
    assert_eq!(
        shell.reason,
        "value 'root@pam!test' does not look like a valid user name"
    );
}

#[tokio::test]
async fn faults_interrupt_a_console() {
    let pve = pve().await;
    let path = "/nodes/pve1/qemu/100";
    let fault = pve
        .faults()
        .add("1x GET /nodes/*/qemu/*/vncwebsocket break-console:5")
        .expect("a fault");
    let data = ask(&pve, "POST", &format!("{path}/termproxy"), "")
        .await
        .data();
    let (port, ticket) = (text(&data, "port"), text(&data, "ticket"));
    let mut wire = upgrade(&pve, path, &port, &ticket).await.expect("upgraded");
    assert_eq!(fault.hits(), 1);
    send_frame(&mut wire, 0x82, format!("{TOKEN_ID}:{ticket}\n").as_bytes()).await;
    assert_eq!(frame(&mut wire).await, Some((0x82, b"OKroo".to_vec())));
    assert_eq!(frame(&mut wire).await, None);
}

#[tokio::test]
async fn the_server_hangs_after_frames_that_it_cannot_read() {
    let pve = pve().await;
    let data = ask(&pve, "POST", "/nodes/pve1/qemu/100/termproxy", "")
        .await
        .data();
    let (port, ticket) = (text(&data, "port"), text(&data, "ticket"));
    let mut wire = upgrade(&pve, "/nodes/pve1/qemu/100", &port, &ticket)
        .await
        .expect("upgraded");
    send_frame(&mut wire, 0x82, format!("{TOKEN_ID}:{ticket}\n").as_bytes()).await;
    assert_eq!(until(&mut wire, "# ").await, "OKroot@one:~# ");
    // A fragment, followed by a frame that would otherwise be answered.
    send_frame(&mut wire, 0x02, b"0:5:ec").await;
    send_frame(&mut wire, 0x89, b"there?").await;
    tokio::select! {
        got = frame(&mut wire) => panic!("answered {got:?}"),
        other = ask(&pve, "GET", "/version", "") => assert_eq!(other.status, 200),
    }
}

#[tokio::test]
async fn spice_viewers_get_a_configuration_file() {
    let pve = pve().await;
    let path = "/nodes/pve1/qemu/100/spiceproxy";
    let data = ask(&pve, "POST", path, "").await.data();
    assert_eq!(data["type"], "spice");
    let port = pve.spice_address().port();
    assert_eq!(data["proxy"], format!("http://pve1:{port}"));
    assert!(text(&data, "host").starts_with("pvespiceproxy:"));
    let mut wire = Wire::open(&pve).await;
    wire.send(
        format!(
            "POST /api2/spiceconfig{path} HTTP/1.1\r\nHost: x\r\n\
             Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n\r\n"
        )
        .as_bytes(),
    )
    .await;
    let answer = wire.answer().await;
    let file = String::from_utf8(answer.body).expect("text");
    let mut lines = file.lines();
    assert_eq!(lines.next(), Some("[virt-viewer]"));
    assert!(lines.all(|line| line.contains('=')), "{file}");
    assert!(file.contains("\ntype=spice\n"), "{file}");
    let off = ask(&pve, "POST", "/nodes/pve1/qemu/101/spiceproxy", "").await;
    assert_eq!(off.reason, "VM 101 not running");
}

/// The SPICE proxy's answer to a request; `None` if the connection stays open after it.
async fn through_proxy(pve: &Simulator, request: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(pve.spice_address())
        .await
        .expect("listening");
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|n| n > 0) {
        answer.push(byte[0]);
    }
    let status = String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .map(str::to_owned);
    let open = answer == b"HTTP/1.1 200 OK\r\n\r\n";
    (status.unwrap_or_default(), open)
}

#[tokio::test]
async fn spice_viewers_connect_with_their_ticket() {
    let pve = pve().await;
    let file = ask(&pve, "POST", "/nodes/pve1/qemu/100/spiceproxy", "").await;
    let data = file.data();
    let (host, port) = (text(&data, "host"), &data["tls-port"]);
    let connect = |host: &str, port: &Value| {
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
    };
    let (status, open) = through_proxy(&pve, &connect(&host, port)).await;
    assert!(open, "{status}");
    let refused = ("HTTP/1.1 401 invalid ticket".to_owned(), false);
    let other = host.replace(":100:", ":101:");
    for request in [
        connect(&other, port),
        connect(&host, &json!(61_001)),
        connect("pve1", port),
    ] {
        assert_eq!(through_proxy(&pve, &request).await, refused);
    }
    let get = through_proxy(&pve, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(get.0, "HTTP/1.1 501 method 'GET' not available");
    pve.clock().advance(Duration::from_secs(41));
    assert_eq!(through_proxy(&pve, &connect(&host, port)).await, refused);
}

#[tokio::test]
async fn a_migration_opens_a_tunnel() {
    let pve = pve().await;
    let taken = ask(&pve, "POST", "/nodes/pve1/qemu/100/mtunnel", "").await;
    assert_eq!(taken.status, 400, "{taken}");
    let path = "/nodes/pve1/qemu/300";
    let data = ask(&pve, "POST", &format!("{path}/mtunnel"), "")
        .await
        .data();
    let (socket, ticket) = (text(&data, "socket"), text(&data, "ticket"));
    assert_eq!(socket, "/run/qemu-server/300.mtunnel");
    let config = ask(&pve, "GET", &format!("{path}/config"), "").await.data();
    assert_eq!(config["lock"], "create");

    let form = |ticket: &str| format!("socket={}&ticket={}", encode(&socket), encode(ticket));
    let check = format!("{path}/mtunnelwebsocket");
    let refused = ask(&pve, "GET", &check, &form("PVETUNNEL:x")).await;
    assert_eq!(
        refused.reason,
        "permission denied - invalid PVETUNNEL ticket"
    );
    let mut wire = Wire::open(&pve).await;
    let request = format!(
        "GET /api2/json{check}?{} HTTP/1.1\r\nHost: x\r\n\
         Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        form(&ticket)
    );
    wire.send(request.as_bytes()).await;
    assert_eq!(wire.answer().await.status, 101);
    let say = async |wire: &mut Wire, command: Value| -> Value {
        send_frame(wire, 0x82, format!("{command}\n").as_bytes()).await;
        let (_, data) = frame(wire).await.expect("an answer");
        serde_json::from_slice(&data).expect("JSON")
    };
    let version = say(&mut wire, json!({ "cmd": "version" })).await;
    assert_eq!(version, json!({ "success": true, "api": 2, "age": 0 }));
    let unknown = say(&mut wire, json!({ "cmd": "dance" })).await;
    assert_eq!(unknown["msg"], "unknown command 'dance' given");
    let quit = say(&mut wire, json!({ "cmd": "quit", "cleanup": 1 })).await;
    assert_eq!(quit["success"], true);
    send_frame(&mut wire, 0x88, b"").await;
    wire.rest().await;
    let upid = text(&data, "upid");
    while task_status(&pve, &upid).await["status"] != "stopped" {
        tokio::task::yield_now().await;
    }
    assert_eq!(task_status(&pve, &upid).await["exitstatus"], "OK");
    assert_eq!(
        ask(&pve, "GET", &format!("{path}/config"), "").await.status,
        500
    );
}
