//! What a pool does about a worker, which these tests play by hand.

use std::sync::Arc;

use super::*;
use crate::pipe::{Receiver, simplex_with};
use crate::pool::builder::Builder;
use crate::pool::job::{Post, Replies, Waits};
use crate::pool::processes::letter::Mark;
use crate::pool::which::Function;
use crate::process::Process;

#[procession_macros::process(crate = crate)]
async fn lives() {
    std::future::pending().await
}

/// A worker, of which there is a process that does nothing, and its side of the board.
struct Worker {
    member: Member,
    board: Board,
    results: Writer,
    process: Process<()>,
    _orders: Receiver<Order>,
}

impl Worker {
    async fn new() -> Self {
        let process = lives().spawn().await.unwrap();
        let board = Board::new().unwrap();
        let (link, orders) = simplex_with(Limits::DEFAULT).unwrap();
        let builder = Builder::new().concurrency(4);
        let beginning = Beginning { start: Duration::ZERO, init: Duration::ZERO };
        let member = Member::new(1, process.signaler(), board.clone(), link, builder.settings(), beginning);
        Self { member, board, results: Writer::default(), process, _orders: orders }
    }

    /// Gives it a job of one item.
    fn place(&mut self) -> (Arc<dyn Replies>, u16) {
        let replies: Arc<dyn Replies> = Arc::<Waits>::default();
        let which = Which::Ours(lives().into_plan().entry);
        let job = Job::new(which, Packet::default(), Limits::DEFAULT, Arc::clone(&replies));
        assert!(self.member.place(job).is_none());
        (replies, self.member.order.back().unwrap().0)
    }

    /// It starts a slot's first job.
    fn starts(&mut self, slot: u16) {
        self.board.begin(slot.into(), 1, false);
        assert!(self.board.start(slot.into(), 1));
    }

    /// It has done a slot's job.
    fn returns(&mut self, slot: u16) {
        assert!(self.results.push(self.board.results(), Mark::Returned.to_words(slot, 0, 1), &[]));
    }

    fn check(&mut self, now: Instant) -> Option<Instant> {
        self.member.check_times(now, &mut Post::default(), &mut Vec::new())
    }
}

/// Each task that nobody waits for has its own time to end.
#[tokio::test]
async fn a_moment_of_grace_for_each() {
    let mut worker = Worker::new().await;
    let (first, slot) = worker.place();
    let (second, other) = worker.place();
    worker.starts(slot);
    worker.starts(other);
    worker.member.give_up(&first, None);
    let between = Instant::now() + Duration::from_millis(1);
    while Instant::now() <= between {
        std::thread::yield_now();
    }
    worker.member.give_up(&second, None);
    assert!(worker.check(between).is_some_and(|next| next <= between + GRACE));
    worker.returns(slot);
    // The first was done in time, and the second has some left.
    assert!(worker.check(between + GRACE).is_some_and(|next| next > between + GRACE));
    assert!(worker.member.is_staying());
    assert_eq!(worker.check(between + 2 * GRACE), None);
    let doomed = worker.member.doomed.as_ref().map(|(slot, _)| *slot);
    assert_eq!(doomed, Some(Some(other)), "the second is late");
    drop(worker.process.kill().await);
}

/// A worker that knows very many functions is replaced.
#[tokio::test]
async fn functions_are_remembered_by_so_many() {
    let mut worker = Worker::new().await;
    for n in 0..KNOWN {
        assert!(worker.member.is_staying(), "{n}");
        let which = Which::Told(Arc::new(Function::named(n.to_string())));
        assert_eq!(worker.member.function(&which).unwrap(), n as u32);
        assert_eq!(worker.member.function(&which).unwrap(), n as u32);
    }
    assert!(!worker.member.is_staying());
    drop(worker.process.kill().await);
}
