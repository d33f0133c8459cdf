//! Runs the blocks of one process on its threads.
//!
//! The blocks stand in a ring, senders before their receivers. Every thread walks around it: it takes the next block that is
//! ready and that no other thread has, lets it work to its budget ([`Runner::visit`]), puts it back and walks on. So
//!
//! - a thread that has let a source send some buffers takes them through the whole chain, block by block, while they are in its
//!   core's cache (depth first); a second thread follows it around with the next buffers;
//! - every ready block gets its turn once a round, and a thread is idle only if no block is ready (fair, work-conserving);
//! - there is no queue of ready blocks to keep: whether a block is ready is read from its ports (an entry in a lane that it
//!   found empty, room in one that was full), some nanoseconds for each block that waits.
//!
//! A thread that has been around without finding anything sleeps. All ports of the process belong to one waiting party, whose
//! bell is rung by whoever publishes to a sleeping one, in this or another process; while all threads walk, nobody needs the
//! kernel to hand a buffer over. Only one of the idle threads, the leader, sleeps on the bell, with the earliest moment that a block
//! waits for as its time-out; the others queue up behind it at a mutex. When the leader finds something to do it lets the next
//! one in. The party's protocol (announce, fence, look once more) makes the leader's last look safe. Two more rules make it safe for
//! those who are not the leader: a block is only ever missing from the ring while a thread runs it, and that thread walks
//! around once more before it sleeps; and a thread that has put back a block which waits for a moment rings before it sleeps itself,
//! because the leader's time-out may be later.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use millpond_shm::{Pond, Wait, Waiter};

use crate::allocation::SharedAllocator;
use crate::catalog::BlockType;
use crate::error::{Context as _, Error, Result};
use crate::flowgraph::cycles::is_in_cycle;
use crate::params::Params;
use crate::runner::{Ending, Parked, Party, Runner, Visit};
use crate::stop::{StopRequest, Urgency};

/// A block that a scheduler is to run.
pub(crate) struct Job<'a> {
    pub(crate) name: String,
    pub(crate) block_type: &'a BlockType,
    pub(crate) params: Params,
}

/// Why a scheduler gave up: one of its blocks failed. The others have been left as they were.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) block: String,
    pub(crate) error: Box<Error>,
}

/// The blocks of one process.
pub(crate) struct Scheduler {
    /// The ring, senders first.
    tasks: Vec<Task>,
    waiter: Waiter,
    /// Held by the idle thread that sleeps on the bell.
    leader: Mutex<()>,
    /// Blocks that have not ended.
    left: AtomicUsize,
    /// Everybody stops walking: a block has failed.
    given_up: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Every block is to end as soon as those that send to it in this process have.
    draining: AtomicBool,
    was_stopped: AtomicBool,
    was_left_open: AtomicBool,
}

struct Task {
    name: String,
    place: Mutex<Place>,
    stop: StopRequest,
    /// Places in the ring of the blocks that send to this one.
    senders: Vec<usize>,
}

/// Where a block is.
enum Place {
    /// Here, with its budget used up.
    Ready(Box<Runner>),
    /// Here, waiting.
    Parked(Box<Runner>, Parked),
    /// In the hands of a thread.
    Runs,
    /// Never to be visited again; its ports are open until it is dropped.
    Failed(#[allow(dead_code, reason = "held, never looked at")] Box<Runner>),
    /// It has ended.
    Ended,
}

impl Scheduler {
    /// Takes the ports of all blocks. `connections` are pairs of names, sender and receiver; others than the jobs may be among
    /// them. `stays_open`: a block that is done by itself leaves its streams open.
    pub(crate) fn new(
        pond: &Pond,
        jobs: Vec<Job<'_>>,
        connections: &[(String, String)],
        stays_open: bool,
    ) -> Result<Self, Failure> {
        let is_shared = jobs.len() > 1;
        let party = pond.waiter(Wait::Adaptive).map(|waiter| Party {
            waiter,
            allocator: SharedAllocator::new(pond, is_shared),
            is_shared,
            stays_open,
        });
        let party =
            party.map_err(|error| Failure { block: jobs[0].name.clone(), error: Box::new(error.into()) })?;
        let jobs = in_order_of_flow(jobs, connections);
        let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
        let place_of = |name: &String| names.iter().position(|known| known == name);
        let mut tasks = Vec::new();
        for Job { name, block_type, params } in jobs {
            let stop = StopRequest::default();
            match Runner::new(block_type, pond, &name, params, &party, stop.clone()) {
                Ok(runner) => {
                    let senders = connections.iter().filter(|(_, to)| *to == name);
                    let senders = senders.filter_map(|(from, _)| place_of(from)).collect();
                    let place = Mutex::new(Place::Ready(Box::new(runner)));
                    tasks.push(Task { name, place, stop, senders });
                }
                Err(error) => {
                    leave_open(&tasks);
                    return Err(Failure { block: name, error: Box::new(error) });
                }
            }
        }
        Ok(Self {
            left: AtomicUsize::new(tasks.len()),
            tasks,
            waiter: party.waiter,
            leader: Mutex::new(()),
            given_up: AtomicBool::new(false),
            failure: Mutex::new(None),
            draining: AtomicBool::new(false),
            was_stopped: AtomicBool::new(false),
            was_left_open: AtomicBool::new(false),
        })
    }

