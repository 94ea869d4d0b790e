//! Checks that handlers make.

use proxmox_codegen::facts::Method::Post;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::rights::privileges::{SPACE, STORAGE_SEE};
use crate::formats::split_list;
use crate::propstring;
use crate::state::guest::volumes::{is_file_name, parse_volume_name};

pub(crate) fn bulk_action(call: &Call<'_>, privileges: &[&str], text: &str) -> ApiResult<()> {
    if privileges.iter().all(|p| call.may("/", p)) {
        return Ok(());
    }
    let ids = crate::calls::records::rows::listed(call.params.get("vms"));
    if ids.is_empty() {
        return Err(ApiError::permission(text));
    }
    // The guest's own task checks the state storage later.
    let first = &privileges[..1];
    ids.iter()
        .try_for_each(|id| call.require(&format!("/vms/{id}"), first))
}

pub(crate) fn bulk_suspend(call: &Call<'_>) -> ApiResult<()> {
    bulk_action(call, &["VM.PowerMgmt"], "/, VM.PowerMgmt")?;
    if !call.flag("to-disk") {
        return Ok(());
    }
    bulk_action(call, &["VM.Config.Disk"], "/, VM.Config.Disk")?;
    match call.text("statestorage") {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

/// Permissions of other users need an auditor's privilege.
pub(crate) fn other_permissions(call: &Call<'_>) -> ApiResult<()> {
    let caller = call.caller.full();
    let others = call
        .text("userid")
        .is_some_and(|user| user != caller && user != call.caller.user);
    if others {
        return call.require("/access", &["Sys.Audit"]);
    }
    Ok(())
}

/// Only root@pam changes the password of another `pam` account.
pub(crate) fn password(call: &Call<'_>) -> ApiResult<()> {
    let userid = call.owned("userid");
    let foreign = userid != call.caller.user;
    if foreign && (userid == "root@pam" || userid.ends_with("@pam")) {
        return Err(ApiError::permission(""));
    }
    Ok(())
}

/// Options of backups, for calls and jobs.
fn backup_options(call: &Call<'_>) -> ApiResult<()> {
    if call.path == "/nodes/{node}/vzdump" {
        crate::calls::backup::no_output(call)?;
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
    match propstring::value(fleecing, "storage") {
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

pub(crate) fn backup(call: &Call<'_>) -> ApiResult<()> {
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

pub(crate) fn backup_job(call: &Call<'_>) -> ApiResult<()> {
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

pub(crate) fn backup_defaults(call: &Call<'_>) -> ApiResult<()> {
    let storage = call.text("storage").unwrap_or("local");
    call.require_any(&format!("/storage/{storage}"), STORAGE_SEE)
}

/// The volume of a call, with its storage.
fn volume_id(call: &Call<'_>) -> String {
    let volume = call.owned("volume");
    if volume.contains(':') {
        volume
    } else {
        format!("{}:{}", call.owned("storage"), own_name(call, &volume))
    }
}

/// The name on the storage. The source of a file restore is a backup, with or without a prefix
/// (`API2/Storage/FileRestore.pm:17`).
pub(crate) fn own_name(call: &Call<'_>, volume: &str) -> String {
    match volume.split_once(':') {
        Some((_, name)) => name.to_owned(),
        None if call.path.contains("file-restore") && !volume.starts_with("backup/") => {
            format!("backup/{volume}")
        }
        None => volume.to_owned(),
    }
}

pub(crate) fn read_volume(call: &Call<'_>) -> ApiResult<()> {
    let content = call.path.contains("file-restore").then_some("backup");
    let name = own_name(call, &call.owned("volume"));
    let files = call
        .cluster
        .storage(&call.owned("storage"))
        .is_ok_and(|storage| storage.is_file_based());
    if files && !is_file_name(&name) {
        return Err(ApiError::die(format!(
            "unable to parse directory volume name '{name}'"
        )));
    }
    call.require_volume(None, &volume_id(call), content)
}

pub(crate) fn read_backup(call: &Call<'_>) -> ApiResult<()> {
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

pub(crate) fn delete_volume(call: &Call<'_>) -> ApiResult<()> {
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

pub(crate) fn prune(call: &Call<'_>) -> ApiResult<()> {
    let place = format!("/storage/{}", call.owned("storage"));
    match call.text("vmid") {
        Some(vmid) => {
            call.require(&place, SPACE)?;
            call.require(&format!("/vms/{vmid}"), &["VM.Backup"])
        }
        None => call.require(&place, &["Datastore.Allocate"]),
    }
}

pub(crate) fn replication_log(call: &Call<'_>) -> ApiResult<()> {
    let guest = call.named("guest", None).unwrap_or_default();
    let node = format!("/nodes/{}", call.owned("node"));
    if call.may(&format!("/vms/{guest}"), "VM.Audit") || call.may(&node, "Sys.Audit") {
        return Ok(());
    }
    Err(ApiError::permission(""))
}

pub(crate) fn migrate(call: &Call<'_>) -> ApiResult<()> {
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

/// QEMU monitor commands that reach the host; only for root@pam since 9.0.
const HOST_COMMANDS: &str = "xen-event-list xen-event-inject wavcapture watchdog_action snapshot_blkdev screendump savevm-start \
    savevm-end qom-set pmemsave pcie_aer_inject_error object_del object_add o nmi netdev_del netdev_add \
    nbd_server_stop nbd_server_start nbd_server_remove nbd_server_add migrate_recover migrate_incoming \
    migrate memsave mce logfile hostfwd_remove hostfwd_add gdbserver dumpdtb dump-guest-memory \
    drive_mirror drive_del drive_backup drive_add device_del device_add client_migrate_info \
    chardev-remove chardev-change chardev-add change block_stream backup";

pub(crate) fn monitor(call: &Call<'_>) -> ApiResult<()> {
    let command = call.owned("command");
    let word = command.split_whitespace().next().unwrap_or("");
    if matches!(word, "help" | "info" | "?") {
        return Ok(());
    }
    let has_command_lists = call.cluster.schema.release().major >= 9;
    if has_command_lists && HOST_COMMANDS.split_whitespace().any(|other| other == word) {
        return Err(ApiError::die(format!("root-only command '{word}'")));
    }
    if has_command_lists
        && !MACHINE_COMMANDS
            .split_whitespace()
            .any(|other| other == word)
    {
        return Err(ApiError::die(format!(
            "command '{word}' non-existent or not assigned a required permission yet, limiting to root user"
        )));
    }
    call.require("/", &["Sys.Modify"])
}

pub(crate) fn suspend(call: &Call<'_>) -> ApiResult<()> {
    if !call.flag("todisk") {
        return Ok(());
    }
    call.require_on_guest(call.vmid("vmid"), None, &["VM.Config.Disk"])?;
    match call.text("statestorage") {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

/// Commands that need a privilege on the whole cluster (qemu-server `API2/Qemu/HMPPerms.pm`).
const MACHINE_COMMANDS: &str = "xp x_colo_lost_heartbeat x trace-event system_wakeup system_reset system_powerdown sync-profile sum s stop \
    stopcapture snapshot_delete_blkdev_internal snapshot_blkdev_internal set_vcpu_dirty_limit set_password \
    set_link sendkey savevm ringbuf_write ringbuf_read replay_seek replay_delete_break replay_break q quit \
    qom-list qom-get qemu-io p print one-insn-per-tb mouse_set mouse_move mouse_button migrate_start_postcopy \
    migrate_set_parameter migrate_set_capability migrate_pause migrate_continue migrate_cancel log loadvm \
    gva2gpa getfd expire_password exit_preconfig eject delvm cpu c cont commit closefd chardev-send-break \
    cancel_vcpu_dirty_limit calc_dirty_rate boot_set block_set_io_throttle block_resize block_job_set_speed \
    block_job_resume block_job_pause block_job_complete block_job_cancel balloon backup_cancel announce_self i \
    gpa2hva gpa2hpa";
