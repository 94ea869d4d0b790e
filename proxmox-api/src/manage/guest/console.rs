//! The consoles of a guest.

use super::{Guest, Kind};
use crate::error::Error;
use crate::stream::console::Console;
use crate::value::serialize::variant_serde;

/// A display or terminal of a guest; see [`Guest::console`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Display {
    /// Its screen, by [`Console::vnc`].
    Vnc,
    /// Its screen, by [`Console::spice`]: it has a graphics card of the kind `qxl`.
    Spice,
    /// A terminal, by [`Console::terminal`]: of a container, or of a virtual machine's serial port with this number.
    Terminal(u8),
}

variant_serde!(Display {
    Vnc = "vnc",
    Spice = "spice",
    Terminal(number) = "terminal",
});

/// A guest's console and its displays; made by [`Guest::console`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless opened"]
pub struct GuestConsole {
    console: Console,
    displays: Vec<Display>,
}

impl Guest {
    /// Its console, with the displays of its configuration. The first one is the default of the web
    /// interface.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::manage::guest::Display;
    ///
    /// let console = pve.guest(101).console().await?;
    /// match console.displays().first() {
    ///     Some(Display::Terminal(_)) => drop(console.open().terminal().await?),
    ///     _ => drop(console.open().vnc().await?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn console(&self) -> Result<GuestConsole, Error> {
        // A console is opened on the guest's present node.
        let location = self.locate().await?;
        if location.kind == Kind::Lxc {
            return Ok(GuestConsole {
                console: self.client.lxc_console(&location.node, self.vmid),
                displays: vec![Display::Terminal(0), Display::Vnc],
            });
        }
        let config = self.qemu_config().await?;
        let vga = config.vga.as_ref().and_then(|vga| vga.type_.as_ref());
        let vga = vga.map_or("std", |kind| kind.as_str());
        let mut displays = Vec::new();
        if vga != "none" && !vga.starts_with("serial") {
            displays.push(Display::Vnc);
        }
        if vga.starts_with("qxl") {
            displays.insert(0, Display::Spice);
        }
        let main = vga
            .strip_prefix("serial")
            .and_then(|number| number.parse().ok());
        displays.extend(main.map(Display::Terminal));
        let ports = config
            .serial
            .iter()
            .filter(|(_, port)| port.as_str() == "socket");
        let ports = ports.map(|(number, _)| Display::Terminal(*number));
        displays.extend(ports.filter(|port| Some(*port) != main.map(Display::Terminal)));
        Ok(GuestConsole {
            console: self.client.qemu_console(&location.node, self.vmid),
            displays,
        })
    }
}

impl GuestConsole {
    /// Its displays. The first one is the default of the web interface.
    #[must_use]
    pub fn displays(&self) -> &[Display] {
        &self.displays
    }

    /// The console, set up for its first display.
    pub fn open(&self) -> Console {
        match self.displays.first() {
            Some(Display::Terminal(number)) => self.terminal(*number),
            _ => self.console.clone(),
        }
    }

    /// The console, with this serial port as its terminal.
    pub fn terminal(&self, number: u8) -> Console {
        let has_port = number > 0 || self.displays.first() != Some(&Display::Terminal(0));
        match has_port && self.displays.contains(&Display::Terminal(number)) {
            true => self
                .console
                .clone()
                .param("serial", format!("serial{number}")),
            false => self.console.clone(),
        }
    }
}
