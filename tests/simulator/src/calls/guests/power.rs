//! Power state, templates and removal of guests.

use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::ha;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{Feature, volume_of};
use crate::state::guest::{Guest, GuestEffect, Kind, check_lock};

pub(crate) fn destroy(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    if guest.protected() {
        return Err(ApiError::die(format!(
            "can't remove {noun} {vmid} - protection mode enabled"
        )));
    }
    let task = if kind == Kind::Lxc {
        "vzdestroy"
    } else {
        "qmdestroy"
    };
    if call.cluster.ha_resource(vmid).is_some() && !call.flag("purge") {
        return Err(ApiError::die(format!(
            "unable to remove {noun} {vmid} - used in HA resources and purge parameter not set."
        )));
    }
    if guest.running() && !(kind == Kind::Lxc && call.flag("force")) {
        return Err(ApiError::die(match kind {
            Kind::Qemu => format!("VM {vmid} is running - destroy failed"),
            Kind::Lxc => format!("unable to destroy CT {vmid} - container is running"),
        }));
    }
    if let (Err(error), false) = (check_lock(guest), call.flag("skiplock")) {
        return Ok(call.fail(task, vmid, error));
    }
    let disks = guest.config.iter().filter(|(key, _)| kind.is_disk(key));
    let mut bases = disks.map(|(_, value)| volume_of(value));
    if let Some(volid) = bases.find(|volid| guest.template() && call.cluster.is_base_in_use(volid))
    {
        let text = format!("base volume '{volid}' is still in use by linked cloned");
        return Ok(call.fail(task, vmid, text));
    }
    let lines = guest
        .config
        .iter()
        .filter(|(key, value)| {
            kind.is_disk(key) && value.contains(':') && !value.contains("media=cdrom")
        })
        .map(|(_, value)| {
            let name = volume_of(value)
                .split_once(':')
                .map_or("", |(_, name)| name);
            format!("  Logical volume \"{name}\" successfully removed.")
        })
        .collect();
    let force = call.flag("force");
    if let Some(guest) = call.cluster.guests.get_mut(&vmid) {
        if force && kind == Kind::Lxc {
            guest.started = None;
        }
        if call.params.contains_key("skiplock") {
            guest.lock = None;
        }
    }
    Ok(call.start(
        task,
        vmid,
        1.0,
        lines,
        Effect::Guest(
            vmid,
            GuestEffect::Destroy {
                purge: call.flag("purge"),
            },
        ),
    ))
}

pub(crate) fn start(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    if call.params.contains_key("targetstorage") && !call.params.contains_key("migratedfrom") {
        return Err(ApiError::parameter(
            "targetstorage",
            "targetstorage can only by used with migratedfrom.",
        ));
    }
    let noun = kind.noun();
    let task = if kind == Kind::Lxc {
        "vzstart"
    } else {
        "qmstart"
    };
    let guest = call.cluster.guest(kind, &node, vmid)?;
    if kind == Kind::Lxc && guest.running() {
        return Err(ApiError::die(format!("CT {vmid} already running")));
    }
    let suspended = guest.lock.as_deref() == Some("suspended");
    let mut error = if suspended || call.flag("skiplock") {
        None
    } else {
        check_lock(guest).err()
    };
    if error.is_none() && guest.running() {
        error = Some(format!("{noun} {vmid} already running"));
    }
    if error.is_none() && guest.template() {
        error = Some(guest.template_cannot_start());
    }
    let managed = call.cluster.ha_state(vmid).is_some();
    match error {
        Some(error) => Ok(call.fail(task, vmid, error)),
        None if managed => Ok(ha::request_ha_state(call, vmid, "hastart", "started")),
        None => Ok(call.start(
            task,
            vmid,
            1.5,
            Vec::new(),
            Effect::Guest(vmid, lenient(call.flag("skiplock"), GuestEffect::Start)),
        )),
    }
}

/// Only root may skip a lock.
fn lenient(skips: bool, effect: GuestEffect) -> GuestEffect {
    match skips {
        true => GuestEffect::IgnoringLock(Box::new(effect)),
        false => effect,
    }
}

/// The error of the task that resumes a container that was not suspended.
pub(crate) fn no_checkpoint(vmid: u32) -> String {
    format!(
        "command 'lxc-checkpoint -n {vmid} -r --foreground -D /var/lib/vz/dump' failed: exit code 1"
    )
}

