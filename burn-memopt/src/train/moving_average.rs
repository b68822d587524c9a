use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::precision::running_states;

/// Draws the parameters of a model that burn has not drawn yet: it does so at their first use, by whatever seed the
/// device has then.
pub fn draw_parameters<M: Module>(model: &M) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    model.visit(&mut Draw);
}

/// A copy of a model of which nothing is recorded: to pass gradients through, or to keep a moving average in with
/// [`update_average`].
///
/// Parameters that burn has not drawn yet are drawn.
pub fn frozen<M: Module>(model: &M) -> M {
    // A copy of what is not drawn yet would draw values of its own, or turn the model's gradients off.
    draw_parameters(model);
    model.clone().no_grad()
}

/// Moves the parameters of `average` towards those of `model`: `decay` of what they were and the rest of what the
/// model's are. Call it after each optimizer step.
///
/// `average` begins as [`frozen`] of the model, and is used for evaluation. Running statistics are the model's. Its parameters take their memory once more.
///
/// # Panics
/// If `decay` is not in [0, 1], or `average` has other parameters than `model`.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_memopt::train::{frozen, update_average};
///
/// let device = Device::flex().autodiff();
/// let config = LinearConfig::new(2, 1).with_bias(false);
/// let average: Linear = frozen(&config.init(&device));
/// let model: Linear = config.init(&device);
/// let before = average.weight.val().inner();
/// let average = update_average(average, &model, 0.9);
/// let expected = before * 0.9 + model.weight.val().inner() * 0.1;
/// let off = (average.weight.val().inner() - expected).abs().max();
/// assert!(off.into_scalar::<f32>() < 1e-6);
/// ```
///
/// # References
/// Karras et al. 2018, "Progressive Growing of GANs", arXiv:1710.10196, section 4.
pub fn update_average<M: Module>(average: M, model: &M, decay: f64) -> M {
    assert!(
        (0.0..=1.0).contains(&decay),
        "the decay of a moving average must be from 0 to 1, got {decay}"
    );
    let mut values = InOrder::default();
    model.visit(&mut values);
    let running = running_states(model);
    let mut mix = Mix {
        values,
        running: running.into_iter().collect(),
        decay,
        next: 0,
    };
    let average = average.map(&mut mix);
    assert_eq!(
        mix.next,
        mix.values.ids.len(),
        "a moving average needs the parameters of the model that it is of"
    );
    average
}

/// Parameters by their place in the module: an average may have identifiers of its own.
struct InOrder {
    /// No gradients, but the container for tensors of any rank that burn has; keyed by place.
    tensors: GradientsParams,
    ids: Vec<ParamId>,
}

impl Default for InOrder {
    fn default() -> Self {
        Self {
            tensors: GradientsParams::new(),
            ids: Vec::new(),
        }
    }
}

impl ModuleVisitor for InOrder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let place = ParamId::from(self.ids.len() as u64);
        self.tensors.register(place, plain(param.val()));
        self.ids.push(param.id);
    }
}

struct Mix {
    values: InOrder,
    running: Vec<ParamId>,
    decay: f64,
    next: usize,
}

impl ModuleMapper for Mix {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = ParamId::from(self.next as u64);
        let value = self.values.tensors.remove::<D>(place);
        let (Some(value), Some(id)) = (value, self.values.ids.get(self.next)) else {
            panic!("a moving average needs the parameters of the model that it is of");
        };
        let is_running = self.running.contains(id);
        self.next += 1;
        param.map(|average| {
            let is_autodiff = average.is_autodiff();
            let mixed = match is_running {
                true => value,
                false => plain(average).mul_scalar(self.decay) + value.mul_scalar(1.0 - self.decay),
            };
            match is_autodiff {
                true => Tensor::from_inner(mixed),
                false => mixed,
            }
        })
    }
}

/// The tensor without its autodiff graph.
fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.is_autodiff() {
        true => tensor.inner(),
        false => tensor,
    }
}
