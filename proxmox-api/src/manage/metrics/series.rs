//! Figures over time, with their units.

use std::collections::BTreeMap;
use std::fmt;

use crate::Value;
use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::{Guest, GuestLocation};
use crate::value::BoxFuture;
use crate::value::encode::escape;
use crate::value::endpoint::Method;
use crate::value::serialize::{record_serde, variant_serde};

/// The range of figures, and with it their interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Timeframe {
    /// An hour, in steps of a minute.
    Hour,
    /// A day, in steps of half an hour (before 9.0) or a minute.
    Day,
    /// A week, in steps of three hours (before 9.0) or half an hour.
    Week,
    /// A month, in steps of twelve hours (before 9.0) or six.
    Month,
    /// A year, in steps of a week.
    Year,
}

variant_serde!(Timeframe {
    Hour = "hour",
    Day = "day",
    Week = "week",
    Month = "month",
    Year = "year",
});

impl Timeframe {
    /// The text of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// How the values of one step are consolidated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consolidation {
    /// Their average.
    #[default]
    Average,
    /// Their maximum.
    Maximum,
}

variant_serde!(Consolidation {
    Average = "average",
    Maximum = "maximum",
});

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Unit {
    /// A share, from 0 to 1.
    Share,
    /// Percent, from 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// A number of objects, as processors or processes.
    Count,
    /// Unknown.
    Unknown,
}

variant_serde!(Unit {
    Share = "share",
    Percent = "percent",
    Bytes = "bytes",
    BytesPerSecond = "bytes_per_second",
    Count = "count",
    Unknown = "unknown",
});

impl Unit {
    fn of(name: &str) -> Self {
        match name {
            "cpu" | "iowait" => Self::Share,
            "maxcpu" | "loadavg" => Self::Count,
            "mem" | "maxmem" | "memused" | "memtotal" | "memhost" | "memavailable" | "disk"
            | "maxdisk" | "rootused" | "roottotal" | "swapused" | "swaptotal" | "used"
            | "total" | "arcsize" => Self::Bytes,
            "netin" | "netout" | "diskread" | "diskwrite" => Self::BytesPerSecond,
            name if name.starts_with("pressure") => Self::Percent,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Share => "share",
            Self::Percent => "%",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::Count => "",
            Self::Unknown => "?",
        })
    }
}

/// One figure over time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// Its name in the API, as `cpu` or `netin`.
    pub name: String,
    /// The unit.
    pub unit: Unit,
    /// The moments, in seconds since 1970 and the oldest first, with the figures; `None` without a
    /// measurement.
    pub points: Vec<(u64, Option<f64>)>,
}

record_serde!(Series { name, unit, points });

impl Series {
    fn values(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.points.iter().filter_map(|(_, value)| *value)
    }

    /// The newest figure.
    #[must_use]
    pub fn latest(&self) -> Option<f64> {
        self.values().next_back()
    }

    /// The highest figure.
    #[must_use]
    pub fn highest(&self) -> Option<f64> {
        self.values().max_by(f64::total_cmp)
    }

    /// The average of the measured figures.
    #[must_use]
    pub fn average(&self) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in self.values() {
            sum += value;
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    }

    /// Seconds between two moments; `None` for fewer than two.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        let mut times = self.points.iter().map(|(time, _)| *time);
        Some(times.next()?.abs_diff(times.next()?))
    }
}

/// All figures of something over the same time.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SeriesSet {
    /// The figures by their names, which depend on the release.
    pub series: BTreeMap<String, Series>,
}

record_serde!(SeriesSet { series });

