//! `millpond bench recover`: a process that holds buffers is killed again and again while others stream; how long until
//! all is well?

use std::time::{Duration, Instant};

use anyhow::ensure;
use millpond_shm::{
    ConnectionConfig, ConnectionInfo, InputConfig, Monitor, OnReceiverDeath, OutputConfig, Pond, Role,
    SendReason, Snapshot, Wait,
};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::histogram::Histogram;
use super::peer::{self, Peer, Task, wait_for_go};
use super::report::{Quantity, Report};
use super::stream::{Stream, set_sequence};
use crate::clock::monotonic_ns;

const SIZE_BYTES: usize = 4096;
/// Of the connection to the victim.
const DEPTH: u32 = 16;
/// The two processes that stream all the time.
const BYSTANDERS: Stream = Stream { size_bytes: SIZE_BYTES, depth: 16, fill: false, touch: false };
/// Nothing may take this long; if it does, the benchmark fails instead of waiting for ever.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks from outside: short beside a millisecond, and long enough to leave the cores to the others.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Options of `millpond bench recover`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
Half of what the victim holds it has received, half it has allocated. Its only
sender is blocked when it is killed. Recovery is over when a monitor sees, from
outside, that the dead process holds nothing any more; release, when the blocked
sender has been told. A stream between two other processes runs all the time and
may not lose a message.

Examples:
  millpond bench recover
  millpond bench recover --kills 1000 --server --json")]
pub struct Args {
    /// How often to kill
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Buffers that the victim holds
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=4096))]
    hold: u32,
    /// A runtime server, which does nothing but recover, runs beside
    #[arg(long)]
    server: bool,
}

/// Measures.
///
/// # Errors
/// If anything is not given back, or the other stream is disturbed.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    // Twice what all can hold: nobody is to wait for a free buffer.
    let blocks = 2 * (args.hold + DEPTH) + BYSTANDERS.blocks(1);
    let pond = BenchPond::create("recover", SIZE_BYTES, blocks)?;
    let to_victim = ConnectionConfig {
        depth: Some(DEPTH),
        on_receiver_death: OnReceiverDeath::GiveUp,
        ..ConnectionConfig::default()
    };
    pond.connect("sender.out", "victim.in", &to_victim)?;
    pond.connect_lossless("bystander-source.out", "bystander-sink.in", BYSTANDERS.depth)?;
    let name = || pond.name().to_owned();
    let server =
        args.server.then(|| Peer::start("server", Task::Serve(Server { pond: name() }))).transpose()?;
    let mut sender = Peer::start("sender", Task::Feed(Sender { pond: name() }))?;
    let mut source = Peer::start("bystander", Task::Bystand(Bystander { pond: name(), sends: true }))?;
    let mut sink = Peer::start("bystander", Task::Bystand(Bystander { pond: name(), sends: false }))?;
    let monitor = Monitor::open(pond.name())?;

    let (mut recoveries, mut releases) = (Histogram::new(), Histogram::new());
    for _ in 0..args.kills {
        pond.check_running()?;
        let task = Victim { pond: name(), allocate: args.hold / 2, receive: args.hold.div_ceil(2) };
        let mut victim = Peer::start("victim", Task::Hold(task))?;
        let _attached: bool = victim.listen()?;
        sender.go()?;
        let _holding: bool = victim.listen()?;
        look_until(&monitor, "the sender to be blocked", |pond| {
            to_victim_now(pond).is_some_and(|connection| connection.queued == u64::from(DEPTH))
        })?;
        let before = held_by(&monitor.snapshot(), victim.pid());
        ensure!(before == u64::from(args.hold), "the victim holds {before} buffers, expected {}", args.hold);

        let killed = monotonic_ns();
        victim.kill()?;
        look_until(&monitor, "recovery", |pond| held_by(pond, victim.pid()) == 0)?;
        recoveries.record(monotonic_ns() - killed);
        let released: u64 = sender.listen()?;
        releases.record(released.saturating_sub(killed));
    }

    source.go()?;
    let sent: u64 = source.listen()?;
    let Streamed { received, longest_pause_ns } = sink.listen()?;
    ensure!(sent == received, "the bystanders sent {sent} messages and {received} arrived");
    let lost = to_victim_now(&monitor.snapshot()).map_or(0, |connection| connection.lost_in_hand);
    let in_hand = u64::from(args.kills) * u64::from(args.hold.div_ceil(2));
    ensure!(lost == in_hand, "{lost} buffers are counted as lost in hand, the victims had {in_hand}");
    let check = monitor.check();
    ensure!(check.is_clean(), "buffers are not accounted for: {}", check.problems.join("; "));
    drop((server, sender, source, sink));

    let ms = |ns: f64| Quantity::Milliseconds(ns / 1e6);
    let method = format!(
        "From SIGKILL until a monitor, which looks every {} µs, sees nothing held by the dead process; release: until \
         its blocked sender has been told. Beside it two processes streamed {sent} messages, all in order.",
        LOOK_EVERY.as_micros()
    );
    Ok(Report::new("recover", args, None, method)?
        .figure("recovery_p50_ms", ms(recoveries.quantile(0.5)))
        .figure("recovery_p99_ms", ms(recoveries.quantile(0.99)))
        .figure("recovery_max_ms", ms(recoveries.max()))
        .figure("release_p50_ms", ms(releases.quantile(0.5)))
        .figure("release_p99_ms", ms(releases.quantile(0.99)))
        .figure("release_max_ms", ms(releases.max()))
        .figure("bystander_longest_pause_ms", ms(longest_pause_ns as f64)))
}

