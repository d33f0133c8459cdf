//! `proc-network`: what goes over the network, from /proc/net/dev.

use std::time::Instant;

use super::proc_file::{ProcFile, Telemetry, telemetry_spec};
use crate::prelude::*;

/// Bytes received and sent a second since the last row.
pub(super) struct ProcNetwork {
    file: ProcFile,
    telemetry: Telemetry,
    interface: Option<String>,
    last: (Instant, Traffic),
}

/// Bytes since the interface came up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Traffic {
    received: u64,
    sent: u64,
}

impl Block for ProcNetwork {
    fn spec() -> Spec {
        let columns = "bytes received and sent a second since the last row";
        telemetry_spec("proc-network", "What goes over the network, from /proc/net/dev", columns, 50.0).param(
            Param::text("interface", "the interface; without it, all but the loopback together").optional(),
        )
    }

    fn new(params: &Params) -> Result<Self> {
        let mut file = ProcFile::open("/proc/net/dev")?;
        let interface: Option<String> = params.get("interface");
        let last = (Instant::now(), read(&mut file, interface.as_deref())?);
        let columns = ["rx_bytes_per_s", "tx_bytes_per_s"];
        Ok(Self { file, telemetry: Telemetry::new(params, &columns), interface, last })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.telemetry.start(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.telemetry.send(io, |row| {
            let now = (Instant::now(), read(&mut self.file, self.interface.as_deref())?);
            let (last, seconds) = (self.last.1, (now.0 - self.last.0).as_secs_f64());
            // The counters start anew when an interface does.
            let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
            row[0] = rate(now.1.received, last.received);
            row[1] = rate(now.1.sent, last.sent);
            self.last = now;
            Ok(())
        })
    }
}

fn read(file: &mut ProcFile, interface: Option<&str>) -> Result<Traffic> {
    match parse(file.read()?, interface) {
        Some(traffic) => Ok(traffic),
        None => {
            Err(file.lacks(&interface.map_or("interfaces".to_owned(), |name| format!("interface `{name}`"))))
        }
    }
}

/// The traffic of one interface, or of all but the loopback; `None` if there is no such interface.
fn parse(text: &str, interface: Option<&str>) -> Option<Traffic> {
    let of_line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        let wanted = interface.map_or(name != "lo", |wanted| wanted == name);
        let mut counters = counters.split_ascii_whitespace().map(|counter| counter.parse().ok());
        wanted.then_some(Traffic { received: counters.next()??, sent: counters.nth(7)?? })
    };
    let mut traffic = interface.is_none().then(Traffic::default);
    for found in text.lines().filter_map(of_line) {
        let sum = traffic.get_or_insert_default();
        sum.received += found.received;
        sum.sent += found.sent;
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0
  eth0: 200 2 0 0 0 0 0 0 30 3 0 0 0 0 0 0
wlan0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
";

    #[test]
    fn interfaces_are_told_apart() {
        assert_eq!(parse(TEXT, Some("eth0")), Some(Traffic { received: 200, sent: 30 }));
        assert_eq!(parse(TEXT, Some("lo")), Some(Traffic { received: 1000, sent: 1000 }));
        assert_eq!(parse(TEXT, None), Some(Traffic { received: 205, sent: 37 }));
        assert_eq!(parse(TEXT, Some("eth1")), None);
        assert_eq!(parse("", None), Some(Traffic::default()));
    }

    #[test]
    fn reads_this_machine() {
        let mut bench = Bench::of::<ProcNetwork>(&[("rate_hz", 1000.0.into()), ("count", 3.into())]).unwrap();
        bench.run().unwrap();
        let row = bench.pull::<f64>("out").unwrap().expect("a row");
        assert!(row.iter().all(|rate| *rate >= 0.0), "{row:?}");
        let refusal = Bench::of::<ProcNetwork>(&[("interface", "nope0".into())]).err().expect("refused");
        assert_eq!(refusal.to_string(), "/proc/net/dev has no interface `nope0`");
    }
}
