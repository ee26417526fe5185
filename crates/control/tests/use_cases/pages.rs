//! Pages, and the live stream.

use futures_util::StreamExt;
use std::time::Duration;

use stillpoint_control::event::{EventFilter, subscribe};
use stillpoint_control::volume::VolumeQuery;
use stillpoint_control::{Change, ListQuery, volume};
use stillpoint_model::event::EventKind;

use crate::lab::{Lab, accepted, plan};

#[tokio::test]
async fn pages_hold_each_item_once_while_others_are_added() {
    let mut plan = plan();
    plan.pacing.in_flight_per_account = 1_000;
    let lab = Lab::with(plan, true).await;
    let mut expected = Vec::new();
    for n in 0..40 {
        // Several of one age, so that the id decides.
        if n % 4 == 0 {
            lab.advance(Duration::from_micros(1)).await;
        }
        let text = format!("volume {n}");
        let change = Change::default();
        let operation = accepted(lab.ask_volume(&lab.tenant, &text, &change).await);
        expected.push(operation.volume_id.expect("a volume"));
    }
    let (mut seen, mut cursor, mut added) = (Vec::new(), None::<String>, 0);
    loop {
        let page = ListQuery::new(cursor.as_deref(), Some(7)).expect("a query");
        let query = VolumeQuery { page };
        let page = volume::list(&lab.cx, &lab.tenant, &query)
            .await
            .expect("a page");
        assert!(page.items.len() <= 7);
        seen.extend(page.items.iter().map(|view| view.volume.id));
        lab.advance(Duration::from_micros(1)).await;
        let text = format!("added {added}");
        accepted(lab.ask_volume(&lab.tenant, &text, &Change::default()).await);
        added += 1;
        let Some(next) = page.next else { break };
        cursor = Some(next.to_string());
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

#[test]
fn a_cursor_is_read_within_bounds() {
    let long = "A".repeat(100_000);
    for text in [
        "",
        "x",
        "..",
        &long,
        "================================",
        "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ",
    ] {
        assert!(ListQuery::new(Some(text), None).is_err(), "{text:.40}");
    }
    for limit in [0, 501, u32::MAX] {
        assert!(ListQuery::new(None, Some(limit)).is_err(), "{limit}");
    }
    assert!(ListQuery::new(Some(&"A".repeat(32)), Some(500)).is_ok());
}

#[tokio::test]
async fn the_stream_replays_then_goes_on_without_gap_or_double() {
    let lab = Lab::new().await;
    let first = lab.volume(&lab.tenant, "a").await;
    lab.volume(&lab.other, "theirs").await;
    let all = subscribe(&lab.cx, &lab.tenant, Some(0), EventFilter::default())
        .await
        .expect("a stream");
    let mut all = Box::pin(all);
    let later = subscribe(&lab.cx, &lab.tenant, None, EventFilter::default())
        .await
        .expect("a stream");
    let mut later = Box::pin(later);
    let second = lab.volume(&lab.tenant, "b").await;
    let (mut last, mut volumes) = (0, Vec::new());
    while !volumes.contains(&second) {
        let event = all.next().await.expect("an event");
        assert!(event.sequence > last);
        assert_eq!(event.account_id, lab.tenant.account_id);
        last = event.sequence;
        volumes.extend(event.volume_id);
    }
    assert!(volumes.contains(&first));
    let event = later.next().await.expect("an event");
    assert_eq!(
        (event.volume_id, event.kind),
        (Some(second), EventKind::Volume)
    );
}
