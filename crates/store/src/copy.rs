//! Copies of the whole database, made while it is in use, and the proof that one is whole.

use std::path::Path;

use sqlx::{AnyConnection, Connection, Row};

use crate::db::{connect_options, install_drivers};
use crate::error::{Error, Result};

async fn connect(path: &Path) -> Result<AnyConnection> {
    install_drivers();
    let failed = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let options = connect_options(path).map_err(failed)?;
    AnyConnection::connect_with(&options).await.map_err(failed)
}

/// Writes the database `from`, as it is at one moment, into the new file `to`. Nobody who uses it
/// waits. The copy is compact and needs no log beside it.
pub async fn database_copy(from: &Path, to: &Path) -> Result<()> {
    let mut conn = connect(from).await?;
    let copied = sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy().into_owned())
        .execute(&mut conn)
        .await;
    drop(conn.close().await);
    copied?;
    Ok(())
}

/// Reads a database whole and checks that it is consistent in itself.
pub async fn database_check(path: &Path) -> Result<()> {
    let mut conn = connect(path).await?;
    let row = sqlx::query("PRAGMA integrity_check")
        .fetch_one(&mut conn)
        .await;
    drop(conn.close().await);
    let said: String = row?.try_get(0)?;
    if said == "ok" {
        return Ok(());
    }
    Err(Error::Corrupt {
        table: "database",
        column: 0,
        value: said.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, Options};

    #[tokio::test]
    async fn a_copy_of_a_database_in_use_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("db"), folder.path().join("copy"));
        let db = Db::open(&Options::new(&from)).await.expect("a database");
        database_copy(&from, &to).await.expect("copied");
        database_check(&to).await.expect("whole");
        drop(db);
        Db::open(&Options::new(&to)).await.expect("it opens");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        std::fs::write(&path, vec![7; 8192]).expect("written");
        assert!(database_check(&path).await.is_err());
    }
}
