//! What operators see of the installation, and what they confirm.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::admin::{
    Account, AuditRecord, CollectionConfirm, CopiesSet, Node, Pool, Target, TargetDetail,
};

use crate::error::Result;
use crate::request::{Change, Client, ListQuery};

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

    /// A backup target, by id or name, and how the vaults in it are.
    pub async fn target_show(&self, target: &str) -> Result<TargetDetail> {
        self.get(&["admin", "targets", target]).await
    }

    /// Lets the next collection of a vault remove so many bytes.
    pub async fn collection_confirm(
        &self,
        target: &str,
        confirm: &CollectionConfirm,
    ) -> Result<TargetDetail> {
        let segments = ["admin", "targets", target, "confirm"];
        let change = Change::default();
        self.change(Method::POST, &segments, Some(confirm), &change)
            .await
    }

    /// Has the backups of a target copied into another one, or no longer.
    pub async fn target_copies_set(
        &self,
        target: &str,
        copies: &CopiesSet,
    ) -> Result<TargetDetail> {
        let segments = ["admin", "targets", target, "copies"];
        let change = Change::default();
        self.change(Method::POST, &segments, Some(copies), &change)
            .await
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
