//! Workers that are hostile: they write what they like over the board and the link that they have with their pool, fall silent, or
//! leave in the middle of a word. Requirements 29, 31 and 34 for pools; what it costs is their own tasks.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use futures::future::{join4, try_join_all};
use futures::{FutureExt, StreamExt};
use procession::pipe::{Receiver, Sender};
use procession::pool::Task;
use procession::{Cause, Failure, Limits, Passed, Pool, ProcessError, process, simplex};
use procession_tests::{eventually_async, in_time, info, isolated, open_fds, patience, state};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// Where what stands on a board, in words; see `board.rs`.
mod at {
    pub(crate) const SLOTS: u64 = 1024;
    pub(crate) const RING: u64 = 8 << 10;
    pub(crate) const RESULTS_WRITTEN: u64 = 24;
    pub(crate) const POOL_SLEEPS: u64 = 40;
    pub(crate) const CLAIMS: u64 = 56;
    pub(crate) const ITEMS: u64 = CLAIMS + SLOTS;
    pub(crate) const RESULTS: u64 = CLAIMS + 3 * SLOTS + RING;
    pub(crate) const END: u64 = RESULTS + RING;
}

const OFFERED: u64 = 1;
const STARTED: u64 = 2;

const RETURNED: u64 = 1;
const MAILED: u64 = 2;
const STOPPED: u64 = 3;

/// The board of this worker, by hand.
struct Board(File);

impl Board {
    fn of_this_worker() -> Self {
        let fds = open_fds();
        let (number, _) = fds.iter().find(|(_, target)| target.contains("procession-pool")).unwrap();
        Self(File::options().read(true).write(true).open(format!("/proc/self/fd/{number}")).unwrap())
    }

    fn get(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, word * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, word: u64, value: u64) {
        self.0.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
    }

    /// The slots whose claim says this.
    fn slots(&self, claim: u64) -> Vec<u64> {
        (0..16).filter(|slot| self.get(at::CLAIMS + slot) & 7 == claim).collect()
    }

    /// Leaves a result, as a worker would.
    fn leave(&self, mark: u64, slot: u64, length: u64, elapsed: u64, body: &[u64]) {
        let written = self.get(at::RESULTS_WRITTEN);
        let words = [&[length | slot << 32 | mark << 48, elapsed], body].concat();
        for (n, word) in (written..).zip(&words) {
            self.set(at::RESULTS + n % at::RING, *word);
        }
        self.set(at::RESULTS_WRITTEN, written + words.len() as u64);
    }
}

/// This worker's ends of the link: where it hears its pool, and where it answers. They came one after the other, from the pool's process.
fn link(pool: u32) -> [OwnedFd; 2] {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let sockets =
        open_fds().into_iter().filter(|(number, target)| *number > 4 && target.starts_with("socket:"));
    let ours = sockets.filter_map(|(number, _)| {
        let number = i32::try_from(number).unwrap();
        let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).unwrap();
        let maker = socket_peercred(&socket).ok()?.pid;
        (maker.as_raw_nonzero().get().cast_unsigned() == pool).then_some(socket)
    });
    let mut ours: Vec<OwnedFd> = ours.collect();
    ours.truncate(2);
    ours.try_into().unwrap()
}

/// Writes to the pool, if it still listens.
fn write(socket: &OwnedFd, bytes: &[u8]) -> bool {
    sendmsg(socket, &[IoSlice::new(bytes)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL).is_ok()
}

/// The frame of a letter.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[0, 0, 1, 0], body].concat()
}

