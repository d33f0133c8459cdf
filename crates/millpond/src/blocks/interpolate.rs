//! `interpolate`: the values of a stream at other moments.

use super::last_stamp::LastStamp;
use super::timed_inputs::{BESIDE_HELD, TimedInputs, late_param, late_ports, ns};
use crate::align::{Aligner, Config, Grid, Linear, Neighbours, Poll, PortConfig, interpolate};
use crate::prelude::*;

/// Moves the values of one stream to the stamps of another one, or onto a grid, on the straight line between neighbours.
pub(super) struct Interpolate {
    inputs: TimedInputs,
    aligner: Aligner<Buffer, Linear<Buffer>>,
    columns: usize,
    before: Vec<f64>,
    after: Vec<f64>,
    spare: Option<BufferMut>,
    last: LastStamp,
}

impl Block for Interpolate {
    fn spec() -> Spec {
        let again = |port: Port| port.redelivers_if("redeliver").holds("depth", BESIDE_HELD);
        Spec::new("interpolate", "The values of a stream at a steady rate, or at the moments of another stream")
            .details(
                "On the straight line between the two neighbours in time, for slow signals; `docs/time.md` shows it. Nothing is \
                 extrapolated: before the first value, behind the last one, and in gaps that are too long, values are NaN. \
                 `sync-merge` does the same with several streams at once. Started again after its process was \
                 killed, it goes on behind the last row that was sent; with `redeliver`, no row is lost either. The call BLOCK/reset begins a new \
                 epoch: what is held is dropped, and stamps may begin anywhere.",
            )
            .example(
                r#"
connect = ["memory -> steady -> lines"]
blocks.memory = { type = "proc-memory", rate_hz = 20, count = 40 }
blocks.steady = { type = "interpolate", rate_hz = 50 }
blocks.lines = { type = "print" }
"#,
            )
            .input(again(Port::new("in", "rows of numbers, one in a buffer, stamped").dtypes(REAL)))
            .input(again(Port::one_for_each("onto", "a stream whose stamps are the moments")))
            .output(Port::new("out", "the input's columns at the moments").dtypes([DType::F64]).shape(["columns"]))
            .output(late_ports())
            .param(late_param())
            .param(
                Param::int("rate_hz", "moments at this rate, whole multiples of its period since 1970 or the stream's start")
                    .range(1.0, 1e9)
                    .unit("Hz")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::names("onto", "instead of a rate: the name of an input whose stamps are the moments")
                    .optional(),
            )
            .param(
                Param::float("max_gap_ms", "how far apart neighbours may be")
                    .range(0.0, 9e12)
                    .unit("ms")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::float("disorder_ms", "by how much a buffer may be earlier than the newest before it")
                    .range(0.0, 9e12)
                    .unit("ms")
                    .default(0.0)
                    .fixed(),
            )
            .param(Param::int("depth", "buffers of an input held at most").range(2.0, 1e6).default(64).fixed())
            .param(
                Param::bool(
                    "redeliver",
                    "what is held when the process is killed comes again; connections cannot drop the oldest then, and are deeper than \
                     `depth` by 2; one that is given a smaller depth makes it hold less",
                )
                .default(false)
                .fixed(),
            )
    }

