//! What is done to whom, and when: everything that a seed decides.

use std::time::Duration;

use super::graph::{Graph, Process, Role, SUPERVISOR};
use super::random::Random;

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to all of them at once; each is started again after its time.
    Kill(Vec<(usize, Duration)>),
    /// SIGSTOP, and SIGCONT after this time.
    Stop(usize, Duration),
    /// The connection that comes and goes is removed, and made again after this time.
    Disconnect(Duration),
}

/// When to do it, from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub action: Action,
}

/// Between two kills of one process: it is given so long to start, so that most kills meet one that works.
const fn shortest_life(process: &Process) -> Duration {
    // An interpreter takes its time.
    let python = matches!(process.role, Role::Forwarder { python: true, .. });
    Duration::from_millis(if python { 1000 } else { 40 })
}

/// The whole plan, in the order of time.
pub fn plan(graph: &Graph, seconds: u64, kills_per_second: u32, random: &mut Random) -> Vec<Event> {
    let victims: Vec<usize> = (0..graph.processes.len()).filter(|&i| !graph.processes[i].bystander).collect();
    let ms = Duration::from_millis;
    let mut events = Vec::new();
    let mut down_until = vec![Duration::ZERO; graph.processes.len()];
    for second in 0..seconds {
        let start = Duration::from_secs(second);
        let moment = |random: &mut Random| start + Duration::from_micros(random.between(0, 999_999));
        let mut times = Vec::new();
        let mut left = u64::from(kills_per_second);
        while left > 0 {
            // Now and then several at once.
            let together = if random.one_in(8) { random.between(2, 4).min(left) } else { 1 };
            times.push((moment(random), together));
            left -= together;
        }
        times.sort_unstable();
        for (at, together) in times {
            let mut killed = Vec::new();
            for _ in 0..together {
                let up: Vec<usize> = victims
                    .iter()
                    .copied()
                    .filter(|&v| down_until[v] <= at && !killed.iter().any(|(k, _)| *k == v))
                    .collect();
                let Some(last) = up.len().checked_sub(1) else { break };
                let victim = up[random.between(0, last as u64) as usize];
                let restart = Duration::from_micros(random.between(0, 60_000));
                down_until[victim] = at + restart + shortest_life(&graph.processes[victim]);
                killed.push((victim, restart));
            }
            events.push(Event { at, action: Action::Kill(killed) });
        }
        if random.one_in(2) {
            let victim = victims[random.between(0, victims.len() as u64 - 1) as usize];
            // Longer than a heartbeat may be old: the others then look past it.
            let time = if random.one_in(10) { ms(3500) } else { ms(random.between(10, 300)) };
            events.push(Event { at: moment(random), action: Action::Stop(victim, time) });
        }
        for _ in 0..random.between(0, 2) {
            let away = ms(random.between(0, 200));
            events.push(Event { at: moment(random), action: Action::Disconnect(away) });
        }
    }
    debug_assert_eq!(graph.processes[SUPERVISOR].name, "supervisor");
    events.sort_by_key(|event| event.at);
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_plan_with_as_many_kills_as_asked_for_and_no_bystander_among_the_victims()
    {
        for seed in 0..20 {
            let make = || {
                let mut random = Random::new(seed);
                let graph = Graph::new(&mut random, true);
                let events = plan(&graph, 10, 20, &mut random);
                (graph, events)
            };
            let (graph, events) = make();
            assert_eq!((&graph, &events), (&make().0, &make().1));
            let mut kills = 0;
            for event in &events {
                match &event.action {
                    Action::Kill(victims) => {
                        kills += victims.len();
                        assert!(victims.iter().all(|(v, _)| !graph.processes[*v].bystander));
                    }
                    Action::Stop(victim, _) => assert!(!graph.processes[*victim].bystander),
                    Action::Disconnect(_) => {}
                }
            }
            assert_eq!(kills, 200);
            assert!(events.is_sorted_by_key(|e| e.at));
        }
    }
}
