//! Permission paths of a call.

use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::rights::privileges::SPACE;
use crate::state::guest::Kind;
use crate::state::guest::volumes::parse_volume_name;

impl Call<'_> {
    /// A path with its `{names}` replaced; `None` if one is unknown, which the handler refuses.
    pub(crate) fn filled(&self, path: &str, row: Option<&Value>) -> Option<String> {
        let mut out = String::new();
        for segment in path.split('/').skip(1) {
            out.push('/');
            match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some(name) => out.push_str(&self.named(name, row)?),
                None => out.push_str(segment),
            }
        }
        Some(out)
    }

    pub(crate) fn named(&self, name: &str, row: Option<&Value>) -> Option<String> {
        if let Some(value) = row.and_then(|row| row.get(name)) {
            return value
                .as_str()
                .map(str::to_owned)
                .or_else(|| value.as_u64().map(|number| number.to_string()));
        }
        let parameter = |name: &str| self.text(name).map(str::to_owned);
        let zone_of_vnet = || {
            let zone = self.cluster.zone_of_vnet(self.text("vnet")?);
            zone.map(str::to_owned)
        };
        // The zone a network is in, and not the one that it is to come into.
        if name == "zone" && self.path.starts_with("/cluster/sdn/vnets/{vnet}") {
            return zone_of_vnet();
        }
        parameter(name).or_else(|| match name {
            // The id of a replication job starts with the guest's number.
            "guest" => parameter("id").and_then(|id| Some(id.split_once('-')?.0.to_owned())),
            "zone" => zone_of_vnet(),
            _ => None,
        })
    }

    /// Requires all of these privileges; the refusal names the first missing one.
    pub(crate) fn require(&self, path: &str, privileges: &[&str]) -> ApiResult<()> {
        match privileges.iter().find(|p| !self.may(path, p)) {
            Some(missing) => Err(ApiError::permission(&format!("{path}, {missing}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn require_any(&self, path: &str, privileges: &[&str]) -> ApiResult<()> {
        if privileges.iter().any(|p| self.may(path, p)) {
            return Ok(());
        }
        let text = format!("{path}, {}", privileges.join("|"));
        Err(ApiError::permission(&text))
    }

    /// Requires privileges on a guest, or on its new pool.
    pub(crate) fn require_on_guest(
        &self,
        vmid: u32,
        pool: Option<&str>,
        privileges: &[&str],
    ) -> ApiResult<()> {
        let in_pool =
            pool.is_some_and(|pool| self.require(&format!("/pool/{pool}"), privileges).is_ok());
        if in_pool {
            return Ok(());
        }
        self.require(&format!("/vms/{vmid}"), privileges)
    }

    /// Options that only root@pam may set.
    pub(crate) fn only_root(&self, options: &[&str], text: &str) -> ApiResult<()> {
        match options.iter().find(|o| self.params.contains_key(**o)) {
            Some(option) if !self.caller.is_root() => Err(ApiError::parameter(option, text)),
            _ => Ok(()),
        }
    }

    /// Checks that a volume may be read: a template or ISO image, a backup, a disk.
    pub(crate) fn require_volume(
        &self,
        vmid: Option<u32>,
        volid: &str,
        expected: Option<&str>,
    ) -> ApiResult<()> {
        let Some((storage, name)) = volid.split_once(':') else {
            return Err(ApiError::die(
                "Only root can pass arbitrary filesystem paths.",
            ));
        };
        let (content, owner) = parse_volume_name(name);
        if expected.is_some_and(|expected| {
            expected != content && !(expected == "rootdir" && content == "images")
        }) {
            return Err(ApiError::die(format!(
                "unable to use volume {volid} - content type needs to be '{}'",
                expected.unwrap_or("")
            )));
        }
        let place = format!("/storage/{storage}");
        if self.may(&place, "Datastore.Allocate") {
            return Ok(());
        }
        match (content, owner) {
            ("iso" | "vztmpl" | "import", _) => {
                self.require_any(&place, &["Datastore.AllocateSpace", "Datastore.Audit"])
            }
            (_, Some(owner)) if vmid == Some(owner) => Ok(()),
            ("backup", Some(owner)) => {
                self.require(&place, SPACE)?;
                self.require(&format!("/vms/{owner}"), &["VM.Backup"])
            }
            ("images" | "rootdir", Some(owner)) => {
                self.require(&place, &["Datastore.Audit"])?;
                self.require(&format!("/vms/{owner}"), &["VM.Config.Disk"])
            }
            _ => Err(ApiError::die(format!(
                "missing privileges to access {volid}"
            ))),
        }
    }

    /// Use of the bridge or virtual network of a network card.
    pub(crate) fn require_bridge(&self, kind: Kind, value: &str) -> ApiResult<()> {
        // Releases before 8.0 made no check.
        if self.cluster.schema.release().major < 8 {
            return Ok(());
        }
        let parts = self.cluster.parts(kind, "net0", value);
        let Some(bridge) = parts.get("bridge") else {
            return Ok(());
        };
        let zone = self.cluster.zone_of_vnet(bridge).unwrap_or("localnetwork");
        let place = format!("/sdn/zones/{zone}/{bridge}");
        let tags = parts.get("tag").into_iter().map(String::as_str);
        let trunks = parts.get("trunks").map_or("", String::as_str).split(';');
        let mut tags = tags.chain(trunks.filter(|tag| !tag.is_empty())).peekable();
        if tags.peek().is_none() {
            return self.require(&place, &["SDN.Use"]);
        }
        tags.try_for_each(|tag| self.require(&format!("{place}/{tag}"), &["SDN.Use"]))
    }
}
