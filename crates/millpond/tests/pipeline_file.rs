//! What a pipeline file may say, and every complaint about one that says something else.

use std::time::Duration;

use millpond::flowgraph::{Connection, Restart, RestartWhen};
use millpond::{
    Block, Catalog, DType, Flowgraph, Io, Param, Params, Policy, Port, Result, Spec, Value, WorkResult,
};

/// A block with more kinds of ports than any that comes with Millpond.
struct Crossing;

impl Block for Crossing {
    fn spec() -> Spec {
        Spec::new("crossing", "Only its ports matter")
            .input(
                Port::new("left", "pixels")
                    .dtypes([DType::U8, DType::F32])
                    .depth(7)
                    .policy(Policy::DropOldest),
            )
            .input(Port::new("right", "anything").optional())
            .output(Port::new("up", "pixels").dtypes([DType::U8]).shape(["rows", "columns"]))
            .output(Port::new("down", "whatever comes from the left").like("left"))
            .param(Param::bool("lights", "whether there are lights").default(true))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, _: &mut Io) -> WorkResult {
        Ok(())
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::builtin();
    catalog.add::<Crossing>();
    catalog
}

#[track_caller]
fn read(text: &str) -> Flowgraph {
    Flowgraph::parse("test.toml", text, &catalog()).unwrap_or_else(|error| panic!("{error}"))
}

/// The complaints about a file, as they are shown.
#[track_caller]
fn complaints(text: &str) -> String {
    Flowgraph::parse("test.toml", text, &catalog()).expect_err("refused").to_string()
}

/// The complaints about a file without the places: message, and help if there is any.
#[track_caller]
fn messages(text: &str) -> Vec<String> {
    let shown = complaints(text);
    let part =
        |line: &str| Some(line.strip_prefix("error: ").or(line.strip_prefix("  = help: "))?.to_owned());
    shown.lines().filter_map(part).collect()
}

/// Two blocks, and connections between them.
fn connected(connect: &str) -> String {
    format!(
        "connect = {connect}\n[blocks.zeros]\ntype = 'null-source'\n[blocks.nothing]\ntype = 'null-sink'\n"
    )
}

/// One block that needs no connection.
fn zeros(lines: &str) -> String {
    format!("[blocks.zeros]\ntype = 'null-source'\n{lines}")
}

fn described(connection: &Connection) -> String {
    format!("{} -> {}", connection.from, connection.to)
}

#[test]
fn everything_that_can_be_said() {
    let flowgraph = read(
        r#"
name = "all"
duration = "1.5min"
connect = [
    "zeros -> louder -> nothing",
    "zeros.out -> crossing.left",
    { from = "crossing.down", to = "meter", depth = 4, max_time = "0.5s", policy = "drop-newest" },
]
[[pool]]
block_bytes = 0x1_000
count = 8
[[pool]]
block_bytes = 65_536
count = 2
[blocks.zeros]
type = "null-source"
count = 3
rate_hz = 10
[blocks.louder]
type = "gain"
k = -2.5
restart = "never"
[blocks]
nothing = { type = "null-sink" }
meter.type = "null-sink"
crossing = { type = "crossing", lights = false, restart = "on-failure" }
"#,
    );
    assert_eq!((flowgraph.name.as_str(), flowgraph.duration), ("all", Some(Duration::from_secs(90))));
    let pools: Vec<_> = flowgraph.pools.iter().map(|pool| (pool.block_bytes, pool.blocks)).collect();
    assert_eq!(pools, [(4096, 8), (65_536, 2)]);
    let blocks: Vec<_> =
        flowgraph.blocks.iter().map(|node| (node.name.as_str(), node.block_type.as_str())).collect();
    let expected = [
        ("zeros", "null-source"),
        ("louder", "gain"),
        ("nothing", "null-sink"),
        ("meter", "null-sink"),
        ("crossing", "crossing"),
    ];
    assert_eq!(blocks, expected);
    assert_eq!(
        flowgraph.blocks[0].given,
        [("count".to_owned(), Value::Int(3)), ("rate_hz".to_owned(), Value::Int(10))]
    );
    let restarts: Vec<_> =
        flowgraph.blocks.iter().map(|node| node.restart.when == RestartWhen::Never).collect();
    assert_eq!(restarts, [false, true, false, false, false]);
    assert_eq!(
        flowgraph.connections.iter().map(described).collect::<Vec<_>>(),
        [
            "zeros.out -> louder.in",
            "louder.out -> nothing.in",
            "zeros.out -> crossing.left",
            "crossing.down -> meter.in"
        ]
    );
    let configs: Vec<_> = flowgraph.connections.iter().map(|c| (c.config.depth, c.config.policy)).collect();
    // The third has the settings of its input port.
    let unstated = (None, None);
    let times: Vec<_> = flowgraph.connections.iter().map(|c| c.config.max_time).collect();
    assert_eq!(times, [None, None, None, Some(Duration::from_millis(500))]);
    assert_eq!(
        configs,
        [unstated, unstated, (Some(7), Some(Policy::DropOldest)), (Some(4), Some(Policy::DropNewest))]
    );
}

#[test]
fn what_a_connection_says_counts_more_than_what_its_ports_state() {
    let blocks = "[blocks]\nzeros = { type = \"null-source\" }\ncrossing = { type = \"crossing\" }\n";
    let table = |more: &str| {
        let text = format!("connect = [{{ from = \"zeros\", to = \"crossing.left\"{more} }}]\n{blocks}");
        read(&text).connections[0].config
    };
    assert_eq!((table("").depth, table("").policy), (Some(7), Some(Policy::DropOldest)));
    for (stated, expected) in [("block", Policy::Block), ("drop-newest", Policy::DropNewest)] {
        let config = table(&format!(", depth = 3, policy = \"{stated}\""));
        assert_eq!((config.depth, config.policy), (Some(3), Some(expected)));
        let built = Flowgraph::builder("built")
            .block("zeros", "null-source", &[])
            .block("crossing", "crossing", &[])
            .connect_with("zeros", "crossing.left", &config)
            .build(&catalog())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(built.connections[0].config, config);
    }
}

#[test]
fn a_flowgraph_is_called_like_its_file() {
    assert_eq!(read(&zeros("")).name, "test");
    let error = Flowgraph::parse("my file.toml", &zeros(""), &catalog()).expect_err("refused").to_string();
    assert_eq!(
        error,
        "error: a flowgraph cannot be called `my file`\n --> my file.toml\n  \
         = help: set `name` to letters, digits, `_` and `-`, at most 32 of them\n"
    );
}

#[test]
fn all_mistakes_are_shown_at_once_where_they_are() {
    let text = r#"name = "bad"
duration = "soon"
connect = ["cpu -> tabel.cpu"]

[blocks.cpu]
type = "proc-cpi"

[blocks.table]
type = "async-merge"
inputs = ["cpu"]
rate_hz = 100
"#;
    let expected = r#"error: `duration`: expected a duration like `10s`, `500ms`, `1.5min` or `2h`, found `soon`
 --> test.toml:2:12
  |
2 | duration = "soon"
  |            ^^^^^^

error: there is no block `tabel`
 --> test.toml:3:20
  |
3 | connect = ["cpu -> tabel.cpu"]
  |                    ^^^^^^^^^
  = help: did you mean `table`?

error: there is no block type `proc-cpi`
 --> test.toml:6:8
  |
6 | type = "proc-cpi"
  |        ^^^^^^^^^^
  = help: did you mean `proc-cpu`?

error: `async-merge` has no parameter `rate_hz`
  --> test.toml:11:1
   |
11 | rate_hz = 100
   | ^^^^^^^
  = help: its parameters: inputs
"#;
    assert_eq!(complaints(text), expected);
}

#[test]
fn text_that_is_no_toml() {
    let shown = complaints("name = \n[blocks.a]\ntype = 'null-source\n");
    assert!(shown.contains("--> test.toml:1:"), "{shown}");
    assert!(shown.contains("--> test.toml:3:"), "both mistakes are shown: {shown}");
    let shown = complaints(&format!("{}count = 1\ncount = 2\n", zeros("")));
    assert!(shown.starts_with("error: duplicate key"), "{shown}");
}

#[test]
fn keys_and_values_of_the_file() {
    assert_eq!(
        messages("")[..],
        ["there are no blocks", "a block is a table like [blocks.cpu] with type = \"proc-cpu\""]
    );
    assert_eq!(
        messages(&format!("durration = '1s'\n{}", zeros(""))),
        ["a pipeline file has no key `durration`", "did you mean `duration`?"]
    );
    assert_eq!(
        messages(&format!("x = 1\n{}", zeros(""))),
        [
            "a pipeline file has no key `x`",
            "it may have: name, duration, detach, connect, pool, process, blocks"
        ]
    );
    assert_eq!(messages(&format!("name = 7\n{}", zeros(""))), ["expected a name, found 7"]);
    assert_eq!(
        messages(&format!("name = 'a.b'\n{}", zeros(""))),
        [
            "a flowgraph cannot be called `a.b`",
            "set `name` to letters, digits, `_` and `-`, at most 32 of them"
        ]
    );
    assert_eq!(
        messages(&format!("duration = 10\n{}", zeros(""))),
        ["expected a duration like \"10s\", found 10"]
    );
    assert_eq!(messages("blocks = 1"), ["expected tables [blocks.NAME], found 1"]);
}

#[test]
fn pools() {
    let with = |pool: &str| messages(&format!("{pool}\n{}", zeros("")));
    assert_eq!(with("pool = 5"), ["expected one or more [[pool]] tables, found 5"]);
    assert_eq!(
        with("pool = [5]"),
        ["expected a table [[pool]], found 5", "a pool needs `block_bytes`", "a pool needs `count`"]
    );
    assert_eq!(
        with("[[pool]]\nblock_bytes = 0\ncount = 'many'"),
        [
            "a pool needs `block_bytes`",
            "a pool needs `count`",
            "expected `block_bytes` to be a whole number from 1 to 1099511627776, found 0",
            "expected `count` to be a whole number from 1 to 4294967295, found `many`",
        ]
    );
    assert_eq!(
        with("[[pool]]\nblock_bytes = 64\ncount = 1\ncuont = 2"),
        ["a pool has no key `cuont`", "did you mean `count`?"]
    );
}

/// Each of them is right, but not together with another one.
#[test]
fn parameters_that_do_not_fit_together() {
    let table = "connect = ['zeros -> table.zeros', 'table -> nothing']\nblocks.zeros = { type = 'null-source' }\n\
                 blocks.nothing = { type = 'null-sink' }\n\
                 blocks.table = { type = 'sync-merge', inputs = ['zeros'], timeout_ms = [1, 2] }";
    assert_eq!(
        messages(table),
        ["block `table`: parameter `timeout_ms`: expected 1 number, as `inputs` has 1 name, found 2"]
    );
}

#[test]
fn blocks_and_parameters() {
    assert_eq!(messages("[blocks]\nzeros = 1"), ["expected a table [blocks.zeros], found 1"]);
    assert_eq!(
        messages("[blocks.'a b']\ntype = 'null-source'"),
        ["a block cannot be called `a b`", "use letters, digits, `_` and `-`, at most 32 of them"]
    );
    assert_eq!(
        messages("[blocks.zeros]"),
        ["block `zeros` needs a `type`", "add a line like type = \"gain\""]
    );
    assert_eq!(messages("[blocks.zeros]\ntype = 3"), ["expected the name of a block type, found 3"]);
    let unknown = messages("[blocks.zeros]\ntype = 'antigravity'");
    assert_eq!(unknown[0], "there is no block type `antigravity`");
    assert!(unknown[1].starts_with("known types: proc-cpu, "), "{unknown:?}");
    assert_eq!(
        messages(&zeros("itmes = 1")),
        ["`null-source` has no parameter `itmes`", "did you mean `items`?"]
    );
    assert_eq!(
        messages(&zeros("zzz = 1")),
        ["`null-source` has no parameter `zzz`", "its parameters: rate_hz, count, items"]
    );
    assert_eq!(
        messages(
            "connect = ['a -> b']\n[blocks.a]\ntype = 'null-source'\n[blocks.b]\ntype = 'null-sink'\nzzz = 1"
        ),
        ["`null-sink` has no parameter `zzz`", "it has no parameters"]
    );
    assert_eq!(
        messages(&zeros("rate_hz = 0")),
        [
            "block `zeros`: parameter `rate_hz`: expected a number from 0.001 to 1000000 (Hz), found 0",
            "`rate_hz` is buffers a second; without it, as fast as they are taken"
        ]
    );
    assert_eq!(
        messages(&zeros("items = 1.5"))[0],
        "block `zeros`: parameter `items`: expected a whole number from 0 to 1000000000, found 1.5"
    );
    assert_eq!(
        messages(&zeros("items = 1979-05-27"))[0],
        "expected a number, text, true, false or a list of names or numbers, found a TOML datetime"
    );
    assert_eq!(
        messages(&zeros("items = [1, 2]"))[0],
        "block `zeros`: parameter `items`: expected a whole number from 0 to 1000000000, found 1,2"
    );
    assert_eq!(
        messages(&zeros("restart = 'sometimes'")),
        ["expected `restart` to be one of: on-failure, always, never, found `sometimes`"]
    );
    assert_eq!(
        messages("[blocks.song]\ntype = 'wav-source'"),
        ["block `song` needs the parameter `path`", "`path` is the file to read: text"]
    );
    let merge = |inputs: &str| messages(&format!("[blocks.m]\ntype = 'async-merge'\ninputs = {inputs}"));
    for inputs in ["[]", "['a', 'a']", "['a.b']"] {
        assert!(
            merge(inputs)[0].starts_with("block `m`: parameter `inputs`: expected a list of different names"),
            "{inputs}"
        );
    }
}

#[test]
fn connections() {
    let with = |connect: &str| messages(&connected(connect));
    assert_eq!(with("'zeros -> nothing'"), ["expected a list of connections, found `zeros -> nothing`"]);
    assert_eq!(
        with("[5]"),
        ["expected a connection like \"a.out -> b.in\" or { from = \"a.out\", to = \"b.in\" }, found 5"]
    );
    for bad in ["zeros", "zeros ->", "zeros -> -> nothing", ""] {
        assert_eq!(
            with(&format!("['{bad}']")),
            [format!("expected a connection like `a.out -> b.in`, found `{bad}`")]
        );
    }
    assert_eq!(
        with("['zeros -> nothing.in -> zeros']"),
        [
            "inside a chain blocks stand without a port, found `nothing.in`",
            "write two connections, one to `nothing.in` and one from its output"
        ]
    );
    assert_eq!(with("[{ from = 'zeros' }]"), ["a connection needs `to`"]);
    assert_eq!(
        with("[{ to = 'nothing', via = 'x' }]"),
        [
            "a connection needs `from`",
            "a connection has no key `via`",
            "it may have: from, to, depth, max_time, policy"
        ]
    );
    assert_eq!(
        with("[{ from = 'zeros', to = 'nothing', depth = 0 }]"),
        ["expected `depth` to be a whole number from 1 to 524288, found 0"]
    );
    assert_eq!(
        with("[{ from = 'zeros', to = 'nothing', max_time = '0ms' }]"),
        ["expected `max_time` to be more than nothing, like \"50ms\", found `0ms`"]
    );
    assert_eq!(
        with("[{ from = 'zeros', to = 'nothing', max_time = '50' }]"),
        ["`max_time`: expected a duration like `10s`, `500ms`, `1.5min` or `2h`, found `50`"]
    );
    assert_eq!(
        with("[{ from = 'zeros', to = 'nothing', policy = 'drop' }]"),
        ["expected `policy` to be one of: block, drop-newest, drop-oldest, found `drop`"]
    );
    assert_eq!(
        with("['zeros -> nothing', 'zeros.out -> nothing.in']"),
        ["`zeros.out` and `nothing.in` are connected twice"]
    );
    // What is held when the receiver is killed comes again: it stays queued, and nobody may drop it.
    assert_eq!(
        messages(
            "connect = [{ from = 'zeros', to = 'table.zeros', policy = 'drop-oldest' }, 'table -> nothing']\n\
             blocks.zeros = { type = 'null-source' }\nblocks.nothing = { type = 'null-sink' }\n\
             blocks.table = { type = 'sync-merge', inputs = ['zeros'], redeliver = true }"
        ),
        [
            "a connection to `table.zeros` cannot drop the oldest",
            "the input delivers again what is held when its process is killed, so that stays queued: leave `policy` out, use \
             `drop-newest`, or do without redelivery"
        ]
    );
    assert_eq!(with("['zeros -> xyz']"), ["there is no block `xyz`", "the blocks: zeros, nothing"]);
    assert_eq!(
        with("['zeros.uot -> nothing']"),
        ["block `zeros` has no output `uot`", "did you mean `zeros.out`?"]
    );
    assert_eq!(
        with("['zeros -> nothing.input']"),
        ["block `nothing` has no input `input`", "its inputs: in"]
    );
    assert_eq!(
        with("['nothing.in -> nothing']"),
        ["block `nothing` has no output `in`", "connections go from an output to an input"]
    );
    assert_eq!(
        with("['nothing -> nothing']"),
        ["`nothing` has no outputs, so nothing can be connected there"]
    );
    assert_eq!(
        with("[]"),
        [
            "nothing is connected to the input `nothing.in`",
            "add a connection to it in `connect`; it takes any stream"
        ]
    );
}

#[test]
fn streams_that_do_not_fit() {
    let with = |connect: &str| {
        messages(&format!(
            "connect = {connect}\n[blocks.zeros]\ntype = 'null-source'\n[blocks.a]\ntype = 'crossing'\n[blocks.b]\ntype = 'crossing'\n\
             [blocks.table]\ntype = 'async-merge'\ninputs = ['x']\n[blocks.copy]\ntype = 'copy'\n"
        ))
    };
    let rest = "'zeros -> a.left', 'zeros -> b.left'";
    assert_eq!(
        with(&format!("[{rest}, 'zeros -> copy', 'table -> a.right', 'a -> table']")),
        ["which output of `a`? Write `a.PORT`", "its outputs: up, down"]
    );
    assert_eq!(
        with(&format!("[{rest}, 'zeros -> copy', 'a.up -> table']")),
        ["`a.up` sends buffers of shape [rows, columns], but `table.x` takes [columns]"]
    );
    // What a copy sends is what it gets: the mistake is found behind it.
    assert_eq!(
        with("['zeros -> a.left', 'zeros -> table', 'table -> copy', 'copy -> b.left']"),
        ["`copy.out` sends f64, but `b.left` takes u8 or f32"]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let error = Flowgraph::load("/nope/nothing.toml".as_ref(), &catalog()).expect_err("refused").to_string();
    assert_eq!(
        error,
        "cannot read the pipeline file /nope/nothing.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn the_examples_are_right() {
    for example in ["sensor-fusion", "telemetry", "wav-gain"] {
        let path = format!("{}/../../examples/{example}.toml", env!("CARGO_MANIFEST_DIR"));
        let flowgraph =
            Flowgraph::load(path.as_ref(), &Catalog::builtin()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(flowgraph.name, example);
    }
}

#[test]
fn how_blocks_are_looked_after() {
    let flowgraph = |settings: &str| read(&zeros(settings));
    let node = |settings: &str| flowgraph(settings).blocks[0].clone();
    assert_eq!(
        node("").restart,
        Restart { when: RestartWhen::OnFailure, limit: 5, within: Duration::from_secs(60) }
    );
    assert_eq!(node("restart = 'always'").restart.when, RestartWhen::Always);
    let limited = node("restart = { when = 'always', limit = 20, within = '5s' }\nkill_stalled = '2500ms'");
    assert_eq!(
        limited.restart,
        Restart { when: RestartWhen::Always, limit: 20, within: Duration::from_secs(5) }
    );
    assert_eq!(limited.kill_stalled, Some(Duration::from_millis(2500)));
    assert_eq!(
        messages(&zeros("restart = { when = 'never', limits = 3 }")),
        ["`restart` has no key `limits`", "did you mean `limit`?"]
    );
    assert_eq!(messages(&zeros("kill_stalled = 5")).len(), 1);
    let shared = messages(&zeros("restart = 'always'\nprocess = 'dsp'"));
    assert!(shared[0].contains("shares a process and cannot always be started again"), "{shared:?}");
    let shared = messages(
        "connect = [\"a -> b\"]\n[blocks]\na = { type = \"stdin-source\", process = \"p\" }\nb = { type = \"null-sink\" }\n",
    );
    assert_eq!(shared[0], "`a` reads the standard input and cannot share a process");
    assert_eq!(
        messages(&format!("detach = 'yes'\n{}", zeros("")))[0],
        "expected `detach` to be true or false, found `yes`"
    );
}
