//! Why an operation on an image failed.

use std::io;

use crate::descriptor::DescriptorError;
use crate::{Buffer, ByteRange, Granularity};

/// The result of an operation on an image.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on an image failed. `Display` is one line that has all of it, so there is no
/// chain of sources to print.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage or directory failed.
    #[error("{file}: {action}: {error}")]
    Io {
        /// The file, by the name in the descriptor.
        file: String,
        /// What was being done, such as `open` or `sync`.
        action: &'static str,
        /// The backend's own words.
        error: io::Error,
    },
    /// The descriptor does not follow the format.
    #[error("{file}:{error}")]
    Descriptor {
        /// The descriptor.
        file: String,
        /// What is wrong with it, and where.
        error: DescriptorError,
    },
    /// The image is not one that this operation can work on.
    #[error("{file}: {what}")]
    Unusable {
        /// The file concerned.
        file: String,
        /// What is the matter, and the way out.
        what: String,
    },
    /// The request reaches past the end of the disk.
    #[error("request {range:?} is outside the disk of {size} bytes")]
    OutOfRange {
        /// What was asked for.
        range: ByteRange,
        /// The size of the disk, in bytes.
        size: u64,
    },
    /// The image was opened for reading only.
    #[error("the image is open read-only")]
    ReadOnly,
    /// There is a bitmap of this name already.
    #[error("Bitmap already exists: {0}")]
    BitmapExists(String),
    /// There is no bitmap of this name.
    #[error("Dirty bitmap '{0}' not found")]
    BitmapNotFound(String),
    /// A job holds the bitmap.
    #[error("Bitmap '{0}' is currently in use by another operation and cannot be used")]
    BitmapBusy(String),
    /// The name cannot be a bitmap's.
    #[error("Bitmap name '{}' {what}", name.escape_debug())]
    BitmapName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        what: &'static str,
    },
    /// The granularity is too fine for a disk of this size.
    #[error("granularity {granularity:?} is too fine for a disk of {size} bytes")]
    TooManyGranules {
        /// The granularity asked for.
        granularity: Granularity,
        /// The size of the disk, in bytes.
        size: u64,
    },
    /// Marks could not be made durable, so the write was not done.
    #[error("bitmap '{bitmap}' could not be written, and the write was not done: {what}")]
    BitmapWrite {
        /// The bitmap.
        bitmap: String,
        /// The failure.
        what: String,
    },
    /// The allocation bitmap could not be written, so the flush did not happen. Another may.
    #[error("allocation bitmap '{bitmap}' could not be written, and nothing was flushed: {what}")]
    AllocationWrite {
        /// The bitmap.
        bitmap: String,
        /// The failure.
        what: String,
    },
    /// A sync of the data image failed earlier; what is durable is unknown until it is reopened.
    #[error("a sync of the data image has failed; reopen the image")]
    DataSyncFailed,
    /// The disk has moved to another image, by a job that has ended: the request is to be made there.
    #[error("the disk has moved to another image")]
    Moved {
        /// What was to be written, as it was given.
        buffer: Option<Buffer>,
    },
    /// The job was cancelled, or another one that it was to succeed with has failed.
    #[error("Operation canceled")]
    Cancelled,
}

impl Error {
    /// For `map_err`: an I/O error while doing `action` to `file`.
    ///
    /// The name is copied only if there is an error: this is on the path of every request.
    pub(crate) fn io(file: &str, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { file: file.to_owned(), action, error }
    }

    /// For `map_err`: what is wrong with the descriptor `file`.
    pub(crate) fn descriptor(file: &str) -> impl FnOnce(DescriptorError) -> Self {
        move |error| Self::Descriptor { file: file.to_owned(), error }
    }

    /// An image that cannot be used, and why.
    pub(crate) fn unusable(file: &str, what: impl Into<String>) -> Self {
        Self::Unusable { file: file.to_owned(), what: what.into() }
    }
}
