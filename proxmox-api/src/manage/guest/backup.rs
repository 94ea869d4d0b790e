//! Backups of single guests, and guests made from them.

use super::started::Goal;
use super::{Guest, Kind, Place, Started, order};
use crate::client::Client;
use crate::error::Error;
use crate::pve::node_storage::NodeStorageContentItem;
use crate::value::List;

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
    pub async fn backups(&self, storage: &str) -> Result<Vec<NodeStorageContentItem>, Error> {
        let mut found = self
            .call(None, &|place| {
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

    async fn run(self) -> Result<Started, Error> {
        let guest = &self.guest;
        let send = |place: &Place| {
            let request = guest.client.api().nodes().node(&place.node).vzdump().post();
            order!(
                request.vmid(List(vec![guest.vmid])).storage(&self.storage),
                mode: self.mode.as_deref(),
                compress: self.compress.as_deref(),
                notes_template: self.notes.as_deref(),
                protected: self.protected.then_some(true),
            )
        };
        guest.order(None, Goal::Nothing, &send).await
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

    async fn run(self) -> Result<Started, Error> {
        let node = self.guest.client.api().nodes().node(&self.node);
        let vmid = self.guest.vmid;
        macro_rules! restore {
            ($request:expr) => {
                order!(
                    $request,
                    storage: self.storage.as_deref(),
                    force: self.overwrite.then_some(true),
                    unique: self.unique.then_some(true),
                    start: self.start.then_some(true),
                )
            };
        }
        let sending = match self.kind {
            Kind::Qemu => restore!(node.qemu().post(vmid).archive(&self.archive)),
            Kind::Lxc => restore!(node.lxc().post(vmid, &self.archive).restore(true)),
        };
        Ok(Started::new(&self.guest, sending.await?, Goal::Nothing))
    }
}

super::awaits!(Restore => Started);
