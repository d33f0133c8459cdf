//! `fir`: filters samples with a finite impulse response.

use std::io::Read as _;

use super::files;
use super::fir_design::{Design, KINDS};
use super::fir_filter::Filter;
use super::window::WINDOWS;
use crate::prelude::*;

/// Filters each channel, in place. `f32` is computed in `f32`, everything else in `f64`.
pub(super) struct Fir {
    source: Source,
    engine: Engine,
    /// The stream's, if it has one and is known.
    rate_hz: Option<f64>,
    runs: bool,
    samples: Vec<f64>,
}

/// Where the taps come from.
#[derive(Clone)]
enum Source {
    Given(Vec<f64>),
    Designed(Design),
}

enum Engine {
    F32(Filter<f32>),
    F64(Filter<f64>),
}

impl Block for Fir {
    fn spec() -> Spec {
        Spec::new("fir", "Filters samples with a finite impulse response: given taps, or a designed filter")
            .details(
                "Each output sample is the sum of the taps times the latest input samples; before the first sample there are \
                 zeros. One output sample for each input sample, with the same stamp: a symmetric filter, as all designed ones \
                 are, delays the signal by (taps - 1) / 2 samples. f32 streams are computed in f32, others in f64; integers are \
                 rounded and saturate. Exactly one of `taps`, `taps_path` and `design` is given. Taps, or the parameters of a \
                 design, can change while it runs, but a band stays one; the new filter goes on with as many of the latest \
                 samples as the old one needed, and a filter that cannot be made is refused. After a restart the filter begins \
                 with zeros again. Designed filters are windowed sincs with a gain of 1 in the middle of what passes, as scipy's \
                 firwin makes them.",
            )
            .example(
                r#"
connect = ["song -> bass -> file"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.bass = { type = "fir", design = "low-pass", cutoff_hz = 200.0, length = 255 }
blocks.file = { type = "wav-sink", path = "bass.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the samples, filtered").like("in"))
            .param(Param::numbers("taps", "the impulse response").optional())
            .param(Param::text("taps_path", "a text file with the taps, between them spaces, commas or new lines").optional().fixed())
            .param(Param::one_of("design", "what a designed filter lets pass", KINDS).optional())
            .param(Param::float("cutoff_hz", "where a designed filter's gain is one half").range(0.0, 1e12).unit("Hz").optional())
            .param(Param::float("high_cutoff_hz", "the upper end of a band").range(0.0, 1e12).unit("Hz").optional())
            .param(Param::int("length", "taps of a designed filter").default(65).range(1.0, 1e6))
            .param(Param::one_of("window", "the window of a designed filter", WINDOWS).default("hamming"))
    }

    fn new(params: &Params) -> Result<Self> {
        let given = |name| params.get::<Option<String>>(name).is_some();
        let numbers: Option<Vec<f64>> = params.get("taps");
        let count =
            [numbers.is_some(), given("taps_path"), given("design")].into_iter().filter(|is| *is).count();
        if count != 1 {
            let found = if count == 0 { "none".to_owned() } else { count.to_string() };
            return Err(Error::Refused(format!(
                "expected one of `taps`, `taps_path` and `design`, found {found} of them"
            )));
        }
        let source = match (numbers, params.get::<Option<String>>("taps_path")) {
            (Some(taps), _) => Source::Given(taps),
            (None, Some(path)) => Source::Given(read_taps(&path)?),
            (None, None) => Source::Designed(design(params)?),
        };
        let engine = Engine::F64(Filter::new(&[1.0], 0));
        Ok(Self { source, engine, rate_hz: None, runs: false, samples: Vec::new() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        let rate_hz = format.rate_hz.filter(|(num, den)| *num > 0 && *den > 0);
        self.rate_hz = rate_hz.map(|(num, den)| f64::from(num) / f64::from(den));
        self.runs = true;
        let (taps, channels) = (self.source.taps(self.rate_hz)?, crate::frames::channels(&format));
        self.engine = match format.dtype {
            DType::F32 => Engine::F32(Filter::new(&taps, channels)),
            _ => Engine::F64(Filter::new(&taps, channels)),
        };
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut buffer = io.take_mut("in")?;
        match &mut self.engine {
            Engine::F32(filter) => filter.run(buffer.as_mut_slice()?),
            Engine::F64(filter) if buffer.dtype() == DType::F64 => filter.run(buffer.as_mut_slice()?),
            Engine::F64(filter) => {
                buffer.read_samples(&mut self.samples)?;
                filter.run(&mut self.samples);
                buffer.write_samples(&self.samples)?;
            }
        }
        io.send("out", buffer)
    }

    /// A filter that cannot be made is refused here: one that fails in `work` would end the stream for a slip of the keyboard.
    fn set_param(&mut self, name: &str, io: &mut Io) -> Result<()> {
        let source = self.source.with(name, &io.params)?;
        // Before the stream is known there is nothing to design for; `start` does it.
        if self.runs {
            let taps = source.taps(self.rate_hz)?;
            match &mut self.engine {
                Engine::F32(filter) => filter.set_taps(&taps),
                Engine::F64(filter) => filter.set_taps(&taps),
            }
        }
        self.source = source;
        Ok(())
    }
}

impl Source {
    /// What it is with another value of this parameter; the file is read once.
    fn with(&self, name: &str, params: &Params) -> Result<Self> {
        match (self, name) {
            (Source::Given(_), "taps") => {
                Ok(Source::Given(params.get::<Option<_>>("taps").unwrap_or_default()))
            }
            (Source::Given(_), _) => Err(Error::Refused(format!(
                "the taps of this filter are given, `{name}` is for designed ones: set `taps`"
            ))),
            (Source::Designed(_), "taps") => {
                let problem = "this filter is designed: set `design`, `cutoff_hz`, `length` or `window`";
                Err(Error::Refused(format!("{problem}, not `taps`")))
            }
            (Source::Designed(_), _) => Ok(Source::Designed(design(params)?)),
        }
    }

    fn taps(&self, rate_hz: Option<f64>) -> Result<Vec<f64>> {
        let design = match self {
            Source::Given(taps) => return Ok(taps.clone()),
            Source::Designed(design) => design,
        };
        let Some(rate_hz) = rate_hz else {
            let problem =
                "the stream at `in` has no rate, without which no filter can be designed: give `taps`";
            return Err(Error::Refused(problem.to_owned()));
        };
        design.taps(rate_hz)
    }
}

fn design(params: &Params) -> Result<Design> {
    let kind = params.get::<Option<String>>("design").unwrap_or_default();
    let Some(cutoff_hz) = params.get("cutoff_hz") else {
        return Err(Error::Refused(format!("a {kind} needs `cutoff_hz`")));
    };
    let (high_cutoff_hz, length) = (params.get("high_cutoff_hz"), params.get("length"));
    Ok(Design { kind, cutoff_hz, high_cutoff_hz, length, window: params.get("window") })
}

fn read_taps(path: &str) -> Result<Vec<f64>> {
    let mut text = String::new();
    files::open(path)?.read_to_string(&mut text).map_err(|error| files::cannot_read(path, error))?;
    let mut taps = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let numbers = line.split(|c: char| c.is_whitespace() || c == ',').filter(|number| !number.is_empty());
        for number in numbers {
            let tap = number.parse().ok().filter(|tap: &f64| tap.is_finite()).ok_or_else(|| {
                Error::Refused(format!("{path}, line {}: expected a number, found `{number}`", index + 1))
            })?;
            taps.push(tap);
        }
    }
    if taps.is_empty() {
        return Err(Error::Refused(format!("{path}: expected at least one number, found none")));
    }
    Ok(taps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::blocks::reference::{assert_close, vector};
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    #[test]
    fn filters_as_lfilter_does() {
        for name in ["low-pass hamming", "low-pass hann", "low-pass blackman", "band-stop hamming"] {
            let taps = vector(&format!("taps {name}"));
            let expected = vector(&format!("filtered {name}"));
            for chunk in [1, 7, 100] {
                let mut bench = Bench::of::<Fir>(&[("taps", taps.clone().into())]).unwrap();
                let out: Vec<f64> = bench.run_through(1, chunk, &vector("input")).unwrap();
                assert_close(&out, &expected, 1e-15);
                let mut bench = Bench::of::<Fir>(&[("taps", taps.clone().into())]).unwrap();
                let input: Vec<f32> = vector("input").iter().map(|x| *x as f32).collect();
                let out: Vec<f32> = bench.run_through(1, chunk, &input).unwrap();
                let out: Vec<f64> = out.into_iter().map(f64::from).collect();
                assert_close(&out, &expected, 2e-7);
            }
        }
    }

    #[test]
    fn designs_for_the_rate_of_the_stream() {
        let params: [(&str, Value); 4] = [
            ("design", "band-pass".into()),
            ("cutoff_hz", 4800.into()),
            ("high_cutoff_hz", 14_400.into()),
            ("length", 17.into()),
        ];
        let mut bench = Bench::of::<Fir>(&params).unwrap();
        let out: Vec<f64> = bench.run_through(1, 10, &vector("input")).unwrap();
        assert_close(&out, &vector("filtered band-pass hamming"), 1e-15);
    }

    type Settings<'a> = &'a [(&'a str, Value)];

    /// Filters the input with taps or a design that is changed after `change` samples, which were buffers of their own.
    fn changed(params: Settings<'_>, change: usize, settings: Settings<'_>) -> Vec<f64> {
        let (mut bench, input) = (Bench::of::<Fir>(params).unwrap(), vector("input"));
        let mut out = Vec::new();
        for (first, part) in [(0, &input[..change]), (change, &input[change..])] {
            if first > 0 {
                settings.iter().for_each(|(name, value)| bench.set(name, value.to_string()).unwrap());
            }
            bench.push_frames("in", first as i64, 1, part).unwrap();
            bench.run().unwrap();
            out.extend(bench.pull_all::<f64>("out").unwrap());
        }
        out
    }

    #[test]
    fn taps_change_while_samples_flow() {
        // From many taps to few, all that the new ones need is remembered: scipy's results, cut together.
        let given: [(&str, Value); 1] = [("taps", vector("taps low-pass blackman").into())];
        let designed: [(&str, Value); 3] =
            [("design", "low-pass".into()), ("cutoff_hz", 9600.into()), ("length", 15.into())];
        let taps = [("taps", vector("taps low-pass hamming").into())];
        let design = [("window", "hann".into()), ("length", 16.into()), ("cutoff_hz", 4800.into())];
        let cases: [(Settings<'_>, &str, Settings<'_>, &str); 3] = [
            (&given, "low-pass blackman", &taps, "low-pass hamming"),
            (&designed, "low-pass hamming", &design, "low-pass hann"),
            (&designed, "low-pass hamming", &[("design", "high-pass".into())], "high-pass hamming"),
        ];
        for (params, before, settings, after) in cases {
            let (before, after) =
                (vector(&format!("filtered {before}")), vector(&format!("filtered {after}")));
            for change in [1, 16, 50, 99] {
                let out = changed(params, change, settings);
                assert_close(&out, &[&before[..change], &after[change..]].concat(), 1e-15);
            }
        }
        // From few to many, what the few had forgotten counts as zeros: the sum, written down.
        let (short, long) = (vector("taps low-pass hann"), vector("taps low-pass blackman"));
        let (change, input) = (50, vector("input"));
        let out = changed(&[("taps", short.clone().into())], change, &[("taps", long.clone().into())]);
        let oldest = change - (short.len() - 1);
        let sum = |n: usize| (oldest..=n).filter_map(|i| long.get(n - i).map(|tap| tap * input[i])).sum();
        let after: Vec<f64> = (change..input.len()).map(sum).collect();
        assert_close(&out, &[&vector("filtered low-pass hann")[..change], &after].concat(), 1e-15);
    }

    #[test]
    fn a_filter_that_cannot_be_made_is_refused_and_the_present_one_goes_on() {
        let params: [(&str, Value); 3] =
            [("design", "low-pass".into()), ("cutoff_hz", 9600.into()), ("length", 15.into())];
        let mut bench = Bench::of::<Fir>(&params).unwrap();
        let (input, expected) = (vector("input"), vector("filtered low-pass hamming"));
        bench.push_frames("in", 0, 1, &input[..50]).unwrap();
        bench.run().unwrap();
        for (name, value, refusal) in [
            ("cutoff_hz", "24000", "half the stream's rate (24000 Hz), found 24000 Hz"),
            ("high_cutoff_hz", "9700", "a low-pass has no `high_cutoff_hz`"),
            ("design", "band-pass", "a band-pass needs `high_cutoff_hz`"),
            ("taps", "1,2", "this filter is designed"),
        ] {
            let error = bench.set(name, value).expect_err(name).to_string();
            assert!(error.contains(refusal), "{error}");
        }
        bench.push_frames("in", 50, 1, &input[50..]).unwrap();
        bench.run().unwrap();
        assert_close(&bench.pull_all::<f64>("out").unwrap(), &expected, 1e-15);
        let mut bench = Bench::of::<Fir>(&[("taps", vec![1.0].into())]).unwrap();
        let error = bench.set("cutoff_hz", 100).expect_err("refused").to_string();
        assert!(
            error.starts_with("the taps of this filter are given, `cutoff_hz` is for designed ones"),
            "{error}"
        );
    }

    #[test]
    fn integers_and_channels_are_filtered_too() {
        let mut bench = Bench::of::<Fir>(&[("taps", vec![0.5, 0.5].into())]).unwrap();
        let out: Vec<i16> = bench.run_through(2, 2, &[100i16, -100, 200, -200, 301, 7]).unwrap();
        assert_eq!(out, [50, -50, 150, -150, 251, -97]);
        let mut bench = Bench::of::<Fir>(&[("taps", vec![2.0].into())]).unwrap();
        assert!(bench.run_through::<u8, u8>(1, 2, &[]).unwrap().is_empty());
    }

    #[test]
    fn reads_taps_from_a_file_and_says_what_is_wrong_with_it() {
        let directory = TempDir::new();
        let path = directory.path("taps.txt");
        std::fs::write(&path, "0.25, 0.5\n\n0.25\n").unwrap();
        assert_eq!(read_taps(&path).unwrap(), [0.25, 0.5, 0.25]);
        std::fs::write(&path, "0.25\n0.5 half").unwrap();
        assert_eq!(
            read_taps(&path).unwrap_err().to_string(),
            format!("{path}, line 2: expected a number, found `half`")
        );
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(
            read_taps(&path).unwrap_err().to_string(),
            format!("{path}: expected at least one number, found none")
        );
        let refusal = Bench::of::<Fir>(&[("taps_path", "/proc/nope".into())]).err().unwrap().to_string();
        assert_eq!(refusal, "read /proc/nope: No such file or directory (os error 2); is the path right?");
    }

    #[test]
    fn contradictions_are_refused() {
        let refusal = |params: &[(&str, Value)]| Bench::of::<Fir>(params).err().expect("refused").to_string();
        assert_eq!(refusal(&[]), "expected one of `taps`, `taps_path` and `design`, found none of them");
        assert_eq!(
            refusal(&[("taps", vec![1.0].into()), ("design", "low-pass".into())]),
            "expected one of `taps`, `taps_path` and `design`, found 2 of them"
        );
        assert_eq!(refusal(&[("design", "low-pass".into())]), "a low-pass needs `cutoff_hz`");
        let params: [(&str, Value); 2] = [("design", "low-pass".into()), ("cutoff_hz", 100.into())];
        let mut bench = Bench::of::<Fir>(&params).unwrap();
        bench.push("in", &[0.0f32]).unwrap();
        assert!(bench.run().expect_err("refused").to_string().contains("has no rate"));
    }
}
