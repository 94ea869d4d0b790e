//! Migration to another cluster: a simulator in the same process, found by its port.

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::propstring;
use crate::state::cluster::remote::mapped;
use crate::state::effect::Effect;
use crate::state::guest::target::Target;
use crate::state::guest::volumes::volume_of;
use crate::state::guest::{GuestEffect, Kind, check_lock};

impl Target {
    fn of(call: &Call<'_>, vmid: u32) -> Self {
        let endpoint = call.owned("target-endpoint");
        let part = |key: &str| propstring::value(&endpoint, key).map(str::to_owned);
        Self {
            host: part("host").unwrap_or_default(),
            port: part("port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(8006),
            token: part("apitoken").unwrap_or_default(),
            fingerprint: part("fingerprint"),
            vmid: match call.params.contains_key("target-vmid") {
                true => call.vmid("target-vmid"),
                false => vmid,
            },
            storages: call.owned("target-storage"),
            bridges: call.owned("target-bridge"),
            delete: call.flag("delete"),
        }
    }
}

/// `POST /nodes/{node}/{qemu|lxc}/{vmid}/remote_migrate`.
pub(crate) fn migrate(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(kind, &node, vmid)?;
    check_lock(guest).map_err(ApiError::die)?;
    if guest.running() && !call.flag("online") && !call.flag("restart") {
        let noun = kind.noun();
        return Err(ApiError::die(format!(
            "can't migrate running {noun} without --online"
        )));
    }
    if call.cluster.ha_state(vmid).is_some() {
        return Err(ApiError::die(format!(
            "cannot migrate HA-managed {} {vmid} to another cluster",
            kind.noun()
        )));
    }
    let target = Target::of(call, vmid);
    let storages: Vec<String> = (guest.config.iter())
        .filter(|(key, _)| kind.is_disk(key))
        .filter_map(|(_, value)| Some(volume_of(value).split_once(':')?.0.to_owned()))
        .collect();
    let check = target.with(|other| {
        if other.guests.contains_key(&target.vmid) {
            return Err(format!(
                "target-vmid: Guest with ID '{}' already exists on remote cluster",
                target.vmid
            ));
        }
        for storage in &storages {
            let to = mapped(&target.storages, storage).unwrap_or_else(|| storage.clone());
            if !other.storages.contains_key(&to) {
                return Err(format!("storage '{to}' does not exist on remote cluster"));
            }
        }
        Ok(())
    });
    check.map_err(ApiError::die)?;
    let task = if kind == Kind::Lxc {
        "vzmigrate"
    } else {
        "qmigrate"
    };
    crate::state::cluster::guests::lock(call.cluster, vmid, "migrate");
    let lines = vec![
        format!("remote: started tunnel worker for {}", target.host),
        "migration finished successfully (duration 00:00:05)".into(),
    ];
    let effect = Effect::Guest(vmid, GuestEffect::Export(Box::new(target)));
    Ok(call.start(task, vmid, 5.0, lines, effect))
}
