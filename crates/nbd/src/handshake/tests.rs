use proptest::prelude::*;

use super::*;

const SIZE: u64 = 1 << 20;

/// What a client that says this hears, and what was agreed on.
fn said(bytes: &[u8]) -> (Vec<u8>, io::Result<Option<Terms>>) {
    let mut heard = Vec::new();
    let agreed = talk(bytes, &mut heard, SIZE);
    (heard, agreed)
}

fn client() -> Message {
    Message::default().u32(u32::from(FIXED_NEWSTYLE | NO_ZEROES))
}

trait Asks {
    fn option(self, option: u32, data: &[u8]) -> Self;
}

impl Asks for Message {
    fn option(self, option: u32, data: &[u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap();
        self.u64(OPTION).u32(option).u32(len).bytes(data)
    }
}

/// The kinds of answers to options that were heard.
fn answers(heard: &[u8]) -> Vec<(u32, u32)> {
    let mut rest = &heard[18..];
    let mut answers = Vec::new();
    while !rest.is_empty() {
        assert_eq!(wire::u64(&mut rest).unwrap(), OPTION_REPLY);
        let (option, kind) = (wire::u32(&mut rest).unwrap(), wire::u32(&mut rest).unwrap());
        let len = usize::try_from(wire::u32(&mut rest).unwrap()).unwrap();
        rest = &rest[len..];
        answers.push((option, kind));
    }
    answers
}

/// An export's name, and nothing else.
fn named(name: &str) -> Message {
    let len = u32::try_from(name.len()).unwrap();
    Message::default().u32(len).bytes(name.as_bytes())
}

fn contexts(queries: &[&str]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).unwrap();
    let begun = named("").u32(count);
    let all = queries.iter();
    all.fold(begun, |message, query| message.bytes(&named(query).0))
        .0
}

#[test]
fn what_a_client_asks_for_is_agreed_on() {
    let asked = client()
        .option(option::STRUCTURED_REPLY, &[])
        .option(
            option::SET_META_CONTEXT,
            &contexts(&["qemu:dirty", "base:allocation"]),
        )
        .option(option::GO, &named("").u16(1).u16(info::BLOCK_SIZE).0);
    let (heard, agreed) = said(&asked.0);
    let both = Terms {
        structured: true,
        allocation: true,
    };
    assert_eq!(agreed.unwrap(), Some(both));
    let (set, go) = (option::SET_META_CONTEXT, option::GO);
    assert_eq!(
        answers(&heard),
        [
            (option::STRUCTURED_REPLY, reply::ACK),
            (set, reply::META_CONTEXT),
            (set, reply::ACK),
            (go, reply::INFO),
            (go, reply::INFO),
            (go, reply::ACK),
        ]
    );
}

#[test]
fn a_client_that_knows_little_is_served_all_the_same() {
    let old = Message::default().u32(u32::from(FIXED_NEWSTYLE));
    let (heard, agreed) = said(&old.option(option::EXPORT_NAME, b"").0);
    assert_eq!(agreed.unwrap(), Some(Terms::default()));
    assert_eq!(heard.len(), 18 + 8 + 2 + 124);
    assert_eq!(heard[18..26], SIZE.to_be_bytes());
}

#[test]
fn what_is_not_there_is_refused_and_the_client_may_go_on() {
    let asked = client()
        .option(5, b"tls")
        .option(option::GO, &named("other").u16(0).0)
        .option(option::GO, b"?")
        .option(option::SET_META_CONTEXT, &contexts(&["base:allocation"]))
        .option(option::LIST, &vec![0; 10_000])
        .option(option::ABORT, &[]);
    let (heard, agreed) = said(&asked.0);
    assert_eq!(agreed.unwrap(), None);
    assert_eq!(
        answers(&heard),
        [
            (5, reply::UNSUPPORTED),
            (option::GO, reply::UNKNOWN),
            (option::GO, reply::INVALID),
            // Not without structured replies.
            (option::SET_META_CONTEXT, reply::INVALID),
            (option::LIST, reply::TOO_BIG),
            (option::ABORT, reply::ACK),
        ]
    );
}

#[test]
fn a_client_that_only_asks_is_ended() {
    let asked = (0..=MAX_OPTIONS).fold(client(), |asked, _| asked.option(option::LIST, &[]));
    let (_, agreed) = said(&asked.0);
    assert_eq!(agreed.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn no_memory_is_taken_for_what_was_not_sent() {
    let endless = client().u64(OPTION).u32(option::GO).u32(u32::MAX);
    let (_, agreed) = said(&endless.0);
    assert_eq!(agreed.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(
        options in proptest::collection::vec(
            (0..12u32, proptest::collection::vec(any::<u8>(), 0..40)), 0..8,
        ),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let asked = options
            .iter()
            .fold(client(), |asked, (option, data)| asked.option(*option, data));
        let (heard, _) = said(&asked.bytes(&tail).0);
        prop_assert!(heard.len() >= 18);
    }
}
