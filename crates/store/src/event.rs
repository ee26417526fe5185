//! Events, in the order they happened.

use stillpoint_model::Timestamp;
use stillpoint_model::event::{Event, EventKind};
use stillpoint_model::id::{AccountId, OperationId, VolumeId};

use crate::error::Result;
use crate::row::{Columns, Value, sql};
use crate::{Conn, Tx};

/// An event that is about to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Whose it is.
    pub account_id: AccountId,
    /// What changed.
    pub kind: EventKind,
    /// The id of what changed.
    pub resource_id: uuid::Uuid,
    /// The volume it belongs to.
    pub volume_id: Option<VolumeId>,
    /// The operation that changed it.
    pub operation_id: Option<OperationId>,
    /// When.
    pub at: Timestamp,
}

macro_rules! insert {
    ($($rows:literal),+) => {
        concat!(
            "INSERT INTO events (account_id, kind, resource_id, volume_id, operation_id, at) \
             VALUES ",
            $($rows,)+
            " RETURNING sequence"
        )
    };
}

/// One statement for each number of events that happen together: one operation changes at most
/// itself, a volume, a snapshot and a backup.
const INSERTS: [&str; 4] = [
    insert!("($1, $2, $3, $4, $5, $6)"),
    insert!("($1, $2, $3, $4, $5, $6)", ", ($7, $8, $9, $10, $11, $12)"),
    insert!(
        "($1, $2, $3, $4, $5, $6)",
        ", ($7, $8, $9, $10, $11, $12)",
        ", ($13, $14, $15, $16, $17, $18)"
    ),
    insert!(
        "($1, $2, $3, $4, $5, $6)",
        ", ($7, $8, $9, $10, $11, $12)",
        ", ($13, $14, $15, $16, $17, $18)",
        ", ($19, $20, $21, $22, $23, $24)"
    ),
];

/// Records events in this order; the live stream hears of them after the commit.
pub async fn event_insert(tx: &mut Tx, events: &[NewEvent]) -> Result<()> {
    for together in events.chunks(INSERTS.len()) {
        let mut insert = sqlx::query::<sqlx::Any>(INSERTS[together.len() - 1]);
        for event in together {
            insert = insert
                .bind(event.account_id.value())
                .bind(event.kind.as_str())
                .bind(event.resource_id.value())
                .bind(event.volume_id.value())
                .bind(event.operation_id.value())
                .bind(event.at.value());
        }
        for row in insert.fetch_all(&mut **tx).await? {
            let sequence = Columns::of("event", &row).integer()?;
            tx.tail.event = tx.tail.event.max(sequence);
        }
    }
    Ok(())
}

/// The sequence of the newest event; 0 when there is none.
pub async fn event_last_sequence(conn: &mut Conn) -> Result<i64> {
    let row = sql!("SELECT COALESCE(MAX(sequence), 0) FROM events")
        .fetch_one(conn)
        .await?;
    Columns::of("event", &row).integer()
}

/// Up to `limit` events after `since`, the oldest first; of every account when none is given.
pub async fn event_list(
    conn: &mut Conn,
    account_id: Option<AccountId>,
    since: i64,
    limit: u32,
) -> Result<Vec<Event>> {
    let rows = match account_id {
        Some(account_id) => {
            sql!(
                "SELECT sequence, account_id, kind, resource_id, volume_id, operation_id, at \
                 FROM events WHERE account_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
                account_id,
                since,
                limit,
            )
            .fetch_all(conn)
            .await?
        }
        None => {
            sql!(
                "SELECT sequence, account_id, kind, resource_id, volume_id, operation_id, at \
                 FROM events WHERE sequence > $1 ORDER BY sequence LIMIT $2",
                since,
                limit,
            )
            .fetch_all(conn)
            .await?
        }
    };
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of("event", row);
            Ok(Event {
                sequence: columns.integer()?,
                account_id: columns.parse()?,
                kind: columns.parse()?,
                resource_id: columns.text()?,
                volume_id: columns.optional()?,
                operation_id: columns.optional()?,
                at: columns.time()?,
            })
        })
        .collect()
}

/// Removes events older than `before`.
pub async fn event_trim(tx: &mut Tx, before: Timestamp) -> Result<u64> {
    let done = sql!("DELETE FROM events WHERE at < $1", before)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}
