//! `strobe`: sends the same message again and again.

use crate::prelude::*;

/// Sends a text at a steady rate.
pub(super) struct Strobe {
    pace: Pace,
    period_s: f64,
    count: Option<u64>,
}

impl Block for Strobe {
    fn spec() -> Spec {
        Spec::new("strobe", "Sends the same message at a steady rate")
            .details(
                "A message is a buffer of UTF-8 text, stamped with the time. Message and period can change while it runs. \
                 Started again after its process was killed, it counts on.",
            )
            .example(
                r#"
connect = ["tick -> lines"]
blocks.tick = { type = "strobe", message = "tick", period_s = 0.5, count = 10 }
blocks.lines = { type = "message-debug" }
"#,
            )
            .output(Port::new("out", "the message").dtypes([DType::Bytes]))
            .param(Param::text("message", "what is sent").default("tick"))
            .param(Param::float("period_s", "time from one message to the next").default(1.0).range(1e-6, 1e6).unit("s"))
            .param(
                Param::int("count", "messages to send; without it, until stopped").range(0.0, f64::INFINITY).optional().fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let period_s: f64 = params.get("period_s");
        Ok(Self { pace: Pace::new(1.0 / period_s), period_s, count: params.get("count") })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.count.is_some_and(|count| io.next_sequence("out") >= count) {
            return Err(Pause::Done);
        }
        let period_s: f64 = io.param("period_s");
        if period_s != self.period_s {
            (self.pace, self.period_s) = (Pace::new(1.0 / period_s), period_s);
        }
        self.pace.tick()?;
        let message: String = io.param("message");
        let mut buffer = io.new_buffer("out", DType::Bytes, &[message.len() as u32])?;
        buffer.as_bytes_mut().copy_from_slice(message.as_bytes());
        buffer.set_timestamp(Timestamp::now());
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn sends_a_message_again_and_again() {
        for message in ["tick", "", "Grüße"] {
            let params = [("message", message.into()), ("period_s", 0.001.into()), ("count", 3.into())];
            let mut bench = Bench::of::<Strobe>(&params).unwrap();
            bench.run().unwrap();
            assert!(bench.has_ended());
            let mut last = 0;
            for _ in 0..3 {
                let buffer = bench.pull_buffer("out").unwrap().expect("a message");
                assert_eq!(buffer.as_bytes(), message.as_bytes());
                let Timestamp::Absolute(ns) = buffer.timestamp() else { panic!("no time") };
                assert!(ns > last);
                last = ns;
            }
            assert!(bench.pull_buffer("out").unwrap().is_none());
        }
    }
}
