//! Kubernetes clusters, each a virtual machine that is cloned from a template.
//!
//! All data of a cluster is in the machine's notes and tags: a user who may see the machine sees
//! the Kubernetes cluster, and removing the machine removes everything.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::StatusCode;
use proxmox_api::manage::guest::{Guest, StartedOperation};
use proxmox_api::manage::inventory::{Inventory, Resource};
use proxmox_api::{Client, Error};
use serde::{Deserialize, Serialize};

use crate::config::VclustersConfig;
use crate::refusal::Refusal;
use crate::time::{now, utc};

const TAG: &str = "vcluster";
/// Prefix of the line of the notes that holds a [`Record`].
const MARK: &str = "vcluster: ";
/// Machines queried at the same time.
const AT_ONCE: usize = 8;
/// Timeout for reading addresses from a guest agent.
const ADDRESS: Duration = Duration::from_secs(3);

/// The data in the machine's notes.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Record {
    version: String,
    isolation: String,
    created: u64,
}

/// A Kubernetes cluster.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Vcluster {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `creating`, or the machine's status: `running`, `stopped`.
    pub(crate) status: String,
    pub(crate) k8s_version: String,
    pub(crate) node: String,
    pub(crate) isolation: String,
    pub(crate) created_at: String,
    pub(crate) endpoints: Endpoints,
    pub(crate) resources: Resources,
    #[serde(skip)]
    pub(crate) vmid: u32,
}

/// The addresses of a cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Endpoints {
    /// `https://ADDRESS:PORT`; `None` while the address is not known.
    pub(crate) api_server: Option<String>,
}

/// Its size.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resources {
    pub(crate) cpu: Option<u32>,
    /// A Kubernetes quantity: `8Gi`.
    pub(crate) memory: Option<String>,
}

/// The settings of a new cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVcluster {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) k8s_version: Option<String>,
    #[serde(default)]
    pub(crate) isolation: Option<String>,
    #[serde(default)]
    pub(crate) resources: Resources,
    #[serde(default)]
    pub(crate) node_selector: Option<NodeSelector>,
}

/// The location.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSelector {
    pub(crate) node: String,
}

/// MiB of a Kubernetes quantity.
fn mebibytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let unit = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    let number: u64 = number.parse().ok()?;
    let bytes = number.checked_mul(bytes)?;
    (bytes > 0).then(|| bytes.div_ceil(1 << 20))
}

impl Resources {
    /// Processors and MiB of memory.
    fn read(&self) -> Result<(Option<i64>, Option<i64>), Refusal> {
        let cpu = match self.cpu {
            Some(0) => {
                return Err(Refusal::parameters([(
                    "resources.cpu",
                    "must be at least 1",
                )]));
            }
            cpu => cpu.map(i64::from),
        };
        let memory = match &self.memory {
            None => None,
            Some(text) => {
                let amount = mebibytes(text).and_then(|amount| i64::try_from(amount).ok());
                let wrong =
                    || Refusal::parameters([("resources.memory", "is not a quantity such as 8Gi")]);
                Some(amount.ok_or_else(wrong)?)
            }
        };
        Ok((cpu, memory))
    }
}

fn id(vmid: u32) -> String {
    format!("vc-{vmid}")
}

fn no_such(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no vcluster {id:?}"))
}

/// Creates and finds clusters with the caller's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vclusters<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a VclustersConfig,
}

