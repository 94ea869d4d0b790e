//! Changes of the software-defined network as one unit: locked, planned, applied, or rolled back.

use std::collections::BTreeMap;
use std::fmt;

use super::work::{Action, State, Subject, Track, Work, WorkError};
use crate::Value;
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::request::Request;
use crate::task::{PollSchedule, Task};
use crate::value::encode::escape;
use crate::value::endpoint::{Method, Release};

/// The first release in which the configuration can be locked and rolled back.
const LOCKS: Release = Release::new(9, 0);

/// The wanted state of zones, virtual networks and subnets; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::sdn::Network;
///
/// let lab = Network::new()
///     .zone("lab", "simple", [("dhcp", "dnsmasq")])
///     .vnet("labnet", "lab", [("alias", "the lab")])
///     .subnet("labnet", "10.20.0.0/24", [("gateway", "10.20.0.1"), ("snat", "1")]);
/// let changes = pve.carry_out(lab).on_step(|step| println!("{step}")).await?;
/// println!("{changes} changes are in force");
/// # Ok(())
/// # }
/// ```
///
/// The wanted state is compared with the planned one. All changes are planned, applied, and waited
/// for on all nodes; without changes nothing is applied. Since 9.0 the configuration is locked
/// meanwhile.
///
/// If somebody else has planned changes that are not applied, the work ends before anything is
/// done, because applying would include them; [`Network::with_others`] allows that.
///
/// # What a failure leaves
///
/// After a failure the planned changes are rolled back: since 9.0 by the server, before by the
/// opposite changes in reverse. If the rollback fails, or applying fails, the changes stay planned,
/// or are in effect on some nodes only;
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) names them. Dropping the future in
/// the middle leaves plan and lock; [`Unlock`] releases the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    entries: Vec<Entry>,
    others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Zone,
    Vnet,
    Subnet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryKind,
    /// The name of a zone or network; the range of a subnet.
    id: String,
    /// The network of a subnet.
    of: String,
    /// `None` to remove it.
    settings: Option<BTreeMap<String, String>>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EntryKind::Zone => write!(f, "zone {}", self.id),
            EntryKind::Vnet => write!(f, "network {}", self.id),
            EntryKind::Subnet => write!(f, "subnet {} of {}", self.id, self.of),
        }
    }
}

impl Network {
    /// No wanted changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn entry<'s>(
        mut self,
        kind: EntryKind,
        id: &str,
        of: &str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Self {
        let settings = settings.into_iter();
        let settings = settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        self.entries.push(Entry {
            kind,
            id: id.to_owned(),
            of: of.to_owned(),
            settings: Some(settings),
        });
        self
    }

    /// A zone of a kind, as `simple`, `vlan` or `evpn`, with settings by their names in the API.
    /// Other settings stay as they are.
    #[must_use]
    pub fn zone<'s>(
        self,
        zone: &str,
        kind: &'s str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Self {
        let kind = [("type", kind)];
        self.entry(EntryKind::Zone, zone, "", settings.into_iter().chain(kind))
    }

    /// A virtual network in a zone, with settings by their names in the API.
    #[must_use]
    pub fn vnet<'s>(
        self,
        vnet: &str,
        zone: &'s str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Self {
        let zone = [("zone", zone)];
        self.entry(EntryKind::Vnet, vnet, "", settings.into_iter().chain(zone))
    }

    /// A subnet of a virtual network by its range, as `10.20.0.0/24`, with settings by their names in the API.
    #[must_use]
    pub fn subnet<'s>(
        self,
        vnet: &str,
        range: &str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Self {
        self.entry(EntryKind::Subnet, range, vnet, settings)
    }

    fn removal(mut self, kind: EntryKind, id: &str, of: &str) -> Self {
        self.entries.push(Entry {
            kind,
            id: id.to_owned(),
            of: of.to_owned(),
            settings: None,
        });
        self
    }

    /// Removes this zone. Its networks have to be removed before.
    #[must_use]
    pub fn no_zone(self, zone: &str) -> Self {
        self.removal(EntryKind::Zone, zone, "")
    }

    /// Removes this virtual network. Its subnets have to be removed before.
    #[must_use]
    pub fn no_vnet(self, vnet: &str) -> Self {
        self.removal(EntryKind::Vnet, vnet, "")
    }

    /// Removes this subnet of a virtual network.
    #[must_use]
    pub fn no_subnet(self, vnet: &str, range: &str) -> Self {
        self.removal(EntryKind::Subnet, range, vnet)
    }

    /// Also applies the changes that others have planned.
    #[must_use]
    pub fn with_others(mut self) -> Self {
        self.others = true;
        self
    }
}