    /// Runs all blocks to their ends, on `threads` threads of which the calling one is the first. `has_ended` is told of each block
    /// that has, from any thread.
    ///
    /// # Blocking
    /// Until every block is done or stopped, or one fails.
    ///
    /// # Errors
    /// The first failure. The streams of the blocks that had not ended are open: [`leave_open`](Scheduler::leave_open) keeps
    /// them so, dropping the scheduler ends them.
    pub(crate) fn run(&self, threads: usize, has_ended: &(dyn Fn(&str) + Sync)) -> Result<Ending, Failure> {
        let started = std::thread::scope(|scope| {
            for thread in 1..threads.clamp(1, self.tasks.len().max(1)) {
                let walk = move || self.walk(has_ended);
                let started =
                    std::thread::Builder::new().name(format!("worker-{thread}")).spawn_scoped(scope, walk);
                if let Err(error) = started {
                    self.give_up();
                    return Err(error);
                }
            }
            self.walk(has_ended);
            Ok(())
        });
        if let Err(error) = started.context(|| "start a thread") {
            let block = self.tasks.first().map(|task| task.name.clone()).unwrap_or_default();
            return Err(Failure { block, error: Box::new(error) });
        }
        match lock(&self.failure).take() {
            Some(failure) => Err(failure),
            None if self.was_stopped.load(Ordering::Relaxed) => Ok(Ending::Stopped),
            None if self.was_left_open.load(Ordering::Relaxed) => Ok(Ending::LeftOpen),
            None => Ok(Ending::Done),
        }
    }

    /// Lets the ports of all blocks go without ending their streams, as if the process had been killed: receivers wait for the
    /// restart.
    pub(crate) fn leave_open(&self) {
        leave_open(&self.tasks);
    }

    /// Asks one block to stop; `false` if it is not here.
    pub(crate) fn ask(&self, block: &str, urgency: Urgency) -> bool {
        let found = self.tasks.iter().find(|task| task.name == block);
        if let Some(task) = found {
            task.stop.raise_to(urgency);
            self.waiter.ring();
        }
        found.is_some()
    }

    /// Asks every block to stop.
    pub(crate) fn ask_all(&self, urgency: Urgency) {
        self.tasks.iter().for_each(|task| task.stop.raise_to(urgency));
        self.waiter.ring();
    }

    /// Asks every block to take what is queued and to end: each when those of this process that send to it have ended, so that
    /// nothing is left between them.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.drain_unfed();
    }

    fn drain_unfed(&self) {
        let has_ended = |task: &Task| matches!(*lock(&task.place), Place::Ended);
        let left: Vec<&Task> = self.tasks.iter().filter(|task| !has_ended(task)).collect();
        let mut links = Vec::new();
        let mut nobody = true;
        for task in &left {
            let senders = task.senders.iter().map(|&index| &self.tasks[index]);
            let fed_by: Vec<&Task> = senders.filter(|sender| !has_ended(sender)).collect();
            if fed_by.is_empty() {
                task.stop.raise_to(Urgency::Drain);
                nobody = false;
            }
            links.extend(fed_by.into_iter().map(|sender| (sender.name.as_str(), task.name.as_str())));
        }
        // Among blocks that send to each other there is no first one; any of them has to do, but none that they only feed.
        if nobody && let Some(one) = left.iter().find(|task| is_in_cycle(&links, &task.name)) {
            one.stop.raise_to(Urgency::Drain);
        }
        self.waiter.ring();
    }

