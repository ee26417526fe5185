//! The description of the API, made from the handlers themselves.

use std::sync::LazyLock;

use axum::body::Bytes;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, Schema};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{ToSchema, openapi};

use stillpoint_wire::Problem;
use stillpoint_wire::header::{IDEMPOTENCY_KEY, SESSION_COOKIE};

use crate::api;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text.into()
});

/// The document as it is served.
pub(crate) fn document_json() -> Bytes {
    DOCUMENT.clone()
}

/// The document (OpenAPI 3.1): every route of the API, with what all of them share.
pub fn document() -> OpenApi {
    let mut document = api::routes().into_openapi();
    document.info = InfoBuilder::new()
        .title("Stillpoint")
        .version("v1")
        .description(Some(
            "Snapshots and backups of cloud volumes and virtual machines. Names work wherever \
             ids do. Errors are problem documents (RFC 9457) with a stable `code`.",
        ))
        .build();
    document.tags = Some(tags());
    add_problem(&mut document);
    add_security(&mut document);
    name_page_items(&mut document);
    let items = document.paths.paths.values_mut();
    let operations = items.flat_map(|item| {
        let with_key = |operation, takes_key| (operation, takes_key);
        [
            item.get.as_mut().map(|o| with_key(o, false)),
            item.post.as_mut().map(|o| with_key(o, true)),
            item.put.as_mut().map(|o| with_key(o, false)),
            item.patch.as_mut().map(|o| with_key(o, false)),
            item.delete.as_mut().map(|o| with_key(o, false)),
        ]
    });
    for (operation, is_post) in operations.flatten() {
        add_problem_response(operation);
        add_conditions(operation, is_post);
    }
    document
}

fn tags() -> Vec<openapi::Tag> {
    [
        ("volumes", "Block devices, and the uploads they are made of"),
        (
            "instances",
            "Virtual machines, and the flavors they are made of",
        ),
        (
            "images",
            "Templates that new volumes and instances start from",
        ),
        (
            "instance snapshots",
            "All volumes of an instance at one instant",
        ),
        ("snapshots", "Points in time on the volume's own storage"),
        ("backups", "Independent copies in a backup target"),
        ("restores", "Bringing snapshots and backups back"),
        ("operations", "Accepted requests that take time"),
        ("events", "What changed, live"),
        ("sessions", "Who acts"),
        ("tokens", "Credentials for programs"),
        ("administration", "What operators see"),
        ("server", "The server itself"),
    ]
    .into_iter()
    .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())
    .collect()
}

fn add_problem(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

fn add_security(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE));
    components.add_security_scheme("token", bearer);
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    let nothing: [&str; 0] = [];
    document.security = Some(vec![
        SecurityRequirement::new("token", nothing),
        SecurityRequirement::new("session", nothing),
    ]);
}

/// A page refers to the schema of its items instead of spelling it out once more.
fn name_page_items(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, schema) in &mut components.schemas {
        let (Some(item), RefOr::T(Schema::Object(page))) = (name.strip_prefix("Page_"), schema)
        else {
            continue;
        };
        let items = ArrayBuilder::new()
            .items(Ref::from_schema_name(item))
            .build();
        page.properties
            .insert("items".to_owned(), RefOr::T(Schema::Array(items)));
    }
}

/// Whatever goes wrong, it is told in one shape.
fn add_problem_response(operation: &mut Operation) {
    let schema = RefOr::Ref(Ref::from_schema_name(Problem::name()));
    let response: Response = ResponseBuilder::new()
        .description("Why not, and what can be done")
        .content("application/problem+json", Content::new(Some(schema)))
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), RefOr::T(response));
}

/// The headers that [`crate::input`] reads: a key on every POST but the sign-in, which
/// is what needs no credential; a version on everything else that takes `dry_run`.
fn add_conditions(operation: &mut Operation, is_post: bool) {
    let takes_key = is_post && operation.security.is_none();
    let parameters = operation.parameters.get_or_insert_default();
    if takes_key {
        let text = "Makes it safe to send this again: the same key is the same request";
        parameters.push(header(IDEMPOTENCY_KEY, text));
    }
    let is_change = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.name == "dry_run");
    if !is_post && parameters.iter().any(is_change) {
        let text = "Only while it has this version: a quoted `ETag`";
        parameters.push(header("if-match", text));
    }
}

fn header(name: &str, text: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(text))
        .schema(Some(String::schema()))
        .build();
    RefOr::T(parameter)
}
