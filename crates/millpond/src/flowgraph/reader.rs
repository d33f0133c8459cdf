//! From the text of a pipeline file to what it says, each part with its place; what it names is checked later.

use std::ops::Range;
use std::time::Duration;

use millpond_shm::{ConnectionConfig, Policy, PoolConfig};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Diagnostics, RESERVED_KEYS, Restart, RestartWhen};
use crate::duration::parse_duration;
use crate::nearest::nearest;
use crate::param::Value;
use crate::placement::Placement;

/// Something with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<Located<String>>,
    pub(super) duration: Option<Duration>,
    pub(super) detach: bool,
    pub(super) pools: Vec<PoolConfig>,
    pub(super) blocks: Vec<DraftBlock>,
    pub(super) connections: Vec<DraftConnection>,
    pub(super) processes: Vec<(Located<String>, Placement)>,
    /// No connection had to be left out.
    pub(super) connections_complete: bool,
}

#[derive(Debug)]
pub(super) struct DraftBlock {
    pub(super) name: Located<String>,
    pub(super) block_type: Option<Located<String>>,
    pub(super) restart: Restart,
    pub(super) kill_stalled: Option<Duration>,
    pub(super) process: Option<Located<String>>,
    pub(super) program: Option<Located<String>>,
    pub(super) params: Vec<(Located<String>, Value)>,
}

#[derive(Debug)]
pub(super) struct DraftConnection {
    pub(super) from: Located<String>,
    pub(super) to: Located<String>,
    pub(super) config: ConnectionConfig,
}

const POLICIES: [(&str, Policy); 3] =
    [("block", Policy::Block), ("drop-newest", Policy::DropNewest), ("drop-oldest", Policy::DropOldest)];
const RESTARTS: [(&str, RestartWhen); 3] =
    [("on-failure", RestartWhen::OnFailure), ("always", RestartWhen::Always), ("never", RestartWhen::Never)];

/// More than anybody has cores.
const MAX_THREADS: u64 = 1024;
/// As many as the kernel's interface takes.
const MAX_CPUS: usize = 1024;
/// 1 TiB: beyond any machine, and far from overflow.
const MAX_BLOCK_BYTES: u64 = 1 << 40;

/// Reads a file; whatever cannot be read is left out and added to the diagnostics. `None`: it is no TOML. Then only that is told:
/// what the file seems to say and to lack follows from it.
pub(super) fn read(text: &str, diagnostics: &mut Diagnostics) -> Option<Draft> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // A list that is not closed takes all that follows for its elements.
        let in_list = error.message().contains("array");
        let help = in_list.then(|| "if the list ends before this place, its `]` is missing".to_owned());
        diagnostics.add(error.span(), error.message().replace('\n', ": "), help);
        if in_list {
            break;
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let mut reader = Reader { text, diagnostics };
    Some(reader.file(root.get_ref()))
}

