//! Who acts: accounts, projects, users, and what a credential may do.

use crate::Timestamp;
use crate::id::{AccountId, ProjectId, RequestId, TokenId, UserId};
use crate::name::Name;
use crate::words::words;

words! {
    /// What a user may do.
    Role {
        /// Runs the installation: sees operator pages, may override and release with a reason.
        Administrator = "administrator",
        /// Uses it, inside one account.
        Tenant = "tenant",
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: Name,
    /// The project that a request means when it names none.
    pub default_project: ProjectId,
    /// When it was opened.
    pub created_at: Timestamp,
}

/// A person or program that acts for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The account it acts for.
    pub account_id: AccountId,
    /// What it signs in with.
    pub login: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Who acts by it.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: Name,
    /// The first characters of the secret, to tell tokens apart.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// Who makes a request. The account comes from the credential, never from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Whose resources the request is about.
    pub account_id: AccountId,
    /// The project that names are looked up in.
    pub project_id: ProjectId,
    /// Who acts.
    pub user_id: UserId,
    /// What the login is, for people to read.
    pub login: String,
    /// What the actor may do.
    pub role: Role,
    /// The request, for support and audit.
    pub request_id: RequestId,
}

impl Actor {
    /// Whether operator actions are allowed.
    pub fn is_administrator(&self) -> bool {
        self.role == Role::Administrator
    }
}