impl Vclusters<'_> {
    fn is_candidate(&self, resource: &Resource) -> bool {
        let (first, last) = self.config.ids;
        let numbered = resource
            .vmid
            .is_some_and(|vmid| (first..=last).contains(&vmid));
        !resource.template && (numbered || resource.tags.iter().any(|tag| tag == TAG))
    }

    /// All clusters that the caller may see, by number.
    pub(crate) async fn list(&self) -> Result<Vec<Vcluster>, Refusal> {
        let inventory = Inventory::fetch(self.client).await?;
        let candidates = inventory
            .resources
            .iter()
            .filter(|one| self.is_candidate(one));
        let reading = candidates.map(|candidate| self.read(candidate));
        let reading: Vec<_> = reading.collect();
        let read: Vec<Result<Option<Vcluster>, Error>> = stream::iter(reading)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut found = Vec::new();
        for one in read {
            found.extend(one?);
        }
        found.sort_by_key(|one| one.vmid);
        Ok(found)
    }

    async fn read(&self, resource: &Resource) -> Result<Option<Vcluster>, Error> {
        let Some(vmid) = resource.vmid else {
            return Ok(None);
        };
        let guest = self.client.guest(vmid);
        let config = match guest.qemu_config().await {
            Ok(config) => config,
            // It was removed meanwhile, or is a container.
            Err(Error::Guest(_)) => return Ok(None),
            Err(error) if error.kind() == Some(proxmox_api::error::ErrorKind::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let notes = config.description.as_deref().unwrap_or_default();
        let record = notes.lines().find_map(|line| line.strip_prefix(MARK));
        let record: Option<Record> = record.and_then(|text| serde_json::from_str(text).ok());
        let Some(record) = record else {
            return Ok(None);
        };
        let is_ready = resource.tags.iter().any(|tag| tag == TAG);
        let status = match is_ready {
            true => resource.status.clone().unwrap_or_default(),
            false => "creating".to_owned(),
        };
        let address = match status == "running" {
            true => address(&guest).await,
            false => None,
        };
        Ok(Some(Vcluster {
            id: id(vmid),
            name: resource.guest_name.clone().unwrap_or_default(),
            status,
            k8s_version: record.version,
            node: resource.node.clone().unwrap_or_default(),
            isolation: record.isolation,
            created_at: utc(record.created),
            endpoints: Endpoints {
                api_server: address.map(|address| self.url(address)),
            },
            resources: Resources {
                cpu: config.cores.and_then(|cores| u32::try_from(cores).ok()),
                memory: Some(format!("{}Mi", resource.max_memory >> 20)),
            },
            vmid,
        }))
    }

    fn url(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => format!("https://{address}:{}", self.config.port),
            IpAddr::V6(address) => format!("https://[{address}]:{}", self.config.port),
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Vcluster, Refusal> {
        let vmid: Option<u32> = id
            .strip_prefix("vc-")
            .and_then(|number| number.parse().ok());
        let vmid = vmid.ok_or_else(|| no_such(id))?;
        let inventory = Inventory::fetch(self.client).await?;
        let mut resources = inventory
            .resources
            .iter()
            .filter(|one| self.is_candidate(one));
        let resource = resources.find(|one| one.vmid == Some(vmid));
        let found = self.read(resource.ok_or_else(|| no_such(id))?).await?;
        found.ok_or_else(|| no_such(id))
    }

    /// Starts the creation of a cluster. [`finish`] continues with the result.
    pub(crate) async fn create(
        &self,
        new: &NewVcluster,
    ) -> Result<(Vcluster, StartedOperation, Guest), Refusal> {
        let version = new.k8s_version.as_ref().unwrap_or(&self.config.version);
        if *version != self.config.version {
            let problem = format!("the template has {}", self.config.version);
            return Err(Refusal::parameters([("k8s_version", problem)]));
        }
        let isolation = new.isolation.as_deref().unwrap_or("vm");
        if !["namespace", "vm"].contains(&isolation) {
            return Err(Refusal::parameters([(
                "isolation",
                "must be namespace or vm",
            )]));
        }
        new.resources.read()?;
        let record = Record {
            version: version.clone(),
            isolation: isolation.to_owned(),
            created: now(),
        };
        let template = self.client.guest(self.config.template);
        let location = template.location().await?;
        let text = serde_json::to_string(&record).unwrap_or_default();
        let (first, last) = self.config.ids;
        let mut clone = (template.clone_within(first..=last))
            .name(&new.name)
            .description(format!("{MARK}{text}"));
        let node = new.node_selector.as_ref().map(|selector| &selector.node);
        if let Some(node) = node.filter(|node| **node != location.node) {
            clone = clone.target(node);
        }
        let cloned = clone.await?;
        let vmid = cloned.guest.vmid();
        let vcluster = Vcluster {
            id: id(vmid),
            name: new.name.clone(),
            status: "creating".to_owned(),
            k8s_version: record.version,
            node: node.unwrap_or(&location.node).clone(),
            isolation: record.isolation,
            created_at: utc(record.created),
            endpoints: Endpoints::default(),
            resources: new.resources.clone(),
            vmid,
        };
        Ok((vcluster, cloned.started, cloned.guest))
    }

    /// Changes the size. Changes that a running machine cannot apply wait for its next start;
    /// returns whether there are any.
    pub(crate) async fn scale(
        &self,
        id: &str,
        resources: &Resources,
    ) -> Result<(Vcluster, bool), Refusal> {
        if resources.cpu.is_none() && resources.memory.is_none() {
            return Err(Refusal::parameters([(
                "resources",
                "must contain cpu or memory",
            )]));
        }
        let guest = self.guest(id).await?;
        resize(&guest, resources).await?;
        let waits = !guest.pending().await?.is_empty();
        Ok((self.get(id).await?, waits))
    }

    async fn guest(&self, id: &str) -> Result<Guest, Refusal> {
        let vcluster = self.get(id).await?;
        Ok(self.client.guest(vcluster.vmid))
    }

    /// The kubeconfig, with the address at which the API server is reachable from outside.
    pub(crate) async fn kubeconfig(&self, id: &str) -> Result<String, Refusal> {
        let guest = self.guest(id).await?;
        let file = guest.agent().read_file(&self.config.kubeconfig).await?;
        let text = String::from_utf8(file);
        let text =
            text.map_err(|_| Refusal::new(StatusCode::BAD_GATEWAY, "the kubeconfig is not text"))?;
        let address = address(&guest).await.ok_or_else(|| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the guest agent reports no address yet",
            )
        })?;
        Ok(with_server(&text, &self.url(address)))
    }

    /// Stops and deletes it.
    pub(crate) async fn delete(&self, id: &str) -> Result<StartedOperation, Refusal> {
        let guest = self.guest(id).await?;
        Ok(guest.destroy().stop_first().purge().await?)
    }
}