impl SeriesSet {
    /// A figure by its name in the API.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Series> {
        self.series.get(name)
    }

    fn read(answer: &Value) -> Self {
        let number = |value: &Value| match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let mut rows: Vec<(u64, &serde_json::Map<String, Value>)> = (answer.as_array())
            .into_iter()
            .flatten()
            .filter_map(|row| Some((row.get("time")?.as_u64()?, row.as_object()?)))
            .collect();
        rows.sort_by_key(|(time, _)| *time);
        let mut set = Self::default();
        let names = rows.iter().flat_map(|(_, row)| row.keys());
        let names = names.filter(|name| *name != "time").map(String::as_str);
        for name in names.collect::<std::collections::BTreeSet<&str>>() {
            let points = rows.iter().map(|(time, row)| {
                let value = row.get(name).and_then(number);
                (*time, value.filter(|value| value.is_finite()))
            });
            let series = Series {
                name: name.to_owned(),
                unit: Unit::of(name),
                points: points.collect(),
            };
            set.series.insert(name.to_owned(), series);
        }
        set
    }
}

fn ask(
    client: &Client,
    path: String,
    timeframe: Timeframe,
    how: Consolidation,
) -> BoxFuture<'static, Result<SeriesSet, Error>> {
    let request = client.request::<Value>(Method::Get, format!("{path}/rrddata"));
    let how = match how {
        Consolidation::Average => "AVERAGE",
        Consolidation::Maximum => "MAX",
    };
    let request = request
        .param("timeframe", timeframe.as_str())
        .param("cf", how);
    Box::pin(async move { Ok(SeriesSet::read(&request.await?)) })
}

impl Guest {
    /// All its figures over time: `GET /nodes/{node}/{qemu|lxc}/{vmid}/rrddata`.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::manage::metrics::{Consolidation, Timeframe};
    ///
    /// let figures = pve.guest(101).series(Timeframe::Day, Consolidation::Maximum).await?;
    /// for series in figures.series.values() {
    ///     println!("{}: at most {:?} {}", series.name, series.highest(), series.unit);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn series(
        &self,
        timeframe: Timeframe,
        how: Consolidation,
    ) -> Result<SeriesSet, Error> {
        let send = |location: &GuestLocation| {
            let path = format!(
                "/nodes/{}/{}/{}",
                escape(&location.node),
                location.kind,
                self.vmid()
            );
            ask(self.client(), path, timeframe, how)
        };
        self.call(None, &send).await
    }
}

/// All figures of a node over time: `GET /nodes/{node}/rrddata`.
///
/// # Errors
/// Those of every request.
pub async fn node_series(
    client: &Client,
    node: &str,
    timeframe: Timeframe,
    how: Consolidation,
) -> Result<SeriesSet, Error> {
    ask(client, format!("/nodes/{}", escape(node)), timeframe, how).await
}

/// All figures of a storage, as a node sees it, over time: `GET /nodes/{node}/storage/{storage}/rrddata`.
///
/// # Errors
/// Those of every request.
pub async fn storage_series(
    client: &Client,
    node: &str,
    storage: &str,
    timeframe: Timeframe,
    how: Consolidation,
) -> Result<SeriesSet, Error> {
    let path = format!("/nodes/{}/storage/{}", escape(node), escape(storage));
    ask(client, path, timeframe, how).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_series_with_units_and_gaps() {
        let rows = serde_json::json!([
            { "time": 120, "cpu": "0.5", "netin": 3, "pressurecpusome": 1.5, "new": 7 },
            { "time": 60, "cpu": 0.25 },
            { "time": 180, "maxcpu": 4 },
            null,
        ]);
        let set = SeriesSet::read(&rows);
        let cpu = set.get("cpu").expect("there");
        assert_eq!(
            cpu.points,
            [(60, Some(0.25)), (120, Some(0.5)), (180, None)]
        );
        assert_eq!(
            (cpu.latest(), cpu.highest(), cpu.average()),
            (Some(0.5), Some(0.5), Some(0.375))
        );
        assert_eq!((cpu.unit, cpu.step()), (Unit::Share, Some(60)));
        let unit = |name: &str| set.get(name).expect("there").unit;
        assert_eq!(unit("netin"), Unit::BytesPerSecond);
        assert_eq!(unit("pressurecpusome"), Unit::Percent);
        assert_eq!(unit("new"), Unit::Unknown);
        assert!(SeriesSet::read(&serde_json::json!(null)).series.is_empty());
    }
}
