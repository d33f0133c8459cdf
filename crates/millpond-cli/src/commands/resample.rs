//! `millpond resample`: a WAV file at another rate.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use millpond::flowgraph::RestartWhen;
use millpond::supervisor::{Death, Event, Launcher, Outcome, Supervisor};
use millpond::{Catalog, Flowgraph, Value};

use crate::args::UsageError;
use crate::output;

/// A signal ended it: 128 + SIGINT, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;
/// Frames that the blocks hand on at a time. With 256 channels they still fit the largest default buffers.
const FRAMES: i64 = 1024;

/// Options of `millpond resample`.
#[derive(clap::Args)]
#[command(after_help = "\
OUTPUT has the sample format of INPUT: floats stay floats, integers are rounded to
the nearest (not dithered) and clip. It has INPUT frames x R / rate frames, rounded
up, and no delay. What passes, up to 0.48 of the lower rate, is right to -145 dB.
Memory does not grow with the file. An OUTPUT that exists is overwritten; one that
could not be completed is removed.

The same as: millpond run 'wav-source path=INPUT ! resampler rate_hz=R ! wav-sink path=OUTPUT'

Examples:
  millpond resample song.wav song-44k1.wav --rate 44100
  millpond resample --rate 16000 speech.wav speech-16k.wav

Exit codes:
  0    OUTPUT is complete
  1    INPUT is no whole WAV file, OUTPUT cannot be written, or the rates do not fit
  2    the arguments are wrong
  130  interrupted")]
pub struct Args {
    /// The WAV file to read: integers of 8, 16, 24 or 32 bits, or floats of 32
    input: PathBuf,
    /// The WAV file to write
    output: PathBuf,
    /// The rate of OUTPUT in Hz
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=4_000_000_000))]
    rate: u32,
}

/// Resamples.
///
/// # Errors
/// Why there is no complete output.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // A missing input is told before anything is started.
    std::fs::metadata(&args.input).with_context(|| format!("cannot read {}", args.input.display()))?;
    output::check_is_not(&args.input, &args.output)?;
    let known = std::fs::metadata(&args.output).ok();
    let flowgraph = flowgraph(&args)?;
    let before = known.map(|output| (output.mtime(), output.mtime_nsec(), output.len()));
    let supervisor = Supervisor::new(flowgraph, Launcher::this_program()?).context("cannot resample")?;
    let mut note = String::new();
    let summary = supervisor.run(&mut |event| match event {
        Event::Note { note: said, .. } => note = (*said).to_owned(),
        Event::Line { line, .. } => eprintln!("{line}"),
        _ => {}
    })?;
    match summary.outcome {
        Outcome::Done { reason: None } => {
            output::print(&format!("{note}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Outcome::Failed { death, .. } => {
            remove_incomplete(&args.output, before);
            match death {
                Death::Failed { cause } => bail!("cannot resample: {cause}"),
                death => bail!("cannot resample: the process {death}"),
            }
        }
        _ => {}
    }
    remove_incomplete(&args.output, before);
    eprintln!("millpond: interrupted");
    Ok(ExitCode::from(EXIT_INTERRUPTED))
}

fn flowgraph(args: &Args) -> anyhow::Result<Flowgraph> {
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(Value::from(text)),
        None => Err(UsageError(format!("expected a path in UTF-8, found {}", path.display()))),
    };
    let mut flowgraph = Flowgraph::builder(&format!("resample-{}", std::process::id()))
        .block("input", "wav-source", &[("path", text(&args.input)?), ("frames", FRAMES.into())])
        .block("resampler", "resampler", &[("rate_hz", i64::from(args.rate).into())])
        .block("output", "wav-sink", &[("path", text(&args.output)?)])
        .connect("input -> resampler -> output")
        .build(&Catalog::builtin())?;
    for block in &mut flowgraph.blocks {
        block.restart.when = RestartWhen::Never;
    }
    flowgraph.fuse(1);
    Ok(flowgraph)
}

/// Removes a file that is not what it should have become; not a device, and not one that has never been opened for writing.
fn remove_incomplete(output: &Path, before: Option<(i64, i64, u64)>) {
    let now = std::fs::symlink_metadata(output).ok().filter(std::fs::Metadata::is_file);
    if now.is_some_and(|now| Some((now.mtime(), now.mtime_nsec(), now.len())) != before) {
        // What cannot be removed stays; the exit code says that it is not complete.
        let _ = std::fs::remove_file(output);
    }
}
