//! The sets of the policies as lines of CSV.

use std::fmt::Write as _;
use std::io::{self, Write};

use millpond::align::{
    Accumulate as _, Linear, Members, Neighbours, Pane, Policy, Row, Statistics, Window, interpolate,
};

use super::drive::Collect;

/// Sets of events: `emit_row,t0,row0,t1,row1,...`.
#[derive(Default)]
pub struct Sets {
    emit_rows: Vec<u64>,
    /// Stamp and row of each stream, set after set.
    members: Vec<Option<(i64, u64)>>,
}

impl<P> Collect<u64, P> for Sets
where
    P: for<'a> Policy<u64, Set<'a> = Members<'a, u64>> + 'static,
{
    fn header(&self, streams: usize) -> String {
        (0..streams).fold("emit_row".to_owned(), |header, stream| header + &format!(",t{stream},row{stream}"))
    }

    #[inline]
    fn collect(&mut self, emit_row: u64, set: Members<'_, u64>) {
        self.emit_rows.push(emit_row);
        self.members
            .extend((0..set.len()).map(|stream| set.get(stream).map(|(stamp_ns, row)| (stamp_ns, *row))));
    }

    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let streams = self.members.len().checked_div(self.emit_rows.len()).unwrap_or(1);
        let mut line = String::new();
        for (emit_row, members) in self.emit_rows.drain(..).zip(self.members.chunks(streams)) {
            line.clear();
            let _ = write!(line, "{emit_row}");
            for member in members {
                let _ = match member {
                    Some((stamp_ns, row)) => write!(line, ",{stamp_ns},{row}"),
                    None => write!(line, ",,"),
                };
            }
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        self.members.clear();
        Ok(())
    }
}

/// Interpolated values: `stamp_ns,v0,v1,...`.
#[derive(Default)]
pub struct Rows {
    stamps_ns: Vec<i64>,
    values: Vec<Option<f64>>,
}

impl Collect<f64, Linear<f64>> for Rows {
    fn header(&self, streams: usize) -> String {
        (0..streams).fold("stamp_ns".to_owned(), |header, stream| header + &format!(",v{stream}"))
    }

    #[inline]
    fn collect(&mut self, _: u64, row: Row<'_, f64>) {
        self.stamps_ns.push(row.stamp_ns());
        self.values.extend((0..row.len()).map(|stream| match row.neighbours(stream) {
            Neighbours::Missing => None,
            Neighbours::Exact(value) => Some(*value),
            Neighbours::Between { before, after, offset_ns, gap_ns } => {
                Some(interpolate(*before, *after, offset_ns, gap_ns))
            }
        }));
    }

    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let streams = self.values.len().checked_div(self.stamps_ns.len()).unwrap_or(1);
        let mut line = String::new();
        for (stamp_ns, values) in self.stamps_ns.drain(..).zip(self.values.chunks(streams)) {
            line.clear();
            let _ = write!(line, "{stamp_ns}");
            for value in values {
                // The shortest digits that are read back as the same number.
                let _ = match value {
                    Some(value) => write!(line, ",{value:?}"),
                    None => write!(line, ","),
                };
            }
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        self.values.clear();
        Ok(())
    }
}

/// Windows: `start_ns,end_ns,stream,count,mean,min,max,sum,last`, a line for each stream with events and one for all.
#[derive(Default)]
pub struct Panes {
    groups: Vec<Group>,
}

struct Group {
    start_ns: i64,
    end_ns: i64,
    /// `None`: all streams.
    stream: Option<usize>,
    statistics: Statistics,
}

impl Collect<f64, Window<Statistics>> for Panes {
    fn header(&self, _: usize) -> String {
        "start_ns,end_ns,stream,count,mean,min,max,sum,last".to_owned()
    }

    #[inline]
    fn collect(&mut self, _: u64, pane: Pane<'_, Statistics>) {
        let streams =
            (0..).map_while(|stream| pane.port(stream).map(|statistics| (Some(stream), statistics)));
        for (stream, statistics) in streams.chain(pane.all().map(|all| (None, all))) {
            if statistics.count() > 0 {
                let (start_ns, end_ns) = (pane.start_ns(), pane.end_ns());
                self.groups.push(Group { start_ns, end_ns, stream, statistics: *statistics });
            }
        }
    }

    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for Group { start_ns, end_ns, stream, statistics: s } in self.groups.drain(..) {
            let stream = stream.map_or_else(|| "all".to_owned(), |stream| stream.to_string());
            let (count, mean, min, max, sum, last) =
                (s.count(), s.mean(), s.min(), s.max(), s.sum(), s.last());
            writeln!(out, "{start_ns},{end_ns},{stream},{count},{mean:?},{min:?},{max:?},{sum:?},{last:?}")?;
        }
        Ok(())
    }
}
