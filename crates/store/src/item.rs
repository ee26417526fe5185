//! What the tables of snapshots and backups are asked alike.
//!
//! The SQL is text that is known when this is compiled, so what differs, the table's name, comes
//! in by a macro. [`item_queries`] makes the functions under the names that its user gives them.

/// The shared queries of one of the two tables. `select!` must be in scope, and read what
/// `$row` takes apart.
macro_rules! item_queries {
    (
        $table:literal: $Item:ty, $Id:ty, $row:path;
        $delete:ident, $by_id:ident, $by_name:ident, $name_exists:ident, $names_like:ident, $list:ident,
        $list_of_volume:ident
    ) => {
        /// Removes an item's row.
        pub async fn $delete(tx: &mut Tx, id: $Id) -> Result<()> {
            sql!(concat!("DELETE FROM ", $table, " WHERE id = $1"), id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        }

        /// The item of this id, whoever's it is.
        pub async fn $by_id(conn: &mut Conn, id: $Id) -> Result<Option<$Item>> {
            sql!(select!("WHERE id = $1"), id)
                .fetch_optional(conn)
                .await?
                .as_ref()
                .map($row)
                .transpose()
        }

        /// The project's items of this name, two at most: enough to know whether there is one,
        /// none or more.
        pub async fn $by_name(
            conn: &mut Conn,
            account_id: AccountId,
            project_id: ProjectId,
            name: &Name,
        ) -> Result<Vec<$Item>> {
            sql!(
                select!("WHERE account_id = $1 AND name = $2 AND project_id = $3 LIMIT 2"),
                account_id,
                name,
                project_id,
            )
            .fetch_all(conn)
            .await?
            .iter()
            .map($row)
            .collect()
        }

        /// Whether the account has an item of this name; of one volume, when one is given.
        pub async fn $name_exists(
            conn: &mut Conn,
            account_id: AccountId,
            volume_id: Option<VolumeId>,
            name: &Name,
        ) -> Result<bool> {
            let found = sql!(
                concat!(
                    "SELECT 1 FROM ",
                    $table,
                    " WHERE account_id = $1 AND name = $2 AND volume_id = COALESCE($3, volume_id) \
                     LIMIT 1"
                ),
                account_id,
                name,
                volume_id,
            )
            .fetch_optional(conn)
            .await?;
            Ok(found.is_some())
        }

        /// The account's names that are this one, or this one with a hyphen and more behind it.
        pub async fn $names_like(
            conn: &mut Conn,
            account_id: AccountId,
            name: &Name,
        ) -> Result<BTreeSet<String>> {
            // The full stop is what comes after the hyphen.
            sql!(
                concat!(
                    "SELECT name FROM ",
                    $table,
                    " WHERE account_id = $1 AND name >= $2 AND name < $2 || '.'"
                ),
                account_id,
                name,
            )
            .fetch_all(conn)
            .await?
            .iter()
            .map(|row| Columns::of($table, row).text())
            .collect()
        }

        /// A page of a project's items, newest first.
        pub async fn $list(
            conn: &mut Conn,
            account_id: AccountId,
            project_id: ProjectId,
            page: &PageKey,
        ) -> Result<Vec<$Item>> {
            sql!(
                select!(
                    "WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
                     ORDER BY created_at DESC, id DESC LIMIT $5"
                ),
                project_id,
                page.created_at(),
                page.id(),
                account_id,
                page.limit,
            )
            .fetch_all(conn)
            .await?
            .iter()
            .map($row)
            .collect()
        }

        /// A page of a volume's items, newest first.
        pub async fn $list_of_volume(
            conn: &mut Conn,
            account_id: AccountId,
            volume_id: VolumeId,
            page: &PageKey,
        ) -> Result<Vec<$Item>> {
            sql!(
                select!(
                    "WHERE volume_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
                     ORDER BY created_at DESC, id DESC LIMIT $5"
                ),
                volume_id,
                page.created_at(),
                page.id(),
                account_id,
                page.limit,
            )
            .fetch_all(conn)
            .await?
            .iter()
            .map($row)
            .collect()
        }
    };
}

pub(crate) use item_queries;
