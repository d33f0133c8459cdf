//! `restamp` asks a clock in another process that is offset, drifts, answers slowly, and dies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millpond::bus::{Bus, Json, json};
use millpond::testing::Bench;
use millpond::{Catalog, Value};
use millpond_shm::{DType, Pond, Role, StreamFormat, Timestamp};

/// Long beside anything that happens here, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CHILD: &str = "MILLPOND_CLOCK_CHILD";
/// The other clock showed 0 at this time on ours, and gains 20 ms a second on it.
const DRIFT_PERMILLE: i64 = 20;

/// What the other clock shows.
fn remote_ns(local_ns: i64, zero_ns: i64) -> i64 {
    let since_ns = local_ns - zero_ns;
    since_ns + since_ns * DRIFT_PERMILLE / 1000
}

/// The other way round, within a nanosecond.
fn local_ns(remote_ns: i64, zero_ns: i64) -> i64 {
    zero_ns + (i128::from(remote_ns) * 1000 / i128::from(1000 + DRIFT_PERMILLE)) as i64
}

fn now_ns() -> i64 {
    Timestamp::now().to_ns(None).unwrap()
}

/// This test program again, as the process with the other clock; killed when dropped.
struct Responder(Child);

impl Responder {
    fn start(pond: &str, zero_ns: i64, kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(CHILD, format!("{pond} {zero_ns} {kind}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("answers")), "it has ended");
        Self(child)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let zero_ns: i64 = words[1].parse().unwrap();
    let pond = Pond::attach(words[0], Role::Block).unwrap();
    let bus = Bus::open(&pond).unwrap();
    let requests = bus.answer("scope/time").unwrap();
    println!("answers");
    std::io::stdout().flush().unwrap();
    while let Some(request) = requests.next(PATIENCE).unwrap() {
        let received_ns = remote_ns(now_ns(), zero_ns);
        let answer = match words[2] {
            "one" => json!(received_ns),
            // Answering takes a millisecond, which is none of the round trip's.
            _ => {
                while remote_ns(now_ns(), zero_ns) < received_ns + 1_000_000 {}
                json!([received_ns, remote_ns(now_ns(), zero_ns)])
            }
        };
        request.reply(Ok(answer));
    }
}

fn restamp() -> Bench {
    let catalog = Catalog::builtin();
    let params: [(&str, Value); 4] = [
        ("mode", "clock".into()),
        ("ask", "scope/time".into()),
        ("ask_every_ms", 1.into()),
        ("group", 4.into()),
    ];
    let mut bench = Bench::of_type(catalog.find("restamp").unwrap(), &params).unwrap();
    bench.set_format("in", StreamFormat { dtype: DType::F64, ..StreamFormat::default() }).unwrap();
    bench.run().unwrap();
    bench
}

fn wait_for(bench: &mut Bench, what: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let estimate = bench.call("clock", Json::Null).unwrap();
        if holds(&estimate) {
            return estimate;
        }
        assert!(Instant::now() < deadline, "{what}: {estimate}");
        std::thread::yield_now();
    }
}

/// What the block makes of a buffer that the other clock has stamped.
fn restamped(bench: &mut Bench, remote_ns: i64) -> i64 {
    bench.push_at("in", remote_ns, &[1.0]).unwrap();
    bench.run().unwrap();
    bench.pull_buffer("out").unwrap().expect("a buffer").timestamp().to_ns(None).unwrap()
}

fn follows_the_other_clock(kind: &str) {
    let mut bench = restamp();
    let pond = bench.bus().pond().name().to_owned();
    let zero_ns = now_ns() - 5_000_000_000;
    // Nobody answers yet: stamps are arrivals.
    let silent = wait_for(&mut bench, "nobody there", |estimate| !estimate["failure"].is_null());
    assert!(silent["failure"].as_str().unwrap().contains("answers `scope/time`"), "{silent}");
    assert_eq!((&silent["comparisons"], &silent["offset_ns"]), (&json!(0), &Json::Null));
    let before_ns = now_ns();
    let arrival_ns = restamped(&mut bench, 77);
    assert!((before_ns..=now_ns()).contains(&arrival_ns));

    let published = bench.bus().subscribe("block/clock").unwrap();
    let responder = Responder::start(&pond, zero_ns, kind);
    let drift_ppm = -1e6 * DRIFT_PERMILLE as f64 / (1000 + DRIFT_PERMILLE) as f64;
    let is_near = |estimate: &Json| {
        let is_drift = (estimate["drift_ppm"].as_f64().unwrap() - drift_ppm).abs() < 500.0;
        is_drift && estimate["error_ns"].as_u64().is_some_and(|error_ns| error_ns < 500_000)
    };
    let message = published.next(PATIENCE).unwrap().expect("an estimate");
    assert_eq!(message.value["comparisons"], 4);
    let near = wait_for(&mut bench, "the drift is known", is_near);
    assert_eq!(near["failure"], Json::Null);

    bench.set("asks", false).unwrap();
    assert_eq!(bench.call("clock", Json::Null).unwrap()["asks"], false);
    println!("{kind}: {near}");
    its_promise_holds(&mut bench, zero_ns);

    // The clock's process dies: that is told, and the estimate stays as it is.
    bench.set("asks", true).unwrap();
    drop(responder);
    let alone = wait_for(&mut bench, "the responder is gone", |estimate| !estimate["failure"].is_null());
    its_promise_holds(&mut bench, zero_ns);
    assert_eq!(bench.call("clock", Json::Null).unwrap()["offset_ns"], alone["offset_ns"]);

    let _back = Responder::start(&pond, zero_ns, kind);
    wait_for(&mut bench, "it goes on", |estimate| {
        estimate["failure"].is_null() && estimate["comparisons"].as_u64() > alone["comparisons"].as_u64()
    });
}

/// The estimate is off by no more than it says. An answer that was under way may change it meanwhile; then another look is needed.
fn its_promise_holds(bench: &mut Bench, zero_ns: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let estimate = bench.call("clock", Json::Null).unwrap();
        let at_ns = estimate["error_at_ns"].as_i64().unwrap();
        let error_ns = restamped(bench, at_ns) - local_ns(at_ns, zero_ns);
        if bench.call("clock", Json::Null).unwrap() == estimate {
            let promised_ns = estimate["error_ns"].as_u64().unwrap();
            println!("{error_ns} ns off, {promised_ns} promised");
            assert!(error_ns.unsigned_abs() <= promised_ns, "{error_ns} ns off: {estimate}");
            return;
        }
        assert!(Instant::now() < deadline, "the estimate goes on changing: {estimate}");
    }
}

#[test]
fn a_clock_that_answers_with_its_time() {
    follows_the_other_clock("one");
}

#[test]
fn a_clock_that_says_how_long_its_answer_took() {
    follows_the_other_clock("two");
}

#[test]
fn mistakes_are_refused() {
    let catalog = Catalog::builtin();
    let refusal = |params: &[(&str, Value)]| {
        Bench::of_type(catalog.find("restamp").unwrap(), params).err().expect("refused").to_string()
    };
    let asked = refusal(&[("ask", "scope/time".into())]);
    assert!(asked.contains("only with `mode = \"clock\"`"), "{asked}");
    let topic = refusal(&[("mode", "clock".into()), ("ask", "scope time".into())]);
    assert!(topic.contains("the topic `scope time` cannot be used"), "{topic}");
}
