//! Mailboxes between real processes: order, back-pressure, owners and senders that are killed, and an account that is exact.
//!
//! With `--features crash-points` a process dies by a real SIGKILL between any two stores.

mod support;

use millpond_shm::{
    Mail, MailClass, Mailbox, MailboxAddress, MessageTotals, Monitor, Pond, PondConfig, PoolConfig,
    PostError, Role, layout,
};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Child, DEADLINE, Parent, unique_name};

/// Messages that an ordinary sender can put into an empty mailbox.
const ROOM: usize = layout::MAILBOX_CELLS - layout::MAILBOX_REPLY_CELLS;

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    if let Some((_, parent)) = Parent::scenario() {
        obey(&parent);
    }
}

/// A process that does what it is told, and says `done` after each command.
fn obey(parent: &Parent) {
    let mut pond = None;
    let mut mailbox: Option<Mailbox> = None;
    parent.say("ready");
    loop {
        let line = parent.listen();
        let words: Vec<&str> = line.split(' ').collect();
        let attached = || -> &Pond { pond.as_ref().expect("attached") };
        match words[..] {
            [""] => return,
            ["attach", name] => pond = Some(Pond::attach(name, Role::Block).expect("attach")),
            ["open"] => mailbox = Some(attached().mailbox("child").expect("a mailbox")),
            ["close"] => mailbox = None,
            ["label", label] => mailbox.as_mut().expect("open").add_label(label).expect("a label"),
            ["unlabel", label] => mailbox.as_mut().expect("open").remove_label(label),
            ["post", to, first, count] => {
                let to = find(attached(), to);
                for number in count_from(first, count) {
                    attached().post(to, &numbered(number), MailClass::Ordinary, DEADLINE).expect("post");
                }
            }
            ["receive", count] => {
                for _ in 0..count.parse::<u32>().expect("a number") {
                    parent.say(&format!("got {}", receive(mailbox.as_mut().expect("open"))));
                }
            }
            ["settings", text] => attached().store_settings("gain", text).expect("settings"),
            #[cfg(feature = "crash-points")]
            ["arm", point, pass] => {
                let point: usize = point.parse().expect("a number");
                millpond_shm::crash_point::arm(
                    millpond_shm::crash_point::ALL[point].0,
                    pass.parse().expect("a number"),
                    millpond_shm::crash_point::Then::Kill,
                );
            }
            ["recover"] => drop(attached().recover_dead().expect("recover")),
            _ => panic!("no such command: {words:?}"),
        }
        parent.say("done");
    }
}

fn count_from(first: &str, count: &str) -> std::ops::Range<u64> {
    let first: u64 = first.parse().expect("a number");
    first..first + count.parse::<u64>().expect("a number")
}

/// A message whose every byte follows from its number, so that a torn one shows.
fn numbered(number: u64) -> Mail {
    let contents = (0..100 + number % 50).flat_map(|_| number.to_le_bytes()).collect();
    Mail { kind: 7, correlation: number, reply_to: None, contents }
}

fn receive(mailbox: &mut Mailbox) -> u64 {
    let waiter = mailbox.waiter().clone();
    waiter.wait(Some(DEADLINE), || mailbox.has_mail());
    verified(mailbox.try_receive().expect("a message in time").mail)
}

fn verified(mail: Mail) -> u64 {
    let number = mail.correlation;
    assert_eq!(mail, numbered(number), "a message is torn");
    number
}

fn find(pond: &Pond, name: &str) -> MailboxAddress {
    let found = pond.mailboxes().into_iter().find(|entry| entry.name == name);
    found.unwrap_or_else(|| panic!("no mailbox {name}")).address
}

fn small(name: &str) -> Pond {
    let config = PondConfig { pools: vec![PoolConfig::new(64, 4)], table_slots: 4 };
    Pond::create(name, &config, Role::Worker).expect("create")
}

fn start() -> Child {
    let mut child = Child::spawn("puppet", &[]);
    child.expect("ready");
    child
}

fn order(child: &mut Child, command: &str) {
    child.tell(command);
    child.expect("done");
}

