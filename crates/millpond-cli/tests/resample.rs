//! `millpond resample` as a process, on real files.

mod millpond;

use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use millpond::{Done, Millpond};

/// Files of one test, removed at its end.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("millpond-resample-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn resample(input: &str, output: &str, rate: &str) -> Done {
    let millpond = Millpond::new();
    let done = millpond.run(&format!("resample {input} {output} --rate {rate}"));
    millpond.assert_nothing_left();
    done
}

/// A sum of sines, a frequency for each channel more, whose value at any time is known.
fn sines(channel: u64, rate_hz: u32, frame: usize) -> f64 {
    let freqs_hz = [440, 1001 + channel, 4999 + channel, 6350];
    let sine = |freq_hz: u64| {
        let turns = (freq_hz * frame as u64 % u64::from(rate_hz)) as f64 / f64::from(rate_hz);
        (std::f64::consts::TAU * turns).sin()
    };
    freqs_hz.into_iter().map(sine).sum::<f64>() / 5.0
}

fn write(path: &str, bits: u16, channels: u16, frames: usize) {
    let sample_format = if bits == 32 { SampleFormat::Float } else { SampleFormat::Int };
    let spec = WavSpec { channels, sample_rate: 48_000, bits_per_sample: bits, sample_format };
    let mut writer = WavWriter::create(path, spec).expect("a file");
    for frame in 0..frames {
        for channel in 0..channels {
            let sample = sines(channel.into(), 48_000, frame);
            let written = match bits {
                32 => writer.write_sample(sample as f32),
                bits => writer.write_sample((sample * f64::from(1 << (bits - 1))).round() as i32),
            };
            written.expect("a sample");
        }
    }
    writer.finalize().expect("a file");
}

/// The signal-to-noise ratio of each channel of a file, without its ends.
fn snr_db(path: &str) -> Vec<f64> {
    let mut reader = WavReader::open(path).expect("a file");
    let spec = reader.spec();
    let samples: Vec<f64> = match spec.sample_format {
        SampleFormat::Float => {
            reader.samples::<f32>().map(|sample| sample.expect("a sample").into()).collect()
        }
        SampleFormat::Int => {
            let scale = f64::from(1 << (spec.bits_per_sample - 1));
            reader.samples::<i32>().map(|sample| f64::from(sample.expect("a sample")) / scale).collect()
        }
    };
    let channels = usize::from(spec.channels);
    let frames = samples.len() / channels;
    let channel = |channel: usize| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for frame in 3000..frames - 3000 {
            let expected = sines(channel as u64, spec.sample_rate, frame);
            signal += expected * expected;
            noise += (samples[frame * channels + channel] - expected).powi(2);
        }
        10.0 * (signal / noise).log10()
    };
    (0..channels).map(channel).collect()
}

#[test]
fn files_come_out_as_if_they_had_been_recorded_at_the_other_rate() {
    let files = Files::new("formats");
    for (bits, channels, rate, frames_out, asked_db) in [
        (32, 1, "44100", 73_500, 140.0),
        (32, 3, "16000", 26_667, 130.0),
        (16, 2, "44100", 73_500, 85.0),
        (24, 1, "16000", 26_667, 130.0),
    ] {
        let (input, output) = (files.path("in.wav"), files.path("out.wav"));
        write(&input, bits, channels, 80_000);
        let done = resample(&input, &output, rate);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
        assert_eq!(done.stdout, format!("wrote {frames_out} frames to {output}\n"));
        let reader = WavReader::open(&output).expect("a file");
        let spec = reader.spec();
        assert_eq!(
            (spec.bits_per_sample, spec.channels, spec.sample_rate.to_string()),
            (bits, channels, rate.to_owned())
        );
        assert_eq!(reader.duration(), frames_out);
        for db in snr_db(&output) {
            println!("{bits} bits, {channels} channels, to {rate} Hz: {db:.1} dB");
            assert!(db >= asked_db, "{bits} bits to {rate} Hz: {db}");
        }
    }
}

#[test]
fn short_files_have_the_exact_length() {
    let files = Files::new("short");
    let (input, output) = (files.path("in.wav"), files.path("out.wav"));
    for frames in [0usize, 1, 3] {
        write(&input, 16, 2, frames);
        let done = resample(&input, &output, "44100");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let expected = (frames * 147).div_ceil(160);
        assert_eq!(WavReader::open(&output).expect("a file").duration() as usize, expected);
    }
}

#[test]
fn what_is_wrong_is_said_and_leaves_no_half_of_a_file() {
    let files = Files::new("wrong");
    let (input, output) = (files.path("in.wav"), files.path("out.wav"));
    let fails = |input: &str, output: &str, rate: &str, code: i32, said: &str| {
        let done = resample(input, output, rate);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
    };
    fails(&files.path("none.wav"), &output, "44100", 1, "none.wav: No such file or directory");
    std::fs::write(&input, "no sound").expect("a file");
    fails(&input, &output, "44100", 1, "in.wav: expected a WAV file: no RIFF tag found");
    write(&input, 16, 1, 10_000);
    fails(&input, &input, "44100", 2, "OUTPUT is INPUT");
    fails(&input, &output, "0", 2, "--rate");
    fails(&input, &output, "fast", 2, "--rate");
    fails(&input, &output, "1", 1, "48000 frames become 1");
    fails(&input, &files.path("none/out.wav"), "44100", 1, "none/out.wav: No such file or directory");
    assert!(!Path::new(&output).exists());
    let whole = std::fs::read(&input).expect("the file");
    std::fs::write(&input, &whole[..whole.len() - 5001]).expect("a file");
    std::fs::write(&output, "from before").expect("a file");
    fails(&input, &output, "44100", 1, "is cut off: expected 10000 frames, as its header says, found 7499");
    // Gone, or as it was if the input ended before anything was written.
    let left = std::fs::read_to_string(&output).ok();
    assert!(left.as_deref().is_none_or(|text| text == "from before"), "half of a file is left");
}

#[test]
fn whoever_does_not_hear_that_a_file_is_complete_has_it_all_the_same() {
    let files = Files::new("unread");
    let (input, output) = (files.path("in.wav"), files.path("out.wav"));
    write(&input, 16, 1, 10_000);
    let millpond = Millpond::new();
    let mut running = millpond.start(&format!("resample {input} {output} --rate 44100"));
    running.close_stdout();
    let done = running.wait();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(WavReader::open(&output).expect("a file").duration(), 9188);
    let done = millpond.shell(&format!("millpond resample {input} {output} --rate 44100 >/dev/full"));
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(1), "millpond: cannot write to standard output: No space left on device (os error 28)\n")
    );
    assert_eq!(WavReader::open(&output).expect("a file").duration(), 9188);
    millpond.assert_nothing_left();
}
