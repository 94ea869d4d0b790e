//! Texts with a structure: volume ids, users, addresses, sizes.
//!
//! Each type keeps its text unchanged, so nothing from the server is refused or lost. The parts are
//! read on demand; `None` means that the text does not have them.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::value::api_value::{ApiValue, Expected, Scalar, View};
use crate::value::encode::escape;
use crate::value::serialize::serde_impls;

/// Declares a text type.
macro_rules! text_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                Self(text.clone())
            }
        }

        impl From<&$name> for $name {
            fn from(text: &$name) -> Self {
                text.clone()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl From<&$name> for String {
            fn from(text: &$name) -> Self {
                text.0.clone()
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(text.into())
            }
        }

        impl crate::value::input::Item for $name {
            fn item(text: &str) -> Result<Self, crate::value::problem::Problem> {
                Ok(text.into())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl crate::value::encode::ToParam for $name {
            fn to_param(&self) -> crate::value::encode::ParamValue {
                self.0.to_param()
            }
        }

        serde_impls!($name);
    };
}

/// The common traits of texts that are equal if their texts are equal.
macro_rules! plain_text_type {
    ($(#[$meta:meta])* $name:ident) => {
        text_type! {
            $(#[$meta])*
            #[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
            $name
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl ApiValue for $name {
            fn empty() -> Self {
                Self(String::new())
            }

            fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
                self.0.set_scalar(value)
            }

            fn view(&self) -> View<'_> {
                View::Scalar(self.as_str().into())
            }
        }
    };
}

plain_text_type! {
    /// A volume: `storage:name`, such as `local:iso/debian.iso` or `local-lvm:vm-100-disk-0`.
    ///
    /// In the description of a new disk, the name is its size in GiB: `local-lvm:32`. Some places
    /// also accept an absolute path, `none` or `cdrom`, which have no storage.
    VolumeId
}

impl VolumeId {
    /// The storage that holds the volume.
    #[must_use]
    pub fn storage(&self) -> Option<&str> {
        Some(self.split()?.0)
    }

    /// The volume's name on its storage.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(self.split()?.1)
    }

    fn split(&self) -> Option<(&str, &str)> {
        self.0.split_once(':').filter(|(storage, name)| {
            !storage.is_empty() && !name.is_empty() && !storage.contains('/')
        })
    }
}

/// A text that is percent-encoded once more within its parameter, such as SSH keys or the serial number of a disk.
///
/// It is made from the plain text and returns the plain text; the encoded form is sent and
/// received.
///
/// ```
/// use proxmox_api::value::formats::EncodedText;
///
/// let serial = EncodedText::from("shelf 4, bay 2");
/// assert_eq!(serial.encoded(), "shelf%204%2C%20bay%202");
/// assert_eq!(serial, "shelf 4, bay 2");
/// assert_eq!(EncodedText::from_encoded("shelf%204%2c%20bay 2"), serial);
/// ```
#[derive(Clone)]
pub struct EncodedText {
    /// The form that is sent and received.
    encoded: String,
    plain: String,
}

impl EncodedText {
    /// A text that is encoded already.
    #[must_use]
    pub fn from_encoded(text: impl Into<String>) -> Self {
        let encoded = text.into();
        let plain = percent_decode_str(&encoded).decode_utf8_lossy();
        Self {
            plain: plain.into_owned(),
            encoded,
        }
    }

    /// Several lines, such as SSH keys.
    #[must_use]
    pub fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Self {
        let lines = lines.into_iter();
        let lines: Vec<String> = lines.map(|line| line.as_ref().trim().to_owned()).collect();
        lines.join("\n").into()
    }

    /// The plain text. Bytes that are not UTF-8 after decoding are replaced by U+FFFD;
    /// [`EncodedText::encoded`] has all of them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.plain
    }

    /// The text as it is sent.
    #[must_use]
    pub fn encoded(&self) -> &str {
        &self.encoded
    }
}

impl From<&str> for EncodedText {
    fn from(text: &str) -> Self {
        Self {
            encoded: escape(text).to_string(),
            plain: text.to_owned(),
        }
    }
}

impl From<String> for EncodedText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for EncodedText {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Self> for EncodedText {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

impl From<EncodedText> for String {
    fn from(text: EncodedText) -> Self {
        text.plain
    }
}

/// One line for each.
impl<T: AsRef<str>> FromIterator<T> for EncodedText {
    fn from_iter<I: IntoIterator<Item = T>>(lines: I) -> Self {
        Self::lines(lines)
    }
}

impl std::str::FromStr for EncodedText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl AsRef<str> for EncodedText {
    fn as_ref(&self) -> &str {
        &self.plain
    }
}

/// The plain text.
impl std::fmt::Display for EncodedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.plain)
    }
}

