//! The server's texts for an entry that is missing or exists already.

use proxmox_codegen::facts::Method;
use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Reply;
use crate::calls::records::paths::{ALIASES, ENTRIES};
use crate::calls::records::rows::List;
use crate::state::records::{MATCHERS, NOTIFICATION_ENDPOINTS};

/// The texts for an entry that is missing or exists already, by operation; `*` stands for its id. A
/// text with `@` at its start names a parameter, one with `=` has a status, an empty one refuses
/// nothing.
struct RefusalTexts {
    pub(crate) list: &'static str,
    pub(crate) read: &'static str,
    pub(crate) change: &'static str,
    pub(crate) remove: &'static str,
    pub(crate) create: &'static str,
}

const fn texts(
    list: &'static str,
    read: &'static str,
    change: &'static str,
    remove: &'static str,
    create: &'static str,
) -> RefusalTexts {
    RefusalTexts {
        list,
        read,
        change,
        remove,
        create,
    }
}

const TEXTS: [RefusalTexts; 23] = [
    texts(
        "/cluster/acme/plugins",
        "ACME plugin '*' not defined",
        "ACME plugin ID '*' does not exist",
        "",
        "ACME plugin ID '*' already exists",
    ),
    texts(
        "/cluster/metrics/server",
        "status server entry '*' does not exist",
        "no such server '*'",
        "cannot lookup undefined type!",
        "Metric server '*' already exists",
    ),
    texts(
        "/cluster/mapping/dir",
        "mapping '*' not found",
        "update directory mapping failed: dir ID '*' does not exist",
        "",
        "create directory mapping failed: dir ID '*' already defined",
    ),
    texts(
        "/cluster/mapping/pci",
        "mapping '*' not found",
        "update hardware mapping failed: pci ID '*' does not exist",
        "",
        "create hardware mapping failed: pci ID '*' already defined",
    ),
    texts(
        "/cluster/mapping/usb",
        "mapping '*' not found",
        "update hardware mapping failed: usb ID '*' does not exist",
        "",
        "create hardware mapping failed: usb ID '*' already defined",
    ),
    texts(
        "/cluster/backup",
        "@id No such job '*'",
        "no such vzdump job",
        "400 Parameter verification failed.\nid: No such job '*'",
        "Job '*' already exists",
    ),
    texts(
        "/cluster/replication",
        "no such replication job '*'",
        "no such job '*'",
        "no such job '*'",
        "replication job '*' already exists",
    ),
    texts(
        "/cluster/qemu/custom-cpu-models",
        "Custom cputype '*' not found",
        "custom CPU model '*' does not exist",
        "custom CPU model '*' does not exist",
        "custom CPU model '*' already exists",
    ),
    texts(
        "/cluster/sdn/zones",
        "sdn '*' does not exist",
        "update sdn zone object failed: sdn '*' does not exist",
        "delete sdn zone object failed: sdn '*' does not exist",
        "create sdn zone object failed: sdn zone object ID '*' already defined",
    ),
    texts(
        "/cluster/sdn/vnets",
        "sdn vnet '*' does not exist",
        "sdn vnet '*' does not exist",
        "sdn vnet '*' does not exist",
        "create sdn vnet object failed: sdn vnet object ID '*' already defined",
    ),
    texts(
        "/cluster/sdn/vnets/{vnet}/subnets",
        "sdn subnet '*' does not exist",
        "update sdn subnet object failed: sdn subnet '*' does not exist",
        "",
        "create sdn subnet object failed: sdn subnet object ID '*' already defined",
    ),
    texts(
        "/cluster/sdn/controllers",
        "sdn '*' does not exist",
        "update sdn controller object failed: sdn '*' does not exist",
        "delete sdn controller object failed: sdn '*' does not exist",
        "create sdn controller object failed: sdn controller object ID '*' already defined",
    ),
    texts(
        "/cluster/sdn/dns",
        "sdn '*' does not exist",
        "update sdn dns object failed: sdn '*' does not exist",
        "delete sdn dns object failed: sdn '*' does not exist",
        "create sdn dns object failed: sdn dns object ID '*' already defined",
    ),
    texts(
        "/cluster/sdn/ipams",
        "sdn '*' does not exist",
        "update sdn ipam object failed: sdn '*' does not exist",
        "delete sdn zone object failed: sdn '*' does not exist",
        "create sdn ipam object failed: sdn ipam object ID '*' already defined",
    ),
    texts(
        "/cluster/ha/resources",
        "no such resource '*'",
        "update resources config failed: no such resource '*'",
        "cannot delete service '*', not HA managed!",
        "create resource failed: resource ID '*' already defined",
    ),
    texts(
        "/cluster/ha/groups",
        "no such ha group '*'",
        "no such ha group '*'",
        "no such ha group '*'",
        "create ha group failed: ha group ID '*' already defined",
    ),
    texts(
        "/cluster/ha/rules",
        "no such ha rule '*'",
        "update HA rules failed: HA rule '*' does not exist",
        "",
        "create ha rule failed: HA rule '*' already defined",
    ),
    texts(
        "/cluster/jobs/realm-sync",
        "@id No such job '*'",
        "no such realm-sync job",
        "400 Parameter verification failed.\nid: No such job '*'",
        "Job '*' already exists",
    ),
    texts(
        "/nodes/{node}/network",
        "interface does not exist",
        "interface does not exist",
        "interface does not exist",
        "interface already exists",
    ),
    texts(
        ALIASES,
        "@name no such alias",
        "@name no such alias",
        "",
        "@name alias '*' already exists",
    ),
    texts(
        ENTRIES,
        "@cidr no such IP/Network",
        "no such entry '*'",
        "",
        "@cidr address '*' already exists",
    ),
    texts(
        NOTIFICATION_ENDPOINTS,
        "=404 endpoint '*' not found",
        "=404 endpoint '*' not found",
        "=404 endpoint '*' not found",
        "=400 Cannot create '*', an entity with the same name already exists",
    ),
    texts(
        MATCHERS,
        "=404 matcher '*' not found",
        "=404 matcher '*' not found",
        "=404 matcher '*' not found",
        "=400 Cannot create '*', an entity with the same name already exists",
    ),
];

