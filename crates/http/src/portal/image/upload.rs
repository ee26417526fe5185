//! The dialog that makes an image of a disk of the browser's machine.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Multipart, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::Reference;
use stillpoint_control::image::{self, ImageCreate, ImageOptions, ImageSource};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::Refusal;

use super::create::made;
use super::options;
use crate::portal::error::{Failure, refusal};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Viewer, is_foreign, stale_form};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::portal::{snapshot, upload};
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    // The size of an upload is bounded where it is written.
    Router::new()
        .route("/images/upload", get(open).post(post))
        .layer(DefaultBodyLimit::disable())
}

async fn open(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    let page = Page::new(&viewer, Nav::Images, "Upload Image");
    let sheet = sheet(&app, &viewer, &options, &Fields::default(), None);
    Ok(page.render_dialog(&sheet).into_response())
}

async fn post(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    mut form: Multipart,
) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    if is_foreign(&headers) {
        return Err(viewer.fail(&stale_form()));
    }
    let (fields, disk) = upload::read(&mut form)
        .await
        .map_err(|refusal| viewer.fail(&refusal))?;
    viewer.check_csrf(fields.get("csrf_token"))?;
    let outcome = async {
        let item = snapshot::read(&fields)?;
        let pool = fields.optional("pool");
        let pool = pool.map(|p| Reference::parse(p, "pool")).transpose()?;
        // A cap that is reached is said before a disk is taken in for nothing.
        ui::answer(&options.permissions, Action::ImageCreate)?;
        let (upload, format) = upload::receive(&app, &viewer, &fields, disk).await?;
        let request = ImageCreate {
            item,
            source: ImageSource::Upload { upload, format },
            pool,
        };
        let change = Viewer::change(&fields);
        let made = image::create(app.cx(), &viewer.actor, request, &change).await;
        made.map_err(|error| refusal(&error))
    };
    let outcome = outcome.await.map(|outcome| made(&outcome));
    let page = Page::new(&viewer, Nav::Images, "Upload Image");
    Ok(page.settle(outcome, |refusal| {
        sheet(&app, &viewer, &options, &fields, Some(refusal))
    }))
}

fn sheet(
    app: &App,
    viewer: &Viewer,
    options: &ImageOptions,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let answer = ui::answer(&options.permissions, Action::ImageCreate);
    let sheet = Sheet {
        viewer,
        title: "Upload Image",
        lead: html! { "A template made of a disk on your machine, with an installed system on it." },
        action: "/images/upload".to_owned(),
        back: "/images".to_owned(),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Upload Image")
        },
        error,
        item: None,
        upload: true,
    };
    let pools = options.pools.iter();
    let pools: Vec<_> = pools
        .map(|pool| (pool.id.to_string(), pool.name.to_string()))
        .collect();
    sheet.render(&html! {
        (ui::text_field("name", "Name", fields, error).optional().focused()
            .hint("Unique among your images. Left empty, a name is made from the time."))
        (upload::format_field(fields))
        @if pools.len() > 1 { (ui::select("pool", "Pool", &pools, fields)) }
        (ui::description_and_labels(fields, error, false))
        (upload::file_field(app, error))
        (ui::cap_meter(options.images, options.max_images, "images"))
    })
}
