//! Timelines as SVG.

use std::fmt::Write as _;

const LEFT: f64 = 96.0;
const WIDTH: f64 = 640.0;
const TOP: f64 = 52.0;
const LANE: f64 = 58.0;
const RADIUS: f64 = 6.5;

/// Colours that are told apart also without seeing red and green (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:15px;fill:#111}\
.small{font-size:11px;fill:#666}.lane{stroke:#bbb;stroke-width:1.5}.tick{stroke:#ddd}.ring{fill:#fff;stroke:#999;stroke-width:1.5}\
.cross{stroke:#999;stroke-width:1.5}.gap{fill:#fff;stroke-dasharray:3 2.5;stroke-width:1.5}";

/// Streams as horizontal lanes, time in ms to the right.
pub struct Picture {
    lanes: usize,
    end_ms: i64,
    behind: String,
    front: String,
}

/// The colour of set number `index`.
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

impl Picture {
    pub fn new(title: &str, lanes: &[&str], end_ms: i64) -> Self {
        let mut picture = Self { lanes: lanes.len(), end_ms, behind: String::new(), front: String::new() };
        let bottom = picture.y(lanes.len() - 1) + 30.0;
        let _ = writeln!(picture.front, "<text class='title' x='12' y='26'>{title}</text>");
        for ms in (0..=end_ms).step_by(10) {
            let x = picture.x(ms as f64);
            let _ = writeln!(
                picture.behind,
                "<line class='tick' x1='{x:.1}' y1='40' x2='{x:.1}' y2='{bottom}'/>"
            );
            let _ = writeln!(
                picture.front,
                "<text class='small' text-anchor='middle' x='{x:.1}' y='{}'>{ms}{}</text>",
                bottom + 14.0,
                if ms == 0 { " ms" } else { "" }
            );
        }
        for (lane, name) in lanes.iter().enumerate() {
            let y = picture.y(lane);
            let _ = writeln!(picture.front, "<text x='12' y='{:.1}'>{name}</text>", y + 4.5);
            let end = LEFT + WIDTH;
            let _ = writeln!(picture.behind, "<line class='lane' x1='{LEFT}' y1='{y}' x2='{end}' y2='{y}'/>");
        }
        picture
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + ms * WIDTH / self.end_ms as f64
    }

    fn y(&self, lane: usize) -> f64 {
        TOP + 20.0 + lane as f64 * LANE
    }

    /// An item that is part of a set.
    pub fn dot(&mut self, lane: usize, ms: f64, colour: &str) {
        let (x, y) = (self.x(ms), self.y(lane));
        let _ = writeln!(self.front, "<circle cx='{x:.1}' cy='{y}' r='{RADIUS}' fill='{colour}'/>");
    }

    /// An item that waits.
    pub fn ring(&mut self, lane: usize, ms: f64) {
        let (x, y) = (self.x(ms), self.y(lane));
        let _ = writeln!(self.front, "<circle class='ring' cx='{x:.1}' cy='{y}' r='{RADIUS}'/>");
    }

    /// An item that is in no set.
    pub fn dropped(&mut self, lane: usize, ms: f64) {
        self.ring(lane, ms);
        let (x, y) = (self.x(ms), self.y(lane));
        for (dx, dy) in [(3.5, 3.5), (3.5, -3.5)] {
            let (x1, y1, x2, y2) = (x - dx, y - dy, x + dx, y + dy);
            let _ = writeln!(
                self.front,
                "<line class='cross' x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}'/>"
            );
        }
    }

    /// A place where an item is missing.
    pub fn missing(&mut self, lane: usize, ms: f64, colour: &str) {
        let (x, y) = (self.x(ms), self.y(lane));
        let _ =
            writeln!(self.front, "<circle class='gap' cx='{x:.1}' cy='{y}' r='{RADIUS}' stroke='{colour}'/>");
    }

    /// A computed value.
    pub fn diamond(&mut self, lane: usize, ms: f64, colour: &str) {
        let (x, y, r) = (self.x(ms), self.y(lane), RADIUS);
        let _ = writeln!(
            self.front,
            "<path d='M{x:.1} {:.1}l{r} {r}l-{r} {r}l-{r} -{r}z' fill='{colour}' stroke='#fff'/>",
            y - r
        );
    }

    /// A line between two items.
    pub fn line(&mut self, from: (usize, f64), to: (usize, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = ((self.x(from.1), self.y(from.0)), (self.x(to.1), self.y(to.0)));
        let _ = writeln!(
            self.behind,
            "<line x1='{x1:.1}' y1='{y1}' x2='{x2:.1}' y2='{y2}' stroke='{colour}' stroke-width='2.5'/>"
        );
    }

    /// A vertical dashed line through all lanes.
    pub fn moment(&mut self, ms: f64, colour: &str) {
        let (x, bottom) = (self.x(ms), self.y(self.lanes - 1) + 16.0);
        let _ = writeln!(
            self.behind,
            "<line x1='{x:.1}' y1='52' x2='{x:.1}' y2='{bottom}' stroke='{colour}' stroke-dasharray='4 3'/>"
        );
    }

    /// A shaded span of time over the lanes from `first` to `last`.
    pub fn span(&mut self, (first, last): (usize, usize), (from_ms, to_ms): (f64, f64), colour: &str) {
        let (x, width) = (self.x(from_ms), self.x(to_ms) - self.x(from_ms));
        let (y, height) = (self.y(first) - 17.0, self.y(last) - self.y(first) + 34.0);
        let _ = writeln!(
            self.behind,
            "<rect x='{x:.1}' y='{y}' width='{width:.1}' height='{height}' rx='4' fill='{colour}' fill-opacity='0.13'/>"
        );
    }

    /// Words above a lane.
    pub fn note(&mut self, lane: usize, ms: f64, text: &str) {
        let (x, y) = (self.x(ms), self.y(lane) - 11.0);
        let _ = writeln!(
            self.front,
            "<text class='small' text-anchor='middle' x='{x:.1}' y='{y:.1}'>{text}</text>"
        );
    }

    pub fn finish(self) -> String {
        let (width, height) = (LEFT + WIDTH + 24.0, self.y(self.lanes - 1) + 54.0);
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>\n\
             <style>{STYLE}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n{}{}</svg>\n",
            self.behind, self.front
        )
    }
}