    /// What each thread does.
    fn walk(&self, has_ended: &(dyn Fn(&str) + Sync)) {
        let mut at = 0;
        let mut parked_until_a_moment = false;
        while !self.is_over() {
            let Some((index, mut runner)) = self.next_ready(at) else {
                self.sleep(std::mem::take(&mut parked_until_a_moment));
                continue;
            };
            at = index + 1;
            let task = &self.tasks[index];
            match runner.visit() {
                Ok(Visit::MayGoOn) => *lock(&task.place) = Place::Ready(runner),
                Ok(Visit::Waits(parked)) => {
                    parked_until_a_moment |= parked.until.is_some();
                    *lock(&task.place) = Place::Parked(runner, parked);
                }
                Ok(Visit::Ended(ending)) => {
                    if ending == Ending::LeftOpen {
                        // As if it had been killed: receivers wait for its next start.
                        std::mem::forget(runner);
                        self.was_left_open.store(true, Ordering::Relaxed);
                    } else {
                        drop(runner); // its streams end with its ports
                    }
                    *lock(&task.place) = Place::Ended;
                    self.was_stopped.fetch_or(ending == Ending::Stopped, Ordering::Relaxed);
                    has_ended(&task.name);
                    if self.draining.load(Ordering::SeqCst) {
                        self.drain_unfed();
                    }
                    if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.waiter.ring();
                    }
                }
                Err(error) => {
                    *lock(&task.place) = Place::Failed(runner);
                    lock(&self.failure)
                        .get_or_insert(Failure { block: task.name.clone(), error: Box::new(error) });
                    self.give_up();
                }
            }
        }
    }

    /// Takes the next ready block out of the ring, if there is one.
    fn next_ready(&self, from: usize) -> Option<(usize, Box<Runner>)> {
        let mut now = None;
        let mut is_over = |moment: Instant| moment <= *now.get_or_insert_with(Instant::now);
        for step in 0..self.tasks.len() {
            let index = (from + step) % self.tasks.len();
            let mut place = lock(&self.tasks[index].place);
            let is_ready = match &mut *place {
                Place::Ready(_) => true,
                Place::Parked(runner, parked) => runner.is_ready(parked, &mut is_over),
                Place::Runs | Place::Failed(_) | Place::Ended => false,
            };
            if is_ready
                && let Place::Ready(runner) | Place::Parked(runner, _) =
                    std::mem::replace(&mut *place, Place::Runs)
            {
                return Some((index, runner));
            }
        }
        None
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self, parked_until_a_moment: bool) {
        let _leader = match self.leader.try_lock() {
            Ok(leader) => leader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                if parked_until_a_moment {
                    self.waiter.ring();
                }
                lock(&self.leader)
            }
        };
        let deadline = self.moments().min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.waiter.wait(timeout, || {
            let is_earlier = |moment: Instant| deadline.is_none_or(|deadline| moment < deadline);
            self.is_over()
                || self.tasks.iter().any(|task| match &mut *lock(&task.place) {
                    Place::Ready(_) => true,
                    Place::Parked(runner, parked) => runner.is_ready(parked, is_earlier),
                    Place::Runs | Place::Failed(_) | Place::Ended => false,
                })
        });
    }

    /// The moments that blocks wait for.
    fn moments(&self) -> impl Iterator<Item = Instant> {
        self.tasks.iter().filter_map(|task| match &*lock(&task.place) {
            Place::Parked(_, parked) => parked.until,
            _ => None,
        })
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0 || self.given_up.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.waiter.ring();
    }
}

fn leave_open(tasks: &[Task]) {
    for task in tasks {
        std::mem::forget(std::mem::replace(&mut *lock(&task.place), Place::Ended));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Blocks' panics are caught while no lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Senders before their receivers, as far as there are no loops; otherwise in the order given.
fn in_order_of_flow<'a>(mut jobs: Vec<Job<'a>>, connections: &[(String, String)]) -> Vec<Job<'a>> {
    let mut ordered: Vec<Job<'a>> = Vec::with_capacity(jobs.len());
    while !jobs.is_empty() {
        let is_fed_by_others = |job: &Job<'_>| {
            let mut senders = connections.iter().filter(|(_, to)| *to == job.name).map(|(from, _)| from);
            senders.any(|from| *from != job.name && jobs.iter().any(|other| other.name == *from))
        };
        // After a block, first the receiver that it leads to: chains stay together.
        let last = ordered.last().map(|job| job.name.clone());
        let follows = |job: &Job<'_>| {
            last.as_ref()
                .is_some_and(|last| connections.iter().any(|(from, to)| from == last && *to == job.name))
        };
        let free: Vec<usize> = (0..jobs.len()).filter(|&index| !is_fed_by_others(&jobs[index])).collect();
        let next = free.iter().copied().find(|&index| follows(&jobs[index]));
        let next = next.or(free.first().copied()).unwrap_or(0);
        ordered.push(jobs.remove(next));
    }
    ordered
}
