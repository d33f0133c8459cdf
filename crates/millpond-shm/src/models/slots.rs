//! Claiming, adding, releasing references, and proving that nobody holds any.

use super::*;
use loom::thread;

/// A holder moves from token 2 to token 1 while the allocator scans: the slot may look free only when nobody reads any more.
fn hop_against(claim: fn(&References) -> bool, add: fn(&References) -> Option<u8>) {
    explore(None, move |reached| {
        let pond = Pond::new(1, &[]);
        pond.give(0, 2, 2);
        pond.write(0, 11);
        let holder = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                assert_eq!(add(pond.slot(0)), Some(1));
                pond.slot(0).release(2);
                assert_eq!(pond.read(0), 11);
                pond.slot(0).release(1);
            })
        };
        if claim(pond.slot(0)) {
            reached.here();
            pond.write(0, 12);
        }
        holder.join().unwrap();
    });
}

#[test]
fn a_clone_hop_is_no_free_slot() {
    hop_against(|slot| slot.claim_exclusive(1), |slot| slot.add(2));
}

#[test]
fn a_clone_hop_by_a_lone_holder_is_no_free_slot() {
    hop_against(|slot| slot.claim_exclusive(1), |slot| slot.add_as_unique(2));
}

#[test]
fn a_clone_hop_is_no_free_slot_in_a_shared_pool() {
    explore(Some(3), |reached| {
        let pond = Pond::new(1, &[]);
        pond.give(0, 2, 2);
        pond.write(0, 11);
        let holder = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                assert_eq!(pond.slot(0).add(2), Some(1));
                pond.slot(0).release(2);
                assert_eq!(pond.read(0), 11);
                pond.slot(0).release(1);
            })
        };
        // The second time its own release came before.
        for value in [12, 13] {
            if pond.slot(0).claim_shared(1) {
                reached.here();
                pond.write(0, value);
                pond.slot(0).release(0);
            }
        }
        holder.join().unwrap();
    });
}

#[test]
fn two_allocators_share_a_slot() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[]);
        let take = |pond: &Pond, me| {
            let won = pond.slot(0).claim_shared(me);
            if won {
                pond.write(0, me.into());
                assert_eq!(pond.read(0), u64::from(me));
                pond.slot(0).release(0);
            }
            won
        };
        let other = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || take(&pond, 2))
        };
        let mine = take(&pond, 1);
        if other.join().unwrap() && mine {
            reached.here();
        }
    });
}

/// `try_into_mut`: whoever finds itself alone writes; the others' reads came before.
#[test]
fn a_unique_holder_is_alone() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[]);
        pond.give(0, 1, 1);
        pond.give(0, 2, 2);
        pond.write(0, 11);
        let other = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                assert_eq!(pond.read(0), 11);
                pond.slot(0).release(2);
            })
        };
        if pond.slot(0).is_unreferenced_except(1) {
            reached.here();
            pond.write(0, 12);
        }
        other.join().unwrap();
    });
}

/// The same while the other holder moves to another token before it lets go.
#[test]
fn a_unique_holder_is_alone_despite_a_hop() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[]);
        pond.give(0, 0, 1);
        pond.give(0, 2, 2);
        pond.write(0, 11);
        let other = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                assert_eq!(pond.slot(0).add(2), Some(1));
                pond.slot(0).release(2);
                assert_eq!(pond.read(0), 11);
                pond.slot(0).release(1);
            })
        };
        if pond.slot(0).is_unreferenced_except(0) {
            reached.here();
            pond.write(0, 12);
        }
        other.join().unwrap();
    });
}

/// Two holders ask at once, each with the other's token in the way: at most one becomes a writer at a time.
#[test]
fn of_two_holders_at_most_one_becomes_unique() {
    explore(None, |reached| {
        let pond = Pond::new(1, &[]);
        pond.give(0, 1, 1);
        pond.give(0, 2, 2);
        let try_to_write = |pond: &Pond, token: u8| {
            let unique = pond.slot(0).is_unreferenced_except(token.into());
            if unique {
                pond.write(0, token.into());
            } else {
                pond.read(0);
            }
            pond.slot(0).release(token);
            unique
        };
        let other = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || try_to_write(&pond, 2))
        };
        if try_to_write(&pond, 1) {
            reached.here();
        }
        other.join().unwrap();
        assert!(pond.slot(0).is_free());
    });
}

#[test]
fn a_model_slot_has_the_tokens_that_the_scenarios_use() {
    assert_eq!(TOKENS, 3);
}
