//! Who hears and who answers what, as the mailboxes' labels say; read anew only when one of them has changed.

use millpond_shm::{MailboxAddress, Pond};

use super::topic::Pattern;
use crate::nearest::nearest;

const HEARS: &str = "hears ";
const ANSWERS: &str = "answers ";

pub(super) fn hears_label(pattern: &Pattern) -> String {
    format!("{HEARS}{pattern}")
}

pub(super) fn answers_label(pattern: &Pattern) -> String {
    format!("{ANSWERS}{pattern}")
}

#[derive(Default)]
pub(super) struct Directory {
    epoch: Option<u32>,
    members: Vec<Entry>,
}

struct Entry {
    address: MailboxAddress,
    pid: u32,
    hears: Vec<Pattern>,
    answers: Vec<Pattern>,
}

impl Directory {
    pub(super) fn refresh(&mut self, pond: &Pond) {
        // Before reading: what changes meanwhile is read next time.
        let epoch = pond.mailbox_epoch();
        if self.epoch == Some(epoch) {
            return;
        }
        let entry = |found: millpond_shm::MailboxEntry| {
            let patterns = |prefix: &str| {
                let texts = found.labels.iter().filter_map(|label| label.strip_prefix(prefix));
                texts.filter_map(|text| Pattern::new(text).ok()).collect()
            };
            Entry {
                address: found.address,
                pid: found.pid,
                hears: patterns(HEARS),
                answers: patterns(ANSWERS),
            }
        };
        self.members = pond.mailboxes().into_iter().map(entry).collect();
        self.epoch = Some(epoch);
    }

    pub(super) fn subscribers(&self, topic: &str) -> Vec<MailboxAddress> {
        let hears = |member: &&Entry| member.hears.iter().any(|pattern| pattern.matches(topic));
        self.members.iter().filter(hears).map(|member| member.address).collect()
    }

    /// Address and pid of who answers the topic.
    pub(super) fn responder(&self, topic: &str) -> Option<(MailboxAddress, u32)> {
        let answers = |member: &&Entry| member.answers.iter().any(|pattern| pattern.matches(topic));
        self.members.iter().find(answers).map(|member| (member.address, member.pid))
    }

    /// The answered pattern most like a topic that nobody answers, by its first segment.
    pub(super) fn nearest(&self, topic: &str) -> Option<String> {
        let (first, rest) = topic.split_once('/').unwrap_or((topic, ""));
        let patterns = self.members.iter().flat_map(|member| &member.answers);
        let firsts = patterns.filter_map(|pattern| pattern.as_str().split('/').next());
        let found = nearest(first, firsts.filter(|first| !first.contains('*')))?;
        Some(if rest.is_empty() { found.to_owned() } else { format!("{found}/{rest}") })
    }
}
