//! `restamp`: gives the buffers of a stream other timestamps.

use std::time::Duration;

use self::asker::{Asker, describe, now_ns};
use super::last_stamp::LastStamp;
use super::timed_inputs::ns;
use crate::align::ClockEstimate;
use crate::prelude::*;
use crate::sample_to_ns;

mod asker;

const MODES: &[&str] = &["delay", "regenerate", "clock"];

/// Rewrites stamps in place. Stamps of time never go back, whatever comes in.
pub(super) struct Restamp {
    mode: Mode,
    /// Nanoseconds since 1970, not since the stream's start.
    is_absolute: bool,
    last: LastStamp,
}

enum Mode {
    Delay,
    Regenerate(Regenerate),
    /// Compared by the arrivals of its stamps.
    Clock(ClockEstimate),
    Asked(Asker),
}

/// Counts frames from an anchor.
struct Regenerate {
    rate_hz: Option<(u32, u32)>,
    threshold_ns: u64,
    anchor_ns: Option<i64>,
    /// Frames since the anchor.
    frames: i64,
    anchors: u64,
}

impl Block for Restamp {
    fn spec() -> Spec {
        Spec::new("restamp", "Gives buffers other timestamps: delayed, evenly spaced, or of this machine's clock")
            .details(
                "`delay` adds a time, which may be negative. `regenerate` counts frames at the stream's rate from the first stamp on, which \
                 takes jitter away; when a stamp is further off than the threshold, counting begins anew there, which is published as \
                 BLOCK/anchor. `clock` is for stamps of another clock and for sample indexes: it compares them with the times of arrival and \
                 estimates the offset and drift of the two clocks from the comparisons with the least delay, robustly (Theil-Sen); \
                 the new stamps are absolute, and the estimate is published as BLOCK/clock. With `ask` it asks the other clock on the message \
                 bus instead, which tells a delay from an offset: the answer is what the clock shows in ns, or [received, sent] if answering \
                 takes time. Until the first answer, stamps are times of arrival. While nobody answers, which is told once, the \
                 estimate stays as it is. The call BLOCK/clock gives the estimate: `offset_ns`, `drift_ppm`, and, if it asks, `error_ns`: how \
                 far off it is at most at the moment `error_at_ns` of the other clock. A stamp of time that would be earlier \
                 than the one before is set to that, also after a restart.",
            )
            .example(
                r#"
connect = ["tone -> dated -> table"]
blocks.tone = { type = "signal", freq_hz = 5, rate_hz = 1000, frames = 10, count = 100 }
blocks.dated = { type = "restamp", mode = "clock" }
blocks.table = { type = "csv-sink", path = "tone.csv" }
"#,
            )
            .input(Port::new("in", "any stream with timestamps"))
            .output(Port::new("out", "the same with new timestamps").like("in"))
            .param(Param::one_of("mode", "where the new stamps come from", MODES).default("delay").fixed())
            .param(Param::float("delay_ms", "delay: what is added").range(-9e12, 9e12).unit("ms").default(0.0))
            .param(
                Param::int("rate_hz", "regenerate: frames a second, if the stream does not state it")
                    .range(1.0, 4e9)
                    .unit("Hz")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::float("threshold_ms", "regenerate: how far off a stamp may be")
                    .range(0.0, 9e12)
                    .unit("ms")
                    .default(100.0)
                    .fixed(),
            )
            .param(
                Param::int("group", "clock: of how many buffers or answers the one with the least delay counts; the last 64 groups make the line")
                    .range(1.0, 1e6)
                    .default(16)
                    .fixed(),
            )
            .param(
                Param::text("ask", "clock: the topic on the message bus on which the other clock tells its time")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::float("ask_every_ms", "clock: from one question to the next")
                    .range(1.0, 9e12)
                    .unit("ms")
                    .default(1000.0)
                    .fixed(),
            )
            .param(Param::bool("asks", "clock: whether it asks; without, the estimate stays as it is").default(true))
    }

