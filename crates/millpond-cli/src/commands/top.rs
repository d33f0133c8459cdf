//! `millpond top`: how every block and queue of a pond is doing, again and again.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use millpond::parse_duration;
use millpond_shm::Monitor;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::terminal::disable_raw_mode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output;

mod rows;
mod screen;

use rows::{Rows, Sampler};

/// How soon it is noticed that a signal came.
const NOTICED_WITHIN: Duration = Duration::from_millis(200);
/// How long the terminal may take then to be given back.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(3);

/// Options of `millpond top`.
#[derive(clap::Args)]
#[command(after_help = "\
A row for each block, and below it one for each queue that it takes from. The
pond is read, never attached to, so looking disturbs nobody; its last state
stays on the screen when all its processes have ended. WAITING is what a block
waits for, as its queues say. CPU is of the block's process.

Keys: arrows and page keys scroll, p pauses, q ends.

Into a pipe, or with --json, the rows are printed once, after one interval.

Examples:
  millpond top telemetry
  millpond top telemetry --interval 100ms
  millpond top telemetry --json | jq '.rows[] | select(.dropped > 0)'

Exit codes:
  0  ok
  1  there is no such pond, or it cannot be read
  2  the arguments are wrong")]
pub struct Args {
    /// Name of the pond, as `millpond ps` shows it
    #[arg(value_name = "NAME")]
    pond: String,
    /// Time between two looks
    #[arg(long, value_parser = parse_duration, default_value = "500ms")]
    interval: Duration,
    /// Print one JSON object: {"pond": ..., "alive": ..., "rows": [...]}
    #[arg(long)]
    json: bool,
}

/// Shows.
///
/// # Errors
/// If there is no such pond, it cannot be read, or the terminal fails.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut sampler = Sampler::new(Monitor::open(&args.pond)?);
    sampler.look();
    if args.json || !std::io::stdout().is_terminal() {
        std::thread::sleep(args.interval);
        let rows = sampler.look();
        if args.json {
            output::print_json(&rows)?
        } else {
            output::print(&screen::plain(&rows))?
        };
        return Ok(ExitCode::SUCCESS);
    }
    let is_asked_to_end = listen().context("cannot listen for signals")?;
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    let shown = show(&mut terminal, &mut sampler, args.interval, &is_asked_to_end);
    let restored = ratatui::try_restore();
    shown?;
    restored.context("cannot give the terminal back")?;
    Ok(ExitCode::SUCCESS)
}

/// From now on a signal does not end the process, which has to give the terminal back first, but becomes a flag.
fn listen() -> std::io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let is_asked_to_end = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_asked_to_end);
    // The thread sleeps until the process ends.
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Relaxed: only a flag, at which the other thread looks again and again.
            asked.store(true, Ordering::Relaxed);
            std::thread::sleep(GIVEN_BACK_WITHIN);
            // The terminal is gone, which keeps reading from it busy for ever, or takes nothing.
            let _ = disable_raw_mode();
            std::process::exit(1);
        }
    });
    Ok(is_asked_to_end)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    sampler: &mut Sampler,
    interval: Duration,
    is_asked_to_end: &AtomicBool,
) -> anyhow::Result<()> {
    let mut view = View { rows: sampler.look(), first: 0, paused: false };
    let mut next_look = Instant::now() + interval;
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut view))?;
        loop {
            if is_asked_to_end.load(Ordering::Relaxed) {
                return Ok(());
            }
            let left = next_look.saturating_duration_since(Instant::now());
            if event::poll(left.min(NOTICED_WITHIN))? {
                // Other events, a new size among them, need nothing but drawing anew.
                if let Event::Key(key) = event::read()?
                    && !view.handle(key)
                {
                    return Ok(());
                }
                break;
            }
            if Instant::now() >= next_look {
                break;
            }
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + interval;
            if !view.paused {
                view.rows = sampler.look();
            }
        }
    }
}

/// What is on the screen.
struct View {
    rows: Rows,
    /// The first row shown.
    first: usize,
    paused: bool,
}

impl View {
    /// Does what the key asks for; false to end.
    fn handle(&mut self, key: KeyEvent) -> bool {
        const PAGE: usize = 10;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::Down => self.first += 1,
            KeyCode::PageUp => self.first = self.first.saturating_sub(PAGE),
            KeyCode::PageDown => self.first += PAGE,
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX,
            _ => {}
        }
        true
    }
}
