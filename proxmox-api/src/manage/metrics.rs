//! Metrics of nodes, guests and storages, and their export for Prometheus.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! // What an HTTP server answers to `GET /metrics`, with `metrics::CONTENT_TYPE`:
//! let text = proxmox_api::manage::metrics::scrape(&pve).await?;
//! # Ok(())
//! # }
//! ```

mod prometheus;
mod series;

use serde_json::json;

use crate::Value;
use crate::client::Client;
use crate::error::Error;
use crate::manage::events::{unix_now, utc};
use crate::manage::guest::{Guest, Kind, unsigned};
use crate::value::serialize::record_serde;

pub use prometheus::{CONTENT_TYPE, MetricFamily, MetricType, families, render, scrape};
pub use series::{Consolidation, Series, SeriesSet, Timeframe, Unit, node_series, storage_series};

/// Figures of a node; see [`node_metrics`]. Figures that the server does not report are `None`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NodeMetrics {
    /// The time of the request, in seconds since 1970.
    pub time: u64,
    /// Share of the processors in use, in percent.
    pub cpu_percent: f64,
    /// Processors, each thread counted.
    pub cpus: u64,
    /// Processes that are ready to run, on average over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Share of time that processors wait for disks, in percent.
    pub io_wait_percent: Option<f64>,
    /// Memory, in bytes.
    pub memory: u64,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Memory that holds copies of files and can be freed, in bytes.
    pub memory_cached: Option<u64>,
    /// Swap space, in bytes.
    pub swap: u64,
    /// Swap space in use, in bytes.
    pub swap_used: u64,
    /// Size of the root file system, in bytes.
    pub root: u64,
    /// Bytes in use on it.
    pub root_used: u64,
    /// Bytes received per second, over the last minute or so.
    pub received_per_second: Option<f64>,
    /// Bytes sent per second, over the last minute or so.
    pub sent_per_second: Option<f64>,
    /// Seconds since the node started.
    pub uptime: u64,
}

record_serde!(NodeMetrics {
    time,
    cpu_percent,
    cpus,
    load,
    io_wait_percent,
    memory,
    memory_used,
    memory_cached,
    swap,
    swap_used,
    root,
    root_used,
    received_per_second,
    sent_per_second,
    uptime,
});

impl NodeMetrics {
    /// The figures as JSON; figures that Proxmox VE does not measure for a node are `null`.
    ///
    /// ```json
    /// {"timestamp":"2026-01-15T10:00:00Z",
    ///  "cpu":{"usage_percent":15.5,"cores":16,"load_avg":[0.5,0.75,0.6]},
    ///  "memory":{"total_bytes":68719476736,"used_bytes":17179869184,"cached_bytes":8589934592},
    ///  "disk":{"read_bytes_per_sec":null,"write_bytes_per_sec":null,"iops_read":null,"iops_write":null},
    ///  "network":{"rx_bytes_per_sec":10485760,"tx_bytes_per_sec":5242880,
    ///             "rx_packets_per_sec":null,"tx_packets_per_sec":null}}
    /// ```
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        json!({
            "timestamp": utc(self.time),
            "cpu": { "usage_percent": self.cpu_percent, "cores": self.cpus, "load_avg": self.load },
            "memory": {
                "total_bytes": self.memory,
                "used_bytes": self.memory_used,
                "cached_bytes": self.memory_cached,
            },
            "disk": {
                "read_bytes_per_sec": null, "write_bytes_per_sec": null,
                "iops_read": null, "iops_write": null,
            },
            "network": {
                "rx_bytes_per_sec": self.received_per_second,
                "tx_bytes_per_sec": self.sent_per_second,
                "rx_packets_per_sec": null, "tx_packets_per_sec": null,
            },
        })
    }
}