fn totals(monitor: &Monitor) -> MessageTotals {
    let totals = monitor.snapshot().messages;
    assert_eq!(totals.accepted, totals.received + totals.lost + totals.waiting, "{totals:?}");
    totals
}

#[test]
fn messages_of_one_sender_come_in_order_and_whole() {
    let name = unique_name("mail");
    let pond = small(&name);
    let monitor = Monitor::open(&name).unwrap();
    let mut mailbox = pond.mailbox("owner").unwrap();
    let mut senders: Vec<Child> = (0..3).map(|_| start()).collect();
    for (index, sender) in senders.iter_mut().enumerate() {
        order(sender, &format!("attach {name}"));
        sender.tell(&format!("post owner {} 400", index * 1_000_000));
    }
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..1200 {
        let number = receive(&mut mailbox);
        let expected = next.entry(number / 1_000_000).or_default();
        assert_eq!(number % 1_000_000, *expected, "out of order");
        *expected += 1;
    }
    senders.iter_mut().for_each(|sender| sender.expect("done"));
    assert!(!mailbox.has_mail());
    let sum = totals(&monitor);
    assert_eq!((sum.accepted, sum.received, sum.lost), (1200, 1200, 0));
}

#[test]
fn a_full_mailbox_refuses_or_makes_wait_and_keeps_room_for_replies() {
    let name = unique_name("mail");
    let pond = small(&name);
    let mut mailbox = pond.mailbox("owner").unwrap();
    let to = mailbox.address();
    for number in 0..ROOM as u64 {
        pond.post(to, &numbered(number), MailClass::Ordinary, Duration::ZERO).unwrap();
    }
    let refused = pond.post(to, &numbered(0), MailClass::Ordinary, Duration::ZERO).unwrap_err();
    assert!(matches!(refused, PostError::Full { pid } if pid == std::process::id()), "{refused}");
    for number in 0..layout::MAILBOX_REPLY_CELLS as u64 {
        pond.post(to, &numbered(1000 + number), MailClass::Reply, Duration::ZERO).unwrap();
    }
    let refused = pond.post(to, &numbered(0), MailClass::Reply, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(refused, PostError::Full { .. }), "{refused}");
    let info = &Monitor::open(&name).unwrap().snapshot().mailboxes[0];
    assert_eq!((info.waiting, info.refused_full, info.accepted), (64, 2, 64));

    // A sender in another process waits for room and gets it.
    let mut sender = start();
    order(&mut sender, &format!("attach {name}"));
    sender.tell(&format!("post owner 2000 {ROOM}"));
    let received: Vec<u64> = (0..ROOM + layout::MAILBOX_CELLS).map(|_| receive(&mut mailbox)).collect();
    sender.expect("done");
    assert_eq!(received[..ROOM], (0..ROOM as u64).collect::<Vec<_>>());
    assert_eq!(received[layout::MAILBOX_CELLS..], (2000..2000 + ROOM as u64).collect::<Vec<_>>());
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    let name = unique_name("mail");
    let pond = small(&name);
    let mailbox = pond.mailbox("owner").unwrap();
    let mail = Mail { contents: vec![0; layout::MAX_MESSAGE_BYTES + 1], ..Mail::default() };
    let refused = pond.post(mailbox.address(), &mail, MailClass::Ordinary, Duration::ZERO).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the message has 4097 bytes, at most 4096 are possible: send large data through ports"
    );
}

#[test]
fn labels_are_seen_by_others_and_their_changes_noticed() {
    let name = unique_name("mail");
    let pond = small(&name);
    let mut mailbox = pond.mailbox("owner").unwrap();
    let mut other = start();
    order(&mut other, &format!("attach {name}"));
    order(&mut other, "open");
    let before = pond.mailbox_epoch();
    order(&mut other, "label alarms/**");
    assert_ne!(pond.mailbox_epoch(), before);
    let labels = || pond.mailboxes().into_iter().map(|e| e.labels).collect::<Vec<_>>();
    assert_eq!(labels(), [vec![], vec!["alarms/**".to_owned()]]);
    mailbox.add_label("a").unwrap();
    mailbox.add_label("b").unwrap();
    mailbox.remove_label("a");
    mailbox.add_label("c").unwrap();
    assert_eq!(labels()[0], ["c", "b"]);
    order(&mut other, "close");
    assert_eq!(labels().len(), 1);
    for number in 2..layout::MAX_LABELS {
        mailbox.add_label(&number.to_string()).unwrap();
    }
    let refused = mailbox.add_label("one more").unwrap_err().to_string();
    assert!(refused.contains("all 256 are in use; use fewer patterns"), "{refused}");
    assert!(mailbox.add_label("").is_err());
}

