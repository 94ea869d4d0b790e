use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Sample = (String, BTreeMap<String, String>, f64);

/// Parses the text format as strictly as Prometheus.
fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let is_name = |name: &str, colons: bool| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':';
        !name.is_empty()
            && name.chars().all(good)
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut typed: BTreeMap<String, bool> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let refuse = |why: &str| Err(format!("{why}: {line}"));
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next())
            else {
                return refuse("half a comment");
            };
            if !is_name(name, true) {
                return refuse("a bad name");
            }
            match what {
                "HELP" if typed.insert(name.to_owned(), false).is_none() => {}
                "TYPE" if matches!(rest, "gauge" | "counter") => {
                    if typed.insert(name.to_owned(), true) != Some(false) {
                        return refuse("a type without help, or twice");
                    }
                }
                _ => return refuse("not known, or twice"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, mut rest) = line.split_at(end);
        if !is_name(name, true) || typed.get(name) != Some(&true) {
            return refuse("a bad name or no type");
        }
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, after) = rest.split_once("=\"").ok_or("no label value")?;
                if !is_name(label, false) {
                    return refuse("a bad label");
                }
                let mut value = String::new();
                let mut chars = after.char_indices();
                let close = loop {
                    match chars.next() {
                        Some((at, '"')) => break at,
                        Some((_, '\\')) => match chars.next() {
                            Some((_, 'n')) => value.push('\n'),
                            Some((_, c @ ('\\' | '"'))) => value.push(c),
                            _ => return refuse("a bad escape"),
                        },
                        Some((_, c)) => value.push(c),
                        None => return refuse("no closing quote"),
                    }
                };
                if labels.insert(label.to_owned(), value).is_some() {
                    return refuse("a label twice");
                }
                rest = &after[close + 1..];
                match rest.chars().next() {
                    Some(',') => rest = &rest[1..],
                    Some('}') => {
                        rest = &rest[1..];
                        break;
                    }
                    _ => return refuse("labels do not end"),
                }
            }
        }
        let value = match rest.strip_prefix(' ') {
            Some("NaN") => f64::NAN,
            Some("+Inf") => f64::INFINITY,
            Some("-Inf") => f64::NEG_INFINITY,
            Some(digits) => digits
                .parse()
                .map_err(|_| format!("a bad number: {line}"))?,
            None => return refuse("no space before the value"),
        };
        if !seen.insert((name.to_owned(), labels.clone())) {
            return refuse("a sample twice");
        }
        samples.push((name.to_owned(), labels, value));
    }
    Ok(samples)
}

proptest! {
    #[test]
    fn every_text_and_number_survives_the_format(
        name in "\\PC{0,12}", help in "[\\\\\"\n a-zé]{0,20}", label in "[a-z0-9-]{1,6}",
        rows in prop::collection::vec(("[\\\\\"\n ,={}a-zé]{0,12}", any::<f64>()), 1..8),
        counter in any::<bool>(),
    ) {
        let metric_type = if counter { MetricType::Counter } else { MetricType::Gauge };
        let mut family = MetricFamily::new(&name, metric_type, help);
        let mut expected = BTreeMap::new();
        for (value, number) in &rows {
            family.add(&[(&label, value), ("other", "x")], *number);
            expected.insert(value.clone(), *number);
        }
        let text = render(&[family]);
        let samples = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(samples.len(), expected.len());
        for (_, labels, number) in samples {
            let value = labels.iter().find(|(key, _)| *key != "other").map(|(_, value)| value);
            let expected_value = expected[value.expect("it has both labels")];
            prop_assert!(number == expected_value || number.is_nan() && expected_value.is_nan());
        }
    }
}

#[test]
fn the_text_format_is_exact() {
    let mut family = MetricFamily::new("pve_up", MetricType::Gauge, "Whether \\ it\nruns.");
    family.add(&[("id", "qemu/100"), ("name", "a \"b\" \\ c\nd")], 1.0);
    family.add(&[], 0.25);
    let empty = MetricFamily::new("pve_nothing", MetricType::Counter, "Never there.");
    assert_eq!(
        render(&[family, empty]),
        "# HELP pve_up Whether \\\\ it\\nruns.\n\
         # TYPE pve_up gauge\n\
         pve_up{id=\"qemu/100\",name=\"a \\\"b\\\" \\\\ c\\nd\"} 1\n\
         pve_up 0.25\n"
    );
}

