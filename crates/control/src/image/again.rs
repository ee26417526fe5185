//! Images once more, on an administrator's word.

use stillpoint_model::operation::Operation;
use stillpoint_model::saga::{ImageContent, Order};
use stillpoint_store::image::{image_by_id, image_delete};

use super::{
    Accepted, Desk, Image, ImageCreate, ImageId, ImageSource, ItemState, ProblemCode, Refusal,
    Request, Result, admit_create, admit_delete,
};
use crate::item::ItemCreate;
use crate::operation::{not_failed, point};

/// Makes an image again that could not be made, or deletes it again.
pub(crate) async fn again(
    mut desk: Desk<'_>,
    operation: &Operation,
    order: Order,
) -> Result<Accepted> {
    let id = operation
        .image_id
        .ok_or_else(|| Refusal::not_found("image"))?;
    let whole = operation.instance_snapshot_id;
    let source = match order.request {
        Request::ImageCreate {
            content: ImageContent::RestorePoint { source },
        } => match whole {
            Some(whole) => ImageSource::InstanceSnapshot(whole.into()),
            None => ImageSource::RestorePoint(point(source)),
        },
        Request::ImageCreate { .. } => {
            let text = "What was uploaded is not kept. Upload it again.";
            return Err(Refusal::new(ProblemCode::NotEligible, text).into());
        }
        _ => {
            let name = operation.image_name.clone().map(String::from);
            return admit_delete(desk, id.into(), name).await;
        }
    };
    let row = make_way(&mut desk, id).await?;
    let item = ItemCreate {
        name: Some(row.name),
        description: row.description,
        labels: row.labels,
    };
    let pool = Some(row.pool_id.into());
    admit_create(desk, ImageCreate { item, source, pool }).await
}

/// Removes the row of an image that could not be made.
pub(crate) async fn make_way(desk: &mut Desk<'_>, id: ImageId) -> Result<Image> {
    let row = image_by_id(desk.tx, id).await?;
    let row = row.ok_or_else(|| Refusal::not_found("image"))?;
    if row.state != ItemState::Failed || row.layer.is_some() {
        return Err(not_failed(row.state));
    }
    image_delete(desk.tx, id).await?;
    Ok(row)
}
