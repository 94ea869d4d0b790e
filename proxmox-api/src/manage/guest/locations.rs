//! The locations of all guests and the cluster's list of them, read once for many handles.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Guest, GuestErrorKind, GuestLocation, Kind};
use crate::client::call::Call;
use crate::client::request::exchange;
use crate::client::{Client, Reply};
use crate::error::Error;
use crate::value::api_value::{ALLOCATION, COPIES};
use crate::value::decode::{DecodeError, MemoryLimit, problem_of};
use crate::value::endpoint::Method;
use crate::value::serialize::record_serde;

/// The locations of all guests at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    /// The time of the request.
    requested_at: Instant,
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
    pub location: GuestLocation,
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
    location,
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
    /// [`ClientBuilder::guest_locations`](crate::ClientBuilder::guest_locations), so that this usually
    /// needs no request; [`Guest::status`] asks the node itself.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none this user may see.
    pub async fn listed(&self) -> Result<Listed, Error> {
        let vmid = self.vmid();
        let mut table = Locations::recent(self.client()).await?;
        if !table.guests.contains_key(&vmid) {
            table = Locations::fresh(self.client()).await?;
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
        let table = Locations::recent(self).await?;
        Ok(table.guests.values().cloned().collect())
    }
}

/// The shared state of the handles of one client.
#[derive(Debug, Default)]
pub(crate) struct Locations(Mutex<CachedTable>);

#[derive(Debug, Default)]
struct CachedTable {
    table: Option<Arc<Table>>,
    /// The time of the last failed request.
    failed: Option<Instant>,
}

impl Table {
    /// The time now, in seconds since 1970, by the server's clock.
    pub(crate) fn now(&self) -> Option<u64> {
        Some(
            self.time?
                .saturating_add(self.requested_at.elapsed().as_secs()),
        )
    }
}

