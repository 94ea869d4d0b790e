//! `gpve.v1.VClusterService`: Kubernetes clusters as guests.

use tonic::{Request, Response, Status};

use super::admission::{Admission, Call, operation, refused};
use crate::gpve::v1::v_cluster_service_server::VClusterService;
use crate::gpve::v1::{
    CreateVClusterRequest, CreateVClusterResponse, DeleteVClusterRequest, DeleteVClusterResponse,
    GetKubeconfigRequest, GetKubeconfigResponse, GetVClusterRequest, ListVClustersRequest,
    ListVClustersResponse, Operation, Resources, ScaleVClusterRequest, VCluster,
};
use crate::limits::Class;
use crate::vclusters::{self as vc, NewVcluster, NodeSelector, Vcluster};

#[derive(Clone, Debug)]
pub(super) struct Vclusters(pub(super) Admission);

impl Vclusters {
    fn with<'a>(&'a self, call: &'a Call) -> Result<vc::Vclusters<'a>, Status> {
        let missing = || Status::failed_precondition("the gateway has no template for vclusters");
        let config = self.0.app().vclusters.as_ref().ok_or_else(missing)?;
        Ok(vc::Vclusters {
            client: &call.client,
            config,
        })
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn size(resources: Option<Resources>) -> vc::Resources {
    let Resources { cpu, memory } = resources.unwrap_or_default();
    vc::Resources {
        cpu: (cpu > 0).then_some(cpu),
        memory: non_empty(memory),
    }
}

fn vcluster_message(one: Vcluster) -> VCluster {
    VCluster {
        id: one.id,
        name: one.name,
        status: one.status,
        k8s_version: one.k8s_version,
        node: one.node,
        isolation: one.isolation,
        created_at: one.created_at,
        api_server: one.endpoints.api_server.unwrap_or_default(),
        resources: Some(Resources {
            cpu: one.resources.cpu.unwrap_or(0),
            memory: one.resources.memory.unwrap_or_default(),
        }),
    }
}

#[tonic::async_trait]
impl VClusterService for Vclusters {
    async fn create(
        &self,
        request: Request<CreateVClusterRequest>,
    ) -> Result<Response<CreateVClusterResponse>, Status> {
        let call = self.0.enter(&request, "VCluster.Create", Class::Write)?;
        let order = request.into_inner();
        let new = NewVcluster {
            name: order.name,
            k8s_version: non_empty(order.k8s_version),
            isolation: non_empty(order.isolation),
            resources: size(order.resources),
            node_selector: non_empty(order.node).map(|node| NodeSelector { node }),
        };
        let (vcluster, started, guest) = self.with(&call)?.create(&new).await.map_err(refused)?;
        let operation = operation(&started, vcluster.vmid);
        tokio::spawn(async move {
            let vmid = guest.vmid();
            if let Err(error) = vc::finish(started, guest, new.resources).await {
                tracing::warn!(vmid, %error, "creating a vcluster failed");
            }
        });
        Ok(Response::new(CreateVClusterResponse {
            vcluster: Some(vcluster_message(vcluster)),
            operation: Some(operation),
        }))
    }

    async fn get(
        &self,
        request: Request<GetVClusterRequest>,
    ) -> Result<Response<VCluster>, Status> {
        let call = self.0.enter(&request, "VCluster.Get", Class::Read)?;
        let id = request.into_inner().id;
        let found = self.with(&call)?.get(&id).await.map_err(refused)?;
        Ok(Response::new(vcluster_message(found)))
    }

    async fn list(
        &self,
        request: Request<ListVClustersRequest>,
    ) -> Result<Response<ListVClustersResponse>, Status> {
        let call = self.0.enter(&request, "VCluster.List", Class::Read)?;
        let found = self.with(&call)?.list().await.map_err(refused)?;
        let vclusters = found.into_iter().map(vcluster_message).collect();
        Ok(Response::new(ListVClustersResponse { vclusters }))
    }

    async fn delete(
        &self,
        request: Request<DeleteVClusterRequest>,
    ) -> Result<Response<DeleteVClusterResponse>, Status> {
        let call = self.0.enter(&request, "VCluster.Delete", Class::Write)?;
        let id = request.into_inner().id;
        let started = self.with(&call)?.delete(&id).await.map_err(refused)?;
        let operation = operation(&started, started.guest().vmid());
        Ok(Response::new(DeleteVClusterResponse {
            operation: Some(operation),
        }))
    }

    async fn get_kubeconfig(
        &self,
        request: Request<GetKubeconfigRequest>,
    ) -> Result<Response<GetKubeconfigResponse>, Status> {
        let call = self
            .0
            .enter(&request, "VCluster.GetKubeconfig", Class::Read)?;
        let id = request.into_inner().id;
        let kubeconfig = self.with(&call)?.kubeconfig(&id).await.map_err(refused)?;
        Ok(Response::new(GetKubeconfigResponse { kubeconfig }))
    }

    async fn scale(
        &self,
        request: Request<ScaleVClusterRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "VCluster.Scale", Class::Write)?;
        let ScaleVClusterRequest { id, resources } = request.into_inner();
        let scaling = self.with(&call)?;
        let (scaled, waits) = scaling
            .scale(&id, &size(resources))
            .await
            .map_err(refused)?;
        let status = if waits { "WARNINGS: 1" } else { "OK" };
        Ok(Response::new(Operation {
            done: true,
            status: status.to_owned(),
            vmid: scaled.vmid,
            ..Operation::default()
        }))
    }
}
