//! What operators see of the installation.

use stillpoint_wire::Page;
use stillpoint_wire::admin::{Account, AuditRecord, Node, Pool, Target};

use crate::error::Result;
use crate::request::{Client, ListQuery};

impl Client {
    /// The hypervisor hosts.
    pub async fn node_list(&self, query: &ListQuery) -> Result<Page<Node>> {
        self.list(&["admin", "nodes"], &(), query).await
    }

    /// The storage that holds volumes.
    pub async fn pool_list(&self, query: &ListQuery) -> Result<Page<Pool>> {
        self.list(&["admin", "pools"], &(), query).await
    }

    /// The places where backups go.
    pub async fn target_list(&self, query: &ListQuery) -> Result<Page<Target>> {
        self.list(&["admin", "targets"], &(), query).await
    }

    /// The customers.
    pub async fn account_list(&self, query: &ListQuery) -> Result<Page<Account>> {
        self.list(&["admin", "accounts"], &(), query).await
    }

    /// What was changed, by whom, newest first.
    pub async fn audit_list(&self, query: &ListQuery) -> Result<Page<AuditRecord>> {
        self.list(&["admin", "audit"], &(), query).await
    }
}
