//! Virtual machines from images.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::guest::{CloudInit, Guest, Kind, Size, allocate};
use super::image::Image;
use super::inventory::{Inventory, Resource};
use super::work::{Action, Subject, Track, Work, WorkError};
use crate::client::Client;
use crate::error::Error;
use crate::pve::qemu::{QemuAgent, QemuBoot, QemuConfig, QemuDrive, QemuNet, QemuOstype};
use crate::request::ApiRequest;

/// The wanted state of a virtual machine made from an image; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use std::time::Duration;
///
/// use proxmox_api::manage::guest::CloudInit;
/// use proxmox_api::manage::image::Image;
/// use proxmox_api::manage::machine::Machine;
///
/// let web = Machine::new("web", Image::file("debian-13.qcow2.xz"))
///     .ids(5000..=5999)
///     .cores(2)
///     .memory(4096)
///     .disk("local-lvm", 20 << 30)
///     .cloud_init(CloudInit::new().user("admin").ssh_key("ssh-ed25519 AAAA… me").dhcp(0))
///     .wait_for_address(Duration::from_secs(180));
/// let made = pve.carry_out(web).on_step(|step| println!("{step}")).await?;
/// println!("guest {} at {:?}", made.guest.vmid(), made.addresses);
/// # Ok(())
/// # }
/// ```
///
/// # Made again
///
/// The machine is found by its name among the allowed numbers. An existing machine is not made
/// again: its disk is enlarged if it is smaller than wanted, cloud-init settings that differ are
/// written (except the password, which cannot be compared), and it is started if it does not run.
/// Its other settings stay as they are; [`Guest::apply_qemu`] changes them.
///
/// # What a failure leaves
///
/// The server removes the result of a failed download or creation. A complete image stays, and so
/// does a machine in any state. [`UnfinishedError::left`](super::work::UnfinishedError::left) names
/// both.
#[derive(Clone, PartialEq)]
pub struct Machine {
    name: String,
    image: Image,
    node: Option<String>,
    ids: RangeInclusive<u32>,
    config: QemuConfig,
    disk_storage: String,
    disk_size: Option<u64>,
    cloud_init: Option<CloudInit>,
    start: bool,
    address: Option<Duration>,
}

/// A machine that exists; the result of [`Machine`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Made {
    /// The machine.
    pub guest: Guest,
    /// Its addresses; empty unless they were waited for.
    pub addresses: Vec<IpAddr>,
    /// Whether it was made now.
    pub new: bool,
}

impl Machine {
    /// A machine of this name with a disk from this image: 2 GiB of memory, one core, a disk on
    /// `local-lvm` of the image's size, a network card on `vmbr0`, the guest agent enabled, a
    /// serial console beside the screen. It is started.
    #[must_use]
    pub fn new(name: impl Into<String>, image: Image) -> Self {
        let name = name.into();
        let mut config = QemuConfig {
            name: Some(name.clone()),
            agent: Some(QemuAgent::from("1")),
            boot: Some(QemuBoot::from("order=scsi0")),
            cores: Some(1),
            memory: Some(2048.into()),
            ostype: Some(QemuOstype::from("l26")),
            scsihw: Some("virtio-scsi-pci".into()),
            ..QemuConfig::default()
        };
        config.net.insert(0, QemuNet::from("virtio,bridge=vmbr0"));
        config.serial.insert(0, "socket".to_owned());
        Self {
            name,
            image,
            node: None,
            ids: 100..=999_999_999,
            config,
            disk_storage: "local-lvm".to_owned(),
            disk_size: None,
            cloud_init: None,
            start: true,
            address: None,
        }
    }

    /// The node; by default the one with the most free memory.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Its number.
    #[must_use]
    pub fn id(self, vmid: u32) -> Self {
        self.ids(vmid..=vmid)
    }

    /// The allowed numbers; the lowest free one is taken. From 100 on by default.
    #[must_use]
    pub fn ids(mut self, ids: RangeInclusive<u32>) -> Self {
        self.ids = ids;
        self
    }

    /// Its processor cores.
    #[must_use]
    pub fn cores(mut self, cores: u16) -> Self {
        self.config.cores = Some(cores.into());
        self
    }

