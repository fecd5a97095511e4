//! Any bytes are a descriptor, or an error that says where.

use qbm_core::descriptor::{Descriptor, MAX_BITMAPS, MAX_DESCRIPTOR_BYTES, MAX_SEGMENTS};

/// Reads the bytes as a descriptor. What is read is within the limits, and written back it reads
/// the same; what is refused is refused in one line, at a place in the text.
///
/// # Panics
///
/// If that does not hold.
pub fn descriptor(bytes: &[u8]) {
    let descriptor = match Descriptor::parse(bytes) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.position.line), "{error:?}");
            assert!((1..=bytes.len() + 1).contains(&error.position.column), "{error:?}");
            assert!(!error.what.is_empty() && !error.to_string().contains('\n'), "{error:?}");
            return;
        }
    };
    assert!(bytes.len() <= MAX_DESCRIPTOR_BYTES && descriptor.bitmaps.len() <= MAX_BITMAPS);
    assert!(descriptor.bitmaps.iter().all(|b| (1..=MAX_SEGMENTS).contains(&b.segments.len())));
    let Ok(text) = descriptor.to_text() else {
        // Indented, a text may outgrow the limit; that must take a long one.
        assert!(bytes.len() > MAX_DESCRIPTOR_BYTES / 64, "what was read cannot be written");
        return;
    };
    assert_eq!(text.last(), Some(&b'\n'), "a text file ends in a newline");
    let again = match Descriptor::parse(&text) {
        Ok(again) => again,
        Err(error) => panic!("{}: {error}", text.escape_ascii()),
    };
    assert_eq!(again, descriptor);
    assert_eq!(again.to_text().expect("it was just written"), text, "a second rewrite changes it");
}
