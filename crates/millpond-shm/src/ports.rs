//! What the two ends of a connection have in common: configurations, the stream's format, and a lane as an end sees it.

use std::fmt;
use std::time::Duration;

use crate::attachment::Attachment;
use crate::control::SHARED;
use crate::lane::Lane;
use crate::layout::{LaneRecord, PortRecord};
use crate::sync::Ordering;
use crate::timestamp::Timestamp;
use crate::types::DType;
use crate::waiter::{Wait, Waiter};
use serde::Serialize;

/// What a stream carries, for receivers that join late. Stored with the output port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamFormat {
    /// Element type.
    pub dtype: DType,
    /// Dimensions of every buffer, slowest first; empty: they vary.
    pub shape: Vec<u32>,
    /// Samples per second as numerator and denominator.
    pub rate_hz: Option<(u32, u32)>,
    /// Whatever else a receiver should know (channel names, units, record fields), at most 448 bytes. The upper layers use TOML.
    pub description: String,
}

impl StreamFormat {
    /// Whether a buffer of that type and shape may be in the stream. Streams of plain bytes say nothing about their buffers; an
    /// extent of 0 is any; one column need not be a dimension of its own.
    #[inline]
    #[must_use]
    pub fn admits(&self, dtype: DType, shape: &[u32]) -> bool {
        (self.dtype == dtype || self.dtype == DType::Bytes)
            && (self.shape.is_empty() || self.admits_shape(shape))
    }

    fn admits_shape(&self, shape: &[u32]) -> bool {
        let extent = |shape: &[u32], index: usize| shape.get(index).copied().unwrap_or(1);
        (0..self.shape.len().max(shape.len())).all(|index| {
            let stated = extent(&self.shape, index);
            stated == 0 && index < shape.len() || stated == extent(shape, index)
        })
    }
}

