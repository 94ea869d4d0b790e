//! Firewall rules by their content instead of their position; sets of addresses and aliases.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::work::{Action, Ensured, Subject, Track, Work, WorkError};
use crate::Value;
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::value::encode::escape;
use crate::value::endpoint::Method;
use crate::value::serialize::variant_serde;

/// The owner of rules, sets and aliases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole cluster.
    Cluster,
    /// A node; it has rules only.
    Node(String),
    /// A security group, which is created if it does not exist; it has rules only.
    Group(String),
    /// A virtual network; it has rules only, since 8.3.
    Vnet(String),
    /// A guest.
    Guest(u32),
}

variant_serde!(Scope {
    Cluster = "cluster",
    Node(node) = "node",
    Group(group) = "group",
    Vnet(vnet) = "vnet",
    Guest(vmid) = "guest",
});

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Vnet(vnet) => write!(f, "network {vnet}"),
            Self::Guest(vmid) => write!(f, "guest {vmid}"),
        }
    }
}

impl Scope {
    async fn path(&self, pve: &Client) -> Result<String, Error> {
        Ok(match self {
            Self::Cluster | Self::Group(_) => "/cluster/firewall".to_owned(),
            Self::Node(node) => format!("/nodes/{}/firewall", escape(node)),
            Self::Vnet(vnet) => format!("/cluster/sdn/vnets/{}/firewall", escape(vnet)),
            Self::Guest(vmid) => {
                let location = pve.guest(*vmid).location().await?;
                format!(
                    "/nodes/{}/{}/{vmid}/firewall",
                    escape(&location.node),
                    location.kind
                )
            }
        })
    }

    async fn rules(&self, pve: &Client) -> Result<String, Error> {
        let path = self.path(pve).await?;
        Ok(match self {
            Self::Group(group) => format!("{path}/groups/{}", escape(group)),
            _ => format!("{path}/rules"),
        })
    }
}

/// A rule without its position. Two rules are equal if the server treats packets the same by them
/// and they have the same comment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule(BTreeMap<String, String>);

/// Its settings, by the names of the API.
impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

/// Members about a rule's position or about the list.
const NOT_OF_THE_RULE: [&str; 3] = ["pos", "digest", "ipversion"];

impl Rule {
    fn new(direction: &str, action: &str) -> Self {
        let rule = Self(BTreeMap::new()).set("type", direction);
        rule.set("action", action)
    }

    /// Incoming packets are accepted.
    #[must_use]
    pub fn accept_in() -> Self {
        Self::new("in", "ACCEPT")
    }

    /// Outgoing packets are accepted.
    #[must_use]
    pub fn accept_out() -> Self {
        Self::new("out", "ACCEPT")
    }

    /// Incoming packets are dropped.
    #[must_use]
    pub fn drop_in() -> Self {
        Self::new("in", "DROP")
    }

    /// Outgoing packets are dropped.
    #[must_use]
    pub fn drop_out() -> Self {
        Self::new("out", "DROP")
    }

    /// Incoming packets are rejected with an answer.
    #[must_use]
    pub fn reject_in() -> Self {
        Self::new("in", "REJECT")
    }

    /// Outgoing packets are rejected with an answer.
    #[must_use]
    pub fn reject_out() -> Self {
        Self::new("out", "REJECT")
    }

    /// The rules of a security group.
    #[must_use]
    pub fn group(name: &str) -> Self {
        Self::new("group", name)
    }

    /// Forwarded packets, with `ACCEPT` or `DROP`; for nodes, the cluster and virtual networks,
    /// since 8.3.
    #[must_use]
    pub fn forward(action: &str) -> Self {
        Self::new("forward", action)
    }

