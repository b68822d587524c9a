//! The replicas of a step, and whose gradients are added next.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_dispatch::DispatchAutodiffContext;
use rayon::ThreadPool;

use super::super::running_statistics::RunningStatistics;
use super::MicroBatchTrainers;
use crate::grad_checkpoint::with_fresh_leaves;

/// What a device keeps from step to step.
pub(super) struct Replica<T> {
    pub(super) device: Device,
    /// As the error calls it.
    pub(super) name: String,
    pub(super) train: T,
    pub(super) pool: ThreadPool,
}

/// What a micro-batch runs with: trainers and model of a replica, and its device.
pub(super) type Running<'a, T, M> = (&'a mut T, &'a M, &'a Device);

/// The running statistics of a replica, and the weight of what it has seen.
pub(super) type Seen = (RunningStatistics, f64);

/// Which replica failed, and its panic.
pub(super) struct Failed {
    pub(super) device: String,
    pub(super) panic: Box<dyn Any + Send>,
}

/// Runs each batch on its replica, with a thread for each, and adds what they accumulate to `train`, on the first
/// device. Returns what each replica has seen.
pub(super) fn spread<T: MicroBatchTrainers, M: Module, B: Send>(
    replicas: &mut [Replica<T>],
    train: &mut T,
    model: &M,
    batches: impl Iterator<Item = B>,
    run: impl Fn(usize, Running<'_, T, M>, B) + Sync,
) -> Result<Vec<Seen>, Failed> {
    for replica in &mut *replicas {
        let pairs = replica
            .train
            .trainers_mut()
            .into_iter()
            .zip(train.trainers());
        pairs.for_each(|(own, main)| own.group.follow(&main.group));
    }
    let (device, num_replicas) = (replicas[0].device.clone(), replicas.len());
    let (turns, run) = (&Turns::new(train, device), &run);
    let seen = thread::scope(|scope| {
        let mut idle = replicas.iter_mut();
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for (number, batch) in batches.enumerate() {
            if let Some(replica) = idle.next() {
                // Made here: a model may be sent to another thread, but not shared with it.
                let copy = replica_of(model, &replica.device);
                let (sender, receiver) = sync_channel(0);
                senders.push(sender);
                threads.push(scope.spawn(move || replica.work(copy, receiver, turns, run)));
            }
            // A replica that has failed takes no more.
            if senders[number % num_replicas]
                .send((number, batch))
                .is_err()
            {
                break;
            }
        }
        drop(senders);
        let threads = threads.into_iter().map(ScopedJoinHandle::join);
        let seen = threads.map(|seen| seen.expect("invariant: panics are caught"));
        seen.collect()
    });
    let failed = turns.lock().failed.take();
    failed.map_or(Ok(seen), Err)
}

impl<T: MicroBatchTrainers> Replica<T> {
    /// Runs the micro-batches that come, each of which ends with its turn.
    fn work<M: Module, B: Send>(
        &mut self,
        model: M,
        batches: Receiver<(usize, B)>,
        turns: &Turns<'_, T>,
        run: &(impl Fn(usize, Running<'_, T, M>, B) + Sync),
    ) -> Seen {
        let Self {
            device,
            name,
            train,
            pool,
        } = self;
        pool.install(move || {
            let mut weight = 0.0;
            for (number, batch) in batches {
                let ran = catch_unwind(AssertUnwindSafe(|| {
                    run(number, (&mut *train, &model, device), batch);
                    // The next one may run on another thread of the pool.
                    let _ = RunningStatistics::read(&model);
                }));
                weight += train.trainers()[0].group.weight();
                if !turns.take(number, name, ran, train, &model) {
                    break;
                }
            }
            let statistics = catch_unwind(AssertUnwindSafe(|| {
                RunningStatistics::read(&model).moved(&model, &turns.device)
            }));
            match statistics {
                Ok(statistics) => (statistics, weight),
                Err(panic) => {
                    turns.lock().fail(name, panic);
                    (RunningStatistics::default(), 0.0)
                }
            }
        })
    }
}

/// Whose gradients are added next.
struct Turns<'a, T> {
    turn: Mutex<Turn<'a, T>>,
    changed: Condvar,
    /// Where they are added.
    device: Device,
}

struct Turn<'a, T> {
    train: &'a mut T,
    next: usize,
    failed: Option<Failed>,
}

impl<T> Turn<'_, T> {
    /// The first failure is the one that is told.
    fn fail(&mut self, device: &str, panic: Box<dyn Any + Send>) {
        let device = device.to_owned();
        self.failed.get_or_insert(Failed { device, panic });
    }
}

impl<'a, T: MicroBatchTrainers> Turns<'a, T> {
    fn new(train: &'a mut T, device: Device) -> Self {
        let turn = Turn {
            train,
            next: 0,
            failed: None,
        };
        Self {
            turn: Mutex::new(turn),
            changed: Condvar::new(),
            device,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn<'a, T>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of micro-batch `number` and adds what it left in `train`. Returns whether to go on.
    fn take<M: Module>(
        &self,
        number: usize,
        name: &str,
        ran: Result<(), Box<dyn Any + Send>>,
        train: &mut T,
        model: &M,
    ) -> bool {
        let mut turn = self.lock();
        if let Err(panic) = ran {
            turn.fail(name, panic);
        }
        while turn.failed.is_none() && turn.next != number {
            turn = self
                .changed
                .wait(turn)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if turn.failed.is_none() {
            let added = catch_unwind(AssertUnwindSafe(|| {
                let main = turn.train.trainers_mut();
                for (main, own) in main.into_iter().zip(train.trainers_mut()) {
                    main.group.absorb(&mut own.group, model, &self.device);
                }
            }));
            match added {
                Ok(()) => turn.next += 1,
                Err(panic) => turn.fail(name, panic),
            }
        }
        self.changed.notify_all();
        turn.failed.is_none()
    }
}

/// A copy of `model` on `device` that trains in a graph of its own, with running statistics of its own. On the
/// model's own device parameters are shared.
fn replica_of<M: Module>(model: &M, device: &Device) -> M {
    struct Tracked {
        flags: Vec<bool>,
        context: Option<DispatchAutodiffContext>,
    }
    impl ModuleVisitor for Tracked {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.flags.push(param.is_require_grad());
            self.context = Some(param.val().into_dispatch().autodiff);
        }
    }
    let mut tracked = Tracked {
        flags: Vec::new(),
        context: None,
    };
    model.visit(&mut tracked);
    let copy = model.valid().to_device(&device.clone().without_autodiff());
    match tracked.context {
        Some(context) => with_fresh_leaves(copy, &tracked.flags, context).0,
        None => copy,
    }
}