/// `f32 [any, 2]`.
impl fmt::Display for StreamFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dtype.fmt(f)?;
        if !self.shape.is_empty() {
            let extent = |extent: &u32| if *extent == 0 { "any".to_owned() } else { extent.to_string() };
            write!(f, " [{}]", self.shape.iter().map(extent).collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

/// How an output port is opened.
#[derive(Clone, Default)]
pub struct OutputConfig {
    /// What it will send.
    pub format: StreamFormat,
    /// The party that sends; several ports of one thread may share one. `None`: a party of its own.
    pub waiter: Option<Waiter>,
    /// How a party of its own waits.
    pub wait: Wait,
}

/// How an input port is opened.
#[derive(Clone, Default)]
pub struct InputConfig {
    /// The party that receives; several ports of one thread may share one. `None`: a party of its own.
    pub waiter: Option<Waiter>,
    /// How a party of its own waits.
    pub wait: Wait,
    /// Others may open the port as well, up to 8; each buffer goes to exactly one of them.
    pub shared: bool,
    /// A buffer that was taken but not yet dropped when its consumer was killed is delivered again, marked so. Not with
    /// `shared`, nor with connections that drop the oldest.
    pub redeliver: bool,
}

/// What happens when a connection's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
pub enum Policy {
    /// The sender waits.
    #[default]
    Block = 0,
    /// The buffer being sent is dropped for this connection, and counted.
    DropNewest = 1,
    /// The oldest queued buffer is dropped, and counted.
    DropOldest = 2,
}

/// What a sender on a full, blocking connection does when its receiver has died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
pub enum OnReceiverDeath {
    /// Waits for its restart: nothing is lost.
    #[default]
    Wait = 0,
    /// Gets the buffer back with an error.
    GiveUp = 1,
}

/// How two ports are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// Buffers that may wait, 1 to 524,288; `None`: 256.
    pub depth: Option<u32>,
    /// Time by which the timestamp of a buffer may be ahead of that of the oldest one that waits, more than 0; beyond it the
    /// connection counts as full. Buffers without timestamps, or with those of another clock, are not limited. `None`: no limit.
    pub max_time: Option<Duration>,
    /// What happens when it is full. `None`: in a flowgraph what the ports' block types state, else the sender waits.
    pub policy: Option<Policy>,
    /// What a blocked sender does when the receiver has died.
    pub on_receiver_death: OnReceiverDeath,
}

/// Depth of a connection that does not say.
pub const DEFAULT_DEPTH: u32 = 256;

/// A lane as one end has it: where it is, copied and checked once.
pub(crate) struct LaneEnd {
    pub(crate) index: u32,
    pub(crate) record: &'static LaneRecord,
    pub(crate) lane: Lane<'static>,
    pub(crate) depth: u64,
    pub(crate) shared: bool,
}

impl LaneEnd {
    /// `None`: the record describes no ring, so it is corrupt.
    pub(crate) fn open(pond: &'static Attachment, index: u32) -> Option<LaneEnd> {
        let record = pond.control.lane(index)?;
        let cells = pond
            .control
            .ring(record.ring_offset.load(Ordering::Relaxed), record.ring_cells.load(Ordering::Relaxed))?;
        let depth = u64::from(record.depth.load(Ordering::Relaxed));
        if depth == 0 || depth > cells.len() as u64 {
            return None;
        }
        Some(LaneEnd {
            index,
            record,
            lane: Lane { id: u16::try_from(index).ok()?, head: &record.head, cells },
            depth,
            shared: record.kind.load(Ordering::Relaxed) == SHARED,
        })
    }
}

/// What the words of a stream's bound hold for a promise: the kind, and nanoseconds.
pub(crate) fn bound_words(bound: Timestamp) -> Option<(u32, i64)> {
    let kind = if matches!(bound, Timestamp::Absolute(_)) { BOUND_ABSOLUTE } else { BOUND_RELATIVE };
    Some((kind, bound.to_ns(None)?))
}

/// The promise of an output port.
pub(crate) fn stored_bound(port: &PortRecord) -> Option<Timestamp> {
    // The kind before and after: the number belongs to it only if nobody changed it in between.
    let kind = port.bound_kind.load(Ordering::Acquire);
    let ns = port.bound.load(Ordering::Acquire) as i64;
    match kind {
        _ if port.bound_kind.load(Ordering::Acquire) != kind => None,
        BOUND_ABSOLUTE => Some(Timestamp::Absolute(ns)),
        BOUND_RELATIVE => Some(Timestamp::Relative(ns)),
        _ => None,
    }
}

const BOUND_ABSOLUTE: u32 = 1;
const BOUND_RELATIVE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_format_admits() {
        let format =
            |dtype, shape: &[u32]| StreamFormat { dtype, shape: shape.to_vec(), ..StreamFormat::default() };
        let stereo = format(DType::F32, &[0, 2]);
        assert!(stereo.admits(DType::F32, &[480, 2]) && stereo.admits(DType::F32, &[0, 2]));
        assert!(!stereo.admits(DType::F64, &[480, 2]), "another type");
        for shape in [&[480, 1][..], &[480], &[480, 2, 2], &[]] {
            assert!(!stereo.admits(DType::F32, shape), "{shape:?}");
        }
        let mono = format(DType::F32, &[0, 1]);
        assert!(mono.admits(DType::F32, &[480]) && mono.admits(DType::F32, &[480, 1]));
        assert!(format(DType::F32, &[0]).admits(DType::F32, &[480, 1]));
        assert!(!mono.admits(DType::F32, &[480, 2]));
        assert!(format(DType::F32, &[]).admits(DType::F32, &[3, 3, 3]), "no shape is stated");
        assert!(format(DType::Bytes, &[]).admits(DType::F64, &[7]), "plain bytes can be anything");
        assert_eq!(
            (stereo.to_string(), format(DType::U8, &[]).to_string()),
            ("f32 [any, 2]".into(), "u8".into())
        );
    }
}
