//! The block without processes.

use super::*;
use crate::param::Value;
use crate::testing::Bench;

const MS: i64 = 1_000_000;

fn bench(params: &[(&str, Value)]) -> Bench {
    let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
    let params: Vec<(&str, Value)> = params.iter().cloned().chain([inputs]).collect();
    let mut bench = Bench::of::<SyncMerge>(&params).unwrap();
    for (input, description, columns) in [("a", "columns = ['x', 'y']", 2), ("b", "", 1)] {
        let format = StreamFormat {
            dtype: DType::F64,
            shape: vec![columns],
            description: description.to_owned(),
            rate_hz: None,
        };
        bench.set_format(input, format).unwrap();
    }
    bench
}

#[test]
fn no_more_than_64_inputs_are_joined() {
    let names: Vec<String> = (0..65).map(|i| format!("i{i}")).collect();
    let refused = Bench::of::<SyncMerge>(&[("inputs", names.into())]).err().expect("refused").to_string();
    assert!(refused.contains("65 names, of which 64 can be joined"), "{refused}");
}

/// Stamps in ms and values of all rows.
fn rows(bench: &mut Bench) -> Vec<(i64, Vec<f64>)> {
    let mut rows = Vec::new();
    loop {
        bench.run().unwrap();
        let Some(row) = bench.pull_buffer("out").unwrap() else { return rows };
        let Timestamp::Absolute(ns) = row.timestamp() else { panic!("{}", row.timestamp()) };
        rows.push((ns / MS, row.as_slice::<f64>().unwrap().to_vec()));
    }
}

fn feed(bench: &mut Bench) {
    for ms in [0, 10, 20] {
        bench.push_at("a", ms * MS, &[ms as f64, -1.0]).unwrap();
    }
    for ms in [-1, 4, 11, 19] {
        bench.push_at("b", ms * MS, &[ms as f64 * 10.0]).unwrap();
    }
}

#[test]
fn rows_are_made_by_the_policy() {
    let exact =
        vec![(0, vec![0.0, -1.0, -10.0]), (10, vec![10.0, -1.0, 110.0]), (20, vec![20.0, -1.0, 190.0])];
    let nearest = exact.clone();
    let linear =
        vec![(0, vec![0.0, -1.0, 0.0]), (10, vec![10.0, -1.0, 100.0]), (20, vec![20.0, -1.0, f64::NAN])];
    for (policy, expected) in [("exact", exact), ("nearest", nearest), ("linear", linear)] {
        let mut bench = bench(&[("policy", policy.into()), ("tolerance_ms", 1.0.into())]);
        feed(&mut bench);
        bench.run().unwrap();
        ["a", "b"].iter().for_each(|input| bench.end(input));
        assert_eq!(format!("{:?}", rows(&mut bench)), format!("{expected:?}"), "{policy}");
        assert!(bench.has_ended());
    }
}

#[test]
fn a_grid_has_rows_of_its_own() {
    let mut bench = bench(&[("policy", "linear".into()), ("rate_hz", 200.into())]);
    feed(&mut bench);
    ["a", "b"].iter().for_each(|input| bench.end(input));
    let stamps: Vec<i64> = rows(&mut bench).into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(stamps, [0, 5, 10, 15, 20]);
    let format = bench.output_format("out").unwrap();
    assert_eq!(Description::of(&format).columns, ["a.x", "a.y", "b.0"]);
    assert_eq!(format.rate_hz, Some((200, 1)));
}

#[test]
fn a_silent_optional_input_is_missing_after_its_timeout() {
    let optional = vec!["b".to_owned()];
    let mut bench = bench(&[("optional", optional.into()), ("timeout_ms", Value::Numbers(vec![1.0]))]);
    bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
    assert_eq!(format!("{:?}", rows(&mut bench)), "[(5, [1.0, 2.0, NaN])]");
}

