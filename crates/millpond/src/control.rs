//! A block's end of the message bus: its parameters while it runs, and its own calls.
//!
//! Requests on `BLOCK/get` and `BLOCK/set` are about parameters, `BLOCK/remove` takes the block out of the flowgraph, those on any
//! other `BLOCK/NAME` go to [`Block::call`]. They wait in a queue
//! until the block's thread comes by, between two calls of `work`, so a block needs no lock. Values that were set are kept
//! in the pond for as long as the block is declared there: a restarted block goes on with them.

use std::collections::BTreeMap;

use millpond_shm::layout::MAX_MESSAGE_BYTES;
use millpond_shm::{Pond, Waiter};
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::bus::{Bus, Json, Request, Service, json};
use crate::error::{Context as _, Error, Result};
use crate::io::Io;
use crate::param::{self, Param};
use crate::params::Params;
use crate::spec::Spec;

/// Requests answered between two looks at the block's work, so that a flood of them cannot keep it from working.
const ANSWERS_IN_A_ROW: u32 = 16;

/// See the module's text.
pub(crate) struct Control {
    bus: Bus,
    service: Service,
    spec: Spec,
    kept: Kept,
    answered: u32,
    removed: bool,
}

/// What was set, by parameter.
type Kept = BTreeMap<String, Setting>;

/// A value that was set while the block ran, as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    /// The value that the block had been given. If another one is given at a start, that is newer than what was set.
    given: Option<String>,
    set: String,
}

impl Control {
    /// Joins the bus, and puts what was set earlier in the place of what was given.
    pub(crate) fn open(
        pond: &Pond,
        block: &str,
        spec: &Spec,
        params: &mut Params,
        party: &Waiter,
    ) -> Result<Self> {
        let bus = Bus::open(pond)?;
        let kept = pond.settings(block)?.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        let mut kept = kept.unwrap_or_default();
        // What no longer fits, because the block's type or file has changed, is forgotten.
        kept.retain(|name, setting| {
            let value = param::find(spec, name).and_then(|param| param.parse(&setting.set));
            let is_newest = params.text(name) == setting.given;
            value.is_ok_and(|value| {
                if is_newest {
                    params.set(name, value);
                }
                is_newest
            })
        });
        let service = bus.answer_for(&format!("{block}/**"), Some(party))?;
        Ok(Self { bus, service, spec: spec.clone(), kept, answered: 0, removed: false })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    #[inline]
    pub(crate) fn has_request(&self) -> bool {
        self.service.has_request()
    }

    /// Somebody has asked the block to leave the flowgraph.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// The next request, unless enough were answered in a row.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        if self.answered == ANSWERS_IN_A_ROW {
            self.answered = 0;
            return None;
        }
        let request = self.service.try_next();
        self.answered = if request.is_some() { self.answered + 1 } else { 0 };
        request
    }
}

/// Tells a new block of the values that were set earlier, which its [`Block::new`] has not seen. One that it refuses, because the
/// block has changed since, is forgotten; it is then told of the rest again, as it may have looked at that one, too.
pub(crate) fn tell_kept(block: &mut dyn Block, io: &mut Io, given: &Params) {
    loop {
        let names: Vec<String> = io.control.kept.keys().cloned().collect();
        let told = names.into_iter().map(|name| (block.set_param(&name, io), name));
        let Some((error, name)) = told.into_iter().find_map(|(told, name)| Some((told.err()?, name))) else {
            return;
        };
        let value = io.params.text(&name).unwrap_or_default();
        io.note(&format!("`{name}` is not {value} any more, as it had been set: {error}"));
        io.control.kept.remove(&name);
        io.params.take_over(&name, given);
    }
}

/// Answers one request. A panic of the block passes through; the caller is told that it was given up.
pub(crate) fn answer(block: &mut dyn Block, io: &mut Io, request: Request) {
    let name = request.topic.split_once('/').map_or("", |(_, name)| name);
    let answer = call(block, io, name, request.argument.clone());
    request.reply(answer.map_err(|error| error.to_string()));
}

/// What the request `BLOCK/name` gives.
pub(crate) fn call(block: &mut dyn Block, io: &mut Io, name: &str, argument: Json) -> Result<Json> {
    match name {
        "get" => get(io, &argument),
        "set" => set(block, io, &argument),
        "remove" => remove(io),
        name => block.call(name, argument, io),
    }
}

