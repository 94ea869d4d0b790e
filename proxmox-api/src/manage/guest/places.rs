//! The locations of all guests and the cluster's list of them, read once for many handles.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Guest, GuestErrorKind, GuestLocation, Kind};
use crate::client::call::Call;
use crate::client::request::exchange;
use crate::client::{Client, Reply};
use crate::error::Error;
use crate::value::decode::{DecodeError, problem_of};
use crate::value::endpoint::Method;
use crate::value::serialize::record_serde;

/// The locations of all guests at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    /// The time of the request.
    asked: Instant,
    /// The time of the answer, in seconds since 1970, by the server's clock.
    time: Option<u64>,
    /// By the guests' numbers.
    pub(crate) guests: BTreeMap<u32, Listed>,
}

/// A guest in the cluster's list; see [`Guest::listed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its number.
    pub vmid: u32,
    /// The node it is on, and its kind.
    pub place: GuestLocation,
    /// Its name.
    pub name: Option<String>,
    /// The status from the server: `running`, `stopped`, or `unknown` while its node is offline.
    pub status: Option<String>,
    /// The pool it belongs to.
    pub pool: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is a template.
    pub template: bool,
    /// The operation that locks it.
    pub lock: Option<String>,
}

record_serde!(Listed {
    vmid,
    place,
    name,
    status,
    pool,
    tags,
    template,
    lock,
});

impl Listed {
    /// Whether it runs, by the last report of its node.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status.as_deref() == Some("running")
    }
}

impl Guest {
    /// The guest's entry in the cluster's list. All handles of a client and its clones share one
    /// list, whose age is limited by
    /// [`ClientBuilder::guest_places`](crate::ClientBuilder::guest_places), so that this usually
    /// needs no request; [`Guest::status`] asks the node itself.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none this user may see.
    pub async fn listed(&self) -> Result<Listed, Error> {
        let vmid = self.vmid();
        let mut table = Places::recent(self.client()).await?;
        if !table.guests.contains_key(&vmid) {
            table = Places::fresh(self.client()).await?;
        }
        let found = table.guests.get(&vmid).cloned();
        found.ok_or_else(|| GuestErrorKind::NoSuchGuest { vmid }.into())
    }
}

impl Client {
    /// All guests that this user may see, by number, from the list that [`Guest::listed`] reads.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn listed_guests(&self) -> Result<Vec<Listed>, Error> {
        let table = Places::recent(self).await?;
        Ok(table.guests.values().cloned().collect())
    }
}

/// The shared state of the handles of one client.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    table: Option<Arc<Table>>,
    /// The time of the last failed request.
    failed: Option<Instant>,
}

impl Table {
    /// The time now, in seconds since 1970, by the server's clock.
    pub(crate) fn now(&self) -> Option<u64> {
        Some(self.time?.saturating_add(self.asked.elapsed().as_secs()))
    }
}

impl Places {
    /// A table that is not older than the client's limit.
    pub(crate) async fn recent(client: &Client) -> Result<Arc<Table>, Error> {
        let oldest = Instant::now().checked_sub(client.guest_places());
        client.keep::<Self>().since(client, oldest).await
    }

    /// A table that was requested after this call began.
    pub(crate) async fn fresh(client: &Client) -> Result<Arc<Table>, Error> {
        let now = Some(Instant::now());
        client.keep::<Self>().since(client, now).await
    }

    /// Concurrent callers share one request.
    async fn since(&self, client: &Client, oldest: Option<Instant>) -> Result<Arc<Table>, Error> {
        let begun = Instant::now();
        let mut known = self.0.lock().await;
        if let Some(table) = &known.table
            && oldest.is_none_or(|oldest| table.asked >= oldest)
        {
            return Ok(Arc::clone(table));
        }
        if known.failed.is_some_and(|failed| failed >= begun) {
            // Waiting callers do not fail one after the other.
            drop(known);
            return ask(client).await.map(Arc::new);
        }
        match ask(client).await {
            Ok(table) => {
                let table = Arc::new(table);
                known.table = Some(Arc::clone(&table));
                Ok(table)
            }
            Err(error) => {
                known.failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}

async fn ask(client: &Client) -> Result<Table, Error> {
    let asked = Instant::now();
    let mut call = Call::new(Method::Get, "/cluster/resources");
    call.set("type", &"vm");
    let (_, name, reply) = exchange(Some(client.clone()), call).await?;
    let rows: Envelope = serde_json::from_slice(&reply.body)
        .map_err(|error| Error::decode(name, DecodeError::new("data", problem_of(&error))))?;
    Ok(Table {
        asked,
        time: time_of(&reply),
        guests: rows.0.unwrap_or_default().0,
    })
}

/// The time of an answer, in seconds since 1970, by the server's clock.
fn time_of(reply: &Reply) -> Option<u64> {
    let (_, date) = (reply.headers.iter()).find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    read_date(date)
}

/// Reads `Fri, 27 Nov 2026 12:00:00 GMT`, the one form that servers write.
fn read_date(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, rest) = date.split_once(", ")?;
    let parts: Vec<&str> = rest.strip_suffix(" GMT")?.split([' ', ':']).collect();
    let [day, name, year, hour, minute, second] = parts.as_slice() else {
        return None;
    };
    let number = |text: &str, most: u64| text.parse().ok().filter(|n: &u64| *n <= most);
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let (hour, minute, second) = (number(hour, 23)?, number(minute, 59)?, number(second, 60)?);
    let month = (MONTHS.find(name)).filter(|at| at % 3 == 0 && name.len() == 3)? as u64 / 3;
    // Years are counted from March, so that the leap day is the last one.
    let (year, month) = match month {
        0 | 1 => (year.checked_sub(1)?, month + 10),
        _ => (year, month - 2),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

struct Envelope(Option<Rows>);

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an answer with data")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut rows = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "data" {
                        rows = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Envelope(rows))
            }
        }

