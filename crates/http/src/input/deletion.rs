//! What a request says that deletes an instance: the one query that has a list in it (decision 0061).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use stillpoint_control::Change;
use stillpoint_control::instance::DeleteVolumes;

use super::{conditions, confirm_in_query, read_query, reference_at};
use crate::error::{ApiError, Result};

/// What may stand in the query of a request that deletes an instance.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstanceDeleteQuery {
    /// Answer what would happen, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// The name of the instance, typed, where the plan asks for that.
    #[serde(default)]
    confirm: Option<String>,
    /// Delete these of its volumes, too, by id or name; repeat it for each. The others are
    /// detached and stay.
    #[serde(default)]
    #[param(style = Form, explode, required = false)]
    delete_volumes: Vec<String>,
    /// Delete all of its volumes, too.
    #[serde(default)]
    delete_all_volumes: bool,
}

impl InstanceDeleteQuery {
    /// Reads it. The list goes first: otherwise a parameter stands once.
    fn read(query: &str) -> Result<Self> {
        let mut delete_volumes = Vec::new();
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if key == "delete_volumes" {
                delete_volumes.push(value.into_owned());
            } else {
                rest.append_pair(&key, &value);
            }
        }
        let query: Self = read_query(&rest.finish())?;
        Ok(Self {
            delete_volumes,
            ..query
        })
    }

    fn volumes(&self) -> Result<DeleteVolumes> {
        match (self.delete_all_volumes, self.delete_volumes.is_empty()) {
            (true, true) => Ok(DeleteVolumes::All),
            (false, true) => Ok(DeleteVolumes::Keep),
            (false, false) => self
                .delete_volumes
                .iter()
                .map(|text| reference_at(text, "volume", "?delete_volumes"))
                .collect::<Result<_>>()
                .map(DeleteVolumes::These),
            (true, false) => {
                let text = "Name the volumes to delete, or say that all are; not both.";
                Err(ApiError::invalid("?delete_volumes", text))
            }
        }
    }
}

/// How an instance is to be deleted, its name, typed, and which of its volumes go with it.
pub(crate) struct InstanceDeleteOf {
    pub(crate) change: Change,
    pub(crate) confirm: Option<String>,
    pub(crate) volumes: DeleteVolumes,
}

impl<S: Send + Sync> FromRequestParts<S> for InstanceDeleteOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let query = InstanceDeleteQuery::read(parts.uri.query().unwrap_or_default())?;
        let change = Change {
            dry_run: query.dry_run,
            ..conditions(&parts.headers)?
        };
        Ok(Self {
            change,
            volumes: query.volumes()?,
            confirm: query.confirm,
        })
    }
}

/// A refusal of an instance's delete, all of whose fields are in the query and not in a body.
pub(crate) fn deletion_in_query(error: stillpoint_control::Error) -> ApiError {
    let mut error = confirm_in_query(error);
    error.point_elsewhere("/delete_volumes", "?delete_volumes");
    error
}
