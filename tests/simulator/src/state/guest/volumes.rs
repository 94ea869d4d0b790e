//! Disks in the configuration of a guest, and the names of volumes.

use crate::propstring;
use crate::state::storage::GIB;

/// The `size=` of a disk in bytes.
pub(crate) fn size_of(disk: &str) -> Option<u64> {
    propstring::value(disk, "size").and_then(parse_size)
}

/// `32G` in bytes; no unit is bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim_end_matches("iB");
    let (number, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let digits: u64 = fraction.get(..fraction.len().min(6))?.parse().ok()?;
    let scale = 10_u64.pow(u32::try_from(fraction.len().min(6)).ok()?);
    Some(whole + digits * (1_u64 << shift) / scale)
}

/// Bytes in the largest unit that divides them.
pub(crate) fn print_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        // Sizes below thousands of terabytes are written in gigabytes.
        if bytes > 0 && bytes.is_multiple_of(1 << shift) && (shift != 40 || bytes >= 1 << 50) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Features of a storage for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Snapshot,
    /// A linked clone.
    Clone,
    /// A full clone.
    Copy,
    /// Moving to another guest.
    Rename,
    /// To a base image, of which there are linked copies.
    Template,
}

/// Whether a disk value is a cloud-init drive.
pub(crate) fn is_cloud_init(disk: &str) -> bool {
    let volume = volume_of(disk);
    let name = volume.rsplit(['/', ':']).next().unwrap_or(volume);
    let name = name.split('.').next().unwrap_or(name);
    name == "cloudinit" || name.starts_with("vm-") && name.ends_with("-cloudinit")
}

/// The size of the disk in a qcow2 image, from its header.
pub(crate) fn virtual_size(image: &[u8]) -> Option<u64> {
    let size = image.strip_prefix(b"QFI\xfb")?.get(20..28)?;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

/// The volume a disk value names.
pub(crate) fn volume_of(disk: &str) -> &str {
    let first = disk.split(',').next().unwrap_or("");
    first
        .strip_prefix("file=")
        .or_else(|| first.strip_prefix("volume="))
        .unwrap_or(first)
}

/// Whether a storage of files accepts this volume name (pve-storage `Storage/Plugin.pm`,
/// `parse_volname`).
pub(crate) fn is_file_name(name: &str) -> bool {
    let Some((folder, file)) = name.split_once('/') else {
        return false;
    };
    let ends = |endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    let plain = !file.is_empty() && !file.contains('/');
    match folder {
        "iso" => plain && ends(&[".iso", ".img", ".ISO", ".IMG"]),
        "vztmpl" => plain && ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"]),
        "snippets" => plain,
        "import" => plain && ends(&[".ova", ".ovf", ".qcow2", ".raw", ".vmdk"]),
        "backup" => {
            plain && (file.split('.').any(|part| matches!(part, "tar" | "vma")) || ends(&[".tgz"]))
        }
        _ => folder.parse::<u32>().is_ok() && !file.contains(char::is_whitespace),
    }
}

/// The content and owner of a volume, from its name.
pub(crate) fn parse_volume_name(name: &str) -> (&'static str, Option<u32>) {
    let first = |text: &str| -> Option<u32> { text.split(['-', '/', '.']).next()?.parse().ok() };
    if let Some((directory, file)) = name.split_once('/') {
        match directory {
            "iso" => return ("iso", None),
            "vztmpl" => return ("vztmpl", None),
            "snippets" => return ("snippets", None),
            "import" => return ("import", None),
            "backup" => {
                let guest = ["vzdump-qemu-", "vzdump-lxc-"]
                    .iter()
                    .find_map(|start| file.strip_prefix(start));
                // On a backup server the path has the kind and the number of the guest.
                let served = file.split_once('/').and_then(|(_, rest)| first(rest));
                return ("backup", guest.and_then(first).or(served));
            }
            _ => {}
        }
    }
    let base_name = name.rsplit('/').next().unwrap_or(name);
    let owner = ["vm-", "base-", "subvol-", "basevol-"]
        .iter()
        .find_map(|start| base_name.strip_prefix(start))
        .and_then(first);
    ("images", owner.or_else(|| first(name)))
}

/// A saved disk in the form of a create call.
pub(crate) fn as_new_disk(disk: &str, storage: Option<&str>) -> Option<String> {
    let (home, _) = volume_of(disk).split_once(':')?;
    let (name, _) = volume_of(disk)
        .rsplit_once(['/', ':'])
        .map(|(_, name)| (name, ()))
        .unwrap_or_default();
    if !name.starts_with("vm-") && !name.starts_with("base-") {
        return None;
    }
    let size = size_of(disk)?;
    let rest: Vec<&str> = disk
        .split(',')
        .skip(1)
        .filter(|part| !part.starts_with("size="))
        .collect();
    let gib = size >> 30;
    let part = (size & (GIB - 1)) * 1_000_000 / GIB;
    let first = format!("{}:{gib}.{part:06}", storage.unwrap_or(home));
    Some(
        std::iter::once(first.as_str())
            .chain(rest)
            .collect::<Vec<_>>()
            .join(","),
    )
}

pub(crate) fn replace_size(disk: &str, size: u64) -> String {
    let size = format!("size={}", print_size(size));
    let mut parts: Vec<&str> = disk.split(',').collect();
    match parts.iter_mut().find(|part| part.starts_with("size=")) {
        Some(part) => *part = &size,
        None => parts.push(&size),
    }
    parts.join(",")
}

pub(crate) fn volume_name(
    storage: &str,
    vmid: u32,
    name: &str,
    files: bool,
    format: &str,
) -> String {
    if files {
        format!("{storage}:{vmid}/{name}.{format}")
    } else {
        format!("{storage}:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("32G"), Some(32 << 30));
        assert_eq!(parse_size("0.5G"), Some(1 << 29));
        assert_eq!(parse_size("1024"), Some(1024));
        assert_eq!(parse_size("4MiB"), Some(4 << 20));
        assert_eq!(parse_size("x"), None);
        assert_eq!(print_size(32 << 30), "32G");
        assert_eq!(print_size(1 << 40), "1024G");
        assert_eq!(print_size(528 << 10), "528K");
        assert_eq!(
            replace_size("local:vm-1-disk-0,iothread=1,size=1G", 2 << 30),
            "local:vm-1-disk-0,iothread=1,size=2G"
        );
    }
}
