//! What is sent, and what a receiver writes down about it.

use super::random::Random;

const HEADER_BYTES: usize = 40;
/// Every length is a multiple of this.
const WORD: usize = 8;
/// Most bytes of a message.
pub const LONGEST_BYTES: usize = 4096;

/// Which message it is; everything else about it follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number of the source in the graph.
    pub source: u32,
    /// How often the source's process has been started before.
    pub incarnation: u32,
    /// Number within the incarnation, from 0.
    pub number: u64,
    /// When it was sent, `CLOCK_MONOTONIC`; 0: nobody is to measure it.
    pub sent_ns: u64,
}

impl Message {
    fn random(&self) -> Random {
        Random::new((u64::from(self.source) << 32 | u64::from(self.incarnation)) ^ self.number << 17)
    }

    /// Its bytes: header and contents. Mostly short ones.
    pub fn len(&self) -> usize {
        let longest = if self.number.is_multiple_of(8) { LONGEST_BYTES } else { 256 };
        self.random().between((HEADER_BYTES / WORD) as u64, (longest / WORD) as u64) as usize * WORD
    }

    fn header(&self) -> [u64; HEADER_BYTES / WORD] {
        let origin = u64::from(self.source) << 32 | u64::from(self.incarnation);
        let fields = [origin, self.number, self.sent_ns, self.len() as u64];
        let sum = fields.iter().fold(0, |sum, field| Random::new(sum ^ field).next());
        [fields[0], fields[1], fields[2], fields[3], sum]
    }

    /// Writes it into a buffer of [`len`](Self::len) bytes.
    pub fn write(&self, into: &mut [u8]) {
        let (header, contents) = into.split_at_mut(HEADER_BYTES);
        for (bytes, word) in header.chunks_exact_mut(WORD).zip(self.header()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut random = self.random();
        for bytes in contents.chunks_exact_mut(WORD) {
            bytes.copy_from_slice(&random.next().to_le_bytes());
        }
    }

    /// Reads one; `None` if any byte is not as it was written.
    pub fn read(from: &[u8]) -> Option<Self> {
        let (header, contents) = from.split_at_checked(HEADER_BYTES)?;
        let mut words = [0; HEADER_BYTES / WORD];
        for (word, bytes) in words.iter_mut().zip(header.chunks_exact(WORD)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        let [origin, number, sent_ns, ..] = words;
        let message = Self { source: (origin >> 32) as u32, incarnation: origin as u32, number, sent_ns };
        if message.header() != words || from.len() != message.len() {
            return None;
        }
        let mut random = message.random();
        let sound = contents.chunks_exact(WORD).all(|bytes| bytes == random.next().to_le_bytes());
        sound.then_some(message)
    }
}

/// What a receiver writes down for each buffer, before it does anything else with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which message; `None`: its bytes were damaged.
    pub message: Option<(u32, u32, u64)>,
    /// Whether the buffer said that it may have been delivered before.
    pub redelivered: bool,
}

impl Record {
    /// Divides a page, so that a process that is killed while it writes leaves whole records.
    pub const BYTES: usize = 32;

    /// The record of a received buffer.
    pub fn of(message: Option<Message>, redelivered: bool) -> Self {
        Self { message: message.map(|m| (m.source, m.incarnation, m.number)), redelivered }
    }

    /// As stored.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (source, incarnation, number) = self.message.unwrap_or_default();
        let flags = u64::from(self.redelivered) | u64::from(self.message.is_none()) << 1;
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&source.to_le_bytes());
        bytes[4..8].copy_from_slice(&incarnation.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..24].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let (origin, flags) = (word(0), word(16));
        let message = (origin as u32, (origin >> 32) as u32, word(8));
        Self { message: (flags & 2 == 0).then_some(message), redelivered: flags & 1 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_and_every_damaged_byte_is_seen() {
        for number in [0, 1, 7, 8, 1 << 40] {
            let message = Message { source: 3, incarnation: 70_000, number, sent_ns: 5 };
            let mut bytes = vec![0; message.len()];
            message.write(&mut bytes);
            assert_eq!(Message::read(&bytes), Some(message));
            for at in 0..bytes.len() {
                bytes[at] ^= 0x10;
                assert_eq!(Message::read(&bytes), None, "byte {at} of message {number}");
                bytes[at] ^= 0x10;
            }
            assert_eq!(Message::read(&bytes[..bytes.len() - 8]), None);
        }
        assert_eq!(Message::read(&[]), None);
        assert_eq!(Message::read(&[0; 64]), None);
    }

    #[test]
    fn records_are_read_back() {
        for record in [
            Record { message: Some((1, 2, 3 << 40)), redelivered: false },
            Record { message: Some((u32::MAX, 0, 0)), redelivered: true },
            Record { message: None, redelivered: false },
        ] {
            assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }
    }
}
