//! Attaches this terminal to a container, a virtual machine's serial port or a node's shell. Ctrl-]
//! exits.
//!
//! ```text
//! PROXMOX_HOST=pve1 PROXMOX_TOKEN_ID=root@pam!ci PROXMOX_TOKEN_SECRET=… \
//!     cargo run -p proxmox-api --features console --example console -- pve1 lxc 101
//! ```
//!
//! Further environment variables: see `Client::from_env`. Needs a Unix terminal and its `stty`.

use std::process::{Command, Stdio};

use proxmox_api::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let pve = Client::from_env()?;
    let console = match arguments.as_slice() {
        [node] => pve.node_console(node),
        [node, "lxc", vmid] => pve.lxc_console(node, vmid),
        [node, "qemu", vmid] => pve.qemu_console(node, vmid),
        _ => return Err("usage: console NODE [lxc VMID | qemu VMID]".into()),
    };
    let mut terminal = console.terminal().await?;
    eprintln!("Connected; Ctrl-] exits.");

    let raw = Raw::enter()?;
    let (resize, mut sizes) = tokio::sync::mpsc::channel(1);
    tokio::spawn(report_sizes(resize));
    // Standard input ends at the exit key, so that the session ends like at the end of the input.
    let (mut keys, mut typed) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let mut stdin = tokio::io::stdin();
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stdin.read(&mut bytes).await {
            let end = bytes[..count].iter().position(|&byte| byte == LEAVE);
            let kept = &bytes[..end.unwrap_or(count)];
            if typed.write_all(kept).await.is_err() || end.is_some() {
                break;
            }
        }
    });
    let result = terminal
        .attach(&mut keys, &mut tokio::io::stdout(), &mut sizes)
        .await;
    drop(raw);
    println!();
    result?;
    terminal.close().await?;
    // A read of standard input cannot be cancelled, and the runtime would wait for it.
    std::process::exit(0);
}

/// Sends the window's size now and whenever it changes.
async fn report_sizes(resize: tokio::sync::mpsc::Sender<(u16, u16)>) -> Option<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut changes = signal(SignalKind::window_change()).ok()?;
    loop {
        let size = stty(&["size"]).ok()?;
        let (rows, columns) = size.trim().split_once(' ')?;
        let size = (columns.parse().ok()?, rows.parse().ok()?);
        resize.send(size).await.ok()?;
        changes.recv().await?;
    }
}

/// Raw mode of the terminal while this lives.
struct Raw(String);

impl Raw {
    fn enter() -> Fallible<Self> {
        let before = stty(&["-g"])?;
        stty(&["raw", "-echo"])?;
        Ok(Self(before.trim().to_owned()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = stty(&[&self.0]) {
            eprintln!("the terminal mode cannot be restored: {error}");
        }
    }
}

fn stty(arguments: &[&str]) -> Fallible<String> {
    let output = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("standard input is not a terminal".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
