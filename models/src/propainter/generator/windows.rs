//! Which tokens a window attends to; pure arithmetic.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

/// Rows and columns of a window, in tokens.
pub(super) const WINDOW: [usize; 2] = [5, 9];
/// How far the copies of the map are rolled down and to the right, by rows and columns.
const ROLLS: [[isize; 2]; 4] = [[-3, -5], [-3, 5], [3, -5], [3, 5]];
/// Tokens of a window.
pub(super) const WINDOW_LEN: usize = WINDOW[0] * WINDOW[1];

/// The windows of a map of tokens, padded to whole windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// Rows of the padded map.
    pub rows: usize,
    /// Columns of the padded map.
    pub columns: usize,
}

impl Windows {
    /// The windows that cover `rows` × `columns` tokens.
    pub(super) fn covering([rows, columns]: [usize; 2]) -> Self {
        Self {
            rows: rows.next_multiple_of(WINDOW[0]),
            columns: columns.next_multiple_of(WINDOW[1]),
        }
    }

    /// Tokens of the padded map.
    pub fn num_tokens(&self) -> usize {
        self.rows * self.columns
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.num_tokens() / WINDOW_LEN
    }

    /// The tokens of window `number`, row by row.
    pub fn own(&self, number: usize) -> impl Iterator<Item = usize> {
        self.moved(number, [0, 0])
    }

    /// The tokens in window `number` of the four rolled copies of the map.
    pub fn rolled(&self, number: usize) -> impl Iterator<Item = usize> {
        let windows = *self;
        ROLLS
            .into_iter()
            .flat_map(move |[down, right]| windows.moved(number, [-down, -right]))
    }

    /// The tokens of window `number` moved down and to the right, around the edges of the map.
    fn moved(self, number: usize, [down, right]: [isize; 2]) -> impl Iterator<Item = usize> {
        let across = self.columns / WINDOW[1];
        let first = [number / across * WINDOW[0], number % across * WINDOW[1]];
        let wrapped =
            |at: usize, by: isize, len: usize| (at as isize + by).rem_euclid(len as isize) as usize;
        (0..WINDOW_LEN).map(move |token| {
            let row = wrapped(first[0] + token / WINDOW[1], down, self.rows);
            let column = wrapped(first[1] + token % WINDOW[1], right, self.columns);
            row * self.columns + column
        })
    }
}

/// Which of the 180 tokens of [`Windows::rolled`] are outside the window itself: 148.
pub(super) fn outside() -> Vec<usize> {
    let windows = Windows {
        rows: 5 * WINDOW[0],
        columns: 5 * WINDOW[1],
    };
    // The window in the middle, so that nothing wraps around.
    let middle = windows.count() / 2;
    let own: Vec<usize> = windows.own(middle).collect();
    let rolled = windows.rolled(middle).enumerate();
    rolled
        .filter(|(_, token)| !own.contains(token))
        .map(|(place, _)| place)
        .collect()
}

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

    /// The place of each token of the map when the tokens of all windows follow each other, first
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_token_once() {
        let windows = Windows::covering([8, 11]);
        assert_eq!((windows.rows, windows.columns), (10, 18));
        let mut tokens: Vec<usize> = (0..windows.count())
            .flat_map(|number| windows.own(number))
            .collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..180).collect::<Vec<_>>());
    }

    #[test]
    fn around_a_window_are_148_tokens() {
        let outside = outside();
        assert_eq!(outside.len(), 148);
        // The first row of the copy rolled up by 3 and left by 5 shows 3 rows further down and 5
        // columns further right: its last five columns are outside.
        assert_eq!(outside[..6], [4, 5, 6, 7, 8, 13]);
    }

    #[test]
    fn the_tokens_around_continue_at_the_opposite_edge() {
        let windows = Windows::covering([10, 18]);
        // Rolled by (3, 5): three rows up and five columns left of the first token.
        let third = windows.rolled(0).nth(3 * WINDOW_LEN);
        assert_eq!(third, Some(7 * 18 + 13));
    }
}
