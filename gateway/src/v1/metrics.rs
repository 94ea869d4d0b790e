//! `/v1/nodes/{node}/metrics`: metrics of a node.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use proxmox_api::manage::metrics::{
    CONTENT_TYPE as PROMETHEUS, MetricFamily, MetricType, NodeMetrics, node_metrics, render,
};

use crate::app::App;
use crate::caller::Caller;
use crate::json::Json;
use crate::pages::Query;
use crate::refusal::Refusal;

pub(super) async fn of_node(
    State(app): State<App>,
    headers: HeaderMap,
    Path(node): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let prometheus = match query.get("format") {
        None | Some("json") => false,
        Some("prometheus") => true,
        Some(_) => {
            return Err(Refusal::parameters([(
                "format",
                "must be json or prometheus",
            )]));
        }
    };
    let client = app.cluster.client(&caller)?;
    let metrics = node_metrics(&client, &node).await?;
    if !prometheus {
        return Ok(Json(metrics.to_json()).into_response());
    }
    let mut response = render(&families(&node, &metrics)).into_response();
    let kind = HeaderValue::from_static(PROMETHEUS);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn families(node: &str, metrics: &NodeMetrics) -> Vec<MetricFamily> {
    let integer = |number: u64| Some(number as f64);
    let [one, five, fifteen] = metrics.load.map(Some);
    let figures = [
        (
            "cpu_usage_ratio",
            "Fraction of the processors in use.",
            Some(metrics.cpu_percent / 100.0),
        ),
        (
            "cpus",
            "Number of processors, including threads.",
            integer(metrics.cpus),
        ),
        ("load1", "Load average over 1 minute.", one),
        ("load5", "Load average over 5 minutes.", five),
        ("load15", "Load average over 15 minutes.", fifteen),
        (
            "io_wait_ratio",
            "Fraction of time that processors wait for disks.",
            metrics.io_wait_percent.map(|percent| percent / 100.0),
        ),
        ("memory_size_bytes", "Memory.", integer(metrics.memory)),
        (
            "memory_usage_bytes",
            "Memory in use.",
            integer(metrics.memory_used),
        ),
        (
            "memory_cached_bytes",
            "Memory available to processes.",
            metrics.memory_cached.and_then(integer),
        ),
        ("swap_size_bytes", "Swap space.", integer(metrics.swap)),
        (
            "swap_usage_bytes",
            "Swap space in use.",
            integer(metrics.swap_used),
        ),
        (
            "root_size_bytes",
            "Size of the root file system.",
            integer(metrics.root),
        ),
        (
            "root_usage_bytes",
            "Bytes in use on the root file system.",
            integer(metrics.root_used),
        ),
        (
            "network_receive_bytes_per_second",
            "Bytes received per second, over the last minute or so.",
            metrics.received_per_second,
        ),
        (
            "network_transmit_bytes_per_second",
            "Bytes sent per second, over the last minute or so.",
            metrics.sent_per_second,
        ),
        (
            "uptime_seconds",
            "Seconds since the node started.",
            integer(metrics.uptime),
        ),
    ];
    let figures = figures.into_iter().filter_map(|(name, help, value)| {
        let mut family = MetricFamily::new(&format!("pve_node_{name}"), MetricType::Gauge, help);
        family.add(&[("node", node)], value?);
        Some(family)
    });
    figures.collect()
}
