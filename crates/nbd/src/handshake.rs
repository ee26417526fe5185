//! The handshake: what client and server agree on before the first read.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::wire::{
    self, FIXED_NEWSTYLE, GREETING, Message, NO_ZEROES, OPTION, OPTION_REPLY, broken, export, info,
    option, reply,
};

/// How long a client may say nothing during the handshake, or take to hear an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest option that is read.
const MAX_OPTION: u32 = 4096;
/// So many options are enough for any client.
const MAX_OPTIONS: usize = 64;
/// The longest option that is passed over.
const MAX_PASSED_OVER: u32 = 1 << 20;
/// The kind of block status that there is.
const ALLOCATION: &[u8] = b"base:allocation";
/// Its number. Clients hear it with the kind.
pub const ALLOCATION_ID: u32 = 1;
/// The longest read.
pub const MAX_READ: u32 = 32 << 20;
/// What reads are best multiples of: a frame's chunk.
const GOOD_READ: u32 = 64 << 10;

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Answers are structured.
    pub structured: bool,
    /// Where the zeros are may be asked.
    pub allocation: bool,
}

/// What comes of an option.
enum Next {
    /// Another option.
    Option,
    /// Requests.
    Requests,
    /// Nothing: the client leaves.
    End,
}

/// Agrees with a client; none when it wanted to look only.
pub fn haggle(stream: &UnixStream, size: u64) -> io::Result<Option<Terms>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let agreed = talk(stream, stream, size)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(agreed)
}

fn talk(mut from: impl Read, mut to: impl Write, size: u64) -> io::Result<Option<Terms>> {
    let greeting = Message::default().u64(GREETING).u64(OPTION);
    to.write_all(&greeting.u16(FIXED_NEWSTYLE | NO_ZEROES).0)?;
    let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
    let flags = wire::u32(&mut from)?;
    if flags & !known != 0 || flags & u32::from(FIXED_NEWSTYLE) == 0 {
        return Err(broken("flags of another protocol"));
    }
    let zeros = flags & u32::from(NO_ZEROES) == 0;
    let mut haggling = Haggling {
        to: &mut to,
        size,
        zeros,
        terms: Terms::default(),
    };
    for _ in 0..MAX_OPTIONS {
        if wire::u64(&mut from)? != OPTION {
            return Err(broken("no option"));
        }
        let (option, len) = (wire::u32(&mut from)?, wire::u32(&mut from)?);
        match haggling.hear(&mut from, option, len)? {
            Next::Option => {}
            Next::Requests => return Ok(Some(haggling.terms)),
            Next::End => return Ok(None),
        }
    }
    Err(broken("it does not come to an end"))
}

/// A handshake under way.
struct Haggling<'a, W> {
    to: &'a mut W,
    size: u64,
    /// The client wants the zeros that the protocol once had after an export's name.
    zeros: bool,
    terms: Terms,
}

impl<W: Write> Haggling<'_, W> {
    fn hear(&mut self, from: &mut impl Read, option: u32, len: u32) -> io::Result<Next> {
        if len > MAX_OPTION {
            if len > MAX_PASSED_OVER || option == option::EXPORT_NAME {
                return Err(broken("an option without end"));
            }
            io::copy(&mut from.take(len.into()), &mut io::sink())?;
            return self.answer(option, reply::TOO_BIG, &[]);
        }
        let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
        from.read_exact(&mut data)?;
        match option {
            option::EXPORT_NAME => self.begin_the_old_way(&data),
            option::ABORT => {
                // It may be gone already.
                let _unheard = self.answer(option, reply::ACK, &[]);
                Ok(Next::End)
            }
            option::LIST if data.is_empty() => {
                self.answer(option, reply::SERVER, &0u32.to_be_bytes())?;
                self.answer(option, reply::ACK, &[])
            }
            option::INFO | option::GO => self.describe(option, &data),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.terms.structured = true;
                self.answer(option, reply::ACK, &[])
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, &data),
            option::LIST | option::STRUCTURED_REPLY => self.answer(option, reply::INVALID, &[]),
            _ => self.answer(option, reply::UNSUPPORTED, &[]),
        }
    }

    fn answer(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<Next> {
        let len = u32::try_from(data.len()).map_err(|_| broken("a long answer"))?;
        let message = Message::default().u64(OPTION_REPLY).u32(option).u32(kind);
        self.to.write_all(&message.u32(len).bytes(data).0)?;
        Ok(Next::Option)
    }

    fn flags(&self) -> u16 {
        let always = export::HAS_FLAGS | export::READ_ONLY | export::MULTI_CONN;
        match self.terms.structured {
            true => always | export::SEND_DF,
            false => always,
        }
    }

    /// The one export has no name, and answers to no other.
    fn begin_the_old_way(&mut self, name: &[u8]) -> io::Result<Next> {
        if !name.is_empty() {
            return Err(broken("there is no such export"));
        }
        let mut message = Message::default().u64(self.size).u16(self.flags());
        if self.zeros {
            message = message.bytes(&[0; 124]);
        }
        self.to.write_all(&message.0)?;
        Ok(Next::Requests)
    }

    fn describe(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let Some(name) = parse_info(data) else {
            return self.answer(option, reply::INVALID, &[]);
        };
        if !name.is_empty() {
            return self.answer(option, reply::UNKNOWN, &[]);
        }
        let about = Message::default().u16(info::EXPORT).u64(self.size);
        let about = about.u16(self.flags());
        self.answer(option, reply::INFO, &about.0)?;
        let sizes = Message::default().u16(info::BLOCK_SIZE);
        let sizes = sizes.u32(1).u32(GOOD_READ).u32(MAX_READ);
        self.answer(option, reply::INFO, &sizes.0)?;
        self.answer(option, reply::ACK, &[])?;
        Ok(match option {
            option::GO => Next::Requests,
            _ => Next::Option,
        })
    }

    fn contexts(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let is_set = option == option::SET_META_CONTEXT;
        if is_set {
            self.terms.allocation = false;
        }
        let parsed = parse_contexts(data).filter(|_| self.terms.structured);
        let Some((name, queries)) = parsed else {
            return self.answer(option, reply::INVALID, &[]);
        };
        if !name.is_empty() {
            return self.answer(option, reply::UNKNOWN, &[]);
        }
        // A list without a question, or of a whole namespace, asks for what there is.
        let is_listed = queries.is_empty() || queries.contains(&b"base:".as_slice());
        if queries.contains(&ALLOCATION) || (!is_set && is_listed) {
            self.terms.allocation |= is_set;
            let context = Message::default().u32(ALLOCATION_ID).bytes(ALLOCATION);
            self.answer(option, reply::META_CONTEXT, &context.0)?;
        }
        self.answer(option, reply::ACK, &[])
    }
}

/// A string with its length before it, and what follows.
fn parse_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

/// The export that is asked about. What else the client would like to know is read past.
fn parse_info(data: &[u8]) -> Option<&[u8]> {
    let (name, rest) = parse_string(data)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    (rest.len() == usize::from(u16::from_be_bytes(*count)) * 2).then_some(name)
}

/// An export, and the kinds of block status that are asked for.
fn parse_contexts(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let (name, rest) = parse_string(data)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut queries = Vec::new();
    // Each takes four bytes at least, so the data bounds them.
    for _ in 0..u32::from_be_bytes(*count) {
        let (query, after) = parse_string(rest)?;
        queries.push(query);
        rest = after;
    }
    rest.is_empty().then_some((name, queries))
}

#[cfg(test)]
mod tests;
