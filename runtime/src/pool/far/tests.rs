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
    async fn is_sent_away(self) {
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

fn job(id: u64) -> Request {
    list(id, 1, Packet::default())
}

#[test]
fn lists_are_looked_at() {
    let list = [1, 0, 0, 0, 7, 0, 0, 0, 0];
    assert!(is_list(&list, 2) && !is_list(&list, 1) && !is_list(&list, 3));
    assert!(!is_list(&[9, 0, 0, 0, 7], 1) && !is_list(&[255; 8], 1) && !is_list(&[1, 0], 1));
}

#[tokio::test]
async fn an_id_that_is_there_already() {
    let mut child = Child::new();
    child.ask(job(7)).await;
    child.ask(job(8)).await;
    child.has_jobs(2).await;
    child.ask(job(7)).await;
    child.is_sent_away().await;
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
