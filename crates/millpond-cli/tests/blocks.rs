//! Blocks at work in real pipelines: each block its own process, real files, pipes and programs.

mod pipeline;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use pipeline::{Directory, Pipeline, kill, wait_until};
use rustix::process::Signal;

const RATE_HZ: u32 = 48_000;

/// 64 taps of no symmetry whose sum is about 1.
fn taps() -> Vec<f64> {
    (0..64).map(|k| f64::from(k + 1) / 800.0 * (f64::from(k) * 0.11).cos()).collect()
}

/// 60 s of noise with a tone in it.
fn song() -> Vec<f32> {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut sample = |i: u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let noise = (random >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
        noise + 0.5 * (i as f32 * 0.05).sin()
    };
    (0..60 * RATE_HZ).map(|i| sample(i % RATE_HZ)).collect()
}

#[test]
fn a_minute_of_sound_through_a_filter_is_what_its_definition_says() {
    let directory = Directory::new();
    let song = song();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(directory.path("song.wav"), spec).expect("a file");
    song.iter().for_each(|sample| writer.write_sample(*sample).expect("a sample"));
    writer.finalize().expect("a file");
    let taps = taps();
    let file = directory.write(
        "filter.toml",
        &format!(
            r#"
                connect = ["song -> filter -> file"]
                blocks.song = {{ type = "wav-source", path = "song.wav", frames = 5000 }}
                blocks.filter = {{ type = "fir", taps = {taps:?} }}
                blocks.file = {{ type = "wav-sink", path = "filtered.wav" }}
            "#
        ),
    );
    let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
    assert_eq!(end.code, Some(0), "{end}");
    let mut reader = hound::WavReader::open(end.path("filtered.wav")).expect("a file");
    let filtered: Vec<f32> = reader.samples().map(|sample| sample.expect("a sample")).collect();
    assert_eq!(filtered.len(), song.len());
    // The definition, in f64: each output is the sum of the taps times the latest inputs.
    let song: Vec<f64> = song.into_iter().map(f64::from).collect();
    let reversed: Vec<f64> = taps.iter().rev().copied().collect();
    let mut largest = 0f64;
    for (i, found) in filtered.iter().enumerate() {
        let latest = &song[(i + 1).saturating_sub(taps.len())..=i];
        let taps = &reversed[taps.len() - latest.len()..];
        let expected: f64 = latest.iter().zip(taps).map(|(sample, tap)| sample * tap).sum();
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 1e-6, "sample {i}: expected {expected}, found {found}");
        largest = largest.max(error);
    }
    // Computed in f32: no error at all would mean that something else was compared.
    assert!(largest > 0.0);
}

#[test]
fn bytes_pass_from_standard_input_through_a_program_to_standard_output() {
    let directory = Directory::new();
    let file = directory.write(
        "upper.toml",
        r#"
            connect = ["input -> upper -> output"]
            blocks.input = { type = "stdin-source", frames = 1000 }
            blocks.upper = { type = "exec", command = "tr a-z A-Z" }
            blocks.output = { type = "stdout-sink" }
        "#,
    );
    let text = "Sphinx of black quartz, judge my vow!\n".repeat(10_000);
    let mut child = Command::new(env!("CARGO_BIN_EXE_millpond"))
        .args(["run", &file, "--quiet"])
        .env("MILLPOND_RUNTIME_DIR", directory.path("ponds"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("millpond");
    let mut stdin = child.stdin.take().expect("stdin");
    let written = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(written.as_bytes()));
    let mut shouted = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut shouted).expect("text");
    let end = child.wait_with_output().expect("an end");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    assert!(shouted == text.to_uppercase(), "{} of {} bytes", shouted.len(), text.len());
    writer.join().expect("the writer").expect("all is read");
}