        input.deserialize_map(Members)
    }
}

/// Rows by number. A row without the members of a location is skipped.
#[derive(Default)]
struct Rows(BTreeMap<u32, Listed>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of guests")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows, A::Error> {
                let mut guests = BTreeMap::new();
                while let Some(row) = rows.next_element::<Row>()? {
                    if let Some(guest) = row.0 {
                        guests.entry(guest.vmid).or_insert(guest);
                    }
                }
                Ok(Rows(guests))
            }
        }

        input.deserialize_seq(List)
    }
}

/// Only the members of [`Listed`] are read; the figures that fill most of a row are skipped.
struct Row(Option<Listed>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let (mut vmid, mut node, mut kind) = (None, None, None);
                let (mut name, mut status, mut pool) = (None, None, None);
                let (mut tags, mut template, mut lock) = (None, false, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "vmid" => vmid = number(&map.next_value::<Value>()?),
                        "node" => node = text(map.next_value::<Value>()?),
                        "type" => {
                            kind = text(map.next_value::<Value>()?).and_then(|t| Kind::read(&t));
                        }
                        "name" => name = text(map.next_value::<Value>()?),
                        "status" => status = text(map.next_value::<Value>()?),
                        "pool" => pool = text(map.next_value::<Value>()?),
                        "tags" => tags = text(map.next_value::<Value>()?),
                        "template" => template = number(&map.next_value::<Value>()?) == Some(1),
                        "lock" => lock = text(map.next_value::<Value>()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let place = node
                    .zip(kind)
                    .map(|(node, kind)| GuestLocation { node, kind });
                let tags: Option<String> = tags;
                Ok(Row(vmid.zip(place).map(|(vmid, place)| Listed {
                    vmid,
                    place,
                    name,
                    status,
                    pool,
                    tags: (tags.iter().flat_map(|tags| tags.split([';', ',', ' '])))
                        .filter(|tag| !tag.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    template,
                    lock,
                })))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Row, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Row(None))
            }

            fn visit_unit<E>(self) -> Result<Row, E> {
                Ok(Row(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Row, E> {
                Ok(Row(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Row, E> {
                Ok(Row(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Row, E> {
                Ok(Row(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Row, E> {
                Ok(Row(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Row, E> {
                Ok(Row(None))
            }
        }

        input.deserialize_any(Members)
    }
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Fake, json, ok};

    #[tokio::test]
    async fn five_handles_cost_one_list_and_one_that_is_missing_another() {
        let rows: Vec<String> = (100..20_100)
            .map(|vmid| {
                format!(r#"{{"id":"qemu/{vmid}","type":"qemu","vmid":{vmid},"node":"n1"}}"#)
            })
            .collect();
        let body = format!(r#"{{"data":[{}]}}"#, rows.join(","));
        let fake = Fake::new(move |_| ok(body.clone()));
        let client = fake.token_client();
        let guests: Vec<_> = (100..105).map(|vmid| client.guest(vmid)).collect();
        let asked = futures_util::future::join_all(guests.iter().map(super::super::Guest::place));
        for place in asked.await {
            assert_eq!(place.expect("it is there").node, "n1");
        }
        assert_eq!(fake.requests().len(), 1);
        // A new guest is not in an older list.
        client.guest(99).place().await.expect_err("it is not there");
        assert_eq!(fake.requests().len(), 2);
    }

    #[tokio::test]
    async fn what_the_list_says_of_guests_costs_no_more_than_their_places() {
        let row = r#"{"type":"qemu","vmid":"101","node":"n1","name":"web","status":"running","pool":"p","tags":"a;b",
            "template":"0","lock":"backup","cpu":0.5,"mem":[1,{"odd":true}]}"#;
        let rows = format!(
            r#"{{"data":[{row},{{"type":"lxc","vmid":7,"node":"n2","tags":null,"template":1}}]}}"#
        );
        let fake = Fake::new(move |_| ok(rows.clone()));
        let client = fake.token_client();
        let web = client.guest(101).listed().await.expect("it is there");
        assert_eq!(
            (web.name.as_deref(), web.pool.as_deref()),
            (Some("web"), Some("p"))
        );
        assert!(web.is_running() && !web.template && web.lock.as_deref() == Some("backup"));
        assert_eq!(web.tags, ["a", "b"]);
        let all = client.listed_guests().await.expect("a list");
        assert_eq!(
            all.iter().map(|guest| guest.vmid).collect::<Vec<_>>(),
            [7, 101]
        );
        assert!(all[0].template && all[0].status.is_none());
        client.guest(101).place().await.expect("it is there");
        assert_eq!(fake.requests().len(), 1);
        client.guest(9).listed().await.expect_err("it is not there");
        assert_eq!(fake.requests().len(), 2);
    }

    #[test]
    fn the_servers_clock_is_read() {
        for (date, time) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800)),
            ("Fri, 27 Nov 2026 12:00:00 GMT", Some(1_795_780_800)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Fri, 27 ovD 2026 12:00:00 GMT", None),
            ("Fri, 27 Nov 2026 12:00 GMT", None),
            ("Fri, -7 Nov 2026 12:00:00 GMT", None),
            ("yesterday", None),
        ] {
            assert_eq!(read_date(date), time, "{date}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_date_makes_it_panic(
            text in "\\PC{0,40}",
            date in "[A-Z][a-z]{2}, [0-9]{1,20} (Jan|Feb|Dec|anF|Jä) [0-9]{1,20} [0-9]{1,20}:[0-9]{1,9}:[0-9]{1,20} GMT",
        ) {
            let _ = (read_date(&text), read_date(&date));
        }
    }

    #[tokio::test]
    async fn what_is_no_list_is_not_quoted() {
        let fake = Fake::new(|_| ok(r#"{"data":"PVE:root@pam:PLANTED"}"#));
        let error = fake.token_client().guest(7).place().await;
        let error = error.expect_err("no list");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("expected a list of guests, found string"),
            "{text}"
        );
        assert!(!text.contains("PLANTED"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_gets_old() {
        let fake = Fake::new(|_| ok(r#"{"data":[{"type":"lxc","vmid":"7","node":"n1"}]}"#));
        let client = fake.token_client();
        for (wait, lists) in [(0, 1), (9, 1), (11, 2)] {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            client.guest(7).place().await.expect("it is there");
            assert_eq!(fake.requests().len(), lists, "after {wait} s more");
        }
    }

    #[tokio::test]
    async fn odd_rows_are_passed_over() {
        let fake = Fake::new(|_| {
            ok(
                r#"{"more":[1],"data":[null,1,-1,1.5,true,"x",["y"],{},{"vmid":null,"type":"qemu","node":"a"},
                {"vmid":101,"type":"qemu","node":null},{"vmid":102,"type":"openvz","node":"a"},
                {"vmid":-3,"type":"lxc","node":"a"},{"vmid":103,"type":"lxc","node":"b","cpu":{"odd":[]}}]}"#,
            )
        });
        let client = fake.token_client();
        let table = Places::fresh(&client).await.expect("it is a list");
        let place = GuestLocation {
            node: "b".to_owned(),
            kind: Kind::Lxc,
        };
        let found: Vec<_> = (table.guests.values())
            .map(|guest| (guest.vmid, &guest.place, guest.tags.len(), guest.template))
            .collect();
        assert_eq!(found, [(103, &place, 0, false)]);
        let fake = Fake::new(|_| ok(r#"{"data":null}"#));
        let client = fake.token_client();
        let table = Places::fresh(&client).await.expect("no guest at all");
        assert!(table.guests.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_list_do_not_fail_one_after_the_other() {
        let fake = Fake::new(|_| Ok(json(500, "no", "")));
        let client = fake.token_client();
        let guests: Vec<_> = (0..10).map(|vmid| client.guest(vmid)).collect();
        let asked = futures_util::future::join_all(guests.iter().map(super::super::Guest::place));
        for place in asked.await {
            place.expect_err("there is no list");
        }
        assert_eq!(fake.requests().len(), 10);
    }
}
