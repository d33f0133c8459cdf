//! How messages of the bus lie in a mailbox: a kind, and JSON behind the topic.

use millpond_shm::Mail;

use super::{BusError, Json};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Published; contents: topic, zero byte, JSON.
    Event = 1,
    /// Wants an answer; contents as above.
    Request = 2,
    /// The answer; contents: JSON.
    Reply = 3,
    /// The answer is no; contents: why.
    Refusal = 4,
}

impl Kind {
    pub(super) fn of(mail: &Mail) -> Option<Self> {
        [Kind::Event, Kind::Request, Kind::Reply, Kind::Refusal].into_iter().find(|k| *k as u32 == mail.kind)
    }
}

pub(super) fn encode(kind: Kind, topic: &str, value: &Json) -> Mail {
    let mut contents = topic.as_bytes().to_vec();
    contents.push(0);
    contents.extend(value.to_string().into_bytes());
    Mail { kind: kind as u32, contents, ..Mail::default() }
}

/// Topic and value. `None`: some process sent what is no message of the bus.
pub(super) fn decode(mail: &Mail) -> Option<(String, Json)> {
    let end = mail.contents.iter().position(|byte| *byte == 0)?;
    let topic = std::str::from_utf8(&mail.contents[..end]).ok()?;
    Some((topic.to_owned(), serde_json::from_slice(&mail.contents[end + 1..]).ok()?))
}

pub(super) fn encode_answer(correlation: u64, answer: &Result<Json, String>) -> Mail {
    let (kind, contents) = match answer {
        Ok(value) => (Kind::Reply, value.to_string().into_bytes()),
        Err(why) => (Kind::Refusal, why.clone().into_bytes()),
    };
    Mail { kind: kind as u32, correlation, contents, ..Mail::default() }
}

pub(super) fn decode_answer(kind: Kind, mail: &Mail) -> Result<Json, BusError> {
    let text = String::from_utf8_lossy(&mail.contents);
    match kind {
        Kind::Reply => serde_json::from_str(&text)
            .map_err(|error| BusError::Refused { why: format!("its answer is no JSON: {error}") }),
        _ => Err(BusError::Refused { why: text.into_owned() }),
    }
}
