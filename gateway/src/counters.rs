//! Number and duration of requests.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proxmox_api::manage::metrics::{MetricFamily, MetricType};

use crate::limits::Class;

const CLASSES: [(Class, &str); 4] = [
    (Class::Authentication, "authentication"),
    (Class::Read, "read"),
    (Class::Write, "write"),
    (Class::Bulk, "bulk"),
];
/// Counts by the first digit of the status.
const STATUSES: usize = 6;

/// Counts of requests, by class and status.
#[derive(Debug)]
pub(crate) struct Counters {
    requests: [[AtomicU64; STATUSES]; CLASSES.len()],
    microseconds: [AtomicU64; CLASSES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            microseconds: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Counters {
    pub(crate) fn count(&self, class: Class, status: u16, took: Duration) {
        let row = CLASSES.iter().position(|(known, _)| *known == class);
        let Some(row) = row else { return };
        let column = usize::from(status / 100).min(STATUSES - 1);
        self.requests[row][column].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds[row].fetch_add(took, Ordering::Relaxed);
    }

    /// The counts in Prometheus' text format.
    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        let help = "Requests answered.";
        let mut requests = MetricFamily::new("gateway_requests_total", MetricType::Counter, help);
        let help = "Total time until the response head.";
        let mut seconds =
            MetricFamily::new("gateway_request_seconds_total", MetricType::Counter, help);
        for (row, (_, class)) in CLASSES.iter().enumerate() {
            for (column, count) in self.requests[row].iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = format!("{column}xx");
                    requests.add(&[("class", class), ("status", &status)], count as f64);
                }
            }
            let took = self.microseconds[row].load(Ordering::Relaxed);
            seconds.add(&[("class", class)], took as f64 / 1e6);
        }
        vec![requests, seconds]
    }
}