impl std::fmt::Debug for EncodedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.plain, f)
    }
}

/// Texts are equal if their plain texts are equal.
impl PartialEq for EncodedText {
    fn eq(&self, other: &Self) -> bool {
        percent_decode_str(&self.encoded).eq(percent_decode_str(&other.encoded))
    }
}

impl Eq for EncodedText {}

impl Hash for EncodedText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plain.hash(state);
    }
}

impl PartialEq<str> for EncodedText {
    fn eq(&self, other: &str) -> bool {
        self.plain == other
    }
}

impl PartialEq<&str> for EncodedText {
    fn eq(&self, other: &&str) -> bool {
        self.plain == *other
    }
}

impl crate::value::encode::ToParam for EncodedText {
    fn to_param(&self) -> crate::value::encode::ParamValue {
        self.encoded.to_param()
    }
}

impl ApiValue for EncodedText {
    fn empty() -> Self {
        Self::from_encoded("")
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let mut encoded = String::new();
        encoded.set_scalar(value)?;
        *self = Self::from_encoded(encoded);
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(self.encoded().into())
    }
}

serde_impls!(EncodedText);

plain_text_type! {
    /// A user, `name@realm`; for a token `name@realm!token`.
    UserId
}

impl UserId {
    /// The name, without the realm.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        // A name may hold an @ itself; the realm never does.
        Some(self.0.rsplit_once('@')?.0)
    }

    /// The realm that knows the user, such as `pam` or `pve`.
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        let realm = self.0.rsplit_once('@')?.1;
        Some(realm.split_once('!').map_or(realm, |(realm, _)| realm))
    }

    /// The token's name, if the text names a token.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        Some(self.0.rsplit_once('@')?.1.split_once('!')?.1)
    }
}

plain_text_type! {
    /// The name of a cluster node, such as `pve1`.
    NodeName
}

plain_text_type! {
    /// The key of a disk in the configuration of a guest, such as `scsi0`, `rootfs` or `unused3`.
    DiskKey
}

impl DiskKey {
    /// The disk with this number at a bus, such as `scsi` and 0.
    #[must_use]
    pub fn new(bus: &str, index: u32) -> Self {
        Self(format!("{bus}{index}"))
    }

    /// The key without its number: `scsi`, `mp`, `rootfs`.
    #[must_use]
    pub fn bus(&self) -> &str {
        self.0.trim_end_matches(|c: char| c.is_ascii_digit())
    }

    /// The number at the bus, if the key has one.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.0[self.bus().len()..].parse().ok()
    }
}

plain_text_type! {
    /// The name of a storage, such as `local-lvm`.
    StorageId
}

plain_text_type! {
    /// The name of an authentication realm, such as `pam` or `pve`.
    Realm
}

plain_text_type! {
    /// A hardware address, such as `BC:24:11:00:00:01`.
    MacAddr
}

impl MacAddr {
    /// Its six bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<[u8; 6]> {
        let mut bytes = [0; 6];
        let mut parts = self.0.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| {
                part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())
            })?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(bytes)
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes.map(|byte| format!("{byte:02X}")).join(":"))
    }
}

plain_text_type! {
    /// An IP address of either family. Some places also accept a host name or words such as `dhcp`.
    IpAddress
}

impl IpAddress {
    /// The address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.trim_matches(['[', ']']).parse().ok()
    }
}

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

plain_text_type! {
    /// An address with the length of its network's prefix, such as `10.0.0.5/24`. Some places also
    /// accept a plain address, an alias, or words such as `dhcp`.
    Cidr
}

impl Cidr {
    /// The address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.split('/').next()?.parse().ok()
    }

    /// The length of the network's prefix in bits.
    #[must_use]
    pub fn prefix(&self) -> Option<u8> {
        let bits = match self.address()? {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = self.0.split_once('/')?.1.parse().ok()?;
        (prefix <= bits).then_some(prefix)
    }
}

text_type! {
    /// The size of a disk: a number with `K`, `M`, `G` or `T` for powers of 1024, such as `32G`.
    ///
    /// Sizes compare by their bytes: `1T` is `1024G`. A text that is not a size is less than all
    /// sizes, and compares as a text.
    DiskSize
}

