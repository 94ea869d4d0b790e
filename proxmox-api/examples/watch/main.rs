//! Watches a cluster in the terminal: nodes, a chart of the chosen one, and its busiest guests.
//! `cargo run -p proxmox-api --example watch`
//!
//! Keys: up and down select a node, left and right a chart, `t` the time range, `r` refreshes, `q`
//! ends. Without a terminal, or with `--once`, one picture is printed as text.

#[path = "../common/mod.rs"]
mod common;

mod app;

use std::io::IsTerminal as _;
use std::time::Duration;

use common::{Outcome, open};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};
use tokio::sync::mpsc;

use app::App;

#[tokio::main]
async fn main() -> Outcome {
    let (_simulator, pve) = open(|builder| {
        let mut builder = builder.node("pve3");
        for vmid in 101..107 {
            let node = format!("pve{}", vmid % 3 + 1);
            let name = format!("web-{vmid}");
            let settings = [("name", name.as_str()), ("scsi0", "local-lvm:4")];
            builder = builder.qemu(vmid, &node, &settings);
            if vmid % 2 == 0 {
                builder = builder.running(vmid);
            }
        }
        builder
    })
    .await?;
    let mut app = App::default();
    if std::env::args().any(|word| word == "--once") || !std::io::stdout().is_terminal() {
        app.hear(app.wish().ask(&pve).await);
        let mut terminal = Terminal::new(TestBackend::new(100, 30))?;
        terminal.draw(|frame| app.draw(frame))?;
        println!("{}", terminal.backend());
        return Ok(());
    }

    // Keys are read on another thread, so that the picture is updated meanwhile.
    let (sender, mut keys) = mpsc::unbounded_channel::<KeyCode>();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Event::Key(key) = event
                && key.kind == KeyEventKind::Press
                && sender.send(key.code).is_err()
            {
                break;
            }
        }
    });
    let mut terminal = ratatui::init();
    let mut again = tokio::time::interval(Duration::from_secs(2));
    while !app.done {
        let ask = tokio::select! {
            _ = again.tick() => true,
            key = keys.recv() => key.is_some_and(|key| app.press(key)),
        };
        if ask {
            let news = app.wish().ask(&pve).await;
            app.hear(news);
        }
        if let Err(error) = terminal.draw(|frame| app.draw(frame)) {
            ratatui::restore();
            return Err(error.into());
        }
    }
    ratatui::restore();
    Ok(())
}
