//! Stored data: webhooks, their deliveries, events, and how far the cluster was watched.
//!
//! All SQL is here, limited to the syntax that SQLite and Postgres share; a [`Database`] runs it.
//! Each call is one transaction.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_tls;
mod sqlite;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use proxmox_api::{Secret, Value};

use crate::refusal::Refusal;

#[cfg(feature = "postgres")]
pub(crate) use postgres::Postgres;
pub(crate) use sqlite::Sqlite;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Number(i64),
    Text(String),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

/// A row of a result.
#[derive(Clone, Debug)]
pub(crate) struct Row(pub(crate) Vec<Cell>);

impl Row {
    fn text(&self, at: usize) -> String {
        match self.0.get(at) {
            Some(Cell::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    fn number(&self, at: usize) -> i64 {
        self.optional(at).unwrap_or(0)
    }

    fn optional(&self, at: usize) -> Option<i64> {
        match self.0.get(at) {
            Some(Cell::Number(number)) => Some(*number),
            _ => None,
        }
    }
}

/// A statement with its values for `?1`, `?2`, ….
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Cell>,
}

fn statement<const N: usize>(sql: &'static str, values: [Cell; N]) -> Statement {
    let values = values.into();
    Statement { sql, values }
}

/// A database.
pub(crate) trait Database: fmt::Debug + Send + Sync {
    /// Runs statements in one transaction and returns the rows of each.
    fn run(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<Vec<Vec<Row>>, StoreError>>;

    /// Applies missing migrations.
    fn migrate(&self, migrations: &'static [&'static str])
    -> BoxFuture<'_, Result<(), StoreError>>;
}

/// The store failed. The text is for logs.
#[derive(Clone, Debug)]
pub(crate) struct StoreError(pub(crate) String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store: {}", self.0)
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error);
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway's store does not respond",
        )
    }
}

/// The migrations. `SERIAL` stands for an automatically incremented number. A released migration is
/// never edited.
const MIGRATIONS: &[&str] = &["
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL);
CREATE TABLE events (seq SERIAL, id TEXT NOT NULL, time BIGINT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE webhooks (id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL, events TEXT NOT NULL,
  secret TEXT NOT NULL, old_secret TEXT, old_until BIGINT, enabled BIGINT NOT NULL, created BIGINT NOT NULL);
CREATE TABLE deliveries (id TEXT PRIMARY KEY, webhook TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, created BIGINT NOT NULL,
  attempts BIGINT NOT NULL, due BIGINT, status TEXT NOT NULL, code BIGINT, problem TEXT, finished BIGINT);
CREATE INDEX deliveries_due ON deliveries (due);
CREATE INDEX deliveries_webhook ON deliveries (webhook, created);
", "
ALTER TABLE deliveries ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
CREATE INDEX deliveries_turn ON deliveries (turn);
"];

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<dyn Database>);

/// An event to store.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) id: String,
    pub(crate) time: u64,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) data: Value,
}

/// A stored event with its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct KeptEvent {
    pub(crate) seq: i64,
    pub(crate) event: NewEvent,
}

/// A webhook.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) url: Secret,
    pub(crate) events: Vec<String>,
    pub(crate) secret: Secret,
    /// The previous secret, and until when signatures are also made with it.
    pub(crate) old: Option<(Secret, u64)>,
    pub(crate) enabled: bool,
    pub(crate) created: u64,
}

/// A delivery to a webhook.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) webhook: String,
    pub(crate) kind: String,
    pub(crate) body: String,
    pub(crate) created: u64,
    pub(crate) attempts: u64,
    /// Time of the next attempt; `None` when the delivery is finished.
    pub(crate) due: Option<u64>,
    /// `pending`, `delivered` or `failed`.
    pub(crate) status: String,
    /// The receiver's last HTTP status.
    pub(crate) code: Option<i64>,
    pub(crate) problem: String,
    pub(crate) finished: Option<u64>,
}

fn number(of: u64) -> Cell {
    Cell::Number(i64::try_from(of).unwrap_or(i64::MAX))
}

fn unsigned(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}

impl Store {
    /// An embedded store in a folder, or in memory.
    pub(crate) async fn embedded(folder: Option<&Path>) -> Result<Self, StoreError> {
        Self::open(Arc::new(Sqlite::open(folder)?)).await
    }

    pub(crate) async fn open(database: Arc<dyn Database>) -> Result<Self, StoreError> {
        database.migrate(MIGRATIONS).await?;
        Ok(Self(database))
    }

    async fn one(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let mut all = self.0.run(vec![statement]).await?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Whether the store answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.one(statement("SELECT name FROM notes LIMIT 1", []))
            .await
            .map(drop)
    }