#[test]
fn a_killed_owner_frees_its_senders_at_once_and_its_messages_are_counted() {
    let name = unique_name("mail");
    let pond = small(&name);
    let monitor = Monitor::open(&name).unwrap();
    let mut owner = start();
    order(&mut owner, &format!("attach {name}"));
    order(&mut owner, "open");
    let to = find(&pond, "child");
    for number in 0..ROOM as u64 {
        pond.post(to, &numbered(number), MailClass::Ordinary, Duration::ZERO).unwrap();
    }
    let waiting = {
        let pond = pond.clone();
        std::thread::spawn(move || pond.post(to, &numbered(0), MailClass::Ordinary, DEADLINE))
    };
    std::thread::sleep(Duration::from_millis(20)); // most likely it sleeps by now; it may also come later
    owner.kill();
    let refused = waiting.join().unwrap().unwrap_err();
    assert!(matches!(refused, PostError::Gone), "{refused}");
    assert!(!pond.is_mailbox_open(to));
    assert!(matches!(
        pond.post(to, &numbered(0), MailClass::Ordinary, DEADLINE).unwrap_err(),
        PostError::Gone
    ));
    let sum = totals(&monitor);
    assert_eq!((sum.accepted, sum.lost, sum.waiting), (ROOM as u64, ROOM as u64, 0));
    assert_eq!(sum.unaddressed, 2);
    // The place is used again, for another address.
    let mailbox = pond.mailbox("next").unwrap();
    assert_ne!(mailbox.address(), to);
    let infos = monitor.snapshot().mailboxes;
    assert_eq!((infos.len(), infos[0].accepted, infos[0].lost), (1, 0, 0), "{infos:?}");
    assert!(matches!(
        pond.post(to, &numbered(0), MailClass::Ordinary, Duration::ZERO).unwrap_err(),
        PostError::Gone
    ));
}

#[test]
fn a_stop_ends_the_wait_for_room() {
    let name = unique_name("mail");
    let pond = small(&name);
    let mailbox = pond.mailbox("owner").unwrap();
    let to = mailbox.address();
    for number in 0..ROOM as u64 {
        pond.post(to, &numbered(number), MailClass::Ordinary, Duration::ZERO).unwrap();
    }
    let waiting = {
        let pond = pond.clone();
        std::thread::spawn(move || pond.post(to, &numbered(0), MailClass::Ordinary, DEADLINE))
    };
    pond.request_stop();
    assert!(matches!(waiting.join().unwrap().unwrap_err(), PostError::Stopped));
}

#[test]
fn settings_outlive_the_process_that_made_them_but_not_the_block() {
    let name = unique_name("mail");
    let pond = small(&name);
    pond.declare_block("gain", "gain").unwrap();
    assert_eq!(pond.settings("gain").unwrap(), None);
    let mut child = start();
    order(&mut child, &format!("attach {name}"));
    order(&mut child, "settings k=2");
    order(&mut child, "settings k=3");
    child.kill();
    assert_eq!(pond.settings("gain").unwrap().as_deref(), Some("k=3"));
    let seen = Monitor::open(&name).unwrap().snapshot().blocks[0].settings.clone();
    assert_eq!(seen.as_deref(), Some("k=3"));
    pond.remove_block("gain").unwrap();
    pond.declare_block("gain", "gain").unwrap();
    assert_eq!(pond.settings("gain").unwrap(), None);
    assert!(
        pond.store_settings("gain", &"x".repeat(3000))
            .unwrap_err()
            .to_string()
            .contains("at most 2032 bytes")
    );
    assert!(pond.store_settings("gian", "x").unwrap_err().to_string().contains("no block `gian`"));
}

