//! Identities of guests, so that a later guest with the same number is recognised as another one.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::value::decode::read_any;

/// The memory limit for a decoded configuration.
const CONFIGURATION: usize = 8 * 1024 * 1024;

/// The identity of a guest, as far as its configuration shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The creation time of a virtual machine, in seconds since 1970, by its node's clock. A
    /// restored one keeps it.
    pub(super) created: Option<u64>,
    /// The identifier in a virtual machine's BIOS.
    uuid: Option<String>,
    /// The machine's generation (`vmgenid`). Rollbacks, clones and restores change it.
    generation: Option<String>,
    /// The addresses of the network cards.
    macs: BTreeSet<String>,
    digest: Option<String>,
}

/// The result of comparing two identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityMatch {
    Same,
    Other,
    /// Nothing known of both decides it.
    Unknown,
}

impl Identity {
    /// Reads the identity from the answer to a configuration request, for both kinds of guests.
    pub(super) fn of_answer(body: &[u8]) -> Self {
        let answer = read_any(body, CONFIGURATION).unwrap_or_default();
        Self::read(answer.get("data").unwrap_or(&Value::Null))
    }

    fn read(config: &Value) -> Self {
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        let part = |key: &str, part: &str| {
            (text(key)?.split(',')).find_map(|pair| pair.trim().strip_prefix(part))
        };
        let cards = config.as_object().into_iter().flatten();
        let macs = cards
            .filter(|(key, _)| {
                (key.strip_prefix("net")).is_some_and(|number| number.parse::<u8>().is_ok())
            })
            .filter_map(|(_, card)| mac_of(card.as_str()?))
            .collect();
        Self {
            created: part("meta", "ctime=").and_then(|time| time.parse().ok()),
            uuid: part("smbios1", "uuid=").map(str::to_ascii_lowercase),
            generation: text("vmgenid")
                .filter(|id| id.len() == 36)
                .map(str::to_ascii_lowercase),
            macs,
            digest: text("digest").map(str::to_owned),
        }
    }

    /// Compares with the guest that has the number now. The guest is not at its last location, so
    /// weak evidence suffices for another one.
    pub(super) fn compare(&self, now: &Self) -> IdentityMatch {
        fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> Option<bool> {
            Some(a? == b?)
        }
        let of = |same| {
            if same {
                IdentityMatch::Same
            } else {
                IdentityMatch::Other
            }
        };
        if let Some(same) = same(self.created.as_ref(), now.created.as_ref()) {
            return of(same);
        }
        if let Some(same) = same(self.uuid.as_ref(), now.uuid.as_ref()) {
            return of(same);
        }
        if same(self.generation.as_ref(), now.generation.as_ref()) == Some(true) {
            return IdentityMatch::Same;
        }
        if !self.macs.is_empty() && !now.macs.is_empty() {
            return of(!self.macs.is_disjoint(&now.macs));
        }
        // The same text, including the names of the volumes.
        match same(self.digest.as_ref(), now.digest.as_ref()) {
            Some(true) => IdentityMatch::Same,
            _ => IdentityMatch::Unknown,
        }
    }
}

/// The address in a network card's setting: `virtio=BC:24:…` for machines, `hwaddr=BC:24:…` for containers.
fn mac_of(card: &str) -> Option<String> {
    (card.split(',').filter_map(|pair| pair.split_once('=')))
        .map(|(_, value)| value)
        .find(|value| {
            value.len() == 17
                && value.split(':').count() == 6
                && (value.split(':')).all(|byte| u8::from_str_radix(byte, 16).is_ok())
        })
        .map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(ctime: u64, uuid: &str) -> Value {
        json!({
            "meta": format!("creation-qemu=10.1.2,ctime={ctime}"), "smbios1": format!("uuid={uuid},base64=1"),
            "vmgenid": "6d3f0a51-8b0c-4c1b-9a53-0d3b7f0c1e22", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        })
    }

    #[test]
    fn another_creation_time_means_another_guest() {
        let cases = [
            (machine(1, "A"), machine(1, "a"), IdentityMatch::Same),
            // The identifier was changed.
            (machine(1, "A"), machine(1, "b"), IdentityMatch::Same),
            (machine(1, "A"), machine(2, "a"), IdentityMatch::Other),
            (
                json!({ "smbios1": "uuid=A" }),
                machine(2, "a"),
                IdentityMatch::Same,
            ),
            (
                json!({ "smbios1": "uuid=A" }),
                machine(2, "b"),
                IdentityMatch::Other,
            ),
            (
                json!({ "net0": "name=eth0,hwaddr=BC:24:11:00:00:01", "net1": "name=eth1,hwaddr=BC:24:11:00:00:02" }),
                json!({ "net1": "name=eth0,bridge=vmbr1,hwaddr=bc:24:11:00:00:02" }),
                IdentityMatch::Same,
            ),
            (
                json!({ "net0": "name=eth0,hwaddr=BC:24:11:00:00:01" }),
                json!({ "net0": "name=eth0,hwaddr=BC:24:11:00:00:03" }),
                IdentityMatch::Other,
            ),
            (
                json!({ "hostname": "a" }),
                json!({ "hostname": "a" }),
                IdentityMatch::Unknown,
            ),
            (
                json!({ "hostname": "a", "digest": "1f" }),
                json!({ "hostname": "a", "digest": "1f" }),
                IdentityMatch::Same,
            ),
            (json!(null), json!(["odd"]), IdentityMatch::Unknown),
        ];
        for (before, now, expected) in cases {
            let (a, b) = (Identity::read(&before), Identity::read(&now));
            assert_eq!(a.compare(&b), expected, "{before} {now}");
        }
    }
}
