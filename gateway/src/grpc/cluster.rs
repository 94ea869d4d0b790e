//! `gpve.v1.ClusterService`: the cluster of nodes.

use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, Value};
use tonic::{Request, Response, Status};

use super::admission::{Admission, failed, invalid, plain};
use crate::gpve::v1::cluster_service_server::ClusterService;
use crate::gpve::v1::{
    ClusterStatus, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, ListNodesRequest,
    ListNodesResponse, Node, Operation, StatusRequest,
};
use crate::limits::Class;

#[derive(Clone, Debug)]
pub(super) struct Cluster(pub(super) Admission);

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, key: &str) -> u64 {
    let text = row[key].as_str().and_then(|text| text.parse().ok());
    row[key].as_u64().or(text).unwrap_or(0)
}

fn number_u32(row: &Value, key: &str) -> u32 {
    u32::try_from(number(row, key)).unwrap_or(u32::MAX)
}

fn rows(answer: &Value) -> &[Value] {
    answer.as_array().map(Vec::as_slice).unwrap_or_default()
}

async fn nodes(client: &Client) -> Result<Vec<Node>, Status> {
    let answer = client
        .request(Method::Get, "/nodes")
        .await
        .map_err(failed)?;
    let nodes = rows(&answer).iter().map(|row| Node {
        name: text(row, "node"),
        online: row["status"] == "online",
        cpu: row["cpu"].as_f64().unwrap_or(0.0),
        cpus: number_u32(row, "maxcpu"),
        memory_bytes: number(row, "maxmem"),
        memory_used_bytes: number(row, "mem"),
        uptime_seconds: number(row, "uptime"),
        ..Node::default()
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<ClusterStatus>, Status> {
        let call = self.0.enter(&request, "Cluster.Status", Class::Read)?;
        let answer = call
            .client
            .request(Method::Get, "/cluster/status")
            .await
            .map_err(failed)?;
        let mut status = ClusterStatus {
            nodes: nodes(&call.client).await?,
            ..ClusterStatus::default()
        };
        for row in rows(&answer) {
            if row["type"] == "cluster" {
                status.name = text(row, "name");
                status.quorate = number(row, "quorate") == 1;
                status.version = number_u32(row, "version");
            } else if let Some(node) = status
                .nodes
                .iter_mut()
                .find(|node| row["name"] == node.name.as_str())
            {
                node.ip = text(row, "ip");
                node.id = number_u32(row, "nodeid");
                node.online = number(row, "online") == 1;
            }
        }
        Ok(Response::new(status))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let call = self.0.enter(&request, "Cluster.Join", Class::Write)?;
        let join_request = request.into_inner();
        let mut join = (call.client.request(Method::Post, "/cluster/config/join"))
            .param("hostname", join_request.hostname)
            .param("fingerprint", join_request.fingerprint)
            .param("password", join_request.password);
        if join_request.force {
            join = join.param("force", true);
        }
        if join_request.votes > 0 {
            join = join.param("votes", i64::from(join_request.votes));
        }
        let answer: serde_json::Value = join.await.map_err(failed)?;
        let operation = Operation {
            name: answer.as_str().unwrap_or_default().to_owned(),
            ..Operation::default()
        };
        Ok(Response::new(JoinResponse {
            operation: Some(operation),
        }))
    }

    async fn leave(
        &self,
        request: Request<LeaveRequest>,
    ) -> Result<Response<LeaveResponse>, Status> {
        let call = self.0.enter(&request, "Cluster.Leave", Class::Write)?;
        let node = request.into_inner().node;
        if node.is_empty() {
            return Err(invalid("node", "is missing"));
        }
        let path = format!("/cluster/config/nodes/{}", plain("node", &node)?);
        call.client
            .request::<serde_json::Value>(Method::Delete, path)
            .await
            .map_err(failed)?;
        Ok(Response::new(LeaveResponse {}))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let call = self.0.enter(&request, "Cluster.ListNodes", Class::Read)?;
        let nodes = nodes(&call.client).await?;
        Ok(Response::new(ListNodesResponse { nodes }))
    }
}
