//! Settings for cloud-init in a new virtual machine.

use super::{Guest, Kind};
use crate::error::Error;
use crate::pve::qemu::{QemuConfig, QemuDrive, QemuIpConfig};
use crate::value::IndexedMap;
use crate::value::List;
use crate::value::Secret;
use crate::value::formats::EncodedText;

/// Settings for cloud-init; settings that are not set here stay as they are. See
/// [`Guest::set_cloud_init`].
///
/// ```
/// use proxmox_api::manage::guest::CloudInit;
///
/// let settings = CloudInit::new()
///     .drive("local-lvm")
///     .user("admin")
///     .ssh_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHuA admin@desk")
///     .dhcp(0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloudInit {
    drive: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    ssh_keys: Vec<String>,
    ipconfig: IndexedMap<QemuIpConfig>,
    nameservers: Vec<String>,
    search_domains: Vec<String>,
    upgrade: Option<bool>,
}

impl CloudInit {
    /// No settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the cloud-init drive on this storage, unless the machine has one.
    #[must_use]
    pub fn drive(mut self, storage: impl Into<String>) -> Self {
        self.drive = Some(storage.into());
        self
    }

    /// The user to create, instead of the image's default.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// The user's password. SSH keys are safer.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a public SSH key in the form of an `authorized_keys` line. Replaces the machine's
    /// present keys.
    #[must_use]
    pub fn ssh_key(mut self, key: impl Into<String>) -> Self {
        self.ssh_keys.push(key.into());
        self
    }

    /// Addresses of a network card.
    #[must_use]
    #[inline]
    pub fn ip(mut self, card: u8, config: impl Into<QemuIpConfig>) -> Self {
        self.ipconfig.insert(card, config.into());
        self
    }

    /// Lets a network card get an IPv4 address by DHCP.
    #[must_use]
    #[inline]
    pub fn dhcp(self, card: u8) -> Self {
        self.ip(card, QemuIpConfig::new().ip("dhcp"))
    }

    /// Adds a name server. Replaces the machine's present ones.
    #[must_use]
    pub fn nameserver(mut self, address: impl Into<String>) -> Self {
        self.nameservers.push(address.into());
        self
    }

    /// Adds a search domain for short names. Replaces the machine's present ones.
    #[must_use]
    pub fn search_domain(mut self, domain: impl Into<String>) -> Self {
        self.search_domains.push(domain.into());
        self
    }

    /// Whether packages are upgraded at the first start. Releases before 8.0 refuse this setting.
    #[must_use]
    pub fn upgrade(mut self, upgrade: bool) -> Self {
        self.upgrade = Some(upgrade);
        self
    }

    /// Writes the settings into a configuration; the password only on request, since it cannot be
    /// compared with the present one.
    #[inline]
    pub(crate) fn put(&self, config: &mut QemuConfig, password: bool) {
        if let Some(user) = &self.user {
            config.ciuser = Some(user.clone());
        }
        if let Some(secret) = self.password.as_ref().filter(|_| password) {
            config.cipassword = Some(secret.clone());
        }
        if !self.ssh_keys.is_empty() {
            config.sshkeys = Some(self.ssh_keys_text());
        }
        for (card, own) in &self.ipconfig {
            config.ipconfig.insert(*card, own.clone());
        }
        if !self.nameservers.is_empty() {
            config.nameserver = Some(List(self.nameservers.clone()));
        }
        if !self.search_domains.is_empty() {
            config.searchdomain = Some(List(self.search_domains.clone()));
        }
        if let Some(upgrade) = self.upgrade {
            config.ciupgrade = Some(upgrade);
        }
    }

    /// The keys as the server reads them: one on each line.
    #[inline]
    fn ssh_keys_text(&self) -> EncodedText {
        let keys = self.ssh_keys.iter().map(|key| key.trim());
        keys.filter(|key| !key.is_empty()).collect()
    }
}

