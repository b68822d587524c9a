use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use super::windows::Windows;

/// Which windows of a map of tokens see a hole. They attend to what is around, in other frames
/// too; the others to themselves alone.
#[derive(Clone, Debug)]
pub struct Holes {
    /// Windows with a hole, as batch item and number.
    pub(super) broken: Vec<[usize; 2]>,
    /// Windows without.
    pub(super) intact: Vec<[usize; 2]>,
    /// Rows and columns of tokens, without padding.
    pub(super) size: [usize; 2],
}

impl Holes {
    /// Finds the windows that have a token of a hole in any frame; the mask is read to the host.
    ///
    /// # Shapes
    /// - mask: `[batch_size, frames, rows, columns]`, above 0 where a token sees a hole
    pub fn find(mask: Tensor<4>) -> Self {
        let [batch_size, _, rows, columns] = mask.dims();
        let windows = Windows::covering([rows, columns]);
        let below_and_right = [(0, windows.rows - rows), (0, windows.columns - columns)];
        let any = mask.max_dim(1);
        let any = any.pad(below_and_right, PadMode::Constant(0.0));
        let any: Vec<f32> = any.into_data().iter::<f32>().collect();
        let all =
            (0..batch_size).flat_map(|item| (0..windows.count()).map(move |number| [item, number]));
        let sees_hole = |&[item, number]: &[usize; 2]| {
            let first = item * windows.num_tokens();
            windows.own(number).any(|token| any[first + token] > 0.0)
        };
        let (broken, intact) = all.partition(sees_hole);
        Self {
            broken,
            intact,
            size: [rows, columns],
        }
    }

    /// Number of windows with a hole.
    pub fn num_broken(&self) -> usize {
        self.broken.len()
    }

    /// The windows of the padded map.
    pub(super) fn windows(&self) -> Windows {
        Windows::covering(self.size)
    }

    /// Where each token of the map lies when the tokens of all windows follow each other, first
    /// of those with a hole.
    pub(super) fn places(&self) -> Vec<i64> {
        let windows = self.windows();
        let count = self.broken.len() + self.intact.len();
        let batch_size = count / windows.count();
        let mut places = vec![0; batch_size * windows.num_tokens()];
        let all = self.broken.iter().chain(&self.intact);
        let tokens = all.flat_map(|&[item, number]| {
            let first = item * windows.num_tokens();
            windows.own(number).map(move |token| first + token)
        });
        for (place, token) in tokens.enumerate() {
            places[token] = place as i64;
        }
        let [rows, columns] = self.size;
        let within = |token: usize| {
            let token = token % windows.num_tokens();
            token / windows.columns < rows && token % windows.columns < columns
        };
        let all = places.into_iter().enumerate();
        all.filter(|&(token, _)| within(token))
            .map(|(_, place)| place)
            .collect()
    }
}