    /// Sets any setting by its name in the API, as `iface`; an empty value removes it.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        let usual = match key {
            "enable" => value == "1",
            "log" => value == "nolog",
            _ => value.is_empty(),
        };
        match usual {
            true => self.0.remove(key),
            false => self.0.insert(key.to_owned(), value),
        };
        self
    }

    /// A setting by its name in the API; `None` if it is missing or has the default: enabled,
    /// without a log.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A protocol and ports, as `tcp` and `22,80:90`.
    #[must_use]
    pub fn port(self, protocol: &str, ports: impl ToString) -> Self {
        self.set("proto", protocol).set("dport", ports.to_string())
    }

    /// A predefined service, as `SSH`.
    #[must_use]
    pub fn service(self, name: &str) -> Self {
        self.set("macro", name)
    }

    /// The source of packets: an address, a network, an alias, or a set as `+office`.
    #[must_use]
    pub fn from(self, source: &str) -> Self {
        self.set("source", source)
    }

    /// The destination of packets.
    #[must_use]
    pub fn to(self, destination: &str) -> Self {
        self.set("dest", destination)
    }

    /// A comment, which is part of the rule's content.
    #[must_use]
    pub fn comment(self, text: &str) -> Self {
        self.set("comment", text.trim_end())
    }

    /// Disables the rule.
    #[must_use]
    pub fn disabled(self) -> Self {
        self.set("enable", "0")
    }

    fn read(row: &Value) -> Option<Self> {
        let mut rule = Self(BTreeMap::new());
        let mut enabled = false;
        for (key, value) in row.as_object()? {
            let text = match value {
                Value::String(text) => text.trim_end().to_owned(),
                Value::Bool(yes) => u8::from(*yes).to_string(),
                Value::Number(number) => number.to_string(),
                _ => continue,
            };
            enabled |= key == "enable" && text == "1";
            if !NOT_OF_THE_RULE.contains(&key.as_str()) && key != "enable" {
                rule = rule.set(key, text);
            }
        }
        Some(match enabled {
            true => rule,
            false => rule.disabled(),
        })
    }

    /// All parameters for the server.
    fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let enable = (!self.0.contains_key("enable")).then_some(("enable", "1"));
        let own = self
            .0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        own.chain(enable)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.get("type").unwrap_or("?"),
            self.get("action").unwrap_or("?")
        )?;
        for (key, value) in &self.0 {
            if key != "type" && key != "action" {
                write!(f, " {key}={value}")?;
            }
        }
        Ok(())
    }
}

/// The wanted rules of a scope; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::firewall::{Rule, Rules, Scope};
///
/// let rules = Rules::of(Scope::Guest(101))
///     .first(Rule::accept_in().port("tcp", 22).from("+office"))
///     .last(Rule::drop_in().comment("everything else"))
///     .without(Rule::accept_in().service("Telnet"));
/// for change in rules.plan(&pve).await? {
///     println!("{change}");
/// }
/// pve.carry_out(rules).await?;
/// # Ok(())
/// # }
/// ```
///
/// Rules are compared by their content, in any position; of duplicates one is kept. Every change
/// carries the digest of the list that it was made for. If somebody else changes the list in
/// between, it is read again.
///
/// The server takes one change at a time. After a failure the changes so far stay, and
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) says how many there were. Carried
/// out again, it makes the remaining ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    scope: Scope,
    wanted: RuleSelection,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RuleSelection {
    Exactly(Vec<Rule>),
    With {
        first: Vec<Rule>,
        last: Vec<Rule>,
        anywhere: Vec<Rule>,
        without: Vec<Rule>,
    },
}

/// One change of a list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleChange {
    /// A rule is removed.
    Remove(Rule),
    /// A rule is added at this position, counted from 0.
    Add(usize, Rule),
    /// An existing rule is moved to this position, counted from 0.
    Move(usize, Rule),
}

variant_serde!(RuleChange {
    Remove(rule) = "remove",
    Add(place, rule) = "add",
    Move(place, rule) = "move",
});

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(rule) => write!(f, "- {rule}"),
            Self::Add(at, rule) => write!(f, "+ {at}: {rule}"),
            Self::Move(at, rule) => write!(f, "→ {at}: {rule}"),
        }
    }
}

/// The next request that turns one list into another.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Remove(usize),
    /// At the top, where the server puts every new rule.
    Add(usize),
    /// From a position to before the rule at another one.
    Move(usize, usize),
}

