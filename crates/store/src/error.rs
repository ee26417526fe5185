//! What can go wrong with the database.

use std::path::PathBuf;

use stillpoint_model::ErrorKind;

/// The result of a query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database file cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed.
    #[error("a statement failed")]
    Sql(#[from] sqlx::Error),
    /// A transaction of several writes could not be made durable; none of them happened.
    #[error("a transaction failed: {0}")]
    Commit(String),
    /// The writer is gone: the server is stopping, or the job panicked.
    #[error("the writer of the database is gone")]
    WriterGone,
    /// A row holds what was never written: the column and what it held.
    #[error("column {column} of a {table} holds what it cannot: {value:?}")]
    Corrupt {
        /// Whose row it is.
        table: &'static str,
        /// Its place among the columns read.
        column: usize,
        /// What it held, shortened.
        value: String,
    },
    /// A value cannot be written as JSON.
    #[error("a value cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A migration that was applied reads differently now.
    #[error("migration {version} was changed after it was applied")]
    MigrationChanged {
        /// Its number.
        version: i64,
    },
    /// The database was made by a newer version of this program.
    #[error("the database has migration {version}, which this version does not know")]
    NewerSchema {
        /// The number that is unknown here.
        version: i64,
    },
}

impl Error {
    /// What a caller must do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sql(sqlx::Error::PoolTimedOut) => ErrorKind::Retry,
            Self::Sql(sqlx::Error::Database(error)) if error.code().as_deref() == Some("13") => {
                ErrorKind::Full
            }
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::MigrationChanged { .. } | Self::NewerSchema { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Internal,
        }
    }
}
