//! Large pieces of host memory.

/// Bytes that are worth it: two large pages of most systems.
const LARGE: usize = 4 << 20;

/// Zeros, in large pages where the system has them: to touch a result for the first time, small page
/// by small page, takes as long as to compute it from windows.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    let mut zeros = vec![0.0; len];
    if len * size_of::<f32>() >= LARGE {
        ask_for_large_pages(&mut zeros);
    }
    zeros
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages(memory: &mut [f32]) {
    /// What pages begin at multiples of, whatever their size is.
    const ALIGNMENT: usize = 1 << 16;
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(memory);
    let skipped = bytes.as_ptr().align_offset(ALIGNMENT);
    let Some(aligned) = bytes.get_mut(skipped..) else {
        return;
    };
    // SAFETY: the range is memory that is borrowed here, and the advice changes none of its bytes.
    let advised = unsafe {
        libc::madvise(
            aligned.as_mut_ptr().cast(),
            aligned.len(),
            libc::MADV_HUGEPAGE,
        )
    };
    if advised != 0 {
        log::debug!("no large pages: {}", std::io::Error::last_os_error());
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: &mut [f32]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_zeros_that_can_be_written() {
        for len in [0, 1, 1 << 14, (1 << 20) + 3] {
            let mut zeros = zeros(len);
            assert!(zeros.len() == len && zeros.iter().all(|zero| *zero == 0.0));
            zeros.fill(1.0);
            assert!(zeros.iter().all(|one| *one == 1.0));
        }
    }
}
