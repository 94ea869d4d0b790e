//! Tasks about to start, and what they change when they end.

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
    /// What is in a volume, where that matters later.
    Downloaded(VolumeKey, Arc<Vec<u8>>),
    DeleteVolume(VolumeKey),
    ApplySdn,
    /// A node goes down, and its guests with it.
    NodeDown(String),
    /// A node is there again.
    NodeUp(String),
    /// Puts the planned interfaces of a node in force.
    ApplyNetwork(String),
    /// Changes what is held of configuration and storages.
    Edit(Vec<Edit>),
    /// One after the other, whatever comes of those before; the first error is that of all.
    All(Vec<Effect>),
    /// Does something to each guest, and warns of those it cannot be done to.
    Each(Vec<(u32, GuestEffect)>),
    /// What would have happened, and what a fault made of it.
    Faulted(Box<Effect>, TaskFault),
}

/// A change of what is held.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// List, id and the entry.
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
    pub(crate) who: &'a Identity,
    /// In simulated seconds, before the time factor.
    pub(crate) seconds: f64,
    /// Spread evenly over the duration.
    pub(crate) lines: Vec<String>,
    pub(crate) effect: Effect,
}