#[test]
fn inputs_are_concatenated() {
    let join = ("join", Value::from("concatenate"));
    let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
    let mut bench = Bench::of::<SyncMerge>(&[join.clone(), inputs]).unwrap();
    for (input, row) in [("a", [1.0, 2.0]), ("b", [3.0, 4.0])] {
        let description = "columns = ['x', 'y']".to_owned();
        let format =
            StreamFormat { dtype: DType::F64, shape: vec![2], description, ..StreamFormat::default() };
        bench.set_format(input, format).unwrap();
        bench.push_at(input, 7 * MS, &row).unwrap();
    }
    bench.run().unwrap();
    let row = bench.pull_buffer("out").unwrap().expect("a row");
    assert_eq!((&row.shape()[..], row.as_slice::<f64>().unwrap()), (&[2, 2][..], &[1.0, 2.0, 3.0, 4.0][..]));
    assert_eq!(Description::of(&bench.output_format("out").unwrap()).columns, ["x", "y"]);
    let refusal = self::bench(&[join]).run().expect_err("refused").to_string();
    assert!(refusal.contains("found 2 at `a` and 1 at `b`"), "{refusal}");
}

#[test]
fn a_row_can_have_any_stamp_of_its_buffers() {
    for (stamp, expected) in [("reference", [5, 15]), ("min", [2, 15]), ("max", [5, 18]), ("mean", [3, 16])] {
        let mut bench = bench(&[("stamp", stamp.into()), ("tolerance_ms", 4.into())]);
        for (a, b) in [(5, 2), (15, 18)] {
            bench.push_at("a", a * MS, &[0.0, 0.0]).unwrap();
            bench.push_at("b", b * MS, &[0.0]).unwrap();
        }
        let stamps: Vec<i64> = rows(&mut bench).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(stamps, expected, "{stamp}");
    }
}

#[test]
fn an_input_that_has_nothing_to_say_keeps_nobody_waiting() {
    let mut bench = bench(&[
        ("policy", "nearest".into()),
        ("max_distance_ms", 1.0.into()),
        ("optional", vec!["b".to_owned()].into()),
        ("disorder_ms", Value::Numbers(vec![0.0, 3.0])),
    ]);
    bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
    assert_eq!(rows(&mut bench), []);
    // It may be 3 ms out of order.
    bench.advance("b", Timestamp::Absolute(9 * MS));
    assert_eq!(rows(&mut bench), []);
    bench.advance("b", Timestamp::Absolute(9 * MS + 1));
    assert_eq!(format!("{:?}", rows(&mut bench)), "[(5, [1.0, 2.0, NaN])]");
    // What comes earlier than that is late.
    bench.push_at("b", 6 * MS, &[3.0]).unwrap();
    bench.push_at("b", 7 * MS, &[4.0]).unwrap();
    bench.push_at("a", 7 * MS, &[1.0, 2.0]).unwrap();
    bench.end("b");
    assert_eq!(format!("{:?}", rows(&mut bench)), "[(7, [1.0, 2.0, 4.0])]");
}

#[test]
fn a_buffer_that_is_consumed_is_in_one_row_only() {
    for (consume, expected) in [
        (false, "[(0, [1.0, 2.0, 40.0]), (6, [1.0, 2.0, 40.0])]"),
        (true, "[(0, [1.0, 2.0, 40.0]), (6, [1.0, 2.0, NaN])]"),
    ] {
        let mut bench = bench(&[("policy", "nearest".into()), ("consume", consume.into())]);
        bench.push_at("b", 4 * MS, &[40.0]).unwrap();
        [0, 6].iter().for_each(|ms| drop(bench.push_at("a", ms * MS, &[1.0, 2.0]).unwrap()));
        bench.run().unwrap();
        ["a", "b"].iter().for_each(|input| bench.end(input));
        assert_eq!(format!("{:?}", rows(&mut bench)), expected);
    }
}

