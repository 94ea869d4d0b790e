//! New guests, empty or from a backup.

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::guests::params::config_params;
use crate::propstring;
use crate::state::config::Config;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{as_new_disk, parse_volume_name, volume_of};
use crate::state::guest::{Guest, GuestEffect, Kind, check_lock};

/// Refuses texts that are not SSH public keys: a key type followed by text. The key itself is not
/// checked.
pub(super) fn check_keys(text: &str) -> ApiResult<()> {
    let is_key = |line: &str| {
        // Options may precede the type.
        let mut words = line.split_whitespace().skip_while(|word| {
            !["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"]
                .iter()
                .any(|start| word.starts_with(start))
        });
        let coded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        words.next().is_some() && words.next().is_some_and(|key| key.chars().all(coded))
    };
    let mut lines = text.split('\n').filter(|line| !line.trim().is_empty());
    if lines.all(|line| line.starts_with('#') || is_key(line)) {
        return Ok(());
    }
    Err(ApiError::die("SSH public key validation error"))
}

/// Keys in the form of a virtual machine's configuration.
pub(super) fn check_encoded_keys(call: &Call<'_>) -> ApiResult<()> {
    let Some(text) = call.text("sshkeys") else {
        return Ok(());
    };
    let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    check_keys(&text)
}

/// Checks that the disks of a virtual machine can be created or used.
pub(super) fn check_storages(call: &Call<'_>, config: &Config) -> ApiResult<()> {
    for (key, value) in config {
        let volid = volume_of(value);
        let Some((id, name)) = volid.split_once(':') else {
            continue;
        };
        if !Kind::Qemu.is_disk(key) || name == "cloudinit" {
            continue;
        }
        let cdrom = value.contains("media=cdrom");
        let fresh = name.parse::<f64>().is_ok();
        let storage = call.cluster.storage(id)?;
        if fresh && !cdrom {
            if !storage.holds("images") {
                let text = format!("storage '{id}' does not support vm images");
                return Err(ApiError::parameter("storage", text));
            }
            check_import(call, key, value)?;
            continue;
        }
        let (content, _) = parse_volume_name(name);
        if key.starts_with("unused") {
            if content != "images" {
                return Err(ApiError::die(format!(
                    "unable to use volume {volid} - content type needs to be 'images'"
                )));
            }
        } else if !matches!(content, "images" | "iso") {
            let text = "content type needs to be 'images' or 'iso'";
            return Err(ApiError::parameter(key, text));
        }
    }
    Ok(())
}

/// Checks that a disk may be imported from a source. Volumes other than disks are accepted since
/// 8.3.
fn check_import(call: &Call<'_>, key: &str, value: &str) -> ApiResult<()> {
    let Some(source) = propstring::value(value, "import-from") else {
        return Ok(());
    };
    let Some((_, name)) = source.split_once(':').filter(|_| !source.starts_with('/')) else {
        if call.caller.is_root() {
            return Ok(());
        }
        return Err(ApiError::die(
            "Only root can pass arbitrary filesystem paths.",
        ));
    };
    let release = call.cluster.schema.release();
    let (content, _) = parse_volume_name(name);
    let imports = (release.major, release.minor) >= (8, 3);
    if content == "images" || imports && content == "import" {
        return Ok(());
    }
    let required = match imports {
        true => "needs to be 'images' or 'import'",
        false => "not an image",
    };
    let text = format!("{source} has wrong type '{content}' - {required}");
    Err(ApiError::parameter(key, text))
}

/// The name of a file has its owner; the name of a volume must be valid.
pub(super) fn check_names(call: &Call<'_>, kind: Kind, config: &Config) -> ApiResult<()> {
    for (key, value) in config.iter().filter(|(key, _)| kind.is_disk(key)) {
        let Some((id, name)) = volume_of(value).split_once(':') else {
            continue;
        };
        let files = call.cluster.storage(id)?.is_file_based();
        let fresh = name == "cloudinit" || name.parse::<f64>().is_ok();
        if files && !fresh && !name.contains('/') && !key.starts_with("unused") {
            return Err(ApiError::die(format!(
                "unable to parse directory volume name '{name}'"
            )));
        }
    }
    Ok(())
}