/// Figures of a node: [`GET /nodes/{node}/status`](crate::pve::nodes::NodeStatusPath::get) and, for
/// rates, [`GET /nodes/{node}/rrddata`](crate::pve::nodes::NodeRrddataGet). A node without such
/// data yet has `None` there.
///
/// # Errors
/// Those of every request.
pub async fn node_metrics(client: &Client, node: &str) -> Result<NodeMetrics, Error> {
    let at = client.api().nodes().node(node);
    let status = at.status().get().await?;
    let rates = match at.rrddata().get("hour").await {
        Ok(rows) => rows,
        // The server has no data in the first minute.
        Err(Error::Api(error)) if error.message().starts_with("RRD error") => Vec::new(),
        Err(error) => return Err(error),
    };
    // The newest rows can be empty, because figures arrive late.
    let newest = (rates.iter().rev()).find(|row| row.netin.is_some() || row.netout.is_some());
    let mut load = [0.0; 3];
    for (slot, text) in load.iter_mut().zip(&status.loadavg) {
        *slot = text.parse().unwrap_or(0.0);
    }
    let memory = &status.memory;
    let swap = status.swap.as_ref();
    Ok(NodeMetrics {
        time: unix_now(),
        cpu_percent: status.cpu * 100.0,
        cpus: unsigned(Some(status.cpuinfo.cpus)),
        load,
        io_wait_percent: status.wait.map(|share| share * 100.0),
        memory: unsigned(Some(memory.total)),
        memory_used: unsigned(Some(memory.used)),
        memory_cached: (memory.available)
            .map(|all| unsigned(Some(all.saturating_sub(memory.free)))),
        swap: unsigned(swap.and_then(|swap| swap.total)),
        swap_used: unsigned(swap.and_then(|swap| swap.used)),
        root: unsigned(Some(status.rootfs.total)),
        root_used: unsigned(Some(status.rootfs.used)),
        received_per_second: newest.and_then(|row| row.netin),
        sent_per_second: newest.and_then(|row| row.netout),
        uptime: unsigned(status.uptime),
    })
}

/// A node's figures at one moment of the past; see [`node_history`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NodeSample {
    /// The moment, in seconds since 1970.
    pub time: u64,
    /// Share of its processors in use, in percent.
    pub cpu_percent: Option<f64>,
    /// Share of time that processors waited for disks, in percent.
    pub io_wait_percent: Option<f64>,
    /// Processes that wanted to run, on average.
    pub load: Option<f64>,
    /// Memory, in bytes.
    pub memory: Option<f64>,
    /// Memory in use, in bytes.
    pub memory_used: Option<f64>,
    /// Size of the root file system, in bytes.
    pub root: Option<f64>,
    /// Bytes in use on it.
    pub root_used: Option<f64>,
    /// Bytes received per second.
    pub received_per_second: Option<f64>,
    /// Bytes sent per second.
    pub sent_per_second: Option<f64>,
}

record_serde!(NodeSample {
    time,
    cpu_percent,
    io_wait_percent,
    load,
    memory,
    memory_used,
    root,
    root_used,
    received_per_second,
    sent_per_second,
});

/// A node's figures over the last `hour`, `day`, `week`, `month` or `year`, the oldest first:
/// [`GET /nodes/{node}/rrddata`](crate::pve::nodes::NodeRrddataGet). See [`Guest::history`].
///
/// # Errors
/// Those of every request.
pub async fn node_history(
    client: &Client,
    node: &str,
    timeframe: &str,
) -> Result<Vec<NodeSample>, Error> {
    let rows = client.api().nodes().node(node).rrddata().get(timeframe);
    Ok((rows.await?.into_iter())
        .map(|row| NodeSample {
            time: unsigned(Some(row.time)),
            cpu_percent: row.cpu.map(|share| share * 100.0),
            io_wait_percent: row.iowait.map(|share| share * 100.0),
            load: row.loadavg,
            memory: row.memtotal,
            memory_used: row.memused,
            root: row.roottotal,
            root_used: row.rootused,
            received_per_second: row.netin,
            sent_per_second: row.netout,
        })
        .collect())
}

/// Figures of a storage as one node sees it; see [`storage_metrics`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageMetrics {
    /// Whether the node can use it now.
    pub active: bool,
    /// Its size, in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can still be written; less than the free space if some is reserved.
    pub available: u64,
}

