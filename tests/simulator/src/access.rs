//! Users, tickets, CSRF tokens and API tokens (wire protocol §7).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use proxmox_codegen::facts::Check;
use ring::hmac;
use serde_json::{Value, json};

use crate::calls::modifiers;
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::http::Head;
use crate::world::World;

const TICKET_LIFETIME: i64 = 2 * 3600;
const CLOCK_SKEW: i64 = 300;

/// Who asks.
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

/// What came of a password check.
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
    key: hmac::Key,
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

    fn sealed(&self, who: &str, now: Duration) -> String {
        let plain = format!("PVE:{who}:{:08X}", now.as_secs());
        let signature = self.signature(&plain);
        format!("{plain}::{signature}")
    }

    /// As long as the RSA signature it stands for.
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
        let (who, time) = plain.strip_prefix("PVE:")?.rsplit_once(':')?;
        let user = who.replace("%3A", ":");
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

    /// A ticket for the console of a path, good for one user and one port.
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

    /// What a SPICE viewer gives its proxy as the host to connect to; viewers make it lower case.
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
            // A ticket of root@pam makes tickets for anybody.
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
            .is_none_or(|wanted| wanted == code)
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

/// Credentials found in a request.
pub(crate) enum Credentials {
    None,
    Ticket(String),
    Token(String),
}

impl Credentials {
    /// The cookie wins over the `Authorization` header, a ticket there over a token.
    pub(crate) fn of(head: &Head) -> Self {
        let cookie = head.header("cookie").unwrap_or("");
        let authorization = head.header("authorization").unwrap_or("");
        if let Some(ticket) =
            named(cookie, "PVEAuthCookie").or_else(|| named(authorization, "PVEAuthCookie"))
        {
            Self::Ticket(ticket)
        } else if let Some(token) = named(authorization, "PVEAPIToken") {
            Self::Token(token)
        } else {
            Self::None
        }
    }
}

/// The value after `name=` or `name `, up to a semicolon; the name must start the text or follow white space.
fn named(text: &str, name: &str) -> Option<String> {
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

/// Privileges by the area of the `cap` map they show in; those of no area last.
const PRIVILEGES: [(&str, &[&str]); 8] = [
    (
        "vms",
        &[
            "VM.Allocate",
            "VM.Audit",
            "VM.Backup",
            "VM.Clone",
            "VM.Config.CDROM",
            "VM.Config.CPU",
            "VM.Config.Cloudinit",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.Console",
            "VM.Migrate",
            "VM.PowerMgmt",
            "VM.Snapshot",
            "VM.Snapshot.Rollback",
            "Permissions.Modify",
        ],
    ),
    (
        "storage",
        &[
            "Datastore.Allocate",
            "Datastore.AllocateSpace",
            "Datastore.AllocateTemplate",
            "Datastore.Audit",
            "Permissions.Modify",
        ],
    ),
    (
        "access",
        &["User.Modify", "Group.Allocate", "Permissions.Modify"],
    ),
    (
        "dc",
        &[
            "Sys.Audit",
            "Sys.Modify",
            "SDN.Allocate",
            "SDN.Audit",
            "SDN.Use",
        ],
    ),
    (
        "nodes",
        &[
            "Sys.Audit",
            "Sys.Console",
            "Sys.Incoming",
            "Sys.Modify",
            "Sys.PowerMgmt",
            "Sys.Syslog",
            "Sys.AccessNetwork",
            "Permissions.Modify",
        ],
    ),
    (
        "mapping",
        &[
            "Mapping.Audit",
            "Mapping.Modify",
            "Mapping.Use",
            "Permissions.Modify",
        ],
    ),
    (
        "sdn",
        &["SDN.Allocate", "SDN.Audit", "SDN.Use", "Permissions.Modify"],
    ),
    (
        "",
        &[
            "Pool.Allocate",
            "Pool.Audit",
            "Realm.Allocate",
            "Realm.AllocateUser",
        ],
    ),
];

/// Where the `cap` map of a login looks for the privileges of an area.
fn area_path(area: &str) -> &'static str {
    match area {
        "vms" => "/vms",
        "storage" => "/storage",
        "access" => "/access",
        "nodes" => "/nodes",
        "mapping" => "/mapping",
        "sdn" => "/sdn",
        _ => "/",
    }
}