    /// Acquires or renews a lease: only one of several gateways holds it.
    pub(crate) async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: u64,
        until: u64,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO leases (name, holder, until) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
            SET holder = excluded.holder, until = excluded.until \
            WHERE leases.holder = excluded.holder OR leases.until < ?4 RETURNING holder";
        let values = [name.into(), holder.into(), number(until), number(now)];
        Ok(!self.one(statement(sql, values)).await?.is_empty())
    }

    /// Releases a lease.
    pub(crate) async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM leases WHERE name = ?1 AND holder = ?2";
        self.one(statement(sql, [name.into(), holder.into()]))
            .await
            .map(drop)
    }

    pub(crate) async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM notes WHERE name = ?1";
        let rows = self.one(statement(sql, [name.into()])).await?;
        Ok(rows.first().map(|row| row.text(0)))
    }

    /// Stores events, their deliveries and how far the cluster was watched, atomically. Without the
    /// lease, nothing changes.
    pub(crate) async fn append(
        &self,
        lease: (&str, &str),
        events: &[NewEvent],
        deliveries: &[Delivery],
        cursor: (&str, &str),
    ) -> Result<(), StoreError> {
        let (name, holder) = lease;
        // Locks the row: nobody else can take the lease before the transaction ends.
        let sql = "UPDATE leases SET holder = holder WHERE name = ?1 AND holder = ?2";
        let mut statements = vec![statement(sql, [name.into(), holder.into()])];
        for event in events {
            let sql = "INSERT INTO events (id, time, kind, subject, data) SELECT ?1, ?2, ?3, ?4, ?5 \
                WHERE EXISTS (SELECT 1 FROM leases WHERE name = ?6 AND holder = ?7)";
            let values = [
                event.id.as_str().into(),
                number(event.time),
                event.kind.as_str().into(),
                event.subject.as_str().into(),
                event.data.to_string().as_str().into(),
                name.into(),
                holder.into(),
            ];
            statements.push(statement(sql, values));
        }
        for delivery in deliveries {
            let sql = "INSERT INTO deliveries (id, webhook, kind, body, created, attempts, due, status, turn) \
                SELECT ?1, ?2, ?3, ?4, ?5, 0, ?5, 'pending', (SELECT coalesce(max(turn), 0) + 1 FROM deliveries) \
                WHERE EXISTS (SELECT 1 FROM leases WHERE name = ?6 AND holder = ?7) ON CONFLICT (id) DO NOTHING";
            let values = [
                delivery.id.as_str().into(),
                delivery.webhook.as_str().into(),
                delivery.kind.as_str().into(),
                delivery.body.as_str().into(),
                number(delivery.created),
                name.into(),
                holder.into(),
            ];
            statements.push(statement(sql, values));
        }
        let sql = "INSERT INTO notes (name, value) SELECT ?1, ?2 \
            WHERE EXISTS (SELECT 1 FROM leases WHERE name = ?3 AND holder = ?4) \
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let values = [cursor.0.into(), cursor.1.into(), name.into(), holder.into()];
        statements.push(statement(sql, values));
        self.0.run(statements).await.map(drop)
    }

    /// Events after a position, the oldest first.
    pub(crate) async fn events_after(
        &self,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        let sql = "SELECT seq, id, time, kind, subject, data FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let rows = self.one(statement(sql, [seq.into(), limit.into()])).await?;
        let events = rows.iter().map(|row| KeptEvent {
            seq: row.number(0),
            event: NewEvent {
                id: row.text(1),
                time: unsigned(row.number(2)),
                kind: row.text(3),
                subject: row.text(4),
                data: serde_json::from_str(&row.text(5)).unwrap_or_default(),
            },
        });
        Ok(events.collect())
    }

    /// The sequence numbers of the oldest and newest stored event; 0 and 0 for none.
    pub(crate) async fn event_range(&self) -> Result<(i64, i64), StoreError> {
        let sql = "SELECT min(seq), max(seq) FROM events";
        let rows = self.one(statement(sql, [])).await?;
        let row = rows.first();
        Ok(row.map_or((0, 0), |row| (row.number(0), row.number(1))))
    }

    /// Deletes all but the newest events, old finished deliveries and those without a webhook, and
    /// leases that expired long ago.
    pub(crate) async fn prune(&self, keep: i64, before: u64) -> Result<(), StoreError> {
        let events = "DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?1";
        let deliveries = "DELETE FROM deliveries WHERE finished < ?1";
        let orphans = "DELETE FROM deliveries WHERE webhook NOT IN (SELECT id FROM webhooks)";
        let leases = "DELETE FROM leases WHERE until < ?1";
        let statements = vec![
            statement(events, [keep.into()]),
            statement(deliveries, [number(before)]),
            statement(orphans, []),
            statement(leases, [number(before)]),
        ];
        self.0.run(statements).await.map(drop)
    }

    pub(crate) async fn hooks(&self) -> Result<Vec<Hook>, StoreError> {
        let sql = "SELECT id, owner, name, url, events, secret, old_secret, old_until, enabled, created \
            FROM webhooks ORDER BY created, id";
        let rows = self.one(statement(sql, [])).await?;
        Ok(rows.iter().map(Self::read_hook).collect())
    }

    pub(crate) async fn hook(&self, id: &str) -> Result<Option<Hook>, StoreError> {
        let sql = "SELECT id, owner, name, url, events, secret, old_secret, old_until, enabled, created \
            FROM webhooks WHERE id = ?1";
        let rows = self.one(statement(sql, [id.into()])).await?;
        Ok(rows.first().map(Self::read_hook))
    }

    fn read_hook(row: &Row) -> Hook {
        Hook {
            id: row.text(0),
            owner: row.text(1),
            name: row.text(2),
            url: row.text(3).into(),
            events: serde_json::from_str(&row.text(4)).unwrap_or_default(),
            secret: row.text(5).into(),
            old: row
                .optional(7)
                .map(|until| (row.text(6).into(), unsigned(until))),
            enabled: row.number(8) != 0,
            created: unsigned(row.number(9)),
        }
    }

    /// Inserts or updates a webhook.
    pub(crate) async fn put_hook(&self, hook: &Hook) -> Result<(), StoreError> {
        let sql = "INSERT INTO webhooks (id, owner, name, url, events, secret, old_secret, old_until, enabled, created) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
            url = excluded.url, events = excluded.events, secret = excluded.secret, old_secret = excluded.old_secret, \
            old_until = excluded.old_until, enabled = excluded.enabled";
        let events = Value::from(hook.events.clone()).to_string();
        let old = hook.old.as_ref();
        let values = [
            hook.id.as_str().into(),
            hook.owner.as_str().into(),
            hook.name.as_str().into(),
            hook.url.expose().into(),
            events.as_str().into(),
            hook.secret.expose().into(),
            old.map(|(secret, _)| secret.expose()).into(),
            old.map_or(Cell::Null, |(_, until)| number(*until)),
            i64::from(hook.enabled).into(),
            number(hook.created),
        ];
        self.one(statement(sql, values)).await.map(drop)
    }

    /// Deletes a webhook and its deliveries.
    pub(crate) async fn delete_hook(&self, id: &str) -> Result<(), StoreError> {
        let statements = vec![
            statement("DELETE FROM deliveries WHERE webhook = ?1", [id.into()]),
            statement("DELETE FROM webhooks WHERE id = ?1", [id.into()]),
        ];
        self.0.run(statements).await.map(drop)
    }

    fn delivery(row: &Row) -> Delivery {
        Delivery {
            id: row.text(0),
            webhook: row.text(1),
            kind: row.text(2),
            body: row.text(3),
            created: unsigned(row.number(4)),
            attempts: unsigned(row.number(5)),
            due: row.optional(6).map(unsigned),
            status: row.text(7),
            code: row.optional(8),
            problem: row.text(9),
            finished: row.optional(10).map(unsigned),
        }
    }

    /// Webhooks with a due delivery, and their owners; those that have waited longest first.
    pub(crate) async fn due_hooks(
        &self,
        now: u64,
        limit: i64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT deliveries.webhook, webhooks.owner FROM deliveries \
            JOIN webhooks ON webhooks.id = deliveries.webhook WHERE deliveries.due <= ?1 \
            GROUP BY deliveries.webhook, webhooks.owner ORDER BY min(deliveries.due), deliveries.webhook LIMIT ?2";
        let rows = self
            .one(statement(sql, [number(now), limit.into()]))
            .await?;
        Ok(rows.iter().map(|row| (row.text(0), row.text(1))).collect())
    }

    /// Claims the next due delivery of a webhook, in the order of the events. If the claim expires,
    /// the delivery is due again.
    pub(crate) async fn take_due(
        &self,
        webhook: &str,
        now: u64,
        until: u64,
    ) -> Result<Option<Delivery>, StoreError> {
        let sql = "UPDATE deliveries SET due = ?3 WHERE id = \
            (SELECT id FROM deliveries WHERE webhook = ?1 AND due <= ?2 ORDER BY turn, id LIMIT 1) \
            RETURNING id, webhook, kind, body, created, attempts, due, status, code, problem, finished";
        let values = [webhook.into(), number(now), number(until)];
        let rows = self.one(statement(sql, values)).await?;
        Ok(rows.first().map(Self::delivery))
    }

    /// Stores the result of an attempt, or a new delivery.
    pub(crate) async fn put_delivery(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let sql = "INSERT INTO deliveries \
            (id, webhook, kind, body, created, attempts, due, status, code, problem, finished, turn) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, (SELECT coalesce(max(turn), 0) + 1 FROM deliveries)) \
            ON CONFLICT (id) DO UPDATE SET \
            attempts = excluded.attempts, due = excluded.due, status = excluded.status, code = excluded.code, \
            problem = excluded.problem, finished = excluded.finished";
        let values = [
            delivery.id.as_str().into(),
            delivery.webhook.as_str().into(),
            delivery.kind.as_str().into(),
            delivery.body.as_str().into(),
            number(delivery.created),
            number(delivery.attempts),
            delivery.due.map_or(Cell::Null, number),
            delivery.status.as_str().into(),
            delivery.code.into(),
            delivery.problem.as_str().into(),
            delivery.finished.map_or(Cell::Null, number),
        ];
        self.one(statement(sql, values)).await.map(drop)
    }

    /// Deliveries of a webhook, the newest first, and their number.
    pub(crate) async fn deliveries(
        &self,
        webhook: &str,
        start: i64,
        limit: i64,
    ) -> Result<(Vec<Delivery>, u64), StoreError> {
        let list = "SELECT id, webhook, kind, body, created, attempts, due, status, code, problem, finished \
            FROM deliveries WHERE webhook = ?1 ORDER BY created DESC, id LIMIT ?2 OFFSET ?3";
        let count = "SELECT count(*) FROM deliveries WHERE webhook = ?1";
        let statements = vec![
            statement(list, [webhook.into(), limit.into(), start.into()]),
            statement(count, [webhook.into()]),
        ];
        let mut answers = self.0.run(statements).await?.into_iter();
        let rows = answers.next().unwrap_or_default();
        let total = answers
            .next()
            .and_then(|rows| Some(rows.first()?.number(0)));
        let list = rows.iter().map(Self::delivery).collect();
        Ok((list, unsigned(total.unwrap_or(0))))
    }
}