#[test]
fn a_known_distance_of_buffers_makes_rows_come_earlier() {
    // A buffer of `b` nearer to 5 ms could still come, unless there are 10 ms between any two.
    for (distances, expected) in [(vec![0.0], "[]"), (vec![0.0, 10.0], "[(5, [1.0, 2.0, 30.0])]")] {
        let mut bench =
            bench(&[("policy", "approximate".into()), ("lower_bounds_ms", Value::Numbers(distances))]);
        bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
        bench.push_at("b", 3 * MS, &[30.0]).unwrap();
        assert_eq!(format!("{:?}", rows(&mut bench)), expected);
    }
}

#[test]
fn degraded_rows_are_marked() {
    let params = [
        ("optional", vec!["b".to_owned()].into()),
        ("timeout_ms", Value::Numbers(vec![1.0])),
        ("mark_degraded", true.into()),
    ];
    let mut bench = bench(&params);
    bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
    bench.push_at("b", 5 * MS, &[3.0]).unwrap();
    bench.push_at("a", 6 * MS, &[1.0, 2.0]).unwrap();
    assert_eq!(format!("{:?}", rows(&mut bench)), "[(5, [1.0, 2.0, 3.0, 0.0]), (6, [1.0, 2.0, NaN, 1.0])]");
    assert_eq!(Description::of(&bench.output_format("out").unwrap()).columns.last().unwrap(), "degraded");
}

#[test]
fn mistakes_are_named() {
    let refusal = |params: &[(&str, Value)]| {
        let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
        let params: Vec<(&str, Value)> = params.iter().cloned().chain([inputs]).collect();
        Bench::of::<SyncMerge>(&params).err().expect("refused").to_string()
    };
    assert_eq!(
        refusal(&[("reference", "c".into())]),
        "parameter `reference`: expected one of the inputs (a, b), found `c`"
    );
    assert_eq!(
        refusal(&[("depth", Value::Numbers(vec![4.0, 4.0, 4.0]))]),
        "parameter `depth`: expected 1 number or 2, one for each of `inputs`, found 3"
    );
    assert_eq!(
        refusal(&[("optional", vec!["a".to_owned(), "b".to_owned()].into())]),
        "`optional` names every input: at least one must be required"
    );
    let mut bench = bench(&[]);
    bench.push("a", &[1.0, 2.0]).unwrap();
    let refusal = bench.run().expect_err("refused").to_string();
    assert!(refusal.contains("buffers with a timestamp"), "{refusal}");
}

/// What receivers are told, in ms, behind all rows.
fn told(bench: &mut Bench) -> Option<i64> {
    rows(bench);
    bench.bound("out").map(|bound| {
        let Timestamp::Absolute(ns) = bound else { panic!("{bound}") };
        ns / MS
    })
}

#[test]
fn receivers_learn_how_far_the_rows_have_come() {
    let none = ("consume", false.into());
    for (policy, more, come_to) in [
        ("exact", none.clone(), 500),
        ("nearest", none.clone(), 500),
        ("nearest", ("stamp", "max".into()), 500),
        ("approximate", none.clone(), 25),
        ("linear", none, 500),
        // The value at 30 is not known before the next one of `b`.
        ("linear", ("rate_hz", 100.into()), 30),
    ] {
        let params = [("policy", policy.into()), ("tolerance_ms", 1.0.into()), more.clone()];
        let mut bench = bench(&params);
        assert_eq!(told(&mut bench), None, "{policy}");
        feed(&mut bench);
        bench.push_at("b", 25 * MS, &[0.0]).unwrap();
        told(&mut bench);
        // Nothing comes any more, and the senders say so.
        ["a", "b"].iter().for_each(|input| bench.advance(input, Timestamp::Absolute(500 * MS)));
        assert_eq!(told(&mut bench), Some(come_to), "{policy}, {more:?}");
    }
    // A row may have the stamp of a buffer of `b` long before that of its reference.
    let mut bench = bench(&[("policy", "nearest".into()), ("stamp", "min".into())]);
    feed(&mut bench);
    ["a", "b"].iter().for_each(|input| bench.advance(input, Timestamp::Absolute(500 * MS)));
    assert!(told(&mut bench).is_none_or(|ms| ms <= 20));
}