fn texts_of(list: &str) -> Option<&'static RefusalTexts> {
    TEXTS.iter().find(|texts| {
        texts.list == list
            || matches!(texts.list, ALIASES | ENTRIES) && list.ends_with(texts.list)
            || texts.list == NOTIFICATION_ENDPOINTS && list.starts_with(NOTIFICATION_ENDPOINTS)
    })
}

/// Parses a text of the table.
fn refusal(text: &str, id: &str) -> Option<ApiError> {
    let text = text.replace('*', id);
    if text.is_empty() {
        return None;
    }
    let marked = |mark: char| text.strip_prefix(mark)?.split_once(' ');
    if let Some((name, text)) = marked('@') {
        return Some(ApiError::parameter(name, text));
    }
    Some(
        match marked('=').and_then(|(status, text)| Some((status.parse().ok()?, text))) {
            Some((status, text)) => ApiError::raise(status, text),
            None => ApiError::die(text),
        },
    )
}

/// The name of an entry in errors.
pub(crate) fn noun(list: &str) -> &'static str {
    match list.rsplit('/').next().unwrap_or("") {
        "aliases" => "alias",
        "ipset" => "IPSet",
        "{name}" => "entry",
        "resources" => "resource",
        "groups" if list.contains("firewall") => "security group",
        "groups" => "group",
        "rules" => "rule",
        "zones" => "zone",
        "vnets" => "vnet",
        "subnets" => "subnet",
        "backup" => "job",
        "replication" => "replication job",
        "network" => "interface",
        _ => "object",
    }
}

/// The error for an operation on a missing entry, unless that counts as done.
pub(crate) fn missing(list: &List<'_>, id: &str, method: Method) -> Option<ApiError> {
    match texts_of(list.path) {
        Some(texts) => refusal(
            match method {
                Method::Get => texts.read,
                Method::Delete => texts.remove,
                _ => texts.change,
            },
            id,
        ),
        None => Some(ApiError::die(format!("no such {} '{id}'", noun(list.path)))),
    }
}

/// The answer to a call about a missing entry; `None` if the list may have others.
pub(crate) fn absent(list: &List<'_>, id: &str, method: Method) -> Option<ApiResult<Reply>> {
    list.strict.then(|| match missing(list, id, method) {
        Some(error) => Err(error),
        None => Ok(Reply::data(Value::Null)),
    })
}

/// The error for a second entry of the same id; the firewall refuses the parameter rather than the
/// call.
pub(crate) fn already_exists_error(list: &List<'_>, id: &str) -> ApiError {
    if let Some(error) = texts_of(list.path).and_then(|texts| refusal(texts.create, id)) {
        return error;
    }
    let text = match list.path.rsplit('/').next().unwrap_or("") {
        "ipset" => format!("IPSet '{id}' already exists"),
        "groups" if list.path.contains("firewall") => {
            format!("Security group '{id}' already exists")
        }
        _ => return ApiError::die(format!("{} '{id}' already defined", noun(list.path))),
    };
    ApiError::parameter(list.id, text)
}
