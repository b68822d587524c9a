//! The windows of an image, in the order in which they run; pure.

use std::ops::Range;

use super::Axis;

/// Windows over an image: those of the first rows first, from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    rows: Axis,
    columns: Axis,
}

impl Grid {
    /// Windows at every start of `rows` and `columns`.
    pub fn new(rows: Axis, columns: Axis) -> Self {
        Self { rows, columns }
    }

    /// Where windows lie from top to bottom.
    pub fn rows(&self) -> &Axis {
        &self.rows
    }

    /// Where windows lie from left to right.
    pub fn columns(&self) -> &Axis {
        &self.columns
    }

    /// Windows in all.
    pub fn num_windows(&self) -> usize {
        self.rows.starts().len() * self.columns.starts().len()
    }

    /// First row and column, in the padded image, of window `number`.
    ///
    /// # Panics
    /// If there are no more than `number` windows.
    pub fn start(&self, number: usize) -> [usize; 2] {
        let columns = self.columns.starts();
        let row = self.rows.starts()[number / columns.len()];
        [row, columns[number % columns.len()]]
    }

    /// Rows of the padded image that become final when the windows of the `number`th row of windows
    /// are done: no later window touches them.
    pub fn final_rows(&self, number: usize) -> Range<usize> {
        let first = self.rows.is_final_before(number);
        first..self.rows.is_final_before(number + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_final_once_and_in_order() {
        let grid = Grid::new(Axis::new(11, 4, 0.25), Axis::new(5, 5, 0.0));
        let rows: Vec<_> = (0..grid.rows().starts().len())
            .map(|number| grid.final_rows(number))
            .collect();
        assert_eq!(rows, [0..3, 3..6, 6..7, 7..11]);
        assert_eq!(grid.num_windows(), 4);
        assert_eq!(grid.start(2), [6, 0]);
    }
}
