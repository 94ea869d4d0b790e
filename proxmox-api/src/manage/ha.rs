//! High availability of guests, across groups (up to 8.4) and rules (since 9.0).

use std::collections::{BTreeMap, BTreeSet};

use super::guest::Kind;
use super::inventory::Inventory;
use super::work::{Action, Ensured, Subject, Track, Work, WorkError};
use crate::bounds::{Bound, Exceeded};
use crate::client::Client;
use crate::error::{CallId, Error};
use crate::pve::cluster_ha::{ClusterHaResourcesItem, HaGroup, HaRule};
use crate::value::List;
use crate::value::endpoint::{Method, Release};
use crate::value::serialize::record_serde;

/// The first release with rules instead of groups.
const RULES: Release = Release::new(9, 0);

/// The nodes on which a guest may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nodes {
    /// The nodes with their priorities: the online node with the highest one is used.
    pub priorities: BTreeMap<String, u32>,
    /// Whether it is stopped rather than moved to another node.
    pub strict: bool,
}

record_serde!(Nodes { priorities, strict });

/// The high availability settings of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaGuest {
    /// The requested state: `started`, `stopped`, `disabled` or `ignored`.
    pub state: String,
    /// The nodes on which it may run; `None` for any.
    pub nodes: Option<Nodes>,
    /// The guests that must run on the same node; none before 9.0.
    pub together: BTreeSet<u32>,
    /// The guests that must not run on the same node; none before 9.0.
    pub apart: BTreeSet<u32>,
    /// Whether it returns to a node of a higher priority when that is online again.
    pub failback: bool,
    /// The maximum of restarts on a node before it moves to another one.
    pub max_restart: u32,
    /// The maximum of moves before it is given up.
    pub max_relocate: u32,
    /// The comment.
    pub comment: Option<String>,
}

record_serde!(HaGuest {
    state,
    nodes,
    together,
    apart,
    failback,
    max_restart,
    max_relocate,
    comment,
});

/// The high availability settings of all guests, by their numbers; the same on every release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaView {
    /// The managed guests.
    pub guests: BTreeMap<u32, HaGuest>,
}

record_serde!(HaView { guests });

fn vmid_of(sid: &str) -> Option<u32> {
    sid.rsplit(':').next()?.parse().ok()
}

fn sids(list: Option<&List>) -> Vec<String> {
    list.map(|list| list.0.clone()).unwrap_or_default()
}

/// Parses `pve1:2,pve2`.
fn priorities(list: Option<&List>) -> BTreeMap<String, u32> {
    (sids(list).into_iter())
        .map(|entry| match entry.split_once(':') {
            Some((node, number)) => (node.to_owned(), number.parse().unwrap_or(0)),
            None => (entry, 0),
        })
        .collect()
}

fn written(nodes: &BTreeMap<String, u32>) -> Vec<String> {
    (nodes.iter())
        .map(|(node, priority)| match priority {
            0 => node.clone(),
            priority => format!("{node}:{priority}"),
        })
        .collect()
}

/// The configuration of high availability, on any release.
struct Configuration {
    resources: Vec<ClusterHaResourcesItem>,
    groups: Vec<HaGroup>,
    rules: Vec<HaRule>,
    has_rules: bool,
}

impl Configuration {
    async fn read(pve: &Client) -> Result<Self, Error> {
        let has_rules = pve.server_release().await? >= RULES;
        let ha = pve.api().cluster().ha();
        let (mut groups, mut rules) = (Vec::new(), Vec::new());
        let resources = ha.resources().get().await?;
        if has_rules {
            rules = ha.rules().get().await?;
        } else {
            for row in ha.groups().get().await? {
                groups.push(row);
            }
        }
        Ok(Self {
            resources,
            groups,
            rules,
            has_rules,
        })
    }

