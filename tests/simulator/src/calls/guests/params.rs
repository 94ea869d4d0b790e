//! The parameters of a guest's configuration.

use crate::calls::call::Call;
use crate::state::config::Config;
use crate::state::guest::Kind;

/// Parameters of create and change calls that are not settings.
const NOT_CONFIG: [&str; 26] = [
    "node",
    "vmid",
    "start",
    "pool",
    "unique",
    "storage",
    "archive",
    "force",
    "bwlimit",
    "live-restore",
    "ha-managed",
    "import-working-storage",
    "digest",
    "delete",
    "revert",
    "skiplock",
    "background_delay",
    "ostemplate",
    "password",
    "ssh-public-keys",
    "ignore-unpack-errors",
    "restore",
    "newid",
    "full",
    "snapname",
    "target",
];

pub(crate) fn config_params(call: &Call<'_>) -> Config {
    let mut config: Config = call
        .params
        .iter()
        .filter(|(key, _)| !NOT_CONFIG.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
        .collect();
    // An alias of an optical drive (qemu-server `API2/Qemu.pm:86`).
    if let Some(mut drive) = config.remove("cdrom") {
        if !drive.contains("media=") {
            drive.push_str(",media=cdrom");
        }
        config.insert("ide2".to_owned(), drive);
    }
    config
}

/// The key of a guest's name.
pub(crate) fn name_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Qemu => "name",
        Kind::Lxc => "hostname",
    }
}
