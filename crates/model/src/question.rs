//! Questions: what somebody who waits wants to see, and only a node can say.
//!
//! A question changes nothing, holds nothing and is recorded nowhere. It is answered now or not at
//! all: whoever asked has gone on when the answer is late.

use serde::{Deserialize, Serialize};

use crate::ByteCount;
use crate::id::InstanceId;

/// What a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub enum Question {
    /// The end of what a guest wrote to its serial console.
    Console {
        /// Whose guest.
        instance_id: InstanceId,
        /// So many bytes of it at most.
        max: ByteCount,
    },
}

/// A question on its way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What the answer is given to. Never used again.
    pub number: u64,
    /// What is asked.
    pub question: Question,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Said {
    /// The bytes that the guest wrote, as it wrote them; none when it never ran.
    Console {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The node cannot say; its log has the reason.
    Nothing,
}