/// CPU types of QEMU or Proxmox VE.
const CPU_TYPES: &str = "x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4 \
    486 a64fx athlon Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Cascadelake-Server \
    Cascadelake-Server-noTSX Cascadelake-Server-v2 Cascadelake-Server-v4 Cascadelake-Server-v5 \
    ClearwaterForest ClearwaterForest-v2 ClearwaterForest-v3 Conroe Cooperlake Cooperlake-v2 core2duo \
    coreduo cortex-a35 cortex-a53 cortex-a55 cortex-a57 cortex-a710 cortex-a72 cortex-a76 cortex-a78ae \
    DiamondRapids EPYC EPYC-Genoa EPYC-Genoa-v2 EPYC-IBPB EPYC-Milan EPYC-Milan-v2 EPYC-Milan-v3 \
    EPYC-Rome EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-Turin EPYC-v3 EPYC-v4 EPYC-v5 \
    GraniteRapids GraniteRapids-v2 GraniteRapids-v3 GraniteRapids-v4 GraniteRapids-v5 Haswell \
    Haswell-IBRS Haswell-noTSX Haswell-noTSX-IBRS host Icelake-Client Icelake-Client-noTSX \
    Icelake-Server Icelake-Server-noTSX Icelake-Server-v3 Icelake-Server-v4 Icelake-Server-v5 \
    Icelake-Server-v6 Icelake-Server-v7 IvyBridge IvyBridge-IBRS KnightsMill kvm32 kvm64 max Nehalem \
    Nehalem-IBRS neoverse-n1 neoverse-n2 neoverse-v1 Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 \
    Opteron_G5 Penryn pentium pentium2 pentium3 phenom qemu32 qemu64 SandyBridge SandyBridge-IBRS \
    SapphireRapids SapphireRapids-v2 SapphireRapids-v3 SapphireRapids-v4 SapphireRapids-v5 \
    SapphireRapids-v6 SierraForest SierraForest-v2 SierraForest-v3 SierraForest-v4 SierraForest-v5 \
    Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4 Skylake-Server \
    Skylake-Server-IBRS Skylake-Server-noTSX-IBRS Skylake-Server-v4 Skylake-Server-v5 Westmere \
    Westmere-IBRS";

/// Whether a CPU type exists.
pub(super) fn check_cpu(call: &Call<'_>, config: &Config) -> ApiResult<()> {
    let Some(text) = config.get("cpu") else {
        return Ok(());
    };
    let kind = text
        .split(',')
        .find_map(|part| match part.split_once('=') {
            None => Some(part),
            Some(("cputype", kind)) => Some(kind),
            Some(_) => None,
        })
        .unwrap_or("kvm64");
    let refuse = |error: String| {
        Err(ApiError::parameter(
            "cpu",
            format!("invalid format - {error}\n"),
        ))
    };
    if let Some(name) = kind.strip_prefix("custom-") {
        let mut models = call.cluster.rows("/cluster/qemu/custom-cpu-models").iter();
        let known = models.any(|(key, _)| key == name || key == kind);
        return match known {
            true => Ok(()),
            false => refuse(format!("Custom cputype '{name}' not found")),
        };
    }
    match CPU_TYPES.split_whitespace().any(|other| other == kind) {
        true => Ok(()),
        false => refuse(format!(
            "Built-in cputype '{kind}' is not defined (missing 'custom-' prefix?)"
        )),
    }
}

/// Checks the syntax of a virtual machine's disks.
pub(super) fn check_drives(config: &Config) -> ApiResult<()> {
    for (key, value) in config {
        if !Kind::Qemu.is_disk(key) || key.starts_with("unused") {
            continue;
        }
        let has = |name: &str| value.split(',').any(|part| part.starts_with(name));
        let name = volume_of(value)
            .split_once(':')
            .map_or("", |(_, name)| name);
        if has("import-from=") {
            if name.parse::<f64>() != Ok(0.0) {
                let text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>";
                return Err(ApiError::parameter(key, text));
            }
            let required: &[&str] = match key.as_str() {
                "efidisk0" => &["efitype", "pre-enrolled-keys"],
                "tpmstate0" => &["version"],
                _ => &[],
            };
            if let Some(missing) = required.iter().find(|name| !has(&format!("{name}="))) {
                let text = format!("need to specify '{missing}' when using 'import-from'");
                return Err(ApiError::parameter(key, text));
            }
        }
        if parse_volume_name(name).0 == "iso" && !has("media=cdrom") {
            let text = "explicit 'media=cdrom' is required for iso images";
            return Err(ApiError::parameter(key, text));
        }
    }
    Ok(())
}

