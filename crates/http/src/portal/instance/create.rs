//! The dialog that makes an instance: of which flavor, what it boots from, what else it has.
//!
//! Its root starts as an image, is a volume that exists, a copy of a snapshot or a backup, or an empty
//! disk; the ways that are not possible now say so. Data volumes are such that exist, and a few empty ones; more
//! are attached later. What is refused about a volume stands beside the field it came from.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use stillpoint_control::image::{self, ImageQuery, ImageView};
use stillpoint_control::instance::{self, DiskRequest, InstanceCreate, InstanceOptions};
use stillpoint_control::volume::VolumeView;
use stillpoint_control::{Answer as Outcome, ListQuery, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::id::VolumeId;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::volume::VolumeRole;

use super::attach::{attachable, volume_option};
use crate::portal::error::{Failure, refusal};
use crate::portal::item::{self, Item};
use crate::portal::layout::{Nav, Page};
use crate::portal::paths;
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

/// New data volumes that the dialog has fields for.
const NEW_DISKS: [u32; 3] = [1, 2, 3];

pub(super) fn routes() -> Router<App> {
    Router::new().route("/instances/new", get(open).post(post))
}

/// What may be chosen for a new instance.
pub(super) async fn options(app: &App, viewer: &Viewer) -> Result<InstanceOptions, Failure> {
    instance::options(app.cx(), &viewer.actor)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// What a link to the dialog chose: an image by its id, or `snapshot:ID` or `backup:ID`.
#[derive(Deserialize)]
struct Wanted {
    image: Option<String>,
    source: Option<String>,
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let choices = Choices::load(&app, &viewer).await?;
    let fields = Fields::default()
        .with("root-size", "20")
        .with("start", "on");
    let fields = match (wanted.image, wanted.source) {
        (Some(image), _) => fields.with("root", "image").with("root-image", image),
        (None, Some(source)) => fields.with("root", "source").with("root-source", source),
        (None, None) => fields,
    };
    let page = Page::new(&viewer, Nav::Instances, "New Instance");
    let sheet = choices.sheet(&viewer, &fields, None);
    Ok((StatusCode::OK, page.render_dialog(&sheet)).into_response())
}

async fn post(
    State(app): State<App>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let choices = Choices::load(&app, &viewer).await?;
    let outcome = async {
        let (request, data) = choices.read(&fields)?;
        let change = Viewer::change(&fields);
        let outcome = instance::create(app.cx(), &viewer.actor, request, &change).await;
        let root = fields.get("root");
        outcome.map_err(|error| at_field(refusal(&error), root, &data))
    };
    let outcome = outcome.await.map(|outcome| made(&outcome));
    let page = Page::new(&viewer, Nav::Instances, "New Instance");
    Ok(page.settle(outcome, |refusal| {
        choices.sheet(&viewer, &fields, Some(refusal))
    }))
}

/// The page of the instance that is being made.
fn made(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(operation) => operation
            .instance_id
            .map_or_else(|| "/instances".to_owned(), paths::instance),
        Outcome::Preview(_) => "/instances".to_owned(),
    }
}

/// A refusal that points at the field which the dialog has for what is wrong. `root` is the way to a
/// root that was chosen; `data` has the fields' prefix for each data volume of the request.
fn at_field(refusal: Refusal, root: &str, data: &[String]) -> Refusal {
    let Some(pointer) = refusal.pointer.clone() else {
        return refusal;
    };
    let disk = match pointer.strip_prefix("/data/") {
        Some(below) => below
            .split_once('/')
            .and_then(|(n, part)| Some((data.get(n.parse::<usize>().ok()?)?.as_str(), part))),
        None => pointer.strip_prefix("/root/").map(|part| ("root", part)),
    };
    match disk {
        Some(("root", "size_bytes")) if root == "image" => refusal.at("/root-image-size"),
        Some((prefix, "size_bytes")) => refusal.at(format!("/{prefix}-size")),
        Some((prefix, "name")) => refusal.at(format!("/{prefix}-name")),
        _ => refusal,
    }
}

/// The box of a volume that exists.
fn data_field(id: VolumeId) -> String {
    format!("data-{id}")
}

/// The fields of a new data volume begin so.
fn new_field(n: u32) -> String {
    format!("new-{n}")
}

/// What may be chosen for a new instance, all of the account's.
struct Choices {
    options: InstanceOptions,
    images: Vec<ImageView>,
    volumes: Vec<VolumeView>,
    points: Vec<Item>,
}

impl Choices {
    async fn load(app: &App, viewer: &Viewer) -> Result<Self, Failure> {
        let query = ImageQuery {
            page: ListQuery {
                cursor: None,
                limit: ListQuery::MAX,
            },
        };
        let images = image::list(app.cx(), &viewer.actor, &query).await;
        let images = images.map_err(|error| viewer.sorry(&error))?.items;
        let usable =
            |view: &ImageView| ui::answer(&view.permissions, Action::InstanceCreate).is_ok();
        Ok(Self {
            options: options(app, viewer).await?,
            images: images.into_iter().filter(usable).collect(),
            volumes: attachable(app, viewer).await?,
            points: item::usable(app, viewer, Action::RestoreNew).await?,
        })
    }

    /// The request, and the fields' prefix for each of its data volumes.
    fn read(&self, fields: &Fields) -> Result<(InstanceCreate, Vec<String>), Refusal> {
        let (mut data, mut prefixes) = (Vec::new(), Vec::new());
        for view in &self.volumes {
            let (id, field) = (view.volume.id, data_field(view.volume.id));
            if fields.is_checked(&field) {
                data.push(DiskRequest::Volume(id.into()));
                prefixes.push(field);
            }
        }
        for prefix in NEW_DISKS.map(new_field) {
            if let Some(disk) = read_new(fields, &prefix)? {
                data.push(disk);
                prefixes.push(prefix);
            }
        }
        let pool = fields.optional("pool");
        let request = InstanceCreate {
            name: fields.optional_name("name")?,
            flavor: fields.optional_name("flavor")?,
            pool: pool.map(|p| Reference::parse(p, "pool")).transpose()?,
            root: read_root(fields)?,
            data,
            start: fields.is_checked("start"),
        };
        Ok((request, prefixes))
    }

    fn sheet(&self, viewer: &Viewer, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let answer = ui::answer(&self.options.permissions, Action::InstanceCreate);
        let sheet = Sheet {
            viewer,
            title: "New Instance",
            lead: html! { "A virtual machine that runs from its volumes." },
            action: "/instances/new".to_owned(),
            back: "/instances".to_owned(),
            submit: Submit {
                answer: Some(&answer),
                ..Submit::new("Create Instance")
            },
            error,
            item: None,
            upload: false,
        };
        let flavors = self.options.flavors.iter();
        let flavors: Vec<_> = flavors
            .map(|f| {
                let text = format!("{}: {}", f.name, super::machine(f));
                (f.name.to_string(), text)
            })
            .collect();
        sheet.render(&html! {
            (ui::text_field("name", "Name", fields, error).optional().focused()
                .hint("Its guest's host name is made of it. Left empty, a name is made from the time."))
            (ui::select("flavor", "Flavor", &flavors, fields))
            (self.root_fields(fields, error))
            (self.data_fields(fields, error))
            (self.place_fields(fields, error))
            (ui::checkbox("start", "Start it when it is made", fields))
            (ui::warnings(&answer))
        })
    }

    fn root_fields(&self, fields: &Fields, error: Option<&Refusal>) -> Markup {
        // What was made to be booted from stands first; the sort keeps the order otherwise.
        let mut volumes: Vec<_> = self.volumes.iter().map(|v| &v.volume).collect();
        volumes.sort_by_key(|volume| volume.role != VolumeRole::Root);
        let volumes: Vec<_> = volumes.into_iter().map(volume_option).collect();
        let points: Vec<_> = self.points.iter().map(item::option).collect();
        let images: Vec<_> = self.images.iter().map(image_option).collect();
        let chosen = self.root(fields);
        let images = item::keep_chosen(images, fields.get("root-image"));
        let existing = item::keep_chosen(volumes, fields.get("root-volume"));
        let sources = item::keep_chosen(points, fields.get("root-source"));
        html! {
            fieldset.field {
                legend { "It boots from" }
                div.choices {
                    (Way { value: "image", title: "An image", lead: "A new volume that starts as the image at once.",
                        nothing: images.is_empty().then_some(html! {
                            "There is no image yet that could be booted from. " a href="/images" { "Go to images" } "."
                        }),
                    }.render(chosen, &html! {
                        (ui::select("root-image", "Image", &images, fields))
                        (ui::size_field("root-image-size", "Size, when larger than the image (optional)", fields, error))
                    }))
                    (Way { value: "volume", title: "A volume of yours", lead: "One with an installed system, attached to nothing.",
                        nothing: existing.is_empty().then_some(html! {
                            "No volume of yours is free. " a href="/volumes/import" { "Import an image" } " first."
                        }),
                    }.render(chosen, &ui::select("root-volume", "Volume", &existing, fields)))
                    (Way { value: "source", title: "A copy of a snapshot or a backup", lead: "A new volume that starts as it was then; the source stays as it is.",
                        nothing: sources.is_empty().then_some(html! {
                            "There is no snapshot or backup yet that could be copied. " a href="/volumes" { "Go to volumes" } "."
                        }),
                    }.render(chosen, &html! {
                        (ui::select("root-source", "Snapshot or backup", &sources, fields))
                        (ui::checkbox("root-instant", "Of a backup: start at once, and fill the volume while it runs", fields))
                    }))
                    (Way { value: "empty", title: "An empty disk", lead: "A new volume with nothing on it.", nothing: None,
                    }.render(chosen, &ui::size_field("root-size", "Size of the root volume", fields, error)))
                }
            }
        }
    }

    /// Which root is chosen: what was asked for, or the first that is possible.
    fn root<'f>(&self, fields: &'f Fields) -> &'f str {
        match fields.get("root") {
            "" if !self.images.is_empty() => "image",
            "" if !self.volumes.is_empty() => "volume",
            "" if !self.points.is_empty() => "source",
            "" => "empty",
            asked => asked,
        }
    }

    fn data_fields(&self, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let checked = |v: &VolumeView| fields.is_checked(&data_field(v.volume.id));
        let begins = |n| fields.optional(&format!("{}-size", new_field(n))).is_some();
        let open = self.volumes.iter().any(checked) || NEW_DISKS.into_iter().any(begins);
        html! {
            details.advanced open[open] {
                summary { "Data volumes" }
                div.fields {
                    @if !self.volumes.is_empty() {
                        fieldset.field {
                            legend { "Volumes of yours" }
                            div.choices {
                                @for view in &self.volumes {
                                    @let (_, label) = volume_option(&view.volume);
                                    (ui::checkbox(&data_field(view.volume.id), &label, fields))
                                }
                            }
                        }
                    }
                    p.small.muted { "Empty ones that are made with it; without a size none is made. More can be attached later." }
                    @for n in NEW_DISKS {
                        @let (size, name) = (format!("{}-size", new_field(n)), format!("{}-name", new_field(n)));
                        (ui::size_field(&size, &format!("Size of data volume {n}"), fields, error))
                        (ui::text_field(&name, &format!("Name of data volume {n}"), fields, error).optional())
                    }
                }
            }
        }
    }

    fn place_fields(&self, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let mut pools = vec![(String::new(), "As its root volume".to_owned())];
        let all = self.options.pools.iter();
        pools.extend(all.map(|pool| (pool.id.to_string(), pool.name.to_string())));
        let open = ["root-name", "pool"]
            .iter()
            .any(|f| fields.optional(f).is_some());
        html! {
            details.advanced open[open] {
                summary { "More" }
                div.fields {
                    (ui::text_field("root-name", "Name of a new root volume", fields, error).optional()
                        .hint("Left empty, it is made from the instance's name."))
                    // One place, and one choice more than places: nothing to ask.
                    @if pools.len() > 2 { (ui::select("pool", "Pool", &pools, fields)) }
                }
            }
        }
    }
}

