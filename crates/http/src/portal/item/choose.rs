//! Snapshots and backups to choose from, in a form's list.

use stillpoint_control::item::ItemQuery;
use stillpoint_control::restore::RestorePointRef;
use stillpoint_control::{ListQuery, Reference, backup, snapshot};
use stillpoint_model::guard::Action;
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::Item;
use crate::portal::error::Failure;
use crate::portal::session::Viewer;
use crate::portal::{text, ui};
use crate::state::App;

/// The account's snapshots, then its backups, that this may be done with now.
pub(in crate::portal) async fn usable(
    app: &App,
    viewer: &Viewer,
    action: Action,
) -> Result<Vec<Item>, Failure> {
    let query = ItemQuery {
        page: ListQuery {
            cursor: None,
            limit: ListQuery::MAX,
        },
        volume: None,
    };
    let (cx, actor) = (app.cx(), &viewer.actor);
    let sorry = |error| viewer.sorry(&error);
    let snapshots = snapshot::list(cx, actor, &query).await.map_err(sorry)?;
    let backups = backup::list(cx, actor, &query).await.map_err(sorry)?;
    let snapshots = snapshots.items.into_iter().map(Item::from);
    let all = snapshots.chain(backups.items.into_iter().map(Item::from));
    let usable = |item: &Item| ui::answer(&item.permissions, action).is_ok();
    Ok(all.filter(usable).collect())
}

/// What one is called in a list, and its value there: `snapshot:ID` or `backup:ID`.
pub(in crate::portal) fn option(item: &Item) -> (String, String) {
    let kind = item.id.kind();
    let text = format!(
        "{}, {kind} of {}, {}",
        item.name,
        item.volume_name,
        text::ago(item.now, item.created_at)
    );
    (item.choice(), text)
}

/// Reads the value of [`option`].
pub(in crate::portal) fn read(text: &str) -> Result<RestorePointRef, Refusal> {
    let unknown = || {
        let text = "Choose a snapshot or a backup.";
        Refusal::new(ProblemCode::InvalidRequest, text)
    };
    let (kind, item) = text.split_once(':').ok_or_else(unknown)?;
    let kind: ItemKind = kind.parse().map_err(|_| unknown())?;
    let item = Reference::parse(item, kind.as_str())?;
    Ok(RestorePointRef { kind, item })
}

/// What can be chosen, with what was: a list that lost it would choose another in silence.
pub(in crate::portal) fn keep_chosen(
    mut options: Vec<(String, String)>,
    chosen: &str,
) -> Vec<(String, String)> {
    if !chosen.is_empty() && !options.iter().any(|(value, _)| value == chosen) {
        options.insert(0, (chosen.to_owned(), "The one that was chosen".to_owned()));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_never_replaced_in_silence() {
        let options = vec![("a".to_owned(), "A".to_owned())];
        assert_eq!(keep_chosen(options.clone(), "a"), options);
        assert_eq!(keep_chosen(options.clone(), ""), options);
        assert_eq!(keep_chosen(options, "gone")[0].0, "gone");
    }
}