    fn affinity<'a>(rule: &'a HaRule, kind: &str) -> Option<&'a str> {
        let active = rule.type_.as_str() == kind && rule.disable != Some(true);
        active.then(|| {
            rule.affinity
                .as_ref()
                .map_or("positive", |how| how.as_str())
        })
    }

    /// The settings by guest, within this memory limit. Each guest of a group or a rule gets its own
    /// copy of the settings, so a short answer may need much memory.
    fn view(&self, memory: usize) -> Result<HaView, Error> {
        let mut left = memory;
        let mut spend = |bytes: usize| -> Result<(), Error> {
            let rest = left.checked_sub(bytes);
            left = rest.ok_or_else(|| {
                let name = CallId::new(Method::Get, "/cluster/ha/resources");
                Error::exceeded(&name, Exceeded::new(Bound::Memory, memory))
            })?;
            Ok(())
        };
        let mut view = HaView::default();
        let groups: BTreeMap<&str, (&HaGroup, Nodes)> = (self.groups.iter())
            .map(|group| {
                let nodes = Nodes {
                    priorities: priorities(group.nodes.as_ref()),
                    strict: group.restricted == Some(true),
                };
                (group.group.as_str(), (group, nodes))
            })
            .collect();
        let count = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        for row in &self.resources {
            let Some(vmid) = vmid_of(&row.sid) else {
                continue;
            };
            let group = row.group.as_deref().and_then(|name| groups.get(name));
            spend(group.map_or(0, |(_, nodes)| nodes.size()))?;
            let guest = HaGuest {
                state: row
                    .state
                    .as_ref()
                    .map_or("started", |state| state.as_str())
                    .to_owned(),
                nodes: group.map(|(_, nodes)| nodes.clone()),
                failback: match self.has_rules {
                    true => row.failback != Some(false),
                    false => group.is_none_or(|(group, _)| group.nofailback != Some(true)),
                },
                max_restart: count(row.max_restart),
                max_relocate: count(row.max_relocate),
                comment: row.comment.clone(),
                ..HaGuest::default()
            };
            view.guests.insert(vmid, guest);
        }
        for rule in &self.rules {
            let members: BTreeSet<u32> = sids(rule.resources.as_ref())
                .iter()
                .filter_map(|sid| vmid_of(sid))
                .collect();
            let nodes = Self::affinity(rule, "node-affinity").map(|_| Nodes {
                priorities: priorities(rule.nodes.as_ref()),
                strict: rule.strict == Some(true),
            });
            let affinity = Self::affinity(rule, "resource-affinity");
            let of_nodes = nodes.as_ref().map_or(0, Nodes::size);
            let of_others = affinity.map_or(0, |_| members.len().saturating_mul(OTHER));
            spend(
                members
                    .len()
                    .saturating_mul(of_nodes.saturating_add(of_others)),
            )?;
            for vmid in &members {
                let Some(guest) = view.guests.get_mut(vmid) else {
                    continue;
                };
                if nodes.is_some() {
                    guest.nodes.clone_from(&nodes);
                }
                let others = members.iter().filter(|other| *other != vmid);
                match affinity {
                    Some("negative") => guest.apart.extend(others),
                    Some(_) => guest.together.extend(others),
                    None => {}
                }
            }
        }
        Ok(view)
    }
}

/// The approximate memory of another guest in an affinity rule.
const OTHER: usize = 16;
/// The approximate memory of a node with its priority, without its name.
const NODE: usize = 64;

impl Nodes {
    /// The approximate memory.
    fn size(&self) -> usize {
        let names = self.priorities.keys();
        names.map(|name| name.len() + NODE).sum()
    }
}

impl HaView {
    /// Reads the resources, and the groups or rules.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn fetch(pve: &Client) -> Result<Self, Error> {
        Configuration::read(pve).await?.view(pve.bounds().memory)
    }

    /// Whether the node settings of high availability allow a guest on a node.
    #[must_use]
    pub fn allows(&self, vmid: u32, node: &str) -> bool {
        let nodes = self
            .guests
            .get(&vmid)
            .and_then(|guest| guest.nodes.as_ref());
        nodes.is_none_or(|nodes| !nodes.strict || nodes.priorities.contains_key(node))
    }
}

