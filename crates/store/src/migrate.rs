//! Migrations: numbered files, applied once each, in order, in one transaction.

use sqlx::{AnyConnection, Row};

use crate::error::{Error, Result};

/// What was ever applied stays as it is; a change is a new file at the end.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_accounts.sql"),
    include_str!("../migrations/0002_places.sql"),
    include_str!("../migrations/0003_volumes.sql"),
    include_str!("../migrations/0004_records.sql"),
    include_str!("../migrations/0005_operations.sql"),
    include_str!("../migrations/0006_idempotency.sql"),
    include_str!("../migrations/0007_instances.sql"),
    include_str!("../migrations/0008_instance_snapshots.sql"),
    include_str!("../migrations/0009_images.sql"),
    include_str!("../migrations/0010_care.sql"),
    include_str!("../migrations/0013_instance_memory.sql"),
    include_str!("../migrations/0014_volume_fills.sql"),
    include_str!("../migrations/0015_copies.sql"),
    include_str!("../migrations/0016_mending.sql"),
    include_str!("../migrations/0017_keep_until.sql"),
];

const HISTORY: &str = "CREATE TABLE IF NOT EXISTS migrations (\
    version BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL)";

/// Brings the database to the present shape.
pub(crate) async fn migrate(conn: &mut AnyConnection) -> Result<()> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    match apply(conn).await {
        Ok(()) => {
            sqlx::raw_sql("COMMIT").execute(conn).await?;
            Ok(())
        }
        Err(error) => {
            sqlx::raw_sql("ROLLBACK").execute(conn).await?;
            Err(error)
        }
    }
}

async fn apply(conn: &mut AnyConnection) -> Result<()> {
    sqlx::raw_sql(HISTORY).execute(&mut *conn).await?;
    let applied = sqlx::query("SELECT version, body FROM migrations ORDER BY version")
        .fetch_all(&mut *conn)
        .await?;
    for row in &applied {
        let version: i64 = row.try_get(0)?;
        let body: String = row.try_get(1)?;
        let known = usize::try_from(version - 1)
            .ok()
            .and_then(|i| MIGRATIONS.get(i));
        match known {
            None => return Err(Error::NewerSchema { version }),
            Some(known) if *known != body => return Err(Error::MigrationChanged { version }),
            Some(_) => {}
        }
    }
    for (version, body) in (1_i64..).zip(MIGRATIONS).skip(applied.len()) {
        sqlx::raw_sql(*body).execute(&mut *conn).await?;
        sqlx::query("INSERT INTO migrations (version, body) VALUES ($1, $2)")
            .bind(version)
            .bind(*body)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