record_serde!(StorageMetrics {
    active,
    size,
    used,
    available,
});

/// Figures of a storage as one node sees it: [`GET /nodes/{node}/storage/{storage}/status`](crate::pve::node_storage::NodeStorageStorageStatusPath::get).
///
/// # Errors
/// Those of every request.
pub async fn storage_metrics(
    client: &Client,
    node: &str,
    storage: &str,
) -> Result<StorageMetrics, Error> {
    let at = client.api().nodes().node(node).storage().storage(storage);
    let status = at.status().get().await?;
    Ok(StorageMetrics {
        active: status.active == Some(true),
        size: unsigned(status.total),
        used: unsigned(status.used),
        available: unsigned(status.avail),
    })
}

/// A storage's figures at one moment of the past; see [`storage_history`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StorageSample {
    /// The moment, in seconds since 1970.
    pub time: u64,
    /// Its size, in bytes.
    pub size: Option<f64>,
    /// Bytes in use.
    pub used: Option<f64>,
}

record_serde!(StorageSample { time, size, used });

/// A storage's figures over the last `hour`, `day`, `week`, `month` or `year`, the oldest first:
/// [`GET /nodes/{node}/storage/{storage}/rrddata`](crate::pve::node_storage::NodeStorageStorageRrddataGet). See [`Guest::history`].
///
/// # Errors
/// Those of every request.
pub async fn storage_history(
    client: &Client,
    node: &str,
    storage: &str,
    timeframe: &str,
) -> Result<Vec<StorageSample>, Error> {
    let at = client.api().nodes().node(node).storage().storage(storage);
    Ok((at.rrddata().get(timeframe).await?.into_iter())
        .map(|row| StorageSample {
            time: unsigned(Some(row.time)),
            size: row.total,
            used: row.used,
        })
        .collect())
}

/// A guest's figures at one moment of the past; see [`Guest::history`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GuestSample {
    /// The moment, in seconds since 1970.
    pub time: u64,
    /// Share of its processors in use, in percent.
    pub cpu_percent: Option<f64>,
    /// Memory in use, in bytes.
    pub memory: Option<f64>,
    /// Bytes received per second.
    pub received_per_second: Option<f64>,
    /// Bytes sent per second.
    pub sent_per_second: Option<f64>,
    /// Bytes read from disks per second.
    pub read_per_second: Option<f64>,
    /// Bytes written to disks per second.
    pub written_per_second: Option<f64>,
}

record_serde!(GuestSample {
    time,
    cpu_percent,
    memory,
    received_per_second,
    sent_per_second,
    read_per_second,
    written_per_second,
});

impl Guest {
    /// Its figures over the last hour, day or more, the oldest first: [`GET
    /// /nodes/{node}/qemu/{vmid}/rrddata`](crate::pve::qemu::QemuVmidRrddataGet) or [`GET
    /// /nodes/{node}/lxc/{vmid}/rrddata`](crate::pve::lxc::LxcVmidRrddataGet). The figures are
    /// averages over the server's steps; a moment without measurements has no figures.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn history(&self, timeframe: Timeframe) -> Result<Vec<GuestSample>, Error> {
        let timeframe = timeframe.as_str();
        let rows = self
            .call(None, &|location| match location.kind {
                Kind::Qemu => self
                    .qemu_at(location)
                    .rrddata()
                    .get(timeframe)
                    .into_future(),
                Kind::Lxc => self.lxc_at(location).rrddata().get(timeframe).into_future(),
            })
            .await?;
        Ok((rows.into_iter())
            .map(|row| GuestSample {
                time: unsigned(Some(row.time)),
                cpu_percent: row.cpu.map(|share| share * 100.0),
                memory: row.mem,
                received_per_second: row.netin,
                sent_per_second: row.netout,
                read_per_second: row.diskread,
                written_per_second: row.diskwrite,
            })
            .collect())
    }
}
