//! A database shared by several gateways.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use proxmox_api::Secret;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

use super::postgres_tls::Tls;
use super::{Cell, Database, Row, Statement, StoreError};
use crate::config::ConfigError;
use crate::trust::roots;

/// Timeout for connecting, and for a transaction, so that a hanging database does not block the
/// gateway.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, reopened after a failure. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Postgres(Arc<Inner>);

struct Inner {
    config: Config,
    tls: Tls,
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("hosts", &self.config.get_hosts())
            .finish_non_exhaustive()
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;
        match (error.as_db_error(), error.source()) {
            (Some(database), _) => Self(database.to_string()),
            (None, Some(cause)) => Self(format!("{error}: {cause}")),
            (None, None) => Self(error.to_string()),
        }
    }
}

impl From<ConfigError> for StoreError {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

/// Whether the connection to a host cannot be read by others.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

impl Postgres {
    /// Connects to `postgres://user:password@host/database`. Except on the local machine, the
    /// connection uses TLS and the host's certificate is checked, unless the address has
    /// `sslmode=disable`.
    pub(crate) async fn connect(
        address: &Secret,
        ca: Option<&Path>,
        schema: Option<&str>,
    ) -> Result<Self, StoreError> {
        let mut config: Config = (address.expose().parse())
            .map_err(|_| StoreError("the address of the database is invalid".to_owned()))?;
        if let Some(schema) = schema {
            config.options(format!("-c search_path={schema}"));
        }
        let hosts = config.get_hosts();
        let all_local = hosts.iter().all(is_local) && config.get_hostaddrs().is_empty();
        match config.get_ssl_mode() {
            SslMode::Prefer if !all_local => drop(config.ssl_mode(SslMode::Require)),
            SslMode::Prefer => drop(config.ssl_mode(SslMode::Disable)),
            SslMode::Disable if !all_local => {
                tracing::warn!("the connection to the database is not encrypted");
            }
            _ => {}
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(TIMEOUT);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError(error.to_string()))?
            .with_root_certificates(roots("postgres_ca", ca)?)
            .with_no_client_auth();
        let postgres = Self(Arc::new(Inner {
            config,
            tls: Tls(Arc::new(tls)),
            client: Mutex::new(None),
        }));
        let client = postgres.0.open().await?;
        if let Some(schema) = schema {
            client
                .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
                .await?;
        }
        *postgres.0.client.lock().await = Some(client);
        Ok(postgres)
    }

    #[cfg(test)]
    pub(super) async fn drop_schema(&self, schema: &str) -> Result<(), StoreError> {
        let client = self.0.open().await?;
        Ok(client
            .batch_execute(&format!("DROP SCHEMA {schema} CASCADE"))
            .await?)
    }
}

impl Inner {
    /// Opens a connection.
    async fn open(&self) -> Result<Client, StoreError> {
        let log_error = |error: tokio_postgres::Error| tracing::warn!(%error, "the connection to the database broke");
        if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(NoTls).await?;
            tokio::spawn(async move { connection.await.map_err(log_error) });
            return Ok(client);
        }
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        tokio::spawn(async move { connection.await.map_err(log_error) });
        Ok(client)
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, StoreError> {
        // Statements of different transactions must not mix on this connection.
        let mut connection = self.client.lock().await;
        // It is put back when the transaction has ended.
        let client = match connection.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.open().await?,
        };
        client.batch_execute("BEGIN").await?;
        let mut answers = Vec::new();
        for Statement { sql, values } in statements {
            match query(&client, sql, &values).await {
                Ok(rows) => answers.push(rows),
                Err(error) => {
                    client.batch_execute("ROLLBACK").await?;
                    *connection = Some(client);
                    return Err(error);
                }
            }
        }
        client.batch_execute("COMMIT").await?;
        *connection = Some(client);
        Ok(answers)
    }
}

async fn query(client: &Client, sql: &str, values: &[Cell]) -> Result<Vec<Row>, StoreError> {
    let types = values.iter().map(|value| match value {
        Cell::Number(_) => Type::INT8,
        Cell::Null => Type::UNKNOWN,
        Cell::Text(_) => Type::TEXT,
    });
    let types: Vec<Type> = types.collect();
    let sql = sql.replace('?', "$");
    let prepared = client.prepare_typed(&sql, &types).await?;
    let values: Vec<Box<dyn ToSql + Sync + Send>> = (values.iter().zip(prepared.params()))
        .map(|(value, kind)| -> Box<dyn ToSql + Sync + Send> {
            match value {
                Cell::Number(number) => Box::new(*number),
                Cell::Text(text) => Box::new(text.clone()),
                Cell::Null if *kind == Type::INT8 => Box::new(None::<i64>),
                Cell::Null => Box::new(None::<String>),
            }
        })
        .collect();
    let values: Vec<&(dyn ToSql + Sync)> = values
        .iter()
        .map(|value| value.as_ref() as &(dyn ToSql + Sync))
        .collect();
    let rows = client.query(&prepared, &values).await?;
    let rows = rows.iter().map(|row| {
        let cells = row.columns().iter().enumerate().map(|(at, column)| {
            Ok(match *column.type_() {
                Type::INT8 => row
                    .try_get::<_, Option<i64>>(at)?
                    .map_or(Cell::Null, Cell::Number),
                _ => row
                    .try_get::<_, Option<String>>(at)?
                    .map_or(Cell::Null, Cell::Text),
            })
        });
        cells.collect::<Result<_, tokio_postgres::Error>>().map(Row)
    });
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Database for Postgres {
    fn run(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<Vec<Vec<Row>>, StoreError>> {
        let inner = Arc::clone(&self.0);
        // It continues if its caller is dropped, so that no transaction stays open.
        let work = tokio::spawn(async move {
            let work = tokio::time::timeout(TIMEOUT, inner.transaction(statements));
            let timed_out = |_| StoreError(format!("no answer within {} s", TIMEOUT.as_secs()));
            work.await.map_err(timed_out)?
        });
        Box::pin(async move {
            work.await
                .unwrap_or_else(|error| Err(StoreError(error.to_string())))
        })
    }

    fn migrate(
        &self,
        migrations: &'static [&'static str],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut client = self.0.open().await?;
            let transaction = client.transaction().await?;
            // Two gateways may start at the same time.
            let prepare = "SELECT pg_advisory_xact_lock(7302184); \
                CREATE TABLE IF NOT EXISTS migrations (done BIGINT NOT NULL)";
            transaction.batch_execute(prepare).await?;
            let row = transaction
                .query_one("SELECT count(*) FROM migrations", &[])
                .await?;
            let done = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
            if done > migrations.len() {
                return Err(StoreError("it was written by a newer gateway".to_owned()));
            }
            for migration in migrations.iter().skip(done) {
                let text = migration.replace("SERIAL", "BIGSERIAL PRIMARY KEY");
                transaction.batch_execute(&text).await?;
                transaction
                    .execute("INSERT INTO migrations VALUES (1)", &[])
                    .await?;
            }
            transaction.commit().await?;
            Ok(())
        })
    }
}
