//! One process's membership: its mailbox, and the thread that serves it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_shm::{ForkMark, MailClass, Mailbox, MailboxAddress, Pond, PostError, Received, Waiter, Woken};

use super::calls::Calls;
use super::directory::{Directory, answers_label, hears_label};
use super::queue::Queue;
use super::topic::Pattern;
use super::wire::{self, Kind};
use super::{BusError, Json, Message, Request, deadline, unsent};

/// What the handles hold. Dropping it ends the thread and closes the mailbox.
pub(super) struct Member {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread sees as well.
struct Shared {
    pond: Pond,
    fork: ForkMark,
    address: MailboxAddress,
    waiter: Waiter,
    /// `None`: the thread has ended.
    mailbox: Mutex<Option<Mailbox>>,
    ending: AtomicBool,
    directory: Mutex<Directory>,
    calls: Calls,
    here: Mutex<Here>,
}

/// Who hears and answers in this process.
#[derive(Default)]
struct Here {
    subscriptions: Vec<Arc<Queue<Message>>>,
    services: Vec<Arc<Queue<Request>>>,
}

/// Where the answer to a request goes.
pub(super) struct Answer {
    shared: Arc<Shared>,
    caller: MailboxAddress,
    correlation: u64,
}

impl Answer {
    pub(super) fn send(self, answer: Result<Json, String>) {
        let mail = wire::encode_answer(self.correlation, &answer);
        let post = |mail| self.shared.pond.post(self.caller, mail, MailClass::Reply, Duration::ZERO);
        // A caller that is gone or full is counted by the pond; too large an answer becomes one that says so.
        if let Err(PostError::TooLarge { found }) = post(&mail) {
            let why = format!("the answer has {found} bytes, too many for a message");
            let _ = post(&wire::encode_answer(self.correlation, &Err(why)));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    pub(super) fn start(pond: &Pond) -> Result<Self, BusError> {
        let no_mark =
            |source| millpond_shm::Error::System { action: "tell forked children apart".to_owned(), source };
        let mailbox = pond.mailbox("bus")?;
        let shared = Arc::new(Shared {
            pond: pond.clone(),
            fork: ForkMark::here().map_err(no_mark)?,
            address: mailbox.address(),
            waiter: mailbox.waiter().clone(),
            mailbox: Mutex::new(Some(mailbox)),
            ending: AtomicBool::new(false),
            directory: Mutex::new(Directory::default()),
            calls: Calls::default(),
            here: Mutex::new(Here::default()),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || serving.serve());
        let no_thread =
            |source| millpond_shm::Error::System { action: "start the bus's thread".to_owned(), source };
        Ok(Self { shared, thread: Some(thread.map_err(no_thread)?) })
    }

    pub(super) fn pond(&self) -> &Pond {
        &self.shared.pond
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        let mut directory = lock(&self.shared.directory);
        directory.refresh(&self.shared.pond);
        directory
    }

    pub(super) fn subscribers(&self, topic: &str) -> Vec<MailboxAddress> {
        self.directory().subscribers(topic)
    }

    pub(super) fn hear(&self, pattern: Pattern) -> Result<Arc<Queue<Message>>, BusError> {
        let label = hears_label(&pattern);
        let queue = Arc::new(Queue::new(pattern, None));
        lock(&self.shared.here).subscriptions.push(Arc::clone(&queue));
        self.add_label(&label).inspect_err(|_| self.forget_subscription(&queue))?;
        Ok(queue)
    }

    pub(super) fn answer(
        &self,
        pattern: Pattern,
        party: Option<Waiter>,
    ) -> Result<Arc<Queue<Request>>, BusError> {
        let label = answers_label(&pattern);
        let queue = Arc::new(Queue::new(pattern, party));
        lock(&self.shared.here).services.push(Arc::clone(&queue));
        self.add_label(&label).inspect_err(|_| self.forget_service(&queue))?;
        Ok(queue)
    }

    fn add_label(&self, label: &str) -> Result<(), BusError> {
        let mut mailbox = lock(&self.shared.mailbox);
        Ok(mailbox.as_mut().ok_or(BusError::Stopped)?.add_label(label)?)
    }

    fn remove_label(&self, label: &str) {
        if let Some(mailbox) = lock(&self.shared.mailbox).as_mut() {
            mailbox.remove_label(label);
        }
    }

    pub(super) fn forget_subscription(&self, queue: &Arc<Queue<Message>>) {
        // The thread may have had the locks, and keeps them for ever in a forked child.
        if self.shared.fork.is_forked() {
            return;
        }
        self.remove_label(&hears_label(&queue.pattern));
        lock(&self.shared.here).subscriptions.retain(|known| !Arc::ptr_eq(known, queue));
    }

    /// What waits there is refused.
    pub(super) fn forget_service(&self, queue: &Arc<Queue<Request>>) {
        if self.shared.fork.is_forked() {
            return;
        }
        self.remove_label(&answers_label(&queue.pattern));
        lock(&self.shared.here).services.retain(|known| !Arc::ptr_eq(known, queue));
        drop(queue.clear());
    }

    /// `begun` learns the number of the call, by which it can be [given up](Member::give_up).
    pub(super) fn call(
        &self,
        topic: &str,
        argument: &Json,
        timeout: Duration,
        begun: impl FnOnce(u64),
    ) -> Result<Json, BusError> {
        let deadline = deadline(timeout);
        let directory = self.directory();
        let Some((responder, pid)) = directory.responder(topic) else {
            let pond = self.pond().name().to_owned();
            return Err(BusError::Absent {
                pond,
                topic: topic.to_owned(),
                nearest: directory.nearest(topic),
            });
        };
        drop(directory);
        let (correlation, call) = self.shared.calls.begin(responder, pid, topic);
        begun(correlation);
        let mut mail = wire::encode(Kind::Request, topic, argument);
        (mail.correlation, mail.reply_to) = (correlation, Some(self.shared.address));
        let posted = self.pond().post(responder, &mail, MailClass::Ordinary, timeout);
        let answer = match posted {
            Ok(()) if self.shared.has_ended() => Some(Err(BusError::Stopped)),
            Ok(()) => call.wait(deadline),
            Err(PostError::Full { .. }) => {
                Some(Err(BusError::Full { topic: topic.to_owned(), pid, waited: timeout }))
            }
            Err(PostError::Gone) => Some(Err(BusError::Gone { topic: topic.to_owned(), pid })),
            Err(error) => Some(Err(unsent(topic, error))),
        };
        self.shared.calls.end(correlation);
        answer.unwrap_or_else(|| Err(BusError::TimedOut { topic: topic.to_owned(), pid, waited: timeout }))
    }

    /// Ends a call as if the pond were stopped; an answer that comes later finds nobody.
    pub(super) fn give_up(&self, call: u64) {
        self.shared.calls.answer(call, Err(BusError::Stopped));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.shared.fork.is_forked() {
            // The thread is not there to be joined, and what the C library had of it may by now be a thread of this process.
            std::mem::forget(self.thread.take());
            return;
        }
        // Relaxed: the flag carries no data, and the ring that follows orders it before the thread's next look.
        self.shared.ending.store(true, Ordering::Relaxed);
        self.shared.waiter.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Sleeps until something arrives, takes it, and so on until the last handle goes or everybody is asked to stop.
    fn serve(self: Arc<Self>) {
        loop {
            let woken = self.waiter.wait(None, || {
                self.ending.load(Ordering::Relaxed)
                    || lock(&self.mailbox).as_ref().is_none_or(Mailbox::has_mail)
                    || self.calls.any_gone(&self.pond)
            });
            if woken == Woken::Stopped || self.ending.load(Ordering::Relaxed) {
                break;
            }
            // The order matters: an answer that a responder gave before it died is taken before the call is given up.
            let is_gone = |address| !self.pond.is_mailbox_open(address);
            let any_gone = self.calls.any_gone(&self.pond);
            while let Some(received) = self.take() {
                self.dispatch(received);
            }
            if any_gone {
                self.calls.fail_gone(is_gone);
            }
        }
        // Closing the mailbox tells those who wait for answers from here.
        drop(lock(&self.mailbox).take());
        self.calls.stop();
        let here = std::mem::take(&mut *lock(&self.here));
        here.subscriptions.iter().for_each(|queue| queue.close());
        here.services.iter().for_each(|queue| queue.close());
    }

    /// The next message. The mailbox is not locked while it is dispatched.
    fn take(&self) -> Option<Received> {
        lock(&self.mailbox).as_mut()?.try_receive()
    }

    fn has_ended(&self) -> bool {
        lock(&self.mailbox).is_none()
    }

    fn dispatch(self: &Arc<Self>, received: Received) {
        let mail = &received.mail;
        let taken = match Kind::of(mail) {
            Some(Kind::Event) => wire::decode(mail).is_some_and(|(topic, value)| {
                self.hand_out(Message { topic, value, sender_pid: received.sender_pid })
            }),
            Some(Kind::Request) => {
                wire::decode(mail).zip(mail.reply_to).is_some_and(|((topic, argument), caller)| {
                    let answer = Answer { shared: Arc::clone(self), caller, correlation: mail.correlation };
                    self.ask(Request { topic, argument, answer: Some(answer) })
                })
            }
            Some(kind @ (Kind::Reply | Kind::Refusal)) => {
                self.calls.answer(mail.correlation, wire::decode_answer(kind, mail))
            }
            None => false,
        };
        if !taken && let Some(mailbox) = lock(&self.mailbox).as_ref() {
            mailbox.count_overflowed(1);
        }
    }

    /// `false`: some subscriber had no room, or it is for nobody any more.
    fn hand_out(&self, message: Message) -> bool {
        let here = lock(&self.here);
        let mut hearers: Vec<_> =
            here.subscriptions.iter().filter(|queue| queue.pattern.matches(&message.topic)).collect();
        let Some(last) = hearers.pop() else { return false };
        let mut all = true;
        for queue in hearers {
            all &= queue.push(message.clone()).is_ok();
        }
        last.push(message).is_ok() && all
    }

    /// `false`: it was refused, with a reason, because nobody here answers it (any more) or too many wait.
    fn ask(&self, request: Request) -> bool {
        let here = lock(&self.here);
        let service = here.services.iter().find(|queue| queue.pattern.matches(&request.topic)).cloned();
        drop(here);
        let (refused, why) = match service {
            None => (request, "nobody here answers it any more"),
            Some(service) => match service.push(request) {
                Ok(()) => return true,
                Err(request) => (request, "too many requests wait for an answer"),
            },
        };
        refused.reply(Err(why.to_owned()));
        false
    }
}
