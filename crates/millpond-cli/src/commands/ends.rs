//! The two ports that `millpond connect` is about: as they are typed, a block's name will do where it has only one; and what their block's
//! type states about them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use millpond::bus::{Bus, BusError, Json};
use millpond::{Catalog, Params, Port, Spec};
use millpond_shm::{Direction, Snapshot};

/// How long a block may take to be there, and then to say what its parameters are.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to ask a block that is not there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The ports of a pond, and what is known of the types of its blocks.
pub struct Ends<'a> {
    pond: &'a Snapshot,
    catalog: Catalog,
}

impl<'a> Ends<'a> {
    /// What there is in this pond.
    pub fn of(pond: &'a Snapshot) -> Self {
        Self { pond, catalog: Catalog::builtin() }
    }

    /// The port that is meant: one that is open, or that its block will open as soon as it knows what comes in.
    ///
    /// # Errors
    /// There is none, or more than one could be meant; what there is instead.
    pub fn port(&self, typed: &str, direction: Direction) -> anyhow::Result<String> {
        let known = self.known(direction);
        if known.contains(typed) {
            return Ok(typed.to_owned());
        }
        let of_block =
            known.iter().filter(|port| port.split_once('.').is_some_and(|(block, _)| block == typed));
        let of_block: Vec<&str> = of_block.map(String::as_str).collect();
        let (pond, what) = (&self.pond.name, if direction == Direction::Output { "output" } else { "input" });
        match of_block.as_slice() {
            [port] => Ok((*port).to_owned()),
            [] => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                bail!(
                    "pond `{pond}` has no {what} port `{typed}`; there are: {known} (with --ahead it need not exist yet)"
                )
            }
            several => bail!(
                "block `{typed}` of pond `{pond}` has {} {what}s, and one is needed: {}",
                several.len(),
                several.join(", ")
            ),
        }
    }

    fn known(&self, direction: Direction) -> BTreeSet<String> {
        let open = self.pond.ports.iter().filter(|port| port.direction == direction);
        let stated = self.pond.blocks.iter().flat_map(|block| {
            let spec = self.catalog.find(&block.block_type).ok().map(|found| found.spec());
            let ports = spec.map(|spec| ports_of(spec, direction)).unwrap_or_default();
            let ports = ports.iter().filter(|port| port.for_each_of().is_none());
            ports.map(|port| format!("{}.{}", block.name, port.name())).collect::<Vec<_>>()
        });
        open.map(|port| port.name.clone()).chain(stated).collect()
    }

    /// What the type of a port's block states, if it is a builtin one, and the port's name within the block.
    pub fn spec_of<'b>(&self, port: &'b str) -> Option<(&Spec, &'b str)> {
        let (block, port) = port.split_once('.')?;
        let known = self.pond.blocks.iter().find(|known| known.name == block)?;
        Some((self.catalog.find(&known.block_type).ok()?.spec(), port))
    }

    /// The port as its block's type states it for the parameters that the block has. `None`: nothing is known, or nothing that matters to
    /// a connection.
    ///
    /// # Errors
    /// The block does not say what its parameters are.
    pub fn stated(&self, bus: &Bus, port: &str, direction: Direction) -> anyhow::Result<Option<Port>> {
        let Some((spec, name)) = self.spec_of(port) else { return Ok(None) };
        if !may_state(ports_of(spec, direction), name) {
            return Ok(None);
        }
        let block = port.split_once('.').map_or(port, |(block, _)| block);
        let told = ask(bus, &format!("{block}/get"))?;
        let told = told.as_array().into_iter().flatten();
        let given = told.filter_map(|param| Some((param["name"].as_str()?, param["value"].as_str()?)));
        let params = Params::parse(spec, given)?;
        let ports = match direction {
            Direction::Input => spec.inputs(&params),
            Direction::Output => spec.outputs(&params),
        };
        Ok(ports.into_iter().find(|port| port.name() == name))
    }
}

/// Whether a port of this name may state something that matters to a connection.
fn may_state(ports: &[Port], name: &str) -> bool {
    match ports.iter().find(|port| port.for_each_of().is_none() && port.name() == name) {
        Some(port) => port.states_connection(),
        // One of those that a parameter names.
        None => ports.iter().any(|port| port.for_each_of().is_some() && port.states_connection()),
    }
}

/// Asks a block, which may just be starting, for the first time or again.
fn ask(bus: &Bus, topic: &str) -> Result<Json, BusError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bus.call(topic, &Json::Null, PATIENCE) {
            Err(BusError::Absent { .. } | BusError::Gone { .. }) if Instant::now() < deadline => {
                std::thread::sleep(LOOK_EVERY);
            }
            told => return told,
        }
    }
}

fn ports_of(spec: &Spec, direction: Direction) -> &[Port] {
    match direction {
        Direction::Input => spec.input_ports(),
        Direction::Output => spec.output_ports(),
    }
}
