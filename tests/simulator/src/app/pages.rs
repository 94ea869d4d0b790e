//! Pages for a browser, and indices.

use serde_json::{Map, Value, json};

use crate::schema::ApiSchema;

/// One grey pixel, for the pictures of measurements.
pub(crate) const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b,
    0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0x00, 0x00, 0x00,
    0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82,
];

pub(crate) fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A page that shows an answer, with links to what is below it, or the form to log in.
pub(crate) fn page(segments: &[String], body: &Map<String, Value>, login: bool) -> String {
    let title = escape_html(&format!("/{}", segments.join("/")));
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
         <h1>{title}</h1>\n"
    );
    if login {
        text.push_str(
            "<form method=\"post\" action=\"/api2/html/access/ticket\">\n<input name=\"username\">\n\
             <input name=\"password\" type=\"password\">\n<button>Log in</button>\n</form>\n",
        );
    }
    let below: Vec<&str> = body
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("subdir")?.as_str())
        .collect();
    if !below.is_empty() {
        text.push_str("<ul>\n");
        let base = format!("/api2/html/{}", segments.join("/"));
        for name in below {
            let (href, name) = (
                escape_html(&format!("{}/{name}", base.trim_end_matches('/'))),
                escape_html(name),
            );
            text.push_str(&format!("<li><a href=\"{href}\">{name}</a></li>\n"));
        }
        text.push_str("</ul>\n");
    }
    let json = serde_json::to_string_pretty(body).unwrap_or_default();
    text.push_str(&format!(
        "<pre>{}</pre>\n</body>\n</html>\n",
        escape_html(&json)
    ));
    text
}

/// The members of guests' directory indexes. The real server lists only some of the existing ones,
/// and some that do not exist.
const VM_INDEX: &str = "config cloudinit pending status unlink vncproxy termproxy migrate resize move rrd rrddata monitor \
    agent snapshot spiceproxy sendkey firewall mtunnel remote_migrate";

const VM_STATUS_INDEX: &str = "current start stop reset shutdown suspend reboot";

const CT_INDEX: &str = "config pending status vncproxy termproxy vncwebsocket spiceproxy migrate clone rrd rrddata firewall \
    snapshot resize interfaces";

const CT_STATUS_INDEX: &str = "current start stop shutdown reboot migrate";

const FIREWALL_INDEX: &str = "rules aliases ipset refs options";

/// The answer of a directory index: the literal children of the path.
pub(crate) fn directory(
    returns: &proxmox_codegen::facts::Schema,
    schema: &ApiSchema,
    segments: &[&str],
) -> Option<Value> {
    let link = returns.links.as_ref()?.first()?;
    let key = link.strip_prefix('{')?.strip_suffix('}')?;
    let items = returns.items.as_ref()?;
    if items
        .properties
        .as_ref()
        .is_some_and(|p| !p.is_empty() && !p.contains_key(key))
    {
        return None;
    }
    let listed = match segments {
        ["nodes", _, "qemu", _] => Some(VM_INDEX),
        ["nodes", _, "qemu", _, "status"] => Some(VM_STATUS_INDEX),
        ["nodes", _, "lxc", _] => Some(CT_INDEX),
        ["nodes", _, "lxc", _, "status"] => Some(CT_STATUS_INDEX),
        ["nodes", _, "qemu" | "lxc", _, "firewall"] => Some(FIREWALL_INDEX),
        _ => None,
    };
    let names: Vec<String> = match listed {
        Some(listed) => {
            let existing = schema.children(segments);
            let listed = listed.split_whitespace().map(str::to_owned);
            // The index lists `move` and `migrate` whether they exist or not.
            listed
                .filter(|name| {
                    matches!(name.as_str(), "move" | "migrate") || existing.contains(name)
                })
                .collect()
        }
        None => schema.children(segments),
    };
    if names.is_empty() {
        return None;
    }
    Some(names.into_iter().map(|name| json!({ key: name })).collect())
}
