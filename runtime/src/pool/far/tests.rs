//! What a process may ask of another one's pool, and what it may not: these tests write the requests by hand.

use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::serve::{FUNCTIONS, LONGEST, MOST_ITEMS, UNSENT, is_list};
use super::*;
use crate::Pool;
use crate::error::Stage;
use crate::pipe::simplex_with;
use crate::pool::draft::ENOUGH;
use crate::pool::job::Waits;
use crate::pool::which::Which;

/// A pool that keeps the jobs that it is given, and does none of them by itself.
#[derive(Debug, Default)]
struct Keeps(Mutex<Vec<Job>>, AtomicUsize);

#[async_trait]
impl Backend for Keeps {
    fn submit(&self, jobs: Vec<Job>) {
        self.0.lock().unwrap().extend(jobs);
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        self.0.lock().unwrap().retain(|job| !job.is_of(whose, key));
    }

    fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool) {
        self.1.fetch_add(1, Relaxed);
        let mut post = Post::default();
        let pending: Vec<_> = self.0.lock().unwrap().extract_if(.., |job| is_meant(job)).collect();
        pending.iter().for_each(|job| job.fail_all(&Cause::Cancelled, &mut post));
        post.deliver();
    }

    async fn close(&self, _: bool) -> Result<(), ProcessError> {
        Ok(())
    }

    fn start_kill(&self) {}

    async fn ended(&self) {}

    fn width(&self) -> usize {
        1
    }

    fn unfinished(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// A process that asks, and the pool that it asks.
struct Child {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    pool: Arc<Keeps>,
    served: JoinHandle<()>,
}

impl Child {
    fn new() -> Self {
        let (requests, asked) = simplex_with(Limits::DEFAULT).unwrap();
        let (tell, answers) = simplex_with(Limits::DEFAULT).unwrap();
        let pool = Arc::<Keeps>::default();
        let served = tokio::spawn(serve(Arc::clone(&pool) as _, asked, tell));
        Self { requests, answers, pool, served }
    }

    async fn ask(&mut self, request: Request) {
        in_time(self.requests.send(request)).await.unwrap();
        self.requests.write_now();
    }

    /// Waits until the pool has so many jobs.
    async fn has_jobs(&self, number: usize) {
        in_time(async {
            while self.pool.unfinished() != number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// It is not served any more, and nothing of its own is left.
    async fn ends_sent_away(self) {
        in_time(self.served).await.unwrap();
        assert_eq!(self.pool.unfinished(), 0);
    }
}

#[track_caller]
fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let done = timeout(Duration::from_secs(60), future).await;
        done.unwrap_or_else(|_elapsed| panic!("what {caller} waits for did not happen"))
    }
}

#[procession_macros::process(crate = crate)]
async fn nothing() {}

fn function() -> Function {
    Function::of(nothing().into_plan().entry).unwrap()
}

fn list(id: u64, count: u32, packet: Packet) -> Request {
    let (timeout, limits, retries) = (None, Limits::DEFAULT, 0);
    Request::Job { id, function: function(), count, timeout, limits, retries, packet: packet.into() }
}

/// A pool, and a handle of it that is elsewhere.
fn from_afar() -> (Arc<Keeps>, Far) {
    let (requests, asked) = simplex_with(Limits::DEFAULT).unwrap();
    let (tell, answers) = simplex_with(Limits::DEFAULT).unwrap();
    let pool = Arc::<Keeps>::default();
    tokio::spawn(serve(Arc::clone(&pool) as _, asked, tell));
    (pool, Far::new(Ends { requests, answers, width: 1 }).unwrap())
}

/// A process may say that its pool is as wide as it likes.
#[tokio::test]
async fn a_width_that_is_none() {
    for width in [0, 1 << 56, u64::MAX] {
        let (requests, _asked) = simplex_with(Limits::DEFAULT).unwrap();
        let (_tell, answers) = simplex_with(Limits::DEFAULT).unwrap();
        let far = Far::new(Ends { requests, answers, width }).unwrap();
        let pool = Pool::of(Arc::new(far), Limits::DEFAULT);
        let items = pool.map(|()| nothing(), [(); 3]);
        drop(timeout(Duration::from_millis(10), items).await);
        drop(timeout(Duration::from_millis(10), pool.map(|()| nothing(), [(); 3]).chunk(2)).await);
    }
}

/// A job of as many items as there are bytes in it, if it is a list, for somebody who calls it this.
fn asked(whose: &Arc<Waits>, key: u64, count: u32, packet: Packet) -> Job {
    let which = Which::Ours(nothing().into_plan().entry);
    Job { count, key, ..Job::new(which, packet, Limits::DEFAULT, Arc::clone(whose) as _) }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn packet(bytes: Vec<u8>) -> Packet {
    Packet { bytes: bytes.into(), ..Packet::default() }
}

fn job(id: u64) -> Request {
    list(id, 1, Packet::default())
}

#[test]
fn lists_are_looked_at() {
    let is_list = |bytes: &[u8], count| is_list(&packet(bytes.to_vec()), count);
    let list = [1, 0, 0, 0, 7, 0, 0, 0, 0];
    assert!(is_list(&list, 2) && !is_list(&list, 1) && !is_list(&list, 3) && !is_list(&[], 0));
    assert!(!is_list(&[9, 0, 0, 0, 7], 1) && !is_list(&[255; 8], 1) && !is_list(&[1, 0], 1));
    // As many as fill a list, and more.
    assert!(is_list(&[0; ENOUGH], MOST_ITEMS) && !is_list(&[0; ENOUGH + 4], MOST_ITEMS + 1));
}

#[tokio::test]
async fn an_id_that_is_there_already() {
    let mut child = Child::new();
    child.ask(job(7)).await;
    child.ask(job(8)).await;
    child.has_jobs(2).await;
    child.ask(job(7)).await;
    child.ends_sent_away().await;
}

/// Who does not read is asked for no more, however fast the pool is.
#[tokio::test]
async fn answers_that_nobody_reads() {
    let mut child = Child::new();
    let is_done = Arc::new(AtomicUsize::new(0));
    let (pool, counter) = (Arc::clone(&child.pool), Arc::clone(&is_done));
    let works = tokio::spawn(async move {
        loop {
            let jobs = std::mem::take(&mut *pool.0.lock().unwrap());
            let mut post = Post::default();
            for job in &jobs {
                post.add(&job.replies, job.outcome(0, None, Ok(packet(vec![0; 1000])), 0));
            }
            post.deliver();
            counter.fetch_add(jobs.len(), Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let all = async {
        for id in 0..2 * MOST as u64 {
            child.requests.send(job(id)).await.unwrap();
            child.requests.write_now();
            // Not more than it may.
            until(|| (id as usize) < MOST - 1 + is_done.load(Relaxed)).await;
        }
    };
    // It comes to an end where the answers fill their pipe, which takes fewer than half of them, and the rest its room.
    assert!(timeout(Duration::from_secs(5), all).await.is_err());
    assert!(is_done.load(Relaxed) < 2 * MOST, "{is_done:?}");
    works.abort();
    drop((child.requests, child.answers));
    in_time(child.served).await.unwrap();
}

/// The end of one that was given up is not the end of the next one by its name.
#[tokio::test]
async fn an_id_that_was_there_before() {
    let mut child = Child::new();
    child.ask(job(7)).await;
    child.has_jobs(1).await;
    let late = child.pool.0.lock().unwrap().remove(0);
    child.ask(Request::GiveUp { id: 7 }).await;
    child.ask(job(7)).await;
    child.has_jobs(1).await;
    let mut post = Post::default();
    late.fail_all(&Cause::Cancelled, &mut post);
    post.deliver();
    drop((child.requests, child.answers));
    in_time(child.served).await.unwrap();
    assert_eq!(child.pool.unfinished(), 0);
}

/// A process may ask for many jobs that are small, or for few that are large. Who asks for more has not counted.
#[tokio::test]
async fn what_is_asked_is_bounded_by_its_bytes() {
    // Items count, too: each of them may have an answer that is longer than itself.
    for (bytes, count) in [(0, 1), (1 << 20, 1), (ENOUGH, MOST_ITEMS)] {
        let mut child = Child::new();
        let packet = packet(vec![0; bytes]);
        let most = ROOM / weight(&packet, count);
        assert!(most * count as usize <= ROOM / ITEM);
        for id in 0..most as u64 {
            child.ask(list(id, count, packet.clone())).await;
        }
        child.has_jobs(most).await;
        // There is room for what takes the place of another.
        child.ask(Request::GiveUp { id: 3 }).await;
        child.ask(list(most as u64, count, packet.clone())).await;
        child.has_jobs(most).await;
        child.ask(list(most as u64 + 1, count, packet)).await;
        child.ends_sent_away().await;
    }
    // One that is larger than the room goes there, too.
    assert_eq!(weight(&packet(vec![0; ROOM + 1]), 1), ROOM);
}

/// What is cancelled is cancelled at once, however much waits behind it.
#[tokio::test]
async fn a_cancel_waits_for_no_room() {
    let (pool, far) = from_afar();
    let whose = Arc::<Waits>::default();
    let bytes = |key: u64| packet(key.to_le_bytes().to_vec());
    let most = ROOM / weight(&bytes(0), 1);
    far.submit((0..2 * most as u64).map(|key| asked(&whose, key, 1, bytes(key))).collect());
    until(|| pool.unfinished() == most).await;
    let has = |key: u64| pool.0.lock().unwrap().iter().any(|job| job.packet.bytes == bytes(key).bytes);
    assert!(has(7) && !has(most as u64));
    let replies: Arc<dyn Replies> = Arc::clone(&whose) as _;
    far.give_up(&replies, Some(7));
    until(|| !has(7) && has(most as u64)).await;
    // Of those that wait here nobody hears there.
    far.give_up(&replies, Some(most as u64 + 1));
    far.give_up(&replies, Some(8));
    until(|| !has(8) && has(most as u64 + 2)).await;
    assert!(!has(most as u64 + 1) && pool.unfinished() == most);
    far.cancel_pending(&|job| job.key < 100 || job.key > 200 + most as u64);
    until(|| whose.0.lock().unwrap().len() == 98 + most - 201).await;
    far.give_up(&replies, None);
    until(|| pool.unfinished() == 0).await;
    assert_eq!(far.unfinished(), 0);
    in_time(far.close(false)).await.unwrap();
}

/// To look for what is cancelled costs the pool something: it is for what is there, and once.
#[tokio::test]
async fn a_cancel_of_nothing_costs_nothing() {
    let mut child = Child::new();
    child.ask(job(7)).await;
    child.has_jobs(1).await;
    // It has started.
    let started = child.pool.0.lock().unwrap().remove(0);
    for ids in [vec![], vec![8, 9], vec![7, 7], vec![7], vec![8, 7]] {
        child.ask(Request::CancelPending { ids }).await;
    }
    child.ask(job(10)).await;
    child.has_jobs(1).await;
    assert_eq!(child.pool.1.load(Relaxed), 1);
    child.ask(Request::CancelPending { ids: vec![7, 10] }).await;
    child.has_jobs(0).await;
    drop((child.requests, child.answers, started));
    in_time(child.served).await.unwrap();
}

/// What waits behind one that there was no room for goes there when that one is cancelled.
#[tokio::test]
async fn a_cancel_makes_way() {
    let (pool, far) = from_afar();
    let whose = Arc::<Waits>::default();
    let heavy = asked(&whose, 1, 1, packet(vec![0; ROOM]));
    let light = |key| asked(&whose, key, 1, Packet::default());
    far.submit(vec![light(0), heavy, light(2), light(3)]);
    until(|| pool.unfinished() == 1).await;
    far.cancel_pending(&|job| job.key == 1);
    until(|| pool.unfinished() == 3).await;
    let outcomes: Vec<_> = whose.0.lock().unwrap().iter().map(|outcome| outcome.key).collect();
    assert_eq!(outcomes, [1]);
}

/// Results that nobody reads are so many bytes at most.
#[tokio::test]
async fn results_that_nobody_reads() {
    let mut child = Child::new();
    let (many, length) = (40, 15 << 20);
    for id in 0..many {
        child.ask(job(id)).await;
    }
    child.has_jobs(many as usize).await;
    let jobs = std::mem::take(&mut *child.pool.0.lock().unwrap());
    // They are the same bytes, each time.
    let result = packet(vec![0; length]);
    let mut post = Post::default();
    for job in &jobs[..UNSENT / length] {
        post.add(&job.replies, job.outcome(0, None, Ok(result.clone()), 0));
    }
    post.deliver();
    child.ask(job(many)).await;
    child.has_jobs(1).await;
    let mut post = Post::default();
    for job in &jobs[UNSENT / length..] {
        post.add(&job.replies, job.outcome(0, None, Ok(result.clone()), 0));
    }
    post.deliver();
    child.ends_sent_away().await;
}

/// What has come of an item has come, whatever becomes of the others.
#[tokio::test]
async fn the_rest_of_a_list_is_killed() {
    let (pool, far) = from_afar();
    let whose = Arc::<Waits>::default();
    far.submit(vec![asked(&whose, 10, 3, packet(vec![0; 12]))]);
    until(|| pool.unfinished() == 1).await;
    let list = pool.0.lock().unwrap().remove(0);
    let mut post = Post::default();
    // The second time it says nothing.
    (0..2).for_each(|_| post.add(&list.replies, list.outcome(1, None, Ok(Packet::default()), 0)));
    post.deliver();
    until(|| !whose.0.lock().unwrap().is_empty()).await;
    far.start_kill();
    in_time(far.ended()).await;
    let mut told: Vec<_> =
        whose.0.lock().unwrap().iter().map(|outcome| (outcome.key, outcome.result.is_ok())).collect();
    told.sort_unstable();
    assert_eq!(told, [(10, false), (11, true), (12, false)]);
}

/// A process may name so many functions and no more, by names that have an end.
#[tokio::test]
async fn names_of_functions() {
    let mut child = Child::new();
    let job = |id: u64, function: Function| {
        let (count, timeout, limits, retries) = (1, None, Limits::DEFAULT, 0);
        Request::Job { id, function, count, timeout, limits, retries, packet: Packet::default().into() }
    };
    let is_refused = |answer: Answer, id: u64| {
        assert_eq!((answer.id, answer.item), (id, 0));
        let cause = answer.result.unwrap_err();
        assert!(matches!(cause, Cause::Start { stage: Stage::Setup, .. }), "{cause}");
    };
    child.ask(job(0, Function::named("?".repeat(LONGEST + 1)))).await;
    is_refused(in_time(child.answers.recv()).await.unwrap().unwrap(), 0);
    for id in 1..=FUNCTIONS as u64 {
        child.ask(job(id, Function::named(id.to_string()))).await;
    }
    child.has_jobs(FUNCTIONS).await;
    child.ask(job(1 << 20, Function::named("one more".into()))).await;
    is_refused(in_time(child.answers.recv()).await.unwrap().unwrap(), 1 << 20);
    child.ask(job(1 << 21, Function::named("7".into()))).await;
    child.has_jobs(FUNCTIONS + 1).await;
    drop((child.requests, child.answers));
    in_time(child.served).await.unwrap();
}