const LOOK: &[u8] = &[0];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What a worker does instead of its work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Trick {
    /// A record of this length, mark and slot, of which so many words are told.
    Record { mark: u64, slot: u64, length: u64, words: u64 },
    /// It has written so far.
    Written(u64),
    /// Its letter is this.
    Letter(Vec<u8>),
    /// It writes this on the way back of its orders.
    Back(Vec<u8>),
    /// It says on the link of all processes that it has returned.
    Returns,
    /// It sends no more letters.
    HangsUp,
    /// It says that a letter will come, and no more.
    Promises,
    /// It takes the memory out of the board, as far as that goes.
    Holes,
    /// It stops itself.
    Stops,
    /// It says that it has not started.
    Denies,
    /// It says each time that it is at another item.
    Babbles,
    /// It leaves.
    Leaves,
}

/// Does it, and then nothing, or leaves.
#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn hostile(tricks: Vec<Trick>, pool: u32) {
    let (board, [orders, answers]) = (Board::of_this_worker(), link(pool));
    let own = board.slots(STARTED)[0];
    for trick in tricks {
        match trick {
            Trick::Record { mark, slot, length, words } => {
                board.leave(mark, slot, length, 0, &vec![7; words as usize]);
                write(&answers, &frame(LOOK));
            }
            Trick::Written(number) => {
                board.set(at::RESULTS_WRITTEN, number);
                write(&answers, &frame(LOOK));
            }
            Trick::Letter(bytes) => drop(write(&answers, &bytes)),
            Trick::Back(bytes) => drop(write(&orders, &bytes)),
            Trick::Returns => {
                // The first bytes of a frame, its kind among them, and `Ok(())`.
                write(&process_link(), &[1, 0, 0, 0, 0, 0, 0, 0, 18, 1, 0, 0, 0, 0, 0, 0, 0]);
            }
            Trick::HangsUp => {
                for socket in [&orders, &answers] {
                    shutdown(socket, Shutdown::Both).unwrap();
                }
            }
            Trick::Promises => {
                board.leave(MAILED, own, 0, 0, &[]);
                write(&answers, &frame(LOOK));
            }
            Trick::Holes => {
                ftruncate(&board.0, 0).unwrap_err();
                ftruncate(&board.0, 1 << 30).unwrap_err();
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&board.0, hole, 0, at::END * 8).unwrap();
                write(&answers, &frame(LOOK));
            }
            Trick::Stops => kill_process(getpid(), Signal::STOP).unwrap(),
            Trick::Denies => {
                board.set(at::CLAIMS + own, board.get(at::CLAIMS + own) & !7 | OFFERED);
            }
            Trick::Babbles => {
                let began = Instant::now();
                for item in 1.. {
                    board.set(at::ITEMS + own, item);
                    board.set(at::ITEMS + at::SLOTS + own, u64::MAX);
                    assert!(began.elapsed() < 60 * SECOND, "nobody ends it");
                }
            }
            Trick::Leaves => std::process::exit(3),
        }
    }
    loop {
        std::thread::park();
    }
}

/// The link of this process to its parent, which is at a known place.
fn process_link() -> OwnedFd {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(this, 3, PidfdGetfdFlags::empty()).unwrap()
}

/// Writes random numbers over the board until it is ended, and some on the link.
#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn scribbles(seed: u64, pool: u32) {
    let (board, [orders, answers]) = (Board::of_this_worker(), link(pool));
    let (mut random, began) = (Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), Instant::now());
    let lives = seed % 4 != 3;
    let mut rounds = 0_u64;
    while began.elapsed() < 60 * SECOND && (lives || rounds < 2000) {
        rounds += 1;
        let number = random.next();
        // The words of the protocol more often than the records.
        let area = [at::CLAIMS, at::CLAIMS + 8, at::END, at::RESULTS + 64][number as usize % 4];
        let word = random.next() % area;
        let before = board.get(word);
        let value = match random.next() % 4 {
            0 => before ^ 1 << (random.next() % 64),
            1 => before.wrapping_add(random.next() % 5).wrapping_sub(2),
            2 => random.next() % 4,
            _ => random.next() >> (random.next() % 64),
        };
        board.set(word, value);
        match random.next() % 64 {
            0 | 1 => drop(write(&answers, &frame(LOOK))),
            2 => drop(write(&answers, &frame(&random.next().to_le_bytes()[..random.next() as usize % 8]))),
            3 if seed.is_multiple_of(8) => drop(write(&orders, &random.next().to_le_bytes())),
            4 if seed % 8 == 1 => drop(write(&answers, &random.next().to_le_bytes())),
            _ => {}
        }
    }
    if !lives {
        std::process::exit(7);
    }
}

