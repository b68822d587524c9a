//! Packed weights: what a network takes from its file to its result.

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::{
    chunked::BoxError,
    quantize::{self, QuantizeConfig, Scheme},
};
use burn_memopt_models::unet::{UNet, UNetConfig};

use crate::bench::{Bench, Runs};

/// A U-Net that is read from its file and run on one image: its weights in float, in 8 and in 4 bits.
/// The bytes of the weights are printed.
pub(crate) fn unet(bench: &mut Bench) -> Result<(), BoxError> {
    let device = bench.device.clone();
    let (channels, side) = bench.pick((32, 64), (8, 32));
    let config = UNetConfig::new(3, 1).with_base_channels(channels);
    device.seed(0);
    let new = |device: &Device| -> UNet { config.init(device) };
    let folder = tempfile::tempdir()?;
    let [float, q8, q4] = ["float.bpk", "q8.bpk", "q4.bpk"].map(|name| folder.path().join(name));
    let trained = new(&device).valid();
    trained.clone().save_file(&float)?;
    for (path, scheme) in [(&q8, Scheme::Q8), (&q4, Scheme::Q4)] {
        let (packed, report) = QuantizeConfig::new(scheme).quantize(&trained)?;
        quantize::save(&packed, path)?;
        let (after, before) = (report.after(), report.before());
        eprintln!("  weights in {scheme}: {after} of {before}");
    }
    drop(trained);
    let image = Tensor::<4>::random([1, 3, side, side], Distribution::Default, &device);
    let run = |variant: usize| -> Result<(), BoxError> {
        let network = match variant {
            0 => new(&device).try_load_file(&float)?,
            1 => QuantizeConfig::new(Scheme::Q8).load(new(&device), &q8)?,
            _ => QuantizeConfig::new(Scheme::Q4).load(new(&device), &q4)?,
        };
        network.forward(image.clone()).try_into_data()?;
        Ok(())
    };
    // What stays for ever, like the buffers of threads, is there after one run.
    run(0)?;
    bench.runs(&Runs::on(&device, &["plain", "q8", "q4"], 1), run)
}