impl EntryKind {
    fn list(self, of: &str) -> String {
        match self {
            Self::Zone => "/cluster/sdn/zones".to_owned(),
            Self::Vnet => "/cluster/sdn/vnets".to_owned(),
            Self::Subnet => format!("/cluster/sdn/vnets/{}/subnets", escape(of)),
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Vnet => "vnet",
            Self::Subnet => "subnet",
        }
    }
}

fn rows(answer: &Value) -> Vec<BTreeMap<String, String>> {
    let row = |row: &Value| -> Option<BTreeMap<String, String>> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(yes) => Some(u8::from(*yes).to_string()),
            _ => None,
        };
        let members = row.as_object()?.iter();
        Some(
            members
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
        )
    };
    answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(row)
        .collect()
}

/// A call by verb, path and parameters.
#[derive(Clone, Debug)]
struct Change {
    method: Method,
    path: String,
    params: BTreeMap<String, String>,
}

impl Change {
    fn new(method: Method, path: String, params: BTreeMap<String, String>) -> Self {
        Self {
            method,
            path,
            params,
        }
    }

    fn request(&self, pve: &Client, token: Option<&str>) -> Request<Value> {
        let mut request = pve.request::<Value>(self.method, &self.path);
        for (key, value) in &self.params {
            request = request.param(key.clone(), value.as_str());
        }
        match token {
            Some(token) => request.param("lock-token", token),
            None => request,
        }
    }
}

/// What cancels a change.
#[derive(Clone, Debug)]
enum Opposite {
    Change(Change),
    /// Removing what was created. The server chooses the identifiers of subnets, so it has to be
    /// looked up.
    Removal(Entry),
}

impl Entry {
    /// The change to the wanted state and what cancels it; `None` if there is nothing to change.
    fn change(&self, existing: &[BTreeMap<String, String>]) -> Option<(Change, Opposite)> {
        match (&self.settings, existing.iter().find(|row| self.is_at(row))) {
            (None, None) => None,
            (None, Some(row)) => Some((self.removal(row), self.creation_from(row))),
            (Some(wanted), None) => {
                let settings = None;
                let removal = Self {
                    settings,
                    ..self.clone()
                };
                Some((self.creation(wanted.clone()), Opposite::Removal(removal)))
            }
            (Some(wanted), Some(row)) => self.update_and_back(wanted, row),
        }
    }

    /// Whether a row of the server's list is this entry.
    fn is_at(&self, row: &BTreeMap<String, String>) -> bool {
        match self.kind {
            EntryKind::Subnet => {
                // The identifier of a subnet consists of its zone and its range.
                let suffix = self.id.replace('/', "-");
                let subnet = row.get("subnet").or_else(|| row.get("id"));
                row.get("cidr") == Some(&self.id)
                    || subnet.is_some_and(|subnet| subnet.ends_with(&format!("-{suffix}")))
            }
            _ => row.get(self.kind.key()) == Some(&self.id),
        }
    }

    /// A row without the members that cannot be set.
    fn settings_of(&self, row: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut row = row.clone();
        for member in [
            "digest", "state", "pending", "id", "cidr", "network", "mask",
        ] {
            row.remove(member);
        }
        if self.kind == EntryKind::Subnet {
            row.remove("vnet");
            row.remove("zone");
            row.remove("type");
        }
        row
    }

