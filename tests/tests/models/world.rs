//! What stands around the words in a model: processes that sleep by bells, are woken, and die.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use loom::model::Builder;
use loom::sync::atomic::AtomicUsize;
use loom::thread::{self, Thread};

use crate::atomics::{self, Fault};
use crate::words::{Identity, Member, Members, Wait};

/// Where somebody sleeps. Its state is no part of the model: it is that of this process alone, or the kernel's.
#[derive(Debug, Default)]
struct Bed {
    sleeper: OnceLock<Thread>,
    state: Mutex<State>,
    /// How often its bell was rung since it has looked.
    rings: AtomicUsize,
    /// How often it was told to look again, because a member has died.
    stirs: AtomicUsize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Awake,
    Asleep,
    Ended,
}

/// The processes of a model, each of them a thread of it, with a bell of its own.
#[derive(Debug)]
pub(crate) struct World {
    beds: Vec<Bed>,
    /// How many have not ended yet.
    left: AtomicUsize,
    killed: Arc<AtomicBool>,
}

/// What comes of a process in a model.
pub(crate) trait Process: Send + Sync + 'static {
    fn world(&self) -> &World;
    /// What it does, each by its number.
    fn live(&self, number: usize);
    /// What others do when they see that one has died.
    fn bury(&self, number: usize);
    /// What holds when all have ended.
    fn audit(&self);
}

/// How far to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) processes: usize,
    pub(crate) preemptions: usize,
}

impl Bounds {
    /// Explores all that can happen; gives whether the first process was killed in any of it.
    pub(crate) fn explore<P: Process>(
        self,
        steps: Option<usize>,
        new: impl Fn(World) -> P + Send + Sync + 'static,
    ) -> bool {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.max_branches = 10_000;
        let killed = Arc::new(AtomicBool::new(false));
        let is_killed = Arc::clone(&killed);
        builder.check(move || {
            let beds = (0..self.processes).map(|_| Bed::default()).collect();
            let world = World { beds, left: self.processes.into(), killed: Arc::clone(&killed) };
            let model = Arc::new(new(world));
            for number in 1..self.processes {
                let model = Arc::clone(&model);
                drop(thread::spawn(move || run(&*model, number, None)));
            }
            run(&*model, 0, steps);
        });
        is_killed.load(SeqCst)
    }

    /// Explores all that can happen, without a death and with one of the first process at each of its steps.
    pub(crate) fn explore_deaths<P: Process>(self, new: impl Fn(World) -> P + Clone + Send + Sync + 'static) {
        self.explore_some_deaths(1, new);
    }

    /// As [`explore_deaths`](Self::explore_deaths), with a death at one of so many steps.
    pub(crate) fn explore_some_deaths<P: Process>(
        self,
        every: usize,
        new: impl Fn(World) -> P + Clone + Send + Sync + 'static,
    ) {
        self.explore(None, new.clone());
        let deaths = (0..).step_by(every).take_while(|steps| self.explore(Some(*steps), new.clone())).count();
        println!("{deaths} deaths");
        assert!(deaths > 0);
    }

    /// Explores with atomics that have a fault, under which it must fail.
    pub(crate) fn with_fault<P: Process>(
        self,
        fault: Fault,
        new: impl Fn(World) -> P + Send + Sync + 'static,
    ) {
        atomics::set_fault(fault);
        self.explore(None, new);
    }
}

/// One process, from its beginning to its end.
fn run(model: &impl Process, number: usize, steps: Option<usize>) {
    let world = model.world();
    world.beds[number].sleeper.set(thread::current()).unwrap();
    if atomics::was_killed(steps, || model.live(number)) {
        world.killed.store(true, SeqCst);
        model.bury(number);
    }
    // Who is the last one has seen what all others did.
    if world.left.fetch_sub(1, AcqRel) == 1 {
        model.audit();
    }
    world.beds[number].set(State::Ended);
    world.is_somebody_awake();
}

impl Bed {
    fn set(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock().unwrap(), state)
    }

    /// Rings its bell.
    fn ring(&self) {
        self.rings.fetch_add(1, AcqRel);
        if *self.state.lock().unwrap() == State::Asleep {
            self.set(State::Awake);
            self.sleeper.get().unwrap().unpark();
        }
    }

    /// Sleeps until its bell is rung, if it was not since it has looked.
    fn sleep(&self, world: &World) {
        if self.rings.swap(0, AcqRel) == 0 {
            self.set(State::Asleep);
            world.is_somebody_awake();
            thread::park();
        }
    }
}

impl World {
    /// How often a process was told to look again.
    pub(crate) fn stirs(&self, number: usize) -> usize {
        self.beds[number].stirs.load(Acquire)
    }

    /// Sleeps until the number of wake-ups, or that of the times that it was told to look again, is another.
    pub(crate) fn sleep(&self, number: usize, wait: &Wait, epoch: u32, stirs: usize) {
        while wait.epoch() == epoch && self.stirs(number) == stirs {
            self.beds[number].sleep(self);
        }
    }

    /// Who sleeps now is never woken, if nobody is awake.
    fn is_somebody_awake(&self) {
        let states: Vec<_> = self.beds.iter().map(|bed| *bed.state.lock().unwrap()).collect();
        let is_over = !states.contains(&State::Asleep);
        assert!(is_over || states.contains(&State::Awake), "somebody sleeps for ever");
    }

    /// Wakes who sleeps by a word.
    pub(crate) fn wake(&self, wait: &Wait) {
        let bells = wait.wake();
        for (number, bed) in self.beds.iter().enumerate() {
            if bells & 1 << number != 0 {
                atomics::step();
                bed.ring();
            }
        }
    }

    /// Has all look again: somebody has died.
    pub(crate) fn stir(&self) {
        for bed in &self.beds {
            bed.stirs.fetch_add(1, AcqRel);
            bed.ring();
        }
    }
}

/// Who a process is to others.
pub(crate) fn identity(number: usize) -> Identity {
    Identity::new(number as u32 + 1, 7)
}

/// Takes part, as processes do when they attach.
pub(crate) fn join(members: Members<'_>, number: usize) -> Member {
    members.join(identity(number)).expect("there is a slot for each")
}
