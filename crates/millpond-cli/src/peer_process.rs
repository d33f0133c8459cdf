//! Processes that are this program again, under a hidden command, and end with the one that started them.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::bail;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::set_name;

/// This program with two arguments. Spawn it on the main thread: the kernel kills the peer when the thread that started it ends.
pub fn command(hidden_command: &str, order: &str) -> Command {
    // Not `current_exe`: the file may have been replaced since we were started. A process group of its own keeps
    // Ctrl-C on the terminal from reaching the peer, which would look like a crash; we stop it ourselves.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("millpond").args([hidden_command, order]).process_group(0);
    command
}

/// In a peer: from now on this process dies with its parent, however that one ends.
///
/// # Errors
/// If the parent has ended already.
pub fn die_with(parent_pid: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Else it is called `exe`, after the link that was executed.
    set_name(c"millpond")?;
    // The parent may have died before it could be watched.
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent_pid) {
        bail!("the process that started this one is gone");
    }
    Ok(())
}
