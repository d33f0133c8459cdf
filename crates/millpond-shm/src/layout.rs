//! Every byte that processes share, and nothing else: structs, table sizes, offsets.
//!
//! Rules: fixed-width atomics only (any bit pattern is valid, no reference to plain shared bytes is ever formed); each
//! field says who writes it. `docs/memory-layout.md` is generated from this file and a test keeps it equal; the same text is
//! hashed, and a process whose hash differs from the pond's is refused. One file, long as it is: a table is checked by reading it whole.

use crate::references::{References, TOKENS};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::fmt::Write as _;
use std::mem::{align_of, offset_of, size_of};

/// First word of a pond's control segment.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"MILLPOND");
/// Raised when the meaning of a field changes without its place changing.
pub(crate) const LAYOUT_VERSION: u32 = 4;

/// Processes at a time; slot 0 means nobody.
pub const MAX_PROCESSES: usize = 254;
/// Waiting parties (threads or schedulers with a bell of their own); 0 means none.
pub const MAX_WAITERS: usize = 4096;
/// Blocks in the registry.
pub const MAX_BLOCKS: usize = 1024;
/// Ports of all blocks together.
pub const MAX_PORTS: usize = 4096;
/// Connections, closing ones included.
pub const MAX_CONNECTIONS: usize = 4096;
/// Pools of buffers.
pub const MAX_POOLS: usize = 64;
/// Shares that a pool is divided into.
pub const MAX_SHARES: usize = 64;
/// Processes or threads that compete for one input port's buffers.
pub const MAX_CONSUMERS: usize = 8;
/// References to one buffer: connections it lies in and processes that hold it.
pub const MAX_REFERENCES: usize = TOKENS;
/// Connections of one output: beside them, a reference for a sender that keeps what it sends, and the first one, which only
/// whoever allocates a buffer can use.
pub const MAX_FAN_OUT: usize = MAX_REFERENCES - 2;
/// Dimensions of a buffer's shape.
pub const MAX_DIMENSIONS: usize = 6;
/// Bytes of a name of a pond, a block, a block type or a port.
pub const MAX_NAME_BYTES: usize = 64;
/// Bytes of a stream's description.
pub const MAX_DESCRIPTION_BYTES: usize = 448;
/// Mailboxes of the message bus: usually one a process.
pub const MAX_MAILBOXES: usize = 512;
/// Messages that one mailbox can hold.
pub const MAILBOX_CELLS: usize = 64;
/// Of those, cells that only replies may use: a flood of messages cannot keep an answer out.
pub const MAILBOX_REPLY_CELLS: usize = 16;
/// Bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Texts by which one mailbox can be found.
pub const MAX_LABELS: usize = 256;
/// Bytes of such a text.
pub const MAX_LABEL_BYTES: usize = 160;
/// Bytes of the settings that a block leaves to its successor.
pub const MAX_SETTINGS_BYTES: usize = 2032;
/// Counters that a block publishes.
pub const BLOCK_COUNTERS: usize = 32;
/// Lines that the log keeps.
pub const LOG_LINES: usize = 1024;
/// Bytes of a line of the log; longer ones are written as several.
pub const MAX_LOG_LINE_BYTES: usize = MAX_DESCRIPTION_BYTES;
/// Buffers that one lane can hold.
pub const MAX_DEPTH: u32 = crate::token::MAX_RING_CELLS;
/// Bytes of shared memory set aside (not used until needed) for the rings of all lanes.
pub(crate) const RING_ARENA_BYTES: u64 = 1 << 30;

