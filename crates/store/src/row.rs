//! Between rows and the model's types.

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;
use stillpoint_model::id::{
    AccountId, BackupId, ImageId, InstanceId, InstanceSnapshotId, LayerId, NodeId, OperationId,
    PlanId, PoolId, ProjectId, RegionId, RequestId, SessionId, SnapshotId, TargetId, TokenId,
    UserId, VaultId, VolumeId,
};
use stillpoint_model::item::ItemSizes;
use stillpoint_model::name::Name;
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

use crate::error::{Error, Result};

/// A statement with its arguments bound, in the order of `$1`, `$2`, ...
macro_rules! sql {
    ($sql:expr $(, $argument:expr)* $(,)?) => {
        sqlx::query::<sqlx::Any>($sql)$(.bind($crate::row::Value::value($argument)))*
    };
}

pub(crate) use sql;

/// Something that travels as an i64 or as text.
pub(crate) trait Value {
    /// What travels.
    type Sql;
    /// As it travels.
    fn value(self) -> Self::Sql;
}

impl<T: Value> Value for Option<T> {
    type Sql = Option<T::Sql>;

    fn value(self) -> Self::Sql {
        self.map(Value::value)
    }
}

impl Value for i64 {
    type Sql = Self;

    fn value(self) -> Self {
        self
    }
}

impl Value for String {
    type Sql = Self;

    fn value(self) -> Self {
        self
    }
}

macro_rules! values {
    ($sql:ty: $($type:ty => |$value:ident| $as:expr),* $(,)?) => {$(
        impl Value for $type {
            type Sql = $sql;

            fn value(self) -> $sql {
                let $value = self;
                $as
            }
        }
    )*};
}

values! { i64:
    bool => |b| i64::from(b),
    u32 => |n| i64::from(n),
    Timestamp => |t| t.as_micros(),
    // More bytes than i64 counts is a size that nobody has.
    ByteCount => |n| i64::try_from(n.get()).unwrap_or(i64::MAX),
}

values! { String:
    &str => |text| text.to_owned(),
    &String => |text| text.clone(),
    &Name => |name| name.as_str().to_owned(),
    Uuid => |id| id.to_string(),
    AccountId => |id| id.to_string(),
    BackupId => |id| id.to_string(),
    ImageId => |id| id.to_string(),
    InstanceId => |id| id.to_string(),
    InstanceSnapshotId => |id| id.to_string(),
    LayerId => |id| id.to_string(),
    NodeId => |id| id.to_string(),
    OperationId => |id| id.to_string(),
    PlanId => |id| id.to_string(),
    PoolId => |id| id.to_string(),
    ProjectId => |id| id.to_string(),
    RegionId => |id| id.to_string(),
    RequestId => |id| id.to_string(),
    SessionId => |id| id.to_string(),
    SnapshotId => |id| id.to_string(),
    TargetId => |id| id.to_string(),
    TokenId => |id| id.to_string(),
    UserId => |id| id.to_string(),
    VaultId => |id| id.to_string(),
    VolumeId => |id| id.to_string(),
}

/// A value as JSON text.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Reads the columns of a row one after the other.
pub(crate) struct Columns<'r> {
    table: &'static str,
    row: &'r AnyRow,
    next: usize,
}

impl<'r> Columns<'r> {
    /// From the first column on.
    pub(crate) const fn of(table: &'static str, row: &'r AnyRow) -> Self {
        Self {
            table,
            row,
            next: 0,
        }
    }

    pub(crate) fn corrupt(&self, value: &str) -> Error {
        let value = value.chars().take(80).collect();
        Error::Corrupt {
            table: self.table,
            column: self.next,
            value,
        }
    }

    /// Leaves columns out.
    pub(crate) const fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn integer(&mut self) -> Result<i64> {
        let at = self.step();
        Ok(self.row.try_get(at)?)
    }

    pub(crate) fn optional_integer(&mut self) -> Result<Option<i64>> {
        let at = self.step();
        Ok(self.row.try_get(at)?)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let at = self.step();
        Ok(self.row.try_get(at)?)
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>> {
        let at = self.step();
        Ok(self.row.try_get(at)?)
    }

    /// An id, a name or a word.
    pub(crate) fn parse<T: FromStr>(&mut self) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| self.corrupt(&text))
    }

    /// An id, a name or a word, or nothing.
    pub(crate) fn optional<T: FromStr>(&mut self) -> Result<Option<T>> {
        let Some(text) = self.optional_text()? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| self.corrupt(&text))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|_| self.corrupt(&text))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(text) = self.optional_text()? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|_| self.corrupt(&text))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        self.integer().map(Timestamp::from_micros)
    }

    pub(crate) fn optional_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.optional_integer()?.map(Timestamp::from_micros))
    }

    pub(crate) fn bytes(&mut self) -> Result<ByteCount> {
        let n = self.integer()?;
        u64::try_from(n)
            .map(ByteCount::new)
            .map_err(|_| self.corrupt(&n.to_string()))
    }

    pub(crate) fn optional_bytes(&mut self) -> Result<Option<ByteCount>> {
        let Some(n) = self.optional_integer()? else {
            return Ok(None);
        };
        let bytes = u64::try_from(n).map_err(|_| self.corrupt(&n.to_string()))?;
        Ok(Some(ByteCount::new(bytes)))
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        Ok(self.integer()? != 0)
    }

    pub(crate) fn optional_count(&mut self) -> Result<Option<u32>> {
        let Some(n) = self.optional_integer()? else {
            return Ok(None);
        };
        let count = u32::try_from(n).map_err(|_| self.corrupt(&n.to_string()))?;
        Ok(Some(count))
    }

    pub(crate) fn count(&mut self) -> Result<u32> {
        let n = self.integer()?;
        u32::try_from(n).map_err(|_| self.corrupt(&n.to_string()))
    }
}

/// The five sizes of an item.
pub(crate) fn sizes(columns: &mut Columns<'_>) -> Result<ItemSizes> {
    Ok(ItemSizes {
        provisioned: columns.bytes()?,
        used: columns.bytes()?,
        changed: columns.bytes()?,
        stored: columns.bytes()?,
        freed_if_deleted: columns.bytes()?,
    })
}
