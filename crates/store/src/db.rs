//! The door to the database: many readers, one writer, group commit.
//!
//! **Reading.** [`Db::read`] opens a read transaction: every query on it sees the same moment,
//! and it never waits for the writer (WAL).
//!
//! **Writing.** One thread owns the one writing connection. Jobs queue up for it; those that wait
//! together share one transaction, each inside a savepoint of its own:
//!
//! ```text
//! BEGIN IMMEDIATE
//!   SAVEPOINT job   job 1   RELEASE
//!   SAVEPOINT job   job 2   ROLLBACK TO, RELEASE      (its error is its own)
//!   SAVEPOINT job   job 3   RELEASE
//! COMMIT            one fsync
//! answers to 1, 2 and 3
//! ```
//!
//! **Guarantees.** A job sees everything that jobs before it wrote. It happens whole or not at
//! all. Its `Ok` is answered only after COMMIT was durable (`synchronous = FULL`); when COMMIT
//! fails, every job of the batch is answered an error and none happened. A job whose asker is
//! gone before it began is not begun; once begun it ends, whoever listens. A job that panics is
//! rolled back and takes no other with it.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::migrate::migrate;

/// A connection that queries read from.
pub type Conn = AnyConnection;

/// Jobs that may wait for the writer before those who ask wait, too.
const QUEUE: usize = 1024;
/// Jobs that share one transaction at most, so that the first need not wait long for its answer.
const BATCH: usize = 128;

/// What a power cut may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was answered.
    #[default]
    Full,
    /// Anything. For tests and simulations, which cut no power.
    None,
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file; made when it is missing.
    pub path: PathBuf,
    /// Connections for readers.
    pub readers: u32,
    /// What a power cut may take.
    pub durability: Durability,
}

impl Options {
    /// The defaults, for this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 3,
            durability: Durability::Full,
        }
    }
}

/// The database. Cloning it is cheap; the last clone that goes stops the writer.
#[derive(Clone)]
pub struct Db {
    readers: AnyPool,
    jobs: mpsc::Sender<Box<dyn Job>>,
    last_event: watch::Receiver<i64>,
}

impl Db {
    /// Opens the database, makes it when it is missing, and migrates it. Must be called inside a
    /// tokio runtime, which the writer then lives in.
    pub async fn open(options: &Options) -> Result<Self> {
        install_drivers();
        let failed = |source| Error::Open {
            path: options.path.clone(),
            source,
        };
        let connect = connect_options(&options.path).map_err(failed)?;
        let mut conn = AnyConnection::connect_with(&connect)
            .await
            .map_err(failed)?;
        sqlx::raw_sql(match options.durability {
            Durability::Full => WRITER_PRAGMAS_FULL,
            Durability::None => WRITER_PRAGMAS_NONE,
        })
        .execute(&mut conn)
        .await?;
        migrate(&mut conn).await?;
        let newest = crate::event::event_last_sequence(&mut conn).await?;
        let readers = AnyPoolOptions::new()
            .max_connections(options.readers)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::raw_sql(READER_PRAGMAS).execute(conn).await?;
                    Ok(())
                })
            })
            .connect_with(connect)
            .await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (publish, last_event) = watch::channel(newest);
        let tail = Tail {
            event: newest,
            audit: None,
        };
        let writer = write_all(Tx { conn, tail }, queue, publish);
        start_writer(writer).map_err(|error| failed(error.into()))?;
        Ok(Self {
            readers,
            jobs,
            last_event,
        })
    }

    /// A read transaction: everything read through it is from the same moment.
    pub async fn read(&self) -> Result<Reader> {
        Ok(Reader {
            transaction: self.readers.begin().await?,
        })
    }

    /// Makes a change. `Ok` means that it is durable; `Err` means that nothing of it happened.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Typed {
            job: Some(job),
            result: None,
            reply,
            error: PhantomData,
        };
        if self.jobs.send(Box::new(job)).await.is_err() {
            return Err(Error::WriterGone.into());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::WriterGone.into()))
    }

    /// Closes the database, and ends when every connection is closed and the write-ahead log is
    /// folded in. Waits for all other handles to go: with one left, it never ends.
    pub async fn close(self) {
        // The log goes with the last connection, so the writer's must be that.
        self.readers.close().await;
        let mut writer = self.last_event();
        drop(self);
        while writer.changed().await.is_ok() {}
    }

    /// The sequence of the last event that was committed. It moves after the COMMIT, so whoever
    /// hears of it finds the event in the table.
    pub fn last_event(&self) -> watch::Receiver<i64> {
        self.last_event.clone()
    }
}

const READER_PRAGMAS: &str = "PRAGMA query_only = ON; PRAGMA busy_timeout = 10000; \
    PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY";
const WRITER_PRAGMAS_FULL: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000; PRAGMA cache_size = -8192; \
    PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864";
const WRITER_PRAGMAS_NONE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; \
    PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000; PRAGMA cache_size = -8192; \
    PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864";

