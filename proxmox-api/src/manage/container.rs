//! Containers from templates and from OCI images.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::guest::{Kind, allocate};
use super::inventory::Inventory;
use super::machine::Made;
use super::work::{Action, Subject, Track, Work, WorkError};
use crate::client::Client;
use crate::error::Error;
use crate::pve::lxc::{LxcConfig, LxcNet};
use crate::request::ApiRequest;
use crate::value::endpoint::Release;

/// The first release in which nodes pull OCI images.
const OCI: Release = Release::new(9, 1);

/// The source of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Source,
    storage: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Volume(String),
    Named {
        name: String,
        version: Option<String>,
    },
    Oci(String),
}

impl Template {
    /// A template of the list that Proxmox VE offers for download, by its name as
    /// `debian-13-standard`: the newest version for the first architecture in the list.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self::of(Source::Named {
            name: name.into(),
            version: None,
        })
    }

    /// A template of that list, with a version as `13.1-2`.
    #[must_use]
    pub fn version(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self::of(Source::Named {
            name: name.into(),
            version: Some(version.into()),
        })
    }

    /// An OCI image of a registry, as `docker.io/library/nginx:1.29`. Needs release 9.1.
    #[must_use]
    pub fn oci(reference: impl Into<String>) -> Self {
        Self::of(Source::Oci(reference.into()))
    }

    /// An existing volume, as `local:vztmpl/x.tar.zst`.
    #[must_use]
    pub fn volume(volume: impl Into<String>) -> Self {
        Self::of(Source::Volume(volume.into()))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            storage: "local".to_owned(),
        }
    }

    /// The storage that keeps it; `local` by default. It needs the content type `vztmpl`.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = storage.into();
        self
    }

    /// Work that provides it on a node. Returns its volume. An existing one is found; the server
    /// removes the result of a failed download.
    #[must_use]
    pub fn on(&self, node: impl Into<String>) -> HaveTemplate {
        HaveTemplate {
            template: self.clone(),
            node: node.into(),
        }
    }
}

/// Compares versions as `13.1-2` part by part: numbers as numbers, everything else as text.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let parts = text.split(['.', '-', '_', '+', '~']);
        parts
            .map(|part| {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (number, rest) = part.split_at(digits);
                (number.parse().unwrap_or(0), rest.to_owned())
            })
            .collect()
    };
    parts(a).cmp(&parts(b))
}

/// The file name of an image, as the server chooses it.
fn file_of(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    format!("{name}.tar")
}

/// Provides a template on a node; made by [`Template::on`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaveTemplate {
    template: Template,
    node: String,
}

impl Work for HaveTemplate {
    type Done = String;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<String, Error> {
        let Self { template, node } = self;
        let storage = &template.storage;
        let at = pve.api().nodes().node(&node);
        let rows = at
            .storage()
            .storage(storage)
            .content()
            .get()
            .content("vztmpl");
        let rows = match template.source {
            Source::Volume(_) => Vec::new(),
            _ => rows.await?,
        };
        let exists = |volume: &str| rows.iter().any(|row| row.volid == *volume);
        match &template.source {
            Source::Volume(volume) => {
                track.found(&Subject::Volume(volume.clone()), Action::Fetch);
                Ok(volume.clone())
            }
            Source::Named { name, version } => {
                let unknown = |problem: &str| {
                    Error::from(WorkError::new(
                        Subject::Other(format!("template {name}")),
                        problem,
                    ))
                };
                let list = at.aplinfo().get().await?;
                let matching = list.into_iter().filter(|row| {
                    row.package.as_ref() == Some(name)
                        || row.template.starts_with(&format!("{name}_"))
                });
                let number = |row: &crate::pve::nodes::NodeAplinfoItem| {
                    row.version.clone().unwrap_or_default()
                };
                let matching = matching.filter(|row| {
                    version
                        .as_ref()
                        .is_none_or(|version| number(row) == *version)
                });
                let newest = matching.max_by(|a, b| compare(&number(a), &number(b)));
                let file = newest.ok_or_else(|| {
                    unknown("is not in the node's list, which `pveam update` refreshes")
                })?;
                let volume = format!("{storage}:vztmpl/{}", file.template);
                let subject = Subject::Volume(volume.clone());
                if exists(&volume) {
                    track.found(&subject, Action::Fetch);
                    return Ok(volume);
                }
                let start_task = || {
                    let request = at.aplinfo().post();
                    request.storage(storage).template(&file.template)
                };
                track.task(&subject, Action::Fetch, start_task).await?;
                track.leave(&subject, "was downloaded");
                Ok(volume)
            }
            Source::Oci(reference) => {
                let volume = format!("{storage}:vztmpl/{}", file_of(reference));
                let subject = Subject::Volume(volume.clone());
                if pve.server_release().await? < OCI {
                    let problem = "nodes pull OCI images since release 9.1";
                    return Err(WorkError::new(subject, problem).into());
                }
                if exists(&volume) {
                    track.found(&subject, Action::Fetch);
                    return Ok(volume);
                }
                let pull = at.storage().storage(storage).oci_registry_pull();
                let file = file_of(reference);
                let name = file.strip_suffix(".tar").unwrap_or(&file);
                let start_task = || pull.post(reference).filename(name);
                track.task(&subject, Action::Fetch, start_task).await?;
                track.leave(&subject, "was pulled");
                Ok(volume)
            }
        }
    }
}

/// The tags that a registry has for an OCI image, as `docker.io/library/nginx`. Needs release 9.1.
///
/// # Errors
/// Those of every request.
pub async fn oci_tags(pve: &Client, node: &str, image: &str) -> Result<Vec<String>, Error> {
    let at = pve.api().nodes().node(node);
    at.query_oci_repo_tags().get(image).await
}

