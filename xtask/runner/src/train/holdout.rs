//! What is kept for evaluation.

use anyhow::{Result, bail};

use crate::settings::UsageError;

/// Items that are trained on, the first ones; `holdout` is the share of those that are not.
///
/// # Errors
/// [`UsageError`] if there are too few to keep any.
pub fn num_training(num_items: usize, holdout: f64, place: &str) -> Result<usize> {
    if holdout == 0.0 {
        return Ok(num_items);
    }
    if num_items < 2 {
        bail!(UsageError(format!(
            "{place} holds {num_items} item, too few to keep any for evaluation; use --holdout 0"
        )));
    }
    let held_out = (num_items as f64 * holdout).round() as usize;
    Ok(num_items - held_out.clamp(1, num_items - 1))
}
