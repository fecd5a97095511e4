//! The rules for names of bitmaps and files, and the prefixes of extension members.

use super::{MAX_BITMAP_NAME, MAX_FILE_NAME};

/// Members that whoever does not know them may ignore, and must keep when it rewrites them.
pub(super) const SOFT: &str = "ext-soft-";
/// Members that whoever does not know them must not use the image.
pub(super) const HARD: &str = "ext-hard-";

/// Whether `name` can be a bitmap's: any text of 1 to 1023 bytes without control characters that
/// does not begin as an extension member does. It is no path, so `../a` is as good as any other.
///
/// # Errors
///
/// Which rule it breaks, as the rest of a sentence that begins with the name.
pub fn check_bitmap_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > MAX_BITMAP_NAME {
        Err("is longer than 1023 bytes")
    } else if name.chars().any(char::is_control) {
        Err("has control characters")
    } else if name.starts_with(SOFT) || name.starts_with(HARD) {
        Err("begins with \"ext-soft-\" or \"ext-hard-\", as only extension members do")
    } else {
        Ok(())
    }
}

/// Whether `name` can be a file's: 1 to 4095 bytes without control characters. Which of these may
/// be opened is for the directory to decide.
///
/// # Errors
///
/// Which rule it breaks, as the rest of a sentence that begins with the name.
pub fn check_file_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > MAX_FILE_NAME {
        Err("is longer than 4095 bytes")
    } else if name.chars().any(char::is_control) {
        Err("has control characters")
    } else {
        Ok(())
    }
}

const _: () = assert!(MAX_BITMAP_NAME == 1023 && MAX_FILE_NAME == 4095, "the messages name them");
