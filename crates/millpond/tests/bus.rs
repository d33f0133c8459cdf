//! The message bus between real processes: topics, calls, responders that are absent, slow, stopped or killed; and a crowd of 64
//! processes that publish, ask and answer while members are killed at random.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond::bus::{Bus, BusError, Delivery, Json, Subscription, json};
use millpond_shm::{Monitor, Pond, PondConfig, PoolConfig, Role};
use rustix::process::{Pid, Signal, kill_process};

/// Long beside anything that happens here, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CHILD: &str = "MILLPOND_BUS_CHILD";

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bus-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn pond() -> Pond {
    let config = PondConfig { pools: vec![PoolConfig::new(64, 4)], table_slots: 4 };
    Pond::create(&unique_name(), &config, Role::Server).unwrap()
}

/// This test program again, as another process; killed when dropped.
struct Other {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(pond: &str, scenario: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{pond} {scenario}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn ready(pond: &str, scenario: &str) -> Self {
        let mut other = Self::start(pond, scenario);
        assert_eq!(other.line().as_deref(), Some("ready"));
        other
    }

    /// Its next line; `None`: it has ended.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test runner's own lines are not the child's.
            if let Some((_, said)) = line.trim_end().split_once("child> ") {
                return Some(said.to_owned());
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and waits until every thread of it stands still.
    fn stop(&self) {
        self.signal(Signal::STOP);
        wait_until("it has stopped", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            tasks.flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        });
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    println!("child> {line}");
    std::io::stdout().flush().unwrap();
}

/// Until the parent closes the pipe.
fn wait_for_parent() {
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() != 0 {}
}

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let pond = Pond::attach(words[0], Role::Block).unwrap();
    let bus = Bus::open(&pond).unwrap();
    match words[1..] {
        ["echo"] => {
            let echo = bus.answer("echo/**").unwrap();
            say("ready");
            while let Some(request) = echo.next(PATIENCE).unwrap() {
                let argument = request.argument.clone();
                match request.topic.as_str() {
                    "echo/refuse" => request.reply(Err("I would rather not".to_owned())),
                    "echo/drop" => drop(request),
                    "echo/large" => request.reply(Ok(json!("x".repeat(5000)))),
                    "echo/never" => std::mem::forget(request),
                    _ => request.reply(Ok(argument)),
                }
            }
        }
        ["hear", pattern] => {
            let heard = bus.subscribe(pattern).unwrap();
            say("ready");
            while let Some(message) = heard.next(PATIENCE).unwrap() {
                say(&format!("{} {} {}", message.topic, message.value, message.sender_pid));
            }
        }
        ["crowd", place] => be_in_the_crowd(&bus, place.parse().unwrap()),
        _ => panic!("no scenario {what}"),
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_is_published_comes_to_those_who_subscribed() {
    let pond = pond();
    let bus = Bus::open(&pond).unwrap();
    assert_eq!(bus.publish("nobody/listens", &1).unwrap(), Delivery::default());
    let mut all = Other::ready(pond.name(), "hear **");
    let mut one = Other::ready(pond.name(), "hear meter/*");
    let sent = bus.publish("meter/level", &json!({ "db": -3.5 })).unwrap();
    assert_eq!(sent, Delivery { delivered: 2, full: 0, gone: 0 });
    assert_eq!(bus.publish("meter", &"text").unwrap().delivered, 1);
    let me = std::process::id();
    let level = format!("meter/level {{\"db\":-3.5}} {me}");
    assert_eq!(one.line(), Some(level.clone()));
    assert_eq!(all.line(), Some(level));
    assert_eq!(all.line(), Some(format!("meter \"text\" {me}")));
    all.kill();
    wait_until("the death is known", || bus.publish("x", &1).unwrap() == Delivery::default());
    let refused = bus.publish("meter//x", &1).unwrap_err().to_string();
    assert!(refused.starts_with("the topic `meter//x` cannot be used: at most 128 bytes"), "{refused}");
    let refused = bus.publish("meter/level", &"x".repeat(5000)).unwrap_err().to_string();
    assert!(refused.contains("on `meter/level` cannot be sent: the message has 5014 bytes"), "{refused}");
}

#[test]
fn calls_are_answered_or_say_why_not() {
    let pond = pond();
    let bus = Bus::open(&pond).unwrap();
    let call = |topic: &str, timeout| bus.call(topic, &json!([1, "two"]), timeout);
    let mut echo = Other::ready(pond.name(), "echo");
    let pid = echo.child.id();
    assert_eq!(call("echo/anything", PATIENCE).unwrap(), json!([1, "two"]));
    let text = |result: Result<Json, BusError>| result.unwrap_err().to_string();
    assert_eq!(text(call("echo/refuse", PATIENCE)), "I would rather not");
    assert!(text(call("echo/drop", PATIENCE)).contains("was not answered: whoever got it gave it up"));
    assert_eq!(text(call("echo/large", PATIENCE)), "the answer has 5002 bytes, too many for a message");
    let nobody = text(call("ecco/anything", PATIENCE));
    assert_eq!(
        nobody,
        format!("nobody in pond `{}` answers `ecco/anything`; did you mean `echo/anything`?", pond.name())
    );
    // Slow, and stopped: the time is over.
    let slow = text(call("echo/never", Duration::from_millis(20)));
    assert_eq!(slow, format!("process {pid} did not answer `echo/never` within 20ms"));
    echo.stop();
    assert!(matches!(
        call("echo/anything", Duration::from_millis(20)).unwrap_err(),
        BusError::TimedOut { .. }
    ));
    while !matches!(call("echo/anything", Duration::ZERO).unwrap_err(), BusError::Full { .. }) {}
    let full = text(call("echo/anything", Duration::from_millis(20)));
    assert!(full.contains("takes no messages: its mailbox stayed full for 20ms"), "{full}");
    echo.signal(Signal::CONT);
    // Late answers are for nobody; a call goes through again.
    assert_eq!(call("echo/anything", PATIENCE).unwrap(), json!([1, "two"]));
    // Killed while it owes an answer: known at once, long before the time is over.
    let (start, bus) = (Instant::now(), bus.clone());
    let monitor = Monitor::open(pond.name()).unwrap();
    let before = monitor.snapshot().messages.received;
    let owing = std::thread::spawn(move || bus.call("echo/never", &1, 10 * PATIENCE));
    wait_until("the request has arrived", || monitor.snapshot().messages.received > before);
    echo.kill();
    let gone = owing.join().unwrap().unwrap_err().to_string();
    assert_eq!(gone, format!("process {pid} ended before it answered `echo/never`"));
    assert!(start.elapsed() < PATIENCE);
    assert!(matches!(call("echo/anything", PATIENCE).unwrap_err(), BusError::Absent { .. }));
}

#[test]
fn a_stop_ends_calls_and_subscriptions() {
    let pond = pond();
    let bus = Bus::open(&pond).unwrap();
    let service = bus.answer("mute").unwrap();
    let heard = bus.subscribe("**").unwrap();
    let calling = {
        let bus = bus.clone();
        std::thread::spawn(move || bus.call("mute", &1, PATIENCE))
    };
    let request = service.next(PATIENCE).unwrap().expect("the request");
    pond.request_stop();
    assert!(matches!(calling.join().unwrap().unwrap_err(), BusError::Stopped));
    assert!(matches!(heard.next(PATIENCE).unwrap_err(), BusError::Stopped));
    drop(request);
    assert!(bus.call("mute", &1, PATIENCE).is_err());
}

#[test]
fn a_process_leaves_the_bus_with_its_last_handle() {
    let pond = pond();
    let monitor = Monitor::open(pond.name()).unwrap();
    let bus = Bus::open(&pond).unwrap();
    let service = bus.answer("a").unwrap();
    drop(bus);
    assert_eq!(monitor.snapshot().mailboxes.len(), 1);
    drop(service);
    assert!(monitor.snapshot().mailboxes.is_empty());
    let bus = Bus::open(&pond).unwrap();
    drop(pond);
    assert_eq!(monitor.snapshot().processes.len(), 1);
    drop(bus);
    assert!(monitor.snapshot().processes.is_empty(), "the process has left the pond with the bus");
}

// ---- the crowd

const GROUPS: usize = 8;
/// Time for an answer; a caller that takes much longer hangs.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Publishes to its group, hears its group, asks a member at random, and answers whoever asks.
fn be_in_the_crowd(bus: &Bus, place: usize) {
    let members: usize = crowd();
    let ending = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let service = bus.answer(&format!("member/{place}")).unwrap();
    let heard = bus.subscribe(&format!("news/{}", place % GROUPS)).unwrap();
    let mut random = std::process::id();
    let mut tally = Tally::default();
    say("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for_parent();
            ending.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !ending.load(Ordering::Relaxed) {
                if let Ok(Some(request)) = service.next(Duration::from_millis(200)) {
                    answered.fetch_add(1, Ordering::Relaxed);
                    let argument = request.argument.clone();
                    request.reply(Ok(argument));
                }
            }
        });
        let mut number = 0u64;
        while !ending.load(Ordering::Relaxed) {
            let sent = bus.publish(&format!("news/{}", place % GROUPS), &number).unwrap();
            number += 1;
            tally.full += u64::from(sent.full);
            tally.listen(&heard, Duration::from_millis(20));
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let whom = random as usize / 7 % members;
            let start = Instant::now();
            match bus.call(&format!("member/{whom}"), &number, ANSWER_TIME) {
                Ok(answer) => {
                    assert_eq!(answer, json!(number), "an answer to another question");
                    tally.answers += 1;
                }
                Err(BusError::Absent { .. }) => tally.absent += 1,
                Err(BusError::Gone { .. }) => tally.gone += 1,
                Err(BusError::Full { .. } | BusError::TimedOut { .. }) => tally.slow += 1,
                // The responder ends as well.
                Err(BusError::Refused { .. }) if ending.load(Ordering::Relaxed) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(start.elapsed() < ANSWER_TIME + PATIENCE / 2, "a caller hung for {:?}", start.elapsed());
        }
        // Everybody else stops publishing as well; what is under way arrives.
        tally.listen(&heard, Duration::from_millis(500));
    });
    say(&format!(
        "{} {} {} {} {} {} {} {}",
        tally.answers,
        tally.absent,
        tally.gone,
        tally.slow,
        tally.heard,
        tally.gaps,
        tally.full,
        answered.load(Ordering::Relaxed)
    ));
    // The mailbox stays for the parent to look at.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    std::thread::sleep(PATIENCE);
}

#[derive(Default)]
struct Tally {
    answers: u64,
    absent: u64,
    gone: u64,
    slow: u64,
    heard: u64,
    /// Numbers of a publisher that are missing between two that came.
    gaps: u64,
    full: u64,
    last: BTreeMap<u32, u64>,
}

impl Tally {
    fn listen(&mut self, heard: &Subscription, first: Duration) {
        let mut patience = first;
        while let Ok(Some(message)) = heard.next(patience) {
            patience = Duration::ZERO;
            self.heard += 1;
            let number = message.value.as_u64().unwrap();
            // A sender that is gone has no pid any more.
            if message.sender_pid != 0
                && let Some(last) = self.last.insert(message.sender_pid, number)
            {
                assert!(number > last, "doubled, or out of order");
                self.gaps += number - last - 1;
            }
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn crowd() -> usize {
    setting("MILLPOND_BUS_CROWD", 64) as usize
}

/// `MILLPOND_BUS_SECONDS=60` for longer than the usual 8 s.
#[test]
fn a_crowd_goes_on_while_members_are_killed() {
    let pond = pond();
    let monitor = Monitor::open(pond.name()).unwrap();
    let name = pond.name().to_owned();
    let mut members: Vec<Other> =
        (0..crowd()).map(|place| Other::start(&name, &format!("crowd {place}"))).collect();
    for member in &mut members {
        assert_eq!(member.line().as_deref(), Some("ready"));
    }
    let end = Instant::now() + Duration::from_secs(setting("MILLPOND_BUS_SECONDS", 8));
    let (mut kills, mut random) = (0u64, std::process::id());
    while Instant::now() < end {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let place = random as usize / 7 % members.len();
        members[place].kill();
        kills += 1;
        members[place] = Other::ready(&name, &format!("crowd {place}"));
    }
    members.iter_mut().for_each(|member| drop(member.input.take()));
    let mut sum = [0u64; 8];
    let mut gaps = BTreeMap::new();
    for member in &mut members {
        let line = member.line().expect("every survivor comes back: nobody hangs");
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        gaps.insert(member.child.id(), numbers[5]);
        sum.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum += number);
    }
    let [answers, absent, gone, slow, heard, missed, full, answered] = sum;
    let snapshot = monitor.snapshot();
    println!(
        "{kills} kills; of the survivors: {answers} answers, {absent} absent, {gone} gone, {slow} slow; \
         {answered} answered; {heard} heard, {missed} missed, {full} full; {:?}",
        snapshot.messages
    );
    assert!(kills > 10 && answers > 100 && heard > 100 && absent + gone > 0, "too little happened");
    // Nothing is missing at a living subscriber but what its mailbox refused, which is counted there.
    for mailbox in &snapshot.mailboxes {
        let Some(missed) = mailbox.pid.and_then(|pid| gaps.get(&pid)) else { continue };
        let counted = mailbox.refused_full + mailbox.overflowed;
        assert!(*missed <= counted, "missed {missed}, counted {counted}: {mailbox:?}");
        assert_eq!(mailbox.being_written, 0, "{mailbox:?}");
    }
    let check = monitor.check();
    assert!(check.is_clean(), "{:?}", check.problems);
    drop(members);
    wait_until("all are recovered", || monitor.snapshot().processes.len() == 1);
    let total = monitor.snapshot().messages;
    assert_eq!(total.accepted, total.received + total.lost, "{total:?}");
    assert_eq!((total.waiting, monitor.snapshot().mailboxes.len()), (0, 0));
    assert!(total.lost > 0, "nobody was killed with mail in the box: {total:?}");
}
