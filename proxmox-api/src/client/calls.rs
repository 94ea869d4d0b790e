//! Calls of the client's own: files outside the API, and the nodes of the cluster.

use serde_json::Value;

use super::call::{Call, Scope};
use super::hosts::HostInfo;
use super::reply::Reply;
use super::state::Client;
use crate::error::{CallId, Error};
use crate::value::decode::{DecodeError, decode_data};
use crate::value::endpoint::Method;

/// More than any cluster has.
const MAX_NODES: usize = 1_000;

impl Client {
    /// Asks the cluster for its nodes and adds those with an address, after the addresses that are
    /// known already. From then on a node's calls go to that node, and the others replace a node
    /// that cannot be reached. Returns the same as [`Client::hosts`]. A later call also removes
    /// nodes that left the cluster or changed their address, but never an address that the client
    /// was built with.
    ///
    /// The nodes are expected on the port of the first address, or on 8006 behind a proxy, at their
    /// IP address in the cluster network, and have to be trusted like the first: a pinned
    /// fingerprint fits one node only.
    ///
    /// # Errors
    /// [`Error::Config`] if a node could only be reached without encryption and the client does not
    /// allow that, [`Error::Decode`] if the answer names more than 1,000; no node is added then.
    /// Those of `GET /cluster/status`, which needs the privilege `Sys.Audit` on `/`.
    pub async fn discover_hosts(&self) -> Result<Vec<HostInfo>, Error> {
        let call = Call::new(Method::Get, "/cluster/status");
        let name = self.call_id(&call);
        let reply = self.reply(&name, &call).await?;
        let wrong = |error| self.undecodable(name.clone(), &reply.secrets, error);
        let data: Value = decode_data(&reply).map_err(wrong)?;
        let text = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
        let address =
            |entry: &Value| text(entry, "ip").filter(|ip| ip.parse::<std::net::IpAddr>().is_ok());
        let nodes: Vec<_> = (data.as_array().into_iter().flatten())
            .filter(|entry| text(entry, "type").as_deref() == Some("node"))
            .filter_map(|entry| Some((text(entry, "name")?, address(entry))))
            .collect();
        if nodes.len() > MAX_NODES {
            let problem = format!("it names more than {MAX_NODES} nodes");
            return Err(wrong(DecodeError::new("data", problem)));
        }
        self.0.hosts.update(&nodes)?;
        Ok(self.hosts())
    }

    /// Gets a file that the server publishes outside its API, such as
    /// `/pve-docs/api-viewer/apidoc.js`, without authentication.
    ///
    /// # Errors
    /// Those of every request; [`Error::Api`] for any status but 2xx; [`Error::Request`] for a path
    /// that does not start with a slash or has dot segments.
    pub async fn fetch(&self, path: &str) -> Result<Reply, Error> {
        // A query may hold secrets.
        let without_query = path.split('?').next().unwrap_or_default();
        let name = self.number(CallId::new(Method::Get, without_query));
        let call = Call {
            scope: Scope::Outside,
            ..Call::new(Method::Get, path)
        };
        self.reply(&name, &call).await
    }
}