    fn list(&self) -> String {
        self.kind.list(&self.of)
    }

    fn path(&self, row: &BTreeMap<String, String>) -> String {
        let id = row.get(self.kind.key()).unwrap_or(&self.id);
        format!("{}/{}", self.list(), escape(id))
    }

    fn removal(&self, row: &BTreeMap<String, String>) -> Change {
        Change::new(Method::Delete, self.path(row), BTreeMap::new())
    }

    /// Creates again what a row of the server's list shows.
    fn creation_from(&self, row: &BTreeMap<String, String>) -> Opposite {
        let mut settings = self.settings_of(row);
        if self.kind == EntryKind::Vnet {
            settings.remove("type");
        }
        Opposite::Change(self.creation(settings))
    }

    fn creation(&self, mut params: BTreeMap<String, String>) -> Change {
        params.insert(self.kind.key().to_owned(), self.id.clone());
        if self.kind == EntryKind::Subnet {
            params.insert("type".to_owned(), "subnet".to_owned());
        }
        Change::new(Method::Post, self.list(), params)
    }

    fn update_and_back(
        &self,
        wanted: &BTreeMap<String, String>,
        row: &BTreeMap<String, String>,
    ) -> Option<(Change, Opposite)> {
        let now = self.settings_of(row);
        let differs = |(key, value): &(&String, &String)| now.get(*key) != Some(*value);
        let mut params: BTreeMap<String, String> = (wanted.iter())
            .filter(differs)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        params.remove("type");
        if params.is_empty() {
            return None;
        }
        let mut back = BTreeMap::new();
        let mut unset = Vec::new();
        for key in params.keys() {
            match now.get(key) {
                Some(old) => drop(back.insert(key.clone(), old.clone())),
                None => unset.push(key.clone()),
            }
        }
        if !unset.is_empty() {
            back.insert("delete".to_owned(), unset.join(","));
        }
        // A network is always changed together with its zone.
        if self.kind == EntryKind::Vnet
            && let Some(zone) = now.get("zone")
        {
            params
                .entry("zone".to_owned())
                .or_insert_with(|| zone.clone());
        }
        Some((
            Change::new(Method::Put, self.path(row), params),
            Opposite::Change(Change::new(Method::Put, self.path(row), back)),
        ))
    }
}

impl Work for Network {
    /// The number of changes.
    type Done = usize;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<usize, Error> {
        let subject = Subject::Other("the software-defined network".to_owned());
        let locks = pve.server_release().await? >= LOCKS;
        if !self.others {
            for list in ["/cluster/sdn/zones", "/cluster/sdn/vnets"] {
                let planned = pve
                    .request::<Value>(Method::Get, list)
                    .param("pending", true)
                    .await?;
                let planned = rows(&planned);
                if let Some(row) = planned.iter().find(|row| row.contains_key("state")) {
                    let name = row.get("zone").filter(|_| list.ends_with("zones"));
                    let name = name
                        .or_else(|| row.get("vnet"))
                        .cloned()
                        .unwrap_or_default();
                    let problem =
                        format!("there are pending changes of others, for example of {name}");
                    return Err(WorkError::new(subject, problem).into());
                }
            }
        }
        let token = match locks {
            true => Some(self.lock(pve, track, &subject).await?),
            false => None,
        };
        let token = token.as_deref();
        if token.is_some() {
            track.leave(&subject, "is locked");
        }
        let mut back = Vec::new();
        let result = self.make(pve, track, token, &mut back).await;
        match result {
            Ok(0) => {
                self.unlock(pve, token).await?;
                track.settle(&subject);
                track.found(&subject, Action::Configure);
                Ok(0)
            }
            Ok(changes) => {
                track.leave(
                    &subject,
                    "has planned changes that are active on some nodes at most",
                );
                let start_task = || {
                    let at = pve.api().cluster().sdn().put().lock_token(token);
                    at.into_future()
                };
                let applied: Result<_, Error> = track
                    .task::<_, Task>(&subject, Action::Apply, start_task)
                    .await;
                applied?;
                track.settle(&subject);
                Ok(changes)
            }
            Err(error) => {
                self.roll_back(pve, track, token, back, &subject).await;
                Err(error)
            }
        }
    }
}