/// Every privilege of a release with this major version.
pub(crate) fn all_privileges(major: u8) -> BTreeSet<String> {
    let own: &[&str] = if major >= 9 {
        &[
            "VM.Replicate",
            "VM.GuestAgent.Audit",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.GuestAgent.Unrestricted",
        ]
    } else {
        &["VM.Monitor"]
    };
    PRIVILEGES
        .iter()
        .flat_map(|(_, privileges)| privileges.iter())
        .chain(own)
        .map(|privilege| (*privilege).to_owned())
        .collect()
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    pub(crate) privileges: BTreeSet<String>,
    pub(crate) builtin: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) comment: Option<String>,
    pub(crate) users: BTreeSet<String>,
}

/// What an access rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    User,
    Group,
    Token,
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Token => "token",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) subject: Subject,
    /// User, group or full token id.
    pub(crate) who: String,
    pub(crate) role: String,
    pub(crate) propagate: bool,
}

/// The roles every installation has.
pub(crate) fn builtin_roles(major: u8) -> BTreeMap<String, Role> {
    let all = all_privileges(major);
    let pick = |test: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        all.iter()
            .filter(|privilege| test(privilege))
            .cloned()
            .collect()
    };
    // What no administrator but root@pam and those of the role Administrator have (pve-access-control
    // `AccessControl.pm`, `create_roles`).
    let root_like = [
        "Mapping.Modify",
        "Realm.Allocate",
        "Sys.Modify",
        "Sys.PowerMgmt",
        "Sys.Incoming",
        "Sys.AccessNetwork",
        "Permissions.Modify",
    ];
    let roles = [
        ("Administrator", all.clone()),
        ("NoAccess", BTreeSet::new()),
        ("PVEAdmin", pick(&|p| !root_like.contains(&p))),
        ("PVEAuditor", pick(&|p| p.ends_with(".Audit"))),
        ("PVEDatastoreAdmin", pick(&|p| p.starts_with("Datastore."))),
        (
            "PVEDatastoreUser",
            pick(&|p| matches!(p, "Datastore.Audit" | "Datastore.AllocateSpace")),
        ),
        ("PVEMappingAdmin", pick(&|p| p.starts_with("Mapping."))),
        ("PVEMappingAuditor", pick(&|p| p == "Mapping.Audit")),
        (
            "PVEMappingUser",
            pick(&|p| matches!(p, "Mapping.Audit" | "Mapping.Use")),
        ),
        ("PVEPoolAdmin", pick(&|p| p.starts_with("Pool."))),
        ("PVEPoolUser", pick(&|p| p == "Pool.Audit")),
        ("PVESDNAdmin", pick(&|p| p.starts_with("SDN."))),
        (
            "PVESDNUser",
            pick(&|p| matches!(p, "SDN.Audit" | "SDN.Use")),
        ),
        (
            "PVESysAdmin",
            pick(&|p| matches!(p, "Sys.Audit" | "Sys.Console" | "Sys.Syslog")),
        ),
        (
            "PVETemplateUser",
            pick(&|p| matches!(p, "VM.Audit" | "VM.Clone")),
        ),
        (
            "PVEUserAdmin",
            pick(&|p| matches!(p, "User.Modify" | "Group.Allocate" | "Realm.AllocateUser")),
        ),
        ("PVEVMAdmin", pick(&|p| p.starts_with("VM."))),
        (
            "PVEVMUser",
            pick(&|p| {
                matches!(
                    p,
                    "VM.Audit"
                        | "VM.Backup"
                        | "VM.Config.CDROM"
                        | "VM.Config.Cloudinit"
                        | "VM.Console"
                        | "VM.GuestAgent.Audit"
                        | "VM.GuestAgent.FileRead"
                        | "VM.GuestAgent.FileSystemMgmt"
                        | "VM.GuestAgent.FileWrite"
                        | "VM.PowerMgmt"
                )
            }),
        ),
    ];
    roles
        .into_iter()
        .map(|(name, privileges)| {
            let role = Role {
                privileges,
                builtin: true,
            };
            (name.to_owned(), role)
        })
        .collect()
}

