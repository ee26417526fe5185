//! A name works wherever an id does.

use serde::Serialize;
use stillpoint_model::name::Name;
use stillpoint_model::refusal::Refusal;
use uuid::Uuid;

/// How a request names a thing: by its id or by its name, inside the actor's own project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// By its id.
    Id(Uuid),
    /// By its name.
    Name(Name),
}

impl Reference {
    /// Reads a path segment or a field. Text that can be neither an id nor a name names nothing
    /// that exists: `not_found`, with `what` in the sentence.
    pub fn parse(text: &str, what: &str) -> Result<Self, Refusal> {
        if text.len() == 36
            && !text.bytes().any(|b| b.is_ascii_uppercase())
            && let Ok(id) = Uuid::try_parse(text)
        {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Name).map_err(|_| Refusal::not_found(what))
    }
}

macro_rules! from_ids {
    ($($id:ident),*) => {$(
        impl From<stillpoint_model::id::$id> for Reference {
            fn from(id: stillpoint_model::id::$id) -> Self {
                Self::Id(id.as_uuid())
            }
        }
    )*};
}

from_ids!(VolumeId, SnapshotId, BackupId, PoolId, OperationId);
