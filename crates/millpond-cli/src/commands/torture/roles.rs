//! The tortured processes. Each does its part by the public interface of `millpond-shm`, as any program would.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millpond_shm::{
    BlockCounters, Buffer, Error, Input, InputConfig, Output, OutputConfig, Pond, PondConfig, PoolConfig,
    ReceiveError, Role as PondRole, SendError, SendReason,
};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Process, Role};
use super::message::{LONGEST_BYTES, Message, Record};
use crate::clock::monotonic_ns;
use crate::peer_process;

/// Counters of a block: messages sent or received.
pub const MESSAGES: usize = 0;
/// Of a bystander: the longest time it stood still, ns.
pub const LONGEST_STALL_NS: usize = 1;
/// Of a bystander that sends: since when it has been sending its message, 0 if it is not.
pub const SENDING_SINCE_NS: usize = 2;

/// Commands, one a line on standard input. From now on bystanders measure; nothing new is sent; the changing connection.
pub const MEASURE: &str = "measure";
pub const STOP: &str = "stop";
pub const CONNECT: &str = "connect";
pub const DISCONNECT: &str = "disconnect";

/// No call waits longer, so that commands are heard.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// Between two messages of a sensor.
const SENSOR_PERIOD: Duration = Duration::from_millis(1);
/// A predecessor that has been killed may still be dying.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// What one process is told when it is started.
#[derive(Serialize, Deserialize)]
pub struct Order {
    pub parent_pid: u32,
    pub pond: String,
    pub process: Process,
    pub incarnation: u32,
    /// For the supervisor only.
    pub graph: Option<Graph>,
}

/// Argument of the hidden command `torture-peer`.
#[derive(clap::Args)]
pub struct PeerArgs {
    /// The order, as JSON.
    order: String,
}

/// Carries out an order.
///
/// # Errors
/// Whatever the process meets that it should not.
pub fn run(args: PeerArgs) -> anyhow::Result<ExitCode> {
    let order: Order = serde_json::from_str(&args.order).context("not an order of `millpond torture`")?;
    peer_process::die_with(order.parent_pid)?;
    order
        .carry_out()
        .with_context(|| format!("`{}`, incarnation {}", order.process.name, order.incarnation))?;
    Ok(ExitCode::SUCCESS)
}

/// What came in on standard input.
#[derive(Default)]
pub struct Heard {
    pub stop: AtomicBool,
    pub measure: AtomicBool,
}

impl Heard {
    /// Listens on a thread of its own. Only flags: whoever looks does so again and again.
    pub fn listen() -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in stdin().lock().lines().map_while(Result::ok) {
                let flag = if line == MEASURE { &told.measure } else { &told.stop };
                flag.store(true, Ordering::Relaxed);
            }
            told.stop.store(true, Ordering::Relaxed);
        });
        heard
    }
}

impl Order {
    fn carry_out(&self) -> anyhow::Result<()> {
        match &self.process.role {
            Role::Supervisor => self.supervise(),
            Role::Server => {
                let _pond = Pond::attach(&self.pond, PondRole::Server)?;
                // Its watcher does the work.
                stdin().lock().lines().map_while(Result::ok).find(|line| line == STOP);
                Ok(())
            }
            &Role::Source { source, batch, pause_us } => {
                self.send(source, batch, Duration::from_micros(pause_us), false)
            }
            &Role::Sensor { source } => self.send(source, 1, SENSOR_PERIOD, true),
            &Role::Forwarder { hold, python: true, .. } => self.forward_in_python(hold),
            &Role::Forwarder { hold, redeliver, .. } => self.forward(hold, redeliver),
            &Role::Aligner { source, hold, redeliver } => self.align(source, hold, redeliver),
            &Role::Publisher { source, pause_us } => self.publish(source, Duration::from_micros(pause_us)),
            Role::Responder => self.respond(),
            Role::Caller { responders } => self.call(responders),
            Role::Sink { .. } => self.receive(),
        }
    }

    pub(super) fn attach(&self) -> anyhow::Result<Pond> {
        Ok(Pond::attach(&self.pond, PondRole::Block)?)
    }

    pub(super) fn output(&self, pond: &Pond) -> anyhow::Result<Output> {
        let port = self.process.output().context("no output")?;
        after_predecessor(|| pond.output(&port, &OutputConfig::default()))
    }

