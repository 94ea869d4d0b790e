//! `gpve.v1.OperationService`: operations that continue after an answer.

use std::time::Duration;

use proxmox_api::Error;
use proxmox_api::task::{Task, TaskStatus};
use proxmox_api::value::upid::Upid;
use tonic::{Request, Response, Status};

use super::admission::{Admission, Call, failed, invalid};
use crate::gpve::v1::operation_service_server::OperationService;
use crate::gpve::v1::{GetOperationRequest, Operation, WaitOperationRequest};
use crate::limits::Class;

const MAX_TIMEOUT_SECONDS: u32 = 3_600;

#[derive(Clone, Debug)]
pub(super) struct Operations(pub(super) Admission);

fn task(call: &Call, name: &str) -> Result<Task, Status> {
    let upid: Result<Upid, _> = name.parse();
    let upid = upid.map_err(|_| invalid("name", "is not a task identifier"))?;
    Ok(call.client.task(upid))
}

fn operation_message(name: String, status: &TaskStatus) -> Operation {
    let exit = status.exit_status().unwrap_or_default().to_owned();
    let vmid = name
        .parse::<Upid>()
        .ok()
        .and_then(|upid| upid.id()?.parse().ok());
    let is_good = status.is_running() || exit == "OK" || exit.starts_with("WARNINGS");
    Operation {
        done: !status.is_running(),
        error: if is_good { String::new() } else { exit.clone() },
        status: exit,
        vmid: vmid.unwrap_or(0),
        name,
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    async fn get(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Operation.Get", Class::Read)?;
        let name = request.into_inner().name;
        let status = task(&call, &name)?.status().await.map_err(failed)?;
        Ok(Response::new(operation_message(name, &status)))
    }

    async fn wait(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = self.0.enter(&request, "Operation.Wait", Class::Read)?;
        let WaitOperationRequest {
            name,
            timeout_seconds,
        } = request.into_inner();
        let seconds = match timeout_seconds {
            0 => 300,
            seconds if seconds > MAX_TIMEOUT_SECONDS => {
                return Err(invalid("timeout_seconds", "is more than an hour"));
            }
            seconds => seconds,
        };
        let task = task(&call, &name)?;
        let waiting = task.wait().timeout(Duration::from_secs(seconds.into()));
        // The operation reports success or failure.
        if let Err(error) = waiting.await
            && !matches!(error, Error::Task(_))
        {
            return Err(failed(error));
        }
        let status = task.status().await.map_err(failed)?;
        Ok(Response::new(operation_message(name, &status)))
    }
}
