//! A validated call, and its answer.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Endpoint, Method};
use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::console::Console;
use crate::params::{Param, Params};
use crate::state::access::Identity;
use crate::state::cluster::Cluster;
use crate::state::effect::{Effect, Plan};
use crate::upload::Received;

/// A validated call for its handler.
pub(crate) struct Call<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) method: Method,
    /// The endpoint's path template.
    pub(crate) path: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) params: Params,
    /// The uploaded file.
    pub(crate) upload: Option<Received>,
    pub(crate) caller: Identity,
}

/// The answer of a call.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) data: Value,
    pub(crate) total: Option<u64>,
    /// Pending changes beside the data.
    pub(crate) changes: Option<String>,
    /// Name and text of a download.
    pub(crate) file: Option<(String, String)>,
    /// The console of an upgraded connection.
    pub(crate) console: Option<Console>,
}

impl Reply {
    pub(crate) fn data(data: impl Into<Value>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }
}

impl Call<'_> {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Param::text)
    }

    pub(crate) fn owned(&self, name: &str) -> String {
        self.text(name).unwrap_or("").to_owned()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)
            .and_then(|text| text.strip_prefix('+').unwrap_or(text).parse().ok())
    }

    pub(crate) fn vmid(&self, name: &str) -> u32 {
        self.number(name)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// Text parameters that answers may repeat.
    pub(crate) fn known(&self) -> BTreeMap<String, String> {
        texts(&self.params)
    }

    pub(crate) fn may(&self, path: &str, privilege: &str) -> bool {
        self.caller.is_root()
            || self
                .cluster
                .privileges(&self.caller, path)
                .contains(privilege)
    }

    pub(crate) fn start(
        &mut self,
        kind: &str,
        id: impl ToString,
        seconds: f64,
        lines: Vec<String>,
        effect: Effect,
    ) -> Reply {
        let node = match self.text("node") {
            Some(node) => node.to_owned(),
            None => self
                .cluster
                .nodes
                .first()
                .map(|n| n.name.clone())
                .unwrap_or_default(),
        };
        let caller = self.caller.clone();
        Reply::data(self.cluster.start(Plan {
            node: &node,
            kind,
            id: id.to_string(),
            owner: &caller,
            seconds,
            lines,
            effect,
        }))
    }

    /// A task that fails immediately.
    pub(crate) fn fail(&mut self, kind: &str, id: impl ToString, error: String) -> Reply {
        self.start(kind, id, 0.1, Vec::new(), Effect::Fail(error))
    }

    /// An option that only root@pam itself may use.
    pub(crate) fn root_only(&self, option: &str) -> ApiResult<()> {
        if self.flag(option) && !self.caller.is_root() {
            return Err(ApiError::parameter(
                option,
                "Only root may use this option.",
            ));
        }
        Ok(())
    }
}

/// The string parameters.
pub(crate) fn texts(params: &Params) -> BTreeMap<String, String> {
    params
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
        .collect()
}