    /// Its memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.config.memory = Some(i64::from(mebibytes).into());
        self
    }

    /// The storage of its disk and of its cloud-init drive, and the minimum size of the disk in
    /// bytes, rounded up to GiB. A size below the image's has no effect.
    #[must_use]
    pub fn disk(mut self, storage: impl Into<String>, bytes: u64) -> Self {
        self.disk_storage = storage.into();
        self.disk_size = Some(bytes);
        self
    }

    /// Settings for cloud-init, and the drive for them.
    #[must_use]
    pub fn cloud_init(mut self, settings: CloudInit) -> Self {
        self.cloud_init = Some(settings);
        self
    }

    /// Sets any other settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut QemuConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Does not start it.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.start = false;
        self
    }

    /// Waits, at most this long, until it has an address that others can reach; see [`Guest::wait_for_address`].
    #[must_use]
    pub fn wait_for_address(mut self, timeout: Duration) -> Self {
        self.address = Some(timeout);
        self
    }

    /// The machine of this name among the numbers, if it exists.
    fn find<'a>(&self, inventory: &'a Inventory) -> Result<Option<&'a Resource>, Error> {
        let inside = (inventory.resources.iter())
            .filter(|row| row.vmid.is_some_and(|vmid| self.ids.contains(&vmid)));
        let mut found = None;
        for row in inside {
            let vmid = row.vmid.unwrap_or_default();
            if row.guest_name.as_deref() != Some(&*self.name) {
                if self.ids.start() == self.ids.end() {
                    return Err(WorkError::new(
                        Subject::Guest(vmid),
                        format!("the number belongs to another guest, {}", row.name()),
                    )
                    .into());
                }
                continue;
            }
            if row.kind != Some(Kind::Qemu) || row.template {
                let problem = format!("{} is the name of a template or container", self.name);
                return Err(WorkError::new(Subject::Guest(vmid), problem).into());
            }
            found.get_or_insert(row);
        }
        Ok(found)
    }

    async fn make(
        &self,
        pve: &Client,
        track: &Track<'_>,
        inventory: &Inventory,
    ) -> Result<Guest, Error> {
        let node = match &self.node {
            Some(node) => node.clone(),
            None => self.place(inventory)?,
        };
        self.check_login(pve).await?;
        let source = self.image.on(&node).run(pve, track).await?;
        let mut config = self.config.clone();
        let disk = QemuDrive::new(format!("{}:0", self.disk_storage)).import_from(source);
        config.scsi.insert(0, disk);
        if let Some(settings) = &self.cloud_init {
            let drive = QemuDrive::new(format!("{}:cloudinit", self.disk_storage));
            config.ide.insert(2, drive);
            settings.put(&mut config, true);
        }
        let create = |vmid: u32| {
            let request = pve.api().nodes().node(&node).qemu().post(vmid);
            request.settings(&config).into_request().into_future()
        };
        let (vmid, task) = allocate(pve, self.ids.clone(), create).await?;
        let subject = Subject::Guest(vmid);
        track
            .follow(&subject, Action::Create, task, || create(vmid))
            .await?;
        track.leave(&subject, "was created, but not set up completely");
        Ok(pve.guest_at(vmid, node, Kind::Qemu))
    }

    /// Refuses before anything is downloaded what the server would refuse after it.
    async fn check_login(&self, pve: &Client) -> Result<(), Error> {
        let Some(user) = pve.user().filter(|user| *user != "root@pam") else {
            return Ok(());
        };
        if !self.image.needs_path(pve).await? {
            return Ok(());
        }
        let problem = format!(
            "releases before 8.3 import images from paths, and only for root@pam, not for {user}; \
             log in as root@pam with its password"
        );
        Err(WorkError::new(Subject::Other(format!("machine {}", self.name)), problem).into())
    }

    fn place(&self, inventory: &Inventory) -> Result<String, Error> {
        let memory = self.config.memory.as_ref();
        let mebibytes = memory.map_or(512, |memory| memory.current);
        let bytes = u64::try_from(mebibytes).unwrap_or(0) << 20;
        let nodes = inventory.placement(bytes, 0.0);
        nodes.into_iter().next().ok_or_else(|| {
            let problem = "no online node has enough free memory; choose a node";
            WorkError::new(Subject::Other(format!("machine {}", self.name)), problem).into()
        })
    }

    /// Grows the disk if it is too small; returns whether it was.
    async fn grow(
        &self,
        guest: &Guest,
        track: &Track<'_>,
        subject: &Subject,
    ) -> Result<bool, Error> {
        let Some(size) = self.disk_size else {
            return Ok(false);
        };
        let size = size.div_ceil(1 << 30) << 30;
        let config = guest.qemu_config().await?;
        let now = (config.scsi.get(0)).and_then(|disk| disk.size.as_ref()?.bytes());
        if now.is_some_and(|now| now >= size) {
            return Ok(false);
        }
        let start_task = || guest.resize_disk("scsi0", Size::To(size));
        track.task(subject, Action::Resize, start_task).await?;
        Ok(true)
    }
}

impl Work for Machine {
    type Done = Made;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Made, Error> {
        let inventory = Inventory::fetch(pve).await?;
        let (guest, new) = match self.find(&inventory)? {
            None => (self.make(pve, track, &inventory).await?, true),
            Some(row) => {
                let guest = pve.guest(row.vmid.unwrap_or_default());
                track.found(&Subject::Guest(guest.vmid()), Action::Create);
                (guest, false)
            }
        };
        let guest = track.with_locks(guest);
        let subject = Subject::Guest(guest.vmid());
        // Another program may be creating it now.
        let lock = guest.status().await?.lock;
        if !new && lock.as_deref() == Some("create") {
            let problem =
                "it is locked: another task is creating it, or was stopped before the end";
            return Err(WorkError::new(subject, problem).into());
        }
        if self.grow(&guest, track, &subject).await? && !new {
            track.leave(&subject, "has a larger disk");
        }
        if let Some(settings) = self.cloud_init.as_ref().filter(|_| !new) {
            let applied = guest
                .apply_qemu(|config| settings.put(config, false))
                .await?;
            if !applied.written.is_empty() {
                track
                    .act(&subject, Action::Configure, async { Ok(()) })
                    .await?;
                let state = format!("was changed: {}", applied.written.join(", "));
                track.leave(&subject, &state);
            }
        }
        if self.start {
            track.start(&subject, &guest, new).await?;
        }
        let mut addresses = Vec::new();
        if let Some(timeout) = self.address.filter(|_| self.start) {
            let waiting = guest.wait_for_address(timeout);
            addresses = track.act(&subject, Action::Wait, waiting).await?;
        }
        Ok(Made {
            guest,
            addresses,
            new,
        })
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("node", &self.node)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
