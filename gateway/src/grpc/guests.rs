//! `gpve.v1.GuestService`: virtual machines and containers.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream;
use proxmox_api::manage::guest::{Kind, allocate};
use proxmox_api::manage::inventory::{Inventory, Order, Resource, ResourceType, SortBy};
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, Value};
use tonic::{Request, Response, Status};

use super::admission::{Admission, failed, invalid, operation, plain, refused};
use crate::gpve::v1::guest_service_server::GuestService;
use crate::gpve::v1::{
    CloneGuestRequest, CreateGuestRequest, CreateGuestResponse, DeleteGuestRequest,
    DeleteGuestResponse, DiskConfig, GetGuestRequest, Guest, GuestStatus, ListGuestsRequest,
    ListGuestsResponse, MigrateGuestRequest, NetworkConfig, Operation, RestartGuestRequest,
    StartGuestRequest, StopGuestRequest, UpdateGuestRequest, WatchStatusRequest,
};
use crate::limits::Class;
use crate::listener::Listener;
use crate::time::{now, utc};

/// The range of guest numbers if the request has none.
const NUMBERS: std::ops::RangeInclusive<u32> = 100..=999_999_999;
const PAGE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Clone, Debug)]
pub(super) struct Guests(pub(super) Admission);

fn guest_message(one: &Resource) -> Guest {
    Guest {
        vmid: one.vmid.unwrap_or(0),
        name: one.guest_name.clone().unwrap_or_default(),
        node: one.node.clone().unwrap_or_default(),
        kind: one
            .kind
            .map(|kind| kind.as_str().to_owned())
            .unwrap_or_default(),
        status: one.status.clone().unwrap_or_default(),
        cores: one.cpus.round() as u32,
        memory: one.max_memory >> 20,
        memory_used_bytes: one.memory,
        cpu: one.cpu,
        uptime_seconds: one.uptime,
        template: one.template,
        tags: one.tags.clone(),
        pool: one.pool.clone().unwrap_or_default(),
        lock: one.lock.clone().unwrap_or_default(),
        disk_bytes: one.max_disk,
    }
}

async fn find(client: &Client, vmid: u32) -> Result<Guest, Status> {
    let inventory = Inventory::fetch(client).await.map_err(failed)?;
    let found = inventory
        .resources
        .iter()
        .find(|one| one.vmid == Some(vmid));
    let missing = || Status::not_found(format!("there is no guest {vmid}"));
    found.map(guest_message).ok_or_else(missing)
}

/// GiB of `32G`, `32` or `1T`.
fn gibibytes(text: &str) -> Result<u64, Status> {
    let (number, factor) = match text.strip_suffix(['T', 't']) {
        Some(number) => (number, 1_024),
        None => (text.strip_suffix(['G', 'g']).unwrap_or(text), 1),
    };
    let size: Option<u64> = number.parse().ok();
    let size = size
        .and_then(|size| size.checked_mul(factor))
        .filter(|size| *size > 0);
    size.ok_or_else(|| invalid("size", "is not a size such as 32G"))
}

fn volume(disk: &DiskConfig) -> Result<String, Status> {
    let mut text = format!(
        "{}:{}",
        plain("storage", &disk.storage)?,
        gibibytes(&disk.size)?
    );
    if !disk.format.is_empty() {
        text.push_str(&format!(",format={}", plain("format", &disk.format)?));
    }
    Ok(text)
}

fn network(kind: Kind, index: usize, network: &NetworkConfig) -> Result<String, Status> {
    let bridge = plain("bridge", &network.bridge)?;
    let mut text = match (kind, network.model.as_str()) {
        (Kind::Lxc, _) => format!("name=eth{index},bridge={bridge}"),
        (_, "") => format!("virtio,bridge={bridge}"),
        (_, model) => format!("{},bridge={bridge}", plain("model", model)?),
    };
    if network.vlan > 0 {
        text.push_str(&format!(",tag={}", network.vlan));
    }
    if network.firewall {
        text.push_str(",firewall=1");
    }
    if kind == Kind::Lxc && !network.ip.is_empty() {
        if !network
            .ip
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".:/".contains(c))
        {
            return Err(invalid(
                "ip",
                "must be dhcp or an address with a prefix length",
            ));
        }
        text.push_str(&format!(",ip={}", network.ip));
    }
    Ok(text)
}

