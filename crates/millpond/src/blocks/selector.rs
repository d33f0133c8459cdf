//! `selector`: passes one of several streams.

use super::choice::Choice;
use super::lockstep::same_format;
use crate::prelude::*;

/// Passes the buffers of one input; those of the others are dropped and counted, so that their senders are not held up.
pub(super) struct Selector {
    choice: Choice,
    dropped: u64,
}

impl Block for Selector {
    fn spec() -> Spec {
        Spec::new("selector", "Passes one of several streams; which one can change while it runs")
            .details(
                "All inputs carry the same kind of stream. Buffers of inputs that are not selected are dropped, and their \
                 number is told at the end. The stream ends when all inputs have ended.",
            )
            .example(
                r#"
connect = ["sine -> switch.clean", "noise -> switch.noisy", "switch -> file"]
blocks.sine = { type = "signal", duration_s = 1.0 }
blocks.noise = { type = "signal", waveform = "noise", duration_s = 1.0 }
blocks.switch = { type = "selector", inputs = ["clean", "noisy"], select = "noisy" }
blocks.file = { type = "wav-sink", path = "selected.wav" }
"#,
            )
            .input(Port::one_for_each("inputs", "streams of the same kind"))
            .output(Port::new("out", "the selected stream"))
            .param(Param::names("inputs", "names of the inputs"))
            .param(Param::text("select", "the input to pass; without it, the first one").optional())
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { choice: Choice::new(params.get("inputs"), "input", params.get("select"))?, dropped: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let first = same_format(io, self.choice.names(), true)?;
        io.set_format("out", first)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let (inputs, selected) = (self.choice.names(), self.choice.chosen().unwrap_or(0));
        let mut idle = true;
        for (index, input) in inputs.iter().enumerate() {
            let Some(buffer) = io.try_take(input)? else { continue };
            idle = false;
            if index == selected {
                io.send("out", buffer)?;
            } else {
                self.dropped += 1;
            }
        }
        match idle {
            true if inputs.iter().all(|input| io.ended(input)) => Err(Pause::Done),
            true => Err(Pause::NeedInput),
            false => Ok(()),
        }
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if self.dropped > 0 {
            io.note(&format!("dropped {} buffers of inputs that were not selected", self.dropped));
        }
        Ok(())
    }

    /// A name that there is not is refused: kept, it would end the block when that is started again.
    fn set_param(&mut self, _: &str, io: &mut Io) -> Result<()> {
        self.choice.set(io.param("select"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::Bench;

    fn names() -> Value {
        vec!["a".to_owned(), "b".to_owned()].into()
    }

    #[test]
    fn passes_the_selected_stream_until_all_have_ended() {
        for (select, expected) in [(None, [1u8, 2]), (Some("b"), [3, 4])] {
            let mut params = vec![("inputs", names())];
            params.extend(select.map(|select| ("select", select.into())));
            let mut bench = Bench::of::<Selector>(&params).unwrap();
            bench.push("a", &[1u8]).unwrap();
            bench.push("b", &[3u8]).unwrap();
            bench.push("b", &[4u8]).unwrap();
            bench.push("a", &[2u8]).unwrap();
            bench.end("a");
            bench.run().unwrap();
            assert!(!bench.has_ended());
            bench.end("b");
            bench.run().unwrap();
            assert!(bench.has_ended());
            assert_eq!(bench.pull_all::<u8>("out").unwrap(), expected);
        }
    }

    #[test]
    fn another_input_counts_from_the_next_buffer_on() {
        let mut bench = Bench::of::<Selector>(&[("inputs", names())]).unwrap();
        // A name that there is not changes nothing.
        for (i, select) in [None, Some("b"), Some("c"), Some("a")].into_iter().enumerate() {
            if let Some(select) = select {
                let set = bench.set("select", select).map_err(|error| error.to_string());
                let refusal = "`select`: expected the name of an input (a, b), found `c`";
                assert_eq!(set.err().as_deref(), Some(refusal).filter(|_| select == "c"));
            }
            bench.push("a", &[i as u8]).unwrap();
            bench.push("b", &[10 + i as u8]).unwrap();
            bench.run().unwrap();
        }
        assert_eq!(bench.pull_all::<u8>("out").unwrap(), [0, 11, 12, 3]);
    }

    #[test]
    fn refuses_unknown_names_and_different_streams() {
        let refusal = Bench::of::<Selector>(&[("inputs", names()), ("select", "c".into())]).err().unwrap();
        assert_eq!(refusal.to_string(), "`select`: expected the name of an input (a, b), found `c`");
        let mut bench = Bench::of::<Selector>(&[("inputs", names())]).unwrap();
        bench.push("a", &[1u8]).unwrap();
        bench.push("b", &[1i16]).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert!(
            refusal.starts_with("expected streams of the same kind, found u8 of 1 channel at `a`"),
            "{refusal}"
        );
    }
}