/// Every point of this file's operations, and a victim that dies there.
#[cfg(feature = "crash-points")]
mod crash {
    use super::*;
    use crate::support::eventually;
    use millpond_shm::crash_point::{self, CrashPoint};

    /// What a process comes by on its own account.
    const ALONE: [CrashPoint; 20] = [
        CrashPoint::MailboxOwned,
        CrashPoint::LabelWritten,
        CrashPoint::MailTicket,
        CrashPoint::RoomMarkCleared,
        CrashPoint::MailboxTold,
        CrashPoint::MailboxForgotten,
        CrashPoint::MailboxMade,
        CrashPoint::MailboxOpened,
        CrashPoint::LabelStored,
        CrashPoint::LabelCleared,
        CrashPoint::MailClaimed,
        CrashPoint::MailWritten,
        CrashPoint::MailReady,
        CrashPoint::MailCopied,
        CrashPoint::MailFreed,
        CrashPoint::RoomBellRaised,
        CrashPoint::MailClosing,
        CrashPoint::MailSwept,
        CrashPoint::SettingsWritten,
        CrashPoint::RecoverMailbox,
    ];
    /// What a process comes by while it recovers another.
    const RECOVERING: [CrashPoint; 6] = [
        CrashPoint::MailboxTold,
        CrashPoint::MailboxForgotten,
        CrashPoint::RecoverMailCell,
        CrashPoint::MailClosing,
        CrashPoint::MailSwept,
        CrashPoint::RecoverMailbox,
    ];

    fn arm(child: &mut Child, point: CrashPoint, pass: u32) {
        let index = crash_point::ALL.iter().position(|(p, _)| *p == point).expect("listed");
        order(child, &format!("arm {index} {pass}"));
    }

    /// Gives commands until it dies; `false`: it has done them all. Numbers that it received are added.
    fn dies(child: &mut Child, commands: &[&str], received: &mut Vec<u64>) -> bool {
        for command in commands {
            if child.try_tell(command).is_err() {
                return true;
            }
            loop {
                match child.line_or_end() {
                    None => return true,
                    Some(line) if line == "done" => break,
                    Some(line) => {
                        received.push(line.strip_prefix("got ").expect("got").parse().expect("a number"))
                    }
                }
            }
        }
        false
    }

    fn is_gone(monitor: &Monitor, pid: u32) -> bool {
        monitor.snapshot().processes.iter().all(|p| p.pid != pid)
    }

    fn assert_sound(monitor: &Monitor) {
        let report = monitor.check();
        assert!(report.is_clean(), "{:?}", report.problems);
        for info in monitor.snapshot().mailboxes {
            assert_eq!(info.being_written, 0, "{info:?}");
        }
        totals(monitor);
    }

