//! API tokens.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use stillpoint_control::token;
use stillpoint_model::id::TokenId;
use stillpoint_wire::Page;
use stillpoint_wire::token::{Token, TokenCreate, TokenCreated};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{IdempotencyKey, JsonBody, NoQuery, PageQuery, QueryOf, name};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(token_list, token_create))
        .routes(routes!(token_revoke))
}

/// Your API tokens, newest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageQuery),
    responses((status = 200, description = "A page of tokens", body = Page<Token>)))]
async fn token_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<Token>>> {
    let page = token::list(app.cx(), &actor, &query.list()?).await?;
    Ok(Json(reply::page(page, Token::from)))
}

/// Make an API token that acts as you. Its secret is in this answer alone.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenCreate,
    responses((status = 201, description = "The token and its secret", body = TokenCreated)))]
async fn token_create(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<TokenCreate>,
) -> Result<impl IntoResponse> {
    let name = name(&body.name, "/name")?;
    let (token, secret) = token::create(app.cx(), &actor, name, body.expires_at, key.get()).await?;
    let created = TokenCreated {
        token: token.into(),
        secret: secret.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Take an API token out of use at once.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path, description = "Id of the token")),
    responses((status = 204, description = "It works no more")))]
async fn token_revoke(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<StatusCode> {
    let id: TokenId = id.parse().map_err(|_| ApiError::not_found("token"))?;
    token::revoke(app.cx(), &actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
