//! How the allowed memory is divided.

use crate::error::AliCcpError;

/// What the program, its reading and its writing take whatever is allowed.
const BASE: u64 = 96 << 20;
/// What a thread needs for the blocks and segments that it works on, and that wait for it.
const EACH_THREAD: u64 = 80 << 20;
/// The least for sorting.
const LEAST_SORTER: u64 = 64 << 20;
/// Late impressions are few; more of them go to disk.
const LATE: usize = 16 << 20;

/// Shares of the allowed memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// For common features that are being sorted.
    pub(crate) sorter: usize,
    /// For impressions that come late.
    pub(crate) late: usize,
    /// Blocks and segments under way.
    pub(crate) ahead: usize,
}

impl Memory {
    /// Divides what is allowed. The groups' index, some 50 bytes a group, comes on top.
    ///
    /// # Errors
    /// Less than the threads need.
    pub(crate) fn divide(allowed: u64, threads: usize) -> Result<Self, AliCcpError> {
        let fixed = BASE + EACH_THREAD * threads as u64 + LATE as u64;
        let least = fixed + LEAST_SORTER;
        if allowed < least {
            let found = allowed >> 20;
            let least = least.div_ceil(1 << 20);
            return Err(AliCcpError::Setting(format!(
                "--memory {found}MiB: {threads} threads need {least}MiB, give more or say --threads"
            )));
        }
        let sorter = usize::try_from(allowed - fixed).unwrap_or(usize::MAX);
        Ok(Self { sorter, late: LATE, ahead: threads + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_says_how_much_is_needed() {
        let least = 96 + 2 * 80 + 16 + 64;
        let error = Memory::divide((least << 20) - 1, 2).unwrap_err();
        assert!(error.to_string().contains(&format!("2 threads need {least}MiB")), "{error}");
        let memory = Memory::divide(least << 20, 2).unwrap();
        assert_eq!((memory.sorter, memory.ahead), (64 << 20, 3));
    }
}
