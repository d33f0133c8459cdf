//! The plots, as SVG: bars from zero, or, where the values lie too far apart for that, points on a logarithmic axis.

use std::fmt::Write as _;

use millpond_compare::stats::Spread;

use crate::numbers::with_unit;
use crate::questions::{Group, PEERS, Unit, question};
use crate::results::Results;

const WIDTH: f64 = 760.0;
/// Where the axis begins and ends: left of it are names, right of it is room for the last value.
const LEFT: f64 = 180.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 44.0;
const ROW: f64 = 22.0;
const PANEL_HEAD: f64 = 28.0;
const PANEL_GAP: f64 = 14.0;

/// One question's values.
struct Panel {
    title: &'static str,
    unit: Unit,
    rows: Vec<(&'static str, &'static str, Option<Spread>)>,
}

/// Where a value lies on the axis.
#[derive(Clone, Copy)]
struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
}

impl Axis {
    fn of(panels: &[&Panel], logarithmic: bool) -> Self {
        let values =
            || panels.iter().flat_map(|panel| &panel.rows).filter_map(|(_, _, value)| value.as_ref());
        let high = values().map(|value| value.max).fold(f64::MIN_POSITIVE, f64::max);
        let low = values().map(|value| value.min).fold(high, f64::min).max(f64::MIN_POSITIVE);
        match logarithmic {
            // Whole decades around what there is.
            true => Self {
                logarithmic,
                low: 10f64.powf(low.log10().floor()),
                high: 10f64.powf(high.log10().ceil()),
            },
            false => Self { logarithmic, low: 0.0, high },
        }
    }

    fn x(&self, value: f64) -> f64 {
        let part = match self.logarithmic {
            true if self.high > self.low => (value / self.low).log10() / (self.high / self.low).log10(),
            true => 0.0,
            false => value / self.high,
        };
        LEFT + (RIGHT - LEFT) * part.clamp(0.0, 1.0)
    }

    /// The lines of the grid: each decade.
    fn decades(&self) -> Vec<f64> {
        if !self.logarithmic {
            return Vec::new();
        }
        let (from, to) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
        (from..=to).map(|power| 10f64.powi(power)).collect()
    }
}

/// The plot of a group.
pub fn svg(group: &Group, results: &Results) -> String {
    let panels: Vec<Panel> = group.questions.iter().filter_map(|name| panel(name, results)).collect();
    // Latencies share an axis, so that panels can be held against each other; rates differ too much for that.
    let shared = Axis::of(&panels.iter().collect::<Vec<_>>(), group.logarithmic);
    let mut body = String::new();
    let mut y = TOP;
    for panel in &panels {
        let axis = if group.logarithmic { shared } else { Axis::of(&[panel], false) };
        draw(&mut body, panel, axis, y);
        y += PANEL_HEAD + ROW * panel.rows.len() as f64 + PANEL_GAP;
    }
    if group.logarithmic {
        for decade in shared.decades() {
            let _ = writeln!(
                body,
                "<text class='small' x='{:.1}' y='{:.0}' text-anchor='middle'>{}</text>",
                shared.x(decade),
                y + 4.0,
                with_unit(decade, panels.first().map_or(Unit::Count, |panel| panel.unit))
            );
        }
        y += 14.0;
    }
    let better = match panels.first() {
        Some(panel) if panel.unit.is_better_small() => {
            "less is better; each step of the grid is a factor of ten"
        }
        _ => "more is better; each part has an axis of its own, from zero",
    };
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y:.0}' width='{WIDTH}' height='{y:.0}' role='img' \
         aria-label='{title}'>\n<style>text{{font:13px system-ui,sans-serif;fill:#333}}.title{{font-weight:600;font-size:15px;\
         fill:#111}}.panel{{font-weight:600}}.small{{font-size:11px;fill:#666}}.axis{{stroke:#999}}.grid{{stroke:#e3e3e3}}\
         .range{{stroke:#333;stroke-width:1.5}}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n\
         <text class='title' x='16' y='24'>{title}</text>\n<text class='small' x='{end:.0}' y='24' text-anchor='end'>{better}\
         </text>\n{body}</svg>\n",
        title = group.title,
        end = WIDTH - 16.0,
    )
}

fn panel(name: &str, results: &Results) -> Option<Panel> {
    let question = question(name)?;
    let figure = question.figures.first()?;
    let rows = PEERS.iter().map(|peer| (peer.title, peer.color, results.figure(peer.name, name, figure.key)));
    Some(Panel { title: question.title, unit: figure.unit, rows: rows.collect() })
}

fn draw(body: &mut String, panel: &Panel, axis: Axis, top: f64) {
    let _ = writeln!(body, "<text class='panel' x='16' y='{:.0}'>{}</text>", top + 16.0, panel.title);
    let rows_top = top + PANEL_HEAD - 4.0;
    let bottom = rows_top + ROW * panel.rows.len() as f64;
    for decade in axis.decades() {
        let x = axis.x(decade);
        let _ = writeln!(
            body,
            "<line class='grid' x1='{x:.1}' y1='{rows_top:.0}' x2='{x:.1}' y2='{bottom:.0}'/>"
        );
    }
    let _ =
        writeln!(body, "<line class='axis' x1='{LEFT}' y1='{rows_top:.0}' x2='{LEFT}' y2='{bottom:.0}'/>");
    for (i, (title, color, value)) in panel.rows.iter().enumerate() {
        let middle = rows_top + ROW * (i as f64 + 0.5);
        let _ = writeln!(
            body,
            "<text x='{:.0}' y='{:.1}' text-anchor='end'>{title}</text>",
            LEFT - 8.0,
            middle + 4.5
        );
        let Some(value) = value else {
            let _ = writeln!(
                body,
                "<text class='small' x='{:.0}' y='{:.1}'>not measured</text>",
                LEFT + 8.0,
                middle + 4.0
            );
            continue;
        };
        let (x, low, high) = (axis.x(value.median), axis.x(value.min), axis.x(value.max));
        if axis.logarithmic {
            let _ = writeln!(body, "<circle cx='{x:.1}' cy='{middle:.1}' r='5.5' fill='{color}'/>");
        } else {
            let (y, width, height) = (middle - 7.0, x - LEFT, 14.0);
            let _ = writeln!(
                body,
                "<rect x='{LEFT}' y='{y:.1}' width='{width:.1}' height='{height}' fill='{color}'/>"
            );
        }
        let _ = writeln!(
            body,
            "<line class='range' x1='{low:.1}' y1='{middle:.1}' x2='{high:.1}' y2='{middle:.1}'/>\n\
             <text x='{:.1}' y='{:.1}'>{}</text>",
            high.max(x + 5.5) + 6.0,
            middle + 4.5,
            with_unit(value.median, panel.unit)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_ends_at_whole_decades() {
        let value = Spread::of(vec![30.0, 40.0, 500.0]);
        let panel = Panel { title: "", unit: Unit::Count, rows: vec![("", "", value)] };
        let axis = Axis::of(&[&panel], true);
        assert_eq!(axis.decades(), [10.0, 100.0, 1000.0]);
        assert_eq!((axis.x(10.0), axis.x(1000.0)), (LEFT, RIGHT));
        assert_eq!(axis.x(100.0), f64::midpoint(LEFT, RIGHT));
    }

    #[test]
    fn bars_begin_at_zero() {
        let panel = Panel { title: "", unit: Unit::Count, rows: vec![("", "", Spread::of(vec![8.0]))] };
        let axis = Axis::of(&[&panel], false);
        assert_eq!((axis.x(0.0), axis.x(8.0)), (LEFT, RIGHT));
    }
}
