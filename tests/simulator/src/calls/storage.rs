//! Storages, their content, backups.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::rights::handlers::own_name;
use crate::calls::{cluster, sections};
use crate::formats::split_list;
use crate::sample::{mix, number};
use crate::state::cluster::Cluster;
use crate::state::effect::Effect;
use crate::state::guest::volumes::is_file_name;
use crate::state::storage::{GIB, Storage, Volume};
use crate::upload::{checksum, extension_fits, stored_name};

/// Parameters that are not properties of a storage.
const ACTIONS: [&str; 4] = ["storage", "type", "digest", "delete"];

fn config_json(id: &str, storage: &Storage) -> Value {
    let mut row = json!({
        "storage": id, "type": storage.kind, "content": storage.content.join(","), "digest": digest(id, storage),
    });
    for (key, value) in &storage.settings {
        row[key] = value
            .parse::<i64>()
            .map_or_else(|_| json!(value), |number| json!(number));
    }
    if let Some(path) = &storage.path {
        row["path"] = json!(path);
    }
    if storage.shared {
        row["shared"] = json!(1);
    }
    if storage.disabled {
        row["disable"] = json!(1);
    }
    row
}

fn digest(id: &str, storage: &Storage) -> String {
    let text = format!("{id} {storage:?}");
    format!(
        "{:016x}{:016x}{:08x}",
        mix(&text, 1),
        mix(&text, 2),
        mix(&text, 3) & 0xffff_ffff
    )
}

/// Applies a create or change call to a storage.
fn apply(call: &Call<'_>, storage: &mut Storage) {
    for (key, value) in call.known() {
        match key.as_str() {
            "storage" | "type" | "digest" | "delete" | "password" | "keyring"
            | "encryption-key" | "master-pubkey" => {}
            "content" => {
                let content = sections::content(&storage.kind, Some(&value));
                storage.content = match content.and_then(Result::ok) {
                    Some(content) => content.into_iter().map(str::to_owned).collect(),
                    None => split_list(&value).map(str::to_owned).collect(),
                };
            }
            "shared" => storage.shared = value == "1",
            "disable" => storage.disabled = value == "1",
            "path" => storage.path = Some(value),
            _ => {
                storage.settings.insert(key, value);
            }
        }
    }
}

pub(super) fn storage_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (id, kind) = (call.owned("storage"), call.owned("type"));
    if call.cluster.storages.contains_key(&id) {
        return Err(ApiError::die(format!(
            "create storage failed: storage ID '{id}' already defined"
        )));
    }
    let known = call.known();
    let names: Vec<&str> = known
        .keys()
        .map(String::as_str)
        .filter(|name| !ACTIONS.contains(name))
        .collect();
    sections::check_new("/storage", &kind, &names).map_err(ApiError::die)?;
    let content = match sections::content(&kind, call.text("content")) {
        Some(content) => content.map_err(ApiError::die)?,
        None => vec!["images", "rootdir"],
    };
    let mounted = matches!(kind.as_str(), "nfs" | "cifs" | "cephfs");
    let mut storage = Storage {
        shared: matches!(
            kind.as_str(),
            "nfs" | "cifs" | "cephfs" | "rbd" | "pbs" | "iscsi" | "iscsidirect" | "zfs"
        ),
        kind: kind.clone(),
        content: content.iter().map(|c| (*c).to_owned()).collect(),
        total: 200 * GIB,
        path: mounted.then(|| format!("/mnt/pve/{id}")),
        disabled: false,
        settings: std::collections::BTreeMap::new(),
    };
    apply(call, &mut storage);
    call.cluster.storages.insert(id.clone(), storage);
    Ok(Reply::data(json!({ "storage": id, "type": kind })))
}

