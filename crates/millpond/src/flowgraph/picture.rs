//! Pictures of flowgraphs: SVG to look at, DOT for other programs.
//!
//! The layout is the layered one of Sugiyama, Tagawa and Toda (1981) in its simplest form: a block stands in the column behind
//! its last sender, and the order within a column follows the mean position of a block's senders.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Flowgraph;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The boxes.
    pub blocks: Vec<PictureBlock>,
    /// The arrows.
    pub connections: Vec<PictureConnection>,
}

/// A box.
#[derive(Clone, Debug)]
pub struct PictureBlock {
    /// The block's name.
    pub name: String,
    /// A second, smaller line: its type and state.
    pub detail: String,
}

/// An arrow between two boxes.
#[derive(Clone, Debug)]
pub struct PictureConnection {
    /// The sending block's name and its port's.
    pub from: (String, String),
    /// The receiving block's name and its port's.
    pub to: (String, String),
    /// What stands on the arrow: a rate, a policy.
    pub label: String,
}

const CHARACTER: f64 = 7.3;
const LEAST_HEIGHT: f64 = 44.0;
/// Height for each port on one side of a box.
const PORT_HEIGHT: f64 = 17.0;
const ROW_GAP: f64 = 34.0;
const GAP: f64 = 120.0;
const MARGIN: f64 = 16.0;

impl Picture {
    /// The picture of a flowgraph that does not run.
    pub fn of(flowgraph: &Flowgraph) -> Self {
        let blocks = flowgraph
            .blocks
            .iter()
            .map(|node| PictureBlock { name: node.name.clone(), detail: node.block_type.clone() })
            .collect();
        let connections = flowgraph
            .connections
            .iter()
            .map(|connection| PictureConnection {
                from: (connection.from.block.clone(), connection.from.port.clone()),
                to: (connection.to.block.clone(), connection.to.port.clone()),
                label: match connection.config.policy {
                    None | Some(millpond_shm::Policy::Block) => String::new(),
                    Some(millpond_shm::Policy::DropNewest) => "drops newest".to_owned(),
                    Some(millpond_shm::Policy::DropOldest) => "drops oldest".to_owned(),
                },
            })
            .collect();
        Self { blocks, connections }
    }

    /// As a DOT graph, for Graphviz and others.
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph millpond {\n    rankdir=LR;\n    node [shape=box, style=rounded];\n");
        for block in &self.blocks {
            let (name, detail) = (dot_text(&block.name), dot_text(&block.detail));
            let _ = writeln!(dot, "    \"{name}\" [label=\"{name}\\n{detail}\"];");
        }
        for connection in &self.connections {
            let (from, to) = (dot_text(&connection.from.0), dot_text(&connection.to.0));
            let label = dot_text(&connection.label);
            let (tail, head) = (dot_text(&connection.from.1), dot_text(&connection.to.1));
            let _ = writeln!(
                dot,
                "    \"{from}\" -> \"{to}\" [label=\"{label}\", taillabel=\"{tail}\", headlabel=\"{head}\"];"
            );
        }
        dot + "}\n"
    }

    /// As an SVG image, readable on light and dark backgrounds.
    pub fn to_svg(&self) -> String {
        let places = self.places();
        let right = places.iter().map(|place| place.x + place.width).fold(MARGIN, f64::max);
        let bottom = places.iter().map(|place| place.y + place.height).fold(MARGIN, f64::max);
        let (width, height) = (right + MARGIN, bottom + MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, DejaVu Sans Mono, monospace\" font-size=\"12\">\n\
             <defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\">\
             <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#5b7a99\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        for connection in &self.connections {
            self.draw_connection(&mut svg, connection, &places);
        }
        for (block, place) in self.blocks.iter().zip(&places) {
            let (middle, text) = (place.x + place.width / 2.0, place.y + place.height / 2.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"7\" fill=\"#eaf2fa\" stroke=\"#5b7a99\"/>\
                 <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-weight=\"bold\" fill=\"#16324f\">{}</text>\
                 <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10.5\" fill=\"#4a6076\">{}</text>",
                place.x,
                place.y,
                place.width,
                place.height,
                text - 3.0,
                svg_text(&block.name),
                text + 12.0,
                svg_text(&block.detail),
            );
        }
        svg + "</svg>\n"
    }