impl Network {
    async fn lock(
        &self,
        pve: &Client,
        track: &Track<'_>,
        subject: &Subject,
    ) -> Result<String, Error> {
        let mut schedule = PollSchedule::every(pve.task_poll(), track.locks());
        loop {
            let request = pve.api().cluster().sdn().lock().post();
            let error = match request.allow_pending(self.others.then_some(true)).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            // Pending changes do not go away while this waits.
            let is_locked = error.api().is_some_and(|error| {
                error.kind() != ErrorKind::PendingChanges && error.message().contains("lock")
            });
            if !(is_locked && track.locks().is_some()) {
                return Err(error);
            }
            track.step(subject, Action::Wait, State::Line(error.to_string()));
            if !schedule.again().await {
                return Err(error);
            }
        }
    }

    async fn unlock(&self, pve: &Client, token: Option<&str>) -> Result<(), Error> {
        match token {
            Some(token) => {
                pve.api()
                    .cluster()
                    .sdn()
                    .lock()
                    .delete()
                    .lock_token(token)
                    .await
            }
            None => Ok(()),
        }
    }

    async fn make(
        &self,
        pve: &Client,
        track: &Track<'_>,
        token: Option<&str>,
        back: &mut Vec<Opposite>,
    ) -> Result<usize, Error> {
        let mut changes = 0;
        for entry in &self.entries {
            let list = entry.list();
            let existing = rows(&pve.request::<Value>(Method::Get, &list).await?);
            let subject = Subject::Other(entry.to_string());
            let Some((change, opposite)) = entry.change(&existing) else {
                track.found(&subject, Action::Configure);
                continue;
            };
            let action = match change.method {
                Method::Post => Action::Create,
                Method::Delete => Action::Remove,
                _ => Action::Configure,
            };
            track
                .act(&subject, action, change.request(pve, token))
                .await?;
            back.push(opposite);
            changes += 1;
        }
        Ok(changes)
    }

    /// Rolls back the planned changes; those that cannot be rolled back stay recorded as left
    /// behind.
    async fn roll_back(
        &self,
        pve: &Client,
        track: &Track<'_>,
        token: Option<&str>,
        back: Vec<Opposite>,
        subject: &Subject,
    ) {
        let planned = "has planned changes that are not active";
        let undone = async {
            if let Some(token) = token.filter(|_| !self.others) {
                let at = pve.api().cluster().sdn().rollback().post();
                return at.lock_token(token).await;
            }
            for opposite in back.iter().rev() {
                let change = match opposite {
                    Opposite::Change(change) => Some(change.clone()),
                    Opposite::Removal(entry) => {
                        let existing = pve.request::<Value>(Method::Get, &entry.list()).await?;
                        entry.change(&rows(&existing)).map(|(removal, _)| removal)
                    }
                };
                if let Some(change) = change {
                    change.request(pve, token).await?;
                }
            }
            self.unlock(pve, token).await
        };
        let nothing = back.is_empty();
        match track.act(subject, Action::RollBack, undone).await {
            Ok(()) => track.settle(subject),
            Err(_) if !nothing => track.leave(subject, planned),
            Err(_) => {}
        }
    }
}

/// Releases the lock on the configuration, whoever holds it; since 9.0. For use after abandoned
/// work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unlock;

impl Unlock {
    /// The one lock of the cluster.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Work for Unlock {
    type Done = ();

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<(), Error> {
        let subject = Subject::Other("the software-defined network".to_owned());
        let request = pve.api().cluster().sdn().lock().delete().force(true);
        track.act(&subject, Action::Remove, request).await
    }
}