    fn new(params: &Params) -> Result<Self> {
        let ask: Option<String> = params.get("ask");
        let mode: String = params.get("mode");
        if ask.is_some() && mode != "clock" {
            let problem =
                format!("`ask` is of no use with `mode = \"{mode}\"`, only with `mode = \"clock\"`");
            return Err(Error::Refused(problem));
        }
        let mode = match mode.as_str() {
            "regenerate" => Mode::Regenerate(Regenerate {
                rate_hz: params.get::<Option<u32>>("rate_hz").map(|rate_hz| (rate_hz, 1)),
                threshold_ns: ns(params.get("threshold_ms")),
                anchor_ns: None,
                frames: 0,
                anchors: 0,
            }),
            "clock" => {
                let clock = ClockEstimate::new(params.get("group"));
                match ask {
                    None => Mode::Clock(clock),
                    Some(topic) => {
                        let every = Duration::from_nanos(ns(params.get("ask_every_ms")));
                        Mode::Asked(Asker::new(topic, every, params.get("asks"), clock)?)
                    }
                }
            }
            _ => Mode::Delay,
        };
        Ok(Self { mode, is_absolute: true, last: LastStamp::default() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.last = LastStamp::of(io, "out");
        match &mut self.mode {
            Mode::Regenerate(regenerate) => {
                let of_stream = io.format("in").and_then(|format| format.rate_hz);
                regenerate.rate_hz = regenerate.rate_hz.or(of_stream);
                if regenerate.rate_hz.is_none_or(|(num, den)| num == 0 || den == 0) {
                    let problem = "the stream states no rate: give `rate_hz` to regenerate its stamps";
                    return Err(Error::Refused(problem.to_owned()));
                }
                Ok(())
            }
            Mode::Asked(asker) => asker.start(io),
            Mode::Delay | Mode::Clock(_) => Ok(()),
        }
    }

    fn set_param(&mut self, name: &str, io: &mut Io) -> Result<()> {
        if let (Mode::Asked(asker), "asks") = (&self.mode, name) {
            asker.set_asks(io.param("asks"));
        }
        Ok(())
    }

    fn call(&mut self, name: &str, _: Json, io: &mut Io) -> Result<Json> {
        match (&self.mode, name) {
            (Mode::Clock(clock), "clock") => Ok(describe(clock)),
            (Mode::Asked(asker), "clock") => Ok(asker.describe()),
            _ => Err(Error::Refused(format!(
                "block `{}` has no call `{name}`; with `mode = \"clock\"` it has `clock`",
                io.block()
            ))),
        }
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut buffer = io.take_mut("in")?;
        let stamp = buffer.timestamp();
        self.is_absolute = matches!(stamp, Timestamp::Absolute(_));
        let new = match &mut self.mode {
            Mode::Delay => {
                let delay_ns = (io.param::<f64>("delay_ms") * 1e6).round() as i64;
                let delayed = stamp.checked_add_ns(delay_ns).ok_or_else(|| unfit(
                    stamp,
                    "stamps to which `delay_ms` can be added (whole samples, and within 292 years of 1970)",
                ))?;
                let range = buffer.time_range().and_then(|(start_ns, end_ns)| {
                    Some((start_ns.checked_add(delay_ns)?, end_ns.checked_add(delay_ns)?))
                });
                buffer.set_time_range(range);
                match delayed {
                    Timestamp::Absolute(ns) => Timestamp::Absolute(self.last.at_least(ns)),
                    Timestamp::Relative(ns) => Timestamp::Relative(self.last.at_least(ns)),
                    index => index,
                }
            }
            Mode::Regenerate(regenerate) => {
                let ns = match stamp {
                    Timestamp::Absolute(ns) | Timestamp::Relative(ns) => ns,
                    _ => {
                        return Err(unfit(
                            stamp,
                            "absolute or relative stamps (for sample indexes: `mode = \"clock\"`)",
                        )
                        .into());
                    }
                };
                let last_ns = self.last.at_least(i64::MIN);
                let (new_ns, off_by_ns) = regenerate.next(ns, last_ns, buffer.frames());
                if let Some(off_by_ns) = off_by_ns {
                    io.publish("anchor", json!({ "stamp_ns": new_ns, "off_by_ns": off_by_ns }))?;
                }
                buffer.set_time_range(None);
                self.of_time(new_ns)
            }
            Mode::Clock(clock) => {
                let (remote_ns, arrival_ns) = (remote_ns(stamp)?, now_ns());
                if clock.add_arrival(remote_ns, arrival_ns) {
                    io.publish("clock", describe(clock))?;
                }
                buffer.set_time_range(None);
                Timestamp::Absolute(self.last.at_least(clock.to_local(remote_ns).unwrap_or(arrival_ns)))
            }
            Mode::Asked(asker) => {
                let local_ns = asker.to_local(remote_ns(stamp)?).unwrap_or_else(now_ns);
                buffer.set_time_range(None);
                Timestamp::Absolute(self.last.at_least(local_ns))
            }
        };
        buffer.set_timestamp(new);
        self.last.send(io, "out", buffer)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        let told_drift = |clock: &ClockEstimate| {
            (clock.comparisons() > 0).then(|| format!("the clocks drift by {:.1} ppm", clock.drift_ppm()))
        };
        match &self.mode {
            Mode::Regenerate(regenerate) if regenerate.anchors > 1 => {
                io.note(&format!("counting began anew {} times", regenerate.anchors - 1));
            }
            Mode::Clock(clock) => told_drift(clock).iter().for_each(|line| io.note(line)),
            Mode::Asked(asker) => told_drift(&asker.clock()).iter().for_each(|line| io.note(line)),
            _ => {}
        }
        Ok(())
    }
}

impl Restamp {
    fn of_time(&self, ns: i64) -> Timestamp {
        if self.is_absolute { Timestamp::Absolute(ns) } else { Timestamp::Relative(ns) }
    }
}

impl Regenerate {
    /// The stamp of the next buffer, and by how much its own was off if counting begins anew with it.
    fn next(&mut self, stamp_ns: i64, last_ns: i64, frames: u32) -> (i64, Option<i64>) {
        let (num, den) = self.rate_hz.unwrap_or((1, 1));
        let counted_ns =
            self.anchor_ns.and_then(|anchor| sample_to_ns(self.frames, num, den)?.checked_add(anchor));
        let off_by_ns = counted_ns.map(|counted| stamp_ns.saturating_sub(counted));
        let new_ns = match counted_ns {
            Some(counted) if stamp_ns.abs_diff(counted) <= self.threshold_ns => counted,
            _ => {
                let anchor_ns = stamp_ns.max(last_ns);
                (self.anchor_ns, self.frames) = (Some(anchor_ns), 0);
                self.anchors += 1;
                self.frames += i64::from(frames);
                return (anchor_ns, off_by_ns);
            }
        };
        self.frames += i64::from(frames);
        (new_ns.max(last_ns), None)
    }
}

/// What the other clock showed.
fn remote_ns(stamp: Timestamp) -> Result<i64> {
    stamp.to_ns(None).ok_or_else(|| unfit(stamp, "buffers with a timestamp"))
}

fn unfit(stamp: Timestamp, expected: &str) -> Error {
    Error::StreamMismatch { port: "in".to_owned(), expected: expected.to_owned(), found: stamp.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::Bench;

    const MS: i64 = 1_000_000;

    fn stamps(bench: &mut Bench) -> Vec<Timestamp> {
        bench.run().unwrap();
        std::iter::from_fn(|| bench.pull_buffer("out").unwrap()).map(|buffer| buffer.timestamp()).collect()
    }

    fn restamp(params: &[(&str, Value)], stamps_ms: &[i64]) -> Vec<i64> {
        let mut bench = Bench::of::<Restamp>(params).unwrap();
        for ms in stamps_ms {
            bench.push_at("in", ms * MS, &[0.0, 1.0]).unwrap();
        }
        stamps(&mut bench).into_iter().map(|stamp| stamp.to_ns(None).unwrap() / MS).collect()
    }

    #[test]
    fn a_delay_is_added_and_time_never_goes_back() {
        assert_eq!(restamp(&[("delay_ms", (-2.5).into())], &[10, 20, 15, 30]), [7, 17, 17, 27]);
        let mut bench = Bench::of::<Restamp>(&[("delay_ms", 1000.into())]).unwrap();
        bench.push_frames("in", 5, 1, &[0.5f32]).unwrap();
        assert_eq!(stamps(&mut bench), [Timestamp::Sample { index: 48_005, rate_num: 48_000, rate_den: 1 }]);
        bench.set("delay_ms", 0.01).unwrap();
        bench.push_frames("in", 6, 1, &[0.5f32]).unwrap();
        let refusal = bench.run().expect_err("half a sample").to_string();
        assert!(refusal.contains("`delay_ms` can be added"), "{refusal}");
    }

    #[test]
    fn regenerated_stamps_are_evenly_spaced_until_they_are_too_far_off() {
        let params: [(&str, Value); 3] =
            [("mode", "regenerate".into()), ("rate_hz", 100.into()), ("threshold_ms", 15.into())];
        // Two frames of 10 ms in a buffer, so one every 20 ms.
        let jittered = [1000, 1027, 1035, 1060, 1075, 1300, 1318, 1000, 1350];
        assert_eq!(restamp(&params, &jittered), [1000, 1020, 1040, 1060, 1080, 1300, 1320, 1320, 1340]);
        let refusal = Bench::of::<Restamp>(&[("mode", "regenerate".into())]).unwrap();
        let mut bench = refusal;
        bench.push_at("in", 0, &[1.0]).unwrap();
        assert!(bench.run().expect_err("no rate").to_string().contains("give `rate_hz`"));
    }

    #[test]
    fn sample_indexes_get_the_time_of_this_clock() {
        let mut bench = Bench::of::<Restamp>(&[("mode", "clock".into()), ("group", 2.into())]).unwrap();
        let heard = bench.bus().subscribe("block/clock").unwrap();
        let before = Timestamp::now();
        for i in 0..6 {
            bench.push_frames("in", 48 * i, 1, &[0.5f32; 48]).unwrap();
        }
        let stamps = stamps(&mut bench);
        assert_eq!(stamps.len(), 6);
        assert!(stamps.is_sorted_by(|one, other| one <= other), "{stamps:?}");
        assert!(stamps.iter().all(|stamp| *stamp >= before), "{stamps:?}");
        let estimate = heard.next(std::time::Duration::from_secs(60)).unwrap().expect("an estimate");
        assert_eq!(estimate.value["comparisons"], 2);
    }
}