/// The wanted high availability settings of a guest; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::ha::HaWanted;
///
/// let db = HaWanted::of(101).nodes([("pve1", 2), ("pve2", 1)]).strict();
/// pve.carry_out(db).await?;
/// # Ok(())
/// # }
/// ```
///
/// Since 9.0, the nodes become a rule of the guest's own, called `guest-101-nodes`. Before, they
/// become a group of exactly these nodes, which is found or created as `nodes-of-101`; existing
/// groups stay as they are. The guest is removed from other rules of that kind. Settings that are
/// not set here stay. Carried out again, it changes the settings that differ.
///
/// The resource is created before its rules; if a rule is refused, the resource stays, and
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaWanted {
    vmid: u32,
    managed: bool,
    state: Option<String>,
    nodes: Option<BTreeMap<String, u32>>,
    strict: bool,
    together: Option<BTreeSet<u32>>,
    apart: Option<BTreeSet<u32>>,
    failback: Option<bool>,
    max_restart: Option<u32>,
    max_relocate: Option<u32>,
    comment: Option<String>,
}

impl HaWanted {
    /// A managed guest. Its requested state is `started`, unless another one is set here or was set
    /// before.
    #[must_use]
    pub fn of(vmid: u32) -> Self {
        Self {
            vmid,
            managed: true,
            state: None,
            nodes: None,
            strict: false,
            together: None,
            apart: None,
            failback: None,
            max_restart: None,
            max_relocate: None,
            comment: None,
        }
    }

    /// An unmanaged guest; it is removed from all rules.
    #[must_use]
    pub fn none_of(vmid: u32) -> Self {
        Self {
            managed: false,
            ..Self::of(vmid)
        }
    }

