//! Selection of events.

use std::collections::{BTreeSet, HashSet};

use super::{SentEvent, Subject, is_name};
use crate::refusal::Refusal;

/// A selection of events; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    names: Vec<String>,
    vmids: BTreeSet<u32>,
    nodes: BTreeSet<String>,
}

/// Removes duplicates and keeps the order. Few names are valid, so the list stays short.
pub(crate) fn unique(mut names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

impl Filter {
    /// Reads `types=vm.*,node.offline`, `vmids=100,101` and `nodes=node1`.
    pub(crate) fn read(
        types: Option<&str>,
        vmids: Option<&str>,
        nodes: Option<&str>,
    ) -> Result<Self, Refusal> {
        let names: Vec<String> = items(types.unwrap_or_default())
            .map(str::to_owned)
            .collect();
        if let Some(unknown) = names.iter().find(|name| !is_name(name)) {
            let problem = format!("{unknown:?} is not an event");
            return Err(Refusal::parameters([("types", problem)]));
        }
        let vmids = items(vmids.unwrap_or_default()).map(str::parse);
        let vmids: Result<BTreeSet<u32>, _> = vmids.collect();
        Ok(Self {
            names: unique(names),
            vmids: vmids
                .map_err(|_| Refusal::parameters([("vmids", "must contain numbers of guests")]))?,
            nodes: items(nodes.unwrap_or_default())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether an event's name matches one of some names, of which each may end in `*`. An empty
    /// list matches every event.
    pub(crate) fn names(names: &[String], kind: &str) -> bool {
        let fits = |name: &String| match name.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == name,
        };
        names.is_empty() || names.iter().any(fits)
    }

    pub(crate) fn wants(&self, event: &SentEvent) -> bool {
        let (vmid, node) = match &event.subject {
            Subject::Guest { vmid, node } => (Some(*vmid), node),
            Subject::Node(node) | Subject::Storage { node, .. } => (None, node),
            Subject::Task { node, id, .. } => (id.parse().ok(), node),
        };
        Self::names(&self.names, &event.kind)
            && (self.vmids.is_empty() || vmid.is_some_and(|vmid| self.vmids.contains(&vmid)))
            && (self.nodes.is_empty() || self.nodes.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_select_by_name_guest_and_node() {
        let event = |kind: &str, subject| SentEvent {
            seq: 1,
            kind: kind.to_owned(),
            subject,
            text: "".into(),
        };
        let guest = |vmid| Subject::Guest {
            vmid,
            node: "n1".into(),
        };
        let filter = |types, vmids, nodes| Filter::read(types, vmids, nodes).expect("good");
        let some = filter(Some("vm.*, node.offline"), None, None);
        assert!(some.wants(&event("vm.started", guest(1))));
        assert!(some.wants(&event("node.offline", Subject::Node("n".into()))));
        assert!(!some.wants(&event("node.online", Subject::Node("n".into()))));
        let one = filter(None, Some("100"), Some("n1"));
        assert!(one.wants(&event("vm.started", guest(100))));
        assert!(!one.wants(&event("vm.started", guest(101))));
        let task = Subject::Task {
            node: "n1".into(),
            user: "u".into(),
            id: "100".into(),
        };
        assert!(one.wants(&event("task.started", task)));
        assert!(!one.wants(&event("node.online", Subject::Node("n1".into()))));
        assert!(filter(None, None, None).wants(&event("node.online", Subject::Node("n".into()))));
        assert!(Filter::read(Some("vm.exploded"), None, None).is_err());
        let many = "vm.started,vm.*,".repeat(4_000);
        assert_eq!(
            filter(Some(&many), None, None).names,
            ["vm.started", "vm.*"]
        );
        assert!(Filter::read(None, Some("web"), None).is_err());
    }
}
