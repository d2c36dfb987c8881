//! What a process may ask of another one's pool, and what it may not: these tests write the requests by hand.

use std::panic::Location;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::pipe::simplex_with;

/// A pool that keeps the jobs that it is given, and does none of them by itself.
#[derive(Debug, Default)]
struct Keeps(Mutex<Vec<Job>>);

#[async_trait]
impl Backend for Keeps {
    fn submit(&self, jobs: Vec<Job>) {
        self.0.lock().unwrap().extend(jobs);
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        self.0.lock().unwrap().retain(|job| !job.is_of(whose, key));
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
    let is_done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (pool, counter) = (Arc::clone(&child.pool), Arc::clone(&is_done));
    let works = tokio::spawn(async move {
        loop {
            let jobs = std::mem::take(&mut *pool.0.lock().unwrap());
            counter.fetch_add(jobs.len(), Relaxed);
            let mut post = Post::default();
            for job in &jobs {
                post.add(&job.replies, job.outcome(0, None, Ok(packet(vec![0; 1000])), 0));
            }
            post.deliver();
            tokio::task::yield_now().await;
        }
    });
    let all = async {
        for id in 0..2 * MOST as u64 {
            child.requests.send(job(id)).await.unwrap();
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
