//! Messages of the bus: whatever another process puts into a mailbox, its owner goes on, and every message is counted.
//!
//! A message is: its kind, a correlation, whether it has an address for the answer, a length, and contents.

#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::{Corpus, fuzz_target};
use millpond::bus::{Bus, Json, Service, Subscription};
use millpond_shm::{Mail, MailClass, MailboxAddress, Monitor, Pond, PondConfig, Role};

struct Target {
    pond: Pond,
    monitor: Monitor,
    bus: Bus,
    all: Subscription,
    echo: Service,
    address: MailboxAddress,
}

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = format!("fuzz-bus-{}", std::process::id());
        let pond = Pond::create(&name, &PondConfig::default(), Role::Worker).expect("a pond");
        let bus = Bus::open(&pond).expect("a bus");
        let (all, echo) =
            (bus.subscribe("**").expect("a subscription"), bus.answer("echo/*").expect("a service"));
        let address = pond.mailboxes()[0].address;
        Target { monitor: Monitor::open(&name).expect("a monitor"), pond, bus, all, echo, address }
    })
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let target = target();
    let mut rest = input;
    // Fewer than a mailbox holds.
    for _ in 0..24 {
        let [kind, correlation, answer, length, tail @ ..] = rest else { break };
        let (contents, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let reply_to = (answer & 1 != 0).then_some(target.address);
        let kind = if kind & 0x80 != 0 { u32::MAX - u32::from(*kind) } else { u32::from(*kind) };
        let mail = Mail { kind, correlation: (*correlation).into(), reply_to, contents: contents.to_vec() };
        target.pond.post(target.address, &mail, MailClass::Ordinary, Duration::from_secs(10)).expect("room");
    }
    // One that is sound, behind all others: the thread that serves the mailbox is still there.
    let probe = std::thread::scope(|scope| {
        let call = scope.spawn(|| target.bus.call("echo/probe", &input.len(), Duration::from_secs(10)));
        let sound = loop {
            let request = target.echo.next(Duration::from_secs(10)).expect("not stopped").expect("the probe");
            let is_probe = request.topic == "echo/probe" && request.argument == Json::from(input.len());
            let argument = request.argument.clone();
            request.reply(Ok(argument));
            if is_probe {
                break call.join().expect("no panic");
            }
        };
        // What looks like an answer may have come first.
        sound.is_ok() || matches!(sound, Err(millpond::bus::BusError::Refused { .. }))
    });
    assert!(probe, "the bus does not answer any more");
    while target.all.next(Duration::ZERO).is_ok_and(|message| message.is_some()) {}
    while target.echo.next(Duration::ZERO).is_ok_and(|request| request.is_some()) {}
    let totals = target.monitor.snapshot().messages;
    assert_eq!(totals.accepted, totals.received + totals.lost + totals.waiting);
    Corpus::Keep
});
