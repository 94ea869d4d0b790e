//! Backups of guests.

use serde_json::json;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::clock::iso_date;
use crate::formats::split_list;
use crate::params::Param;
use crate::state::effect::Effect;
use crate::state::guest::{Guest, Kind, check_lock};
use crate::state::storage::{Volume, VolumeKey};

/// The error of an invalid template for notes.
fn misfit(template: &str) -> Option<String> {
    if template.contains('\n') {
        return Some("contains a line feed".into());
    }
    let mut unknown = Vec::new();
    let mut at = 0;
    while let Some(found) = template[at..].find('\\') {
        let place = at + found;
        let Some(letter) = template[place + 1..].chars().next() else {
            break;
        };
        if !matches!(letter, 'n' | '\\') {
            unknown.push(format!("escape sequence '\\{letter}' at char {place}"));
        }
        at = place + 1 + letter.len_utf8();
    }
    for (start, _) in template.match_indices("{{") {
        let Some(length) = template[start + 2..].find("}}") else {
            continue;
        };
        let name = &template[start + 2..start + 2 + length];
        let plain =
            !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "{}".contains(c));
        if plain && !matches!(name, "cluster" | "guestname" | "node" | "vmid") {
            unknown.push(format!("variable '{name}' at char {}", start + 4));
        }
    }
    (!unknown.is_empty()).then(|| format!("found unknown: {}", unknown.join(", ")))
}

/// The notes that a template gives for a guest.
fn notes(template: &str, cluster: &str, guest: &Guest, vmid: u32) -> String {
    let mut out = String::new();
    let mut letters = template.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.clone().next() == Some('n') => {
                letters.next();
                out.push('\n');
            }
            '\\' => {
                letters.next();
                out.push('\\');
            }
            letter => out.push(letter),
        }
    }
    [
        ("{{cluster}}", cluster.to_owned()),
        ("{{guestname}}", guest.name(vmid)),
        ("{{node}}", guest.node.clone()),
        ("{{vmid}}", vmid.to_string()),
    ]
    .into_iter()
    .fold(out, |text, (name, value)| text.replace(name, &value))
}

/// Refuses parameters that contradict each other.
pub(super) fn check(call: &Call<'_>, complete: bool) -> ApiResult<()> {
    if call.params.contains_key("vmid") {
        for key in ["all", "exclude", "pool"] {
            let is_set = match key {
                "all" => call.flag(key),
                key => call.params.contains_key(key),
            };
            if is_set {
                return Err(ApiError::parameter(
                    key,
                    "option conflicts with option 'vmid'",
                ));
            }
        }
    }
    if let Some(text) = call.text("notes-template").and_then(misfit) {
        return Err(ApiError::parameter("notes-template", format!("{text}\n")));
    }
    let chosen = ["all", "stop"].iter().any(|key| call.flag(key))
        || ["pool", "vmid", "exclude"]
            .iter()
            .any(|key| call.params.contains_key(*key));
    if complete && !chosen {
        return Err(ApiError::parameter("vmid", "property is missing"));
    }
    Ok(())
}

/// The guests of a backup, on any node.
fn chosen(call: &Call<'_>) -> ApiResult<Vec<u32>> {
    let cluster = &*call.cluster;
    if let Some(pool) = call.text("pool") {
        if !cluster.pools.contains_key(pool) {
            return Err(ApiError::die(format!("pool '{pool}' does not exist")));
        }
        let members = cluster.guests.iter();
        return Ok(members
            .filter(|(_, guest)| guest.pool.as_deref() == Some(pool))
            .map(|(vmid, _)| *vmid)
            .collect());
    }
    if let Some(ids) = call.text("vmid") {
        let mut ids: Vec<u32> = split_list(ids).filter_map(|id| id.parse().ok()).collect();
        ids.sort_unstable();
        return Ok(ids);
    }
    if !call.flag("all") && !call.params.contains_key("exclude") {
        return Ok(Vec::new());
    }
    let left: Vec<u32> = split_list(call.text("exclude").unwrap_or(""))
        .filter_map(|id| id.parse().ok())
        .collect();
    let all = cluster.guests.keys().copied();
    Ok(all.filter(|vmid| !left.contains(vmid)).collect())
}

