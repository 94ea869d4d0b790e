//! Users, tickets, CSRF tokens and API tokens (wire protocol §7).

pub(crate) mod roles;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hmac;

use crate::state::access::roles::{Group, Role, Rule, builtin_roles};

const TICKET_LIFETIME: i64 = 2 * 3600;

const CLOCK_SKEW: i64 = 300;

/// A user, or a token of a user.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    /// `user@realm`, without the token.
    pub(crate) user: String,
    pub(crate) token: Option<String>,
}

impl Identity {
    /// `user@realm` or `user@realm!token`.
    pub(crate) fn full(&self) -> String {
        match &self.token {
            Some(token) => format!("{}!{token}", self.user),
            None => self.user.clone(),
        }
    }

    /// A token of root@pam is not root@pam.
    pub(crate) fn is_root(&self) -> bool {
        self.user == "root@pam" && self.token.is_none()
    }
}

#[derive(Clone, Default)]
pub(crate) struct User {
    pub(crate) password: String,
    /// The code the second factor expects.
    pub(crate) totp: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) tokens: BTreeMap<String, Token>,
}

#[derive(Clone, Default)]
pub(crate) struct Token {
    pub(crate) secret: String,
    /// Unix time; 0 never expires.
    pub(crate) expire: u64,
    pub(crate) privsep: bool,
    pub(crate) comment: Option<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("enabled", &self.enabled)
            .field("tokens", &self.tokens.keys())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expire", &self.expire)
            .finish_non_exhaustive()
    }
}

/// The result of a password check.
pub(crate) enum Login {
    Ok,
    NeedsSecondFactor,
    Refused,
}

pub(crate) struct Access {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) key: hmac::Key,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