/// Looks from outside again and again.
fn look_until(
    monitor: &Monitor,
    what: &str,
    mut reached: impl FnMut(&Snapshot) -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !reached(&monitor.snapshot()) {
        ensure!(start.elapsed() < DEADLINE, "waited for {what} for {DEADLINE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn held_by(pond: &Snapshot, pid: u32) -> u64 {
    pond.processes.iter().filter(|process| process.pid == pid).map(|process| process.held_buffers).sum()
}

fn to_victim_now(pond: &Snapshot) -> Option<&ConnectionInfo> {
    pond.connections.iter().find(|connection| connection.to == "victim.in")
}

/// The process that is killed.
#[derive(Serialize, Deserialize)]
pub struct Victim {
    pond: String,
    allocate: u32,
    receive: u32,
}

impl Victim {
    /// Takes what it is to hold, says so, and waits for its end.
    ///
    /// # Errors
    /// If the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let mut input =
            pond.input("victim.in", &InputConfig { wait: Wait::Block, ..InputConfig::default() })?;
        peer::tell(&true)?;
        let mut allocator = pond.allocator();
        let allocated: Vec<_> =
            (0..self.allocate).map(|_| allocator.allocate(SIZE_BYTES)).collect::<Result<_, _>>()?;
        let received: Vec<_> = (0..self.receive).map(|_| input.receive()).collect::<Result<_, _>>()?;
        peer::tell(&true)?;
        pond.waiter(Wait::Block)?.wait(None, || false);
        drop((allocated, received));
        Ok(())
    }
}

/// The process whose only receiver is the victim.
#[derive(Serialize, Deserialize)]
pub struct Sender {
    pond: String,
}

impl Sender {
    /// Each time it may go on: sends until it is blocked and released by the death of the receiver, and tells when.
    ///
    /// # Errors
    /// If it is released by anything else.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let mut output =
            pond.output("sender.out", &OutputConfig { wait: Wait::Block, ..OutputConfig::default() })?;
        while wait_for_go()? {
            let mut sequence = 0;
            let released = loop {
                let mut buffer = output.allocate(SIZE_BYTES)?;
                set_sequence(&mut buffer, sequence)?;
                sequence += 1;
                match output.send(buffer) {
                    Ok(()) => {}
                    Err(error) if matches!(error.reason, SendReason::ReceiverDied { .. }) => {
                        break monotonic_ns();
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            peer::tell(&released)?;
        }
        Ok(())
    }
}

/// One of the two processes that are not concerned.
#[derive(Serialize, Deserialize)]
pub struct Bystander {
    pond: String,
    sends: bool,
}

impl Bystander {
    /// Streams until told to go, and tells how many messages that were; the receiver also how long none came.
    ///
    /// # Errors
    /// If the stream is disturbed.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        if self.sends {
            let mut output = pond.output(
                "bystander-source.out",
                &OutputConfig { wait: Wait::Block, ..OutputConfig::default() },
            )?;
            let told = std::thread::spawn(wait_for_go);
            let sent = BYSTANDERS.send(&mut output, |_| told.is_finished())?;
            peer::tell(&sent)
        } else {
            let mut input = pond
                .input("bystander-sink.in", &InputConfig { wait: Wait::Block, ..InputConfig::default() })?;
            let (mut last, mut longest_pause) = (None, Duration::ZERO);
            let received = BYSTANDERS.receive(&mut input, |_| {
                let now = Instant::now();
                longest_pause = longest_pause.max(now - last.replace(now).unwrap_or(now));
                Ok(())
            })?;
            peer::tell(&Streamed {
                received: received.messages,
                longest_pause_ns: longest_pause.as_nanos() as u64,
            })
        }
    }
}

/// What the receiving bystander saw.
#[derive(Serialize, Deserialize)]
struct Streamed {
    received: u64,
    longest_pause_ns: u64,
}

/// The runtime server.
#[derive(Serialize, Deserialize)]
pub struct Server {
    pond: String,
}

impl Server {
    /// Is there, and recovers, until the pond stops.
    ///
    /// # Errors
    /// If the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Server)?;
        pond.waiter(Wait::Block)?.wait(None, || false);
        Ok(())
    }
}