/// A backup to the standard output is refused before other checks.
pub(crate) fn no_output(call: &Call<'_>) -> ApiResult<()> {
    if call.flag("stdout") {
        let text = "option is only allowed on the command line interface.";
        return Err(ApiError::parameter("stdout", text));
    }
    Ok(())
}

/// The order as it is written into the log of its task: as somebody would give it at the node.
fn command_line(call: &Call<'_>) -> String {
    let mut line = "vzdump".to_owned();
    for vmid in split_list(call.text("vmid").unwrap_or("")) {
        line.push(' ');
        line.push_str(vmid);
    }
    for (name, param) in &call.params {
        if NOT_LOGGED.contains(&name.as_str()) {
            continue;
        }
        let items = match param {
            Param::List(items) => items.as_slice(),
            param => std::slice::from_ref(param),
        };
        for text in items
            .iter()
            .filter_map(Param::text)
            .filter(|text| !text.is_empty())
        {
            line.push_str(&format!(" --{name} {}", quoted(text)));
        }
    }
    line
}

/// What says which guests, when, or who asks.
const NOT_LOGGED: [&str; 7] = [
    "id",
    "vmid",
    "starttime",
    "dow",
    "stdout",
    "enabled",
    "job-id",
];

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_!%+,-./:=@^".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `POST /nodes/{node}/vzdump`: what it takes of guests on this node; those elsewhere are none of its business.
pub(super) fn start(call: &mut Call<'_>) -> ApiResult<Reply> {
    no_output(call)?;
    check(call, true)?;
    let node = call.owned("node");
    let all = call.flag("all")
        || call.params.contains_key("exclude") && !call.params.contains_key("pool");
    // Guests that do not exist count as local, so that the task fails for them.
    let mut here: Vec<u32> = chosen(call)?;
    here.retain(|vmid| {
        call.cluster
            .guests
            .get(vmid)
            .is_none_or(|guest| guest.node == node)
    });
    if here.is_empty() && !all {
        return Ok(Reply::data(json!("OK")));
    }
    let id = call.text("storage").unwrap_or("local").to_owned();
    let task = match here.as_slice() {
        [one] => one.to_string(),
        _ => String::new(),
    };
    let problem = match call.cluster.storages.get(&id) {
        None => Some(format!("storage '{id}' does not exist")),
        Some(storage) if !storage.holds("backup") => Some(format!(
            "can't use storage '{id}' for backups - wrong content type"
        )),
        Some(_) => None,
    };
    if let Some(problem) = problem {
        let text = format!("could not get storage information for '{id}': {problem}");
        let text = match call.cluster.storages.contains_key(&id) {
            true => text,
            false => format!("could not activate storage '{id}': {problem}\n{text}"),
        };
        return Ok(call.fail("vzdump", task, text));
    }
    let mut lines = vec![format!(
        "INFO: starting new backup job: {}",
        command_line(call)
    )];
    let mut effects = Vec::new();
    let mut failed = false;
    for vmid in here {
        let may = call.may(&format!("/vms/{vmid}"), "VM.Backup");
        match call.cluster.guests.get(&vmid) {
            Some(_) if !may && all => continue,
            Some(_) if !may => {
                let text = format!("Permission check failed (/vms/{vmid}, VM.Backup)");
                return Ok(call.fail("vzdump", task, text));
            }
            Some(guest) => match check_lock(guest) {
                Ok(()) => {
                    let (volume, log) = archive(call, &id, vmid, guest);
                    lines.extend(log);
                    let key = call.cluster.volume_key(&node, &volume.0);
                    effects.push(Effect::AddVolume(key, volume.1));
                }
                Err(error) => {
                    failed = true;
                    lines.push(format!("ERROR: Backup of VM {vmid} failed - {error}"));
                }
            },
            None => {
                failed = true;
                let error = format!("unable to find VM '{vmid}'");
                lines.push(format!("ERROR: Backup of VM {vmid} failed - {error}"));
            }
        }
    }
    lines.push(format!(
        "INFO: Backup job finished {}",
        if failed {
            "with errors"
        } else {
            "successfully"
        }
    ));
    if failed {
        effects.push(Effect::Fail("job errors".into()));
    }
    let seconds = if effects.is_empty() { 0.5 } else { 4.0 };
    Ok(call.start("vzdump", task, seconds, lines, Effect::All(effects)))
}

