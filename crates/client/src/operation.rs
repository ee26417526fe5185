//! Operations.

use reqwest::Method;
use serde::Serialize;
use stillpoint_model::id::OperationId;
use stillpoint_wire::Page;
use stillpoint_wire::operation::{Operation, Reason};

use crate::error::Result;
use crate::request::{Change, Client, ListQuery};

/// Which operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationFilter {
    /// Those about this volume, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Those about this instance, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Those in flight, or those that are over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<bool>,
    /// Those of every account. Administrators only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_accounts: bool,
}

impl Client {
    /// The account's operations, newest first.
    pub async fn operation_list(
        &self,
        filter: &OperationFilter,
        query: &ListQuery,
    ) -> Result<Page<Operation>> {
        self.list(&["operations"], filter, query).await
    }

    /// One operation.
    pub async fn operation_show(&self, id: OperationId) -> Result<Operation> {
        self.get(&["operations", &id.to_string()]).await
    }

    /// Asks an operation to stop.
    pub async fn operation_cancel(&self, id: OperationId) -> Result<Operation> {
        self.steer(id, "cancel", None).await
    }

    /// Ends an operation that is stuck and releases what it holds. Administrators only.
    pub async fn operation_release(&self, id: OperationId, reason: &Reason) -> Result<Operation> {
        self.steer(id, "release", Some(reason)).await
    }

    /// Asks again for what a failed operation was to do. Administrators only.
    pub async fn operation_retry(&self, id: OperationId, reason: &Reason) -> Result<Operation> {
        self.steer(id, "retry", Some(reason)).await
    }

    async fn steer(
        &self,
        id: OperationId,
        verb: &str,
        reason: Option<&Reason>,
    ) -> Result<Operation> {
        let path = ["operations", &id.to_string(), verb];
        self.change(Method::POST, &path, reason, &Change::default())
            .await
    }
}