    fn draw_connection(&self, svg: &mut String, connection: &PictureConnection, places: &[Place]) {
        let place = |block: &str| {
            self.blocks.iter().position(|known| known.name == block).and_then(|index| places.get(index))
        };
        let (Some(from), Some(to)) = (place(&connection.from.0), place(&connection.to.0)) else { return };
        // Arrows into one block end below each other, in the order of its connections; likewise those that leave one.
        let spread = |height: f64, at: &dyn Fn(&PictureConnection) -> &(String, String)| {
            let of = |other: &&PictureConnection| at(other).0 == at(connection).0;
            let count = self.connections.iter().filter(of).count();
            let index = self.connections.iter().filter(of).position(|other| std::ptr::eq(other, connection));
            height * (index.unwrap_or(0) + 1) as f64 / (count + 1) as f64
        };
        let (x1, y1) = (from.x + from.width, from.y + spread(from.height, &|other| &other.from));
        let (x2, y2) = (to.x - 2.0, to.y + spread(to.height, &|other| &other.to));
        let bend = ((x2 - x1) / 2.0).abs().max(40.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{x1:.1} {y1:.1} C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\" fill=\"none\" stroke=\"#5b7a99\" \
             stroke-width=\"1.4\" marker-end=\"url(#tip)\"/>",
            x1 + bend,
            x2 - bend,
        );
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            if !text.is_empty() {
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"10\" fill=\"#4a6076\" \
                     stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
                    svg_text(text)
                );
            }
        };
        text(x1 + 4.0, y1 - 3.0, "start", &connection.from.1);
        text(x2 - 9.0, y2 - 3.0, "end", &connection.to.1);
        text((x1 + x2) / 2.0, (y1 + y2) / 2.0 - 3.0, "middle", &connection.label);
    }

    /// Where each block stands.
    fn places(&self) -> Vec<Place> {
        let columns = self.columns();
        let mut places = vec![Place::default(); self.blocks.len()];
        let mut rows: HashMap<usize, f64> = HashMap::new();
        let mut x = MARGIN;
        let tallest = (0..self.blocks.len()).map(|block| self.height(block)).fold(0.0, f64::max);
        let highest = columns.iter().map(|column| column.len()).max().unwrap_or(0);
        for column in columns {
            let mut order = column;
            let mean = |block: &usize| {
                let senders = self.senders(*block).filter_map(|sender| rows.get(&sender).copied());
                let (count, sum) = senders.fold((0.0, 0.0), |(count, sum), row| (count + 1.0, sum + row));
                if count > 0.0 { sum / count } else { *block as f64 }
            };
            order.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
            let width = order.iter().map(|block| self.width(*block)).fold(0.0, f64::max);
            let first = (highest - order.len()) as f64 / 2.0;
            for (row, &block) in order.iter().enumerate() {
                let row = first + row as f64;
                rows.insert(block, row);
                let own = self.width(block);
                let height = self.height(block);
                let y = MARGIN + row * (tallest + ROW_GAP) + (tallest - height) / 2.0;
                places[block] = Place { x: x + (width - own) / 2.0, y, width: own, height };
            }
            let label = self.connections.iter().map(|c| c.label.chars().count()).max().unwrap_or(0);
            x += width + GAP + label as f64 * 4.0;
        }
        places
    }

    fn width(&self, block: usize) -> f64 {
        let block = &self.blocks[block];
        let characters = block.name.chars().count().max(block.detail.chars().count());
        (characters as f64 * CHARACTER + 24.0).max(80.0)
    }

    fn height(&self, block: usize) -> f64 {
        let name = &self.blocks[block].name;
        let inputs = self.connections.iter().filter(|connection| connection.to.0 == *name).count();
        let outputs = self.connections.iter().filter(|connection| connection.from.0 == *name).count();
        LEAST_HEIGHT.max((inputs.max(outputs) + 1) as f64 * PORT_HEIGHT)
    }

    fn senders(&self, block: usize) -> impl Iterator<Item = usize> {
        let name = &self.blocks[block].name;
        self.connections
            .iter()
            .filter(move |connection| connection.to.0 == *name)
            .filter_map(|connection| self.blocks.iter().position(|known| known.name == connection.from.0))
    }

    /// Blocks by column: one behind the last of its senders; where connections form a loop, what comes first in the file.
    fn columns(&self) -> Vec<Vec<usize>> {
        let mut column = vec![0usize; self.blocks.len()];
        for _ in 0..self.blocks.len() {
            for block in 0..self.blocks.len() {
                for sender in self.senders(block) {
                    let behind = column[sender] + 1;
                    if behind > column[block] && behind < self.blocks.len() && !self.leads_to(block, sender) {
                        column[block] = behind;
                    }
                }
            }
        }
        let mut columns = vec![Vec::new(); column.iter().max().map_or(0, |last| last + 1)];
        for (block, column) in column.into_iter().enumerate() {
            columns[column].push(block);
        }
        columns.retain(|column| !column.is_empty());
        columns
    }

    /// Whether what `from` sends may come to `to`, so that a connection back closes a loop. A block that stands earlier in the
    /// file is the loop's beginning.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        if from > to {
            return false;
        }
        let mut seen = vec![false; self.blocks.len()];
        let mut next = vec![to];
        while let Some(block) = next.pop() {
            if block == from {
                return true;
            }
            if !std::mem::replace(&mut seen[block], true) {
                next.extend(self.senders(block));
            }
        }
        false
    }
}

#[derive(Clone, Copy, Default)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

fn svg_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(connections: &[(&str, &str)]) -> Picture {
        let mut names: Vec<&str> = Vec::new();
        for (from, to) in connections {
            for name in [from, to] {
                if !names.contains(name) {
                    names.push(name);
                }
            }
        }
        let port = |block: &str, port: &str| (block.to_owned(), port.to_owned());
        Picture {
            blocks: names
                .iter()
                .map(|name| PictureBlock { name: (*name).to_owned(), detail: "copy".to_owned() })
                .collect(),
            connections: connections
                .iter()
                .map(|(from, to)| PictureConnection {
                    from: port(from, "out"),
                    to: port(to, "in"),
                    label: "<1 k/s>".to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn receivers_stand_right_of_their_senders() {
        let picture = picture(&[("a", "c"), ("b", "c"), ("c", "d"), ("a", "d")]);
        let columns = picture.columns();
        assert_eq!(columns, [vec![0, 2], vec![1], vec![3]]);
        let places = picture.places();
        for (from, to) in [(0, 1), (2, 1), (1, 3)] {
            assert!(places[from].x + places[from].width < places[to].x);
        }
    }

    #[test]
    fn loops_end_somewhere() {
        let picture = picture(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "c")]);
        assert_eq!(picture.columns(), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn texts_cannot_break_the_file() {
        let svg = picture(&[("a", "b")]).to_svg();
        assert!(svg.contains("&lt;1 k/s&gt;") && !svg.contains("<1 k/s>"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(Picture::default().to_svg().contains("</svg>"));
        assert!(picture(&[("a", "b")]).to_dot().contains("\"a\" -> \"b\" [label=\"<1 k/s>\""));
    }
}
