//! Reading recorded events.

use std::io::BufRead;

use anyhow::{Context as _, bail};
use millpond::sample_to_ns;

const COLUMNS: [&str; 8] =
    ["stream", "stamp_ns", "value", "arrival_ns", "seq", "index", "rate_num", "rate_den"];
/// Of them, those that must be there.
const PLAIN_COLUMNS: usize = 5;
/// No stream has a greater number, whatever the file says.
const MAX_STREAMS: usize = millpond::align::PortSet::MAX_PORTS;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub stamp_ns: i64,
    pub arrival_ns: i64,
    pub value: f64,
    pub stream: usize,
}

/// A CSV file of events, read line by line.
pub struct Events {
    name: String,
    reader: Box<dyn BufRead>,
    columns: usize,
    line: String,
    line_number: u64,
    /// How many streams there are, if that was said.
    stated: Option<usize>,
    streams: Vec<Stream>,
}

#[derive(Clone, Copy, Default)]
struct Stream {
    has_events: bool,
    anchor: Option<Anchor>,
}

/// Where the samples of a stream are counted from.
#[derive(Clone, Copy, PartialEq)]
struct Anchor {
    start_ns: i64,
    rate_num: u32,
    rate_den: u32,
}

impl Events {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is not the right one.
    pub fn new(name: String, reader: Box<dyn BufRead>, stated: Option<usize>) -> anyhow::Result<Self> {
        let mut events = Self {
            name,
            reader,
            columns: 0,
            line: String::new(),
            line_number: 0,
            stated,
            streams: Vec::new(),
        };
        events.next_line()?;
        let header = events.line.trim_start_matches('\u{feff}').to_owned();
        let is_header = |columns: usize| header == COLUMNS[..columns].join(",");
        events.columns = match () {
            () if is_header(PLAIN_COLUMNS) => PLAIN_COLUMNS,
            () if is_header(COLUMNS.len()) => COLUMNS.len(),
            () => bail!(
                "{}, line 1: expected the header `{}`, with or without `,{}` behind it, found `{}`",
                events.name,
                COLUMNS[..PLAIN_COLUMNS].join(","),
                COLUMNS[PLAIN_COLUMNS..].join(","),
                header
            ),
        };
        Ok(events)
    }

    /// Appends up to `most` events; returns whether there were any.
    ///
    /// # Errors
    /// A mistake in the file, with the number of its line.
    pub fn read(&mut self, into: &mut Vec<Event>, most: usize) -> anyhow::Result<bool> {
        let before = into.len();
        while into.len() - before < most && self.next_line()? {
            if self.line.is_empty() {
                // Only the end of the file may be empty.
                let empty = self.line_number;
                if self.next_line()? {
                    bail!("{}, line {empty}: expected an event, found an empty line", self.name);
                }
                break;
            }
            let event = self.event().with_context(|| format!("{}, line {}", self.name, self.line_number))?;
            into.push(event);
        }
        Ok(into.len() > before)
    }

    /// How many streams there were in what was read.
    ///
    /// # Errors
    /// If there is none, or one of them had no event.
    pub fn streams(&self) -> anyhow::Result<usize> {
        if self.streams.is_empty() {
            bail!("{}: there are no events", self.name);
        }
        if let Some(silent) = self.streams.iter().position(|stream| !stream.has_events) {
            let streams = self.streams.len();
            bail!(
                "{}: there are events of stream {} but none of stream {silent}; if it is silent, say --streams {streams}",
                self.name,
                streams - 1,
            );
        }
        Ok(self.streams.len())
    }

    fn next_line(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        self.line_number += 1;
        let bytes = self
            .reader
            .read_line(&mut self.line)
            .with_context(|| format!("cannot read {}, line {}", self.name, self.line_number))?;
        let end = self.line.trim_end_matches(['\n', '\r']).len();
        self.line.truncate(end);
        Ok(bytes > 0)
    }

    fn event(&mut self) -> anyhow::Result<Event> {
        let mut fields = [""; COLUMNS.len()];
        let mut found = 0;
        for field in self.line.split(',') {
            if let Some(place) = fields.get_mut(found) {
                *place = field.trim();
            }
            found += 1;
        }
        if found != self.columns {
            bail!("expected {} fields, found {found}", self.columns);
        }
        let [stream, stamp, value, arrival, seq, index, rate_num, rate_den] = fields;
        let stream: usize = number("stream", stream, "a whole number from 0")?;
        let streams = self.stated.unwrap_or(MAX_STREAMS);
        if stream >= streams {
            bail!("expected a stream from 0 to {}, found {stream}", streams - 1);
        }
        let arrival_ns = number("arrival_ns", arrival, "whole nanoseconds")?;
        let value: f64 = number("value", value, "a number")?;
        let _: i64 = number("seq", seq, "a whole number")?;
        if self.streams.len() <= stream {
            self.streams.resize(stream + 1, Stream::default());
        }
        let known = &mut self.streams[stream];
        known.has_events = true;
        let stamp_ns = if index.is_empty() && rate_num.is_empty() && rate_den.is_empty() {
            number("stamp_ns", stamp, "whole nanoseconds")?
        } else {
            let stamp_ns: i64 =
                if stamp.is_empty() { 0 } else { number("stamp_ns", stamp, "whole nanoseconds")? };
            let index = number("index", index, "a whole number")?;
            let rate_num = number("rate_num", rate_num, "a whole number of Hz")?;
            let rate_den = number("rate_den", rate_den, "a whole number")?;
            let since_ns = sample_to_ns(index, rate_num, rate_den).with_context(|| {
                format!("sample {index} at {rate_num}/{rate_den} Hz has no time in 64 bits")
            })?;
            let anchor = match known.anchor {
                Some(anchor) => anchor,
                None => {
                    let start_ns = if stamp.is_empty() { Some(0) } else { stamp_ns.checked_sub(since_ns) };
                    let start_ns =
                        start_ns.context("the stream starts before the time that 64 bits can hold")?;
                    *known.anchor.insert(Anchor { start_ns, rate_num, rate_den })
                }
            };
            if (anchor.rate_num, anchor.rate_den) != (rate_num, rate_den) {
                bail!(
                    "expected stream {stream} to stay at {}/{} Hz, found {rate_num}/{rate_den}",
                    anchor.rate_num,
                    anchor.rate_den
                );
            }
            let stamp_ns = anchor.start_ns.checked_add(since_ns);
            stamp_ns.with_context(|| format!("sample {index} has no time in 64 bits"))?
        };
        Ok(Event { stamp_ns, arrival_ns, value, stream })
    }
}

