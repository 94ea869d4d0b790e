//! `POST /v1/batch/vms/action`: one action over many guests.

use std::time::Duration;

use axum::extract::State;
use http::HeaderMap;
use proxmox_api::Value;
use proxmox_api::manage::guest::PowerAction;
use serde::Deserialize;

use crate::app::App;
use crate::caller::Caller;
use crate::json::Json;
use crate::refusal::Refusal;

const MAX_GUESTS: usize = 1_000;
const MAX_PARALLEL: usize = 32;
const MAX_SECONDS: u64 = 3_600;

/// The request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    action: String,
    vmids: Vec<u32>,
    #[serde(default)]
    options: Options,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Guests processed at the same time; 4 by default.
    parallel: Option<usize>,
    /// Whether to continue after a guest failed; true by default.
    continue_on_error: Option<bool>,
    /// Whether to wait for the tasks; true by default.
    wait: Option<bool>,
    /// Time limit for each task, in seconds; five minutes by default.
    timeout: Option<u64>,
}

fn action(name: &str) -> Option<PowerAction> {
    let all = [
        PowerAction::Start,
        PowerAction::Stop,
        PowerAction::Shutdown,
        PowerAction::Reboot,
        PowerAction::Reset,
        PowerAction::Suspend,
        PowerAction::Hibernate,
        PowerAction::Resume,
    ];
    all.into_iter().find(|action| action.as_str() == name)
}

pub(super) async fn act(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<BatchRequest>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::changing(&headers)?;
    let action = action(&request.action).ok_or_else(|| {
        let known =
            "must be one of start, stop, shutdown, reboot, reset, suspend, hibernate, resume";
        Refusal::parameters([("action", known)])
    })?;
    if request.vmids.is_empty() || request.vmids.len() > MAX_GUESTS {
        let problem = format!("must contain 1 to {MAX_GUESTS} guests");
        return Err(Refusal::parameters([("vmids", problem)]));
    }
    let options = request.options;
    let parallel = options.parallel.unwrap_or(4);
    if !(1..=MAX_PARALLEL).contains(&parallel) {
        let problem = format!("must be from 1 to {MAX_PARALLEL}");
        return Err(Refusal::parameters([("options.parallel", problem)]));
    }
    let seconds = options.timeout.unwrap_or(300);
    if seconds > MAX_SECONDS {
        let problem = format!("is more than {MAX_SECONDS} seconds");
        return Err(Refusal::parameters([("options.timeout", problem)]));
    }
    let client = app.cluster.client(&caller)?;
    let mut batch = (client.batch(request.vmids))
        .parallel(parallel)
        .continue_on_error(options.continue_on_error.unwrap_or(true))
        .timeout(Duration::from_secs(seconds));
    if !options.wait.unwrap_or(true) {
        batch = batch.only_start();
    }
    let report = batch.power(action).await?;
    Ok(Json(report.to_json()))
}
