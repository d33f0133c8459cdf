//! The other processes of a benchmark: this program, executed again with an order as its argument.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow, bail};
use millpond_shm::{ReceiveError, SendError, SendReason};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{align, chain, fanout, latency, recover, throughput};
use crate::peer_process;

/// What a peer is told to do.
#[derive(Serialize, Deserialize)]
pub enum Task {
    Echo(latency::Echo),
    Produce(throughput::Producer),
    Consume(fanout::Consumer),
    Forward(chain::Stage),
    Stamp(align::Source),
    Hold(recover::Victim),
    Feed(recover::Sender),
    Bystand(recover::Bystander),
    Serve(recover::Server),
}

impl Task {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Echo(task) => task.run(),
            Self::Produce(task) => task.run(),
            Self::Consume(task) => task.run(),
            Self::Forward(task) => task.run(),
            Self::Stamp(task) => task.run(),
            Self::Hold(task) => task.run(),
            Self::Feed(task) => task.run(),
            Self::Bystand(task) => task.run(),
            Self::Serve(task) => task.run(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Order {
    parent_pid: u32,
    task: Task,
}

/// Argument of the hidden command `bench-peer`.
#[derive(clap::Args)]
pub struct PeerArgs {
    /// The order, as JSON.
    order: String,
}

/// Carries out an order. The process dies with the one that ordered it, however that one ends.
///
/// # Errors
/// Whatever the task meets.
pub fn run(args: PeerArgs) -> anyhow::Result<ExitCode> {
    let order: Order = serde_json::from_str(&args.order).context("not an order of `millpond bench`")?;
    peer_process::die_with(order.parent_pid)?;
    match order.task.run() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The benchmark knows, and says so for all.
        Err(error) if was_stopped(&error) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

fn was_stopped(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ReceiveError::Stopped))
        || error.downcast_ref().is_some_and(|error: &SendError| error.reason == SendReason::Stopped)
}

/// Tells the process that ordered this one something, as one line of JSON.
///
/// # Errors
/// If it does not listen any more.
pub fn tell(report: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

/// A running peer; killed and reaped when dropped.
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    name: &'static str,
}

impl Peer {
    /// Starts a peer; `name` is for error messages. Call this on the main thread: the kernel kills the peer when the thread
    /// that started it ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &'static str, task: Task) -> anyhow::Result<Self> {
        let order = serde_json::to_string(&Order { parent_pid: std::process::id(), task })?;
        let mut child = peer_process::command("bench-peer", &order)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let orders = child.stdin.take().context("no pipe to the peer")?;
        let reports = BufReader::new(child.stdout.take().context("no pipe from the peer")?);
        Ok(Self { child, orders, reports, name })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next thing it tells; waits for it.
    ///
    /// # Errors
    /// If it ends without.
    pub fn listen<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            bail!("the {} ended early ({status})", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("the {} said {line:?}", self.name))
    }

    /// Lets a peer go on that waits with [`wait_for_go`].
    ///
    /// # Errors
    /// If it has ended.
    pub fn go(&mut self) -> anyhow::Result<()> {
        self.orders.write_all(b"go\n").with_context(|| format!("the {} has ended", self.name))
    }

    /// It has not ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the {} ended early ({status})", self.name),
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the {} failed ({status})", self.name);
        }
        Ok(())
    }

    /// Sends SIGKILL and does not wait.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill the {}", self.name))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only if it has been reaped already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side of a pair: a process of its own, or a thread of this one.
pub enum Partner<T> {
    /// It tells its result as the last thing.
    Process(Peer),
    /// It returns its result.
    Thread(JoinHandle<anyhow::Result<T>>),
}

impl<T: DeserializeOwned> Partner<T> {
    /// It has not ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(peer) => peer.check_alive(),
            Self::Thread(thread) if thread.is_finished() => bail!("the other thread ended early"),
            Self::Thread(_) => Ok(()),
        }
    }

    /// Waits until it has ended by itself, and gives its result.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(self) -> anyhow::Result<T> {
        match self {
            Self::Process(mut peer) => {
                let result = peer.listen()?;
                peer.finish()?;
                Ok(result)
            }
            Self::Thread(thread) => thread.join().map_err(|_| anyhow!("the other thread panicked"))?,
        }
    }
}

/// In a peer: waits for [`Peer::go`]; false if no more will come.
///
/// # Errors
/// If standard input fails.
pub fn wait_for_go() -> anyhow::Result<bool> {
    Ok(std::io::stdin().read_line(&mut String::new())? > 0)
}
