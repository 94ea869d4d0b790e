//! Resource pools.

use serde_json::{Value, json};

use super::{Call, Reply};
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::world::World;

fn members(world: &World, pool: &str) -> Vec<Value> {
    world
        .guests
        .iter()
        .filter(|(_, guest)| guest.pool.as_deref() == Some(pool))
        .map(|(vmid, guest)| {
            let mut row = world.guest_json(*vmid, guest);
            row.insert("id".into(), json!(format!("{}/{vmid}", guest.kind.api())));
            row.insert("type".into(), json!(guest.kind.api()));
            row.insert("node".into(), json!(guest.node));
            Value::Object(row)
        })
        .collect()
}

fn existing(world: &World, pool: &str) -> ApiResult<()> {
    if world.pools.contains_key(pool) {
        Ok(())
    } else {
        Err(ApiError::die(format!("pool '{pool}' does not exist")))
    }
}

pub(super) fn list(call: &Call<'_>) -> ApiResult<Reply> {
    if let Some(pool) = call.text("poolid") {
        existing(call.world, pool)?;
        let comment = &call.world.pools[pool];
        return Ok(Reply::data(json!([
            { "poolid": pool, "comment": comment, "members": members(call.world, pool) },
        ])));
    }
    let rows = call
        .world
        .pools
        .iter()
        .map(|(pool, comment)| json!({ "poolid": pool, "comment": comment }));
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn get(call: &Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    existing(call.world, &pool)?;
    Ok(Reply::data(json!({
        "poolid": pool, "comment": call.world.pools[&pool], "members": members(call.world, &pool),
    })))
}

pub(super) fn create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (pool, comment) = (call.owned("poolid"), call.owned("comment"));
    if call.world.pools.contains_key(&pool) {
        return Err(ApiError::die(format!(
            "create pool failed: pool '{pool}' already exists"
        )));
    }
    call.world.pools.insert(pool, comment);
    Ok(Reply::data(Value::Null))
}

pub(super) fn change(call: &mut Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    existing(call.world, &pool)
        .map_err(|error| ApiError::die(format!("update pools failed: {}", error.reason())))?;
    let (delete, moving) = (call.flag("delete"), call.flag("allow-move"));
    let ids: Vec<u32> = split_list(call.text("vms").unwrap_or(""))
        .filter_map(|id| id.parse().ok())
        .collect();
    for vmid in &ids {
        let Some(guest) = call.world.guests.get(vmid) else {
            return Err(ApiError::die(format!(
                "update pools failed: VM {vmid} does not exist"
            )));
        };
        let inside = guest.pool.as_ref() == Some(&pool);
        if delete && !inside {
            return Err(ApiError::die(format!(
                "update pools failed: VM {vmid} is not a pool member"
            )));
        }
        if !delete && inside {
            return Err(ApiError::die(format!(
                "update pools failed: VM {vmid} is already a pool member"
            )));
        }
        if let Some(other) = guest.pool.as_ref().filter(|_| !delete && !moving) {
            return Err(ApiError::die(format!(
                "update pools failed: VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set"
            )));
        }
    }
    for vmid in ids {
        if let Some(guest) = call.world.guests.get_mut(&vmid) {
            guest.pool = (!delete).then(|| pool.clone());
        }
    }
    if let Some(comment) = call.text("comment").map(str::to_owned) {
        call.world.pools.insert(pool, comment);
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn delete(call: &mut Call<'_>) -> ApiResult<Reply> {
    let pool = call.owned("poolid");
    existing(call.world, &pool)
        .map_err(|error| ApiError::die(format!("delete pool failed: {}", error.reason())))?;
    let member = call
        .world
        .guests
        .iter()
        .find(|(_, guest)| guest.pool.as_ref() == Some(&pool))
        .map(|(vmid, _)| *vmid);
    if let Some(vmid) = member {
        return Err(ApiError::die(format!(
            "delete pool failed: pool '{pool}' is not empty (contains VM {vmid})"
        )));
    }
    call.world.pools.remove(&pool);
    Ok(Reply::data(Value::Null))
}