/// The wanted state of a container made from a template or an OCI image; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::container::{Container, Template};
///
/// let web = Container::new("web", Template::oci("docker.io/library/nginx:1.29"))
///     .ids(6000..=6099)
///     .disk("local-lvm", 4)
///     .environment([("TZ", "Europe/Vienna")]);
/// let made = pve.carry_out(web).on_step(|step| println!("{step}")).await?;
/// # Ok(())
/// # }
/// ```
///
/// It is found by its name among the allowed numbers, and started if it does not run; its settings
/// stay as they are. After a failure, the same is left behind as for a
/// [`Machine`](super::machine::Machine).
#[derive(Clone, PartialEq)]
pub struct Container {
    name: String,
    template: Template,
    node: Option<String>,
    ids: RangeInclusive<u32>,
    config: LxcConfig,
    disk: (String, u32),
    environment: Vec<(String, String)>,
    start: bool,
    address: Option<Duration>,
}

impl Container {
    /// An unprivileged container of this name: 512 MiB of memory, 4 GiB on `local-lvm`, a network
    /// card on `vmbr0` with DHCP. It is started.
    #[must_use]
    pub fn new(name: impl Into<String>, template: Template) -> Self {
        let name = name.into();
        let mut config = LxcConfig {
            hostname: Some(name.clone()),
            memory: Some(512),
            unprivileged: Some(true),
            ..LxcConfig::default()
        };
        config
            .net
            .insert(0, LxcNet::from("name=eth0,bridge=vmbr0,ip=dhcp"));
        Self {
            name,
            template,
            node: None,
            ids: 100..=999_999_999,
            config,
            disk: ("local-lvm".to_owned(), 4),
            environment: Vec::new(),
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

    /// The allowed numbers; the lowest free one is taken.
    #[must_use]
    pub fn ids(mut self, ids: RangeInclusive<u32>) -> Self {
        self.ids = ids;
        self
    }

    /// The storage of its root file system, and its size in GiB.
    #[must_use]
    pub fn disk(mut self, storage: impl Into<String>, gibibytes: u32) -> Self {
        self.disk = (storage.into(), gibibytes);
        self
    }

    /// Environment variables, for an OCI image. Needs release 9.1.
    #[must_use]
    pub fn environment<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        self.environment.extend(variables);
        self
    }

    /// Sets any other settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut LxcConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Does not start it.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.start = false;
        self
    }

    /// Waits, at most this long, until it has an address that others can reach.
    #[must_use]
    pub fn wait_for_address(mut self, timeout: Duration) -> Self {
        self.address = Some(timeout);
        self
    }
}

impl Work for Container {
    type Done = Made;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Made, Error> {
        let inventory = Inventory::fetch(pve).await?;
        let row = inventory.resources.iter().find(|row| {
            row.guest_name.as_ref() == Some(&self.name)
                && row.vmid.is_some_and(|vmid| self.ids.contains(&vmid))
        });
        let (vmid, new) = match row {
            Some(row) => {
                let vmid = row.vmid.unwrap_or_default();
                let subject = Subject::Guest(vmid);
                if row.kind != Some(Kind::Lxc) || row.template {
                    let problem =
                        format!("{} is the name of a template or virtual machine", self.name);
                    return Err(WorkError::new(subject, problem).into());
                }
                if row.lock.as_deref() == Some("create") {
                    let problem =
                        "it is locked: another task is creating it, or was stopped before the end";
                    return Err(WorkError::new(subject, problem).into());
                }
                track.found(&subject, Action::Create);
                (vmid, false)
            }
            None => {
                let memory = self
                    .config
                    .memory
                    .and_then(|n| u64::try_from(n).ok())
                    .unwrap_or(512);
                let node = match &self.node {
                    Some(node) => Some(node.clone()),
                    None => inventory.placement(memory << 20, 0.0).into_iter().next(),
                };
                let node = node.ok_or_else(|| {
                    let problem = "no online node has enough free memory; choose a node";
                    WorkError::new(Subject::Other(format!("container {}", self.name)), problem)
                })?;
                let template = self.template.on(&node).run(pve, track).await?;
                let (storage, size) = &self.disk;
                let variables: Vec<String> = (self.environment.iter())
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let create = |vmid: u32| {
                    let request = pve.api().nodes().node(&node).lxc().post(vmid, &template);
                    let request = request.settings(&self.config);
                    let request = request.rootfs(format!("{storage}:{size}").as_str());
                    let request = match variables.is_empty() {
                        true => request,
                        false => request.env(variables.join("\0").as_str()),
                    };
                    request.into_request().into_future()
                };
                let (vmid, task) = allocate(pve, self.ids.clone(), create).await?;
                let subject = Subject::Guest(vmid);
                track
                    .follow(&subject, Action::Create, task, || create(vmid))
                    .await?;
                track.leave(&subject, "was created, but not set up completely");
                (vmid, true)
            }
        };
        let subject = Subject::Guest(vmid);
        let guest = track.with_locks(pve.guest(vmid));
        if self.start {
            track.start(&subject, &guest, new).await?;
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
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

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("template", &self.template)
            .field("node", &self.node)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (older, newer) in [
            ("9.1-2", "13.1-2"),
            ("13.1-2", "13.1-10"),
            ("3.20", "3.20.1"),
        ] {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
        }
    }

    #[test]
    fn images_have_the_servers_names() {
        assert_eq!(file_of("docker.io/library/nginx:1.29"), "nginx_1.29.tar");
        assert_eq!(file_of("ghcr.io/a/b-c:v1+2"), "b-c_v1_2.tar");
    }
}