/// Tells of jobs as done that it does not do, and of times that cannot be.
#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn forges(pool: u32, most: u32) {
    let (board, [_, answers]) = (Board::of_this_worker(), link(pool));
    let (mut told, mut seen) = (0, BTreeSet::new());
    while told < most {
        for slot in [board.slots(STARTED), board.slots(OFFERED)].concat() {
            let turn = board.get(at::CLAIMS + slot);
            if seen.insert((slot, turn)) {
                // Forty-two.
                board.leave(RETURNED, slot, 1, u64::MAX, &[42]);
                write(&answers, &frame(LOOK));
                told += 1;
            }
        }
    }
    std::process::exit(0)
}

/// Does a few of a list, and then writes nonsense; the pool sees all of that at once.
#[process]
fn nonsense_at(n: u64, when: u64, pool: u32) -> u64 {
    let board = Board::of_this_worker();
    if n < when {
        // Whoever does not sleep is not woken.
        board.set(at::POOL_SLEEPS, 0);
    }
    if n == when {
        board.leave(0, 0, 0, 0, &[]);
        write(&link(pool)[1], &frame(LOOK));
        loop {
            std::thread::park();
        }
    }
    n
}

/// Says that it has taken the handles of all jobs, which it has not, and dies.
#[process]
fn takes_all(pool: u32, mut goes: Receiver<()>) -> Result<(), Failure> {
    goes.blocking_recv()?;
    let [_, answers] = link(pool);
    for slot in 0..8 {
        for turn in 0..8 {
            write(&answers, &frame(&[2, slot, turn]));
        }
    }
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}

/// A job as a process asks for it that uses the pool of another one; see `far.rs`.
#[derive(Serialize)]
enum Request {
    Job {
        id: u64,
        function: (String, i64, String, String),
        count: u32,
        timeout: Option<Duration>,
        limits: Limits,
        retries: u32,
        arguments: (Vec<u8>, Vec<()>),
    },
}

/// Asks for functions that there are not, by the pipe to its parent's pool, and stays.
#[process]
async fn asks_for_nothing(
    pool: Pool,
    owner: u32,
    mut asked: Sender<u64>,
    mut told: Receiver<()>,
) -> Result<(), Failure> {
    let [requests, _] = link(owner);
    let strange =
        [(0, "square"), (8, ""), (16, "x"), (i64::MAX, "square"), (i64::MIN, "square"), (-1, "square")];
    for (id, (distance, name)) in (100..).zip(strange) {
        let function = (name.to_owned(), distance, String::new(), "fn(u64) -> u64".to_owned());
        let (count, limits, arguments) = (1, Limits::DEFAULT, (vec![5], Vec::new()));
        let job = Request::Job { id, function, count, timeout: None, limits, retries: 3, arguments };
        write(&requests, &frame(&postcard::to_stdvec(&job)?));
    }
    asked.send(pool.run(square(9)).await?).await?;
    told.recv().await?;
    Ok(())
}

/// Has the handle of its argument.
#[process]
fn takes(_held: Passed<OwnedFd>) -> u32 {
    std::process::id()
}

#[process]
async fn until_told(mut started: Sender<u32>, mut told: Receiver<()>) -> Result<u32, Failure> {
    started.send(std::process::id()).await?;
    told.recv().await?;
    Ok(std::process::id())
}

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