fn next(now: &[Rule], wanted: &[Rule]) -> Option<Next> {
    let count = |list: &[Rule], rule: &Rule| list.iter().filter(|other| *other == rule).count();
    let surplus = |rule: &&Rule| count(now, rule) > count(wanted, rule);
    // The last of the duplicates, because the first one has the effect.
    if let Some(at) = now.iter().rposition(|rule| surplus(&rule)) {
        return Some(Next::Remove(at));
    }
    if let Some(at) = wanted
        .iter()
        .rposition(|rule| count(now, rule) < count(wanted, rule))
    {
        return Some(Next::Add(at));
    }
    let at = (0..now.len()).find(|at| now.get(*at) != wanted.get(*at))?;
    // A rule that is too high moves down in one step, instead of moving all others up.
    let (here, after) = (now.get(at)?, now.get(at + 1));
    if after == wanted.get(at) {
        let down = wanted
            .iter()
            .enumerate()
            .skip(at)
            .find(|(_, rule)| *rule == here);
        if let Some((to, _)) = down {
            return Some(Next::Move(at, to + 1));
        }
    }
    let from = now
        .iter()
        .enumerate()
        .skip(at)
        .find(|(_, rule)| Some(*rule) == wanted.get(at));
    from.map(|(from, _)| Next::Move(from, at))
}

impl Rules {
    /// The rules of a scope, without changes.
    #[must_use]
    pub fn of(scope: Scope) -> Self {
        let wanted = RuleSelection::With {
            first: Vec::new(),
            last: Vec::new(),
            anywhere: Vec::new(),
            without: Vec::new(),
        };
        Self { scope, wanted }
    }

    /// These rules in this order, and **no others**.
    #[must_use]
    pub fn exactly(scope: Scope, rules: impl IntoIterator<Item = Rule>) -> Self {
        let wanted = RuleSelection::Exactly(rules.into_iter().collect());
        Self { scope, wanted }
    }

    fn list(mut self, pick: impl FnOnce([&mut Vec<Rule>; 4])) -> Self {
        if let RuleSelection::Exactly(rules) = self.wanted {
            self.wanted = RuleSelection::With {
                first: Vec::new(),
                last: Vec::new(),
                anywhere: rules,
                without: Vec::new(),
            };
        }
        if let RuleSelection::With {
            first,
            last,
            anywhere,
            without,
        } = &mut self.wanted
        {
            pick([first, last, anywhere, without]);
        }
        self
    }

    /// This rule before all others, after those that were set as first before.
    #[must_use]
    pub fn first(self, rule: Rule) -> Self {
        self.list(|[first, ..]| first.push(rule))
    }

    /// This rule after all others, after those that were set as last before.
    #[must_use]
    pub fn last(self, rule: Rule) -> Self {
        self.list(|[_, last, ..]| last.push(rule))
    }

    /// This rule, in any position; at the end if it is new.
    #[must_use]
    pub fn with(self, rule: Rule) -> Self {
        self.list(|[_, _, anywhere, _]| anywhere.push(rule))
    }

