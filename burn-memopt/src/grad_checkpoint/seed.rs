use burn::tensor::{Device, Distribution, Int, Tensor};

/// The seed of one run of a segment.
///
/// burn's random stream cannot be read or restored, only seeded. So a segment
/// draws a seed from the stream, seeds the device with it, and can seed it again
/// for the recomputation: dropout repeats its masks. After either run the stream
/// moves on to a place of its own, so that nothing drawn later repeats.
///
/// Everything follows from [`Device::seed`]: the same seed, the same masks.
///
/// # Example
/// What a checkpointed segment draws, drawn without one:
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::grad_checkpoint::SegmentSeed;
///
/// let device = Device::flex();
/// let seed = SegmentSeed::draw(&device);
/// let draw = || Tensor::<1>::random([4], Distribution::Default, &device).to_data();
/// seed.apply(&device);
/// let first = draw();
/// seed.apply(&device);
/// assert_eq!(draw(), first);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSeed(u64);

/// Which run of a segment has ended: the two leave the stream in different places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run {
    First = 1,
    Recomputation = 2,
}

impl SegmentSeed {
    /// Draws a seed from the device's random stream.
    ///
    /// On an asynchronous device this waits for the tensor of two numbers.
    pub fn draw(device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let whole = Distribution::Uniform(0.0, f64::from(1u32 << 24));
        let words = Tensor::<1, Int>::random([3], whole, &device).into_data();
        let seed = words
            .iter::<i64>()
            .fold(0, |seed, word| mix(seed ^ word.cast_unsigned()));
        Self(seed)
    }

    /// Seeds the device, so that the segment's run starts here.
    pub fn apply(self, device: &Device) {
        device.seed(self.0);
    }

    /// Moves the device's stream on after a run.
    pub(super) fn leave(self, run: Run, device: &Device) {
        device.seed(mix(self.0.wrapping_add(run as u64)));
    }
}

/// The output function of SplitMix64 (Steele et al. 2014, figure 17).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