async fn resize(guest: &Guest, resources: &Resources) -> Result<(), Refusal> {
    let (cpu, memory) = resources.read()?;
    let change = guest.edit_qemu(|_, mut request| {
        if let Some(cpu) = cpu {
            request = request.cores(cpu);
        }
        if let Some(memory) = memory {
            request = request.memory(memory);
        }
        request
    });
    Ok(change.await?)
}

/// Waits for the clone, gives it its size and starts it.
pub(crate) async fn finish(
    started: StartedOperation,
    guest: Guest,
    resources: Resources,
) -> Result<(), Refusal> {
    started.wait().await?;
    resize(&guest, &resources).await?;
    guest.add_tags([TAG]).await?;
    guest.start().await?.wait().await?;
    Ok(())
}

/// The first address that is reachable from outside of the machine, IPv4 before IPv6.
async fn address(guest: &Guest) -> Option<IpAddr> {
    let answer = tokio::time::timeout(ADDRESS, guest.interfaces()).await;
    let interfaces = answer.ok()?.ok()?;
    let outside = interfaces
        .iter()
        .filter(|interface| !interface.is_internal());
    let addresses =
        outside.flat_map(|interface| interface.addresses.iter().map(|address| address.ip));
    let mut addresses: Vec<IpAddr> = addresses.filter(|address| is_outside(*address)).collect();
    addresses.sort_by_key(|address| address.is_ipv6());
    addresses.first().copied()
}

fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
        }
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified()
        }
    }
}

/// Replaces the servers in a kubeconfig. The rest of its YAML stays unchanged.
fn with_server(text: &str, url: &str) -> String {
    let lines = text.lines().map(|line| {
        let key = line.trim_start_matches([' ', '-']);
        match key.strip_prefix("server:") {
            Some(_) => format!("{}server: {url}", &line[..line.len() - key.len()]),
            None => line.to_owned(),
        }
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_parsed_as_a_kubernetes_quantity() {
        for (text, amount) in [
            ("8Gi", Some(8_192)),
            ("512Mi", Some(512)),
            ("1G", Some(954)),
            ("1073741824", Some(1_024)),
            ("1", Some(1)),
            ("0Gi", None),
            ("8 Gi", None),
            ("-1Gi", None),
            ("99999999999999999Ti", None),
            ("", None),
        ] {
            assert_eq!(mebibytes(text), amount, "{text}");
        }
    }

    #[test]
    fn only_the_servers_of_a_kubeconfig_change() {
        let text = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: server\n- server: x\nusers: []";
        let expected = "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: server\n- server: https://10.0.0.1:6443\nusers: []\n";
        assert_eq!(with_server(text, "https://10.0.0.1:6443"), expected);
    }
}