pub(crate) fn power(
    call: &mut Call<'_>,
    kind: Kind,
    task: &str,
    seconds: f64,
    must_run: bool,
    effect: GuestEffect,
) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    // The server says VM for a container here, too.
    let noun = match effect {
        GuestEffect::Reboot => "VM",
        _ => kind.noun(),
    };
    let guest = call.cluster.guest(kind, &node, vmid)?;
    if must_run && !guest.running() {
        return Err(ApiError::die(format!("{noun} {vmid} not running")));
    }
    let resuming = matches!(effect, GuestEffect::Resume);
    if resuming && kind == Kind::Lxc && !guest.running() {
        // The task makes this check.
        let text = no_checkpoint(vmid);
        return Ok(call.fail(task, vmid, text));
    }
    if resuming && !guest.running() && guest.lock.as_deref() != Some("suspended") {
        return Err(ApiError::die(format!("{} {vmid} not running", kind.noun())));
    }
    if let (Err(error), false, false) = (check_lock(guest), resuming, call.flag("skiplock")) {
        return Ok(call.fail(task, vmid, error));
    }
    let stops = matches!(effect, GuestEffect::Stop);
    if stops && call.cluster.ha_state(vmid).is_some() {
        return Ok(ha::request_ha_state(call, vmid, "hastop", "stopped"));
    }
    let effect = lenient(call.flag("skiplock"), effect);
    Ok(call.start(task, vmid, seconds, Vec::new(), Effect::Guest(vmid, effect)))
}

pub(crate) fn template(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    check_lock(guest).map_err(ApiError::die)?;
    if !guest.snapshots.is_empty() {
        return Err(ApiError::die(format!(
            "unable to create template, because {noun} contains snapshots"
        )));
    }
    if guest.template() {
        return Err(ApiError::die("you can't convert a template to a template"));
    }
    if guest.running() {
        return Err(ApiError::die(match kind {
            Kind::Qemu => "you can't convert a VM to template if VM is running",
            Kind::Lxc => "you can't convert a CT to template if the CT is running",
        }));
    }
    if kind == Kind::Lxc {
        let refusal = guest.config.iter().find_map(|(key, value)| {
            let volid = volume_of(value);
            let fits = !kind.is_disk(key)
                || key.starts_with("unused")
                || (call.cluster).volume_has(Feature::Template, kind, &node, volid, false);
            (!fits).then(|| format!("Template feature is not available for '{volid}'"))
        });
        // The answer does not name the task.
        match refusal {
            Some(text) => call.fail("vztemplate", vmid, text),
            None => {
                let effect = Effect::Guest(vmid, GuestEffect::Template);
                call.start("vztemplate", vmid, 1.0, Vec::new(), effect)
            }
        };
        return Ok(Reply::data(Value::Null));
    }
    Ok(call.start(
        "qmtemplate",
        vmid,
        1.0,
        Vec::new(),
        Effect::Guest(vmid, GuestEffect::Template),
    ))
}

/// The same for many guests: those given, or all for which it makes sense.
pub(crate) fn every_guest(call: &mut Call<'_>, task: &str, action: &str) -> ApiResult<Reply> {
    let node = call.text("node").map(str::to_owned);
    let target = call.owned("target");
    if action == "migrate" {
        if node.as_ref() == Some(&target) {
            return Err(ApiError::parameter("target", "target is local node."));
        }
        call.cluster.known_node(&target)?;
        let workers = ["max-workers", "maxworkers"].map(|name| call.text(name));
        let options = call.cluster.settings.get("/cluster/options");
        if workers.iter().all(Option::is_none)
            && options.is_none_or(|options| !options.contains_key("max_workers"))
        {
            return Err(ApiError::die(
                "either 'max-workers' parameter or max_workers in datacenter.cfg must be set!",
            ));
        }
        if !call.cluster.node(&target).is_some_and(|node| node.online) {
            return Ok(call.fail(task, "", format!("target node '{target}' is not online")));
        }
    }
    let vmids = crate::calls::records::rows::listed(call.params.get("vms"));
    let effect = || match action {
        "start" => GuestEffect::Start,
        "suspend" => GuestEffect::Suspend { to_disk: false },
        "migrate" => GuestEffect::Migrate {
            target: target.clone(),
            storages: String::new(),
        },
        _ => GuestEffect::Stop,
    };
    let fits = |guest: &Guest| match action {
        "migrate" => guest.node != target,
        _ => guest.running() == (action != "start") && !guest.template(),
    };
    let guests: Vec<(u32, GuestEffect)> = call
        .cluster
        .guests
        .iter()
        .filter(|(vmid, guest)| {
            node.as_ref().is_none_or(|node| guest.node == *node)
                && (vmids.is_empty() || vmids.contains(&vmid.to_string()))
                && fits(guest)
        })
        .map(|(vmid, _)| (*vmid, effect()))
        .collect();
    let lines = guests
        .iter()
        .map(|(vmid, _)| format!("{action} guest {vmid}"))
        .collect();
    Ok(call.start(task, "", 2.0, lines, Effect::Each(guests)))
}

pub(crate) fn running(call: &Call<'_>, kind: Kind) -> ApiResult<bool> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    Ok(call.cluster.guest(kind, &node, vmid)?.running())
}