/// The source of a new guest.
struct Origin {
    restore: bool,
    /// An archive or a template.
    source: Option<String>,
}

/// Refuses an impossible guest, in the server's order of checks.
fn check(call: &Call<'_>, kind: Kind, origin: &Origin, config: &Config) -> ApiResult<()> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let pool = |call: &Call<'_>| match call.text("pool") {
        Some(pool) if !call.cluster.pools.contains_key(pool) => Err(ApiError::permission(
            &format!("pool '{pool}' does not exist"),
        )),
        _ => Ok(()),
    };
    let required = match (kind, origin.restore) {
        (Kind::Lxc, false) => "vztmpl",
        _ => "backup",
    };
    let source = origin.source.as_deref();
    let content = source
        .and_then(|source| source.split_once(':'))
        .map(|(_, name)| parse_volume_name(name).0);
    if let (Some(content), Some(source)) = (content, source)
        && content != required
    {
        return Err(ApiError::die(format!(
            "unable to use volume {source} - content type needs to be '{required}'"
        )));
    }
    let present = |source: &str| {
        let key = call.cluster.volume_key(&node, source);
        call.cluster.volumes.contains_key(&key)
    };
    let force = origin.restore && call.flag("force");
    let other = call.cluster.guests.get(&vmid);
    let same = other.filter(|other| force && other.kind == kind && other.node == node);
    match kind {
        Kind::Qemu => {
            check_encoded_keys(call)?;
            pool(call)?;
            if let Some(source) = source {
                if let Some(key) = config.keys().find(|key| kind.is_disk(key)) {
                    let text = "option conflicts with option 'archive'";
                    return Err(ApiError::parameter(key, text));
                }
                if let Some((storage, _)) = source.split_once(':') {
                    call.cluster.storage(storage)?;
                    if !present(source) {
                        let text = format!("volume '{source}' does not exist");
                        return Err(ApiError::die(text));
                    }
                } else {
                    return Err(ApiError::die(format!("can't find file '{source}'")));
                }
            }
            check_cpu(call, config)?;
            check_storages(call, config)?;
            check_names(call, kind, config)?;
            check_drives(config)?;
            let verb = if origin.restore { "restore" } else { "create" };
            if let Some(other) = other.filter(|_| same.is_none()) {
                let text = format!(
                    "unable to {verb} VM {vmid} - {}",
                    other.already_exists_text(vmid)
                );
                return Err(ApiError::die(text));
            }
            if let Some(Err(error)) = same.map(check_lock) {
                return Err(ApiError::die(format!(
                    "unable to {verb} VM {vmid} - {error}"
                )));
            }
            Ok(())
        }
        Kind::Lxc => {
            if let Some(other) = other.filter(|_| same.is_none()) {
                return Err(ApiError::die(other.already_exists_text(vmid)));
            }
            if let Some(old) = same {
                if old.running() {
                    return Err(ApiError::die("can't overwrite running container"));
                }
                if old.protected() {
                    let text = format!("unable to restore CT {vmid} - protection mode enabled");
                    return Err(ApiError::die(text));
                }
            }
            if let Some(keys) = call.text("ssh-public-keys") {
                check_keys(keys)?;
            }
            pool(call)?;
            let disks: Vec<_> = config.iter().filter(|(key, _)| kind.is_disk(key)).collect();
            if !disks.is_empty() && !config.contains_key("rootfs") {
                let text = "mount points configured, but 'rootfs' not set - aborting";
                return Err(ApiError::die(text));
            }
            let mut storages: Vec<&str> = disks
                .iter()
                .filter_map(|(_, value)| Some(volume_of(value).split_once(':')?.0))
                .collect();
            if storages.is_empty() {
                storages.push(call.text("storage").unwrap_or("local"));
            }
            for id in storages {
                if !call.cluster.enabled_storage(id, &node)?.holds("rootdir") {
                    let text = format!("storage '{id}' does not support container directories");
                    return Err(ApiError::parameter("storage", text));
                }
            }
            match same.map(check_lock) {
                Some(Err(error)) => Err(ApiError::die(format!(
                    "unable to restore CT {vmid} - {error}"
                ))),
                _ => Ok(()),
            }
        }
    }
}

