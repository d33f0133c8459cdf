//! The pictures in `docs/images` that `docs/time.md` shows are what the engine does.

mod picture;

use std::path::Path;

use millpond::align::{
    Accumulate as _, Aligner, Approximate, Config, Exact, Linear, Members, Nearest, Neighbours, Policy, Poll,
    PortConfig, Statistics, Window,
};

use picture::{Picture, colour};

const LANES: [&str; 3] = ["camera", "lidar", "IMU"];

/// The items of all ports in the order of their stamps, in ms.
fn by_time(streams: &[Vec<i64>]) -> Vec<(usize, i64)> {
    let mut events: Vec<(usize, i64)> =
        streams.iter().enumerate().flat_map(|(port, s)| s.iter().map(move |stamp| (port, *stamp))).collect();
    events.sort_by_key(|(port, stamp)| (*stamp, *port));
    events
}

/// Every set of a policy, as stamps.
fn sets<P>(policy: P, config: Config, streams: &[Vec<i64>]) -> Vec<Vec<Option<i64>>>
where
    P: for<'a> Policy<(), Set<'a> = Members<'a, ()>> + 'static,
{
    let mut aligner = Aligner::new(policy, config);
    let mut sets = Vec::new();
    for (port, stamp) in by_time(streams) {
        aligner.set_clock(stamp);
        while let Poll::Set(set) = aligner.poll() {
            sets.push((0..set.len()).map(|port| set.get(port).map(|(stamp, ())| stamp)).collect());
        }
        let _ = aligner.push(port, stamp, ());
        while let Poll::Set(set) = aligner.poll() {
            sets.push((0..set.len()).map(|port| set.get(port).map(|(stamp, ())| stamp)).collect());
        }
    }
    (0..streams.len()).for_each(|port| aligner.end(port));
    while let Poll::Set(set) = aligner.poll() {
        sets.push((0..set.len()).map(|port| set.get(port).map(|(stamp, ())| stamp)).collect());
    }
    sets
}

/// Draws items, those of a set in its colour and joined by lines, those of none crossed out.
fn draw(picture: &mut Picture, streams: &[Vec<i64>], sets: &[Vec<Option<i64>>]) {
    for (port, stream) in streams.iter().enumerate() {
        for stamp in stream {
            if !sets.iter().any(|set| set[port] == Some(*stamp)) {
                picture.dropped(port, *stamp as f64);
            }
        }
    }
    for (index, set) in sets.iter().enumerate() {
        let present: Vec<(usize, i64)> =
            set.iter().enumerate().filter_map(|(port, stamp)| stamp.map(|stamp| (port, stamp))).collect();
        let mean = present.iter().map(|(_, stamp)| *stamp as f64).sum::<f64>() / present.len() as f64;
        for pair in present.windows(2) {
            picture.line((pair[0].0, pair[0].1 as f64), (pair[1].0, pair[1].1 as f64), colour(index));
        }
        for (port, stamp) in set.iter().enumerate() {
            match stamp {
                Some(stamp) => picture.dot(port, *stamp as f64, colour(index)),
                None => picture.missing(port, mean, colour(index)),
            }
        }
    }
}

fn ports(count: usize) -> Config {
    Config::of(count, PortConfig::default())
}

fn exact() -> String {
    let streams = [
        vec![8, 20, 31, 44, 57, 70, 82, 95],
        vec![9, 22, 33, 58, 72, 80],
        vec![10, 21, 35, 45, 59, 65, 71, 83, 96],
    ];
    let mut picture = Picture::new("exact, tolerance 4 ms: the largest number of sets that fit", &LANES, 100);
    draw(&mut picture, &streams, &sets(Exact::new(4), ports(3), &streams));
    picture.finish()
}

fn nearest() -> String {
    let streams = [vec![10, 43, 76], vec![3, 19, 36, 51, 90], (0..12).map(|index| 2 + index * 8).collect()];
    let found = sets(Nearest::new(0, Some(10)), ports(3), &streams);
    let mut picture = Picture::new(
        "nearest, reference camera, at most 10 ms away: one set for each camera frame",
        &LANES,
        100,
    );
    draw(&mut picture, &streams, &found);
    for (index, set) in found.iter().enumerate() {
        let Some(moment) = set[0] else { continue };
        picture.span((0, 2), (moment as f64 - 10.0, moment as f64 + 10.0), colour(index));
    }
    picture.finish()
}

fn linear() -> String {
    let streams = [vec![15, 40, 65, 90], vec![5, 25, 48, 60, 98], vec![10, 30, 40, 80, 95]];
    let mut aligner = Aligner::new(Linear::onto_reference(0, Some(30)), ports(3));
    let mut picture = Picture::new(
        "linear, reference camera, gaps up to 30 ms: values between the neighbours in time",
        &LANES,
        100,
    );
    let (mut used, mut rows) = (Vec::new(), 0);
    let mut show = |aligner: &mut Aligner<i64, Linear<i64>>| {
        while let Poll::Set(row) = aligner.poll() {
            let moment = row.stamp_ns() as f64;
            picture.moment(moment, colour(rows));
            for port in 0..3 {
                match row.neighbours(port) {
                    Neighbours::Exact(stamp) => used.push((port, *stamp, Some(rows))),
                    Neighbours::Missing => picture.missing(port, moment, colour(rows)),
                    Neighbours::Between { before, after, .. } => {
                        used.extend([(port, *before, None), (port, *after, None)]);
                        picture.line((port, *before as f64), (port, *after as f64), colour(rows));
                        picture.diamond(port, moment, colour(rows));
                    }
                }
            }
            rows += 1;
        }
    };
    for (port, stamp) in by_time(&streams) {
        aligner.push(port, stamp, stamp).expect_held();
        show(&mut aligner);
    }
    (0..3).for_each(|port| aligner.end(port));
    show(&mut aligner);
    for (port, stream) in streams.iter().enumerate() {
        for stamp in stream {
            match used.iter().find(|(of, used, row)| (of, used) == (&port, stamp) && row.is_some()) {
                Some((_, _, row)) => picture.dot(port, *stamp as f64, colour(row.unwrap_or(0))),
                None => picture.ring(port, *stamp as f64),
            }
        }
    }
    picture.finish()
}