/// A way to a root volume: possible, or not with the reason.
struct Way {
    value: &'static str,
    title: &'static str,
    lead: &'static str,
    nothing: Option<Markup>,
}

impl Way {
    fn render(&self, chosen: &str, more: &Markup) -> Markup {
        let (value, reason_id) = (self.value, format!("root-{}-reason", self.value));
        html! {
            div.choice.blocked[self.nothing.is_some()] {
                label {
                    input type="radio" name="root" value=(value) checked[chosen == value]
                        disabled[self.nothing.is_some()]
                        aria-describedby=[self.nothing.is_some().then_some(&reason_id)];
                    b { (self.title) } span { (self.lead) }
                }
                @match &self.nothing {
                    Some(reason) => p #(reason_id) .reason { (reason) },
                    None => div.more { (more) },
                }
            }
        }
    }
}

/// What an image is called in a list to choose from.
fn image_option(view: &ImageView) -> (String, String) {
    let image = &view.image;
    let text = format!("{}, {}", image.name, image.size);
    (image.id.to_string(), text)
}

fn read_root(fields: &Fields) -> Result<DiskRequest, Refusal> {
    let invalid = |text: &str| Refusal::new(ProblemCode::InvalidRequest, text);
    match fields.get("root") {
        "image" => Ok(DiskRequest::Image {
            name: fields.optional_name("root-name")?,
            image: Reference::parse(fields.get("root-image"), "image")?,
            size: match fields.optional("root-image-size") {
                Some(_) => Some(ui::read_size(fields, "root-image-size")?),
                None => None,
            },
        }),
        "volume" => {
            let volume = Reference::parse(fields.get("root-volume"), "volume")?;
            Ok(DiskRequest::Volume(volume))
        }
        "source" => Ok(DiskRequest::RestorePoint {
            name: fields.optional_name("root-name")?,
            source: item::read(fields.get("root-source"))?,
            instant: fields.is_checked("root-instant"),
        }),
        "empty" => Ok(DiskRequest::Empty {
            name: fields.optional_name("root-name")?,
            size: ui::read_size(fields, "root-size")?,
        }),
        _ => Err(invalid("Choose what it boots from.")),
    }
}