#[test]
fn an_inventory_becomes_metrics() {
    let data = serde_json::json!({ "data": [
        { "id": "node/pve1", "type": "node", "node": "pve1", "status": "online", "maxcpu": 8, "cpu": 0.5,
          "maxmem": 100, "mem": 40, "uptime": 9, "disk": 3, "maxdisk": 10 },
        { "id": "node/pve2", "type": "node", "node": "pve2", "status": "offline" },
        { "id": "qemu/100", "type": "qemu", "vmid": 100, "name": "web", "node": "pve1", "status": "running",
          "maxcpu": 4, "maxmem": 50, "mem": 20, "netin": 7, "tags": "a;b", "lock": "backup" },
        { "id": "storage/pve1/local", "type": "storage", "storage": "local", "node": "pve1",
          "status": "available", "disk": 5, "maxdisk": 10, "shared": 1 },
        { "id": "sdn/pve1/localnetwork", "type": "sdn", "sdn": "localnetwork", "node": "pve1", "status": "ok" },
    ]});
    let rows: Vec<crate::pve::cluster::ClusterResourcesItem> =
        crate::value::decode::decode_data(data.to_string().as_bytes())
            .expect("rows as the server sends them");
    let inventory = Inventory {
        resources: rows.into_iter().map(Resource::from).collect(),
    };
    let samples = parse(&render(&families(&inventory))).expect("it is well formed");
    let value = |name: &str, id: &str| {
        (samples.iter())
            .find(|(known, labels, _)| known == name && labels["id"] == id)
            .map(|(.., value)| *value)
    };
    assert_eq!(value("pve_up", "node/pve1"), Some(1.0));
    assert_eq!(value("pve_up", "node/pve2"), Some(0.0));
    assert_eq!(value("pve_cpu_usage_ratio", "node/pve1"), Some(0.5));
    assert_eq!(
        value("pve_cpu_usage_ratio", "node/pve2"),
        None,
        "nobody knows"
    );
    assert_eq!(
        value("pve_network_receive_bytes_total", "qemu/100"),
        Some(7.0)
    );
    assert_eq!(
        value("pve_disk_usage_bytes", "storage/pve1/local"),
        Some(5.0)
    );
    assert_eq!(value("pve_up", "sdn/pve1/localnetwork"), None);
    let info = (samples.iter())
        .find(|(name, ..)| name == "pve_guest_info")
        .expect("there is a guest");
    assert_eq!(
        (info.1["name"].as_str(), info.1["tags"].as_str()),
        ("web", "a;b")
    );
    assert_eq!(value("pve_lock_state", "qemu/100"), Some(1.0));
}

/// The metrics of this many guests, and the shortest time to make them.
fn of_guests(count: u32) -> (String, std::time::Duration) {
    let rows: Vec<_> = (0..count)
        .map(|n| {
            serde_json::json!({
                "id": format!("qemu/{n}"), "type": "qemu", "vmid": 100 + n, "name": format!("web{n}"), "node": "pve1",
                "status": "running", "maxcpu": 4, "maxmem": 50, "mem": 20, "netin": 7,
            })
        })
        .collect();
    let data = serde_json::json!({ "data": rows }).to_string();
    let rows: Vec<crate::pve::cluster::ClusterResourcesItem> =
        crate::value::decode::decode_data(data.as_bytes()).expect("rows as the server sends them");
    let inventory = Inventory {
        resources: rows.into_iter().map(Resource::from).collect(),
    };
    let mut text = String::new();
    let times = (0..5).map(|_| {
        let start = std::time::Instant::now();
        text = render(&families(&inventory));
        start.elapsed()
    });
    let least = times.min().unwrap_or_default();
    (text, least)
}

#[test]
fn the_time_for_metrics_is_linear() {
    let (few, of_few) = of_guests(500);
    let (many, of_many) = of_guests(8_000);
    assert!(many.lines().count() > 15 * few.lines().count());
    // Sixteen times as many; comparing each with each would take 256 times as long.
    assert!(of_many < of_few * 64, "{of_few:?}, then {of_many:?}");
}