    fn new(params: &Params) -> Result<Self> {
        let onto: Vec<String> = params.get::<Option<_>>("onto").unwrap_or_default();
        let max_gap_ns = params.get::<Option<f64>>("max_gap_ms").map(ns);
        let policy = match (params.get::<Option<u32>>("rate_hz"), onto.as_slice()) {
            (Some(rate_num), []) => {
                Linear::onto_grid(Grid { origin_ns: 0, rate_num, rate_den: 1 }, max_gap_ns)
            }
            (None, [name]) if name != "in" => Linear::onto_reference(1, max_gap_ns),
            _ => {
                let problem = "give either `rate_hz` or one name in `onto`, another one than `in`";
                return Err(Error::Refused(problem.to_owned()));
            }
        };
        let port = PortConfig {
            disorder_ns: ns(params.get("disorder_ms")),
            depth: params.get("depth"),
            ..PortConfig::default()
        };
        let inputs: Vec<String> = ["in".to_owned()].into_iter().chain(onto).collect();
        let mut timed = TimedInputs::named(inputs.iter().map(|name| (name.clone(), false)));
        timed.inputs.iter_mut().skip(1).for_each(|onto| onto.only_stamps = true);
        timed.name_late_outputs(params)?;
        Ok(Self {
            aligner: Aligner::new(policy, Config::of(inputs.len(), port)),
            inputs: timed,
            columns: 0,
            before: Vec::new(),
            after: Vec::new(),
            spare: None,
            last: LastStamp::default(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.inputs.start(io)?;
        let depths = vec![Some(io.param::<u32>("depth").into()); self.inputs.inputs.len()];
        let ports = self.inputs.inputs.iter().zip(&depths).enumerate().map(|(port, (input, depth))| {
            PortConfig { depth: input.depth(*depth), ..self.aligner.port_config(port).clone() }
        });
        let config = Config { ports: ports.collect(), ..Config::of(1, PortConfig::default()) };
        self.aligner.reconfigure(config);
        self.inputs.note_limits(io, &depths);
        self.columns = self.inputs.inputs[0].columns;
        self.last = LastStamp::of(io, "out");
        let description = io.format("in").map_or_else(String::new, |format| format.description.clone());
        let rate_hz = match self.inputs.inputs.get(1) {
            Some(onto) => io.format(&onto.name).and_then(|format| format.rate_hz),
            None => io.param::<Option<u32>>("rate_hz").map(|rate_hz| (rate_hz, 1)),
        };
        let shape = vec![self.columns as u32];
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, rate_hz, description })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut out = match self.spare.take() {
            Some(out) => out,
            None => io.new_buffer("out", DType::F64, &[self.columns as u32])?,
        };
        loop {
            let input = &self.inputs.inputs[0];
            let stamp_ns = match self.aligner.poll() {
                Poll::Set(row) => {
                    let values = out.as_mut_slice::<f64>()?;
                    match row.neighbours(0) {
                        Neighbours::Missing => values.fill(f64::NAN),
                        Neighbours::Exact(buffer) => {
                            input.read(buffer, &mut self.before)?;
                            values.copy_from_slice(&self.before);
                        }
                        Neighbours::Between { before, after, offset_ns, gap_ns } => {
                            input.read(before, &mut self.before)?;
                            input.read(after, &mut self.after)?;
                            for ((value, before), after) in
                                values.iter_mut().zip(&self.before).zip(&self.after)
                            {
                                *value = interpolate(*before, *after, offset_ns, gap_ns);
                            }
                        }
                    }
                    Some(row.stamp_ns())
                }
                Poll::Done => return Err(Pause::Done),
                Poll::Waiting => None,
            };
            match stamp_ns {
                Some(stamp_ns) if self.last.was_sent(stamp_ns) => continue,
                Some(stamp_ns) => {
                    out.set_timestamp(self.inputs.stamp(self.last.at_least(stamp_ns)));
                    return self.last.send(io, "out", out);
                }
                None => {}
            }
            if !self.inputs.take_in(io, &mut self.aligner)? {
                self.spare = Some(out);
                self.inputs.pass_on(io, &self.aligner);
                return Err(self.inputs.wait(io, &self.aligner)?);
            }
        }
    }

    fn call(&mut self, name: &str, _: Json, io: &mut Io) -> Result<Json> {
        self.inputs.call(name, io, &mut self.aligner, &mut self.last)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        self.inputs.note(io, &self.aligner);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::Bench;

    const MS: i64 = 1_000_000;

    fn rows(bench: &mut Bench) -> Vec<(i64, f64)> {
        let mut rows = Vec::new();
        bench.run().unwrap();
        while let Some(row) = bench.pull_buffer("out").unwrap() {
            rows.push((row.timestamp().to_ns(None).unwrap() / MS, row.as_slice::<f64>().unwrap()[0]));
            bench.run().unwrap();
        }
        rows
    }

    #[test]
    fn values_are_on_the_line_between_their_neighbours() {
        let at = |ms: i64| 3.0 * ms as f64 - 7.0;
        let mut grid = Bench::of::<Interpolate>(&[("rate_hz", 200.into())]).unwrap();
        let onto: (&str, Value) = ("onto", vec!["clock".to_owned()].into());
        let mut onto = Bench::of::<Interpolate>(&[onto, ("max_gap_ms", 20.into())]).unwrap();
        for ms in [3, 10, 21, 29, 70] {
            grid.push_at("in", ms * MS, &[at(ms)]).unwrap();
            onto.push_at("in", ms * MS, &[at(ms)]).unwrap();
        }
        for ms in [1, 3, 17, 29, 40, 70, 71] {
            onto.push_at("clock", ms * MS, &[0.0]).unwrap();
        }
        ["in", "clock"].iter().for_each(|input| onto.end(input));
        grid.end("in");
        let on_grid: Vec<(i64, f64)> = (1..=14).map(|i| (5 * i, at(5 * i))).collect();
        assert_eq!(rows(&mut grid), on_grid);
        let nan = f64::NAN;
        let expected = [(1, nan), (3, at(3)), (17, at(17)), (29, at(29)), (40, nan), (70, at(70)), (71, nan)];
        assert_eq!(format!("{:?}", rows(&mut onto)), format!("{expected:?}"));
        assert!(grid.has_ended() && onto.has_ended());
    }

    #[test]
    fn receivers_learn_how_far_the_rows_have_come() {
        let mut bench = Bench::of::<Interpolate>(&[("onto", vec!["clock".to_owned()].into())]).unwrap();
        bench.push_at("in", 3 * MS, &[0.0]).unwrap();
        bench.push_at("clock", 2 * MS, &[0.0]).unwrap();
        assert_eq!(rows(&mut bench).len(), 1);
        bench.advance("clock", Timestamp::Absolute(70 * MS));
        assert!(rows(&mut bench).is_empty());
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(70 * MS)));
    }

