use burn::tensor::Tensor;
use burn_memopt::chunked::PlacedTile;

use super::model::UNet;
use crate::upsample::Part;

impl UNet {
    /// Computes the network's output for a tile of an image, as [`forward`](Self::forward) computes it
    /// for the whole: bilinear upsampling takes the tile's place in the image into account.
    ///
    /// # Shapes
    /// - tile: `[batch_size, in_channels, height, width]`
    /// - output: `[batch_size, out_channels, height, width]`
    ///
    /// # Exactness
    /// Equal to rounding, further from the tile's border than the network reaches, for tiles that
    /// start at multiples of `2^depth`, with batch norm outside of training. Group norm sees the
    /// tile only.
    ///
    /// # Panics
    /// If height or width is below `2^depth`.
    ///
    /// # Example
    /// ```
    /// use burn::module::Module;
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_memopt::chunked::{ExactReport, ExactTiles, Reach};
    /// use burn_memopt_models::unet::UNetConfig;
    ///
    /// let device = Device::flex();
    /// let unet = UNetConfig::new(1, 1).with_base_channels(4).with_depth(1).init(&device).valid();
    /// let reach = Reach::measure([1, 32, 32], 2, &device, |x| unet.forward(x));
    /// let image = Tensor::<4>::random([1, 1, 60, 45], Distribution::Default, &device);
    /// let tiles = ExactTiles::new([16, 16], &reach);
    /// let report = ExactReport::measure(&tiles, &unet, image, |unet, tile| unet.forward_tile(tile));
    /// assert!(report.is_exact(), "{report}");
    /// ```
    pub fn forward_tile(&self, tile: PlacedTile) -> Tensor<4> {
        let mut skips = vec![self.inc.forward(tile.pixels)];
        let mut x = skips[0].clone();
        for down in &self.downs {
            x = down.forward(x);
            skips.push(x.clone());
        }
        skips.pop();
        for up in &self.ups {
            let level = skips.len();
            let Some(skip) = skips.pop() else { break };
            let sides = [0, 1].map(|side| Part {
                start: tile.start[side] >> level,
                whole: tile.image[side] >> level,
            });
            x = up.forward_part(x, skip, sides);
        }
        self.outc.forward(x)
    }
}