#[test]
fn a_new_epoch_begins_anywhere() {
    let mut bench = bench(&[]);
    let stamp = |bench: &mut Bench| rows(bench).into_iter().map(|(ms, _)| ms).collect::<Vec<_>>();
    let push = |bench: &mut Bench, ms: i64| {
        bench.push_at("a", ms * MS, &[0.0, 0.0]).unwrap();
        bench.push_at("b", ms * MS, &[0.0]).unwrap();
    };
    push(&mut bench, 1000);
    assert_eq!(stamp(&mut bench), [1000]);
    bench.push_at("a", 1010 * MS, &[0.0, 0.0]).unwrap();
    ["a", "b"].iter().for_each(|input| bench.advance(input, Timestamp::Absolute(1005 * MS)));
    push(&mut bench, 5);
    assert_eq!(stamp(&mut bench), [0i64; 0], "it is late");
    assert_eq!(bench.call("reset", json!(null)).unwrap(), json!({ "dropped": 1 }));
    // What was promised of the old epoch is no promise of the new one, nor do its rows keep those of the new one from going back.
    for ms in [7, 8] {
        push(&mut bench, ms);
        assert_eq!(stamp(&mut bench), [ms]);
    }
    // A promise beyond all of the old epoch can only be of the new one.
    bench.push_at("a", 2000 * MS, &[0.0, 0.0]).unwrap();
    bench.advance("b", Timestamp::Absolute(2500 * MS));
    assert_eq!(told(&mut bench), Some(2000));
    push(&mut bench, 2600);
    assert_eq!(stamp(&mut bench), [2600]);
    assert_eq!(
        bench.call("begin", json!(null)).unwrap_err().to_string(),
        "block `block` has no call `begin`; it has `reset`"
    );
}

fn late_outputs() -> (&'static str, Value) {
    ("late", vec!["late-a".to_owned(), "late-b".to_owned()].into())
}

#[test]
fn what_is_late_goes_on_unchanged() {
    let mut bench = bench(&[late_outputs()]);
    feed(&mut bench);
    let late = [
        ("late-a", bench.push_at("a", 5 * MS, &[5.0, 6.0]).unwrap()),
        ("late-b", bench.push_at("b", -3 * MS, &[7.0]).unwrap()),
    ];
    // A second one of a stamp that is held is a duplicate, which is no news to anybody.
    bench.push_at("a", 20 * MS, &[0.0, 0.0]).unwrap();
    rows(&mut bench);
    assert_eq!(Description::of(&bench.output_format("late-a").unwrap()).columns, ["x", "y"]);
    for (output, sent) in late {
        let got = bench.pull_buffer(output).unwrap().expect("what was late");
        assert_eq!((got.id(), got.timestamp()), (sent.id(), sent.timestamp()), "{output}");
        assert!(bench.pull_buffer(output).unwrap().is_none(), "{output}");
    }
}

#[test]
fn outputs_for_what_is_late_need_names_of_their_own() {
    let refusal = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
        let params =
            [inputs, ("late", names.into())].map(|(name, value): (&str, Value)| (name.to_owned(), value));
        let params = Params::new(&SyncMerge::spec(), params).unwrap();
        SyncMerge::new(&params).err().expect("refused").to_string()
    };
    assert_eq!(
        refusal(&["late"]),
        "parameter `late`: expected 2 names of outputs, one for each input (a, b), found 1"
    );
    assert_eq!(
        refusal(&["late", "out"]),
        "parameter `late`: expected names that no other port has, found `out`"
    );
    assert_eq!(refusal(&["b", "late"]), "parameter `late`: expected names that no other port has, found `b`");
}