    /// The requested state: `started`, `stopped`, `disabled` or `ignored`.
    #[must_use]
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// The nodes on which it may run, with their priorities.
    #[must_use]
    pub fn nodes<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = (N, u32)>) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|(node, priority)| (node.into(), priority));
        self.nodes = Some(nodes.collect());
        self
    }

    /// Never moves it to other nodes than these.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The guests that must run on the same node. Needs release 9.0.
    #[must_use]
    pub fn together_with(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self.together = Some(vmids.into_iter().collect());
        self
    }

    /// The guests that must not run on the same node. Needs release 9.0.
    #[must_use]
    pub fn apart_from(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self.apart = Some(vmids.into_iter().collect());
        self
    }

    /// Whether it returns to a node of a higher priority when that is online again. Before 9.0 this
    /// is a setting of the group, so it needs nodes.
    #[must_use]
    pub fn failback(mut self, failback: bool) -> Self {
        self.failback = Some(failback);
        self
    }

    /// The maximum of restarts on a node before it moves to another one.
    #[must_use]
    pub fn max_restart(mut self, times: u32) -> Self {
        self.max_restart = Some(times);
        self
    }

    /// The maximum of moves before it is given up.
    #[must_use]
    pub fn max_relocate(mut self, times: u32) -> Self {
        self.max_relocate = Some(times);
        self
    }

    /// The comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }

    async fn resource(
        &self,
        pve: &Client,
        track: &Track<'_>,
        configuration: &Configuration,
        sid: &str,
        group: Option<String>,
    ) -> Result<Ensured, Error> {
        let subject = Subject::Guest(self.vmid);
        let resources = pve.api().cluster().ha().resources();
        let now = configuration.resources.iter().find(|row| row.sid == sid);
        let count = |number: Option<u32>, now: Option<i64>| {
            number
                .map(i64::from)
                .filter(|wanted| now.unwrap_or(1) != *wanted)
        };
        let mut changed = Vec::new();
        let mut differs = |key: &str, differs: bool| {
            if differs {
                changed.push(key.to_owned());
            }
            differs
        };
        let current = now
            .cloned()
            .unwrap_or_else(|| ClusterHaResourcesItem::new(sid));
        let state = self.state.clone().filter(|wanted| {
            let now = current
                .state
                .as_ref()
                .map_or("started", |state| state.as_str());
            differs("state", now != wanted)
        });
        let comment = (self.comment.clone())
            .filter(|wanted| differs("comment", current.comment.as_ref() != Some(wanted)));
        let group = group.filter(|wanted| differs("group", current.group.as_ref() != Some(wanted)));
        let failback = (self.failback.filter(|_| configuration.has_rules))
            .filter(|wanted| differs("failback", current.failback.unwrap_or(true) != *wanted));
        let restart = count(self.max_restart, current.max_restart);
        differs("max_restart", restart.is_some());
        let relocate = count(self.max_relocate, current.max_relocate);
        differs("max_relocate", relocate.is_some());
        macro_rules! settings {
            ($request:expr) => {
                $request
                    .state(state.as_deref())
                    .comment(comment.as_deref())
                    .group(group.as_deref())
                    .failback(failback)
                    .max_restart(restart)
                    .max_relocate(relocate)
            };
        }
        if now.is_none() {
            let request = settings!(resources.post(sid));
            track.act(&subject, Action::Create, request).await?;
            track.leave(
                &subject,
                "is managed by high availability, but its rules are not complete",
            );
            return Ok(Ensured::Created);
        }
        if changed.is_empty() {
            return Ok(Ensured::Found);
        }
        let request = settings!(resources.sid(sid).put());
        track.act(&subject, Action::Configure, request).await?;
        let state = format!(
            "was changed: {}; more changes are needed",
            changed.join(", ")
        );
        track.leave(&subject, &state);
        Ok(Ensured::Changed(changed))
    }

    /// The group of the wanted nodes, created if it does not exist.
    async fn group(
        &self,
        pve: &Client,
        track: &Track<'_>,
        configuration: &Configuration,
    ) -> Result<Option<String>, Error> {
        let Some(nodes) = &self.nodes else {
            return Ok(None);
        };
        let no_failback = self.failback == Some(false);
        let fits = |group: &&HaGroup| {
            priorities(group.nodes.as_ref()) == *nodes
                && (group.restricted == Some(true)) == self.strict
                && (self.failback.is_none() || (group.nofailback == Some(true)) == no_failback)
        };
        if let Some(group) = configuration.groups.iter().find(fits) {
            return Ok(Some(group.group.clone()));
        }
        // Other guests may share a group, so it is not changed.
        let is_used = |name: &String| {
            configuration
                .groups
                .iter()
                .any(|group| group.group == *name)
        };
        let base_name = format!("nodes-of-{}", self.vmid);
        let name = (1..).map(|number| match number {
            1 => base_name.clone(),
            number => format!("{base_name}-{number}"),
        });
        let Some(name) = name.into_iter().find(|name| !is_used(name)) else {
            return Ok(None);
        };
        let subject = Subject::Other(format!("group {name}"));
        let request = pve
            .api()
            .cluster()
            .ha()
            .groups()
            .post()
            .group(&name)
            .nodes(written(nodes));
        let request = request.restricted(self.strict).nofailback(no_failback);
        track.act(&subject, Action::Create, request).await?;
        track.leave(&subject, "was made");
        Ok(Some(name))
    }

    /// Removes the guest's previous group, if it was created for it and no other guest uses it.
    async fn forget_group(
        &self,
        pve: &Client,
        track: &Track<'_>,
        configuration: &Configuration,
        sid: &str,
    ) -> Result<(), Error> {
        let old = configuration.resources.iter().find(|row| row.sid == sid);
        let Some(group) = old.and_then(|row| row.group.as_ref()) else {
            return Ok(());
        };
        let shared = (configuration.resources.iter())
            .any(|row| row.sid != sid && row.group.as_ref() == Some(group));
        if shared || !group.starts_with(&format!("nodes-of-{}", self.vmid)) {
            return Ok(());
        }
        let subject = Subject::Other(format!("group {group}"));
        let request = pve.api().cluster().ha().groups().group(group).delete();
        track.act(&subject, Action::Remove, request).await
    }

    /// Makes the guest's own rule as wanted, and removes the guest from others of the kind.
    async fn rule(
        &self,
        pve: &Client,
        track: &Track<'_>,
        configuration: &Configuration,
        sid: &str,
        wanted: &WantedRule,
    ) -> Result<bool, Error> {
        let rules = pve.api().cluster().ha().rules();
        let name = format!("guest-{}-{}", self.vmid, wanted.suffix);
        let subject = Subject::Other(format!("rule {name}"));
        let mut changed = false;
        for rule in &configuration.rules {
            let members = sids(rule.resources.as_ref());
            let same_affinity = Configuration::affinity(rule, wanted.kind) == Some(wanted.affinity);
            if rule.rule == name || !same_affinity || !members.iter().any(|member| member == sid) {
                continue;
            }
            self.leave_rule(pve, track, rule, sid).await?;
            changed = true;
        }
        let now = configuration.rules.iter().find(|rule| rule.rule == name);
        let members: BTreeSet<&String> = wanted.members.iter().collect();
        match now {
            Some(rule) => {
                let theirs = sids(rule.resources.as_ref());
                let same = theirs.iter().collect::<BTreeSet<_>>() == members
                    && rule.disable != Some(true)
                    && (wanted.nodes.as_ref()).is_none_or(|nodes| {
                        priorities(rule.nodes.as_ref()) == *nodes
                            && (rule.strict == Some(true)) == self.strict
                    });
                if same {
                    return Ok(changed);
                }
                let request = rules
                    .rule(&name)
                    .put(wanted.kind)
                    .resources(wanted.members.clone());
                let request = match &wanted.nodes {
                    Some(nodes) => request.nodes(written(nodes)).strict(self.strict),
                    None => request.affinity(wanted.affinity),
                };
                track
                    .act(&subject, Action::Configure, request.disable(false))
                    .await?;
            }
            None => {
                let request = rules
                    .post()
                    .type_(wanted.kind)
                    .rule(&name)
                    .resources(wanted.members.clone());
                let request = match &wanted.nodes {
                    Some(nodes) => request.nodes(written(nodes)).strict(self.strict),
                    None => request.affinity(wanted.affinity),
                };
                track.act(&subject, Action::Create, request).await?;
                track.leave(&subject, "was made");
            }
        }
        Ok(true)
    }

    /// Removes the guest from a rule, and the rule if too few guests are left in it.
    async fn leave_rule(
        &self,
        pve: &Client,
        track: &Track<'_>,
        rule: &HaRule,
        sid: &str,
    ) -> Result<(), Error> {
        let subject = Subject::Other(format!("rule {}", rule.rule));
        let at = pve.api().cluster().ha().rules().rule(&rule.rule);
        let mut members = sids(rule.resources.as_ref());
        members.retain(|member| member != sid);
        let least = match rule.type_.as_str() {
            "node-affinity" => 1,
            _ => 2,
        };
        if members.len() < least {
            track.act(&subject, Action::Remove, at.delete()).await
        } else {
            let request = at.put(rule.type_.as_str()).resources(members);
            track.act(&subject, Action::Configure, request).await
        }
    }
}

