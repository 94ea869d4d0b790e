//! Resource pools.

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::cluster;
use crate::formats::split_list;
use crate::state::cluster::Cluster;
use crate::state::cluster::pools::{has_storage, storages};
use crate::state::effect::Edit;
use crate::state::records::Row;

fn members(call: &Call<'_>, pool: &str) -> Vec<Value> {
    let cluster = &*call.cluster;
    let is_requested = |kind: &str| call.text("type").is_none_or(|requested| requested == kind);
    let mut members: Vec<Value> = cluster
        .guests
        .iter()
        .filter(|(_, guest)| guest.pool.as_deref() == Some(pool) && is_requested(guest.kind.api()))
        .map(|(vmid, guest)| Value::Object(cluster::guest_row(cluster, *vmid, guest)))
        .collect();
    let storages_of_pool = cluster.rows(&storages(pool)).iter();
    for (id, _) in storages_of_pool.filter(|_| is_requested("storage")) {
        let (Ok(storage), Some(node)) = (cluster.storage(id), cluster.nodes.first()) else {
            continue;
        };
        members.push(json!({
            "id": format!("storage/{}/{id}", node.name), "type": "storage", "node": node.name, "storage": id,
            "status": "available", "plugintype": storage.kind, "content": storage.content.join(","),
            "shared": u8::from(storage.shared), "disk": cluster.used(&node.name, id), "maxdisk": storage.total,
        }));
    }
    members
}

/// A pool in a list.
fn row(cluster: &Cluster, pool: &str) -> Value {
    let mut row = json!({ "poolid": pool });
    if let Some(comment) = cluster
        .pools
        .get(pool)
        .filter(|comment| !comment.is_empty())
    {
        row["comment"] = json!(comment);
    }
    row
}

fn existing(cluster: &Cluster, pool: &str) -> ApiResult<()> {
    if cluster.pools.contains_key(pool) {
        Ok(())
    } else {
        Err(ApiError::die(format!("pool '{pool}' does not exist")))
    }
}

pub(super) fn list(call: &Call<'_>) -> ApiResult<Reply> {
    if let Some(pool) = call.text("poolid") {
        existing(call.cluster, pool)?;
        let mut row = row(call.cluster, pool);
        row["members"] = json!(members(call, pool));
        return Ok(Reply::data(json!([row])));
    }
    let seen = call.cluster.pools.keys().filter(|pool| {
        let path = format!("/pool/{pool}");
        call.may(&path, "Pool.Audit") || call.may(&path, "Pool.Allocate")
    });
    let rows = seen.map(|pool| row(call.cluster, pool));
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn get(call: &Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    existing(call.cluster, &pool)?;
    let mut row = row(call.cluster, &pool);
    row["members"] = json!(members(call, &pool));
    Ok(Reply::data(row))
}

pub(super) fn create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (pool, comment) = (call.owned("poolid"), call.owned("comment"));
    let fail = |text: String| ApiError::die(format!("create pool failed: {text}"));
    if call.cluster.pools.contains_key(&pool) {
        return Err(fail(format!("pool '{pool}' already exists")));
    }
    if let Some((parent, _)) = pool.rsplit_once('/')
        && !call.cluster.pools.contains_key(parent)
    {
        return Err(fail(format!(
            "parent '{parent}' of pool '{pool}' does not exist"
        )));
    }
    call.cluster.pools.insert(pool, comment);
    Ok(Reply::data(Value::Null))
}

pub(super) fn change(call: &mut Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    let fail = |text: String| ApiError::die(format!("update pools failed: {text}"));
    existing(call.cluster, &pool).map_err(|error| fail(error.reason().to_owned()))?;
    let (delete, moving) = (call.flag("delete"), call.flag("allow-move"));
    let ids: Vec<u32> = split_list(call.text("vms").unwrap_or(""))
        .filter_map(|id| id.parse().ok())
        .collect();
    let stores: Vec<String> = split_list(call.text("storage").unwrap_or(""))
        .map(str::to_owned)
        .collect();
    for vmid in &ids {
        let pool_of_guest = call.cluster.guests.get(vmid);
        let pool_of_guest = pool_of_guest.and_then(|guest| guest.pool.as_ref());
        match pool_of_guest {
            _ if delete && pool_of_guest != Some(&pool) => {
                return Err(fail(format!("VM {vmid} is not a pool member")));
            }
            Some(pool_of_guest) if !delete && *pool_of_guest == pool => {
                return Err(fail(format!("VM {vmid} is already a pool member")));
            }
            Some(other) if !delete && !moving => {
                return Err(fail(format!(
                    "VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set"
                )));
            }
            _ => {}
        }
    }
    for id in &stores {
        match (delete, has_storage(call.cluster, &pool, id)) {
            (true, false) => return Err(fail(format!("Storage '{id}' is not a pool member"))),
            (false, true) => return Err(fail(format!("Storage '{id}' is already a pool member"))),
            _ => {}
        }
    }
    for vmid in ids {
        if let Some(guest) = call.cluster.guests.get_mut(&vmid) {
            guest.pool = (!delete).then(|| pool.clone());
        }
    }
    for id in stores {
        let list = storages(&pool);
        call.cluster.edit(match delete {
            true => Edit::Remove(list, id),
            false => Edit::Set(list, id, Row::new()),
        });
    }
    if let Some(comment) = call.text("comment").map(str::to_owned) {
        call.cluster.pools.insert(pool, comment);
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn delete(call: &mut Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    existing(call.cluster, &pool)
        .map_err(|error| ApiError::die(format!("delete pool failed: {}", error.reason())))?;
    let cluster = &*call.cluster;
    let below = format!("{pool}/");
    let inner = cluster.pools.keys().find(|other| other.starts_with(&below));
    let mut guests = cluster.guests.iter();
    let guest = guests.find(|(_, guest)| guest.pool.as_ref() == Some(&pool));
    let stores = cluster.rows(&storages(&pool)).iter();
    let store = stores
        .map(|(id, _)| id)
        .find(|id| cluster.storages.contains_key(*id));
    let content = inner
        .map(|inner| format!("pool '{inner}'"))
        .or_else(|| guest.map(|(vmid, _)| format!("VM {vmid}")))
        .or_else(|| store.map(|id| format!("storage '{id}'")));
    if let Some(content) = content {
        return Err(ApiError::die(format!(
            "delete pool failed: pool '{pool}' is not empty (contains {content})"
        )));
    }
    call.cluster.records.remove(&storages(&pool));
    call.cluster.pools.remove(&pool);
    Ok(Reply::data(Value::Null))
}
