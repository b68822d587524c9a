//! Numbers of flags, and what they must be.

/// Reads a count that may not be zero.
pub fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number of at least 1".into()),
    }
}

/// Reads a finite number above zero.
pub fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above 0".into()),
    }
}

/// Reads a share of a whole that leaves something over.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("must be at least 0 and below 1".into()),
    }
}

/// Reads a share of a whole, which may be all of it.
pub fn share_to_use(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("must be above 0 and at most 1".into()),
    }
}

/// Checks the form of an amount of memory; the runner reads it.
pub fn amount(text: &str) -> Result<String, String> {
    match text
        .trim()
        .starts_with(|first: char| first.is_ascii_digit())
    {
        true => Ok(text.into()),
        false => Err("must be a number with or without a unit, as in 6GiB".into()),
    }
}