    /// Removes this rule.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        self.list(|[.., without]| without.push(rule))
    }

    fn wanted(&self, now: &[Rule]) -> Vec<Rule> {
        let RuleSelection::With {
            first,
            last,
            anywhere,
            without,
        } = &self.wanted
        else {
            let RuleSelection::Exactly(rules) = &self.wanted else {
                return Vec::new();
            };
            return rules.clone();
        };
        let ends = |rule: &Rule| first.contains(rule) || last.contains(rule);
        let mut list = first.clone();
        for rule in now {
            let touched = anywhere.contains(rule) && list.contains(rule);
            if !ends(rule) && !without.contains(rule) && !touched {
                list.push(rule.clone());
            }
        }
        for rule in anywhere {
            if !list.contains(rule) && !last.contains(rule) {
                list.push(rule.clone());
            }
        }
        list.extend(last.iter().cloned());
        list
    }

    /// The changes that would be made now.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn plan(&self, pve: &Client) -> Result<Vec<RuleChange>, Error> {
        let path = self.scope.rules(pve).await?;
        let mut now = match read(pve, &path).await {
            Err(error) if self.is_new(&error) => Vec::new(),
            read => read?.0,
        };
        let wanted = self.wanted(&now);
        let mut changes = Vec::new();
        let mut added: Vec<Rule> = Vec::new();
        while let Some(next) = next(&now, &wanted) {
            match next {
                Next::Remove(at) => changes.push(RuleChange::Remove(now.remove(at))),
                Next::Add(at) => {
                    let rule = wanted.get(at).cloned().unwrap_or_else(Rule::drop_in);
                    changes.push(RuleChange::Add(at, rule.clone()));
                    added.push(rule.clone());
                    now.insert(0, rule);
                }
                Next::Move(from, to) => {
                    let rule = now.remove(from);
                    let to = if to > from { to - 1 } else { to };
                    // A new rule reaches its position by moves, which are not reported.
                    if !added.contains(&rule) {
                        changes.push(RuleChange::Move(to, rule.clone()));
                    }
                    now.insert(to.min(now.len()), rule);
                }
            }
        }
        Ok(changes)
    }

    /// Whether the error says that a security group does not exist yet.
    fn is_new(&self, error: &Error) -> bool {
        let missing = error
            .api()
            .is_some_and(|error| error.message().contains("no such"));
        matches!(self.scope, Scope::Group(_)) && missing
    }
}

async fn read(pve: &Client, path: &str) -> Result<(Vec<Rule>, Option<String>), Error> {
    let answer = pve.request::<Value>(Method::Get, path).await?;
    let rows = answer.as_array().cloned().unwrap_or_default();
    let digest = rows
        .first()
        .and_then(|row| row.get("digest")?.as_str())
        .map(str::to_owned);
    Ok((rows.iter().filter_map(Rule::read).collect(), digest))
}