/// The requirements on every database; run against each.
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str) -> NewEvent {
        NewEvent {
            id: id.to_owned(),
            time: 7,
            kind: "vm.started".to_owned(),
            subject: "guest/100/node1".to_owned(),
            data: json!({"vmid": 100}),
        }
    }

    fn hook(id: &str) -> Hook {
        Hook {
            id: id.to_owned(),
            owner: "me@pve".to_owned(),
            name: "n".to_owned(),
            url: "https://example.org/x".into(),
            events: vec!["vm.*".to_owned()],
            secret: "s".into(),
            old: Some(("o".into(), 9)),
            enabled: true,
            created: 1,
        }
    }

    fn delivery(id: &str, due: u64) -> Delivery {
        Delivery {
            id: id.to_owned(),
            webhook: "h".to_owned(),
            kind: "vm.started".to_owned(),
            body: "{}".to_owned(),
            created: due,
            attempts: 0,
            due: Some(due),
            status: "pending".to_owned(),
            code: None,
            problem: String::new(),
            finished: None,
        }
    }

    async fn meets_the_requirements(store: &Store) {
        store.put_hook(&hook("h")).await.expect("works");
        // One of two gateways holds the lease until it expires or is released.
        assert!(store.lease("l", "a", 10, 20).await.expect("works"));
        assert!(!store.lease("l", "b", 15, 25).await.expect("works"));
        assert!(store.lease("l", "a", 15, 25).await.expect("works"));
        assert!(store.lease("l", "b", 26, 30).await.expect("works"));
        // A gateway without the lease adds nothing.
        let due = [delivery("d1", 5)];
        let cursor = ("cursor", "one");
        store
            .append(("l", "a"), &[event("e0")], &due, cursor)
            .await
            .expect("works");
        assert_eq!(store.event_range().await.expect("works"), (0, 0));
        assert_eq!(store.note("cursor").await.expect("works"), None);
        store
            .append(("l", "b"), &[event("e1"), event("e2")], &due, cursor)
            .await
            .expect("works");
        assert_eq!(
            store.note("cursor").await.expect("works").as_deref(),
            Some("one")
        );
        let (first, last) = store.event_range().await.expect("works");
        assert!(first > 0 && last == first + 1);
        let after = store.events_after(first, 10).await.expect("works");
        assert_eq!(after.len(), 1);
        assert_eq!(
            (after[0].event.id.as_str(), &after[0].event.data),
            ("e2", &json!({"vmid": 100}))
        );
        store.prune(1, 0).await.expect("works");
        assert_eq!(store.event_range().await.expect("works"), (last, last));
        store.release("l", "b").await.expect("works");
        assert!(store.lease("l", "c", 0, 1).await.expect("works"));
        // Webhooks are read back unchanged.
        let mut changed = hook("h");
        changed.enabled = false;
        changed.old = None;
        store.put_hook(&changed).await.expect("works");
        let hooks = store.hooks().await.expect("works");
        assert_eq!(hooks.len(), 1);
        assert!(!hooks[0].enabled && hooks[0].old.is_none() && hooks[0].events == ["vm.*"]);
        // A due delivery is claimed once.
        store
            .put_delivery(&delivery("d2", 50))
            .await
            .expect("works");
        let take = async |now, until| {
            let due = store.due_hooks(now, 9).await.expect("works");
            let taken = store.take_due("h", now, until).await.expect("works");
            assert_eq!(due.is_empty(), taken.is_none());
            taken
        };
        let due = store.due_hooks(10, 9).await.expect("works");
        assert_eq!(due, [("h".to_owned(), "me@pve".to_owned())]);
        let taken = take(10, 40).await.expect("due");
        assert_eq!(taken.id, "d1");
        assert!(take(10, 40).await.is_none());
        assert!(take(40, 60).await.is_some());
        assert!(
            store
                .take_due("other", 99, 99)
                .await
                .expect("works")
                .is_none()
        );
        let done = Delivery {
            due: None,
            finished: Some(41),
            attempts: 1,
            code: Some(200),
            ..taken.clone()
        };
        store.put_delivery(&done).await.expect("works");
        assert!(take(49, 60).await.is_none());
        let orphan = Delivery {
            webhook: "gone".to_owned(),
            ..delivery("d7", 1)
        };
        store.put_delivery(&orphan).await.expect("works");
        let (page, total) = store.deliveries("h", 0, 1).await.expect("works");
        assert_eq!((page[0].id.as_str(), page.len(), total), ("d2", 1, 2));
        store.prune(1, 42).await.expect("works");
        assert_eq!(store.deliveries("h", 0, 9).await.expect("works").1, 1);
        assert_eq!(store.deliveries("gone", 0, 9).await.expect("works").1, 0);
        // In the order of insertion, regardless of times and names.
        for (id, due) in [("d9", 90), ("d8", 90), ("d0", 80)] {
            store.put_delivery(&delivery(id, due)).await.expect("works");
        }
        for id in ["d2", "d9", "d8", "d0"] {
            assert_eq!(take(95, 200).await.map(|one| one.id).as_deref(), Some(id));
        }
        let one = store.hook("h").await.expect("works").expect("there");
        assert_eq!((one.id.as_str(), one.enabled), ("h", false));
        store.delete_hook("h").await.expect("works");
        assert!(store.hook("h").await.expect("works").is_none());
        assert!(store.hooks().await.expect("works").is_empty());
        assert_eq!(store.deliveries("h", 0, 9).await.expect("works").1, 0);
    }

    #[tokio::test]
    async fn sqlite_meets_the_requirements_and_persists_data() {
        meets_the_requirements(&Store::embedded(None).await.expect("opens")).await;
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("data");
        let store = Store::embedded(Some(&inside)).await.expect("opens");
        meets_the_requirements(&store).await;
        store.put_hook(&hook("kept")).await.expect("works");
        drop(store);
        let again = Store::embedded(Some(&inside)).await.expect("opens");
        assert_eq!(again.hooks().await.expect("works").len(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&inside)
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    /// Needs the address of a writable database in `GATEWAY_TEST_POSTGRES`.
    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn postgres_meets_the_requirements() {
        let Ok(address) = std::env::var("GATEWAY_TEST_POSTGRES") else {
            println!("skipped: GATEWAY_TEST_POSTGRES is not set");
            return;
        };
        let schema = format!("gateway_test_{}", std::process::id());
        let ca = std::env::var_os("GATEWAY_TEST_POSTGRES_CA").map(std::path::PathBuf::from);
        let database = Postgres::connect(&address.into(), ca.as_deref(), Some(&schema))
            .await
            .expect("connects");
        let database = Arc::new(database);
        let store = Store::open(database.clone()).await.expect("opens");
        // A second gateway finds the existing tables.
        Store::open(database.clone()).await.expect("opens");
        meets_the_requirements(&store).await;
        database.drop_schema(&schema).await.expect("works");
    }
}
