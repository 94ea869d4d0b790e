//! Recognising names of secrets that the schema does not know.

/// Parts of names that make them look like a secret's. The schema's overlay, `secrets.toml`, has the same list.
const SUSPICIOUS: &[&str] = &[
    "auth",
    "bearer",
    "cert",
    "challenge",
    "code",
    "community",
    "cookie",
    "cred",
    "csrf",
    "header",
    "hmac",
    "key",
    "nonce",
    "otp",
    "pass",
    "private",
    "proxy",
    "psk",
    "recover",
    "secret",
    "signature",
    "ticket",
    "token",
];

/// Names with such a part that are known not to be secrets, from the same file.
const PUBLIC: &[&str] = &[
    "authid",
    "author",
    "authsupported",
    "cert",
    "certificates",
    "certified",
    "certkey",
    "config-keys",
    "full-tokenid",
    "hotplug",
    "keyboard",
    "lock-token",
    "master-pubkey",
    "proxy",
    "public-key-type",
    "public_key",
    "secauth",
    "signature",
    "ssh-public-keys",
    "sshkeys",
    "tokenid",
    "tokens",
    "Key",
];

/// Names without such a part that are secrets.
const SECRET: &[&str] = &["env", "response"];

/// Whether a value of that name must not be printed.
pub(crate) fn is_secret(name: &str) -> bool {
    if PUBLIC.contains(&name) {
        return false;
    }
    let name = name.to_ascii_lowercase();
    SECRET.contains(&&*name) || SUSPICIOUS.iter().any(|part| name.contains(part))
}

/// Whether a text has the form of a secret.
pub(crate) fn is_secret_text(text: &str) -> bool {
    let text = text.trim_start();
    let starts = ["PVEAPIToken=", "PVE:", "PVEVNC:", "PVETUNNEL:", "otpauth:"];
    starts.iter().any(|start| text.starts_with(start))
        || text.contains("PRIVATE KEY-----")
        || text
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
            .is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[derive(serde::Deserialize)]
    struct Overlay {
        suspicious: BTreeSet<String>,
        secret: Entries,
        public: Entries,
    }

    #[derive(serde::Deserialize)]
    struct Entries {
        names: BTreeMap<String, String>,
    }

    #[test]
    fn the_overlay_and_this_file_have_the_same_names() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../schema/pve/overlay/secrets.toml"
        );
        let text = std::fs::read_to_string(path).expect("the overlay is there");
        let overlay: Overlay = toml::from_str(&text).expect("it is TOML");
        let set = |list: &[&str]| -> BTreeSet<String> {
            list.iter().map(|&part| part.to_owned()).collect()
        };
        assert_eq!(set(SUSPICIOUS), overlay.suspicious);
        let public: BTreeSet<_> = overlay.public.names.into_keys().collect();
        assert_eq!(set(PUBLIC), public);
        for name in overlay.secret.names.keys() {
            assert!(is_secret(name), "{name}");
        }
    }

    #[test]
    fn secret_names_of_other_products_and_releases_are_recognized() {
        for name in [
            "private-key",
            "PVEAuthCookie",
            "s3-secret-key",
            "webauthn_credential",
            "new-password",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["name", "memory", "comment", "lock-token"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn some_secrets_are_recognized_by_their_form() {
        for text in [
            "PVEAPIToken=a@b!c=d",
            "PVE:root@pam:00000000::x",
            "otpauth://totp/x?secret=A",
            "-----BEGIN RSA PRIVATE KEY-----",
            "http://user:pw@proxy:3128/",
        ] {
            assert!(is_secret_text(text), "{text}");
        }
        for text in ["http://proxy:3128/a@b", "root@pam", "PVEAudit"] {
            assert!(!is_secret_text(text), "{text}");
        }
    }
}
