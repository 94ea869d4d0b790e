//! Checks that the server makes when it writes a node's network configuration: which interfaces can
//! use which others.

use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::records::rows::field;
use crate::formats::split_list;
use crate::state::records::{Row, Rows};

/// The parameters that name other interfaces.
const PORTS: [&str; 4] = ["bridge_ports", "ovs_ports", "slaves", "ovs_bonds"];

fn text<'a>(row: &'a Row, key: &str) -> &'a str {
    field(row, key).as_str().unwrap_or("")
}

fn named(row: &Row) -> impl Iterator<Item = &str> {
    PORTS.iter().flat_map(|key| split_list(text(row, key)))
}

/// Refuses a port that another interface uses. The server accepts any separator in this check.
pub(super) fn check_duplicates(rows: &Rows, id: &str, row: &Row) -> ApiResult<()> {
    let Some(key) = PORTS.iter().find(|key| !text(row, key).is_empty()) else {
        return Ok(());
    };
    for (name, other_row) in rows.iter().filter(|(name, _)| name != id) {
        if let Some(port) = named(row).find(|port| named(other_row).any(|other| other == *port)) {
            let error = format!("{port} is already used on interface '{name}'.");
            return Err(ApiError::parameter(key, error));
        }
    }
    Ok(())
}

/// Refuses what cannot be written. Only white space separates in this check, although the
/// parameter's check accepts more.
pub(super) fn check(rows: &Rows) -> ApiResult<()> {
    let kind = |name: &str| -> Option<&str> {
        let (_, row) = rows.iter().find(|(key, _)| key == name)?;
        Some(text(row, "type"))
    };
    let each = |of: &'static str, key: &'static str| {
        rows.iter()
            .filter(move |(_, row)| text(row, "type") == of)
            .flat_map(move |(name, row)| {
                let ports = text(row, key).split_ascii_whitespace();
                ports.map(move |port| (name, row, port))
            })
    };
    for (name, _, port) in each("OVSBridge", "ovs_ports") {
        match kind(port) {
            None => {
                return Err(ApiError::die(format!(
                    "OVS bridge '{name}' - unable to find port '{port}'"
                )));
            }
            Some("eth" | "OVSBond" | "OVSPort" | "OVSIntPort") => {}
            Some(_) => {
                return Err(ApiError::die(format!(
                    "interface '{port}' is not defined as OVS port/bond"
                )));
            }
        }
    }
    for (name, _, port) in each("OVSBond", "ovs_bonds") {
        let kind = kind(port).unwrap_or("");
        if kind != "eth" {
            return Err(ApiError::die(format!(
                "OVS bond '{name}' - wrong interface type on slave '{port}' ('{kind}' != 'eth')"
            )));
        }
    }
    for (name, row, port) in each("bond", "slaves") {
        let kind = kind(port).unwrap_or("");
        if !matches!(kind, "eth" | "bond") {
            return Err(ApiError::die(format!(
                "bond '{name}' - wrong interface type on slave '{port}' ('{kind}' != 'eth or bond')"
            )));
        }
        let primary = text(row, "bond-primary");
        let mut slaves = text(row, "slaves").split_ascii_whitespace();
        if !primary.is_empty() && !slaves.any(|slave| slave == primary) {
            return Err(ApiError::die(format!(
                "bond '{name}' - bond-primary interface is not a slave"
            )));
        }
    }
    for (name, _, port) in each("bridge", "bridge_ports") {
        // A VLAN of an interface is created with the bridge that uses it.
        let vlan = port
            .rsplit_once('.')
            .is_some_and(|(_, tag)| !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_digit()));
        if kind(port).is_none() && !vlan {
            return Err(ApiError::die(format!(
                "bridge '{name}' - unable to find bridge port '{port}'"
            )));
        }
    }
    Ok(())
}

/// The only list that is written with other separators than it was sent with.
pub(super) fn rejoin(row: &mut Row) {
    if let Some(Value::String(list)) = row.get_mut("bridge_vids") {
        *list = split_list(list).collect::<Vec<_>>().join(" ");
    }
}
