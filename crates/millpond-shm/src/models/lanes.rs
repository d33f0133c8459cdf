//! Handing references through lanes: from allocation to the slot's next use.

use super::*;
use crate::lane::End;
use loom::thread;

/// Producer allocates, writes, sends, and takes the slot again while the consumer reads and releases it.
#[test]
fn one_to_one() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[1]);
        let consumer = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(reference) = pond.pop(0, 2, 0) {
                        assert_eq!(pond.read(0), 11);
                        pond.release(reference);
                        return;
                    }
                    thread::yield_now();
                }
            })
        };
        assert!(pond.slot(0).claim_exclusive(1));
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
        }
        consumer.join().unwrap();
    });
}

/// A ring of one cell goes round: the cell is overwritten only once its entry was taken.
#[test]
fn a_lap_of_the_ring() {
    explore(None, |reached| {
        let pond = Pond::new(2, &[1]);
        pond.give(0, 0, 1);
        pond.give(1, 0, 1);
        let consumer = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let mut position = 0;
                for _ in 0..3 {
                    if position == 2 {
                        return;
                    }
                    match pond.pop(0, 2, position) {
                        Some(reference) => {
                            assert_eq!(pond.read(reference.slot), 11 + position);
                            pond.release(reference);
                            position += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
            })
        };
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        pond.write(1, 12);
        if pond.lane(0).head.load(Ordering::Acquire) == 1 {
            reached.here();
            pond.push(0, 1, 1, 0);
        }
        consumer.join().unwrap();
    });
}

/// Two entries at once: all tokens, then all cells; all claims, then head.
#[test]
fn a_batch() {
    explore(Some(3), |reached| {
        let pond = Pond::new(2, &[2]);
        pond.give(0, 0, 1);
        pond.give(1, 0, 1);
        let consumer = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let lane = pond.lane(0);
                let mut taken = Vec::new();
                while let Taken::Entry { cell, .. } = lane.claim_exclusive(&&*pond, 2, taken.len() as u64) {
                    taken.push(cell.reference());
                }
                lane.advance(taken.len() as u64);
                for reference in taken {
                    assert_eq!(pond.read(reference.slot), 11 + u64::from(reference.slot));
                    pond.release(reference);
                }
            })
        };
        let lane = pond.lane(0);
        for slot in 0..2 {
            pond.write(slot, 11 + u64::from(slot));
        }
        for slot in 0..2 {
            lane.put_token(pond.slot(slot), 0, slot.into());
        }
        for slot in 0..2 {
            lane.publish(slot.into(), Reference { pool: 0, slot, token: 0 }, 0);
        }
        if lane.head.load(Ordering::Acquire) == 2 && pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 13);
            pond.push(0, 2, 0, 0);
        }
        consumer.join().unwrap();
    });
}

/// The producer of a full shared lane drops the oldest, uses the slot again and sends it, while a consumer takes one.
#[test]
fn drop_oldest_against_a_consumer() {
    explore(Some(3), |reached| {
        let pond = Pond::new(1, &[1]);
        assert!(pond.slot(0).claim_exclusive(1));
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        let consumer = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let taken = pond.pop_shared(0, 2);
                if let Some((reference, position)) = taken {
                    assert_eq!(pond.read(reference.slot), 11 + position);
                    pond.release(reference);
                }
                taken.map(|(_, position)| position)
            })
        };
        let dropped = pond.lane(0).drop_oldest(&&*pond);
        assert_eq!(
            pond.lane(0).head.load(Ordering::Acquire),
            1,
            "no room although the lane's only entry is gone"
        );
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
            pond.push(0, 1, 0, 0);
        }
        let taken = consumer.join().unwrap();
        assert!(!(dropped && taken == Some(0)), "both dropped and taken");
        assert!(dropped || taken == Some(0), "neither dropped nor taken");
    });
}

/// The dropped buffer had come from another lane: the dropper's read of it, too, precedes the next owner's write.
#[test]
fn what_is_forwarded_and_dropped_was_read_before_its_next_use() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[1, 1]);
        pond.give(0, 0, 1);
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        let middle = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                if let Some(reference) = pond.pop(0, 2, 0) {
                    assert_eq!(pond.read(0), 11);
                    pond.push(1, 0, reference.slot, reference.token);
                    assert!(pond.lane(1).drop_oldest(&&*pond));
                }
            })
        };
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
        }
        middle.join().unwrap();
    });
}