fn kind(text: &str) -> Result<Kind, Status> {
    match text {
        "" | "qemu" => Ok(Kind::Qemu),
        "lxc" => Ok(Kind::Lxc),
        _ => Err(invalid("kind", "must be qemu or lxc")),
    }
}

/// The settings of a new guest as parameters of Proxmox VE.
fn settings(kind: Kind, order: &CreateGuestRequest) -> Result<Vec<(String, String)>, Status> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |key: &str, value: String| all.push((key.to_owned(), value));
    let named = if kind == Kind::Qemu {
        "name"
    } else {
        "hostname"
    };
    let texts = [
        (named, &order.name),
        ("ostype", &order.ostype),
        ("description", &order.description),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        add(key, text.clone());
    }
    for (key, number) in [("cores", order.cores), ("memory", order.memory)] {
        if number > 0 {
            add(key, number.to_string());
        }
    }
    if !order.tags.is_empty() {
        add("tags", order.tags.join(";"));
    }
    if order.start {
        add("start", "1".to_owned());
    }
    match kind {
        Kind::Lxc => {
            match order.disks.as_slice() {
                [] => {}
                [disk] => add("rootfs", volume(disk)?),
                _ => {
                    return Err(invalid(
                        "disks",
                        "a container has its root file system only",
                    ));
                }
            }
            add("ostemplate", order.ostemplate.clone());
        }
        _ => {
            if !order.disks.is_empty() {
                add("scsihw", "virtio-scsi-single".to_owned());
            }
            for (index, disk) in order.disks.iter().enumerate() {
                add(&format!("scsi{index}"), volume(disk)?);
            }
        }
    }
    for (index, one) in order.networks.iter().enumerate() {
        add(&format!("net{index}"), network(kind, index, one)?);
    }
    all.extend(
        order
            .settings
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Ok(all)
}

fn seconds(number: u32) -> Option<Duration> {
    (number > 0).then(|| Duration::from_secs(number.into()))
}

#[tonic::async_trait]
impl GuestService for Guests {
    async fn create(
        &self,
        request: Request<CreateGuestRequest>,
    ) -> Result<Response<CreateGuestResponse>, Status> {
        let call = self.0.enter(&request, "Guest.Create", Class::Write)?;
        let order = request.into_inner();
        let kind = kind(&order.kind)?;
        let settings = settings(kind, &order)?;
        let client = &call.client;
        let node = match order.node.as_str() {
            "" => {
                let inventory = Inventory::fetch(client).await.map_err(failed)?;
                let memory = u64::from(order.memory) << 20;
                let nodes = inventory.placement(memory, order.cores.into());
                let none = || Status::resource_exhausted("no node has enough free memory and CPU");
                nodes.into_iter().next().ok_or_else(none)?
            }
            node => node.to_owned(),
        };
        let path = format!("/nodes/{}/{}", plain("node", &node)?, kind.as_str());
        let create = |vmid: u32| {
            let request = client.request(Method::Post, path.clone());
            let request = request.param("vmid", i64::from(vmid));
            request.params(
                settings
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            )
        };
        let (vmid, answer): (u32, Value) = match order.vmid {
            0 => allocate(client, NUMBERS, create).await.map_err(failed)?,
            vmid => (vmid, create(vmid).await.map_err(failed)?),
        };
        Ok(Response::new(CreateGuestResponse {
            vmid,
            node,
            operation: Some(Operation {
                name: answer.as_str().unwrap_or_default().to_owned(),
                vmid,
                ..Operation::default()
            }),
        }))
    }

    async fn get(&self, request: Request<GetGuestRequest>) -> Result<Response<Guest>, Status> {
        let call = self.0.enter(&request, "Guest.Get", Class::Read)?;
        let guest = find(&call.client, request.into_inner().vmid).await?;
        Ok(Response::new(guest))
    }

