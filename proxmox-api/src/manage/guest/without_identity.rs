//! Configurations for further guests.

use crate::pve::lxc::LxcConfig;
use crate::pve::qemu::{QemuConfig, QemuSmbios1};

impl QemuConfig {
    /// The configuration for another virtual machine like this one, without the values that
    /// identify this one. The server generates a new `vmgenid`, MAC addresses and, unless `smbios1`
    /// sets one, the system's UUID. A `vmgenid` of `0`, which disables it, stays.
    ///
    /// The digest, the lock and members about snapshots are removed, too. Disks stay and name the
    /// volumes of this machine: replace them, or clone the machine
    /// ([`Guest::clone_to`](super::Guest::clone_to)).
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::task::AndWait;
    ///
    /// let config = pve.guest(100).qemu_config().await?.without_identity().name("web-2");
    /// let config = config.scsi(0, "local-lvm:32");
    /// pve.nodes().node("pve1").qemu().post(101).settings(&config).and_wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn without_identity(&self) -> Self {
        let mut config = self.clone();
        config.vmgenid.take_if(|id| id != "0");
        for (_, card) in config.net.iter_mut() {
            card.macaddr = None;
        }
        if let Some(smbios) = &mut config.smbios1 {
            smbios.uuid = None;
        }
        config
            .smbios1
            .take_if(|smbios| *smbios == QemuSmbios1::new());
        config.digest = None;
        config.lock = None;
        config.meta = None;
        config.parent = None;
        config.snapstate = None;
        config.snaptime = None;
        config
    }
}

impl LxcConfig {
    /// The configuration for another container like this one: without its MAC addresses, which the
    /// server generates, its digest, its lock and members about snapshots. Volumes stay: replace
    /// them.
    #[must_use]
    pub fn without_identity(&self) -> Self {
        let mut config = self.clone();
        for (_, card) in config.net.iter_mut() {
            card.hwaddr = None;
        }
        config.digest = None;
        config.lock = None;
        config.parent = None;
        config.snapstate = None;
        config.snaptime = None;
        config
    }
}