    #[test]
    fn a_process_may_die_between_any_two_stores() {
        for point in ALONE {
            for pass in 1..=3 {
                let name = unique_name("mail");
                let pond = small(&name);
                pond.declare_block("gain", "gain").unwrap();
                pond.store_settings("gain", "old").unwrap();
                let monitor = Monitor::open(&name).unwrap();
                let mut mailbox = pond.mailbox("keeper").unwrap();
                let mut victim = start();
                order(&mut victim, &format!("attach {name}"));
                arm(&mut victim, point, pass);
                let mut received = Vec::new();
                let mut died = dies(&mut victim, &["open", "label a", "label b", "unlabel a"], &mut received);
                let filled = (!died).then(|| {
                    // Its mailbox is full, and somebody waits for room in it.
                    let (pond, to) = (pond.clone(), find(&pond, "child"));
                    std::thread::spawn(move || {
                        (0..100)
                            .take_while(|&n| {
                                pond.post(to, &numbered(n), MailClass::Ordinary, DEADLINE).is_ok()
                            })
                            .count()
                    })
                });
                let rest = [
                    "post keeper 5000 5",
                    "receive 60",
                    "settings new",
                    "settings new",
                    "settings new",
                    "close",
                ];
                died = died || {
                    eventually("a full mailbox", || {
                        monitor.snapshot().mailboxes.iter().any(|m| m.waiting >= ROOM as u32)
                    });
                    dies(&mut victim, &rest, &mut received)
                };
                println!("{point:?}, pass {pass}: died {died}");
                assert!(died || pass > 1, "{point:?} was not reached");
                victim.kill_or_reap();
                let accepted =
                    filled.map_or(0, |thread| thread.join().expect("the waiting sender comes back"));
                eventually("recovery", || is_gone(&monitor, victim.pid));
                assert_sound(&monitor);
                assert_eq!(monitor.snapshot().mailboxes.len(), 1);
                // What it sent arrives whole, in order, without a gap; what it received was in order, too.
                let sent: Vec<u64> =
                    std::iter::from_fn(|| mailbox.try_receive()).map(|r| verified(r.mail)).collect();
                assert_eq!(sent, (5000..5000 + sent.len() as u64).collect::<Vec<_>>());
                assert_eq!(received, (0..received.len() as u64).collect::<Vec<_>>());
                let sum = totals(&monitor);
                // A message on which the death interfered with s4 may count as refused here and as lost there.
                let known = (accepted + sent.len()) as u64;
                assert!((known..=known + 1).contains(&sum.accepted), "{sum:?}, {known}");
                let settings = pond.settings("gain").unwrap().expect("settings");
                assert!(settings == "old" || settings == "new", "{settings}");
                // All cells can be used again.
                for number in 0..ROOM as u64 {
                    pond.post(mailbox.address(), &numbered(number), MailClass::Ordinary, Duration::ZERO)
                        .unwrap();
                }
                let mut next = pond.mailbox("next").unwrap();
                for number in 0..ROOM as u64 {
                    pond.post(next.address(), &numbered(number), MailClass::Ordinary, Duration::ZERO)
                        .unwrap();
                    assert_eq!(receive(&mut next), number);
                }
            }
        }
    }

    #[test]
    fn a_recovery_may_die_between_any_two_stores() {
        for point in RECOVERING {
            // The keeper stands still, so that only the second victim can recover the first.
            let name = unique_name("mail");
            let mut keeper = start();
            let pond = small(&name);
            order(&mut keeper, &format!("attach {name}"));
            order(&mut keeper, "open");
            let to = find(&pond, "child");
            let mut first = start();
            order(&mut first, &format!("attach {name}"));
            order(&mut first, "open");
            let of_first = pond.mailboxes().into_iter().find(|e| e.address != to).expect("two").address;
            for number in 0..3 {
                pond.post(of_first, &numbered(number), MailClass::Ordinary, Duration::ZERO).unwrap();
            }
            let mut second = start();
            order(&mut second, &format!("attach {name}"));
            let monitor = Monitor::open(&name).unwrap();
            drop(pond); // this process is not to recover anybody
            keeper.stop();
            arm(&mut second, point, 1);
            arm(&mut first, CrashPoint::MailClaimed, 1);
            assert!(dies(&mut first, &["post child 0 1"], &mut Vec::new()));
            first.kill_or_reap();
            let died = dies(&mut second, &["recover"], &mut Vec::new()) || {
                // Its watcher thread recovers at this moment.
                eventually(&format!("its death at {point:?}"), || second.has_ended().is_some());
                true
            };
            assert!(died);
            second.kill_or_reap();
            assert!(!is_gone(&monitor, first.pid), "{point:?}: recovered completely");
            keeper.signal(rustix::process::Signal::CONT);
            eventually("recovery", || is_gone(&monitor, first.pid) && is_gone(&monitor, second.pid));
            assert_sound(&monitor);
            let sum = totals(&monitor);
            assert_eq!((sum.accepted, sum.received, sum.lost, sum.waiting), (3, 0, 3, 0), "{point:?}");
            assert_eq!(monitor.snapshot().mailboxes.len(), 1);
        }
    }
}