impl Access {
    /// The privileges somebody has at a path.
    ///
    /// The rule closest to the path decides; at one path a rule for the user itself outweighs those of its groups. A
    /// token with privilege separation has what both it and its user have.
    pub(crate) fn privileges(&self, who: &Identity, path: &str) -> BTreeSet<String> {
        let user = if who.user == "root@pam" {
            self.roles
                .get("Administrator")
                .map(|role| role.privileges.clone())
                .unwrap_or_default()
        } else {
            let groups: BTreeSet<&str> = self
                .groups
                .iter()
                .filter(|(_, group)| group.users.contains(&who.user))
                .map(|(name, _)| name.as_str())
                .collect();
            self.rules_at(path, |rule| match rule.subject {
                Subject::User => (rule.who == who.user).then_some(1),
                Subject::Group => groups.contains(rule.who.as_str()).then_some(0),
                Subject::Token => None,
            })
        };
        let separated = who
            .token
            .as_ref()
            .and_then(|token| self.users.get(&who.user)?.tokens.get(token))
            .is_some_and(|token| token.privsep);
        if !separated {
            return user;
        }
        let full = who.full();
        let own = self.rules_at(path, |rule| {
            (rule.subject == Subject::Token && rule.who == full).then_some(0)
        });
        user.intersection(&own).cloned().collect()
    }

    fn rules_at(&self, path: &str, rank: impl Fn(&Rule) -> Option<u8>) -> BTreeSet<String> {
        let mut at = path;
        loop {
            let here: Vec<(u8, &Rule)> = self
                .rules
                .iter()
                .filter(|rule| rule.path == at && (at == path || rule.propagate))
                .filter_map(|rule| Some((rank(rule)?, rule)))
                .collect();
            if let Some(best) = here.iter().map(|(rank, _)| *rank).max() {
                return here
                    .iter()
                    .filter(|(rank, _)| *rank == best)
                    .filter_map(|(_, rule)| self.roles.get(&rule.role))
                    .flat_map(|role| role.privileges.iter().cloned())
                    .collect();
            }
            if at == "/" {
                return BTreeSet::new();
            }
            at = match at.rsplit_once('/') {
                Some(("", _)) | None => "/",
                Some((parent, _)) => parent,
            };
        }
    }

