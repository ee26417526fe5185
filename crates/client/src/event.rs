//! Following the event stream.
//!
//! [`EventStream`] is one connection: it ends when the server or the network ends it, and knows
//! where to resume. A connection on which not even a heartbeat arrives is taken for dead.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use stillpoint_wire::event::Event;

use crate::error::{Error, Result};
use crate::request::Client;
use crate::sse::Parser;

/// Three of the server's heartbeats.
const SILENCE: Duration = Duration::from_secs(45);

/// One connection to the event stream.
pub struct EventStream {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    client: Client,
    parser: Parser,
    ready: VecDeque<Event>,
    last_id: Option<i64>,
}

impl Client {
    /// Opens the event stream: everything after event `since`, or from now on; of one volume, by
    /// id or name, or of all.
    pub async fn events(&self, since: Option<i64>, volume: Option<&str>) -> Result<EventStream> {
        let mut request = self
            .request(Method::GET, self.url(&["events"]))
            .query(&[("volume", volume)])
            .header(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(since) = since {
            request = request.header("last-event-id", since);
        }
        let response = self.send(request).await?;
        let response = self.success(response).await?;
        Ok(EventStream {
            bytes: response.bytes_stream().boxed(),
            client: self.clone(),
            parser: Parser::default(),
            ready: VecDeque::new(),
            last_id: since,
        })
    }
}

impl EventStream {
    /// The next event; none when the connection ended.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last_id = Some(event.sequence);
                return Ok(Some(event));
            }
            let Ok(received) = tokio::time::timeout(SILENCE, self.bytes.next()).await else {
                return Ok(None);
            };
            match received {
                None => return Ok(None),
                Some(Err(source)) => return Err(self.client.unreachable(source)),
                Some(Ok(bytes)) => self.take(&bytes)?,
            }
        }
    }

    /// Where to resume: the event that was read last.
    pub fn last_id(&self) -> Option<i64> {
        self.last_id
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let frames = self
            .parser
            .push(bytes)
            .map_err(|_| Error::BrokenStream("an event is longer than any of ours"))?;
        for frame in frames {
            let event = serde_json::from_str(&frame.data)
                .map_err(|_| Error::BrokenStream("an event is none of ours"))?;
            self.ready.push_back(event);
        }
        Ok(())
    }
}