    fn input(&self, pond: &Pond, shared: bool) -> anyhow::Result<Input> {
        let port = self.process.inputs().pop().context("no input")?;
        let config = InputConfig { shared, redeliver: self.process.redelivers(), ..InputConfig::default() };
        after_predecessor(|| pond.input(&port, &config))
    }

    fn supervise(&self) -> anyhow::Result<()> {
        let graph = self.graph.as_ref().context("a supervisor without graph")?;
        let pond = if self.incarnation == 0 {
            // Many more buffers than the queues and hands of all can hold.
            let pools = vec![PoolConfig::new(256, 2048), PoolConfig::new(LONGEST_BYTES as u64, 1024)];
            let pond = Pond::create(&self.pond, &PondConfig { table_slots: 3072, pools }, PondRole::Tool)?;
            for connection in &graph.connections {
                pond.connect(&connection.from, &connection.to, &connection.config())?;
            }
            pond
        } else {
            Pond::attach(&self.pond, PondRole::Tool)?
        };
        for line in stdin().lock().lines().map_while(Result::ok) {
            for connection in graph.connections.iter().filter(|c| c.comes_and_goes) {
                let (from, to) = (&connection.from, &connection.to);
                let done = match line.as_str() {
                    CONNECT => pond.connect(from, to, &connection.config()),
                    DISCONNECT => pond.disconnect(from, to),
                    _ => return Ok(()),
                };
                match done {
                    // A predecessor has done it before it died.
                    Ok(()) | Err(Error::Exists { .. } | Error::Unknown { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The numbers of a sensor are the time in periods, and so rise over all of its incarnations.
    fn send(&self, source: u32, batch: usize, pause: Duration, sensor: bool) -> anyhow::Result<()> {
        let heard = Heard::listen();
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let mut out = self.output(&pond)?;
        let mut queue = VecDeque::new();
        let mut next = 0;
        if sensor {
            std::thread::sleep(pause);
        }
        while !heard.stop.load(Ordering::Relaxed) {
            let start = monotonic_ns();
            let measured = self.process.bystander && heard.measure.load(Ordering::Relaxed);
            counters.set(SENDING_SINCE_NS, if measured { start } else { 0 });
            while queue.len() < batch {
                let sent_ns = if measured { start } else { 0 };
                let number = if sensor { monotonic_ns() / SENSOR_PERIOD.as_nanos() as u64 } else { next };
                let message = Message { source, incarnation: self.incarnation, number, sent_ns };
                match out.allocate_timeout(message.len(), PATIENCE) {
                    Ok(mut buffer) => {
                        message.write(buffer.as_bytes_mut());
                        queue.push_back(buffer.freeze());
                        next += 1;
                    }
                    Err(Error::PoolExhausted { .. }) if heard.stop.load(Ordering::Relaxed) => break,
                    Err(Error::PoolExhausted { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            while !queue.is_empty() {
                send_some(&mut out, &mut queue, &counters)?;
            }
            counters.set(SENDING_SINCE_NS, 0);
            if measured {
                let longest = counters.get(LONGEST_STALL_NS).max(monotonic_ns() - start);
                counters.set(LONGEST_STALL_NS, longest);
            }
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn forward(&self, hold: usize, redeliver: bool) -> anyhow::Result<()> {
        let mut book = Book::open()?;
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let mut out = self.output(&pond)?;
        let mut input = self.input(&pond, false)?;
        debug_assert_eq!(redeliver, self.process.redelivers());
        let mut held = VecDeque::new();
        let mut ended = false;
        while !ended || !held.is_empty() {
            match input.receive_timeout(if ended { Duration::ZERO } else { PATIENCE }) {
                Ok(buffer) => {
                    book.write(std::slice::from_ref(&buffer))?;
                    held.push_back(buffer);
                }
                Err(ReceiveError::Timeout) => {}
                Err(ReceiveError::SenderDied { .. }) => {}
                Err(ReceiveError::EndOfStream) => ended = true,
                Err(error) => return Err(error.into()),
            }
            // Nothing is kept for ever: what is held goes on when no more comes.
            if held.len() > hold || (ended || input.queued() == 0) && !held.is_empty() {
                send_some(&mut out, &mut held, &counters)?;
            }
        }
        Ok(())
    }

    fn receive(&self) -> anyhow::Result<()> {
        let Role::Sink { hold, batch, shared, pause_us, .. } = self.process.role else { bail!("not a sink") };
        let mut book = Book::open()?;
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let mut input = self.input(&pond, shared)?;
        let (mut taken, mut held) = (Vec::with_capacity(batch), VecDeque::new());
        loop {
            let already = if batch > 1 { input.receive_batch(batch, &mut taken) } else { Ok(0) };
            let received = match already {
                Ok(0) => input.receive_timeout(PATIENCE).map(|buffer| taken.push(buffer)),
                other => other.map(drop),
            };
            match received {
                Ok(()) => {}
                Err(ReceiveError::Timeout | ReceiveError::SenderDied { .. }) => continue,
                Err(ReceiveError::EndOfStream) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let messages = book.write(&taken)?;
            counters.set(MESSAGES, counters.get(MESSAGES) + taken.len() as u64);
            if self.process.bystander {
                let sent = messages.iter().flatten().map(|m| m.sent_ns).filter(|&ns| ns != 0).min();
                let late = sent.map_or(0, |sent| monotonic_ns().saturating_sub(sent));
                counters.set(LONGEST_STALL_NS, counters.get(LONGEST_STALL_NS).max(late));
            }
            held.extend(taken.drain(..));
            while held.len() > hold {
                held.pop_front();
            }
            if pause_us > 0 {
                std::thread::sleep(Duration::from_micros(pause_us));
            }
        }
    }
}

/// Sends what goes, from the front, or waits a little until the first one does.
pub fn send_some(
    out: &mut Output,
    queue: &mut VecDeque<Buffer>,
    counters: &BlockCounters,
) -> anyhow::Result<()> {
    let sent = match out.send_batch(queue) {
        Ok(0) => match queue.pop_front().map(|buffer| out.send_timeout(buffer, PATIENCE)) {
            Some(Err(error)) => {
                keep(error, queue)?;
                0
            }
            Some(Ok(())) => 1,
            None => 0,
        },
        Ok(sent) => sent,
        Err(error) => {
            keep(error, queue)?;
            0
        }
    };
    counters.set(MESSAGES, counters.get(MESSAGES) + sent as u64);
    Ok(())
}

/// Puts a buffer that was not sent back for the next try.
fn keep(SendError { reason, buffer }: SendError, queue: &mut VecDeque<Buffer>) -> anyhow::Result<()> {
    match reason {
        SendReason::Timeout | SendReason::Full => {}
        // Its successor will come.
        SendReason::ReceiverDied { .. } => std::thread::sleep(Duration::from_millis(1)),
        reason => bail!("not sent: {reason}"),
    }
    queue.push_front(buffer);
    Ok(())
}

/// Opens a port as soon as the process that had it is dead.
pub fn after_predecessor<T>(mut open: impl FnMut() -> millpond_shm::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match open() {
            Err(Error::PortInUse { .. }) if start.elapsed() < PREDECESSOR => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return Ok(done?),
        }
    }
}

/// The file in which a receiver writes down what it has received: its standard output, which survives it.
pub struct Book(File);

impl Book {
    pub fn open() -> anyhow::Result<Self> {
        // Not through the standard library's buffer: a record must be in the file before the buffer may be given back.
        Ok(Self(File::from(stdout().as_fd().try_clone_to_owned()?)))
    }

    /// Writes down all of them at once.
    pub fn write(&mut self, buffers: &[Buffer]) -> anyhow::Result<Vec<Option<Message>>> {
        let messages: Vec<_> = buffers.iter().map(|buffer| Message::read(buffer.as_bytes())).collect();
        let records = messages.iter().zip(buffers).map(|(m, b)| Record::of(*m, b.redelivered()).to_bytes());
        self.write_records(&records.flatten().collect::<Vec<u8>>())?;
        Ok(messages)
    }

    /// Writes down a message that came over the bus.
    pub fn write_mail(&mut self, contents: &[u8]) -> anyhow::Result<()> {
        self.write_records(&Record::of(Message::read(contents), false).to_bytes())
    }

    fn write_records(&mut self, records: &[u8]) -> anyhow::Result<()> {
        let written = self.0.write(records)?;
        if written < records.len() {
            bail!("wrote {written} of {} bytes to the account: is the disk full?", records.len());
        }
        Ok(())
    }
}