/// One parameter, or all of them: of those, if they are too many for a message, only names and values.
fn get(io: &Io, argument: &Json) -> Result<Json> {
    let spec = &io.control.spec;
    match argument {
        Json::Null => {
            let all: Json = spec.params.iter().map(|param| describe(io, param)).collect();
            if all.to_string().len() <= MAX_MESSAGE_BYTES {
                return Ok(all);
            }
            // Too much for one answer: what they are, which is what differs. The rest is there for who asks for one.
            let value =
                |param: &Param| json!({ "name": param.name(), "value": io.params.text(param.name()) });
            Ok(spec.params.iter().map(value).collect())
        }
        Json::String(name) => Ok(describe(io, param::find(spec, name)?)),
        other => Err(Error::Refused(format!("`get` takes a parameter's name or null, found {other}"))),
    }
}

fn describe(io: &Io, param: &Param) -> Json {
    json!({
        "name": param.name(),
        "value": io.params.text(param.name()),
        "unit": param.unit_name(),
        "expected": param.expected(),
        "fixed": param.is_fixed(),
        "doc": param.doc(),
    })
}

/// What `set` takes. The value is text, as on a command line; numbers, booleans and lists of them serve as well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    param: String,
    value: Json,
}

fn set(target: &mut dyn Block, io: &mut Io, argument: &Json) -> Result<Json> {
    let Set { param: name, value } = Set::deserialize(argument).context(|| "set a parameter")?;
    let block = io.block().to_owned();
    let param = param::find(&io.control.spec, &name)?.clone();
    let value = param.parse(&as_text(&value))?;
    if param.is_fixed() {
        return Err(Error::FixedParameter { block, name });
    }
    io.params.check_count(&param, &value)?;
    let before = io.params.clone();
    io.params.set(&name, value.clone());
    if let Err(error) = target.set_param(&name, io) {
        io.params = before;
        return Err(error);
    }
    // Kept before it is answered: what the caller is told to be set survives a kill.
    let mut kept = io.control.kept.clone();
    let given = kept.get(&name).map_or_else(|| before.text(&name), |setting| setting.given.clone());
    kept.insert(name.clone(), Setting { given, set: value.to_string() });
    let text = serde_json::to_string(&kept).context(|| "keep what was set")?;
    if let Err(error) = io.control.bus.pond().store_settings(&block, &text) {
        // Not set, then: the block goes on with what it had.
        io.params = before;
        target.set_param(&name, io)?;
        return Err(error.into());
    }
    io.control.kept = kept;
    Ok(describe(io, &param))
}

/// Undoes the connections to the block and lets it leave: it takes what is queued, sends what comes of it, and disconnects from
/// its receivers instead of ending its streams.
fn remove(io: &mut Io) -> Result<Json> {
    io.disconnect(|connection| &connection.to)?;
    io.control.removed = true;
    Ok(Json::Null)
}