pub(super) fn storage_change(call: &mut Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("storage");
    let fail = |text: &str| ApiError::die(format!("update storage failed: {text}"));
    let mut storage = match call.cluster.storage(&id) {
        Ok(storage) => storage.clone(),
        Err(error) => return Err(fail(error.message.trim_end())),
    };
    if call
        .text("digest")
        .is_some_and(|digest_parameter| digest_parameter != digest(&id, &storage))
    {
        return Err(fail(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    let (known, delete) = (call.known(), call.owned("delete"));
    let names: Vec<&str> = known
        .keys()
        .map(String::as_str)
        .filter(|name| !ACTIONS.contains(name))
        .collect();
    let deleted: Vec<&str> = split_list(&delete).collect();
    sections::check_changed("/storage", &storage.kind, &names, &deleted)
        .map_err(|text| fail(&text))?;
    if let Some(content) = sections::content(&storage.kind, call.text("content")) {
        content.map_err(|text| fail(&text))?;
    }
    for key in deleted {
        match key {
            "shared" => storage.shared = false,
            "disable" => storage.disabled = false,
            key => {
                storage.settings.remove(key);
            }
        }
    }
    apply(call, &mut storage);
    let kind = storage.kind.clone();
    call.cluster.storages.insert(id.clone(), storage);
    Ok(Reply::data(json!({ "storage": id, "type": kind })))
}

pub(super) fn storage_delete(call: &mut Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("storage");
    call.cluster.storage(&id).map_err(|error| {
        ApiError::die(format!(
            "delete storage failed: {}",
            error.message.trim_end()
        ))
    })?;
    call.cluster.storages.remove(&id);
    Ok(Reply::data(Value::Null))
}

pub(super) fn storage_configs(call: &Call<'_>) -> ApiResult<Reply> {
    let requested = call.text("type");
    let rows = call
        .cluster
        .storages
        .iter()
        .filter(|(_, storage)| requested.is_none_or(|kind| kind == storage.kind))
        .map(|(id, storage)| config_json(id, storage));
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn storage_config(call: &Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("storage");
    Ok(Reply::data(config_json(&id, call.cluster.storage(&id)?)))
}

pub(super) fn storage_row(cluster: &Cluster, node: &str, id: &str, storage: &Storage) -> Value {
    if storage.disabled {
        return json!({
            "storage": id, "type": storage.kind, "content": storage.content.join(","), "active": 0, "enabled": 0,
            "shared": u8::from(storage.shared), "total": 0, "used": 0, "avail": 0,
        });
    }
    let used = cluster.used(node, id);
    // Per mille is exact enough for these figures.
    let share = used
        .saturating_mul(1_000)
        .checked_div(storage.total)
        .unwrap_or(0);
    let share = u32::try_from(share).map_or(1.0, f64::from) / 1_000.0;
    json!({
        "storage": id, "type": storage.kind, "content": storage.content.join(","), "active": 1,
        "enabled": u8::from(!storage.disabled), "shared": u8::from(storage.shared), "total": storage.total,
        "used": used, "avail": storage.total.saturating_sub(used), "used_fraction": number(share),
    })
}

pub(super) fn storage_list(call: &Call<'_>) -> ApiResult<Reply> {
    let node = call.owned("node");
    let content: Vec<&str> = call
        .text("content")
        .map(|text| split_list(text).collect())
        .unwrap_or_default();
    let rows = call
        .cluster
        .storages
        .iter()
        .filter(|(id, _)| {
            call.text("storage")
                .is_none_or(|requested| requested == id.as_str())
        })
        .filter(|(_, storage)| content.is_empty() || content.iter().any(|c| storage.holds(c)))
        .map(|(id, storage)| storage_row(call.cluster, &node, id, storage));
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn storage_status(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let storage = call
        .cluster
        .storage(&id)
        .map_err(|_| ApiError::parameter("storage", "No such storage."))?;
    let mut row = storage_row(call.cluster, &node, &id, storage);
    for name in ["storage", "used_fraction"] {
        row.as_object_mut().and_then(|row| row.remove(name));
    }
    Ok(Reply::data(row))
}

/// The current usage, repeated for all times.
pub(super) fn storage_samples(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let row = storage_row(call.cluster, &node, &id, call.cluster.storage(&id)?);
    let sample = |time: u64| json!({ "time": time, "total": row["total"], "used": row["used"] });
    Ok(Reply::data(
        cluster::sample_times(call).map(sample).collect::<Value>(),
    ))
}

/// Refuses a volume whose name is invalid on the storage; `None` if it is valid.
pub(super) fn no_volume(call: &Call<'_>) -> Option<ApiResult<Reply>> {
    let storage = call.cluster.storage(&call.owned("storage")).ok()?;
    let name = own_name(call, &call.owned("volume"));
    let text = format!("unable to parse directory volume name '{name}'");
    (storage.is_file_based() && !is_file_name(&name)).then(|| Err(ApiError::die(text)))
}

/// Only backup servers have a fingerprint.
pub(super) fn identity(call: &Call<'_>) -> Option<ApiResult<Reply>> {
    let storage = match call.cluster.storage(&call.owned("storage")) {
        Ok(storage) => storage,
        Err(error) => return Some(Err(error)),
    };
    (storage.kind != "pbs").then(|| {
        Err(ApiError::die(
            "get_identity not implemented for this plugin at /usr/share/perl5/PVE/Storage/Plugin.pm line 2681.",
        ))
    })
}

pub(super) fn content(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let files = call.cluster.enabled_storage(&id, &node)?.is_file_based();
    let vmid = call.text("vmid").map(|_| call.vmid("vmid"));
    let rows = call
        .cluster
        .volumes
        .iter()
        .filter(|((on, _), volume)| volume.storage == id && (on.is_empty() || *on == node))
        .filter(|(_, volume)| call.text("content").is_none_or(|requested| requested == volume.content))
        .filter(|(_, volume)| vmid.is_none_or(|vmid| volume.vmid == Some(vmid)))
        .map(|((_, volid), volume)| {
            let mut row = json!({
                "volid": volid, "content": volume.content, "format": volume.format, "size": volume.size,
                "ctime": volume.created,
            });
            if let Some(vmid) = volume.vmid {
                row["vmid"] = json!(vmid);
            }
            if let Some(notes) = &volume.notes {
                row["notes"] = json!(notes);
            }
            if files && matches!(volume.content.as_str(), "images" | "rootdir") {
                row["used"] = json!(volume.size);
                row["parent"] = Value::Null;
            }
            if volume.content == "backup" {
                row["subtype"] = json!(if volid.contains("vzdump-lxc") { "lxc" } else { "qemu" });
                row["protected"] = json!(u8::from(volume.protected));
            }
            row
        });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn allocate(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let storage = call.cluster.storage(&id)?;
    let (vmid, name) = (call.vmid("vmid"), call.owned("filename"));
    let files = storage.is_file_based();
    let volid = if files {
        format!("{id}:{vmid}/{name}")
    } else {
        format!("{id}:{name}")
    };
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    match (
        ending.filter(|ending| ["raw", "qcow2", "vmdk"].contains(ending)),
        call.text("format"),
    ) {
        (Some(ending), Some(requested)) if ending != requested => {
            let text = format!("different storage formats ({requested} != {ending})");
            return Err(ApiError::parameter("format", text));
        }
        (None, _) if files => {
            return Err(ApiError::die(format!(
                "unable to parse volume filename '{name}'"
            )));
        }
        _ => {}
    }
    // A number without a unit is in kilobytes here, unlike elsewhere.
    let size = call.owned("size");
    let bytes = size
        .parse::<u64>()
        .ok()
        .and_then(|kib| kib.checked_mul(1024))
        .or_else(|| crate::state::guest::volumes::parse_size(&size))
        .ok_or_else(|| ApiError::parameter("size", "unable to parse size"))?;
    let place = match &storage.path {
        Some(path) if files => format!("{path}/images/{vmid}/{name}"),
        _ => volid.clone(),
    };
    let key = call.cluster.volume_key(&node, &volid);
    if call.cluster.volumes.contains_key(&key) {
        return Err(ApiError::die(format!(
            "disk image '{place}' already exists"
        )));
    }
    let created = call.cluster.now.as_secs();
    call.cluster.volumes.insert(
        key,
        Volume {
            storage: id,
            content: "images".into(),
            format: name
                .rsplit_once('.')
                .map_or("raw", |(_, format)| format)
                .to_owned(),
            size: bytes,
            vmid: Some(vmid),
            created,
            notes: None,
            protected: false,
            saved: None,
        },
    );
    Ok(Reply::data(volid))
}

pub(super) fn volume(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let volume = call.owned("volume");
    let volid = if volume.contains(':') {
        volume
    } else {
        format!("{id}:{volume}")
    };
    let key = call.cluster.volume_key(&node, &volid);
    let path = call
        .cluster
        .storage(&id)?
        .path
        .clone()
        .unwrap_or_else(|| format!("/dev/{id}"));
    let (notes, protected) = (
        call.text("notes").map(str::to_owned),
        call.text("protected").map(|p| p == "1"),
    );
    let method = call.method;
    let files = call.cluster.storage(&id)?.is_file_based();
    let Some(volume) = call.cluster.volumes.get_mut(&key) else {
        // A missing file needs no removal, and notes are stored beside it.
        let backup = volid.contains(":backup/");
        let name = volid.split_once(':').map_or("", |(_, name)| name);
        if files && !name.contains('/') {
            return Err(ApiError::die(format!(
                "unable to parse directory volume name '{name}'"
            )));
        }
        return match method {
            Method::Delete if files => {
                Ok(call.start("imgdel", volid, 0.5, Vec::new(), Effect::Nothing))
            }
            Method::Put if files && backup => Ok(Reply::data(Value::Null)),
            _ => Err(ApiError::die(format!(
                "volume_size_info on '{volid}' failed - no format"
            ))),
        };
    };
    match method {
        Method::Get => {
            let name = volid.split_once(':').map_or("", |(_, name)| name);
            let (directory, name) = match (volume.content.as_str(), name.split_once('/')) {
                ("iso", Some((_, name))) => ("template/iso/", name),
                ("vztmpl", Some((_, name))) => ("template/cache/", name),
                ("backup", Some((_, name))) => ("dump/", name),
                ("images" | "rootdir", _) if files => ("images/", name),
                _ => ("", name),
            };
            let name = name
                .strip_prefix("vztmpl/")
                .map_or_else(|| name.to_owned(), |name| format!("cache/{name}"));
            let mut row = json!({
                "path": format!("{path}/{directory}{name}"), "size": volume.size, "used": volume.size,
                "format": if volume.format == "qcow2" { "qcow2" } else { "raw" },
            });
            if let Some(notes) = &volume.notes {
                row["notes"] = json!(notes);
            }
            Ok(Reply::data(row))
        }
        Method::Put => {
            volume.notes = notes.or(volume.notes.take());
            volume.protected = protected.unwrap_or(volume.protected);
            Ok(Reply::data(Value::Null))
        }
        _ => Ok(call.start("imgdel", volid, 0.5, Vec::new(), Effect::DeleteVolume(key))),
    }
}

/// `POST /nodes/{node}/storage/{storage}/download-url`. The builder provides files by address; any
/// other address has a file of 64 MiB with an unknown checksum.
pub(super) fn download(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id, url) = (call.owned("node"), call.owned("storage"), call.owned("url"));
    let content = call.owned("content");
    let storage = call.cluster.enabled_storage(&id, &node)?;
    if !storage.is_file_based() {
        return Err(ApiError::die(format!(
            "can't upload to storage type '{}', not a file based storage!",
            storage.kind
        )));
    }
    if !storage.holds(&content) {
        return Err(ApiError::die(format!(
            "storage '{id}' is not configured for content-type '{content}'"
        )));
    }
    let name = stored_name(&call.owned("filename"));
    if !extension_fits(&content, &name) {
        let problem = match content.as_str() {
            "import" => "invalid filename or wrong extension",
            _ => "wrong file extension",
        };
        return Err(ApiError::parameter("filename", problem));
    }
    let folder = if content == "import" { "" } else { "template/" };
    let place = match content.as_str() {
        "vztmpl" => "cache",
        other => other,
    };
    let path = format!(
        "{}/{folder}{place}/{name}",
        storage.path.clone().unwrap_or_default()
    );
    let volid = format!("{id}:{content}/{name}");
    let key = call.cluster.volume_key(&node, &volid);
    let exists = call.cluster.volumes.contains_key(&key);
    let file = match exists {
        true => call.cluster.downloads.get(&key).cloned(),
        false => call.cluster.web.get(&url).cloned(),
    };
    let expected = (call.text("checksum")).zip(call.text("checksum-algorithm"));
    let sum = expected.map(|(expected, algorithm)| {
        let found = match &file {
            Some(file) => checksum(algorithm, file),
            None => checksum(algorithm, url.as_bytes()),
        };
        (expected.to_owned(), found)
    });
    let packed = match call.text("compression") {
        Some(_) if content != "iso" => Some(format!("decompression not supported for {content}")),
        Some("gz" | "lzo" | "zst" | "bz2") | None => None,
        Some(_) => Some("no decompression method found".to_owned()),
    };
    if let Some(problem) = packed {
        return Ok(call.fail("download", name, problem));
    }
    let mut lines = vec![format!("downloading {url} to {path}")];
    let problem = match &sum {
        None if exists => Some(format!("refusing to override existing file '{path}'")),
        Some((expected, found)) if !expected.eq_ignore_ascii_case(found) => Some(format!(
            "checksum mismatch: got '{found}' != expect '{expected}'{}",
            if exists { ", aborting" } else { "" }
        )),
        _ => None,
    };
    if let Some(problem) = problem {
        return Ok(call.start("download", name, 2.0, lines, Effect::Fail(problem)));
    }
    if exists {
        lines.push("calculating checksum of existing file...OK, got correct file already".into());
        return Ok(call.start("download", name, 1.0, lines, Effect::Nothing));
    }
    let size = match &file {
        Some(file) => u64::try_from(file.len()).unwrap_or(u64::MAX),
        None => 64 << 20,
    };
    let volume = Volume {
        storage: id,
        format: match content.as_str() {
            "vztmpl" => "tgz".to_owned(),
            "import" => (name.rsplit_once('.'))
                .map_or("raw", |(_, ending)| ending)
                .to_owned(),
            _ => "iso".to_owned(),
        },
        content,
        size,
        vmid: None,
        created: call.cluster.now.as_secs(),
        notes: None,
        protected: false,
        saved: None,
    };
    lines.push(format!("download of '{url}' to '{path}' finished"));
    let mut effects = vec![Effect::AddVolume(key.clone(), volume)];
    if let Some(file) = file {
        effects.push(Effect::Downloaded(key, file));
    }
    Ok(call.start("download", name, 2.0, lines, Effect::All(effects)))
}

/// `POST /nodes/{node}/storage/{storage}/oci-registry-pull`: images provided by the builder.
pub(super) fn pull(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id, reference) = (
        call.owned("node"),
        call.owned("storage"),
        call.owned("reference"),
    );
    let storage = call.cluster.enabled_storage(&id, &node)?;
    if !storage.holds("vztmpl") {
        return Err(ApiError::die(format!(
            "storage '{id}' is not configured for content-type 'vztmpl'"
        )));
    }
    let file_name = call.text("filename").unwrap_or(&reference);
    let name = format!("{}.tar", stored_name(file_name));
    let key = call
        .cluster
        .volume_key(&node, &format!("{id}:vztmpl/{name}"));
    if call.cluster.volumes.contains_key(&key) {
        return Err(ApiError::die(format!(
            "refusing to override existing file '{name}'"
        )));
    }
    let Some(image) = call.cluster.web.get(&format!("oci:{reference}")) else {
        let text = format!("reading manifest of docker://{reference}: manifest unknown");
        return Ok(call.fail("ociregistrypull", name, text));
    };
    let volume = Volume {
        storage: id,
        content: "vztmpl".into(),
        format: "tar".into(),
        size: u64::try_from(image.len()).unwrap_or(u64::MAX),
        vmid: None,
        created: call.cluster.now.as_secs(),
        notes: None,
        protected: false,
        saved: None,
    };
    let lines = vec![format!("Copying docker://{reference}")];
    Ok(call.start(
        "ociregistrypull",
        name,
        2.0,
        lines,
        Effect::AddVolume(key, volume),
    ))
}

/// `GET /nodes/{node}/query-oci-repo-tags`.
pub(super) fn tags(call: &Call<'_>) -> ApiResult<Reply> {
    let start = format!("oci:{}:", call.owned("reference"));
    let tags = call
        .cluster
        .web
        .keys()
        .filter_map(|key| key.strip_prefix(&start));
    Ok(Reply::data(tags.map(|tag| json!(tag)).collect::<Value>()))
}

pub(super) fn upload(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id, content) = (
        call.owned("node"),
        call.owned("storage"),
        call.owned("content"),
    );
    let name = stored_name(&call.owned("filename"));
    let storage = call.cluster.storage(&id)?;
    if !storage.holds(&content) {
        return Err(ApiError::die(format!(
            "can't upload to storage type '{}', not configured for '{content}'",
            storage.kind
        )));
    }
    if !extension_fits(&content, &name) {
        return Err(ApiError::parameter("filename", "wrong file extension"));
    }
    let (size, actual) = call
        .upload
        .take()
        .map_or((0, None), |file| (file.size, file.checksum));
    let expected = call.text("checksum").zip(actual);
    if let Some((expected, actual)) =
        expected.filter(|(expected, actual)| !expected.eq_ignore_ascii_case(actual))
    {
        let error = format!("checksum mismatch: got '{actual}' != expect '{expected}'");
        return Ok(call.fail("imgcopy", "", error));
    }
    let path = storage.path.clone().unwrap_or_default();
    let volid = format!("{id}:{content}/{name}");
    let volume = Volume {
        storage: id,
        format: name
            .rsplit_once('.')
            .map_or("raw", |(_, format)| format)
            .to_owned(),
        content,
        size,
        vmid: None,
        created: call.cluster.now.as_secs(),
        notes: None,
        protected: false,
        saved: None,
    };
    let lines = vec![
        format!("target file: {path}/template/{name}"),
        format!("file size is: {}", volume.size),
        "finished file import successfully".into(),
    ];
    let key = call.cluster.volume_key(&node, &volid);
    Ok(call.start("imgcopy", "", 0.5, lines, Effect::AddVolume(key, volume)))
}