    #[test]
    fn what_is_late_goes_on_unchanged() {
        let late: (&str, Value) = ("late", vec!["late".to_owned()].into());
        let mut bench = Bench::of::<Interpolate>(&[("rate_hz", 100.into()), late]).unwrap();
        bench.push_at("in", 30 * MS, &[0.0]).unwrap();
        let sent = bench.push_at("in", 20 * MS, &[1.0]).unwrap();
        rows(&mut bench);
        assert_eq!(bench.pull_buffer("late").unwrap().expect("what was late").id(), sent.id());
    }

    #[test]
    fn a_new_epoch_begins_anywhere() {
        let mut bench = Bench::of::<Interpolate>(&[("rate_hz", 100.into())]).unwrap();
        for epoch in [1000, 10] {
            bench.push_at("in", epoch * MS, &[1.0]).unwrap();
            bench.push_at("in", (epoch + 10) * MS, &[2.0]).unwrap();
            assert_eq!(rows(&mut bench), [(epoch, 1.0), (epoch + 10, 2.0)]);
            assert_eq!(bench.call("reset", json!(null)).unwrap(), json!({ "dropped": 1 }));
        }
    }

    #[test]
    fn needs_either_a_rate_or_a_stream() {
        let onto: (&str, Value) = ("onto", vec!["clock".to_owned()].into());
        for params in [vec![], vec![("rate_hz", 5.into()), onto]] {
            let refusal = Bench::of::<Interpolate>(&params).err().expect("refused").to_string();
            assert!(refusal.contains("either `rate_hz` or one name in `onto`"), "{refusal}");
        }
    }
}
