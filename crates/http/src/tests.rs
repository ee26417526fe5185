use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::Value;
use stillpoint_control::{Context, Settings};
use stillpoint_env::SystemEnv;
use stillpoint_store::{Db, Options};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::state::App;
use crate::{HttpSettings, guarded, serve};

/// Serves `routes` with everything around them, asks for `path`, and gives status, type and body.
async fn ask(routes: Router<App>, path: &str) -> (u16, String, Value) {
    let dir = tempfile::tempdir().unwrap();
    let env = Arc::new(SystemEnv::new());
    let plan = toml::from_str(include_str!("../../../presets/stillpoint.toml")).unwrap();
    let db = Db::open(&Options::new(dir.path().join("db")))
        .await
        .unwrap();
    let settings = Settings::new(plan);
    let cx = Context::open(db, Arc::<SystemEnv>::clone(&env), settings)
        .await
        .unwrap();
    let (closing, closed) = watch::channel(false);
    let mut settings = HttpSettings::new(env, dir.path().to_owned(), closed.clone());
    settings.request_timeout = Duration::from_millis(50);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(
        listener,
        guarded(routes, App::new(cx, settings)),
        closed,
    ));
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(response.headers().contains_key("x-request-id"));
    let body = response.json().await.unwrap_or_default();
    closing.send_replace(true);
    server.await.unwrap();
    (status, content_type, body)
}

#[tokio::test]
async fn whatever_goes_wrong_leaves_as_a_problem_document() {
    let routes = Router::new()
        .route("/panic", get(|| async { panic!("a bug") as &'static str }))
        .route("/never", get(std::future::pending::<&'static str>))
        .route(
            "/teapot",
            get(|| async { (StatusCode::IM_A_TEAPOT, "short and stout") }),
        )
        .route("/bare", get(|| async { StatusCode::BAD_GATEWAY }));
    for (path, status, code) in [
        ("/panic", 500, "internal"),
        ("/never", 500, "internal"),
        ("/teapot", 400, "invalid_request"),
        ("/bare", 500, "internal"),
    ] {
        let (answered, content_type, problem) = ask(routes.clone(), path).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(content_type, "application/problem+json", "{path}");
        assert_eq!(problem["code"], code, "{path}");
        assert!(!problem.to_string().contains("a bug"), "{path}: {problem}");
    }
}

#[tokio::test]
async fn a_page_tells_of_its_error_itself() {
    let page = || async {
        (
            StatusCode::NOT_FOUND,
            axum::response::Html("<p>Nothing here"),
        )
    };
    let routes = Router::new().route("/page", get(page));
    let (status, content_type, _) = ask(routes, "/page").await;
    assert_eq!(
        (status, content_type.as_str()),
        (404, "text/html; charset=utf-8")
    );
}