impl Access {
    pub(crate) fn new(seed: u64, major: u8) -> Self {
        Self {
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            roles: builtin_roles(major),
            rules: Vec::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, format!("simulator {seed}").as_bytes()),
        }
    }

    pub(crate) fn ticket(&self, user: &str, now: Duration) -> String {
        self.sealed(&user.replace(':', "%3A"), now)
    }

    pub(crate) fn challenge(&self, user: &str, now: Duration) -> String {
        let ticket = self.sealed("!tfa!{\"totp\"%3Atrue}", now);
        // Bound to the user although the text does not show it.
        let signature = self.signature(&format!("{user} {ticket}"));
        format!("{}::{signature}", ticket.split("::").next().unwrap_or(""))
    }

    fn sealed(&self, user: &str, now: Duration) -> String {
        let plain = format!("PVE:{user}:{:08X}", now.as_secs());
        let signature = self.signature(&plain);
        format!("{plain}::{signature}")
    }

    /// Has the length of the RSA signature in a real ticket.
    fn signature(&self, plain: &str) -> String {
        let bytes: Vec<u8> = (0..8)
            .flat_map(|part| {
                hmac::sign(&self.key, format!("{part} {plain}").as_bytes())
                    .as_ref()
                    .to_vec()
            })
            .collect();
        STANDARD.encode(bytes)
    }

    /// The user of a valid ticket.
    pub(crate) fn check_ticket(&self, ticket: &str, now: Duration) -> Option<String> {
        let (plain, signature) = ticket.split_once("::")?;
        if signature != self.signature(plain) {
            return None;
        }
        let (user, time) = plain.strip_prefix("PVE:")?.rsplit_once(':')?;
        let user = user.replace("%3A", ":");
        fresh(time, now)?;
        self.users.get(&user).filter(|user| user.enabled)?;
        Some(user)
    }

    pub(crate) fn csrf(&self, user: &str, now: Duration) -> String {
        let time = format!("{:08X}", now.as_secs());
        let tag = self.csrf_tag(&time, user);
        format!("{time}:{tag}")
    }

    fn csrf_tag(&self, time: &str, user: &str) -> String {
        STANDARD_NO_PAD.encode(hmac::sign(
            &self.key,
            format!("csrf {time}:{user}").as_bytes(),
        ))
    }

    pub(crate) fn check_csrf(&self, token: &str, user: &str, now: Duration) -> bool {
        token.split_once(':').is_some_and(|(time, tag)| {
            fresh(time, now).is_some() && tag == self.csrf_tag(time, user)
        })
    }

    /// A ticket for the console of a path, valid for one user and one port.
    pub(crate) fn console_ticket(
        &self,
        path: &str,
        user: &str,
        port: u16,
        now: Duration,
    ) -> String {
        let plain = format!("PVEVNC:{:08X}", now.as_secs());
        let signature = self.signature(&format!("{plain} {user} {path} {port}"));
        format!("{plain}::{signature}")
    }

    /// A ticket for the socket of a tunnel.
    pub(crate) fn tunnel_ticket(&self, socket: &str, user: &str, now: Duration) -> String {
        let plain = format!("PVETUNNEL:{:08X}", now.as_secs());
        let signature = self.signature(&format!("{plain} {user} {socket}"));
        format!("{plain}::{signature}")
    }

    /// The host that a SPICE viewer asks its proxy to connect to; viewers convert it to lower case.
    pub(crate) fn spice_ticket(&self, vmid: u32, node: &str, port: u16, now: Duration) -> String {
        let node = node.to_ascii_lowercase();
        self.sign_spice(&format!(
            "pvespiceproxy:{:08x}:{vmid}:{node}:{port}",
            now.as_secs()
        ))
    }

    fn sign_spice(&self, plain: &str) -> String {
        let seal = hmac::sign(&self.key, plain.as_bytes());
        let seal: String = seal
            .as_ref()
            .iter()
            .take(20)
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("{plain}::{seal}")
    }

    pub(crate) fn takes_spice_ticket(&self, host: &str, now: Duration) -> bool {
        const AGES: std::ops::RangeInclusive<i64> = -20..=40;
        let Some((ticket, port)) = host.rsplit_once(':') else {
            return false;
        };
        let Some((plain, _)) = ticket.rsplit_once("::") else {
            return false;
        };
        let issued = plain
            .split(':')
            .nth(1)
            .and_then(|time| i64::from_str_radix(time, 16).ok());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.sign_spice(plain) == ticket
            && plain.rsplit(':').next() == Some(port)
            && issued.is_some_and(|issued| AGES.contains(&now.saturating_sub(issued)))
    }

    /// The identity of `user@realm!id=secret`.
    pub(crate) fn check_token(&self, text: &str, now: Duration) -> Option<Identity> {
        let (id, secret) = text.split_once('=')?;
        let (user, name) = id.split_once('!')?;
        let owner = self.users.get(user).filter(|user| user.enabled)?;
        let token = owner.tokens.get(name)?;
        let expired = token.expire != 0 && token.expire <= now.as_secs();
        (token.secret == secret && !expired).then(|| Identity {
            user: user.to_owned(),
            token: Some(name.to_owned()),
        })
    }

    /// Checks a password, or a ticket given as one.
    pub(crate) fn login(&self, user: &str, password: &str, now: Duration) -> Login {
        let Some(known) = self.users.get(user).filter(|user| user.enabled) else {
            return Login::Refused;
        };
        if let Some(owner) = self.check_ticket(password, now) {
            // The server accepts a ticket of root@pam as the password of any user.
            return if owner == user || owner == "root@pam" {
                Login::Ok
            } else {
                Login::Refused
            };
        }
        if known.password.is_empty() || known.password != password {
            Login::Refused
        } else if known.totp.is_some() {
            Login::NeedsSecondFactor
        } else {
            Login::Ok
        }
    }

    /// Checks a one-time code given along with the password.
    pub(crate) fn one_time_code(&self, user: &str, code: &str) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.totp.as_deref())
            .is_none_or(|expected| expected == code)
    }

    /// Checks the answer to a challenge, `totp:123456`.
    pub(crate) fn second_factor(
        &self,
        user: &str,
        challenge: &str,
        answer: &str,
        now: Duration,
    ) -> bool {
        let Some(code) = self.users.get(user).and_then(|user| user.totp.as_ref()) else {
            return false;
        };
        let Some(time) = challenge
            .split_once("::")
            .and_then(|(plain, _)| plain.rsplit_once(':'))
            .map(|(_, time)| time)
        else {
            return false;
        };
        let Some(issued) = fresh(time, now) else {
            return false;
        };
        challenge == self.challenge(user, issued) && answer.strip_prefix("totp:") == Some(code)
    }
}

/// The time in eight hex digits, unless it is too old or too far ahead.
fn fresh(time: &str, now: Duration) -> Option<Duration> {
    if time.len() != 8 {
        return None;
    }
    let issued = u64::from_str_radix(time, 16).ok()?;
    let age = i64::try_from(now.as_secs()).ok()? - i64::try_from(issued).ok()?;
    (-CLOCK_SKEW..=TICKET_LIFETIME)
        .contains(&age)
        .then_some(Duration::from_secs(issued))
}