struct Reader<'a> {
    text: &'a str,
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn file(&mut self, root: &DeTable<'_>) -> Draft {
        let mut draft = Draft { connections_complete: true, ..Draft::default() };
        for (key, value) in in_order(root) {
            match key.get_ref().as_ref() {
                "name" => draft.name = self.string(value, "a name"),
                "duration" => draft.duration = self.duration(value, "duration"),
                "detach" => draft.detach = self.yes_or_no(value, "detach"),
                "pool" => {
                    let pools = self.array(value, "one or more [[pool]] tables");
                    draft.pools = pools.iter().filter_map(|pool| self.pool(pool)).collect();
                }
                "connect" => {
                    let mistakes = self.diagnostics.iter().count();
                    for item in self.array(value, "a list of connections") {
                        self.connection(item, &mut draft.connections);
                    }
                    draft.connections_complete = self.diagnostics.iter().count() == mistakes;
                }
                "process" => {
                    let processes = self.table(value, "tables [process.NAME]");
                    draft.processes =
                        in_order_of(processes).map(|(key, value)| self.process(key, value)).collect();
                }
                "blocks" => {
                    let blocks = self.table(value, "tables [blocks.NAME]");
                    draft.blocks =
                        in_order_of(blocks).filter_map(|(key, value)| self.block(key, value)).collect();
                }
                _ => self.unknown_key(
                    key,
                    "a pipeline file",
                    &["name", "duration", "detach", "connect", "pool", "process", "blocks"],
                ),
            }
        }
        let blocks = root.get("blocks").map(|blocks| blocks.get_ref());
        if blocks.is_none_or(|blocks| blocks.as_table().is_some_and(|table| table.is_empty())) {
            let help = "a block is a table like [blocks.cpu] with type = \"proc-cpu\"".to_owned();
            self.diagnostics.add(None, "there are no blocks", Some(help));
        }
        draft
    }

    fn pool(&mut self, value: &Spanned<DeValue<'_>>) -> Option<PoolConfig> {
        let (mut block_bytes, mut count) = (None, None);
        for (key, value) in in_order_of(self.table(value, "a table [[pool]]")) {
            match key.get_ref().as_ref() {
                "block_bytes" => block_bytes = self.whole_number(value, "`block_bytes`", MAX_BLOCK_BYTES),
                "count" => count = self.whole_number(value, "`count`", u32::MAX.into()),
                _ => self.unknown_key(key, "a pool", &["block_bytes", "count"]),
            }
        }
        for (name, missing) in [("block_bytes", block_bytes.is_none()), ("count", count.is_none())] {
            if missing {
                self.diagnostics.add(Some(value.span()), format!("a pool needs `{name}`"), None);
            }
        }
        Some(PoolConfig::new(block_bytes?, u32::try_from(count?).ok()?))
    }

    fn process(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> (Located<String>, Placement) {
        let name = Located { value: key.get_ref().to_string(), span: key.span() };
        let mut placement = Placement::default();
        for (key, value) in in_order_of(self.table(value, "a table [process.NAME]")) {
            match key.get_ref().as_ref() {
                "threads" => {
                    let threads = self.whole_number(value, "`threads`", MAX_THREADS);
                    placement.threads = threads.map_or(1, |threads| threads as usize);
                }
                "cpus" => placement.cpus = self.cpus(value),
                "nice" => {
                    let nice = value.get_ref().as_integer();
                    let nice = nice.and_then(|n| i32::from_str_radix(n.as_str(), n.radix()).ok());
                    placement.nice = nice.filter(|nice| (-20..=19).contains(nice));
                    if placement.nice.is_none() {
                        self.expected("`nice` to be a whole number from -20 to 19", value);
                    }
                }
                _ => self.unknown_key(key, "a process", &["threads", "cpus", "nice"]),
            }
        }
        (name, placement)
    }

    fn cpus(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<usize> {
        let expected = "`cpus` to be a list of CPU numbers like [0, 1]";
        let number = |item: &Spanned<DeValue<'_>>| {
            let number = item.get_ref().as_integer()?;
            let number = usize::from_str_radix(number.as_str(), number.radix()).ok()?;
            (number < MAX_CPUS).then_some(number)
        };
        let items = self.array(value, expected);
        let numbers: Vec<usize> = items.iter().filter_map(number).collect();
        if numbers.len() < items.len() || items.is_empty() && value.get_ref().as_array().is_some() {
            self.expected(expected, value);
        }
        numbers
    }

    fn block(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Option<DraftBlock> {
        let name = Located { value: key.get_ref().to_string(), span: key.span() };
        let DeValue::Table(table) = value.get_ref() else {
            self.expected(&format!("a table [blocks.{}]", name.value), value);
            return None;
        };
        if !table.contains_key("type") {
            let help = "add a line like type = \"gain\"".to_owned();
            self.diagnostics.add(
                Some(name.span.clone()),
                format!("block `{}` needs a `type`", name.value),
                Some(help),
            );
        }
        let mut block = DraftBlock {
            name,
            block_type: None,
            restart: Restart::default(),
            kill_stalled: None,
            process: None,
            program: None,
            params: Vec::new(),
        };
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "type" => block.block_type = self.string(value, "the name of a block type"),
                "restart" => block.restart = self.restart(value),
                "kill_stalled" => block.kill_stalled = self.duration(value, "kill_stalled"),
                "process" => block.process = self.string(value, "the name of a process"),
                "program" => block.program = self.string(value, "the path of a program"),
                name => {
                    debug_assert!(!RESERVED_KEYS.contains(&name), "a reserved key without meaning");
                    let name = Located { value: name.to_owned(), span: key.span() };
                    block.params.extend(self.value(value).map(|value| (name, value)));
                }
            }
        }
        Some(block)
    }

    /// A word, or a table with the word under `when`.
    fn restart(&mut self, value: &Spanned<DeValue<'_>>) -> Restart {
        let mut restart = Restart::default();
        let DeValue::Table(table) = value.get_ref() else {
            restart.when = self.one_of(value, "restart", &RESTARTS).unwrap_or_default();
            return restart;
        };
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "when" => restart.when = self.one_of(value, "when", &RESTARTS).unwrap_or_default(),
                "limit" => {
                    let limit = self.whole_number(value, "`limit`", u32::MAX.into());
                    restart.limit = limit.and_then(|n| u32::try_from(n).ok()).unwrap_or(restart.limit);
                }
                "within" => restart.within = self.duration(value, "within").unwrap_or(restart.within),
                _ => self.unknown_key(key, "`restart`", &["when", "limit", "within"]),
            }
        }
        restart
    }

    /// A string `"a -> b -> c"` is a chain, a table one connection with its settings.
    fn connection(&mut self, value: &Spanned<DeValue<'_>>, connections: &mut Vec<DraftConnection>) {
        match value.get_ref() {
            DeValue::String(chain) => {
                let ends = self.chain(chain, value.span());
                let pairs = ends.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                let config = ConnectionConfig::default();
                connections.extend(pairs.map(|(from, to)| DraftConnection { from, to, config }));
            }
            DeValue::Table(table) => connections.extend(self.connection_table(table, value.span())),
            _ => self.expected(
                "a connection like \"a.out -> b.in\" or { from = \"a.out\", to = \"b.in\" }",
                value,
            ),
        }
    }

    fn connection_table(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Option<DraftConnection> {
        let (mut from, mut to) = (None, None);
        let mut config = ConnectionConfig::default();
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "from" => from = self.string(value, "an output port"),
                "to" => to = self.string(value, "an input port"),
                "depth" => {
                    let depth = self.whole_number(value, "`depth`", millpond_shm::layout::MAX_DEPTH.into());
                    config.depth = depth.and_then(|depth| u32::try_from(depth).ok());
                }
                "max_time" => {
                    config.max_time = self.duration(value, "max_time");
                    if config.max_time.is_some_and(|time| time.is_zero()) {
                        self.expected("`max_time` to be more than nothing, like \"50ms\"", value);
                    }
                }
                "policy" => config.policy = self.one_of(value, "policy", &POLICIES),
                _ => self.unknown_key(key, "a connection", &["from", "to", "depth", "max_time", "policy"]),
            }
        }
        for (name, missing) in [("from", from.is_none()), ("to", to.is_none())] {
            if missing {
                self.diagnostics.add(Some(span.clone()), format!("a connection needs `{name}`"), None);
            }
        }
        Some(DraftConnection { from: from?, to: to?, config })
    }

    fn chain(&mut self, chain: &str, span: Range<usize>) -> Vec<Located<String>> {
        let ends: Vec<&str> = chain.split("->").map(str::trim).collect();
        if ends.len() < 2 || ends.iter().any(|end| end.is_empty()) {
            self.diagnostics.add(
                Some(span),
                format!("expected a connection like `a.out -> b.in`, found `{chain}`"),
                None,
            );
            return Vec::new();
        }
        if let Some(middle) = ends[1..ends.len() - 1].iter().find(|end| end.contains('.')) {
            let help = format!("write two connections, one to `{middle}` and one from its output");
            let message = format!("inside a chain blocks stand without a port, found `{middle}`");
            self.diagnostics.add(Some(span), message, Some(help));
            return Vec::new();
        }
        // Each end is looked for behind the one before it, so that its own place is shown.
        let mut at = span.start;
        let locate = |end: &str| {
            let found = self.text.get(at..span.end).and_then(|rest| rest.find(end)).map(|offset| at + offset);
            at = found.map_or(at, |start| start + end.len());
            Located {
                value: end.to_owned(),
                span: found.map_or(span.clone(), |start| start..start + end.len()),
            }
        };
        ends.into_iter().map(locate).collect()
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let read = match value.get_ref() {
            DeValue::String(text) => Some(Value::Text(text.to_string())),
            DeValue::Boolean(yes) => Some(Value::Bool(*yes)),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Int)
            }
            DeValue::Float(number) => number.as_str().parse().ok().map(Value::Float),
            DeValue::Array(items) => {
                let names = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                let numbers = || items.iter().map(|item| number(item.get_ref())).collect::<Option<Vec<_>>>();
                names.collect::<Option<Vec<_>>>().map(Value::Names).or_else(|| numbers().map(Value::Numbers))
            }
            DeValue::Datetime(_) | DeValue::Table(_) => None,
        };
        if read.is_none() {
            self.expected("a number, text, true, false or a list of names or numbers", value);
        }
        read
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<Located<String>> {
        let DeValue::String(text) = value.get_ref() else {
            self.expected(expected, value);
            return None;
        };
        Some(Located { value: text.to_string(), span: value.span() })
    }

    fn whole_number(&mut self, value: &Spanned<DeValue<'_>>, what: &str, max: u64) -> Option<u64> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|number| (1..=max).contains(number));
        if number.is_none() {
            self.expected(&format!("{what} to be a whole number from 1 to {max}"), value);
        }
        number
    }

    fn duration(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<Duration> {
        let text = self.string(value, "a duration like \"10s\"")?;
        match parse_duration(&text.value) {
            Ok(duration) => Some(duration),
            Err(problem) => {
                self.diagnostics.add(Some(text.span), format!("`{key}`: {problem}"), None);
                None
            }
        }
    }

    fn yes_or_no(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> bool {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.expected(&format!("`{key}` to be true or false"), value);
        }
        found.unwrap_or_default()
    }

    fn one_of<T: Copy>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        allowed: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
        let found = value.get_ref().as_str().and_then(|text| allowed.iter().find(|(name, _)| *name == text));
        if found.is_none() {
            self.expected(&format!("`{key}` to be one of: {}", names.join(", ")), value);
        }
        found.map(|(_, meaning)| *meaning)
    }

    fn table<'v, 'i>(&mut self, value: &'v Spanned<DeValue<'i>>, expected: &str) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.expected(expected, value);
        }
        table
    }

    fn array<'v, 'i>(
        &mut self,
        value: &'v Spanned<DeValue<'i>>,
        expected: &str,
    ) -> &'v [Spanned<DeValue<'i>>] {
        let array: Option<&DeArray<'i>> = value.get_ref().as_array();
        if array.is_none() {
            self.expected(expected, value);
        }
        array.map_or(&[], |array| array)
    }

    fn expected(&mut self, expected: &str, found: &Spanned<DeValue<'_>>) {
        let shown = match found.get_ref() {
            DeValue::String(text) => format!("`{text}`"),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                self.text[found.span()].to_owned()
            }
            other => format!("a TOML {}", other.type_str()),
        };
        self.diagnostics.add(Some(found.span()), format!("expected {expected}, found {shown}"), None);
    }

    fn unknown_key(&mut self, key: &Key<'_>, object: &str, known: &[&str]) {
        let name = key.get_ref();
        let help = match nearest(name, known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("it may have: {}", known.join(", ")),
        };
        self.diagnostics.add(Some(key.span()), format!("{object} has no key `{name}`"), Some(help));
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    }
}

type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

/// The entries of a table in the file's order.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> impl Iterator<Item = (&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.into_iter()
}

fn in_order_of<'t, 'i>(
    table: Option<&'t DeTable<'i>>,
) -> impl Iterator<Item = (&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    table.into_iter().flat_map(in_order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_not_closed_is_the_only_complaint() {
        let text = "connect = [\n'zeros -> nothing',\n'a -> b'\n[blocks.zeros]\ntype = 'null-source'\n";
        let mut diagnostics = Diagnostics::new("test.toml", text);
        assert!(read(text, &mut diagnostics).is_none());
        let shown = "error: missing comma between array elements, expected `,`\n --> test.toml:4:1\n  |\n4 | [blocks.zeros]\n  | ^\n  \
                     = help: if the list ends before this place, its `]` is missing\n";
        assert_eq!(diagnostics.to_string(), shown);
    }
}