/// Text in shared memory: length in the first byte, at most `8 * WORDS - 1` bytes of UTF-8 behind it. Longer texts use one length
/// word; see [`LongText`].
#[repr(C)]
pub(crate) struct Text<const WORDS: usize> {
    length: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Text<WORDS> {
    /// Stores as much of `text` as fits, cut at a character.
    pub(crate) fn store(&self, text: &str) {
        let mut end = text.len().min(WORDS * 8);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for (word, chunk) in self.words.iter().zip(text.as_bytes()[..end].chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.length.store(end as u64, Ordering::Release);
    }

    /// What is stored; bytes that are no UTF-8 (a stray write) are replaced.
    pub(crate) fn load(&self) -> String {
        let length = (self.length.load(Ordering::Acquire) as usize).min(WORDS * 8);
        let bytes: Vec<u8> =
            self.words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).take(length).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A name of at most 64 bytes.
pub(crate) type Name = Text<{ MAX_NAME_BYTES / 8 }>;
/// A description of at most 448 bytes.
pub(crate) type LongText = Text<{ MAX_DESCRIPTION_BYTES / 8 }>;

struct Field {
    name: &'static str,
    offset: usize,
    bytes: usize,
    kind: &'static str,
    doc: &'static str,
}

/// Defines a shared struct and keeps each field's place and doc for the generated page. `size` and `align` are asserted.
macro_rules! shared {
    ($(#[doc = $doc:literal])* struct $name:ident: size $size:literal, align $align:literal {
        $( $(#[doc = $fdoc:literal])* $field:ident: $type:ty, )*
    }) => {
        $(#[doc = $doc])*
        #[repr(C, align($align))]
        pub(crate) struct $name { $( $(#[doc = $fdoc])* pub(crate) $field: $type, )* }
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == $align);
        impl $name {
            fn describe(out: &mut String) {
                let fields = [$( Field {
                    name: stringify!($field), offset: offset_of!($name, $field), bytes: size_of::<$type>(),
                    kind: stringify!($type), doc: concat!($($fdoc),*),
                } ),*];
                describe_struct(out, stringify!($name), concat!($($doc),*), size_of::<$name>(), &fields);
            }
        }
    };
}

shared! {
    /// Start of the control segment. Written by the creator before the pond can be found, except where said.
    struct Header: size 4096, align 4096 {
        /// `MILLPOND`; stored last, so a half-made segment is never taken for a pond.
        magic: AtomicU64,
        /// Version of the layout's meaning.
        layout_version: AtomicU32,
        /// 1: a sleeper's `membarrier` stands in for the fence of those who wake it; 0: everybody fences.
        expedited_barrier: AtomicU32,
        /// Hash of this page; differs between incompatible builds.
        layout_hash: AtomicU64,
        /// Random number of this pond, high and low half.
        uuid: [AtomicU64; 2],
        /// Inode of the pid namespace that all processes must share.
        pid_namespace: AtomicU64,
        /// Entries of the table of buffers.
        table_slots: AtomicU32,
        /// 1: everybody is asked to stop. Any process.
        stop_requested: AtomicU32,
        /// Bytes of the control segment.
        control_bytes: AtomicU64,
        /// Unix nanoseconds of creation.
        created_unix_ns: AtomicU64,
        /// The pond's name.
        name: Name,
        /// Registry mutex: the owner's process slot in bits 0..10 (0: free), how often it was taken in 10..31, bit 31: somebody waits. Any process.
        registry_lock: AtomicU32,
        /// Raised when a pool is added. Lock holder.
        pool_epoch: AtomicU32,
        /// Blocks ever made. Lock holder.
        blocks_used: AtomicU32,
        /// Ports ever made. Lock holder.
        ports_used: AtomicU32,
        /// Lanes ever made. Lock holder.
        lanes_used: AtomicU32,
        /// Not used.
        reserved: AtomicU32,
        /// Rises when recovery gave buffers back. Any process.
        allocation_bell: AtomicU32,
        /// Processes recovered since creation. Lock holder.
        recoveries: AtomicU32,
        /// Mailboxes ever made; entries behind it are unused. Lock holder.
        mailboxes_used: AtomicU32,
        /// Rises when a mailbox opens, closes or changes its labels: senders look again. Any process.
        mailbox_epoch: AtomicU32,
        /// Lines ever written to the log. Any process.
        log_lines: AtomicU64,
        /// Lines not written because another process was still writing the line a whole log ago. Any process.
        log_dropped: AtomicU64,
        /// Messages to mailboxes that were gone before they were accepted. Any process.
        messages_unaddressed: AtomicU64,
    }
}

shared! {
    /// One attached process. Index = its slot; slot 0 is never used.
    struct Process: size 128, align 128 {
        /// State in bits 56..64 (0 free, 1 joining, 2 live, 3 dead), pid in bits 0..32. Its process; recovery.
        state: AtomicU64,
        /// Clock ticks after boot at which it started: with the pid, an identity that is never reused. Its process.
        start_time: AtomicU64,
        /// 0 block, 1 worker, 2 server, 3 tool. Its process.
        role: AtomicU32,
        /// File descriptor of the control segment in that process, for those who attach. Its process.
        control_fd: AtomicU32,
        /// Write end of the pipe that wakes its watcher thread, as a descriptor number in that process. Its process.
        wake_fd: AtomicU32,
        /// Recovery of this slot: 0 not begun, 1 losses computed, 2 tokens freed. Lock holder.
        recovery_stage: AtomicU32,
        /// Monotonic nanoseconds at which its watcher last ran: tells who is stalled, never who is dead. Its process.
        heartbeat_ns: AtomicU64,
        /// Unix nanoseconds at which it attached. Its process.
        attached_unix_ns: AtomicU64,
        /// Inode of that pipe: what `wake_fd` names must have it. Its process.
        wake_inode: AtomicU64,
        /// What it calls itself. Its process.
        name: Name,
    }
}

shared! {
    /// A line of the log, a ring in which the newest overwrites the oldest.
    struct LogRecord: size 576, align 64 {
        /// Number of the line + 1 in bits 16..64, and in bits 0..16 the process slot that is writing it; 0: complete. Its writer.
        state: AtomicU64,
        /// Unix nanoseconds at which it was written. Its writer.
        unix_ns: AtomicU64,
        /// 1 error, 2 warn, 3 info, 4 debug, 5 trace. Its writer.
        level: AtomicU32,
        /// Pid of the process that wrote it. Its writer.
        pid: AtomicU32,
        /// The block it is about; empty: none. Its writer.
        block: Name,
        /// What it says. Its writer.
        text: LongText,
    }
}

shared! {
    /// A waiting party: one thread or scheduler, whatever number of ports it serves.
    struct WaiterSlot: size 128, align 128 {
        /// The futex; raised by whoever wakes the party.
        bell: AtomicU32,
        /// How often it was announced that somebody sleeps, times 4; plus 1: somebody does, or is about to; plus 2: was rung since. The party;
        /// who rings.
        asleep: AtomicU32,
        /// Process slot of the party; 0: entry unused. Lock holder.
        owner: AtomicU32,
    }
}

shared! {
    /// A block, by name.
    struct BlockRecord: size 512, align 128 {
        /// 0 free, 1 declared. Lock holder, stored last.
        state: AtomicU32,
        /// Process slot that runs it; 0: none. Lock holder.
        process: AtomicU32,
        /// Its name. Lock holder.
        name: Name,
        /// Its type's name. Lock holder.
        block_type: Name,
        /// Numbers that the block publishes for monitors. Its process.
        counters: [AtomicU64; BLOCK_COUNTERS],
        /// 1: its `Settings` have memory, and count. Lock holder, stored last.
        has_settings: AtomicU32,
    }
}

shared! {
    /// A port of a block. An input port is one queue with a lane for each connection.
    struct PortRecord: size 768, align 128 {
        /// 0 free, 1 output, 2 input. Lock holder, stored last.
        direction: AtomicU32,
        /// Index of its block. Lock holder.
        block: AtomicU32,
        /// Rises when its connections change or an end comes or goes: its owner looks again. Lock holder.
        epoch: AtomicU32,
        /// Input: 1 several consumers compete. Lock holder.
        shared: AtomicU32,
        /// Input: 1 a buffer taken but not finished by a killed consumer is delivered again. Lock holder.
        redeliver: AtomicU32,
        /// Depth of new lanes whose connection does not say. Lock holder.
        depth: AtomicU32,
        /// Process slots at this end: `[0]` the producer, or the consumers. Lock holder.
        owners: [AtomicU32; MAX_CONSUMERS],
        /// Their waiters. Lock holder.
        waiters: [AtomicU32; MAX_CONSUMERS],
        /// Buffers sent while nothing was connected, and so dropped. The producer.
        unconnected: AtomicU64,
        /// Entries dropped because their connection was removed. Lock holder.
        dropped_at_disconnect: AtomicU64,
        /// Output: what it had sent to connections when the last of them was removed. Lock holder.
        sent_before: AtomicU64,
        /// Nothing earlier than this will be sent, apart from the stream's disorder: nanoseconds. The producer.
        bound: AtomicU64,
        /// Dtype, dimensions and shape of the stream, rate as numerator and denominator in Hz (0: none). Lock holder.
        dtype: AtomicU32,
        /// Number of dimensions that are fixed. Lock holder.
        dimensions: AtomicU32,
        /// The dimensions. Lock holder.
        shape: [AtomicU32; MAX_DIMENSIONS],
        /// Rate, numerator and denominator. Lock holder.
        rate: [AtomicU32; 2],
        /// 1: the format has been given. Lock holder, stored last.
        has_format: AtomicU32,
        /// What `bound` counts from: 0 it says nothing, 1 since 1970, 2 since the stream's start. The producer, stored after it.
        bound_kind: AtomicU32,
        /// Rest of the stream's format as text. Lock holder.
        description: LongText,
        /// The port's name within its block. Lock holder.
        name: Name,
    }
}

shared! {
    /// A connection: one lane from an output port to an input port. The first line is the consumers', the second the producer's.
    struct LaneRecord: size 384, align 128 {
        /// Position of the oldest entry not known to be claimed; never reset, not even when the lane is used again. Consumers.
        head: AtomicU64,
        /// Entries before this position may have been delivered before (redelivery). Recovery, before it undoes.
        redelivered_until: AtomicU64,
        /// Entries that recovery put back. Recovery.
        redelivered: AtomicU64,
        /// Buffers lost in the hands of killed consumers. Recovery.
        lost_in_hand: AtomicU64,
        /// What `lost_in_hand` becomes when the running recovery ends. Recovery.
        lost_after: AtomicU64,
        /// What `redelivered` becomes when the running recovery ends. Recovery.
        redelivered_after: AtomicU64,
        /// Fills the line pair.
        consumer_reserved: [AtomicU64; 10],
        /// End of stream: final position + 1; 0 while open. The producer.
        end: AtomicU64,
        /// Buffers not sent because the lane was full (drop newest). The producer.
        dropped_newest: AtomicU64,
        /// Entries removed because the lane was full (drop oldest). The producer.
        dropped_oldest: AtomicU64,
        /// What the input port's `dropped_at_disconnect` becomes when the entry that is being removed is gone. Lock holder.
        dropped_after: AtomicU64,
        /// Position at which this use of the lane began: counts are relative to it. Lock holder.
        base: AtomicU64,
        /// What the output had sent to connections when it first saw this one, + 1; 0: it has not yet. The producer, with the lock.
        sent_before: AtomicU64,
        /// Fills the line pair.
        producer_reserved: [AtomicU64; 10],
        /// 0 free, 1 active, 2 closing. Lock holder, stored last.
        state: AtomicU32,
        /// 0 exclusive, 1 shared. Lock holder.
        kind: AtomicU32,
        /// Process slot of the producer; 0: none. Lock holder.
        producer: AtomicU32,
        /// How the producing end stands: 0 never attached, 1 attached, 2 left, 3 died; the count of changes above bit 8. Lock holder.
        producer_presence: AtomicU32,
        /// Likewise for the consuming end as a whole. Lock holder.
        consumer_presence: AtomicU32,
        /// Waiter of the producer. Lock holder.
        producer_waiter: AtomicU32,
        /// Process slots of the consumers; 0: none. Lock holder.
        consumers: [AtomicU32; MAX_CONSUMERS],
        /// Their waiters. Lock holder.
        consumer_waiters: [AtomicU32; MAX_CONSUMERS],
        /// Index of the output port. Lock holder.
        from_port: AtomicU32,
        /// Index of the input port. Lock holder.
        to_port: AtomicU32,
        /// Entries that may wait. Lock holder.
        depth: AtomicU32,
        /// 0 block, 1 drop newest, 2 drop oldest. Lock holder.
        policy: AtomicU32,
        /// When the receiver died: 0 wait for its restart, 1 give up. Lock holder.
        on_receiver_death: AtomicU32,
        /// Cells of the ring, a power of two. Lock holder.
        ring_cells: AtomicU32,
        /// Offset of the ring in the control segment. Lock holder.
        ring_offset: AtomicU64,
        /// Nanoseconds between the timestamps of the oldest and the newest entry, at most; 0: no limit. Lock holder.
        max_time_ns: AtomicU64,
    }
}

shared! {
    /// A pool: blocks of one size, divided into shares.
    struct PoolRecord: size 640, align 128 {
        /// 0 unused, 1 ready. Lock holder, stored last.
        state: AtomicU32,
        /// Number of blocks. Lock holder.
        blocks: AtomicU32,
        /// Bytes that a block can hold. Lock holder.
        block_bytes: AtomicU64,
        /// Offset of the first block in the data segment. Lock holder.
        data_offset: AtomicU64,
        /// Distance between blocks in the data segment. Lock holder.
        stride_bytes: AtomicU64,
        /// First entry in the table of buffers. Lock holder.
        first_slot: AtomicU32,
        /// Blocks in a share (the last may have fewer). Lock holder.
        share_blocks: AtomicU32,
        /// Shares in use of `share_owners`. Lock holder.
        shares: AtomicU32,
        /// Allocations that found the pool exhausted. Any process.
        exhausted: AtomicU32,
        /// Owner of each share: 0 nobody, a process slot (it alone allocates there), or 1023 (everybody may). Lock holder.
        share_owners: [AtomicU32; MAX_SHARES],
        /// 1: the share has memory. Lock holder.
        share_committed: [AtomicU32; MAX_SHARES],
    }
}

shared! {
    /// A mailbox of the message bus. Its messages and labels lie in the `MailboxBody` of the same index.
    struct MailboxRecord: size 768, align 128 {
        /// Generation in bits 32..64; 0 free, 1 open, 2 closing in bits 0..32. Lock holder.
        state: AtomicU64,
        /// Process slot of the owner; 0: none. Lock holder.
        owner: AtomicU32,
        /// Waiter of the owner, rung for every message. Lock holder.
        waiter: AtomicU32,
        /// Number that the next message draws: the order in which messages are taken. Senders.
        next_ticket: AtomicU64,
        /// Rises when a cell becomes free while senders wait; what they sleep on. The owner; recovery.
        room_bell: AtomicU32,
        /// 1: a sender waits for a free cell. Senders set it, whoever rings clears it.
        senders_wait: AtomicU32,
        /// Messages refused because every cell was in use. Senders.
        refused_full: AtomicU64,
        /// Cells that senders were writing when they died. Recovery; a recovery that is cut off may count one twice.
        abandoned: AtomicU64,
        /// Messages taken that the owner had no room for. The owner.
        overflowed: AtomicU64,
        /// Messages accepted before this use of the mailbox: counts are relative to it. Lock holder.
        accepted_base: AtomicU64,
        /// Likewise, messages lost.
        lost_base: AtomicU64,
        /// Labels in use: entries behind it are empty. The owner.
        labels_used: AtomicU32,
        /// Fills the first lines.
        reserved: [AtomicU32; 11],
        /// The name that the owner gave it. Lock holder.
        name: Name,
        /// Fills the line.
        name_reserved: [AtomicU64; 7],
        /// One word a cell: who has it, what it holds, its account. See `mail.rs`. Senders; the owner; recovery.
        cells: [AtomicU64; MAILBOX_CELLS],
    }
}

shared! {
    /// One message. Written by the process that has claimed its cell, read by the mailbox's owner.
    struct Message: size 4224, align 128 {
        /// Number drawn from the mailbox.
        ticket: AtomicU64,
        /// What it is, in the terms of whoever sends it.
        kind: AtomicU64,
        /// Which request it belongs to.
        correlation: AtomicU64,
        /// Mailbox that waits for the answer: generation and index; 0: none.
        reply_to: AtomicU64,
        /// Bytes of contents.
        length: AtomicU64,
        /// Pid of the sender, which may be dead by the time it is read.
        sender_pid: AtomicU64,
        /// Fills the line pair.
        reserved: [AtomicU64; 10],
        /// The contents.
        words: [AtomicU64; MAX_MESSAGE_BYTES / 8],
    }
}

/// A label: text by which a mailbox can be found.
pub(crate) type Label = Text<{ MAX_LABEL_BYTES / 8 }>;

/// What is only given memory when a mailbox is made.
#[repr(C, align(128))]
pub(crate) struct MailboxBody {
    pub(crate) labels: [Label; MAX_LABELS],
    pub(crate) messages: [Message; MAILBOX_CELLS],
}
const MAILBOX_MESSAGES_OFFSET: usize = offset_of!(MailboxBody, messages);
const _: () = assert!(size_of::<MailboxBody>().is_multiple_of(128));

shared! {
    /// What a block leaves to its successor, written in turns so that one of the two is always complete. Given memory at first use.
    struct Settings: size 4096, align 128 {
        /// 0 none, 1 or 2: which text counts. The process that runs the block, stored last; lock holder.
        current: AtomicU64,
        /// Length word and text, twice.
        texts: [Text<{ MAX_SETTINGS_BYTES / 8 }>; 2],
        /// Fills the page.
        reserved: [AtomicU64; 1],
    }
}

/// One buffer: its references, its description, its place. 256 bytes, of which the usual hand-over touches the first 64.
#[repr(C, align(256))]
pub(crate) struct SlotRecord {
    pub(crate) references: References,
    pub(crate) pool: AtomicU32,
    pub(crate) block: AtomicU32,
    pub(crate) data_offset: AtomicU64,
    pub(crate) creator: AtomicU32,
    pub(crate) reserved: AtomicU32,
    pub(crate) allocated_ns: AtomicU64,
    pub(crate) range: [AtomicU64; 2],
    pub(crate) rate: [AtomicU32; 2],
    pub(crate) shape: [AtomicU32; MAX_DIMENSIONS],
    pub(crate) tail: [AtomicU64; 2],
}
const _: () = assert!(size_of::<SlotRecord>() == 256 && offset_of!(SlotRecord, pool) == 160);
const _: () =
    assert!(offset_of!(References, tokens) == 32, "4 tokens share the first line with the description");

impl SlotRecord {
    fn describe(out: &mut String) {
        macro_rules! at {
            ($field:ident, $type:literal, $doc:literal) => {
                Field {
                    name: stringify!($field),
                    offset: offset_of!(SlotRecord, $field),
                    bytes: size_of_field(|s: &SlotRecord| &s.$field),
                    kind: $type,
                    doc: $doc,
                }
            };
        }
        macro_rules! reference {
            ($field:ident, $type:literal, $doc:literal) => {
                Field {
                    name: stringify!($field),
                    offset: offset_of!(References, $field),
                    bytes: size_of_field(|s: &References| &s.$field),
                    kind: $type,
                    doc: $doc,
                }
            };
        }
        let fields = [
            reference!(clones, "AtomicU32", " References ever added. Holders."),
            reference!(
                generation,
                "AtomicU32",
                " How often allocated; half of the buffer's id. The allocator."
            ),
            reference!(
                info,
                "AtomicU64",
                " Length in bytes, dtype, dimensions, timestamp kind, flags. The unique owner."
            ),
            reference!(stamp, "AtomicU64", " Timestamp, in ns or samples. The unique owner."),
            reference!(sequence, "AtomicU64", " Sequence number. The unique owner."),
            reference!(
                tokens,
                "[AtomicU64; 16]",
                " One word a reference; all zero: free. See docs/crash-safety.md."
            ),
            at!(pool, "AtomicU32", " Its pool. Lock holder, when its share is committed."),
            at!(block, "AtomicU32", " Its block in the pool. Lock holder, likewise."),
            at!(data_offset, "AtomicU64", " Its block's place in the data segment. Lock holder, likewise."),
            at!(creator, "AtomicU32", " Process slot that allocated it last. The allocator."),
            at!(reserved, "AtomicU32", " Unused."),
            at!(
                allocated_ns,
                "AtomicU64",
                " Monotonic (coarse) nanoseconds of the allocation. The allocator."
            ),
            at!(range, "[AtomicU64; 2]", " Time range, if the flags say so. The unique owner."),
            at!(rate, "[AtomicU32; 2]", " Rate of a sample-index timestamp. The unique owner."),
            at!(shape, "[AtomicU32; 6]", " Dimensions, if there is more than one. The unique owner."),
            at!(tail, "[AtomicU64; 2]", " Unused."),
        ];
        describe_struct(
            out,
            "SlotRecord",
            " One buffer: its references, its description, its place.",
            size_of::<SlotRecord>(),
            &fields,
        );
    }
}

fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Where each table lies in the control segment of a pond with `table_slots` buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) processes: u64,
    pub(crate) log: u64,
    pub(crate) waiters: u64,
    pub(crate) blocks: u64,
    pub(crate) ports: u64,
    pub(crate) pools: u64,
    pub(crate) lanes: u64,
    pub(crate) mailboxes: u64,
    pub(crate) slots: u64,
    pub(crate) mailbox_bodies: u64,
    pub(crate) settings: u64,
    pub(crate) rings: u64,
    pub(crate) bytes: u64,
}

impl Tables {
    pub(crate) const fn new(table_slots: u32) -> Tables {
        const fn table(at: u64, entry: usize, entries: usize) -> u64 {
            (at + (entry * entries) as u64 + 4095) & !4095
        }
        let processes = size_of::<Header>() as u64;
        let log = table(processes, size_of::<Process>(), MAX_PROCESSES + 1);
        let waiters = table(log, size_of::<LogRecord>(), LOG_LINES);
        let blocks = table(waiters, size_of::<WaiterSlot>(), MAX_WAITERS);
        let ports = table(blocks, size_of::<BlockRecord>(), MAX_BLOCKS);
        let pools = table(ports, size_of::<PortRecord>(), MAX_PORTS);
        let lanes = table(pools, size_of::<PoolRecord>(), MAX_POOLS);
        let mailboxes = table(lanes, size_of::<LaneRecord>(), MAX_CONNECTIONS);
        let slots = table(mailboxes, size_of::<MailboxRecord>(), MAX_MAILBOXES);
        let mailbox_bodies = table(slots, size_of::<SlotRecord>(), table_slots as usize);
        let settings = table(mailbox_bodies, size_of::<MailboxBody>(), MAX_MAILBOXES);
        let rings = table(settings, size_of::<Settings>(), MAX_BLOCKS);
        Tables {
            processes,
            log,
            waiters,
            blocks,
            ports,
            pools,
            lanes,
            mailboxes,
            slots,
            mailbox_bodies,
            settings,
            rings,
            bytes: rings + RING_ARENA_BYTES,
        }
    }
}

fn describe_struct(out: &mut String, name: &str, doc: &str, bytes: usize, fields: &[Field]) {
    let _ = writeln!(out, "\n## {name} ({bytes} bytes)\n\n{}\n", doc.trim());
    let _ =
        writeln!(out, "| offset | bytes | field | type | meaning; who writes it |\n|---:|---:|---|---|---|");
    for f in fields {
        let _ =
            writeln!(out, "| {} | {} | `{}` | `{}` | {} |", f.offset, f.bytes, f.name, f.kind, f.doc.trim());
    }
}

/// The page `docs/memory-layout.md`: every shared table and struct, from the code.
#[must_use]
pub fn describe() -> String {
    let t = Tables::new(4096);
    let mut out = String::from(
        "# Memory layout\n\nGenerated from `crates/millpond-shm/src/layout.rs`; a test keeps it equal \
         (`UPDATE_DOCS=1 cargo test -p millpond-shm --test memory_layout` writes it anew).\n\n\
         A pond is two memory files. The **control segment** is mapped writable by everybody and holds the tables below; the \
         **data segment** holds the blocks of all pools, each block at a multiple of 64 bytes, and is mapped read-only for \
         receiving and a second time writable for filling. All numbers are little-endian; every word is accessed as an atomic.\n\n\
         | offset (4096 slots) | entries | bytes each | table |\n|---:|---:|---:|---|\n",
    );
    let rows = [
        (0, 1, size_of::<Header>(), "Header"),
        (t.processes, MAX_PROCESSES + 1, size_of::<Process>(), "Process"),
        (t.log, LOG_LINES, size_of::<LogRecord>(), "LogRecord"),
        (t.waiters, MAX_WAITERS, size_of::<WaiterSlot>(), "WaiterSlot"),
        (t.blocks, MAX_BLOCKS, size_of::<BlockRecord>(), "BlockRecord"),
        (t.ports, MAX_PORTS, size_of::<PortRecord>(), "PortRecord"),
        (t.pools, MAX_POOLS, size_of::<PoolRecord>(), "PoolRecord"),
        (t.lanes, MAX_CONNECTIONS, size_of::<LaneRecord>(), "LaneRecord"),
        (t.mailboxes, MAX_MAILBOXES, size_of::<MailboxRecord>(), "MailboxRecord"),
        (t.slots, 4096, size_of::<SlotRecord>(), "SlotRecord"),
        (t.mailbox_bodies, MAX_MAILBOXES, size_of::<MailboxBody>(), "MailboxBody"),
        (t.settings, MAX_BLOCKS, size_of::<Settings>(), "Settings"),
        (t.rings, (RING_ARENA_BYTES / 8) as usize, 8, "cells of the lanes' rings"),
    ];
    for (offset, entries, bytes, name) in rows {
        let _ = writeln!(out, "| {offset} | {entries} | {bytes} | {name} |");
    }
    out.push_str(
        "\nA **token** is `owner:10 | lane:14 | position:40`, a **cell** `tag:20 | flags:4 | pool:8 | slot:26 | token:6`, \
         most significant part first; a text is a length word and UTF-8 bytes.\n",
    );
    Header::describe(&mut out);
    Process::describe(&mut out);
    LogRecord::describe(&mut out);
    WaiterSlot::describe(&mut out);
    BlockRecord::describe(&mut out);
    PortRecord::describe(&mut out);
    LaneRecord::describe(&mut out);
    PoolRecord::describe(&mut out);
    SlotRecord::describe(&mut out);
    MailboxRecord::describe(&mut out);
    let _ = writeln!(
        out,
        "\n## MailboxBody ({} bytes)\n\n{MAX_LABELS} labels of {} bytes each (a length word and text; the owner), then, at \
         offset {MAILBOX_MESSAGES_OFFSET}, {MAILBOX_CELLS} of `Message`.",
        size_of::<MailboxBody>(),
        size_of::<Label>(),
    );
    Message::describe(&mut out);
    Settings::describe(&mut out);
    out
}

/// Hash of the layout (FNV-1a of the page and the version): equal in processes that agree about every byte.
pub(crate) fn hash() -> u64 {
    let version = LAYOUT_VERSION.to_le_bytes();
    describe()
        .bytes()
        .chain(version)
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
