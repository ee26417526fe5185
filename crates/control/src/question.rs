//! Questions to nodes: asked by a request that waits, answered by the node, kept in memory alone.
//!
//! ```text
//! ask --> waiting --next--> with the node --answer--> told
//!           |                    |
//!           +--------------------+--> forgotten: nobody waits any more
//! ```
//!
//! A question is no task: it changes nothing, so it needs no lease and no record, and a restart
//! loses nothing. A node is asked a bounded number of things at a time; who comes then, or waits for
//! longer than [`PATIENCE`], is told nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillpoint_model::id::NodeId;
use stillpoint_model::question::{Asked, Question, Said};
use tokio::sync::{Notify, oneshot};

/// How long somebody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to one node that are open at a time.
const MAX_OPEN: usize = 16;

/// The questions of a control plane.
#[derive(Default)]
pub(crate) struct Questions {
    open: Mutex<Open>,
    bell: Notify,
}

#[derive(Default)]
struct Open {
    last: u64,
    waiting: HashMap<NodeId, VecDeque<Asked>>,
    askers: HashMap<(NodeId, u64), oneshot::Sender<Said>>,
}

/// An open question. Dropping it forgets the question: its asker has gone.
struct Place<'a> {
    questions: &'a Questions,
    key: (NodeId, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let (node_id, number) = self.key;
        let mut open = self.questions.lock();
        open.askers.remove(&self.key);
        if let Some(waiting) = open.waiting.get_mut(&node_id) {
            waiting.retain(|asked| asked.number != number);
        }
    }
}

impl Questions {
    /// Asks a node, and waits. None when it does not answer in time, or is asked too much already.
    pub(crate) async fn ask(&self, node_id: NodeId, question: Question) -> Option<Said> {
        self.ask_for(PATIENCE, node_id, question).await
    }

    async fn ask_for(
        &self,
        patience: Duration,
        node_id: NodeId,
        question: Question,
    ) -> Option<Said> {
        let (place, told) = self.put(node_id, question)?;
        self.bell.notify_waiters();
        let said = tokio::time::timeout(patience, told).await;
        drop(place);
        said.ok()?.ok()
    }

    fn put(
        &self,
        node_id: NodeId,
        question: Question,
    ) -> Option<(Place<'_>, oneshot::Receiver<Said>)> {
        let mut open = self.lock();
        if open.askers.keys().filter(|(id, _)| *id == node_id).count() >= MAX_OPEN {
            return None;
        }
        let (teller, told) = oneshot::channel();
        open.last += 1;
        let number = open.last;
        let key = (node_id, number);
        open.askers.insert(key, teller);
        let waiting = open.waiting.entry(node_id).or_default();
        waiting.push_back(Asked { number, question });
        let place = Place {
            questions: self,
            key,
        };
        Some((place, told))
    }

    /// The next question for a node, as soon as there is one.
    pub(crate) async fn next(&self, node_id: NodeId) -> Asked {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            // From here on no ring is missed, also while the queue is looked at.
            rung.as_mut().enable();
            let next = {
                let mut open = self.lock();
                open.waiting.get_mut(&node_id).and_then(VecDeque::pop_front)
            };
            match next {
                Some(asked) => return asked,
                None => rung.await,
            }
        }
    }

    /// Hears what a node says. Nobody may be waiting for it any more.
    pub(crate) fn answer(&self, node_id: NodeId, number: u64, said: Said) {
        let asker = self.lock().askers.remove(&(node_id, number));
        if let Some(asker) = asker {
            let _gone = asker.send(said);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stillpoint_env::SimEnv;
    use stillpoint_model::ByteCount;
    use stillpoint_model::id::InstanceId;

    use super::*;

    fn question(env: &SimEnv) -> (NodeId, Question) {
        let question = Question::Console {
            instance_id: InstanceId::generate(env),
            max: ByteCount::new(10),
        };
        (NodeId::generate(env), question)
    }

    fn said(text: &str) -> Said {
        Said::Console { bytes: text.into() }
    }

    #[tokio::test]
    async fn who_asks_hears_the_node_that_was_asked() {
        let (env, questions) = (SimEnv::new(1), Questions::default());
        let (node, asked) = question(&env);
        let stranger = NodeId::generate(&env);
        let answers = async {
            let next = questions.next(node).await;
            assert_eq!(next.question, asked);
            questions.answer(stranger, next.number, said("a lie"));
            questions.answer(node, next.number, said("up"));
        };
        let (heard, ()) = tokio::join!(questions.ask(node, asked), answers);
        assert_eq!(heard, Some(said("up")));
        assert!(questions.lock().askers.is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_and_nothing_is_left() {
        let (env, questions) = (SimEnv::new(1), Questions::default());
        let (node, asked) = question(&env);
        assert_eq!(questions.ask_for(Duration::ZERO, node, asked).await, None);
        let open = questions.lock();
        assert!(open.askers.is_empty() && open.waiting[&node].is_empty());
    }

    #[tokio::test]
    async fn a_node_is_asked_so_much_at_a_time() {
        let (env, questions) = (SimEnv::new(1), Questions::default());
        let (node, asked) = question(&env);
        let held: Vec<_> = (0..MAX_OPEN)
            .map(|_| questions.put(node, asked).unwrap())
            .collect();
        assert!(questions.put(node, asked).is_none());
        drop(held);
        assert!(questions.put(node, asked).is_some());
    }
}
