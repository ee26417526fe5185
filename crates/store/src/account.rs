//! Accounts, their projects and users.

use stillpoint_model::Timestamp;
use stillpoint_model::account::{Account, User};
use stillpoint_model::id::{AccountId, ProjectId, UserId};
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

fn account(row: &sqlx::any::AnyRow) -> Result<Account> {
    let mut columns = Columns::of("account", row);
    Ok(Account {
        id: columns.parse()?,
        name: columns.parse()?,
        default_project: columns.parse()?,
        created_at: columns.time()?,
    })
}

/// Inserts an account. Its default project is inserted next.
pub async fn account_insert(tx: &mut Tx, account: &Account) -> Result<()> {
    sql!(
        "INSERT INTO accounts (id, name, default_project_id, created_at) VALUES ($1, $2, $3, $4)",
        account.id,
        &account.name,
        account.default_project,
        account.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The account of this name.
pub async fn account_by_name(conn: &mut Conn, name: &Name) -> Result<Option<Account>> {
    sql!(
        "SELECT id, name, default_project_id, created_at FROM accounts WHERE name = $1",
        name
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(account)
    .transpose()
}

/// A page of all accounts.
pub async fn account_list(conn: &mut Conn, page: &PageKey) -> Result<Vec<Account>> {
    sql!(
        "SELECT id, name, default_project_id, created_at FROM accounts \
         WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3",
        page.created_at(),
        page.id(),
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(account)
    .collect()
}

/// Inserts a project.
pub async fn project_insert(
    tx: &mut Tx,
    id: ProjectId,
    account_id: AccountId,
    name: &Name,
    created_at: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO projects (id, account_id, name, created_at) VALUES ($1, $2, $3, $4)",
        id,
        account_id,
        name,
        created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A user with what only sign-in needs.
#[derive(Clone)]
pub struct UserRow {
    /// The user.
    pub user: User,
    /// The account's default project.
    pub project_id: ProjectId,
    /// The hash of the password, in PHC text.
    pub password_hash: String,
}

/// Inserts a user.
pub async fn user_insert(tx: &mut Tx, user: &User, password_hash: &str) -> Result<()> {
    sql!(
        "INSERT INTO users (id, account_id, login, role, password_hash, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        user.id,
        user.account_id,
        &user.login,
        user.role.as_str(),
        password_hash,
        user.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn user(row: &sqlx::any::AnyRow) -> Result<UserRow> {
    let mut columns = Columns::of("user", row);
    Ok(UserRow {
        user: User {
            id: columns.parse()?,
            account_id: columns.parse()?,
            login: columns.text()?,
            role: columns.parse()?,
            created_at: columns.time()?,
        },
        project_id: columns.parse()?,
        password_hash: columns.text()?,
    })
}

/// The user of this login.
pub async fn user_by_login(conn: &mut Conn, login: &str) -> Result<Option<UserRow>> {
    sql!(
        "SELECT u.id, u.account_id, u.login, u.role, u.created_at, a.default_project_id, \
         u.password_hash FROM users u JOIN accounts a ON a.id = u.account_id WHERE u.login = $1",
        login,
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(user)
    .transpose()
}

/// The user of this id.
pub async fn user_by_id(conn: &mut Conn, id: UserId) -> Result<Option<UserRow>> {
    sql!(
        "SELECT u.id, u.account_id, u.login, u.role, u.created_at, a.default_project_id, \
         u.password_hash FROM users u JOIN accounts a ON a.id = u.account_id WHERE u.id = $1",
        id,
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(user)
    .transpose()
}