impl Work for Rules {
    /// The number of changes.
    type Done = usize;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<usize, Error> {
        let path = self.scope.rules(pve).await?;
        let subject = Subject::Other(format!("rules of {}", self.scope));
        if let (Err(error), Scope::Group(group)) = (read(pve, &path).await, &self.scope) {
            if !self.is_new(&error) {
                return Err(error);
            }
            let subject = Subject::Other(format!("group {group}"));
            let request = pve.request::<Value>(Method::Post, "/cluster/firewall/groups");
            let request = request.param("group", group.as_str());
            track.act(&subject, Action::Create, request).await?;
            track.leave(&subject, "was made");
        }
        let mut changes = 0;
        let (mut lost, mut wanted) = (0, None);
        loop {
            let (now, digest) = read(pve, &path).await?;
            // The wanted list is computed from the first list; again only if somebody else changed
            // it.
            let list = wanted.take().unwrap_or_else(|| self.wanted(&now));
            let Some(next) = next(&now, &list) else {
                if changes == 0 {
                    track.found(&subject, Action::Configure);
                }
                return Ok(changes);
            };
            let (request, action) = match next {
                Next::Remove(at) => (
                    pve.request::<Value>(Method::Delete, format!("{path}/{at}")),
                    Action::Remove,
                ),
                Next::Add(at) => {
                    let mut request = pve.request::<Value>(Method::Post, &path);
                    for (key, value) in list.get(at).into_iter().flat_map(Rule::parameters) {
                        request = request.param(key.to_owned(), value);
                    }
                    (request, Action::Create)
                }
                Next::Move(from, to) => {
                    let request = pve.request::<Value>(Method::Put, format!("{path}/{from}"));
                    let to = i64::try_from(to).unwrap_or(i64::MAX);
                    (request.param("moveto", to), Action::Configure)
                }
            };
            let request = match digest {
                Some(digest) => request.param("digest", digest),
                None => request,
            };
            match request.await {
                Ok(_) => {
                    changes += 1;
                    wanted = Some(list);
                    track.step(&subject, action, super::work::State::Done);
                    track.settle(&subject);
                    let changed = match changes {
                        1 => "had one change; more are needed".to_owned(),
                        n => format!("had {n} changes; more are needed"),
                    };
                    track.leave(&subject, &changed);
                }
                Err(error) if error.kind() == Some(ErrorKind::ConfigChanged) && lost < 5 => {
                    lost += 1
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The wanted state of a set of addresses of the cluster or a guest: exactly these members. See
/// [`Client::carry_out`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    scope: Scope,
    name: String,
    members: BTreeMap<String, Option<String>>,
    comment: Option<String>,
}

impl IpSet {
    /// A set of this name, without members at first.
    #[must_use]
    pub fn of(scope: Scope, name: impl Into<String>) -> Self {
        Self {
            scope,
            name: name.into(),
            members: BTreeMap::new(),
            comment: None,
        }
    }

    /// A member: an address, a network or an alias.
    #[must_use]
    pub fn member(mut self, cidr: impl Into<String>) -> Self {
        self.members.insert(cidr.into(), None);
        self
    }

    /// A member with a comment.
    #[must_use]
    pub fn member_for(mut self, cidr: impl Into<String>, comment: impl Into<String>) -> Self {
        self.members.insert(cidr.into(), Some(comment.into()));
        self
    }

    /// A comment, for a new set.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }
}

fn only_cluster_or_guest(scope: &Scope, what: &str) -> Result<(), Error> {
    match scope {
        Scope::Cluster | Scope::Guest(_) => Ok(()),
        other => {
            let subject = Subject::Other(format!("{what} of {other}"));
            Err(WorkError::new(subject, "only the cluster and guests have them").into())
        }
    }
}

impl Work for IpSet {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        only_cluster_or_guest(&self.scope, "set")?;
        let sets = format!("{}/ipset", self.scope.path(pve).await?);
        let subject = Subject::Other(format!("set {} of {}", self.name, self.scope));
        let path = format!("{sets}/{}", escape(&self.name));
        let known = pve.request::<Value>(Method::Get, &sets).await?;
        let text = |row: &Value, key: &str| row.get(key)?.as_str().map(str::to_owned);
        let rows = |answer: Value| answer.as_array().cloned().unwrap_or_default();
        let mut new = false;
        if !rows(known)
            .iter()
            .any(|row| text(row, "name").as_ref() == Some(&self.name))
        {
            let mut request = pve
                .request::<Value>(Method::Post, &sets)
                .param("name", self.name.as_str());
            if let Some(comment) = &self.comment {
                request = request.param("comment", comment.as_str());
            }
            track.act(&subject, Action::Create, request).await?;
            track.leave(&subject, "was created, but some members are missing");
            new = true;
        }
        let members = rows(pve.request::<Value>(Method::Get, &path).await?);
        let members: BTreeMap<String, Option<String>> = (members.iter())
            .filter_map(|row| Some((text(row, "cidr")?, text(row, "comment"))))
            .collect();
        let mut changed = Vec::new();
        for (cidr, comment) in &self.members {
            let request = match members.get(cidr) {
                None => pve
                    .request::<Value>(Method::Post, &path)
                    .param("cidr", cidr.as_str()),
                Some(now) if comment.is_some() && now != comment => {
                    pve.request::<Value>(Method::Put, format!("{path}/{}", escape(cidr)))
                }
                Some(_) => continue,
            };
            let request = match comment {
                Some(comment) => request.param("comment", comment.as_str()),
                None => request,
            };
            track.act(&subject, Action::Configure, request).await?;
            changed.push(cidr.clone());
            track.settle(&subject);
            track.leave(
                &subject,
                &format!("had {} changes; more are needed", changed.len()),
            );
        }
        for cidr in members
            .keys()
            .filter(|cidr| !self.members.contains_key(*cidr))
        {
            let request = pve.request::<Value>(Method::Delete, format!("{path}/{}", escape(cidr)));
            track.act(&subject, Action::Remove, request).await?;
            changed.push(cidr.clone());
        }
        Ok(match (new, changed.is_empty()) {
            (true, _) => Ensured::Created,
            (false, false) => Ensured::Changed(changed),
            (false, true) => {
                track.found(&subject, Action::Configure);
                Ensured::Found
            }
        })
    }
}

/// The wanted state of an alias for an address or network, of the cluster or a guest. See
/// [`Client::carry_out`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    scope: Scope,
    name: String,
    cidr: String,
    comment: Option<String>,
}

impl Alias {
    /// An alias of this name for an address or a network.
    #[must_use]
    pub fn of(scope: Scope, name: impl Into<String>, cidr: impl Into<String>) -> Self {
        Self {
            scope,
            name: name.into(),
            cidr: cidr.into(),
            comment: None,
        }
    }

    /// A comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }
}

impl Work for Alias {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        only_cluster_or_guest(&self.scope, "alias")?;
        let path = format!("{}/aliases", self.scope.path(pve).await?);
        let subject = Subject::Other(format!("alias {} of {}", self.name, self.scope));
        let rows = pve.request::<Value>(Method::Get, &path).await?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let text = |row: &Value, key: &str| row.get(key)?.as_str().map(str::to_owned);
        // Names are not case sensitive.
        let now = rows.iter().find(|row| {
            text(row, "name").is_some_and(|name| name.eq_ignore_ascii_case(&self.name))
        });
        let request = match now {
            None => pve
                .request::<Value>(Method::Post, &path)
                .param("name", self.name.as_str()),
            Some(row) => {
                let mut changed = Vec::new();
                if text(row, "cidr").as_ref() != Some(&self.cidr) {
                    changed.push("cidr".to_owned());
                }
                if self.comment.is_some() && text(row, "comment") != self.comment {
                    changed.push("comment".to_owned());
                }
                if changed.is_empty() {
                    track.found(&subject, Action::Configure);
                    return Ok(Ensured::Found);
                }
                let request =
                    pve.request::<Value>(Method::Put, format!("{path}/{}", escape(&self.name)));
                let request = self.filled(request);
                track.act(&subject, Action::Configure, request).await?;
                return Ok(Ensured::Changed(changed));
            }
        };
        track
            .act(&subject, Action::Create, self.filled(request))
            .await?;
        Ok(Ensured::Created)
    }
}

impl Alias {
    fn filled(&self, request: crate::request::Request<Value>) -> crate::request::Request<Value> {
        let request = request.param("cidr", self.cidr.as_str());
        match &self.comment {
            Some(comment) => request.param("comment", comment.as_str()),
            None => request,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list after a change.
    fn apply(now: &mut Vec<Rule>, wanted: &[Rule], change: &Next) {
        match *change {
            Next::Remove(at) => {
                now.remove(at);
            }
            Next::Add(at) => now.insert(0, wanted[at].clone()),
            Next::Move(from, to) => {
                let rule = now.remove(from);
                now.insert(if to > from { to - 1 } else { to }, rule);
            }
        }
    }

    proptest! {
        #[test]
        fn any_list_can_be_changed_into_any_other(from in proptest::collection::vec(0..6_u8, 0..8), to in proptest::collection::vec(0..6_u8, 0..8)) {
            let rules = |list: &[u8]| -> Vec<Rule> {
                list.iter().map(|port| Rule::accept_in().port("tcp", port)).collect()
            };
            let (mut now, wanted) = (rules(&from), rules(&to));
            let mut steps = 0;
            while let Some(change) = next(&now, &wanted) {
                apply(&mut now, &wanted, &change);
                steps += 1;
                prop_assert!(steps <= 3 * (from.len() + to.len()));
            }
            prop_assert_eq!(now, wanted);
        }

        #[test]
        fn ensuring_twice_changes_nothing(now in proptest::collection::vec(0..6_u8, 0..8), first in 0..6_u8, last in 0..6_u8, with in 0..6_u8, without in 0..6_u8) {
            prop_assume!(first != last && ![first, last, with].contains(&without));
            let rule = |port: u8| Rule::accept_in().port("tcp", port);
            let now: Vec<Rule> = now.into_iter().map(rule).collect();
            let rules = Rules::of(Scope::Cluster).first(rule(first)).last(rule(last)).with(rule(with)).without(rule(without));
            let once = rules.wanted(&now);
            prop_assert_eq!(once.first(), Some(&rule(first)));
            prop_assert_eq!(once.last(), Some(&rule(last)));
            prop_assert!(once.contains(&rule(with)) && !once.contains(&rule(without)));
            prop_assert_eq!(rules.wanted(&once), once);
        }
    }
}
