//! Existing backups.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::{Kind, unsigned};
use crate::manage::work::{Action, State, Subject, Track, Work};
use crate::pve::node_storage::NodeStorageContentItem;
use crate::value::serialize::record_serde;

/// A backup on a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// A node that the storage can be read from.
    pub node: String,
    /// Its volume, as `local:backup/vzdump-qemu-101-2026_11_21-02_00_00.vma.zst`.
    pub volume: String,
    /// The kind of the guest; `None` if the server does not say.
    pub kind: Option<Kind>,
    /// The guest's number.
    pub vmid: u32,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The first line of its notes.
    pub notes: Option<String>,
    /// Whether it is protected from being pruned or removed.
    pub protected: bool,
    /// Whether a backup server found it intact at its last verification; `None` if there was none.
    pub verified: Option<bool>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

record_serde!(Archive {
    node,
    volume,
    kind,
    vmid,
    time,
    size,
    notes,
    protected,
    verified,
    encrypted,
});

impl Archive {
    fn of(node: &str, row: NodeStorageContentItem) -> Option<Self> {
        let volume = row.volid.to_string();
        let kind = match row.subtype.as_deref() {
            Some(kind) => Kind::read(kind),
            None if volume.contains("vzdump-qemu-") || volume.contains("backup/vm/") => {
                Some(Kind::Qemu)
            }
            None if volume.contains("vzdump-lxc-") || volume.contains("backup/ct/") => {
                Some(Kind::Lxc)
            }
            None => None,
        };
        Some(Self {
            node: node.to_owned(),
            kind,
            vmid: row.vmid?,
            time: unsigned(row.ctime),
            size: row.size.unwrap_or_default(),
            notes: row.notes,
            protected: row.protected == Some(true),
            verified: (row.verification.and_then(|found| found.state)).map(|state| state == "ok"),
            encrypted: row.encrypted.is_some(),
            volume,
        })
    }

    fn storage(&self) -> &str {
        self.volume.split(':').next().unwrap_or_default()
    }

    /// Protects it from being pruned or removed, or ends that.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn protect(&self, pve: &Client, protected: bool) -> Result<(), Error> {
        let at = pve
            .api()
            .nodes()
            .node(&self.node)
            .storage()
            .storage(self.storage());
        at.content()
            .volume(&self.volume)
            .put()
            .protected(protected)
            .await
    }

    /// The guest's configuration in it: `GET /nodes/{node}/vzdump/extractconfig`. Reading it proves
    /// that the archive can be opened.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn config(&self, pve: &Client) -> Result<String, Error> {
        let at = pve.api().nodes().node(&self.node).vzdump().extractconfig();
        at.get(&self.volume).await
    }
}

/// The backups of a guest that meet conditions; see [`Client::carry_out`], which returns them with
/// the newest first. Looks at every storage for backups of every online node; an offline node is a
/// failed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindBackups {
    pub(super) vmid: u32,
    storage: Option<String>,
    since: u64,
    before: u64,
    protected: bool,
    verified: bool,
    notes: Option<String>,
}

impl FindBackups {
    /// All backups of a guest, whether it still exists or not.
    #[must_use]
    pub fn of(vmid: u32) -> Self {
        Self {
            vmid,
            storage: None,
            since: 0,
            before: u64::MAX,
            protected: false,
            verified: false,
            notes: None,
        }
    }

    /// Only those on this storage.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// Only those made at this time or later, in seconds since 1970.
    #[must_use]
    pub fn since(mut self, time: u64) -> Self {
        self.since = time;
        self
    }

    /// Only those made before this time, in seconds since 1970.
    #[must_use]
    pub fn before(mut self, time: u64) -> Self {
        self.before = time;
        self
    }

    /// Only those that are protected.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    /// Only those that a backup server found intact.
    #[must_use]
    pub fn verified(mut self) -> Self {
        self.verified = true;
        self
    }

    /// Only those with this text in the first line of their notes.
    #[must_use]
    pub fn notes_with(mut self, text: impl Into<String>) -> Self {
        self.notes = Some(text.into());
        self
    }

    fn wants(&self, archive: &Archive) -> bool {
        archive.vmid == self.vmid
            && (self.since..self.before).contains(&archive.time)
            && (archive.protected || !self.protected)
            && (archive.verified == Some(true) || !self.verified)
            && (self.notes.as_ref()).is_none_or(|text| {
                archive
                    .notes
                    .as_ref()
                    .is_some_and(|other| other.contains(text))
            })
    }
}

impl Work for FindBackups {
    type Done = Vec<Archive>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Vec<Archive>, Error> {
        let mut found = Vec::new();
        let mut shared = BTreeSet::new();
        for node in reachable_nodes(pve, track, Action::Check, None).await? {
            let at = pve.api().nodes().node(&node).storage();
            for storage in at.get().content(["backup"]).enabled(true).await? {
                let name = storage.storage.to_string();
                let other = self.storage.as_ref().is_some_and(|only| *only != name);
                if other || storage.active == Some(false) || shared.contains(&name) {
                    continue;
                }
                let content = at.storage(&name).content().get();
                let rows = content.content("backup").vmid(self.vmid).await?;
                let archives = rows.into_iter().filter_map(|row| Archive::of(&node, row));
                found.extend(archives.filter(|archive| self.wants(archive)));
                if storage.shared == Some(true) {
                    shared.insert(name);
                }
            }
        }
        found.sort_by(|a, b| (b.time, &b.volume).cmp(&(a.time, &a.volume)));
        Ok(found)
    }
}

/// The nodes that are online, or the named one of them, and a step for each that is not.
pub(crate) async fn reachable_nodes(
    pve: &Client,
    track: &Track<'_>,
    action: Action,
    only: Option<&str>,
) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for node in pve.api().nodes().get().await? {
        let name = node.node.to_string();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        if node.status.as_str() == "online" {
            names.push(name);
        } else {
            let away = State::Failed("the node is offline".to_owned());
            track.step(&Subject::Node(name), action, away);
        }
    }
    names.sort();
    Ok(names)
}