/// Makes SQLite known to the connections, once.
pub(crate) fn install_drivers() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
}

pub(crate) fn connect_options(path: &Path) -> Result<AnyConnectOptions, sqlx::Error> {
    let mut url = String::from("sqlite://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    Ok(AnyConnectOptions::from_str(&url)?.disable_statement_logging())
}

/// A read transaction. It ends when it is dropped.
pub struct Reader {
    transaction: sqlx::Transaction<'static, Any>,
}

impl Deref for Reader {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.transaction
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.transaction
    }
}

/// The writing transaction, as a job sees it.
pub struct Tx {
    conn: AnyConnection,
    pub(crate) tail: Tail,
}

/// Where the tables that only grow end, as the writing transaction sees them. Nobody else writes,
/// so the writer need not ask.
#[derive(Clone)]
pub(crate) struct Tail {
    /// The sequence of the last event.
    pub(crate) event: i64,
    /// Place and hash of the last record of the audit, once one was written.
    pub(crate) audit: Option<(i64, String)>,
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

/// One change that somebody waits for.
trait Job: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Does it; answers whether its changes are to be kept.
    fn run<'c>(&'c mut self, tx: &'c mut Tx) -> BoxFuture<'c, bool>;
    /// Answers who asked: what it came to, or that the transaction failed.
    fn answer(self: Box<Self>, failure: Option<&str>);
}

struct Typed<T, E, F> {
    job: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    error: PhantomData<E>,
}

impl<T, E, F> Job for Typed<T, E, F>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run<'c>(&'c mut self, tx: &'c mut Tx) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let Some(job) = self.job.take() else {
                return false;
            };
            // A panic leaves no result: who asked hears that the writer is gone for this job.
            self.result = AssertUnwindSafe(job(tx)).catch_unwind().await.ok();
            matches!(self.result, Some(Ok(_)))
        })
    }

    fn answer(self: Box<Self>, failure: Option<&str>) {
        let result = match (self.result, failure) {
            (Some(Ok(_)) | None, Some(why)) => Err(Error::Commit(why.to_owned()).into()),
            (Some(result), _) => result,
            (None, None) => Err(Error::WriterGone.into()),
        };
        // Whoever asked may have gone; then nobody needs the answer.
        drop(self.reply.send(result));
    }
}

/// Runs the writer on a thread of its own. Each statement is a way to another thread and back: a
/// thread that waits for nothing else, and does not sleep at once, is there in half the time of a
/// task among others.
fn start_writer(writer: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new().name("db-writer".into());
    let run = move || {
        let _inside = runtime.enter();
        spin::block_on(writer);
    };
    thread.spawn(run).map(drop)
}

/// The writer: takes jobs until every handle is gone.
async fn write_all(
    mut tx: Tx,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    publish: watch::Sender<i64>,
) {
    while let Some(first) = queue.recv().await {
        let before = tx.tail.clone();
        let mut batch = Vec::new();
        let outcome = write_batch(&mut tx, first, &mut queue, &mut batch).await;
        let failure = match outcome {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, jobs = batch.len(), "a transaction failed");
                tx.tail = before.clone();
                drop(sqlx::raw_sql("ROLLBACK").execute(&mut tx.conn).await);
                Some(error.to_string())
            }
        };
        if tx.tail.event != before.event {
            publish.send_replace(tx.tail.event);
        }
        for job in batch {
            job.answer(failure.as_deref());
        }
    }
    drop(tx.conn.close().await);
}

/// One transaction: the first job and those that come while it is at it. The savepoint of a job
/// is released together with what follows it, since each statement is a way to another thread
/// and back.
async fn write_batch(
    tx: &mut Tx,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Box<dyn Job>>,
    batch: &mut Vec<Box<dyn Job>>,
) -> Result<()> {
    let mut next = Some(first);
    let mut begin = "BEGIN IMMEDIATE; SAVEPOINT job";
    while let Some(job) = next {
        if !job.is_abandoned() {
            // It is in the batch before anything can fail, so that it is answered whatever happens.
            batch.push(job);
            sqlx::raw_sql(begin).execute(&mut tx.conn).await?;
            begin = "RELEASE job; SAVEPOINT job";
            if let Some(job) = batch.last_mut() {
                write_one(tx, job).await?;
            }
        }
        next = if batch.len() < BATCH {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    if !batch.is_empty() {
        let end = "RELEASE job; COMMIT";
        sqlx::raw_sql(end).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// One job. What it wrote is taken back when it does not want to keep it.
async fn write_one(tx: &mut Tx, job: &mut Box<dyn Job>) -> Result<()> {
    let before = tx.tail.clone();
    if !job.run(tx).await {
        tx.tail = before;
        sqlx::query("ROLLBACK TO job").execute(&mut tx.conn).await?;
    }
    Ok(())
}

mod spin;
#[cfg(test)]
mod tests;