    async fn list(
        &self,
        request: Request<ListGuestsRequest>,
    ) -> Result<Response<ListGuestsResponse>, Status> {
        let call = self.0.enter(&request, "Guest.List", Class::Read)?;
        let order = request.into_inner();
        let size = match order.page_size {
            0 => PAGE,
            size if size > MAX_PAGE_SIZE => return Err(invalid("page_size", "is more than 500")),
            size => size,
        };
        let start: usize = match order.page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| invalid("page_token", "is not an event of this service"))?,
        };
        let inventory = Inventory::fetch(&call.client).await.map_err(failed)?;
        let mut selection = inventory.select().of_type(ResourceType::Vm);
        if !order.node.is_empty() {
            selection = selection.node(&order.node);
        }
        if !order.status.is_empty() {
            selection = selection.status(&order.status);
        }
        if !order.kind.is_empty() {
            selection = selection.of_kind(kind(&order.kind)?);
        }
        if !order.pool.is_empty() {
            selection = selection.pool(&order.pool);
        }
        if !order.tag.is_empty() {
            selection = selection.tag(&order.tag);
        }
        let all = selection.sort(SortBy::Vmid, Order::Ascending).list();
        let end = start.saturating_add(size as usize);
        let page = all.iter().skip(start).take(size as usize);
        Ok(Response::new(ListGuestsResponse {
            guests: page.map(|one| guest_message(one)).collect(),
            next_page_token: if end < all.len() {
                end.to_string()
            } else {
                String::new()
            },
            total: u32::try_from(all.len()).unwrap_or(u32::MAX),
        }))
    }

    async fn update(
        &self,
        request: Request<UpdateGuestRequest>,
    ) -> Result<Response<Guest>, Status> {
        let call = self.0.enter(&request, "Guest.Update", Class::Write)?;
        let order = request.into_inner();
        let location = call
            .client
            .guest(order.vmid)
            .location()
            .await
            .map_err(failed)?;
        let path = format!(
            "/nodes/{}/{}/{}/config",
            location.node,
            location.kind.as_str(),
            order.vmid
        );
        let mut put = call.client.request::<serde_json::Value>(Method::Put, path);
        let named = if location.kind == Kind::Qemu {
            "name"
        } else {
            "hostname"
        };
        for (key, text) in [(named, order.name), ("description", order.description)] {
            if let Some(text) = text {
                put = put.param(key, text);
            }
        }
        for (key, number) in [("cores", order.cores), ("memory", order.memory)] {
            if let Some(number) = number {
                put = put.param(key, i64::from(number));
            }
        }
        put = put.params(order.settings);
        if !order.delete.is_empty() {
            put = put.param("delete", order.delete.join(","));
        }
        if !order.digest.is_empty() {
            put = put.param("digest", order.digest);
        }
        put.await.map_err(failed)?;
        Ok(Response::new(find(&call.client, order.vmid).await?))
    }

    async fn delete(
        &self,
        request: Request<DeleteGuestRequest>,
    ) -> Result<Response<DeleteGuestResponse>, Status> {
        let call = self.0.enter(&request, "Guest.Delete", Class::Write)?;
        let order = request.into_inner();
        let mut destroy = call.client.guest(order.vmid).destroy();
        if order.purge {
            destroy = destroy.purge();
        }
        if order.destroy_unreferenced_disks {
            destroy = destroy.unreferenced_disks();
        }
        if order.stop {
            destroy = destroy.stop_first();
        }
        let started = destroy.await.map_err(failed)?;
        Ok(Response::new(DeleteGuestResponse {
            operation: Some(operation(&started, order.vmid)),
        }))
    }

    async fn start(
        &self,
        request: Request<StartGuestRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Guest.Start", Class::Write)?;
        let order = request.into_inner();
        let mut start = call.client.guest(order.vmid).start();
        if let Some(timeout) = seconds(order.timeout_seconds) {
            start = start.timeout(timeout);
        }
        let started = start.await.map_err(failed)?;
        Ok(Response::new(operation(&started, order.vmid)))
    }

    async fn stop(
        &self,
        request: Request<StopGuestRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Guest.Stop", Class::Write)?;
        let order = request.into_inner();
        let guest = call.client.guest(order.vmid);
        let timeout = seconds(order.timeout_seconds);
        let stop = match (order.graceful, order.force, timeout) {
            (false, ..) => guest.stop(),
            (true, true, _) => guest
                .shutdown()
                .or_stop_after(timeout.unwrap_or(Duration::from_secs(60))),
            (true, false, Some(timeout)) => guest.shutdown().timeout(timeout),
            (true, false, None) => guest.shutdown(),
        };
        let started = stop.await.map_err(failed)?;
        Ok(Response::new(operation(&started, order.vmid)))
    }

    async fn restart(
        &self,
        request: Request<RestartGuestRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Guest.Restart", Class::Write)?;
        let order = request.into_inner();
        let guest = call.client.guest(order.vmid);
        let mut restart = if order.hard {
            guest.reset()
        } else {
            guest.reboot()
        };
        if let Some(timeout) = seconds(order.timeout_seconds) {
            restart = restart.timeout(timeout);
        }
        let started = restart.await.map_err(failed)?;
        Ok(Response::new(operation(&started, order.vmid)))
    }

    async fn migrate(
        &self,
        request: Request<MigrateGuestRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Guest.Migrate", Class::Write)?;
        let order = request.into_inner();
        let mut migrate = call
            .client
            .guest(order.vmid)
            .migrate(order.target)
            .live(order.online);
        if order.with_local_disks {
            migrate = migrate.with_local_disks();
        }
        if !order.target_storage.is_empty() {
            migrate = migrate.target_storage(order.target_storage);
        }
        let started = migrate.await.map_err(failed)?;
        Ok(Response::new(operation(&started, order.vmid)))
    }

    async fn clone(
        &self,
        request: Request<CloneGuestRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Guest.Clone", Class::Write)?;
        let order = request.into_inner();
        let guest = call.client.guest(order.vmid);
        let mut copy = match order.new_vmid {
            0 => guest.clone_within(NUMBERS),
            vmid => guest.clone_to(vmid),
        };
        if !order.name.is_empty() {
            copy = copy.name(order.name);
        }
        if !order.target.is_empty() {
            copy = copy.target(order.target);
        }
        if order.full {
            copy = copy.full(true);
        }
        if !order.storage.is_empty() {
            copy = copy.storage(order.storage);
        }
        let cloned = copy.await.map_err(failed)?;
        Ok(Response::new(operation(
            &cloned.started,
            cloned.guest.vmid(),
        )))
    }

    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<GuestStatus, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let call = self.0.enter(&request, "Guest.WatchStatus", Class::Read)?;
        let vmid = request.into_inner().vmid;
        let types = "vm.status.changed,vm.created,vm.migrated,vm.removed";
        let query = format!("types={types}&vmids={vmid}");
        // Subscribes before it reads the current state, so that no event is lost in between.
        let listener = Listener::start(self.0.app(), &call.headers, &query)
            .await
            .map_err(refused)?;
        let guest = find(&call.client, vmid).await?;
        let first = GuestStatus {
            vmid,
            state: guest.status,
            node: guest.node,
            timestamp: utc(now()),
        };
        let stopping = Box::pin(self.0.app().stopping());
        let start = Some((listener, stopping, first.clone()));
        let later = stream::unfold(start, |state| async move {
            let (mut listener, mut stopping, mut last) = state?;
            let events = tokio::select! {
                events = listener.next() => events,
                () = &mut stopping => return Some((vec![Err(Status::unavailable("the gateway is shutting down"))], None)),
            };
            let events = match events {
                Ok(events) => events,
                Err(reason) => return Some((vec![Err(Status::aborted(reason))], None)),
            };
            let texts = events.iter().map(|event| &event.text[..]);
            let states = changes(&mut last, texts).into_iter().map(Ok).collect();
            let is_over = events.iter().any(|event| event.kind == "vm.removed");
            Some((states, (!is_over).then_some((listener, stopping, last))))
        });
        let later = futures_util::StreamExt::flat_map(later, stream::iter);
        let all = futures_util::StreamExt::chain(stream::iter([Ok(first)]), later);
        Ok(Response::new(Box::pin(all)))
    }
}