pub(super) fn create(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let noun = kind.noun();
    let origin = Origin {
        restore: call.text("archive").is_some() || call.flag("restore"),
        source: match kind {
            Kind::Qemu => call.text("archive"),
            Kind::Lxc => call.text("ostemplate"),
        }
        .map(str::to_owned),
    };
    let mut config = config_params(call);
    if kind == Kind::Lxc {
        // A size without a storage uses the call's `storage`.
        let storage = call.text("storage").unwrap_or("local").to_owned();
        for (key, value) in &mut config {
            if kind.is_disk(key) && volume_of(value).parse::<f64>().is_ok() {
                *value = format!("{storage}:{value}");
            }
        }
    }
    check(call, kind, &origin, &config)?;
    let task = match (kind, origin.restore) {
        (Kind::Qemu, false) => "qmcreate",
        (Kind::Qemu, true) => "qmrestore",
        (Kind::Lxc, false) => "vzcreate",
        (Kind::Lxc, true) => "vzrestore",
    };
    let verb = if origin.restore { "restore" } else { "create" };
    if let Some(old) = call.cluster.guests.get(&vmid) {
        // The task checks the machine that a backup replaces.
        let refusal = if old.protected() {
            Some(format!(
                "unable to restore VM {vmid} - - protection mode enabled"
            ))
        } else {
            old.running()
                .then(|| format!("unable to restore VM {vmid} - vm is running"))
        };
        if let Some(text) = refusal {
            return Ok(call.fail(task, vmid, text));
        }
    }
    if kind == Kind::Lxc
        && let Err(error) = check_names(call, kind, &config)
    {
        let text = format!("unable to {verb} CT {vmid} - {}", error.message.trim_end());
        return Ok(call.fail(task, vmid, text));
    }
    let mut lines = Vec::new();
    if let Some(source) = &origin.source {
        let key = call.cluster.volume_key(&node, source);
        let Some(volume) = call.cluster.volumes.get(&key) else {
            let what = match source.contains(':') {
                true => format!("volume '{source}' does not exist"),
                false => format!("can't find file '{source}'"),
            };
            let text = format!("unable to {verb} {noun} {vmid} - {what}");
            return Ok(call.fail(task, vmid, text));
        };
        if origin.restore {
            let storage = call.text("storage");
            for (key, value) in volume.saved.clone().unwrap_or_default() {
                let value = if kind.is_disk(&key) {
                    as_new_disk(&value, storage).unwrap_or(value)
                } else {
                    value
                };
                config.entry(key).or_insert(value);
            }
        }
        lines.push(format!("extracting archive '{source}'"));
    }
    call.cluster.guests.remove(&vmid);
    call.cluster
        .volumes
        .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
    if kind == Kind::Lxc && !config.contains_key("rootfs") {
        let storage = call.text("storage").unwrap_or("local");
        config.insert("rootfs".into(), format!("{storage}:4"));
    }
    let config = match call.cluster.build(kind, &node, vmid, &config) {
        Ok((config, log)) => {
            lines.splice(0..0, log);
            config
        }
        Err(error) => {
            let text = format!("unable to {verb} {noun} {vmid} - {error}");
            return Ok(call.fail(task, vmid, text));
        }
    };
    let mut guest = Guest::new(kind, &node, config);
    guest.lock = Some("create".into());
    guest.pool = call.text("pool").map(str::to_owned);
    call.cluster.guests.insert(vmid, guest);
    let effect = GuestEffect::Created {
        start: call.flag("start"),
    };
    Ok(call.start(task, vmid, 2.0, lines, Effect::Guest(vmid, effect)))
}