#[test]
fn a_source_that_is_killed_goes_on_where_it_was() {
    let directory = Directory::new();
    let file = directory.write(
        "noise.toml",
        r#"
            connect = ["noise -> real-time -> disk"]
            blocks.noise = { type = "signal", waveform = "noise", frames = 100, duration_s = 4.0 }
            blocks.real-time = { type = "throttle" }
            blocks.disk = { type = "file-sink", path = "noise.f32" }
        "#,
    );
    let mut run = Pipeline::start_in(directory, &file, &[]);
    let noise = run.pid_of("noise");
    wait_until("something is written", || run.size("noise.f32") > 40_000);
    kill(noise, Signal::KILL);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(format!("{end}").contains("killed by signal 9"), "it was alive: {end}");
    let killed = end.bytes("noise.f32");
    let directory = Directory::new();
    let file = directory.write(
        "noise.toml",
        r#"
            connect = ["noise -> disk"]
            blocks.noise = { type = "signal", waveform = "noise", frames = 4096, duration_s = 4.0 }
            blocks.disk = { type = "file-sink", path = "noise.f32" }
        "#,
    );
    let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
    assert!(killed == end.bytes("noise.f32"), "{} bytes", killed.len());
    assert_eq!(killed.len(), 4 * 4 * RATE_HZ as usize);
}

#[test]
fn what_a_sink_cannot_write_is_told() {
    let directory = Directory::new();
    let file = directory.write(
        "full.toml",
        r#"
            connect = ["tone -> disk"]
            blocks.tone = { type = "signal", count = 10 }
            blocks.disk = { type = "file-sink", path = "/dev/full", restart = "never" }
        "#,
    );
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(1), "{end}");
    let said = format!("{}{}", end.stdout, end.stderr);
    assert!(said.contains("write /dev/full: No space left on device"), "{end}");
}

/// A full disk for whichever sink: that block fails and says why, the run ends in order, and another sink of the same stream has written
/// whole buffers, from the first on.
#[test]
fn a_full_disk_fails_one_sink_and_harms_no_other() {
    let run = |connect: &str, full: &str| {
        let directory = Directory::new();
        let text = format!(
            r#"
            connect = ["tone -> disk"{connect}]
            blocks.tone = {{ type = "signal", frames = 1000, count = 200 }}
            blocks.disk = {{ type = "file-sink", path = "whole.f32" }}
            {full}
            "#
        );
        let file = directory.write("full.toml", &text);
        Pipeline::start_in(directory, &file, &[]).wait()
    };
    let whole = run("", "").bytes("whole.f32");
    assert_eq!(whole.len(), 4 * 200 * 1000);
    for sink in ["csv-sink", "wav-sink", "file-sink"] {
        let full = format!(r#"blocks.full = {{ type = "{sink}", path = "/dev/full", restart = "never" }}"#);
        let end = run(r#", "tone -> full""#, &full);
        assert_eq!(end.code, Some(1), "{sink}: {end}");
        let said = format!("{}{}", end.stdout, end.stderr);
        for part in ["block `full` failed: write /dev/full: ", "No space left on device"] {
            assert!(said.contains(part), "{sink}: no `{part}` in {end}");
        }
        assert!(!said.contains("`disk` failed"), "{sink}: {end}");
        let written = end.bytes("whole.f32");
        assert!(whole.starts_with(&written) && written.len() % 4000 == 0, "{sink}: {} bytes", written.len());
    }
}

#[test]
fn a_wav_file_on_a_full_disk_has_a_header_that_fits() {
    let directory = Directory::new();
    std::fs::create_dir(directory.path("full")).expect("a directory");
    // The disk is gone with its mount namespace.
    let script = "mount -t tmpfs -o size=1m tmpfs full && \"$0\" run 'signal duration_s=60 ! wav-sink path=full/a.wav'; cp full/a.wav .";
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_millpond")])
        .current_dir(directory.path(""))
        .env("MILLPOND_RUNTIME_DIR", directory.path("ponds"))
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("(in hand of a killed receiver)"), "what could not be written is counted: {said}");
    let size = std::fs::metadata(directory.path("a.wav")).expect("the file").len();
    let samples = hound::WavReader::open(directory.path("a.wav")).expect("a WAV file").len();
    assert!(size > 1 << 19, "{size} bytes: {said}");
    assert_eq!(size, u64::from(samples) * 4 + 68, "{said}");
}
