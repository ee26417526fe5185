//! The console of a machine, whose guest may write without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use stillpoint_model::ByteCount;

use super::super::super::command::arguments;
use super::super::super::console::RING;
use super::{Accelerator, Say, Stage, running};
use crate::Hypervisor;

const MAX: ByteCount = ByteCount::new(1 << 20);

#[test]
fn qemu_itself_keeps_no_more_than_a_ring_of_it() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    let spec = player.folder.spec().unwrap();
    let words = arguments(
        &spec,
        &player.folder,
        &stage.config(),
        Accelerator::Tcg,
        None,
    );
    let console = words
        .iter()
        .find(|word| word.contains("id=console"))
        .unwrap();
    assert_eq!(*console, format!("ringbuf,id=console,size={RING}"));
    assert!(RING.is_power_of_two());
    assert!(!words.iter().any(|word| word.contains("logfile")));
}

#[test]
fn what_the_guest_wrote_is_there_when_its_machine_is_gone() {
    let stage = Stage::new();
    let mut player = stage.cast(&[]);
    let mut parts = ["\u{fffd} is", " up\0\n"].into_iter();
    player.qmp(move |command, arguments| match command {
        "ringbuf-read" => {
            assert_eq!(arguments["device"], "console");
            Say::Return(json!(STANDARD.encode(parts.next().unwrap_or_default())))
        }
        _ => running(command, &[]),
    });
    let driver = stage.open();
    assert_eq!(
        driver.console(player.id, MAX).unwrap(),
        "\u{fffd} is".as_bytes()
    );
    driver.inspect(player.id).unwrap();
    player.end();
    let console = driver.console(player.id, MAX).unwrap();
    assert_eq!(console, "\u{fffd} is up\0\n".as_bytes());
    assert_eq!(
        driver.console(player.id, ByteCount::new(3)).unwrap(),
        b"p\0\n"
    );
}

#[test]
fn a_guest_that_writes_without_end_fills_no_file() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    let full = STANDARD.encode(vec![b'x'; usize::try_from(RING).unwrap()]);
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    player.qmp(move |command, _| match command {
        "ringbuf-read" if over.load(Ordering::SeqCst) => Say::Return(json!(STANDARD.encode("end"))),
        "ringbuf-read" => Say::Return(json!(full)),
        _ => running(command, &[]),
    });
    let driver = stage.open();
    for _ in 0..40 {
        driver.console(player.id, MAX).unwrap();
        let len = player.folder.file("console").metadata().unwrap().len();
        assert!(len <= 4 << 20, "{len} bytes");
    }
    is_over.store(true, Ordering::SeqCst);
    let end = driver.console(player.id, ByteCount::new(4)).unwrap();
    assert_eq!(end, b"xend");
}