struct WantedRule {
    kind: &'static str,
    affinity: &'static str,
    suffix: &'static str,
    members: Vec<String>,
    nodes: Option<BTreeMap<String, u32>>,
}

/// The name of a guest in the configuration of high availability.
fn sid_of(inventory: &Inventory, vmid: u32) -> Result<String, Error> {
    let mut rows = inventory.resources.iter();
    let row = rows.find(|row| row.vmid == Some(vmid));
    match row.and_then(|row| row.kind) {
        Some(Kind::Qemu) => Ok(format!("vm:{vmid}")),
        Some(Kind::Lxc) => Ok(format!("ct:{vmid}")),
        None => {
            let problem = "there is no such guest, or none this user may see";
            Err(WorkError::new(Subject::Guest(vmid), problem).into())
        }
    }
}

impl HaWanted {
    /// Ends the management of the guest.
    async fn remove(
        &self,
        pve: &Client,
        track: &Track<'_>,
        configuration: &Configuration,
    ) -> Result<Ensured, Error> {
        let subject = Subject::Guest(self.vmid);
        let Some(row) = configuration
            .resources
            .iter()
            .find(|row| vmid_of(&row.sid) == Some(self.vmid))
        else {
            track.found(&subject, Action::Remove);
            return Ok(Ensured::Found);
        };
        for rule in &configuration.rules {
            if sids(rule.resources.as_ref()).contains(&row.sid) {
                self.leave_rule(pve, track, rule, &row.sid).await?;
                track.leave(&subject, "was taken out of rules");
            }
        }
        let request = pve.api().cluster().ha().resources().sid(&row.sid).delete();
        track.act(&subject, Action::Remove, request).await?;
        Ok(Ensured::Changed(vec!["managed".to_owned()]))
    }