/// A function that its worker hears of late.
#[process]
fn plainly(n: u64) -> u64 {
    n + 1
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

#[process]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// Leaves a thread that stops the process when its task is long done.
#[process]
fn stops_later() -> u32 {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(100));
        kill_process(getpid(), Signal::STOP)
    });
    std::process::id()
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(|n| n * n).collect()
}

/// A task on a worker that is not hostile, which must not notice anything.
struct Beside {
    tell: Sender<()>,
    task: Task<Result<u32, Failure>>,
    worker: u32,
}

impl Beside {
    async fn start(pool: &Pool) -> Self {
        let (sender, mut started) = simplex().unwrap();
        let (tell, told) = simplex().unwrap();
        let task = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        Self { tell, task, worker }
    }

    async fn ends(mut self) {
        self.tell.send(()).await.unwrap();
        assert_eq!(in_time(self.task).await.unwrap().unwrap(), self.worker);
    }
}

/// Whether it is an end that such a worker may have.
fn is_an_end(error: &ProcessError) -> bool {
    matches!(
        error.cause(),
        Cause::BadMessage { .. }
            | Cause::TimedOut { .. }
            | Cause::Exited { .. }
            | Cause::Decode(_)
            | Cause::Signaled { .. }
            | Cause::TooLarge { .. }
    )
}

/// What comes of it, while another worker does its work.
async fn comes_of(pool: &Pool, tricks: Vec<Trick>) -> Result<(), ProcessError> {
    let beside = Beside::start(pool).await;
    let call = hostile(tricks, std::process::id()).timeout(patience(SECOND / 2));
    let came = in_time(pool.run(call)).await;
    assert_eq!(in_time(pool.run(square(12))).await.unwrap(), 144);
    beside.ends().await;
    came
}

async fn is_whole(pool: &Pool) {
    eventually_async(20 * SECOND, || pool.stats().workers.len() == 2).await;
    assert_eq!(in_time(pool.map(square, 0..200)).await.unwrap(), squares(200));
    let pids = in_time(try_join_all((0..50).map(|_| pool.run(pid())))).await.unwrap();
    assert!(pids.into_iter().collect::<BTreeSet<_>>().len() <= 2);
}

