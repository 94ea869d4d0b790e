//! Issued consoles.

use std::time::Duration;

use crate::console::{Console, Screen};
use crate::state::cluster::Cluster;
use crate::state::tasks::Task;
use crate::tunnel::TunnelEnd;

impl Cluster {
    /// A free port for a console. If there is none, the oldest console loses its port.
    pub(crate) fn free_port(&mut self) -> u16 {
        let taken = |port: &u16| self.consoles.iter().any(|console| console.port == *port);
        if let Some(port) = CONSOLE_PORTS.clone().find(|port| !taken(port)) {
            return port;
        }
        let oldest = self.consoles.remove(0);
        self.end_task(&oldest.upid, Err("console was given up"));
        oldest.port
    }

    pub(crate) fn open_console(&mut self, console: Console) {
        self.consoles.push(console);
    }

    /// Counts an opened connection to a console, or a closed one with the reason.
    pub(crate) fn link_console(&mut self, upid: &str, leaves: Option<TunnelEnd>) {
        let Some(console) = self.consoles.iter_mut().find(|c| c.upid == upid) else {
            return;
        };
        let Some(end) = leaves else {
            console.links += 1;
            return;
        };
        console.links = console.links.saturating_sub(1);
        if console.links > 0 {
            return;
        }
        // The backend serves one connection and ends with it; its ticket can still be verified.
        console.dead = true;
        let (screen, guest) = (console.screen, console.host.parse());
        let outcome = match (screen, end) {
            (Screen::Tunnel, TunnelEnd::Sudden) => Err("mtunnel exited unexpectedly"),
            _ => Ok(0),
        };
        self.end_task(upid, outcome);
        if let (Screen::Tunnel, TunnelEnd::Quit { cleanup: true }, Ok(vmid)) = (screen, end, guest)
        {
            self.undo_preparations(vmid);
        }
    }

    /// Removes consoles whose ticket has expired.
    pub(crate) fn expire_consoles(&mut self) {
        let now = self.now;
        let (kept, gone) =
            std::mem::take(&mut self.consoles)
                .into_iter()
                .partition(|console: &Console| {
                    console.links > 0
                        || now.saturating_sub(console.issued) <= CONSOLE_TICKET_LIFETIME
                });
        self.consoles = kept;
        for console in gone {
            let waiting = self.task(&console.upid).is_some_and(Task::running);
            self.end_task(&console.upid, Err("connection timed out"));
            if let (Screen::Tunnel, true, Ok(vmid)) =
                (console.screen, waiting, console.host.parse())
            {
                self.undo_preparations(vmid);
            }
        }
    }
}

/// Ports of consoles, assigned in order.
const CONSOLE_PORTS: std::ops::Range<u16> = 5_900..6_000;

const CONSOLE_TICKET_LIFETIME: Duration = Duration::from_secs(40);