fn number<T: std::str::FromStr>(column: &str, field: &str, expected: &str) -> anyhow::Result<T> {
    match field.parse() {
        Ok(number) => Ok(number),
        Err(_) if field.is_empty() => bail!("`{column}`: expected {expected}, found nothing"),
        Err(_) => bail!("`{column}`: expected {expected}, found `{field}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str, stated: Option<usize>) -> anyhow::Result<(Vec<Event>, usize)> {
        let mut events = Events::new("log.csv".to_owned(), Box::new(text.as_bytes()), stated)?;
        let mut all = Vec::new();
        while events.read(&mut all, 2)? {}
        let streams = events.streams()?;
        Ok((all, streams))
    }

    fn stamps(text: &'static str) -> Vec<i64> {
        read(text, None).unwrap().0.iter().map(|event| event.stamp_ns).collect()
    }

    #[test]
    fn events_are_read() {
        let (events, streams) =
            read("stream,stamp_ns,value,arrival_ns,seq\r\n0,-5,1.5,7,0\r\n1,6,-2e3,8,0\r\n", None).unwrap();
        assert_eq!(streams, 2);
        assert_eq!(events[0], Event { stamp_ns: -5, arrival_ns: 7, value: 1.5, stream: 0 });
        assert_eq!(events[1], Event { stamp_ns: 6, arrival_ns: 8, value: -2000.0, stream: 1 });
    }

    #[test]
    fn samples_are_counted_from_the_first() {
        let text = "stream,stamp_ns,value,arrival_ns,seq,index,rate_num,rate_den\n\
                    0,1000,0,0,0,3,3,1\n0,5,0,0,1,4,3,1\n1,77,0,0,0,,,\n0,,0,0,2,6,3,1\n";
        assert_eq!(stamps(text), [1000, 333_334_333, 77, 1_000_001_000]);
        let without_stamp =
            "stream,stamp_ns,value,arrival_ns,seq,index,rate_num,rate_den\n0,,0,0,0,30000,30000,1001\n";
        assert_eq!(stamps(without_stamp), [1_001_000_000_000], "30000 samples at 30000/1001 Hz are 1001 s");
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let refused = |text, stated| format!("{:#}", read(text, stated).unwrap_err());
        let header = "log.csv, line 1: expected the header `stream,stamp_ns,value,arrival_ns,seq`, with or without \
                      `,index,rate_num,rate_den` behind it, found ";
        assert_eq!(refused("", None), format!("{header}``"));
        assert_eq!(refused("0,1,2,3,4\n", None), format!("{header}`0,1,2,3,4`"));
        assert_eq!(refused("stream,stamp_ns,value,arrival_ns,seq\n", None), "log.csv: there are no events");
        for (text, problem) in [
            (
                "stream,stamp_ns,value,arrival_ns,seq\n0,1,2,3,4\n0,1,2,3\n",
                "line 3: expected 5 fields, found 4",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n0,,2,3,4\n",
                "line 2: `stamp_ns`: expected whole nanoseconds, found nothing",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n0,1.5,2,3,4\n",
                "line 2: `stamp_ns`: expected whole nanoseconds, found `1.5`",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n0,1,x,3,4\n",
                "line 2: `value`: expected a number, found `x`",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n-1,1,2,3,4\n",
                "line 2: `stream`: expected a whole number from 0, found `-1`",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n64,1,2,3,4\n",
                "line 2: expected a stream from 0 to 63, found 64",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq\n0,1,2,3,4\n\n0,1,2,3,4\n",
                "line 3: expected an event, found an empty line",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq,index,rate_num,rate_den\n0,0,0,0,0,1,3,1\n0,0,0,0,0,1,4,1\n",
                "line 3: expected stream 0 to stay at 3/1 Hz, found 4/1",
            ),
            (
                "stream,stamp_ns,value,arrival_ns,seq,index,rate_num,rate_den\n0,0,0,0,0,1,0,1\n",
                "line 2: sample 1 at 0/1 Hz has no time in 64 bits",
            ),
        ] {
            assert_eq!(refused(text, None), format!("log.csv, {problem}"));
        }
        let unknown = "stream,stamp_ns,value,arrival_ns,seq\n0,1,2,3,4\n2,1,2,3,4\n";
        assert_eq!(refused(unknown, Some(2)), "log.csv, line 3: expected a stream from 0 to 1, found 2");
        assert_eq!(
            refused(unknown, None),
            "log.csv: there are events of stream 2 but none of stream 1; if it is silent, say --streams 3"
        );
    }
}