    /// The `cap` map of a login answer.
    pub(crate) fn capabilities(&self, who: &Identity, major: u8) -> Value {
        let all = all_privileges(major);
        PRIVILEGES
            .iter()
            .filter(|(area, _)| !area.is_empty())
            .map(|(area, privileges)| {
                let has = self.privileges(who, area_path(area));
                let shown: serde_json::Map<String, Value> = all
                    .iter()
                    .filter(|p| {
                        privileges.contains(&p.as_str()) || (*area == "vms" && p.starts_with("VM."))
                    })
                    .filter(|p| has.contains(*p))
                    .map(|p| (p.clone(), json!(1)))
                    .collect();
                ((*area).to_owned(), Value::Object(shown))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The path as permissions are looked up at; `None` where it can be none.
fn permission_path(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if text.is_empty() || !text.chars().all(fits) {
        return None;
    }
    let parts = text.split('/').filter(|part| !part.is_empty());
    Some(parts.fold(String::new(), |path, part| path + "/" + part)).map(|path| {
        if path.is_empty() {
            "/".to_owned()
        } else {
            path
        }
    })
}

/// What is no user name ends a call before its parameters are looked at.
fn check_user_name(userid: &str) -> ApiResult<()> {
    match crate::formats::check("pve-userid", userid) {
        Some(Err(text)) => Err(ApiError::die(text.trim_end())),
        _ => Ok(()),
    }
}

impl World {
    /// The privileges somebody has at a path, those that come with a pool included.
    pub(crate) fn privileges(&self, who: &Identity, path: &str) -> BTreeSet<String> {
        let mut held = self.access.privileges(who, path);
        let pool = match path.trim_start_matches('/').split_once('/') {
            Some(("vms", vmid)) => vmid
                .parse()
                .ok()
                .and_then(|vmid: u32| self.guests.get(&vmid)?.pool.as_ref()),
            Some(("storage", storage)) => self.pool_of_storage(storage),
            _ => None,
        };
        if let Some(pool) = pool {
            held.extend(self.access.privileges(who, &format!("/pool/{pool}")));
        }
        held
    }

    fn check_user_exists(&self, userid: &str) -> ApiResult<()> {
        match self.access.users.contains_key(userid) {
            true => Ok(()),
            false => Err(ApiError::die(format!("no such user ('{userid}')"))),
        }
    }

    /// Whether an endpoint's rule lets somebody in.
    pub(crate) fn check(
        &self,
        who: &Identity,
        check: &Check,
        params: &BTreeMap<String, String>,
    ) -> ApiResult<()> {
        let fill = |path: &str| -> String {
            path.split('/')
                .map(
                    |part| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                        Some(name) => params.get(name).cloned().unwrap_or_else(|| "-".to_owned()),
                        None => part.to_owned(),
                    },
                )
                .collect::<Vec<_>>()
                .join("/")
        };
        let refuse = |text: &str| Err(ApiError::permission(text));
        let userid = params.get("userid").map_or("", String::as_str);
        match check {
            Check::Or(choices) => {
                let mut verdicts = choices.iter().map(|choice| self.check(who, choice, params));
                match verdicts.any(|verdict| verdict.is_ok()) {
                    true => Ok(()),
                    false => refuse(""),
                }
            }
            Check::And(all) => all
                .iter()
                .try_for_each(|check| self.check(who, check, params)),
            Check::Perm {
                path,
                privileges,
                any,
                require_param,
            } => {
                if require_param
                    .as_ref()
                    .is_some_and(|name| !params.contains_key(name))
                {
                    return refuse("");
                }
                // Nobody has anything at what is no path, root's tokens included.
                let path = permission_path(&fill(path));
                let has = path
                    .as_ref()
                    .map(|path| self.privileges(who, path))
                    .unwrap_or_default();
                let path = path.unwrap_or_default();
                if *any {
                    if privileges.iter().any(|p| has.contains(p)) {
                        return Ok(());
                    }
                    return refuse(&format!("{path}, {}", privileges.join("|")));
                }
                match privileges.iter().find(|p| !has.contains(*p)) {
                    Some(missing) => refuse(&format!("{path}, {missing}")),
                    None => Ok(()),
                }
            }
            Check::UserIdParam(name) if name == "self" => {
                check_user_name(userid)?;
                self.check_user_exists(userid)?;
                match who.full() == userid {
                    true => Ok(()),
                    false => refuse(""),
                }
            }
            Check::UserIdParam(_) => {
                check_user_name(userid)?;
                let realm = userid.rsplit_once('@').map_or("", |(_, realm)| realm);
                let path = format!("/access/realm/{realm}");
                if self.privileges(who, &path).contains("Realm.AllocateUser") {
                    Ok(())
                } else {
                    refuse(&format!("{path}, Realm.AllocateUser"))
                }
            }
            Check::UserIdGroup {
                privileges,
                groups_param,
            } => {
                let may = |path: &str| {
                    let has = self.privileges(who, path);
                    privileges.iter().any(|p| has.contains(p))
                };
                let creates = groups_param.as_deref() == Some("create");
                if !creates {
                    self.check_user_exists(userid)?;
                }
                let refusal = |path: &str| refuse(&format!("{path}, {}", privileges.join("|")));
                if may("/access/groups") {
                    return Ok(());
                }
                if groups_param.is_some() {
                    let groups = params.get("groups").map_or("", String::as_str);
                    let mut groups = split_list(groups).peekable();
                    if groups.peek().is_none() {
                        return refusal("/access/groups");
                    }
                    for group in groups {
                        let path = format!("/access/groups/{group}");
                        if !may(&path) {
                            return refusal(&path);
                        }
                    }
                }
                let mut groups = self.access.groups.iter();
                let member = groups.any(|(name, group)| {
                    group.users.contains(userid) && may(&format!("/access/groups/{name}"))
                });
                match creates || member {
                    true => Ok(()),
                    false => refuse(""),
                }
            }
            Check::PermModify(path) => {
                let path = fill(path);
                let path = if path.is_empty() {
                    "/".to_owned()
                } else {
                    path
                };
                let has = self.privileges(who, &path);
                let wanted = modifiers(&path);
                if wanted.iter().any(|p| has.contains(*p)) {
                    Ok(())
                } else {
                    refuse(&format!("{path}, {}", wanted.join("|")))
                }
            }
            Check::UserParam(_) | Check::Roles(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let rule = |path: &str, subject, who: &str, role: &str, propagate| Rule {
            path: path.into(),
            subject,
            who: who.into(),
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
        let who = Identity {
            user: "tfa@pve".into(),
            token: None,
        };
        let has = |path: &str, privilege: &str| access.privileges(&who, path).contains(privilege);
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
        let who = Identity {
            user: "root@pam".into(),
            token: Some("sep".into()),
        };
        assert!(access.privileges(&who, "/").is_empty());
        access.rules.push(Rule {
            path: "/".into(),
            subject: Subject::Token,
            who: "root@pam!sep".into(),
            role: "PVEAuditor".into(),
            propagate: true,
        });
        assert!(access.privileges(&who, "/vms/100").contains("VM.Audit"));
        assert!(!access.privileges(&who, "/vms/100").contains("VM.Allocate"));
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