/// The value after `name=` or `name `, up to a semicolon; the name must start the text or follow white space.
pub(crate) fn named(text: &str, name: &str) -> Option<String> {
    let mut from = 0;
    while let Some(at) = text[from..].find(name) {
        let start = from + at;
        let end = start + name.len();
        let opens = start == 0 || text[..start].ends_with(char::is_whitespace);
        if opens && text[end..].starts_with(['=', ' ']) {
            let value = text[end + 1..].split(';').next().unwrap_or("");
            return Some(
                percent_encoding::percent_decode_str(value)
                    .decode_utf8_lossy()
                    .into_owned(),
            );
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::access::roles::Subject;
    use std::collections::BTreeSet;

    fn access() -> Access {
        let mut access = Access::new(1, 9);
        access.users.insert(
            "root@pam".into(),
            User {
                password: "secret".into(),
                enabled: true,
                ..User::default()
            },
        );
        access.users.insert(
            "tfa@pve".into(),
            User {
                password: "pw".into(),
                enabled: true,
                totp: Some("123456".into()),
                ..User::default()
            },
        );
        access
    }

    #[test]
    fn tickets_expire_and_cannot_be_changed() {
        let access = access();
        let issued = Duration::from_secs(1_800_000_000);
        let ticket = access.ticket("root@pam", issued);
        let after = |s| issued + Duration::from_secs(s);
        assert_eq!(
            access.check_ticket(&ticket, after(7_200)).as_deref(),
            Some("root@pam")
        );
        assert_eq!(access.check_ticket(&ticket, after(7_201)), None);
        assert_eq!(
            access.check_ticket(&ticket, issued - Duration::from_secs(301)),
            None
        );
        assert_eq!(
            access.check_ticket(&ticket.replace("root", "toor"), issued),
            None
        );
    }

    #[test]
    fn csrf_tokens_are_bound_to_the_user() {
        let access = access();
        let now = Duration::from_secs(1_800_000_000);
        let token = access.csrf("root@pam", now);
        assert!(access.check_csrf(&token, "root@pam", now));
        assert!(!access.check_csrf(&token, "tfa@pve", now));
        assert!(!access.check_csrf("00000000:abc", "root@pam", now));
    }

    #[test]
    fn second_factor() {
        let access = access();
        let now = Duration::from_secs(1_800_000_000);
        assert!(matches!(
            access.login("tfa@pve", "pw", now),
            Login::NeedsSecondFactor
        ));
        let challenge = access.challenge("tfa@pve", now);
        assert!(challenge.starts_with("PVE:!tfa!{\"totp\"%3Atrue}:"));
        assert_eq!(access.check_ticket(&challenge, now), None);
        let later = now + Duration::from_secs(20);
        assert!(access.second_factor("tfa@pve", &challenge, "totp:123456", later));
        assert!(!access.second_factor("tfa@pve", &challenge, "totp:000000", later));
        assert!(!access.second_factor("root@pam", &challenge, "totp:123456", later));
    }

    #[test]
    fn the_closest_rule_decides() {
        let mut access = access();
        let rule = |path: &str, subject, ugid: &str, role: &str, propagate| Rule {
            path: path.into(),
            subject,
            ugid: ugid.into(),
            role: role.into(),
            propagate,
        };
        access.groups.insert(
            "ops".into(),
            Group {
                users: BTreeSet::from(["tfa@pve".into()]),
                ..Group::default()
            },
        );
        access.rules = vec![
            rule("/vms", Subject::Group, "ops", "PVEVMAdmin", true),
            rule("/vms/100", Subject::User, "tfa@pve", "PVEAuditor", true),
            rule("/vms/100", Subject::Group, "ops", "PVEVMAdmin", true),
            rule(
                "/storage",
                Subject::User,
                "tfa@pve",
                "PVEDatastoreAdmin",
                false,
            ),
        ];
        let identity = Identity {
            user: "tfa@pve".into(),
            token: None,
        };
        let has =
            |path: &str, privilege: &str| access.privileges(&identity, path).contains(privilege);
        assert!(has("/vms/101", "VM.PowerMgmt"));
        assert!(!has("/vms/100", "VM.PowerMgmt"));
        assert!(has("/vms/100", "VM.Audit"));
        assert!(has("/storage", "Datastore.Allocate"));
        assert!(!has("/storage/local", "Datastore.Allocate"));
    }

    #[test]
    fn separated_tokens_have_no_more_than_their_rules() {
        let mut access = access();
        let token = Token {
            privsep: true,
            ..Token::default()
        };
        if let Some(root) = access.users.get_mut("root@pam") {
            root.tokens.insert("sep".into(), token);
        }
        let identity = Identity {
            user: "root@pam".into(),
            token: Some("sep".into()),
        };
        assert!(access.privileges(&identity, "/").is_empty());
        access.rules.push(Rule {
            path: "/".into(),
            subject: Subject::Token,
            ugid: "root@pam!sep".into(),
            role: "PVEAuditor".into(),
            propagate: true,
        });
        assert!(
            access
                .privileges(&identity, "/vms/100")
                .contains("VM.Audit")
        );
        assert!(
            !access
                .privileges(&identity, "/vms/100")
                .contains("VM.Allocate")
        );
    }

    #[test]
    fn credentials_in_headers() {
        assert_eq!(
            named("a=b; PVEAuthCookie=x%3Ay", "PVEAuthCookie").as_deref(),
            Some("x:y")
        );
        assert_eq!(named("a=b;PVEAuthCookie=x", "PVEAuthCookie"), None);
        assert_eq!(
            named("PVEAPIToken root@pam!t=1", "PVEAPIToken").as_deref(),
            Some("root@pam!t=1")
        );
        assert_eq!(named("pveapitoken=x", "PVEAPIToken"), None);
    }
}