impl Locations {
    /// A table that is not older than the client's limit.
    pub(crate) async fn recent(client: &Client) -> Result<Arc<Table>, Error> {
        let oldest = Instant::now().checked_sub(client.guest_locations());
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
            && oldest.is_none_or(|oldest| table.requested_at >= oldest)
        {
            return Ok(Arc::clone(table));
        }
        if known.failed.is_some_and(|failed| failed >= begun) {
            // Waiting callers do not fail one after the other.
            drop(known);
            return fetch(client).await.map(Arc::new);
        }
        match fetch(client).await {
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

async fn fetch(client: &Client) -> Result<Table, Error> {
    let requested_at = Instant::now();
    let mut call = Call::new(Method::Get, "/cluster/resources");
    call.set("type", &"vm");
    let (_, name, reply) = exchange(Some(client.clone()), call).await?;
    let guests = read(&reply.body, reply.memory)
        .map_err(|problem| Error::decode(name, DecodeError::new("data", problem)))?;
    Ok(Table {
        requested_at,
        time: time_of(&reply),
        guests,
    })
}

/// Reads the list within the memory limit for it and its text.
fn read(body: &[u8], memory: usize) -> Result<BTreeMap<u32, Listed>, String> {
    let limit = MemoryLimit::of(memory, memory.saturating_sub(body.len()));
    let mut json = serde_json::Deserializer::from_slice(body);
    let rows = Envelope(&limit).deserialize(&mut json);
    let rows = rows.and_then(|rows| json.end().map(|()| rows));
    rows.map_err(|error| match limit.is_over() {
        true => limit.exceeded().to_string(),
        false => problem_of(&error),
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
    let number = |text: &str, max: u64| text.parse().ok().filter(|n: &u64| *n <= max);
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

/// A name of a member, of those that are looked for.
struct Name(Option<&'static str>);

const NAMES: [&str; 10] = [
    "data", "vmid", "node", "type", "name", "status", "pool", "tags", "template", "lock",
];

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            // Not copied, however long it is.
            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(NAMES.into_iter().find(|name| *name == text)))
            }
        }

        input.deserialize_str(NameVisitor)
    }
}

/// The answer around the rows.
struct Envelope<'c>(&'c MemoryLimit);

impl<'de> DeserializeSeed<'de> for Envelope<'_> {
    type Value = BTreeMap<u32, Listed>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = BTreeMap<u32, Listed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer with data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rows = BTreeMap::new();
        while let Some(Name(name)) = map.next_key()? {
            if name == Some("data") {
                rows = map.next_value_seed(Rows(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(rows)
    }
}

/// Rows by number. A row without the members of a location is skipped.
struct Rows<'c>(&'c MemoryLimit);

/// Memory of a row, with its share of a half-full tree node.
const ROW: usize = 2 * size_of::<(u32, Listed)>();
/// Memory of a tag, with the unused capacity of the growing list.
const TAG: usize = 3 * size_of::<String>() + 2 * ALLOCATION;

fn charge<E: serde::de::Error>(limit: &MemoryLimit, bytes: usize) -> Result<(), E> {
    limit.take(bytes);
    match limit.is_over() {
        true => Err(E::custom("there is not enough memory")),
        false => Ok(()),
    }
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = BTreeMap<u32, Listed>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = BTreeMap<u32, Listed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of guests")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut guests = BTreeMap::new();
        while let Some(row) = rows.next_element_seed(Row(self.0))? {
            if let Some(guest) = row {
                charge(self.0, ROW)?;
                guests.entry(guest.vmid).or_insert(guest);
            }
        }
        Ok(guests)
    }
}

/// Only the members of [`Listed`] are read; the figures that fill most of a row are skipped.
struct Row<'c>(&'c MemoryLimit);

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = Option<Listed>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = Option<Listed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut vmid, mut node, mut kind) = (None, None, None);
        let (mut name, mut status, mut pool) = (None, None, None);
        let (mut tags, mut template, mut lock) = (None, false, None);
        while let Some(Name(member)) = map.next_key()? {
            let Some(member) = member.filter(|member| *member != "data") else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value_seed(Member(self.0))?;
            match member {
                "vmid" => vmid = value.number(),
                "node" => node = value.text(),
                "type" => kind = value.text().and_then(|text| Kind::read(&text)),
                "name" => name = value.text(),
                "status" => status = value.text(),
                "pool" => pool = value.text(),
                "tags" => tags = value.text(),
                "template" => template = value.number() == Some(1),
                _ => lock = value.text(),
            }
        }
        let location = node
            .zip(kind)
            .map(|(node, kind)| GuestLocation { node, kind });
        let Some((vmid, location)) = vmid.zip(location) else {
            return Ok(None);
        };
        let tags: String = tags.unwrap_or_default();
        let tags = || (tags.split([';', ',', ' '])).filter(|tag| !tag.is_empty());
        for tag in tags() {
            charge(self.0, TAG.saturating_add(tag.len()))?;
        }
        let tags = tags().map(str::to_owned).collect();
        Ok(Some(Listed {
            vmid,
            location,
            name,
            status,
            pool,
            tags,
            template,
            lock,
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A member of a row.
struct Member<'c>(&'c MemoryLimit);

enum Scalar {
    Text(String),
    Number(u64),
    Other,
}

impl Scalar {
    fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => u32::try_from(*number).ok(),
            Self::Text(digits) => digits.parse().ok(),
            Self::Other => None,
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Scalar, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scalar, E> {
        let bytes = text.len().saturating_mul(COPIES);
        charge(self.0, bytes.saturating_add(ALLOCATION))?;
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Fake, json, ok};

    #[tokio::test]
    async fn five_handles_share_one_list_and_a_missing_guest_reads_another() {
        let rows: Vec<String> = (100..20_100)
            .map(|vmid| {
                format!(r#"{{"id":"qemu/{vmid}","type":"qemu","vmid":{vmid},"node":"n1"}}"#)
            })
            .collect();
        let body = format!(r#"{{"data":[{}]}}"#, rows.join(","));
        let fake = Fake::new(move |_| ok(body.clone()));
        let client = fake.token_client();
        let guests: Vec<_> = (100..105).map(|vmid| client.guest(vmid)).collect();
        let locations =
            futures_util::future::join_all(guests.iter().map(super::super::Guest::location));
        for location in locations.await {
            assert_eq!(location.expect("it is there").node, "n1");
        }
        assert_eq!(fake.requests().len(), 1);
        // A new guest is not in an older list.
        client
            .guest(99)
            .location()
            .await
            .expect_err("it is not there");
        assert_eq!(fake.requests().len(), 2);
    }

    #[tokio::test]
    async fn listed_guests_need_no_request_of_their_own() {
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
        client.guest(101).location().await.expect("it is there");
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
        fn no_date_causes_a_panic(
            text in "\\PC{0,40}",
            date in "[A-Z][a-z]{2}, [0-9]{1,20} (Jan|Feb|Dec|anF|Jä) [0-9]{1,20} [0-9]{1,20}:[0-9]{1,9}:[0-9]{1,20} GMT",
        ) {
            let _ = (read_date(&text), read_date(&date));
        }
    }

    #[tokio::test]
    async fn an_invalid_list_is_not_quoted_in_the_error() {
        let fake = Fake::new(|_| ok(r#"{"data":"PVE:root@pam:PLANTED"}"#));
        let error = fake.token_client().guest(7).location().await;
        let error = error.expect_err("no list");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("expected a list of guests, found string"),
            "{text}"
        );
        assert!(!text.contains("PLANTED"), "{text}");
    }

    #[test]
    fn many_small_rows_stay_within_the_memory_limit() {
        let fits = r#"{"data":[{"type":"lxc","vmid":7,"node":"n1","tags":"a;b"}]}"#;
        assert_eq!(read(fits.as_bytes(), 4096).map(|rows| rows.len()), Ok(1));
        for row in [
            r#"{"type":"lxc","vmid":7,"node":"n1"}"#.to_owned(),
            format!(
                r#"{{"type":"lxc","vmid":7,"node":"n1","tags":"{}"}}"#,
                "a;".repeat(100)
            ),
            format!(r#"{{"name":"{}"}}"#, "\\u0041".repeat(100)),
        ] {
            let body = format!(r#"{{"data":[{},0]}}"#, [row.as_str(); 10].join(","));
            let room = body.len() + 1024;
            let error = read(body.as_bytes(), room).expect_err("too much");
            assert_eq!(
                error,
                format!("the answer takes more than {room} bytes of memory")
            );
            assert!(read(body.as_bytes(), 1 << 20).is_ok(), "{row}");
        }
        // Skipped values take none.
        let nested = format!(r#"{{"data":[{{"name":[{}0]}}]}}"#, "[0],".repeat(1000));
        assert!(read(nested.as_bytes(), nested.len() + 64).is_ok());
        for wrong in [
            "",
            "[]",
            r#"{"data":7}"#,
            r#"{"data":[]} x"#,
            r#"{"data":[{]}"#,
        ] {
            assert!(read(wrong.as_bytes(), 4096).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_expires() {
        let fake = Fake::new(|_| ok(r#"{"data":[{"type":"lxc","vmid":"7","node":"n1"}]}"#));
        let client = fake.token_client();
        for (wait, lists) in [(0, 1), (9, 1), (11, 2)] {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            client.guest(7).location().await.expect("it is there");
            assert_eq!(fake.requests().len(), lists, "after {wait} s more");
        }
    }

    #[tokio::test]
    async fn invalid_rows_are_skipped() {
        let fake = Fake::new(|_| {
            ok(
                r#"{"more":[1],"data":[null,1,-1,1.5,true,"x",["y"],{},{"vmid":null,"type":"qemu","node":"a"},
                {"vmid":101,"type":"qemu","node":null},{"vmid":102,"type":"openvz","node":"a"},
                {"vmid":-3,"type":"lxc","node":"a"},{"vmid":103,"type":"lxc","node":"b","cpu":{"odd":[]}}]}"#,
            )
        });
        let client = fake.token_client();
        let table = Locations::fresh(&client).await.expect("it is a list");
        let location = GuestLocation {
            node: "b".to_owned(),
            kind: Kind::Lxc,
        };
        let found: Vec<_> = (table.guests.values())
            .map(|guest| {
                (
                    guest.vmid,
                    &guest.location,
                    guest.tags.len(),
                    guest.template,
                )
            })
            .collect();
        assert_eq!(found, [(103, &location, 0, false)]);
        let fake = Fake::new(|_| ok(r#"{"data":null}"#));
        let client = fake.token_client();
        let table = Locations::fresh(&client).await.expect("no guest at all");
        assert!(table.guests.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_share_one_failure() {
        let fake = Fake::new(|_| Ok(json(500, "no", "")));
        let client = fake.token_client();
        let guests: Vec<_> = (0..10).map(|vmid| client.guest(vmid)).collect();
        let locations =
            futures_util::future::join_all(guests.iter().map(super::super::Guest::location));
        for location in locations.await {
            location.expect_err("there is no list");
        }
        assert_eq!(fake.requests().len(), 10);
    }
}
