//! Reading requests: bodies, queries, headers. Everything is checked before a handler sees it,
//! and what is wrong is pointed at.
//!
//! Pointers: `/field` into the JSON body (RFC 6901), `?name` for a query parameter, `Name:` for
//! a header.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as FieldPath, Segment};
use stillpoint_control::item::{ItemCreate, ItemUpdate};
use stillpoint_control::{Change, ListQuery, Reference};
use stillpoint_model::name::Name;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_wire::header::IDEMPOTENCY_KEY;
use stillpoint_wire::item::ItemPatch;

use crate::error::{ApiError, Result};

mod deletion;
#[cfg(test)]
mod tests;

pub(crate) use deletion::{InstanceDeleteOf, InstanceDeleteQuery, deletion_in_query};

/// The longest part of an explanation that may quote the request.
const MAX_QUOTE_CHARS: usize = 300;

/// The longest idempotency key.
const MAX_KEY_CHARS: usize = 200;

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            let text = "Send the body as `Content-Type: application/json`.";
            return Err(Refusal::new(ProblemCode::UnsupportedMediaType, text).into());
        }
        let bytes =
            Bytes::from_request(request, state)
                .await
                .map_err(|rejection| match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        ApiError::from_status(StatusCode::PAYLOAD_TOO_LARGE)
                    }
                    _ => ApiError::invalid("", "The body ended before it was whole."),
                })?;
        read_json(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads a whole JSON text, and points at what is wrong in it.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let text = error.inner().to_string();
        ApiError::invalid(pointer(error.path(), &text), explain(&text))
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::invalid("", explain(&error.to_string())))?;
    Ok(value)
}

/// The JSON pointer (RFC 6901) to what an error of serde is about. Serde reports a field that is
/// missing or stands twice at the object around it, and names it in the text alone.
fn pointer(path: &FieldPath, text: &str) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => push_key(&mut pointer, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start)?.split('`').next());
    if let Some(field) = named
        && !pointer.ends_with(&format!("/{field}"))
    {
        push_key(&mut pointer, field);
    }
    pointer.chars().take(MAX_QUOTE_CHARS).collect()
}

fn push_key(pointer: &mut String, key: &str) {
    pointer.push('/');
    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

/// An explanation that may quote the request: bounded, and without characters that deceive.
fn explain(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() || !is_plain(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    let mut quoted: String = text.chars().take(MAX_QUOTE_CHARS).map(harmless).collect();
    if text.chars().nth(MAX_QUOTE_CHARS).is_some() {
        quoted.push_str("...");
    }
    quoted
}

fn is_plain(c: char) -> bool {
    !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// The query, every parameter of which must be known and stand once.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query, and points at what is wrong in it.
fn read_query<T: DeserializeOwned>(query: &str) -> Result<T> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let text = error.inner().to_string();
        let field = pointer(error.path(), &text)
            .trim_start_matches('/')
            .to_owned();
        ApiError::invalid(format!("?{field}"), explain(&text))
    })
}

/// What may stand in the query of a request that changes something.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeQuery {
    /// Answer what would happen, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// An administrator's word that the cooldown does not matter now; it is audited.
    #[serde(default)]
    override_cooldown: bool,
}

/// What may stand in the query of a request that deletes something.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Answer what would happen, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// The name of what is to be deleted, typed, where the plan asks for that.
    #[serde(default)]
    confirm: Option<String>,
}

/// The query of a list without filters.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next_page` of the page before.
    pub(crate) page: Option<String>,
    /// How many items, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<u32>,
}

impl PageQuery {
    /// Which page it asks for.
    pub(crate) fn list(&self) -> Result<ListQuery> {
        list_query(self.page.as_deref(), self.limit)
    }
}

/// The query of a list of snapshots or backups.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemListQuery {
    /// `next_page` of the page before.
    page: Option<String>,
    /// How many items, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Only those of this volume, by id or name. One that is gone goes by its id.
    volume: Option<String>,
}

impl ItemListQuery {
    /// The page and the volume it asks for.
    pub(crate) fn parts(&self) -> Result<(ListQuery, Option<Reference>)> {
        let page = list_query(self.page.as_deref(), self.limit)?;
        let volume = optional_reference(self.volume.as_deref(), "volume", "?volume")?;
        Ok((page, volume))
    }
}

/// Which instance snapshots.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstanceItemListQuery {
    /// `next_page` of the page before.
    page: Option<String>,
    /// How many items, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Only those of this instance, by id or name. One that is gone goes by its id.
    instance: Option<String>,
}

impl InstanceItemListQuery {
    /// The page and the instance it asks for.
    pub(crate) fn parts(&self) -> Result<(ListQuery, Option<Reference>)> {
        let page = list_query(self.page.as_deref(), self.limit)?;
        let instance = optional_reference(self.instance.as_deref(), "instance", "?instance")?;
        Ok((page, instance))
    }
}