#[test]
fn two_competing_consumers() {
    explore(Some(3), |reached| {
        let pond = Pond::new(2, &[2]);
        let consumers: Vec<_> = (2..4)
            .map(|me| {
                let pond = Arc::clone(&pond);
                thread::spawn(move || {
                    let (reference, position) = pond.pop_shared(0, me)?;
                    assert_eq!(pond.read(reference.slot), 11 + position);
                    pond.release(reference);
                    Some(position)
                })
            })
            .collect();
        pond.give(0, 0, 1);
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        // The slot of the first entry again, for the second.
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
            pond.push(0, 1, 0, 0);
        }
        let taken: Vec<_> = consumers.into_iter().map(|c| c.join().unwrap()).collect();
        assert!(taken[0].is_none() || taken[0] != taken[1], "{taken:?}: taken twice");
        let left = std::iter::from_fn(|| pond.pop_shared(0, 1)).count();
        let all = if pond.lane(0).published(1).is_some() { 2 } else { 1 };
        assert_eq!(taken.iter().flatten().count() + left, all, "an entry was lost");
    });
}

/// One reads and forwards, another releases, the first one's read precedes the allocator's write all the same.
#[test]
fn a_forward_chain() {
    explore(Some(3), |reached| {
        let pond = Pond::new(1, &[1, 1]);
        pond.give(0, 0, 1);
        pond.write(0, 11);
        pond.push(0, 0, 0, 0);
        let middle = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                if let Some(reference) = pond.pop(0, 2, 0) {
                    assert_eq!(pond.read(0), 11);
                    pond.push(1, 0, reference.slot, reference.token);
                }
            })
        };
        let last = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                if let Some(reference) = pond.pop(1, 3, 0) {
                    pond.release(reference);
                }
            })
        };
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
        }
        middle.join().unwrap();
        last.join().unwrap();
    });
}

/// One buffer to two consumers by a second token: it is free only when both have released theirs.
#[test]
fn fan_out() {
    explore(Some(2), |reached| {
        let pond = Pond::new(1, &[1, 1]);
        assert!(pond.slot(0).claim_exclusive(1));
        pond.write(0, 11);
        let consumers: Vec<_> = (0..2)
            .map(|lane| {
                let pond = Arc::clone(&pond);
                thread::spawn(move || {
                    if let Some(reference) = pond.pop(lane, 2 + lane, 0) {
                        assert_eq!(pond.read(0), 11);
                        pond.release(reference);
                    }
                })
            })
            .collect();
        let second = pond.slot(0).add_as_unique(1).unwrap();
        pond.push(0, 0, 0, second);
        pond.push(1, 0, 0, 0);
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
        }
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
}

/// A consumer that keeps what it forwards: its clone and the forwarded token are both needed to free the slot.
#[test]
fn forward_and_keep() {
    explore(Some(3), |reached| {
        let pond = Pond::new(1, &[1]);
        pond.give(0, 0, 2);
        pond.write(0, 11);
        let keeper = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let second = pond.slot(0).add(2).unwrap();
                pond.push(0, 0, 0, second);
                assert_eq!(pond.read(0), 11);
                pond.slot(0).release(0);
            })
        };
        let consumer = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                if let Some(reference) = pond.pop(0, 3, 0) {
                    assert_eq!(pond.read(0), 11);
                    pond.release(reference);
                }
            })
        };
        if pond.slot(0).claim_exclusive(1) {
            reached.here();
            pond.write(0, 12);
        }
        keeper.join().unwrap();
        consumer.join().unwrap();
    });
}

/// The end of a stream is told only once everything before it was taken.
#[test]
fn the_end_comes_last() {
    explore(None, |reached| {
        let pond = Pond::new(2, &[2]);
        let end = Arc::new(AtomicU64::new(0));
        pond.give(0, 0, 1);
        pond.give(1, 0, 1);
        let consumer = {
            let (pond, end, reached) = (Arc::clone(&pond), Arc::clone(&end), reached.clone());
            thread::spawn(move || {
                let mut next = 0;
                for _ in 0..3 {
                    match pond.pop(0, 2, next) {
                        Some(reference) => {
                            assert_eq!(pond.read(reference.slot), 11 + next);
                            next += 1;
                        }
                        None if End(&end).is_at(next) => {
                            assert_eq!(next, 2, "the end was told before the last entry");
                            reached.here();
                            return;
                        }
                        None => thread::yield_now(),
                    }
                }
            })
        };
        for slot in 0..2 {
            pond.write(slot, 11 + u64::from(slot));
            pond.push(0, slot.into(), slot, 0);
        }
        End(&end).set(2);
        consumer.join().unwrap();
    });
}
