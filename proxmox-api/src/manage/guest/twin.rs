//! Configurations for further guests.

use crate::pve::lxc::LxcConfig;
use crate::pve::qemu::{QemuConfig, QemuSmbios1};

impl QemuConfig {
    /// The configuration for another virtual machine like this one: without what tells this one from others. The server makes
    /// new ones of `vmgenid`, MAC addresses and, where `smbios1` says nothing else, the system's UUID. A `vmgenid` of `0`, which
    /// is for none, stays.
    ///
    /// Digest, lock and what is known of snapshots are left out, too. Disks are not: they name the volumes of this machine, so set
    /// those that the other is to have, or clone the machine ([`Guest::clone_to`](super::Guest::clone_to)).
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::task::AndWait;
    ///
    /// let config = pve.guest(100).qemu_config().await?.twin().name("web-2");
    /// let config = config.scsi(0, "local-lvm:32");
    /// pve.nodes().node("pve1").qemu().post(101).settings(&config).and_wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn twin(&self) -> Self {
        let mut twin = self.clone();
        twin.vmgenid.take_if(|id| id != "0");
        for (_, card) in twin.net.iter_mut() {
            card.macaddr = None;
        }
        if let Some(smbios) = &mut twin.smbios1 {
            smbios.uuid = None;
        }
        twin.smbios1.take_if(|smbios| *smbios == QemuSmbios1::new());
        twin.digest = None;
        twin.lock = None;
        twin.meta = None;
        twin.parent = None;
        twin.snapstate = None;
        twin.snaptime = None;
        twin
    }
}

impl LxcConfig {
    /// The configuration for another container like this one: without its MAC addresses, of which the server makes new ones, its
    /// digest, its lock and what is known of snapshots. Volumes stay: set those that the other is to have.
    #[must_use]
    pub fn twin(&self) -> Self {
        let mut twin = self.clone();
        for (_, card) in twin.net.iter_mut() {
            card.hwaddr = None;
        }
        twin.digest = None;
        twin.lock = None;
        twin.parent = None;
        twin.snapstate = None;
        twin.snaptime = None;
        twin
    }
}
