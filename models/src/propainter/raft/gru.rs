use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// A recurrent cell on maps: first along the rows, then along the columns.
///
/// Each of both passes computes, from the hidden state `h` and the input `x`, how much to renew
/// (`z`), how much of the state to look at (`r`) and what to renew it by (`q`).
#[derive(Module, Debug)]
pub struct SepConvGru {
    /// Renewal along the rows, 1×5.
    pub convz1: Conv2d,
    /// Reset along the rows, 1×5.
    pub convr1: Conv2d,
    /// Candidate along the rows, 1×5.
    pub convq1: Conv2d,
    /// Renewal along the columns, 5×1.
    pub convz2: Conv2d,
    /// Reset along the columns, 5×1.
    pub convr2: Conv2d,
    /// Candidate along the columns, 5×1.
    pub convq2: Conv2d,
}

impl SepConvGru {
    /// Builds a cell with a state of `hidden` channels and inputs of `input` channels.
    pub fn new(hidden: usize, input: usize, device: &Device) -> Self {
        let channels = [hidden + input, hidden];
        let along_rows = || {
            Conv2dConfig::new(channels, [1, 5])
                .with_padding(PaddingConfig2d::Explicit(0, 2, 0, 2))
                .init(device)
        };
        let along_columns = || {
            Conv2dConfig::new(channels, [5, 1])
                .with_padding(PaddingConfig2d::Explicit(2, 0, 2, 0))
                .init(device)
        };
        Self {
            convz1: along_rows(),
            convr1: along_rows(),
            convq1: along_rows(),
            convz2: along_columns(),
            convr2: along_columns(),
            convq2: along_columns(),
        }
    }

    /// Renews the state.
    ///
    /// # Shapes
    /// - h, output: `[batch_size, hidden, height, width]`
    /// - x: `[batch_size, input, height, width]`
    pub fn forward(&self, h: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let h = pass([&self.convz1, &self.convr1, &self.convq1], h, x.clone());
        pass([&self.convz2, &self.convr2, &self.convq2], h, x)
    }
}

fn pass([convz, convr, convq]: [&Conv2d; 3], h: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
    let both = Tensor::cat(vec![h.clone(), x.clone()], 1);
    let z = sigmoid(convz.forward(both.clone()));
    let r = sigmoid(convr.forward(both));
    let q = convq.forward(Tensor::cat(vec![r * h.clone(), x], 1)).tanh();
    (1.0 - z.clone()) * h + z * q
}