/// What a request says of a new snapshot or backup.
pub(crate) fn item_create(
    name: Option<&str>,
    description: Option<String>,
    labels: Option<BTreeMap<String, String>>,
) -> Result<ItemCreate> {
    Ok(ItemCreate {
        name: optional_name(name, "/name")?,
        description: description.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
    })
}

/// What a request edits on a snapshot or a backup.
pub(crate) fn item_update(patch: ItemPatch) -> Result<ItemUpdate> {
    let ItemPatch {
        name,
        description,
        labels,
        protected,
    } = patch;
    if name.is_none() && description.is_none() && labels.is_none() && protected.is_none() {
        return Err(ApiError::invalid("", "Nothing to change was given."));
    }
    let name = optional_name(name.as_deref(), "/name")?;
    Ok(ItemUpdate {
        name,
        description,
        labels,
        protected,
    })
}

/// Which page of a list: the parameters that every list takes.
pub(crate) fn list_query(page: Option<&str>, limit: Option<u32>) -> Result<ListQuery> {
    ListQuery::new(page, limit).map_err(|mut refusal| {
        refusal.pointer = refusal.pointer.map(|pointer| match pointer.as_str() {
            "/cursor" => "?page".to_owned(),
            other => other.replace('/', "?"),
        });
        refusal.into()
    })
}

/// Something that a request names, by id or name.
pub(crate) fn reference(text: &str, what: &str) -> Result<Reference> {
    Ok(Reference::parse(text, what)?)
}

/// Something that a body names at `pointer`, by id or name.
pub(crate) fn reference_at(text: &str, what: &str, pointer: &str) -> Result<Reference> {
    Ok(Reference::parse(text, what).map_err(|refusal| refusal.at(pointer))?)
}

/// Something that a body names at `pointer`, by id or name, if it does.
pub(crate) fn optional_reference(
    text: Option<&str>,
    what: &str,
    pointer: &str,
) -> Result<Option<Reference>> {
    text.map(|text| reference_at(text, what, pointer))
        .transpose()
}

/// A refusal of a delete, whose confirmation is in the query and not in a body.
pub(crate) fn confirm_in_query(error: stillpoint_control::Error) -> ApiError {
    let mut error = ApiError::from(error);
    error.point_elsewhere("/confirm", "?confirm");
    error
}

/// The query of a request that takes no parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// The key that makes a repeated request the same request, on what takes no other condition.
pub(crate) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// The key, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(idempotency_key(&parts.headers)?))
    }
}

/// How a change is to be made: what its query and its headers say.
pub(crate) struct ChangeOf(pub(crate) Change);

impl<S: Send + Sync> FromRequestParts<S> for ChangeOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let QueryOf(query) = QueryOf::<ChangeQuery>::from_request_parts(parts, state).await?;
        Ok(Self(Change {
            dry_run: query.dry_run,
            override_cooldown: query.override_cooldown,
            ..conditions(&parts.headers)?
        }))
    }
}

/// How something is to be deleted, and its name, typed.
pub(crate) struct DeleteOf {
    pub(crate) change: Change,
    pub(crate) confirm: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for DeleteOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let QueryOf(query) = QueryOf::<DeleteQuery>::from_request_parts(parts, state).await?;
        let change = Change {
            dry_run: query.dry_run,
            ..conditions(&parts.headers)?
        };
        Ok(Self {
            change,
            confirm: query.confirm,
        })
    }
}

/// The conditions that the headers put on a change.
fn conditions(headers: &HeaderMap) -> Result<Change> {
    Ok(Change {
        idempotency_key: idempotency_key(headers)?,
        if_match: if_match(headers)?,
        ..Change::default()
    })
}

/// The value of a header that must not stand twice.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let wrong = |text: &str| ApiError::invalid(format!("{name}:"), text);
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(wrong("This header stands twice."));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| wrong("This header holds more than plain characters."))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(key) = single(headers, IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > MAX_KEY_CHARS {
        let text = format!("An idempotency key has 1 to {MAX_KEY_CHARS} characters.");
        return Err(ApiError::invalid(format!("{IDEMPOTENCY_KEY}:"), text));
    }
    Ok(Some(key.to_owned()))
}

fn if_match(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = single(headers, IF_MATCH.as_str())?.map(str::trim) else {
        return Ok(None);
    };
    if value == "*" {
        return Ok(None);
    }
    // Weak tags and tags that were never ours match nothing (RFC 9110, 13.1.1).
    let version = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    match version.and_then(|v| v.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => {
            let text = "It was changed since it was read, or this is none of its versions.";
            Err(Refusal::new(ProblemCode::PreconditionFailed, text).into())
        }
    }
}

/// A name out of a body.
pub(crate) fn name(text: &str, pointer: &str) -> Result<Name> {
    text.parse::<Name>().map_err(|error| {
        Refusal::new(ProblemCode::NameInvalid, error.to_string())
            .at(pointer)
            .or(WayOut::ChooseAnotherName)
            .into()
    })
}

/// A name that may be absent.
pub(crate) fn optional_name(text: Option<&str>, pointer: &str) -> Result<Option<Name>> {
    text.map(|text| name(text, pointer)).transpose()
}
