//! A database that several gateways share.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use proxmox_api::Secret;
use tokio::sync::Mutex;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

use super::{Cell, Database, Row, Statement, StoreError};

/// One connection, which is made anew when it broke.
#[derive(Debug)]
pub(crate) struct Postgres {
    config: Config,
    client: Mutex<Option<Arc<Client>>>,
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(database) => Self(database.to_string()),
            None => Self(error.to_string()),
        }
    }
}

impl Postgres {
    /// Connects to `postgres://user:password@host/database`. The connection is not encrypted, so the host has to be this
    /// machine or a network that is trusted.
    pub(crate) async fn connect(
        address: &Secret,
        schema: Option<&str>,
    ) -> Result<Self, StoreError> {
        let mut config: Config = (address.expose().parse())
            .map_err(|_| StoreError("the address of the database does not parse".to_owned()))?;
        if let Some(schema) = schema {
            config.options(format!("-c search_path={schema}"));
        }
        let postgres = Self {
            config,
            client: Mutex::new(None),
        };
        let client = postgres.client().await?;
        if let Some(schema) = schema {
            client
                .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
                .await?;
        }
        Ok(postgres)
    }

    #[cfg(test)]
    pub(super) async fn drop_schema(&self, schema: &str) -> Result<(), StoreError> {
        let client = self.client().await?;
        Ok(client
            .batch_execute(&format!("DROP SCHEMA {schema} CASCADE"))
            .await?)
    }

    async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the database broke");
            }
        });
        let client = Arc::new(client);
        *kept = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, StoreError> {
        let client = self.client().await?;
        // The statements of a transaction must not mix with others on this connection.
        let _alone = self.client.lock().await;
        client.batch_execute("BEGIN").await?;
        let mut answers = Vec::new();
        for Statement { sql, values } in statements {
            match query(&client, sql, &values).await {
                Ok(rows) => answers.push(rows),
                Err(error) => {
                    client.batch_execute("ROLLBACK").await?;
                    return Err(error);
                }
            }
        }
        client.batch_execute("COMMIT").await?;
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
        Box::pin(self.transaction(statements))
    }

    fn migrate(
        &self,
        migrations: &'static [&'static str],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut client = self.config.connect(NoTls).await?;
            tokio::spawn(client.1);
            let transaction = client.0.transaction().await?;
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
