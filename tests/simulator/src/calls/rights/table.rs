//! The checks of each call beyond those that its endpoint declares.

use Need::{All, Any, Check, Guests, Handler, Rows, RowsIn};
use proxmox_codegen::facts::Method;
use proxmox_codegen::facts::Method::{Delete, Get, Post, Put};

use crate::api_error::ApiResult;
use crate::calls::call::Call;
use crate::calls::rights::guests;
use crate::calls::rights::handlers::{
    backup, backup_defaults, backup_job, bulk_suspend, delete_volume, migrate, monitor,
    other_permissions, password, prune, read_backup, read_volume, replication_log, suspend,
};
use crate::calls::rights::privileges::{
    MAPPING_SEE, NODE_SEE, SDN_CHANGE, SDN_SEE, STORAGE_SEE, VNET, VNETS,
};
use crate::state::guest::Kind;

/// A check of a handler.
pub(crate) enum Need {
    /// All of these privileges at a path; `{name}` is a parameter or a derived name.
    All(&'static str, &'static [&'static str]),
    /// One of these privileges at a path.
    Any(&'static str, &'static [&'static str]),
    /// These privileges at `/`, or for each of the guests in `vms`; the text refuses a call without
    /// guests.
    Guests(&'static [&'static str], &'static str),
    /// Removes rows of the answer without any of these privileges at a path made from the row's
    /// fields.
    Rows(&'static str, &'static [&'static str]),
    /// As `Rows`, for a member of the answer.
    RowsIn(&'static str, &'static str, &'static [&'static str]),
    /// A function.
    Check(fn(&Call<'_>) -> ApiResult<()>),
    /// The call's handler makes the check itself.
    Handler,
}

/// The checks by endpoint. A test compares every release with this table.
pub(crate) const TABLE: &[(Method, &str, Need)] = &[
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
    // The second step of a login carries its own proof.
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