/// `GET /nodes/{node}/vzdump/extractconfig`: the configuration as its file has it.
pub(super) fn config(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, volid) = (call.owned("node"), call.owned("volume"));
    if let Some(Err(text)) = crate::formats::check("pve-volume-id", &volid) {
        return Err(ApiError::die(text.trim_end()));
    }
    let key = call.cluster.volume_key(&node, &volid);
    let Some(volume) = call.cluster.volumes.get(&key) else {
        return Err(ApiError::die(format!("volume '{volid}' does not exist")));
    };
    let lines: String = (volume.saved.iter().flatten())
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect();
    Ok(Reply::data(lines))
}

/// How many backups of each period a rule keeps.
fn rule(call: &Call<'_>) -> Vec<(String, usize)> {
    let parameter = call.text("prune-backups").map(str::to_owned);
    let text = parameter.or_else(|| {
        let storage = call.cluster.storages.get(&call.owned("storage"))?;
        storage.settings.get("prune-backups").cloned()
    });
    let text = text.unwrap_or_default();
    (text.split(','))
        .filter_map(|part| part.split_once('='))
        .filter_map(|(key, count)| Some((key.to_owned(), count.parse().ok()?)))
        .collect()
}

/// The period of a time in which a rule keeps one backup.
fn period(rule: &str, time: u64) -> Option<String> {
    let date = iso_date(time);
    Some(match rule {
        "keep-hourly" => date.get(..13)?.to_owned(),
        "keep-daily" => date.get(..10)?.to_owned(),
        // 1970-01-01 was a Thursday.
        "keep-weekly" => ((time / 86_400 + 3) / 7).to_string(),
        "keep-monthly" => date.get(..7)?.to_owned(),
        "keep-yearly" => date.get(..4)?.to_owned(),
        _ => return None,
    })
}

/// Backups of a storage with their prune marks, the newest of each guest first.
fn marked(call: &Call<'_>) -> Vec<(VolumeKey, Volume, &'static str)> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let kind = call.text("type");
    let vmid = call.text("vmid").map(|_| call.vmid("vmid"));
    let mut found: Vec<(VolumeKey, Volume, &'static str)> = (call.cluster.volumes.iter())
        .filter(|((on, _), volume)| volume.storage == id && (on.is_empty() || *on == node))
        .filter(|(_, volume)| volume.content == "backup")
        .filter(|(_, volume)| vmid.is_none_or(|vmid| volume.vmid == Some(vmid)))
        .filter(|((_, volid), _)| {
            kind.is_none_or(|kind| volid.contains(&format!("vzdump-{kind}-")))
        })
        .map(|(key, volume)| (key.clone(), volume.clone(), "remove"))
        .collect();
    found.sort_by_key(|(key, volume, _)| {
        (volume.vmid, std::cmp::Reverse(volume.created), key.clone())
    });
    let rules = rule(call);
    let all = rules
        .iter()
        .any(|(key, count)| key == "keep-all" && *count > 0);
    for group in found.chunk_by_mut(|(_, a, _), (_, b, _)| a.vmid == b.vmid) {
        for (_, volume, mark) in group.iter_mut() {
            if volume.protected {
                *mark = "protected";
            } else if all {
                *mark = "keep";
            }
        }
        for (key, count) in &rules {
            if key == "keep-last" {
                let open = group.iter_mut().filter(|(.., mark)| *mark == "remove");
                open.take(*count).for_each(|(.., mark)| *mark = "keep");
                continue;
            }
            let mut covered: Vec<String> = (group.iter())
                .filter(|(.., mark)| *mark == "keep")
                .filter_map(|(_, volume, _)| period(key, volume.created))
                .collect();
            let mut kept = 0;
            for (_, volume, mark) in group.iter_mut().filter(|(.., mark)| *mark == "remove") {
                let own = period(key, volume.created);
                if let Some(own) = own.filter(|own| kept < *count && !covered.contains(own)) {
                    covered.push(own);
                    *mark = "keep";
                    kept += 1;
                }
            }
        }
    }
    found
}

