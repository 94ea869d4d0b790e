//! The embedded database.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::{Cell, Database, Row, Statement, StoreError};

const FILE: &str = "gateway.sqlite";

/// One connection, used on threads that may block.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite(Arc<Mutex<Connection>>);

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Number(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

impl Sqlite {
    /// Opens the file in a folder, which is created for this user only if it is missing.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self, StoreError> {
        let connection = match folder {
            None => Connection::open_in_memory()?,
            Some(folder) => {
                let folder = create_private_folder(folder)
                    .map_err(|error| StoreError(format!("{}: {error}", folder.display())))?;
                // Symbolic links are not followed: others may have created them while the folder
                // was writable. SQLite itself does not follow links at the files beside it.
                let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
                Connection::open_with_flags(folder.join(FILE), flags)?
            }
        };
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let connection = Arc::clone(&self.0);
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || {
                work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
            });
            work.await
                .unwrap_or_else(|error| Err(StoreError(error.to_string())))
        })
    }
}

/// Creates a folder for this user only, and returns its path without links.
#[cfg(unix)]
fn create_private_folder(folder: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let folder = folder.canonicalize()?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}

#[cfg(not(unix))]
fn create_private_folder(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    folder.canonicalize()
}

impl Database for Sqlite {
    fn run(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<Vec<Vec<Row>>, StoreError>> {
        self.on_blocking_thread(move |connection| {
            let transaction = connection.transaction()?;
            let mut answers = Vec::new();
            for Statement { sql, values } in statements {
                let mut prepared = transaction.prepare_cached(sql)?;
                let columns = prepared.column_count();
                let mut rows = prepared.query(params_from_iter(values))?;
                let mut found_rows = Vec::new();
                while let Some(row) = rows.next()? {
                    let cells = (0..columns).map(|column| {
                        Ok(match row.get_ref(column)? {
                            ValueRef::Integer(number) => Cell::Number(number),
                            ValueRef::Text(text) => {
                                Cell::Text(String::from_utf8_lossy(text).into_owned())
                            }
                            _ => Cell::Null,
                        })
                    });
                    found_rows.push(Row(cells.collect::<rusqlite::Result<_>>()?));
                }
                answers.push(found_rows);
            }
            transaction.commit()?;
            Ok(answers)
        })
    }

    fn migrate(
        &self,
        migrations: &'static [&'static str],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_blocking_thread(move |connection| {
            let transaction = connection.transaction()?;
            let applied: i64 =
                transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let applied = usize::try_from(applied).unwrap_or(usize::MAX);
            if applied > migrations.len() {
                return Err(StoreError("it was written by a newer gateway".to_owned()));
            }
            for migration in migrations.iter().skip(applied) {
                let serial = "INTEGER PRIMARY KEY AUTOINCREMENT";
                transaction.execute_batch(&migration.replace("SERIAL", serial))?;
            }
            let applied = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
            transaction.pragma_update(None, "user_version", applied)?;
            transaction.commit()?;
            Ok(())
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_as_database_is_refused_and_a_link_to_its_folder_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
        std::fs::create_dir(&data).expect("a folder");
        for name in [FILE, "gateway.sqlite-wal", "gateway.sqlite-shm"] {
            let link = data.join(name);
            std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
            let opened = Sqlite::open(Some(&data));
            // A link beside the database may be removed instead of refused.
            if let Ok(database) = &opened {
                assert_ne!(name, FILE);
                let _ = database.migrate(&["CREATE TABLE t (x TEXT)"]).await;
            }
            drop(opened);
            assert!(!elsewhere.exists(), "{name} was followed");
            for left in std::fs::read_dir(&data).expect("a folder") {
                std::fs::remove_file(left.expect("an entry").path()).expect("it is there");
            }
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&data, &link).expect("a link");
        Sqlite::open(Some(&link)).expect("opens");
        assert!(data.join(FILE).exists());
    }

    #[test]
    fn only_the_owner_can_access_the_data_folder() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| {
            let metadata = std::fs::metadata(path).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        let folder = tempfile::tempdir().expect("a folder");
        let (new, open) = (folder.path().join("a/b"), folder.path().join("open"));
        std::fs::create_dir(&open).expect("a folder");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).expect("set");
        for data in [&new, &open] {
            Sqlite::open(Some(data)).expect("opens");
            assert_eq!(mode(data), 0o700);
        }
    }
}