impl Guest {
    /// Sets the cloud-init settings of a virtual machine. They take effect at its next start, when
    /// the server writes the drive again.
    ///
    /// # Errors
    /// [`NoFreeSlot`](super::GuestErrorKind::NoFreeSlot) if there is no free index for the drive;
    /// those of [`Guest::edit_qemu`].
    pub async fn set_cloud_init(&self, settings: CloudInit) -> Result<(), Error> {
        self.post_qemu(&mut |config, mut request| {
            if let Some(storage) = &settings.drive {
                let drives = (config.ide.values())
                    .chain(config.scsi.values())
                    .chain(config.sata.values());
                if !drives
                    .into_iter()
                    .any(|drive| is_cloud_init(drive.file.as_str()))
                {
                    // Images look for the drive on ide2 first; the others work as well.
                    let free = [2, 0, 3, 1]
                        .into_iter()
                        .find(|index| !config.ide.contains_key(index));
                    let index = self.slot(free, "ide")?;
                    let drive = QemuDrive::new(format!("{storage}:cloudinit"));
                    request = request.ide(index, drive);
                }
            }
            if let Some(user) = &settings.user {
                request = request.ciuser(user);
            }
            if let Some(password) = &settings.password {
                request = request.cipassword(password.clone());
            }
            if !settings.ssh_keys.is_empty() {
                request = request.sshkeys(settings.ssh_keys_text());
            }
            for (card, config) in &settings.ipconfig {
                request = request.ipconfig(*card, config.clone());
            }
            if !settings.nameservers.is_empty() {
                request = request.nameserver(List(settings.nameservers.clone()));
            }
            if !settings.search_domains.is_empty() {
                request = request.searchdomain(List(settings.search_domains.clone()));
            }
            if let Some(upgrade) = settings.upgrade {
                request = request.ciupgrade(upgrade);
            }
            Ok(request)
        })
        .await
    }

    /// Writes the cloud-init drive of a virtual machine again: [`PUT
    /// /nodes/{node}/qemu/{vmid}/cloudinit`](crate::pve::qemu::QemuVmidCloudinitPath::put).
    ///
    /// # Errors
    /// [`WrongKind`](super::GuestErrorKind::WrongKind) for a container; see [`Guest`].
    pub async fn regenerate_cloud_init(&self) -> Result<(), Error> {
        self.call(Some(Kind::Qemu), &|location| {
            self.qemu_at(location).cloudinit().put().into_future()
        })
        .await
    }
}

/// The public SSH keys that cloud-init gives to a virtual machine, each a line of `authorized_keys`.
#[must_use]
pub fn ssh_keys(config: &QemuConfig) -> Vec<String> {
    let keys = config.sshkeys.as_ref().map_or("", EncodedText::as_str);
    (keys.lines().map(str::trim))
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether a volume is a cloud-init drive: `storage:cloudinit` in a request, then
/// `storage:vm-101-cloudinit`, or a file with that name. The names of images may hold the word as
/// well.
pub(super) fn is_cloud_init(volume: &str) -> bool {
    const FORMATS: [&str; 6] = ["raw", "qcow", "qcow2", "qed", "vmdk", "cloop"];
    let Some((_, name)) = volume.rsplit_once([':', '/']) else {
        return false;
    };
    let name = match name.split_once('.') {
        Some((name, format)) if FORMATS.contains(&format) => name,
        _ => name,
    };
    let of_guest = |name: &str| {
        let vmid = name.strip_prefix("vm-")?.strip_suffix("-cloudinit")?;
        Some(!vmid.is_empty() && vmid.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "cloudinit" || of_guest(name) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_character_of_ssh_keys_is_encoded() {
        let settings = CloudInit::new()
            .ssh_key("ssh-rsa AAA+b/c== me@host \n")
            .ssh_key("ssh-ed25519 X y");
        assert_eq!(
            settings.ssh_keys_text().encoded(),
            "ssh-rsa%20AAA%2Bb%2Fc%3D%3D%20me%40host%0Assh-ed25519%20X%20y"
        );
    }

    #[test]
    fn ssh_keys_survive_encoding() {
        let keys = [
            "ssh-rsa AAAAB3+x/y/z== cardno:18 228 342",
            "ssh-ed25519 Ü% a@b",
        ];
        let settings = CloudInit::new().ssh_key(keys[0]).ssh_key(keys[1]);
        let body =
            serde_json::json!({ "data": { "digest": "0", "sshkeys": settings.ssh_keys_text() } });
        let config = crate::value::decode::from_answer(body.to_string().as_bytes());
        assert_eq!(ssh_keys(&config.expect("a configuration")), keys);
        assert!(ssh_keys(&QemuConfig::default()).is_empty());
    }

    #[test]
    fn an_image_with_the_word_in_its_name_is_no_cloud_init_drive() {
        for volume in [
            "shop:cloudinit",
            "shop:vm-4711-cloudinit",
            "shop:4711/vm-4711-cloudinit.qcow2",
        ] {
            assert!(is_cloud_init(volume), "{volume}");
        }
        for volume in [
            "shop:iso/shop-cloudinit.iso",
            "shop:iso/shop-cloudinit-2.img",
            "shop:vm-x-cloudinit",
            "shop:vm-4711-disk-0",
            "none",
            "cloudinit",
        ] {
            assert!(!is_cloud_init(volume), "{volume}");
        }
    }

    #[test]
    fn a_password_does_not_show() {
        let settings = CloudInit::new().password("hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