/// The new data volume whose fields begin with `prefix`; none when it has no size.
fn read_new(fields: &Fields, prefix: &str) -> Result<Option<DiskRequest>, Refusal> {
    let (size, name) = (format!("{prefix}-size"), format!("{prefix}-name"));
    if fields.optional(&size).is_none() {
        if fields.optional(&name).is_none() {
            return Ok(None);
        }
        let text = "Say how large this volume is, or leave its name empty, too.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text).at(format!("/{size}")));
    }
    Ok(Some(DiskRequest::Empty {
        name: fields.optional_name(&name)?,
        size: ui::read_size(fields, &size)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(asked: &str) -> Option<String> {
        let data = [
            data_field(VolumeId::from_uuid(uuid::Uuid::nil())),
            new_field(2),
        ];
        let refusal = Refusal::new(ProblemCode::InvalidRequest, "No.").at(asked);
        at_field(refusal, "empty", &data).pointer
    }

    #[test]
    fn what_is_wrong_with_a_volume_stands_beside_its_field() {
        for (asked, shown) in [
            ("/root/size_bytes", "/root-size"),
            ("/root/name", "/root-name"),
            ("/data/1/size_bytes", "/new-2-size"),
            ("/data/1/name", "/new-2-name"),
            ("/name", "/name"),
            ("/data", "/data"),
            ("/data/7/name", "/data/7/name"),
            ("/data/x", "/data/x"),
        ] {
            assert_eq!(pointer(asked).as_deref(), Some(shown));
        }
    }

    #[test]
    fn a_data_volume_is_made_when_it_has_a_size() {
        let read = |pairs: &[(&str, &str)]| {
            let fields = pairs
                .iter()
                .fold(Fields::default(), |fields, (k, v)| fields.with(k, *v));
            read_new(&fields, "new-1")
        };
        assert_eq!(read(&[]), Ok(None));
        assert!(matches!(read(&[("new-1-size", "2")]), Ok(Some(_))));
        let refusal = read(&[("new-1-name", "logs")]).unwrap_err();
        assert_eq!(refusal.pointer.as_deref(), Some("/new-1-size"));
    }
}