/// The statuses in messages of events that differ from the one before. The events may tell later
/// what was read first, for example that the guest was created.
fn changes<'a>(
    last: &mut GuestStatus,
    messages: impl Iterator<Item = &'a [u8]>,
) -> Vec<GuestStatus> {
    let mut changes = Vec::new();
    for status in messages.filter_map(state_of) {
        if (&status.state, &status.node) != (&last.state, &last.node) {
            last.clone_from(&status);
            changes.push(status);
        }
    }
    changes
}

/// The status in an event's message.
fn state_of(text: &[u8]) -> Option<GuestStatus> {
    let message: Value = serde_json::from_slice(text).ok()?;
    let data = &message["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match message["type"] == "vm.removed" {
        true => "removed".to_owned(),
        false => text(&data["status"]),
    };
    Some(GuestStatus {
        vmid: u32::try_from(data["vmid"].as_u64()?).ok()?,
        state,
        node: text(&data["node"]),
        timestamp: text(&message["timestamp"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_reported_once() {
        let event = |kind: &str, status: &str, node: &str| {
            let data = serde_json::json!({ "vmid": 100, "status": status, "node": node });
            serde_json::json!({ "type": kind, "timestamp": "now", "data": data }).to_string()
        };
        let events = [
            event("vm.created", "stopped", "n1"),
            event("vm.status.changed", "running", "n1"),
            event("vm.migrated", "running", "n2"),
            event("vm.status.changed", "running", "n2"),
            event("vm.status.changed", "stopped", "n2"),
            event("vm.removed", "stopped", "n2"),
        ];
        let mut last = GuestStatus {
            vmid: 100,
            state: "stopped".to_owned(),
            node: "n1".to_owned(),
            timestamp: "before".to_owned(),
        };
        let texts = events.iter().map(String::as_bytes);
        let reported: Vec<_> = changes(&mut last, texts)
            .into_iter()
            .map(|status| format!("{} {}", status.state, status.node))
            .collect();
        assert_eq!(
            reported,
            ["running n1", "running n2", "stopped n2", "removed n2"]
        );
    }

    #[test]
    fn settings_become_parameters_and_cannot_inject_others() {
        let disk = DiskConfig {
            storage: "local-lvm".to_owned(),
            size: "32G".to_owned(),
            format: String::new(),
        };
        let order = CreateGuestRequest {
            name: "test-vm".to_owned(),
            cores: 4,
            memory: 8_192,
            disks: vec![disk.clone()],
            networks: vec![NetworkConfig {
                bridge: "vmbr0".to_owned(),
                vlan: 5,
                ..NetworkConfig::default()
            }],
            ..CreateGuestRequest::default()
        };
        let written = settings(Kind::Qemu, &order).expect("good");
        let get = |key: &str| {
            written
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(get("scsi0"), Some("local-lvm:32"));
        assert_eq!(get("net0"), Some("virtio,bridge=vmbr0,tag=5"));
        assert_eq!(
            (get("memory"), get("cores"), get("name")),
            (Some("8192"), Some("4"), Some("test-vm"))
        );
        for (storage, size) in [
            ("a,media=cdrom", "1"),
            ("", "1"),
            ("a", "-1"),
            ("a", "1G,x=y"),
            ("../a", "1"),
        ] {
            let disks = vec![DiskConfig {
                storage: storage.to_owned(),
                size: size.to_owned(),
                format: String::new(),
            }];
            let order = CreateGuestRequest {
                disks,
                ..order.clone()
            };
            assert!(settings(Kind::Qemu, &order).is_err(), "{storage} {size}");
        }
        assert_eq!(gibibytes("1T").ok(), Some(1_024));
    }
}
