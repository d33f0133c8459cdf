//! `router`: sends each buffer on one of several outputs.

use super::choice::Choice;
use crate::prelude::*;

/// Deals buffers out in turn, or sends all of them to the output that is selected. Nothing is copied.
pub(super) struct Router {
    choice: Choice,
    next: usize,
}

impl Block for Router {
    fn spec() -> Spec {
        Spec::new("router", "Sends each buffer on one of several outputs: in turn, or the one selected")
            .details(
                "In turn, each output gets every n-th buffer, which spreads work over several blocks. A full output holds up \
                 the others. Started again after its process was killed, it goes on with the output whose turn it is.",
            )
            .example(
                r#"
connect = ["work -> deal", "deal.first -> left", "deal.second -> right"]
blocks.work = { type = "null-source", count = 1000 }
blocks.deal = { type = "router", outputs = ["first", "second"] }
blocks.left = { type = "null-sink" }
blocks.right = { type = "null-sink" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::one_for_each("outputs", "a part of the stream").like("in").follows("in"))
            .param(Param::names("outputs", "names of the outputs"))
            .param(Param::text("select", "the output for all buffers; without it, they take turns").optional())
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { choice: Choice::new(params.get("outputs"), "output", params.get("select"))?, next: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let outputs = self.choice.names();
        let sent: u64 = outputs.iter().map(|output| io.next_sequence(output)).sum();
        self.next = (sent % outputs.len() as u64) as usize;
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take("in")?;
        let outputs = self.choice.names();
        let output = self.choice.chosen().unwrap_or_else(|| {
            let turn = self.next;
            self.next = (turn + 1) % outputs.len();
            turn
        });
        io.send(&outputs[output], buffer)
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
        vec!["a".to_owned(), "b".to_owned(), "c".to_owned()].into()
    }

    #[test]
    fn outputs_take_turns() {
        let mut bench = Bench::of::<Router>(&[("outputs", names())]).unwrap();
        (0..7u8).for_each(|i| drop(bench.push("in", &[i]).unwrap()));
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        assert_eq!(bench.pull_all::<u8>("a").unwrap(), [0, 3, 6]);
        assert_eq!(bench.pull_all::<u8>("b").unwrap(), [1, 4]);
        assert_eq!(bench.pull_all::<u8>("c").unwrap(), [2, 5]);
    }

    #[test]
    fn all_go_to_the_selected_output() {
        let mut bench = Bench::of::<Router>(&[("outputs", names()), ("select", "b".into())]).unwrap();
        (0..4u8).for_each(|i| drop(bench.push("in", &[i]).unwrap()));
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<u8>("b").unwrap(), [0, 1, 2, 3]);
        assert!(bench.pull_all::<u8>("a").unwrap().is_empty());
        let refusal = Bench::of::<Router>(&[("outputs", names()), ("select", "d".into())]).err().unwrap();
        assert_eq!(refusal.to_string(), "`select`: expected the name of an output (a, b, c), found `d`");
    }

    #[test]
    fn another_output_counts_from_the_next_buffer_on() {
        let mut bench = Bench::of::<Router>(&[("outputs", names())]).unwrap();
        // In turn first; then a name that there is not, which changes nothing.
        for (i, select) in [None, None, Some("c"), Some("a"), Some("d"), Some("b")].into_iter().enumerate() {
            if let Some(select) = select {
                let set = bench.set("select", select).map_err(|error| error.to_string());
                let refusal = "`select`: expected the name of an output (a, b, c), found `d`";
                assert_eq!(set.err().as_deref(), Some(refusal).filter(|_| select == "d"));
            }
            bench.push("in", &[2 * i as u8, 2 * i as u8 + 1]).unwrap();
            bench.run().unwrap();
        }
        assert_eq!(bench.pull_all::<u8>("a").unwrap(), [0, 1, 6, 7, 8, 9]);
        assert_eq!(bench.pull_all::<u8>("b").unwrap(), [2, 3, 10, 11]);
        assert_eq!(bench.pull_all::<u8>("c").unwrap(), [4, 5]);
    }
}
