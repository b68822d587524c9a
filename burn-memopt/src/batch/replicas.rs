use std::panic::resume_unwind;
use std::thread;

use burn::module::Module;
use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuildError};

use crate::pools::pools;

/// A trained model on several devices, which run parts of a batch side by side.
///
/// # Exactness
/// A part gives what it gives on its device alone.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::batch::ModelReplicas;
///
/// let device = Device::flex();
/// let model: Linear = LinearConfig::new(4, 2).init(&device);
/// let replicas = ModelReplicas::new(&model, &[device.clone(), device.clone()])?;
/// let images = Tensor::<2>::ones([5, 4], &device);
/// let results = replicas.run(images.chunk(2, 0), |model, device, part: Tensor<2>| {
///     model.forward(part.to_device(device))
/// });
/// let results = results.into_iter().map(|part| part.to_device(&device)).collect();
/// assert_eq!(Tensor::cat(results, 0).dims(), [5, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ModelReplicas<M> {
    replicas: Vec<Replica<M>>,
}

#[derive(Debug)]
struct Replica<M> {
    device: Device,
    model: M,
    /// `None` where there is one replica, which runs on the caller's thread.
    pool: Option<ThreadPool>,
}

impl<M: Module + Sync> ModelReplicas<M> {
    /// Copies `model`, without its gradients, to `devices`; a device that is named several times has it once.
    ///
    /// # Errors
    /// If no threads can be started.
    ///
    /// # Panics
    /// If there is no device.
    pub fn new(model: &M, devices: &[Device]) -> Result<Self, ThreadPoolBuildError> {
        assert!(
            !devices.is_empty(),
            "a model needs at least one device, got none"
        );
        let mut pools = pools(devices)?.into_iter();
        let replica = |device: &Device| Replica {
            device: device.clone(),
            model: model.valid().to_device(&device.clone().without_autodiff()),
            pool: pools.next(),
        };
        Ok(Self {
            replicas: devices.iter().map(replica).collect(),
        })
    }

    /// The model on the first device.
    pub fn main(&self) -> &M {
        &self.replicas[0].model
    }

    /// Number of replicas.
    pub fn count(&self) -> usize {
        self.replicas.len()
    }

    /// Runs part *n* on device *n*, all at the same time, and returns the results in the order of the parts.
    ///
    /// # Panics
    /// If there are more parts than replicas, or as `run` does.
    pub fn run<I: Send, O: Send>(
        &self,
        parts: Vec<I>,
        run: impl Fn(&M, &Device, I) -> O + Sync,
    ) -> Vec<O> {
        assert!(
            parts.len() <= self.replicas.len(),
            "parts of a batch need a replica each, got {} for {} replicas",
            parts.len(),
            self.replicas.len()
        );
        let run = &run;
        let work = self.replicas.iter().zip(parts).map(|(replica, part)| {
            let Replica {
                device,
                model,
                pool,
            } = replica;
            move || match pool {
                Some(pool) => pool.install(|| run(model, device, part)),
                None => run(model, device, part),
            }
        });
        if self.replicas.len() == 1 {
            return work.map(|work| work()).collect();
        }
        thread::scope(|scope| {
            let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, O>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Distribution, Tensor};

    use super::*;

    #[test]
    fn parts_give_what_they_give_alone_in_their_order() {
        let device = Device::flex();
        let model: Linear = LinearConfig::new(4, 3).init(&device);
        let images = Tensor::<2>::random([7, 4], Distribution::Default, &device);
        let replicas = ModelReplicas::new(&model, &vec![device.clone(); 3]).expect("threads");
        let parts = images.clone().chunk(3, 0);
        let wanted: Vec<_> = parts
            .iter()
            .map(|part| model.forward(part.clone()).into_data())
            .collect();
        let got = replicas.run(parts, |model, _, part| model.forward(part).into_data());
        assert_eq!(got, wanted);
    }

    #[test]
    #[should_panic(expected = "the second part fails")]
    fn a_part_that_panics_is_heard_of() {
        let device = Device::flex();
        let model: Linear = LinearConfig::new(4, 3).init(&device);
        let replicas = ModelReplicas::new(&model, &vec![device; 2]).expect("threads");
        replicas.run(vec![0, 1], |_, _, part| {
            assert!(part == 0, "the second part fails")
        });
    }
}