isolated! {
    /// What stands on the board and cannot be ends the worker, and its task as a bad message.
    #[limit(120)]
    async fn nonsense_on_the_board() {
        let pool = Pool::new(2).await.unwrap();
        let record = |mark, slot, length, words| Trick::Record { mark, slot, length, words };
        let bad = [
            Trick::Written(u64::MAX),
            Trick::Written(1 << 40),
            Trick::Written(1),
            // No mark, and none that there is.
            record(0, 0, 0, 0),
            record(9, 0, 0, 0),
            record(0xffff, 0, 0, 0),
            // Slots that it does not have, or that there are not.
            record(RETURNED, 5, 1, 1),
            record(RETURNED, 1023, 1, 1),
            record(RETURNED, 0xffff, 1, 1),
            record(MAILED, 700, 0, 0),
            record(STOPPED, 9, 0, 0),
            // Longer than what was written, or than there is.
            record(RETURNED, 0, 0xffff_ffff, 1),
            record(RETURNED, 0, 70_000, 20),
            // Told to stop nothing.
            record(STOPPED, 0, 0, 0),
        ];
        for trick in bad {
            let error = comes_of(&pool, vec![trick.clone()]).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{trick:?}: {error}");
            assert_eq!(error.name(), "hostile");
        }
        is_whole(&pool).await;
        assert!(pool.stats().ended.keys().any(|why| why.contains("broke the protocol")), "{}", pool.stats());
        in_time(pool.close()).await.unwrap();
    }

    /// What is no letter, or one that cannot be, as well; and what comes back where nothing is to come.
    #[limit(120)]
    async fn garbage_on_the_link() {
        let pool = Pool::new(2).await.unwrap();
        let bad = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0xff; 1000],
            // No such letter; not all of one; more than one.
            frame(&[200]),
            frame(&[2]),
            frame(&[0, 0, 0]),
            frame(&[0xff; 100]),
            // Longer than any may be.
            [&u32::MAX.to_le_bytes()[..], &[0, 0, 1, 0]].concat(),
            // Ready a second time; a letter on a job that it does not have; on an item that is not open.
            frame(&[1, 0, 0, 0]),
            frame(&[3, 7, 0, 0, 0, 0]),
            frame(&[3, 0, 0, 0, 0, 0]),
        ];
        for letter in bad {
            let error = comes_of(&pool, vec![Trick::Letter(letter.clone())]).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{letter:02x?}: {error}");
        }
        for bytes in [vec![0; 8], vec![0xff; 800], b"not a number".to_vec()] {
            let error = comes_of(&pool, vec![Trick::Back(bytes)]).await.unwrap_err();
            assert!(is_an_end(&error), "{error}");
        }
        is_whole(&pool).await;
        in_time(pool.close()).await.unwrap();
    }

    /// One that falls silent, wherever that is, is ended by its task's limit in time; and one that hangs up, without any.
    #[limit(120)]
    async fn silence() {
        let pool = Pool::new(2).await.unwrap();
        let half = frame(&[3, 0, 0, 0, 100])[..10].to_vec();
        let tricks = [
            vec![],
            vec![Trick::Stops],
            vec![Trick::Promises],
            vec![Trick::Letter(half.clone())],
            vec![Trick::Promises, Trick::Letter(half.clone()), Trick::Stops],
            vec![Trick::Babbles],
            vec![Trick::Holes],
        ];
        for tricks in tricks {
            let error = comes_of(&pool, tricks.clone()).await.unwrap_err();
            let is_found_out = tricks == [Trick::Holes] && matches!(error.cause(), Cause::BadMessage { .. });
            assert!(error.is_timeout() || is_found_out, "{tricks:?}: {error}");
        }
        for tricks in [vec![Trick::HangsUp], vec![Trick::Letter(half), Trick::HangsUp]] {
            let beside = Beside::start(&pool).await;
            let error = in_time(pool.run(hostile(tricks.clone(), std::process::id()))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{tricks:?}: {error}");
            beside.ends().await;
        }
        is_whole(&pool).await;
        in_time(pool.close()).await.unwrap();
    }

    /// One that leaves in the middle of what it says is told as what it was.
    #[limit(120)]
    async fn ends_in_the_middle() {
        let pool = Pool::new(2).await.unwrap();
        let half = frame(&[3, 0, 0, 0, 100])[..10].to_vec();
        let tricks = [
            vec![],
            vec![Trick::Promises],
            vec![Trick::Letter(half.clone())],
            vec![Trick::Promises, Trick::Letter(half)],
            vec![Trick::HangsUp],
        ];
        for tricks in tricks {
            let tricks = [tricks, vec![Trick::Leaves]].concat();
            let error = comes_of(&pool, tricks.clone()).await.unwrap_err();
            assert_eq!(error.exit_code(), Some(3), "{tricks:?}: {error}");
        }
        // It is no worker any more, says its process.
        let error = comes_of(&pool, vec![Trick::Returns, Trick::Leaves]).await.unwrap_err();
        assert!(is_an_end(&error), "{error}");
        is_whole(&pool).await;
        in_time(pool.close()).await.unwrap();
    }

    /// Random numbers on all that it can write to: the others live, and each task has its end.
    #[limit(180)]
    async fn scribbled_over() {
        for seed in 0..16 {
            let pool = Pool::new(2).await.unwrap();
            let beside = Beside::start(&pool).await;
            let call = scribbles(seed, std::process::id()).timeout(patience(SECOND / 5));
            // It may forge its own result.
            if let Err(error) = in_time(pool.run(call)).await {
                assert!(is_an_end(&error), "{seed}: {error}");
            }
            beside.ends().await;
            in_time(pool.kill()).await;
        }
    }

    /// What it had done of a list before it wrote nonsense is done; the rest is done by another.
    async fn nonsense_costs_one_item() {
        let pool = Pool::new(1).await.unwrap();
        for retries in [0, 1] {
            let call = |n| nonsense_at(n, 5, std::process::id());
            let map = pool.map(call, 0..20).chunk(10).retry(retries).ordered();
            let values: Vec<_> = in_time(map.collect()).await;
            assert_eq!(values.len(), 20);
            for (n, value) in (0..).zip(values) {
                match value {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => assert!(n == 5 && matches!(error.cause(), Cause::BadMessage { .. }), "{n}: {error}"),
                }
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    /// Results of what it has not done, which took half of eternity: they are its own tasks. The pool goes on.
    async fn forged_results() {
        let pool = Pool::new(1).await.unwrap();
        let forger = in_time(pool.submit(forges(std::process::id(), 6))).await.unwrap();
        let tasks = in_time(try_join_all((0..5).map(|n| pool.submit(square(n))))).await.unwrap();
        let forged = in_time(forger).await.unwrap_err();
        assert!(matches!(forged.cause(), Cause::Decode(_)), "{forged}");
        assert_eq!(in_time(try_join_all(tasks)).await.unwrap(), [42; 5]);
        assert_eq!(in_time(pool.run(square(5))).await.unwrap(), 25);
        assert_eq!(in_time(pool.map(square, 0..50)).await.unwrap(), squares(50));
        in_time(pool.close()).await.unwrap();
    }

    /// It says that it has the handles of a job that it never starts: that job has them where it runs.
    async fn handles_that_it_has_not_taken() {
        let pool = Pool::new(1).await.unwrap();
        let (mut tell, told) = simplex().unwrap();
        let forger = in_time(pool.submit(takes_all(std::process::id(), told))).await.unwrap();
        let null = File::open("/dev/null").unwrap();
        let behind = in_time(pool.submit(takes(Passed::new(null.into()).unwrap()))).await.unwrap();
        eventually_async(10 * SECOND, || behind.pid().is_some()).await;
        let worker = forger.pid();
        assert_eq!(behind.pid(), worker);
        tell.send(()).await.unwrap();
        assert_eq!(in_time(forger).await.unwrap_err().signal(), Some(9));
        assert_ne!(Some(in_time(behind).await.unwrap()), worker);
        in_time(pool.close()).await.unwrap();
    }

    /// A child that has a way to the pool asks for functions that there are not: they are refused, and others are found.
    async fn functions_that_there_are_not() {
        let pool = Pool::new(1).await.unwrap();
        assert_eq!(in_time(pool.run(square(3))).await.unwrap(), 9);
        let worker = in_time(pool.run(pid())).await.unwrap();
        let (sender, mut asked) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let call = asks_for_nothing(pool.clone(), std::process::id(), sender, told);
        let mut child = in_time(call.spawn()).await.unwrap();
        assert_eq!(in_time(asked.recv()).await.unwrap(), Some(81));
        eventually_async(10 * SECOND, || pool.stats().unfinished == 0).await;
        assert_eq!(in_time(pool.map(plainly, 0..50)).await.unwrap(), (1..51).collect::<Vec<_>>());
        assert_eq!(in_time(pool.map(square, 0..50)).await.unwrap(), squares(50));
        assert_eq!(in_time(pool.run(pid())).await.unwrap(), worker, "they cost no worker: {}", pool.stats());
        tell.send(()).await.unwrap();
        in_time(child.join()).await.unwrap().unwrap();
        in_time(pool.close()).await.unwrap();
    }

    /// A task that makes it look as if it had never started, and ends its worker, does so for a while.
    async fn denied_starts() {
        let pool = Pool::new(1).await.unwrap();
        let denies = pool.run(hostile(vec![Trick::Denies, Trick::Leaves], std::process::id()));
        let error = in_time(denies).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::RestartLimit { deaths: 8, .. }), "{error}");
        assert!(in_time(pool.close()).await.is_err());
    }

    /// A worker that does not leave when it is told to is killed after a while.
    #[limit(120)]
    async fn a_worker_that_does_not_leave() {
        let pool = Pool::new(1).await.unwrap();
        let worker = in_time(pool.run(stops_later())).await.unwrap();
        eventually_async(10 * SECOND, || state(worker) == Some('T')).await;
        timeout(patience(30 * SECOND), pool.close()).await.unwrap().unwrap();
        assert!(info(worker).is_none());
    }

    /// What was given to a worker that is stopped goes to one that is not.
    async fn a_worker_that_stopped_while_it_was_idle() {
        let pool = Pool::new(2).await.unwrap();
        let worker = in_time(pool.run(stops_later())).await.unwrap();
        eventually_async(10 * SECOND, || state(worker) == Some('T')).await;
        for n in 0..10 {
            assert_eq!(in_time(pool.run(square(n))).await.unwrap(), n * n);
        }
        assert_eq!(in_time(pool.map(square, 0..500)).await.unwrap(), squares(500));
        assert_eq!(pool.stats().workers.len(), 2, "it is there, and may go on");
        kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::CONT).unwrap();
        in_time(pool.close()).await.unwrap();
    }

    /// So does what comes in a letter, being long or with handles, and what is short beside that.
    async fn letters_to_a_worker_that_has_stopped() {
        let pool = Pool::new(2).await.unwrap();
        let worker = in_time(pool.run(stops_later())).await.unwrap();
        eventually_async(10 * SECOND, || state(worker) == Some('T')).await;
        for _ in 0..3 {
            let (_reader, writer) = std::io::pipe().unwrap();
            let held = Passed::new(OwnedFd::from(writer)).unwrap();
            let all = join4(
                pool.run(length(vec![0; 100_000])),
                pool.run(takes(held)),
                pool.run(length(vec![0; 3 << 20])),
                pool.run(square(5)),
            );
            let (short, other, long, squared) = in_time(all).await;
            assert_eq!((short.unwrap(), long.unwrap(), squared.unwrap()), (100_000, 3 << 20, 25));
            assert_ne!(other.unwrap(), worker);
        }
        assert_eq!(pool.stats().workers.len(), 2, "it is there, and may go on");
        // It reads what it does not start, and then does what it is given.
        kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::CONT).unwrap();
        let mut lengths = in_time(pool.map(|n| length(vec![0; n]), (0..40).map(|n| n * 1000))).await.unwrap();
        lengths.dedup();
        assert_eq!(lengths.len(), 40);
        in_time(pool.close()).await.unwrap();
    }

    /// A long call that is cancelled before it was sent to its worker keeps nothing.
    async fn a_letter_that_was_not_sent() {
        let pool = Pool::builder().workers(1).concurrency(64).build().await.unwrap();
        let worker = in_time(pool.run(stops_later())).await.unwrap();
        eventually_async(10 * SECOND, || state(worker) == Some('T')).await;
        // They fill the link, whatever is cancelled.
        let mut first: Vec<_> = (0..30).map(|_| pool.run(length(vec![0; 30_000]))).collect();
        assert!(first.iter_mut().all(|run| run.now_or_never().is_none()));
        let (mut reader, writer) = std::io::pipe().unwrap();
        let held = Passed::new(OwnedFd::from(writer)).unwrap();
        let mut second = pool.run(takes(held));
        assert!((&mut second).now_or_never().is_none());
        drop((first, second));
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0]));
        assert_eq!(in_time(read).await.unwrap().unwrap(), 0);
        kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::CONT).unwrap();
        assert_eq!(in_time(pool.run(length(vec![0; 10_000]))).await.unwrap(), 10_000);
        assert_eq!(in_time(pool.run(pid())).await.unwrap(), worker);
        in_time(pool.close()).await.unwrap();
    }
}