    /// Refuses settings that need the rules of newer releases.
    fn check_without_rules(&self) -> Result<(), Error> {
        let problem = if self.together.is_some() || self.apart.is_some() {
            "rules that keep guests together or apart need release 9.0"
        } else if self.failback.is_some() && self.nodes.is_none() {
            "before release 9.0, failback is a setting of the group; set nodes as well"
        } else {
            return Ok(());
        };
        Err(WorkError::new(Subject::Guest(self.vmid), problem).into())
    }

    fn wanted_rules(&self, inventory: &Inventory, sid: &str) -> Result<Vec<WantedRule>, Error> {
        let mut wanted = Vec::new();
        if self.nodes.is_some() {
            wanted.push(WantedRule {
                kind: "node-affinity",
                affinity: "positive",
                suffix: "nodes",
                members: vec![sid.to_owned()],
                nodes: self.nodes.clone(),
            });
        }
        for (others, affinity, suffix) in [
            (&self.together, "positive", "together"),
            (&self.apart, "negative", "apart"),
        ] {
            let Some(others) = others else { continue };
            let mut members = vec![sid.to_owned()];
            for vmid in others.iter().filter(|vmid| **vmid != self.vmid) {
                members.push(sid_of(inventory, *vmid)?);
            }
            wanted.push(WantedRule {
                kind: "resource-affinity",
                affinity,
                suffix,
                members,
                nodes: None,
            });
        }
        Ok(wanted)
    }
}

impl Work for HaWanted {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        let subject = Subject::Guest(self.vmid);
        let configuration = Configuration::read(pve).await?;
        if !self.managed {
            return self.remove(pve, track, &configuration).await;
        }
        let inventory = Inventory::fetch(pve).await?;
        let sid = sid_of(&inventory, self.vmid)?;
        let (group, rules) = if configuration.has_rules {
            (None, self.wanted_rules(&inventory, &sid)?)
        } else {
            self.check_without_rules()?;
            (self.group(pve, track, &configuration).await?, Vec::new())
        };
        let mut ensured = self
            .resource(pve, track, &configuration, &sid, group)
            .await?;
        if matches!(&ensured, Ensured::Changed(keys) if keys.iter().any(|key| key == "group")) {
            self.forget_group(pve, track, &configuration, &sid).await?;
        }
        for rule in rules {
            if self.rule(pve, track, &configuration, &sid, &rule).await? {
                ensured = match ensured {
                    Ensured::Found => Ensured::Changed(vec![rule.suffix.to_owned()]),
                    Ensured::Changed(mut keys) => {
                        keys.push(rule.suffix.to_owned());
                        Ensured::Changed(keys)
                    }
                    created => created,
                };
            }
        }
        if ensured == Ensured::Found {
            track.found(&subject, Action::Configure);
        }
        Ok(ensured)
    }
}
