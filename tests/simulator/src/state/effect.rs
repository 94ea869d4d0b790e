//! Tasks before their start, and their effects.

use std::sync::Arc;

use crate::faults::TaskFault;
use crate::state::access::Identity;
use crate::state::guest::GuestEffect;
use crate::state::records::Row;
use crate::state::storage::{Storage, Volume, VolumeKey};

/// The effect of a task at its end.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Nothing,
    Fail(String),
    Guest(u32, GuestEffect),
    AddVolume(VolumeKey, Volume),
    /// Contents of volumes that are needed later.
    Downloaded(VolumeKey, Arc<Vec<u8>>),
    DeleteVolume(VolumeKey),
    ApplySdn,
    /// A node and its guests go down.
    NodeDown(String),
    /// A node is reachable again.
    NodeUp(String),
    /// Activates the planned interfaces of a node.
    ApplyNetwork(String),
    /// Changes stored configuration.
    Edit(Vec<Edit>),
    /// Applies effects in order, even after errors; the first error is the task's.
    All(Vec<Effect>),
    /// Applies an effect to each guest, with a warning for each that fails.
    Each(Vec<(u32, GuestEffect)>),
    /// The original effect, and the result that a fault sets.
    Faulted(Box<Effect>, TaskFault),
}

/// A change of stored configuration.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// List, id and entry.
    Set(String, String, Row),
    Remove(String, String),
    AddStorage(String, Storage),
    RemoveStorage(String),
}

impl Effect {
    pub(crate) fn on_guest(&self) -> Option<(u32, &GuestEffect)> {
        match self {
            Self::Guest(vmid, effect) => Some((*vmid, effect)),
            Self::Faulted(effect, _) => effect.on_guest(),
            _ => None,
        }
    }
}

/// A task about to start.
pub(crate) struct Plan<'a> {
    pub(crate) node: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: String,
    pub(crate) owner: &'a Identity,
    /// In simulated seconds, before the time factor.
    pub(crate) seconds: f64,
    /// Log lines, spread evenly over the duration.
    pub(crate) lines: Vec<String>,
    pub(crate) effect: Effect,
}
