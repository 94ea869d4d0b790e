//! Privileges that handlers ask for themselves.
//!
//! The schema lets everybody in at these endpoints (`user => all`), or asks for any of several privileges where the
//! handler then looks at each parameter. What the handlers of the real server check is data here.

mod guests;

use proxmox_codegen::facts::Method::{self, Delete, Get, Post, Put};
use serde_json::Value;

use super::Call;
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::guest::{Kind, is_file_name, parse_volume_name};

/// What a handler asks for.
enum Need {
    /// All of these privileges at a path; `{name}` is a parameter or something the call names.
    All(&'static str, &'static [&'static str]),
    /// One of these privileges at a path.
    Any(&'static str, &'static [&'static str]),
    /// These privileges at `/`, or for each of the guests in `vms`; the text of the refusal where there are none.
    Guests(&'static [&'static str], &'static str),
    /// Rows of the answer are left out where none of these privileges is held at a path made of the row's fields.
    Rows(&'static str, &'static [&'static str]),
    /// As `Rows`, for a member of the answer.
    RowsIn(&'static str, &'static str, &'static [&'static str]),
    /// A check of its own.
    Check(fn(&Call<'_>) -> ApiResult<()>),
    /// The handler here looks itself at what the caller may see or do.
    Handler,
}

pub(super) use self::guests::{configure, in_task};
use Need::{All, Any, Check, Guests, Handler, Rows, RowsIn};

const SDN_SEE: &[&str] = &["SDN.Audit", "SDN.Allocate"];
const SDN_CHANGE: &[&str] = &["SDN.Allocate"];
const MAPPING_SEE: &[&str] = &["Mapping.Modify", "Mapping.Use", "Mapping.Audit"];
const STORAGE_SEE: &[&str] = &["Datastore.Audit", "Datastore.AllocateSpace"];
const NODE_SEE: &[&str] = &["Sys.Audit", "Sys.Modify"];
const SPACE: &[&str] = &["Datastore.AllocateSpace"];
const VNET: &str = "/sdn/zones/{zone}/{vnet}";
const VNETS: &str = "/cluster/sdn/vnets";

/// Endpoint by endpoint. Every release is held against this table by a test.
const TABLE: &[(Method, &str, Need)] = &[
    (Get, "/access/acl", Handler),
    (
        Get,
        "/access/groups",
        Rows(
            "/access/groups/{groupid}",
            &["User.Modify", "Sys.Audit", "Group.Allocate"],
        ),
    ),
    (Get, "/access/permissions", Check(other_permissions)),
    (Get, "/access/tfa", Handler),
    // The second step of a login, which proves itself.
    (Post, "/access/tfa", Handler),
    (Get, "/access/users", Handler),
    (Put, "/access/password", Check(password)),
    (
        Post,
        "/cluster/bulk-action/guest/migrate",
        Guests(&["VM.Migrate"], "/, VM.Migrate"),
    ),
    (
        Post,
        "/cluster/bulk-action/guest/shutdown",
        Guests(&["VM.PowerMgmt"], "/, VM.PowerMgmt"),
    ),
    (
        Post,
        "/cluster/bulk-action/guest/start",
        Guests(&["VM.PowerMgmt"], "/, VM.PowerMgmt"),
    ),
    (
        Post,
        "/cluster/bulk-action/guest/suspend",
        Check(bulk_suspend),
    ),
    (Post, "/cluster/backup", Check(backup_job)),
    (Put, "/cluster/backup/{id}", Check(backup_job)),
    (Get, "/cluster/log", Handler),
    (
        Get,
        "/cluster/mapping/dir",
        Rows("/mapping/dir/{id}", MAPPING_SEE),
    ),
    (
        Get,
        "/cluster/mapping/pci",
        Rows("/mapping/pci/{id}", MAPPING_SEE),
    ),
    (
        Get,
        "/cluster/mapping/usb",
        Rows("/mapping/usb/{id}", MAPPING_SEE),
    ),
    (
        Get,
        "/cluster/qemu/custom-cpu-models",
        Rows("/mapping/cpu/{cputype}", MAPPING_SEE),
    ),
    (
        Get,
        "/cluster/replication",
        Rows("/vms/{guest}", &["VM.Audit"]),
    ),
    (
        Post,
        "/cluster/replication",
        All("/vms/{guest}", &["VM.Replicate"]),
    ),
    (
        Get,
        "/cluster/replication/{id}",
        All("/vms/{guest}", &["VM.Audit"]),
    ),
    (
        Put,
        "/cluster/replication/{id}",
        All("/vms/{guest}", &["VM.Replicate"]),
    ),
    (
        Delete,
        "/cluster/replication/{id}",
        All("/vms/{guest}", &["VM.Replicate"]),
    ),
    (Get, "/cluster/resources", Handler),
    (
        Get,
        "/cluster/sdn/controllers",
        Rows("/sdn/controllers/{controller}", SDN_SEE),
    ),
    (Get, "/cluster/sdn/dns", Rows("/sdn/dns/{dns}", SDN_SEE)),
    (
        Get,
        "/cluster/sdn/fabrics/all",
        RowsIn("fabrics", "/sdn/fabrics/{id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/fabrics/all",
        RowsIn("nodes", "/sdn/fabrics/{fabric_id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/fabrics/all",
        RowsIn("nodes", "/nodes/{node_id}", NODE_SEE),
    ),
    (
        Get,
        "/cluster/sdn/fabrics/fabric",
        Rows("/sdn/fabrics/{id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/fabrics/node",
        Rows("/sdn/fabrics/{fabric_id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/fabrics/node",
        Rows("/nodes/{node_id}", NODE_SEE),
    ),
    (
        Get,
        "/cluster/sdn/ipams",
        Rows("/sdn/ipams/{ipam}", SDN_SEE),
    ),
    (Get, "/cluster/sdn/ipams/{ipam}/status", Rows(VNET, SDN_SEE)),
    (
        Get,
        "/cluster/sdn/prefix-lists",
        Rows("/sdn/prefix-lists/{id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/route-maps",
        Rows("/sdn/route-maps/{id}", SDN_SEE),
    ),
    (
        Get,
        "/cluster/sdn/route-maps/entries",
        Rows("/sdn/route-maps/{route-map-id}", SDN_SEE),
    ),
    (Get, VNETS, Rows(VNET, SDN_SEE)),
    (Get, "/cluster/sdn/vnets/{vnet}", Any(VNET, SDN_SEE)),
    (Put, "/cluster/sdn/vnets/{vnet}", Any(VNET, SDN_CHANGE)),
    (Delete, "/cluster/sdn/vnets/{vnet}", Any(VNET, SDN_CHANGE)),
    (
        Get,
        "/cluster/sdn/vnets/{vnet}/firewall/options",
        Any(VNET, SDN_SEE),
    ),
    (
        Put,
        "/cluster/sdn/vnets/{vnet}/firewall/options",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Get,
        "/cluster/sdn/vnets/{vnet}/firewall/rules",
        Any(VNET, SDN_SEE),
    ),
    (
        Post,
        "/cluster/sdn/vnets/{vnet}/firewall/rules",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Get,
        "/cluster/sdn/vnets/{vnet}/firewall/rules/{pos}",
        Any(VNET, SDN_SEE),
    ),
    (
        Put,
        "/cluster/sdn/vnets/{vnet}/firewall/rules/{pos}",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Delete,
        "/cluster/sdn/vnets/{vnet}/firewall/rules/{pos}",
        Any(VNET, SDN_CHANGE),
    ),
    (Get, "/cluster/sdn/vnets/{vnet}/subnets", Any(VNET, SDN_SEE)),
    (
        Post,
        "/cluster/sdn/vnets/{vnet}/subnets",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Get,
        "/cluster/sdn/vnets/{vnet}/subnets/{subnet}",
        Any(VNET, SDN_SEE),
    ),
    (
        Put,
        "/cluster/sdn/vnets/{vnet}/subnets/{subnet}",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Delete,
        "/cluster/sdn/vnets/{vnet}/subnets/{subnet}",
        Any(VNET, SDN_CHANGE),
    ),
    (
        Get,
        "/cluster/sdn/zones",
        Rows("/sdn/zones/{zone}", SDN_SEE),
    ),
    (Get, "/cluster/tasks", Handler),
    (Get, "/nodes/{node}/capabilities/qemu/cpu", Handler),
    (Get, "/nodes/{node}/lxc", Handler),
    (
        Post,
        "/nodes/{node}/lxc",
        Check(|call| guests::create(call, Kind::Lxc)),
    ),
    (
        Post,
        "/nodes/{node}/lxc/{vmid}/clone",
        Check(|call| guests::clone(call, Kind::Lxc)),
    ),
    (Get, "/nodes/{node}/lxc/{vmid}/mtunnelwebsocket", Handler),
    (
        Post,
        "/nodes/{node}/lxc/{vmid}/move_volume",
        Check(|call| guests::move_disk(call, Kind::Lxc)),
    ),
    (
        Post,
        "/nodes/{node}/migrateall",
        Guests(&["VM.Migrate"], "/, VM.Migrate"),
    ),
    (Get, "/nodes/{node}/qemu", Handler),
    (
        Post,
        "/nodes/{node}/qemu",
        Check(|call| guests::create(call, Kind::Qemu)),
    ),
    (
        Post,
        "/nodes/{node}/qemu/{vmid}/clone",
        Check(|call| guests::clone(call, Kind::Qemu)),
    ),
    (Post, "/nodes/{node}/qemu/{vmid}/migrate", Check(migrate)),
    (Post, "/nodes/{node}/qemu/{vmid}/monitor", Check(monitor)),
    (Get, "/nodes/{node}/qemu/{vmid}/mtunnelwebsocket", Handler),
    (
        Post,
        "/nodes/{node}/qemu/{vmid}/move_disk",
        Check(|call| guests::move_disk(call, Kind::Qemu)),
    ),
    (
        Post,
        "/nodes/{node}/qemu/{vmid}/status/suspend",
        Check(suspend),
    ),
    (
        Get,
        "/nodes/{node}/replication",
        Rows("/vms/{guest}", &["VM.Audit"]),
    ),
    (
        Get,
        "/nodes/{node}/replication/{id}/log",
        Check(replication_log),
    ),
    (
        Post,
        "/nodes/{node}/replication/{id}/schedule_now",
        All("/vms/{guest}", &["VM.Replicate"]),
    ),
    (
        Get,
        "/nodes/{node}/replication/{id}/status",
        All("/vms/{guest}", &["VM.Audit"]),
    ),
    (
        Get,
        "/nodes/{node}/sdn/vnets/{vnet}",
        Any(VNET, &["SDN.Audit"]),
    ),
    (
        Get,
        "/nodes/{node}/sdn/vnets/{vnet}/mac-vrf",
        Any(VNET, &["SDN.Audit"]),
    ),
    (
        Get,
        "/nodes/{node}/sdn/zones",
        Rows("/sdn/zones/{zone}", SDN_SEE),
    ),
    (
        Post,
        "/nodes/{node}/startall",
        Guests(&["VM.PowerMgmt"], "/, VM.PowerMgmt"),
    ),
    (
        Post,
        "/nodes/{node}/stopall",
        Guests(&["VM.PowerMgmt"], "/, VM.PowerMgmt"),
    ),
    (
        Post,
        "/nodes/{node}/suspendall",
        Guests(
            &["VM.PowerMgmt", "VM.Config.Disk"],
            "/, VM.PowerMgmt && VM.Config.Disk",
        ),
    ),
    (
        Get,
        "/nodes/{node}/storage",
        Rows("/storage/{storage}", STORAGE_SEE),
    ),
    (
        Get,
        "/nodes/{node}/storage/{storage}/content/{volume}",
        Check(read_volume),
    ),
    (
        Put,
        "/nodes/{node}/storage/{storage}/content/{volume}",
        Check(read_volume),
    ),
    (
        Delete,
        "/nodes/{node}/storage/{storage}/content/{volume}",
        Check(delete_volume),
    ),
    (
        Get,
        "/nodes/{node}/storage/{storage}/file-restore/download",
        Check(read_volume),
    ),
    (
        Get,
        "/nodes/{node}/storage/{storage}/file-restore/list",
        Check(read_volume),
    ),
    (
        Get,
        "/nodes/{node}/storage/{storage}/import-metadata",
        Check(read_volume),
    ),
    (
        Delete,
        "/nodes/{node}/storage/{storage}/prunebackups",
        Check(prune),
    ),
    (Get, "/nodes/{node}/tasks", Handler),
    (Delete, "/nodes/{node}/tasks/{upid}", Handler),
    (Get, "/nodes/{node}/tasks/{upid}/log", Handler),
    (Get, "/nodes/{node}/tasks/{upid}/status", Handler),
    (Post, "/nodes/{node}/vzdump", Check(backup)),
    (Get, "/nodes/{node}/vzdump/defaults", Check(backup_defaults)),
    (
        Get,
        "/nodes/{node}/vzdump/extractconfig",
        Check(read_backup),
    ),
    (Get, "/pools", Handler),
    (Get, "/storage", Rows("/storage/{storage}", STORAGE_SEE)),
];

fn needs<'a>(method: Method, path: &'a str) -> impl Iterator<Item = &'static Need> + 'a {
    TABLE
        .iter()
        .filter(move |(verb, own, _)| *verb == method && *own == path)
        .map(|(_, _, need)| need)
}

/// Refuses what the handler would for want of a privilege.
pub(super) fn check(call: &Call<'_>) -> ApiResult<()> {
    if call.who.is_root() {
        return Ok(());
    }
    needs(call.method, call.path).try_for_each(|need| match need {
        All(path, privileges) => match call.filled(path, None) {
            Some(path) => call.require(&path, privileges),
            None => Ok(()),
        },
        Any(path, privileges) => match call.filled(path, None) {
            Some(path) => call.require_any(&path, privileges),
            None => Ok(()),
        },
        Guests(privileges, text) => many(call, privileges, text),
        Check(check) => check(call),
        Rows(..) | RowsIn(..) | Handler => Ok(()),
    })
}

/// Leaves out of an answer what the caller may not see.
pub(super) fn filter(call: &Call<'_>, data: &mut Value) {
    if call.who.is_root() || call.method != Get {
        return;
    }
    if call.path == "/nodes/{node}/storage/{storage}/content"
        && let Some(rows) = data.as_array_mut()
    {
        rows.retain(|row| {
            row["volid"]
                .as_str()
                .is_some_and(|volid| call.require_volume(None, volid, None).is_ok())
        });
    }
    if call.path == "/nodes/{node}/network"
        && let Some(rows) = data.as_array_mut()
    {
        rows.retain(|row| {
            let bridge = matches!(row["type"].as_str(), Some("bridge" | "OVSBridge"));
            let place = format!(
                "/sdn/zones/localnetwork/{}",
                row["iface"].as_str().unwrap_or("")
            );
            !bridge || call.require_any(&place, &["SDN.Audit", "SDN.Use"]).is_ok()
        });
    }
    for need in needs(call.method, call.path) {
        let (rows, path, privileges) = match need {
            Rows(path, privileges) => (Some(&mut *data), path, privileges),
            RowsIn(member, path, privileges) => (data.get_mut(*member), path, privileges),
            _ => continue,
        };
        if let Some(rows) = rows.and_then(Value::as_array_mut) {
            rows.retain(|row| {
                call.filled(path, Some(row))
                    .is_none_or(|path| call.require_any(&path, privileges).is_ok())
            });
        }
    }
    let audited = call.path != "/access/acl" || call.may("/access", "Sys.Audit");
    if let Some(rows) = data.as_array_mut().filter(|_| !audited) {
        rows.retain(|row| {
            row["path"]
                .as_str()
                .is_some_and(|path| call.require_any(path, &modifiers(path)).is_ok())
        });
    }
}

/// Any of these lets somebody change the rules at a path.
pub(crate) fn modifiers(path: &str) -> Vec<&'static str> {
    let area = path.trim_start_matches('/').split_once('/');
    let more = match area.map(|(area, _)| area) {
        Some("storage") => Some("Datastore.Allocate"),
        Some("vms") => Some("VM.Allocate"),
        Some("pool") => Some("Pool.Allocate"),
        _ => None,
    };
    std::iter::once("Permissions.Modify").chain(more).collect()
}

impl Call<'_> {
    /// A path with its `{names}` replaced; `None` where one of them is not known, which is for the handler to refuse.
    fn filled(&self, path: &str, row: Option<&Value>) -> Option<String> {
        let mut out = String::new();
        for segment in path.split('/').skip(1) {
            out.push('/');
            match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some(name) => out.push_str(&self.named(name, row)?),
                None => out.push_str(segment),
            }
        }
        Some(out)
    }

    fn named(&self, name: &str, row: Option<&Value>) -> Option<String> {
        if let Some(value) = row.and_then(|row| row.get(name)) {
            return value
                .as_str()
                .map(str::to_owned)
                .or_else(|| value.as_u64().map(|number| number.to_string()));
        }
        let given = |name: &str| self.text(name).map(str::to_owned);
        given(name).or_else(|| match name {
            // The number of a replication job starts with that of its guest.
            "guest" => given("id").and_then(|id| Some(id.split_once('-')?.0.to_owned())),
            "zone" => {
                let vnet = given("vnet")?;
                let rows = self.world.records.get(VNETS)?;
                let (_, row) = rows.iter().find(|(own, _)| *own == vnet)?;
                row.get("zone")?.as_str().map(str::to_owned)
            }
            _ => None,
        })
    }

    /// All of these privileges; the first that is missing is named.
    pub(super) fn require(&self, path: &str, privileges: &[&str]) -> ApiResult<()> {
        match privileges.iter().find(|p| !self.may(path, p)) {
            Some(missing) => Err(ApiError::permission(&format!("{path}, {missing}"))),
            None => Ok(()),
        }
    }

    pub(super) fn require_any(&self, path: &str, privileges: &[&str]) -> ApiResult<()> {
        if privileges.iter().any(|p| self.may(path, p)) {
            return Ok(());
        }
        let text = format!("{path}, {}", privileges.join("|"));
        Err(ApiError::permission(&text))
    }

    /// Privileges on a guest, or on the pool it comes into.
    fn require_on_guest(
        &self,
        vmid: u32,
        pool: Option<&str>,
        privileges: &[&str],
    ) -> ApiResult<()> {
        let in_pool =
            pool.is_some_and(|pool| self.require(&format!("/pool/{pool}"), privileges).is_ok());
        if in_pool {
            return Ok(());
        }
        self.require(&format!("/vms/{vmid}"), privileges)
    }

    /// Options only root@pam itself may give, with whatever value.
    fn only_root(&self, options: &[&str], text: &str) -> ApiResult<()> {
        match options.iter().find(|o| self.params.contains_key(**o)) {
            Some(option) if !self.who.is_root() => Err(ApiError::parameter(option, text)),
            _ => Ok(()),
        }
    }

    /// Whether a volume may be read: a template or an image of a system, a backup, a disk.
    fn require_volume(
        &self,
        vmid: Option<u32>,
        volid: &str,
        wanted: Option<&str>,
    ) -> ApiResult<()> {
        let Some((storage, name)) = volid.split_once(':') else {
            return Err(ApiError::die(
                "Only root can pass arbitrary filesystem paths.",
            ));
        };
        let (content, owner) = parse_volume_name(name);
        if wanted.is_some_and(|wanted| {
            wanted != content && !(wanted == "rootdir" && content == "images")
        }) {
            return Err(ApiError::die(format!(
                "unable to use volume {volid} - content type needs to be '{}'",
                wanted.unwrap_or("")
            )));
        }
        let place = format!("/storage/{storage}");
        if self.may(&place, "Datastore.Allocate") {
            return Ok(());
        }
        match (content, owner) {
            ("iso" | "vztmpl" | "import", _) => {
                self.require_any(&place, &["Datastore.AllocateSpace", "Datastore.Audit"])
            }
            (_, Some(owner)) if vmid == Some(owner) => Ok(()),
            ("backup", Some(owner)) => {
                self.require(&place, SPACE)?;
                self.require(&format!("/vms/{owner}"), &["VM.Backup"])
            }
            ("images" | "rootdir", Some(owner)) => {
                self.require(&place, &["Datastore.Audit"])?;
                self.require(&format!("/vms/{owner}"), &["VM.Config.Disk"])
            }
            _ => Err(ApiError::die(format!(
                "missing privileges to access {volid}"
            ))),
        }
    }

    /// Use of the bridge or virtual network a network card is connected to.
    fn require_bridge(&self, kind: Kind, value: &str) -> ApiResult<()> {
        // Releases before 8.0 did not ask.
        if self.world.schema.release().major < 8 {
            return Ok(());
        }
        let parts = self.world.parts(kind, "net0", value);
        let Some(bridge) = parts.get("bridge") else {
            return Ok(());
        };
        let vnets = self.world.records.get(VNETS).into_iter().flatten();
        let zone = vnets
            .filter(|(vnet, _)| vnet == bridge)
            .find_map(|(_, row)| row.get("zone")?.as_str())
            .unwrap_or("localnetwork");
        let place = format!("/sdn/zones/{zone}/{bridge}");
        let tags = parts.get("tag").into_iter().map(String::as_str);
        let trunks = parts.get("trunks").map_or("", String::as_str).split(';');
        let mut tags = tags.chain(trunks.filter(|tag| !tag.is_empty())).peekable();
        if tags.peek().is_none() {
            return self.require(&place, &["SDN.Use"]);
        }
        tags.try_for_each(|tag| self.require(&format!("{place}/{tag}"), &["SDN.Use"]))
    }
}

fn many(call: &Call<'_>, privileges: &[&str], text: &str) -> ApiResult<()> {
    if privileges.iter().all(|p| call.may("/", p)) {
        return Ok(());
    }
    let ids = super::records::listed(call.params.get("vms"));
    if ids.is_empty() {
        return Err(ApiError::permission(text));
    }
    // For each guest the state storage is asked for later, by the guest's own task.
    let first = &privileges[..1];
    ids.iter()
        .try_for_each(|id| call.require(&format!("/vms/{id}"), first))
}

fn bulk_suspend(call: &Call<'_>) -> ApiResult<()> {
    many(call, &["VM.PowerMgmt"], "/, VM.PowerMgmt")?;
    if !call.flag("to-disk") {
        return Ok(());
    }
    many(call, &["VM.Config.Disk"], "/, VM.Config.Disk")?;
    match call.text("statestorage") {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

/// The permissions of others are for auditors.
fn other_permissions(call: &Call<'_>) -> ApiResult<()> {
    let own = call.who.full();
    let others = call
        .text("userid")
        .is_some_and(|user| user != own && user != call.who.user);
    if others {
        return call.require("/access", &["Sys.Audit"]);
    }
    Ok(())
}

/// Nobody but root@pam changes the password of another account of the system.
fn password(call: &Call<'_>) -> ApiResult<()> {
    let userid = call.owned("userid");
    let foreign = userid != call.who.user;
    if foreign && (userid == "root@pam" || userid.ends_with("@pam")) {
        return Err(ApiError::permission(""));
    }
    Ok(())
}

/// What backups may be told, now or in a job.
fn backup_options(call: &Call<'_>) -> ApiResult<()> {
    if call.path == "/nodes/{node}/vzdump" {
        super::backup::no_output(call)?;
    }
    call.only_root(
        &["tmpdir", "dumpdir", "script", "job-id"],
        "Only root may set this option.",
    )?;
    let costly = ["bwlimit", "ionice", "performance"];
    if costly.iter().any(|key| call.params.contains_key(*key)) {
        call.require("/", &["Sys.Modify"])?;
    }
    let fleecing = call.text("fleecing").unwrap_or("");
    let storage = fleecing
        .split(',')
        .find_map(|part| part.strip_prefix("storage="));
    match storage {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

fn backup_storage<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    match (call.text("storage"), call.text("dumpdir")) {
        (Some(storage), _) => Some(storage),
        (None, Some(_)) => None,
        (None, None) => Some("local"),
    }
}

fn backup(call: &Call<'_>) -> ApiResult<()> {
    backup_options(call)?;
    let storage = backup_storage(call).map(|storage| format!("/storage/{storage}"));
    if let Some(storage) = storage
        .as_ref()
        .filter(|_| call.params.contains_key("prune-backups"))
    {
        call.require(storage, &["Datastore.Allocate"])?;
    }
    if call.flag("stop") {
        call.require(&format!("/nodes/{}", call.owned("node")), &["Sys.Modify"])?;
    }
    match storage {
        Some(storage) => call.require(&storage, SPACE),
        None => Ok(()),
    }
}

fn backup_job(call: &Call<'_>) -> ApiResult<()> {
    backup_options(call)?;
    let storage = match call.method {
        Post => backup_storage(call),
        _ => call.text("storage"),
    };
    match storage {
        Some(storage) => call.require(&format!("/storage/{storage}"), &["Datastore.Allocate"]),
        None => Ok(()),
    }
}

fn backup_defaults(call: &Call<'_>) -> ApiResult<()> {
    let storage = call.text("storage").unwrap_or("local");
    call.require_any(&format!("/storage/{storage}"), STORAGE_SEE)
}

/// The volume a call is about, with its storage.
fn volume_id(call: &Call<'_>) -> String {
    let volume = call.owned("volume");
    if volume.contains(':') {
        volume
    } else {
        format!("{}:{volume}", call.owned("storage"))
    }
}

fn read_volume(call: &Call<'_>) -> ApiResult<()> {
    let wanted = call.path.contains("file-restore").then_some("backup");
    let volume = call.owned("volume");
    let name = volume
        .split_once(':')
        .map_or(volume.as_str(), |(_, name)| name);
    let files = call
        .world
        .storage(&call.owned("storage"))
        .is_ok_and(|storage| storage.is_file_based());
    if files && !is_file_name(name) {
        return Err(ApiError::die(format!(
            "unable to parse directory volume name '{name}'"
        )));
    }
    call.require_volume(None, &volume_id(call), wanted)
}

fn read_backup(call: &Call<'_>) -> ApiResult<()> {
    let volume = call.owned("volume");
    call.require_volume(None, &volume, Some("backup"))?;
    let owner = volume
        .split_once(':')
        .and_then(|(_, name)| parse_volume_name(name).1);
    match owner {
        Some(owner) => call.require(&format!("/vms/{owner}"), &["VM.Backup"]),
        None => Ok(()),
    }
}

fn delete_volume(call: &Call<'_>) -> ApiResult<()> {
    let volid = volume_id(call);
    let (storage, name) = volid.split_once(':').unwrap_or(("", &volid));
    let place = format!("/storage/{storage}");
    match parse_volume_name(name) {
        ("backup", Some(owner)) => {
            call.require(&place, SPACE)?;
            call.require(&format!("/vms/{owner}"), &["VM.Backup"])
        }
        _ => call.require(&place, &["Datastore.Allocate"]),
    }
}

fn prune(call: &Call<'_>) -> ApiResult<()> {
    let place = format!("/storage/{}", call.owned("storage"));
    match call.text("vmid") {
        Some(vmid) => {
            call.require(&place, SPACE)?;
            call.require(&format!("/vms/{vmid}"), &["VM.Backup"])
        }
        None => call.require(&place, &["Datastore.Allocate"]),
    }
}

fn replication_log(call: &Call<'_>) -> ApiResult<()> {
    let guest = call.named("guest", None).unwrap_or_default();
    let node = format!("/nodes/{}", call.owned("node"));
    if call.may(&format!("/vms/{guest}"), "VM.Audit") || call.may(&node, "Sys.Audit") {
        return Ok(());
    }
    Err(ApiError::permission(""))
}

fn migrate(call: &Call<'_>) -> ApiResult<()> {
    call.only_root(
        &["force", "migration_type", "migration_network"],
        "Only root may use this option.",
    )?;
    let Some(map) = call.text("targetstorage") else {
        return Ok(());
    };
    if map != "1" {
        call.require_on_guest(call.vmid("vmid"), None, &["VM.Config.Disk"])?;
    }
    split_list(map)
        .filter(|entry| *entry != "1")
        .map(|entry| entry.split_once(':').map_or(entry, |(_, target)| target))
        .try_for_each(|storage| call.require(&format!("/storage/{storage}"), SPACE))
}

/// Commands for QEMU that reach the host; they are root@pam's since 9.0.
const HOST_COMMANDS: &str = "xen-event-list xen-event-inject wavcapture watchdog_action snapshot_blkdev screendump savevm-start \
    savevm-end qom-set pmemsave pcie_aer_inject_error object_del object_add o nmi netdev_del netdev_add \
    nbd_server_stop nbd_server_start nbd_server_remove nbd_server_add migrate_recover migrate_incoming \
    migrate memsave mce logfile hostfwd_remove hostfwd_add gdbserver dumpdtb dump-guest-memory \
    drive_mirror drive_del drive_backup drive_add device_del device_add client_migrate_info \
    chardev-remove chardev-change chardev-add change block_stream backup";

/// Those that an administrator of the whole cluster may give (qemu-server `API2/Qemu/HMPPerms.pm`).
const MACHINE_COMMANDS: &str = "xp x_colo_lost_heartbeat x trace-event system_wakeup system_reset system_powerdown sync-profile sum s stop \
    stopcapture snapshot_delete_blkdev_internal snapshot_blkdev_internal set_vcpu_dirty_limit set_password \
    set_link sendkey savevm ringbuf_write ringbuf_read replay_seek replay_delete_break replay_break q quit \
    qom-list qom-get qemu-io p print one-insn-per-tb mouse_set mouse_move mouse_button migrate_start_postcopy \
    migrate_set_parameter migrate_set_capability migrate_pause migrate_continue migrate_cancel log loadvm \
    gva2gpa getfd expire_password exit_preconfig eject delvm cpu c cont commit closefd chardev-send-break \
    cancel_vcpu_dirty_limit calc_dirty_rate boot_set block_set_io_throttle block_resize block_job_set_speed \
    block_job_resume block_job_pause block_job_complete block_job_cancel balloon backup_cancel announce_self i \
    gpa2hva gpa2hpa";

fn monitor(call: &Call<'_>) -> ApiResult<()> {
    let command = call.owned("command");
    let word = command.split_whitespace().next().unwrap_or("");
    if matches!(word, "help" | "info" | "?") {
        return Ok(());
    }
    let sorted = call.world.schema.release().major >= 9;
    if sorted && HOST_COMMANDS.split_whitespace().any(|own| own == word) {
        return Err(ApiError::die(format!("root-only command '{word}'")));
    }
    if sorted && !MACHINE_COMMANDS.split_whitespace().any(|own| own == word) {
        return Err(ApiError::die(format!(
            "command '{word}' non-existent or not assigned a required permission yet, limiting to root user"
        )));
    }
    call.require("/", &["Sys.Modify"])
}

fn suspend(call: &Call<'_>) -> ApiResult<()> {
    if !call.flag("todisk") {
        return Ok(());
    }
    call.require_on_guest(call.vmid("vmid"), None, &["VM.Config.Disk"])?;
    match call.text("statestorage") {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::schema::{ApiSchema, releases};

    #[test]
    fn every_endpoint_whose_handler_checks_privileges_is_in_the_table() {
        let mut missing = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for release in releases() {
            let schema = ApiSchema::load(release).expect("a known release");
            for (path, methods) in schema.endpoints() {
                for (method, endpoint) in methods {
                    if needs(*method, path).next().is_some() {
                        seen.insert((*method, path.clone()));
                    }
                    let Some(permissions) = &endpoint.permissions else {
                        continue;
                    };
                    let everybody = permissions.user.as_deref() == Some("all");
                    if everybody
                        && (permissions.described || *method != Get)
                        && needs(*method, path).next().is_none()
                    {
                        missing.insert(format!("{release} {method} {path}"));
                    }
                }
            }
        }
        assert_eq!(missing, BTreeSet::new());
        let named: BTreeSet<_> = TABLE
            .iter()
            .map(|(m, p, _)| (*m, (*p).to_owned()))
            .collect();
        let unknown: Vec<_> = named.difference(&seen).collect();
        assert!(unknown.is_empty(), "no release has {unknown:?}");
    }
}