/// `GET /nodes/{node}/storage/{storage}/prunebackups`.
pub(super) fn prune_preview(call: &Call<'_>) -> ApiResult<Reply> {
    call.cluster.storage(&call.owned("storage"))?;
    check_rule(call).map_err(ApiError::die)?;
    let rows = marked(call).into_iter().map(|((_, volid), volume, mark)| {
        json!({
            "volid": volid, "ctime": volume.created, "mark": mark, "vmid": volume.vmid,
            "type": if volid.contains("vzdump-lxc") { "lxc" } else { "qemu" },
        })
    });
    Ok(Reply::data(rows.collect::<serde_json::Value>()))
}

/// At least one retention option is required.
fn check_rule(call: &Call<'_>) -> Result<(), String> {
    match rule(call).is_empty() {
        true => Err(format!(
            "no prune-backups options configured for storage '{}'",
            call.owned("storage")
        )),
        false => Ok(()),
    }
}

/// `DELETE /nodes/{node}/storage/{storage}/prunebackups`.
pub(super) fn prune(call: &mut Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("storage");
    call.cluster.storage(&id)?;
    if let Err(text) = check_rule(call) {
        return Ok(call.fail("prunebackups", id, text));
    }
    let mut lines = Vec::new();
    let mut effects = Vec::new();
    for (key, _, mark) in marked(call) {
        lines.push(format!("{mark} {}", key.1));
        if mark == "remove" {
            effects.push(Effect::DeleteVolume(key));
        }
    }
    Ok(call.start("prunebackups", id, 1.0, lines, Effect::All(effects)))
}

/// The archive of a guest, and the log lines of its backup.
fn archive(
    call: &Call<'_>,
    storage: &str,
    vmid: u32,
    guest: &Guest,
) -> ((String, Volume), Vec<String>) {
    let now = call.cluster.now.as_secs();
    let stamp = iso_date(now)
        .trim_end_matches('Z')
        .replace(['-', ':'], "_")
        .replace('T', "-");
    let (api, extension) = match guest.kind {
        Kind::Qemu => ("qemu", "vma.zst"),
        Kind::Lxc => ("lxc", "tar.zst"),
    };
    let volid = format!("{storage}:backup/vzdump-{api}-{vmid}-{stamp}.{extension}");
    let template = call.text("notes-template");
    let volume = Volume {
        storage: storage.to_owned(),
        content: "backup".into(),
        format: extension.into(),
        size: guest.disk_size() / 4,
        vmid: Some(vmid),
        created: now,
        notes: template.map(|template| notes(template, &call.cluster.name, guest, vmid)),
        protected: call.flag("protected"),
        saved: Some(guest.config.clone()),
    };
    let lines = vec![
        format!("INFO: Starting Backup of VM {vmid} ({api})"),
        format!("INFO: creating vzdump archive '{volid}'"),
        "INFO: 50% done".into(),
        "INFO: 100% done".into(),
        format!("INFO: Finished Backup of VM {vmid} (00:00:04)"),
    ];
    ((volid, volume), lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::Config;

    #[test]
    fn a_template_for_notes_is_one_line_with_two_escapes_and_four_names() {
        assert_eq!(
            misfit(r"a\nb {{guestname}} {{vmid}} \\ {{node}} {{cluster}}"),
            None
        );
        assert_eq!(misfit("a\nb").as_deref(), Some("contains a line feed"));
        let unknown = misfit(r"x\t{{date}}");
        assert_eq!(
            unknown.as_deref(),
            Some(r"found unknown: escape sequence '\t' at char 1, variable 'date' at char 7")
        );
    }

    #[test]
    fn notes_are_made_for_each_guest() {
        let config = Config::from([("name".to_owned(), "web".to_owned())]);
        let guest = Guest::new(Kind::Qemu, "pve1", config);
        let text = notes(r"a\nb {{guestname}} {{vmid}} \\ {{node}}", "c", &guest, 100);
        assert_eq!(text, "a\nb web 100 \\ pve1");
    }
}