fn window() -> String {
    let streams = [
        vec![4, 37, 70, 88],
        vec![12, 31, 52, 71, 94],
        (0..12).map(|index| 3 + index * 8).collect::<Vec<_>>(),
    ];
    let mut aligner = Aligner::new(Window::new(25, 25, 0, Statistics::default()), ports(3));
    let mut picture = Picture::new(
        "window, size and slide 25 ms: statistics over what lies in each span of time",
        &LANES,
        100,
    );
    let mut windows = 0;
    let mut show = |picture: &mut Picture, aligner: &mut Aligner<f64, Window<Statistics>>| {
        while let Poll::Set(pane) = aligner.poll() {
            let span = (pane.start_ns() as f64 + 0.3, pane.end_ns() as f64 - 0.3);
            picture.span((0, 2), span, colour(windows));
            for port in 0..3 {
                if let Some(statistics) = pane.port(port).filter(|statistics| statistics.count() > 0) {
                    picture.note(port, (span.0 + span.1) / 2.0, &format!("count {}", statistics.count()));
                }
            }
            windows += 1;
        }
    };
    for (port, stamp) in by_time(&streams) {
        picture.dot(port, stamp as f64, colour((stamp / 25) as usize));
        aligner.push(port, stamp, stamp as f64).expect_held();
        show(&mut picture, &mut aligner);
    }
    (0..3).for_each(|port| aligner.end(port));
    show(&mut picture, &mut aligner);
    picture.finish()
}

fn approximate() -> String {
    let streams =
        [vec![6, 39, 72], vec![2, 18, 34, 51, 66, 84], (0..12).map(|index| 1 + index * 8).collect()];
    let found = sets(Approximate::new(100), ports(3), &streams);
    let mut picture = Picture::new("approximate: sets that are as close together as possible", &LANES, 100);
    draw(&mut picture, &streams, &found);
    picture.finish()
}

fn bounds() -> String {
    let config = Config::of(3, PortConfig { disorder_ns: 10, ..PortConfig::default() });
    let mut aligner = Aligner::new(Exact::new(0), config);
    let mut picture = Picture::new("bounds, disorder 10 ms: what each stream promises", &LANES, 100);
    for (port, stamps) in
        [vec![5, 30, 55, 80], vec![10, 30, 45, 62], vec![30, 15, 40, 35, 50, 44]].iter().enumerate()
    {
        for stamp in stamps {
            if matches!(aligner.push(port, *stamp, ()), millpond::align::Pushed::Held) {
                picture.ring(port, *stamp as f64);
            } else {
                picture.dropped(port, *stamp as f64);
                picture.note(port, *stamp as f64, "late");
            }
        }
        let bound = aligner.bound_ns(port) as f64;
        picture.span((port, port), (0.0, bound), colour(2));
        picture.note(port, bound + 8.0, "← bound");
    }
    let settled = (0..3).map(|port| aligner.bound_ns(port)).min().unwrap_or(0);
    picture.moment(settled as f64, colour(1));
    picture.finish()
}

fn timeout() -> String {
    let config = {
        let mut config = Config::of(3, PortConfig { timeout_ns: Some(15), ..PortConfig::default() });
        config.ports[1].optional = true;
        config
    };
    let streams: Vec<Vec<i64>> = (0..3)
        .map(|port| {
            (0..10)
                .map(|index| 5 + index * 10)
                .filter(|stamp| port != 1 || !(30..70).contains(stamp))
                .collect()
        })
        .collect();
    let found = sets(Exact::new(0), config, &streams);
    let mut picture =
        Picture::new("a silent optional stream: after its timeout sets come without it", &LANES, 100);
    draw(&mut picture, &streams, &found);
    picture.finish()
}

#[test]
fn the_pictures_are_what_the_engine_does() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    for (name, picture) in [
        ("time-exact.svg", exact()),
        ("time-nearest.svg", nearest()),
        ("time-linear.svg", linear()),
        ("time-window.svg", window()),
        ("time-approximate.svg", approximate()),
        ("time-bounds.svg", bounds()),
        ("time-timeout.svg", timeout()),
    ] {
        let path = directory.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &picture).expect("write the picture");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == picture,
            "docs/images/{name} is not what the engine does: run UPDATE_DOCS=1 cargo test -p millpond --test time_pictures"
        );
    }
}

#[test]
fn the_page_shows_every_picture() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("time.md")).expect("read docs/time.md");
    for entry in std::fs::read_dir(docs.join("images")).expect("list docs/images") {
        let name = entry.expect("list docs/images").file_name().into_string().expect("a name in UTF-8");
        assert!(
            !name.starts_with("time-") || page.contains(&format!("](images/{name})")),
            "{name} is not shown"
        );
    }
}
