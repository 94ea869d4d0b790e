//! Backups of single guests, and guests made from them.

use super::started::Goal;
use super::{Guest, GuestError, Kind, Started, task};
use crate::api::node_storage::NodeStorageContentItem;
use crate::client::Client;
use crate::list::List;

/// Backing a guest up; made by [`Guest::backup`], awaiting it gives a [`Started`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Backup {
    guest: Guest,
    storage: String,
    mode: Option<String>,
    compress: Option<String>,
    notes: Option<String>,
    protected: bool,
}

impl Guest {
    /// Backs it up to a storage: `POST /nodes/{node}/vzdump`.
    pub fn backup(&self, storage: impl Into<String>) -> Backup {
        Backup {
            guest: self.clone(),
            storage: storage.into(),
            mode: None,
            compress: None,
            notes: None,
            protected: false,
        }
    }

    /// Its backups on a storage, the newest first: `GET /nodes/{node}/storage/{storage}/content`.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn backups(&self, storage: &str) -> Result<Vec<NodeStorageContentItem>, GuestError> {
        let mut found = self
            .call(|place| {
                let node = self.client.api().nodes().node(&place.node);
                let content = node.storage().storage(storage).content();
                content
                    .get()
                    .content("backup")
                    .vmid(self.vmid)
                    .into_future()
            })
            .await?;
        found.sort_by(|a, b| (b.ctime, &b.volid).cmp(&(a.ctime, &a.volid)));
        Ok(found)
    }
}

impl Backup {
    /// What happens to a guest that runs: it goes on (`snapshot`, the default), is paused for a while
    /// (`suspend`) or stopped for a while (`stop`).
    pub fn mode(mut self, mode: impl Into<String>) -> Self {
        self.mode = Some(mode.into());
        self
    }

    /// How the archive is compressed, as `zstd`.
    pub fn compress(mut self, how: impl Into<String>) -> Self {
        self.compress = Some(how.into());
        self
    }

    /// Notes for the backup; `{{guestname}}`, `{{node}}`, `{{vmid}}` and `{{cluster}}` are filled in.
    pub fn notes(mut self, template: impl Into<String>) -> Self {
        self.notes = Some(template.into());
        self
    }

    /// Keeps it from being pruned or deleted until that is taken back.
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    async fn run(self) -> Result<Started, GuestError> {
        let guest = &self.guest;
        let task = guest
            .call(|place| {
                let node = guest.client.api().nodes().node(&place.node);
                let mut request = node.vzdump().post();
                request = request.vmid(List(vec![guest.vmid])).storage(&self.storage);
                if let Some(mode) = &self.mode {
                    request = request.mode(mode.as_str());
                }
                if let Some(how) = &self.compress {
                    request = request.compress(how.as_str());
                }
                if let Some(notes) = &self.notes {
                    request = request.notes_template(notes);
                }
                if self.protected {
                    request = request.protected(true);
                }
                task(request)
            })
            .await?;
        Ok(Started::new(guest, task, Goal::Nothing))
    }
}

super::awaits!(Backup => Started);

/// Making a guest from a backup; made by [`Client::restore`], awaiting it gives a [`Started`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Restore {
    guest: Guest,
    node: String,
    kind: Kind,
    archive: String,
    storage: Option<String>,
    overwrite: bool,
    unique: bool,
    start: bool,
}

impl Client {
    /// Makes a guest from a backup: `POST /nodes/{node}/{qemu|lxc}`. `archive` is the backup's volume, as
    /// `local:backup/vzdump-qemu-101-2026_11_21-02_00_00.vma.zst`.
    pub fn restore(
        &self,
        node: impl Into<String>,
        kind: Kind,
        vmid: u32,
        archive: impl Into<String>,
    ) -> Restore {
        let node = node.into();
        Restore {
            guest: self.guest_at(vmid, &node, kind),
            node,
            kind,
            archive: archive.into(),
            storage: None,
            overwrite: false,
            unique: false,
            start: false,
        }
    }
}

impl Restore {
    /// The storage the disks go to, instead of those they came from.
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// **Replaces a guest** that has the number.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Gives it new MAC addresses and identifiers, so that it can live beside the original.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Starts it when it is there.
    pub fn start(mut self) -> Self {
        self.start = true;
        self
    }

    async fn run(self) -> Result<Started, GuestError> {
        let node = self.guest.client.api().nodes().node(&self.node);
        let vmid = self.guest.vmid;
        let sending = match self.kind {
            Kind::Qemu => {
                let mut request = node.qemu().post(vmid).archive(&self.archive);
                if let Some(storage) = &self.storage {
                    request = request.storage(storage);
                }
                if self.overwrite {
                    request = request.force(true);
                }
                if self.unique {
                    request = request.unique(true);
                }
                if self.start {
                    request = request.start(true);
                }
                task(request)
            }
            Kind::Lxc => {
                let mut request = node.lxc().post(vmid, &self.archive).restore(true);
                if let Some(storage) = &self.storage {
                    request = request.storage(storage);
                }
                if self.overwrite {
                    request = request.force(true);
                }
                if self.unique {
                    request = request.unique(true);
                }
                if self.start {
                    request = request.start(true);
                }
                task(request)
            }
        };
        Ok(Started::new(&self.guest, sending.await?, Goal::Nothing))
    }
}

super::awaits!(Restore => Started);