impl DiskSize {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let text = self.0.strip_suffix("iB").unwrap_or(&self.0);
        let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return None,
        };
        match digits.parse::<u64>() {
            Ok(number) => number.checked_mul(1 << shift),
            Err(_) => {
                let number = digits.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
                let bytes = number * (1_u64 << shift) as f64;
                (bytes < u64::MAX as f64).then_some(bytes as u64)
            }
        }
    }

    /// A size of this many bytes, written with the largest unit that divides it.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let whole = units
            .iter()
            .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
        Self(match whole {
            Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
            None => bytes.to_string(),
        })
    }
}

impl DiskSize {
    /// The order of sizes.
    fn order(&self) -> (Option<u64>, &str) {
        match self.bytes() {
            Some(bytes) => (Some(bytes), ""),
            None => (None, &self.0),
        }
    }
}

impl PartialEq for DiskSize {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for DiskSize {}

impl PartialOrd for DiskSize {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DiskSize {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl Hash for DiskSize {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.order().hash(state);
    }
}

impl ApiValue for DiskSize {
    fn empty() -> Self {
        Self(String::new())
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        self.0.set_scalar(value)
    }

    fn view(&self) -> View<'_> {
        View::Size(&self.0, self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_parsed_and_missing_parts_are_none() {
        let volume = VolumeId::from("local:iso/debian.iso");
        assert_eq!(
            (volume.storage(), volume.name()),
            (Some("local"), Some("iso/debian.iso"))
        );
        assert_eq!(VolumeId::from("/dev/sdb").storage(), None);
        assert_eq!(VolumeId::from("none").storage(), None);
        let user = UserId::from("joe@example.org@ldap!ci");
        assert_eq!(user.name(), Some("joe@example.org"));
        assert_eq!((user.realm(), user.token()), (Some("ldap"), Some("ci")));
        assert_eq!(UserId::from("root@pam").token(), None);
        assert_eq!(
            MacAddr::from("bc:24:11:00:00:0A").bytes(),
            Some([0xbc, 0x24, 0x11, 0, 0, 10])
        );
        assert_eq!(MacAddr::from("bc:24:11").bytes(), None);
        assert_eq!(Cidr::from("10.0.0.5/24").prefix(), Some(24));
        assert_eq!(Cidr::from("10.0.0.5/33").prefix(), None);
        assert_eq!(Cidr::from("dhcp").address(), None);
        assert_eq!(DiskSize::from("32G").bytes(), Some(32 << 30));
        assert_eq!(DiskSize::from("528K").bytes(), Some(528 << 10));
        assert_eq!(DiskSize::from("1.5GiB").bytes(), Some(3 << 29));
        assert_eq!(DiskSize::from("much").bytes(), None);
        let disk = DiskKey::new("scsi", 12);
        assert_eq!((disk.bus(), disk.index()), ("scsi", Some(12)));
        let root = DiskKey::from("rootfs");
        assert_eq!((root.bus(), root.index()), ("rootfs", None));
    }

    #[test]
    fn sizes_compare_by_their_bytes() {
        let size = |text: &str| DiskSize::from(text);
        assert_eq!(size("1T"), size("1024G"));
        assert_ne!(size("1T"), size("1000G"));
        assert!(size("900M") < size("1G") && size("odd") < size("0"));
        assert_ne!(size("odd"), size("even"));
        let set = std::collections::HashSet::from([size("1G"), size("1024M"), size("2G")]);
        assert_eq!(set.len(), 2);
    }

    proptest! {
        #[test]
        fn a_size_in_bytes_survives_its_text(bytes in 0..u64::MAX >> 1) {
            prop_assert_eq!(DiskSize::from_bytes(bytes).bytes(), Some(bytes));
        }

        #[test]
        fn a_mac_address_survives_its_text(bytes: [u8; 6]) {
            prop_assert_eq!(MacAddr::from(bytes).bytes(), Some(bytes));
        }

        #[test]
        fn no_text_causes_a_panic(text in ".*") {
            let volume = VolumeId::from(text.as_str());
            let parts = (volume.storage(), volume.name());
            prop_assert_eq!(parts.0.is_some(), parts.1.is_some());
            let _ = (UserId::from(text.as_str()).realm(), MacAddr::from(text.as_str()).bytes());
            let _ = (Cidr::from(text.as_str()).prefix(), DiskSize::from(text.as_str()).bytes());
            let _ = (DiskKey::from(text.as_str()).bus(), DiskKey::from(text.as_str()).index());
            prop_assert_eq!(volume.as_str(), text.as_str());
        }
    }
}