fn as_text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(values) => values.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::testing::Bench;

    /// Counts what passes, tells every tenth count, and can be asked and reset.
    struct Counter {
        seen: u64,
        even: i64,
    }

    impl Block for Counter {
        fn spec() -> Spec {
            Spec::new("counter", "Counts buffers")
                .input(Port::new("in", "anything"))
                .param(Param::int("every", "how often to tell").default(2).range(1.0, 100.0))
                .param(Param::text("label", "what to call it").default("n").fixed())
                .param(Param::int("even", "is prepared").default(2))
        }

        fn new(_: &Params) -> Result<Self> {
            Ok(Self { seen: 0, even: 2 })
        }

        fn work(&mut self, io: &mut Io) -> WorkResult {
            io.take("in")?;
            self.seen += 1;
            if self.seen.is_multiple_of(io.param::<u64>("every")) {
                io.publish("count", self.seen)?;
            }
            Ok(())
        }

        fn set_param(&mut self, _: &str, io: &mut Io) -> Result<()> {
            let even: i64 = io.param("even");
            if even % 2 != 0 {
                return Err(Error::Refused(format!("{even} is odd")));
            }
            self.even = even;
            Ok(())
        }

        fn call(&mut self, name: &str, argument: Json, io: &mut Io) -> Result<Json> {
            match name {
                "even" => Ok(json!(self.even)),
                "seen" => Ok(json!({ io.param::<String>("label"): self.seen })),
                "reset" => {
                    let no_count = || Error::Refused(format!("expected a count, found {argument}"));
                    self.seen = argument.as_u64().ok_or_else(no_count)?;
                    Ok(Json::Null)
                }
                _ => Err(Error::Refused(format!("`seen` and `reset` are known, not `{name}`"))),
            }
        }
    }

    fn refusal<T>(result: Result<T>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn a_block_tells_and_is_asked() {
        let mut bench = Bench::of::<Counter>(&[]).unwrap();
        let told = bench.bus().subscribe("block/*").unwrap();
        for _ in 0..5 {
            bench.push("in", &[1u8]).unwrap();
        }
        bench.run().unwrap();
        let patience = std::time::Duration::from_secs(60);
        for count in [2, 4] {
            let message = told.next(patience).unwrap().expect("a message");
            assert_eq!((message.topic.as_str(), message.value), ("block/count", json!(count)));
        }
        assert_eq!(bench.call("seen", Json::Null).unwrap(), json!({ "n": 5 }));
        bench.call("reset", json!(100)).unwrap();
        assert_eq!(bench.call("seen", Json::Null).unwrap(), json!({ "n": 100 }));
        assert_eq!(refusal(bench.call("reset", json!("x"))), "expected a count, found \"x\"");
        assert_eq!(refusal(bench.call("restart", Json::Null)), "`seen` and `reset` are known, not `restart`");
    }

    #[test]
    fn parameters_are_set_and_read_while_running() {
        let mut bench = Bench::of::<Counter>(&[("every", 3.into())]).unwrap();
        bench.set("every", 50).unwrap();
        bench.set("every", "60").unwrap();
        let every = bench.call("get", json!("every")).unwrap();
        assert_eq!((&every["value"], &every["fixed"]), (&json!("60"), &json!(false)));
        assert_eq!(every["expected"], "a whole number from 1 to 100");
        let all = bench.call("get", Json::Null).unwrap();
        assert_eq!(all.as_array().map(Vec::len), Some(3));
        assert_eq!(
            refusal(bench.set("every", 0)),
            "parameter `every`: expected a whole number from 1 to 100, found 0"
        );
        assert_eq!(refusal(bench.set("evry", 1)), "`counter` has no parameter `evry`, did you mean `every`?");
        assert!(refusal(bench.set("label", "x")).contains("cannot be changed while it runs"));
        assert!(refusal(bench.call("set", json!([1]))).starts_with("set a parameter: "));
    }

    #[test]
    fn a_block_prepares_for_a_value_or_refuses_it() {
        let mut bench = Bench::of::<Counter>(&[]).unwrap();
        bench.set("even", 6).unwrap();
        assert_eq!(bench.call("even", Json::Null).unwrap(), json!(6));
        assert_eq!(refusal(bench.set("even", 7)), "7 is odd");
        assert_eq!(bench.call("get", json!("even")).unwrap()["value"], json!("6"));
        assert_eq!(bench.call("even", Json::Null).unwrap(), json!(6));
    }

    #[test]
    fn a_new_block_is_told_what_had_been_set() {
        let name = format!("control-told-{}", std::process::id());
        let pond =
            Pond::create(&name, &millpond_shm::PondConfig::default(), millpond_shm::Role::Worker).unwrap();
        pond.declare_block("counter", "counter").unwrap();
        let waiter = pond.waiter(millpond_shm::Wait::Block).unwrap();
        let party = crate::runner::Party {
            waiter,
            allocator: crate::allocation::SharedAllocator::new(&pond, false),
            is_shared: false,
            stays_open: false,
        };
        for (set, expected) in [("8", 8), ("9", 2)] {
            let setting = Setting { given: Some("2".to_owned()), set: set.to_owned() };
            let kept = Kept::from([("even".to_owned(), setting)]);
            pond.store_settings("counter", &serde_json::to_string(&kept).unwrap()).unwrap();
            let mut block = Counter { seen: 0, even: 2 };
            let given = Params::parse(&Counter::spec(), []).unwrap();
            let mut io = Io::open(&pond, "counter", &Counter::spec(), given.clone(), &party).unwrap();
            tell_kept(&mut block, &mut io, &given);
            assert_eq!((block.even, io.param::<i64>("even")), (expected, expected));
        }
    }

    #[test]
    fn what_was_set_outlives_the_block_until_another_value_is_given() {
        let name = format!("control-{}", std::process::id());
        let pond =
            Pond::create(&name, &millpond_shm::PondConfig::default(), millpond_shm::Role::Worker).unwrap();
        pond.declare_block("counter", "counter").unwrap();
        let waiter = pond.waiter(millpond_shm::Wait::Block).unwrap();
        let spec = Counter::spec();
        let start = |given: &[(&str, &str)]| {
            let mut params = Params::parse(&spec, given.iter().copied()).unwrap();
            drop(Control::open(&pond, "counter", &spec, &mut params, &waiter).unwrap());
            params.get::<u64>("every")
        };
        assert_eq!(start(&[]), 2);
        let set =
            Kept::from([("every".to_owned(), Setting { given: Some("2".to_owned()), set: "7".to_owned() })]);
        pond.store_settings("counter", &serde_json::to_string(&set).unwrap()).unwrap();
        assert_eq!(start(&[]), 7);
        assert_eq!(start(&[("every", "9")]), 9);
        pond.store_settings("counter", "no JSON").unwrap();
        assert_eq!(start(&[]), 2);
    }
}
