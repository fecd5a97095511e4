//! The names of the format's members. docs/format.md says what each of them means.

pub(super) const ROOT: &str = "QBM";
pub(super) const VERSION: &str = "version";
pub(super) const IMAGE: &str = "image";
pub(super) const BITMAPS: &str = "bitmaps";

pub(super) const FILE: &str = "file";
pub(super) const FORMAT: &str = "format";

pub(super) const ID: &str = "ext-soft-id";
pub(super) const GENERATION: &str = "ext-soft-generation";
pub(super) const SIZE: &str = "ext-soft-size";
pub(super) const DURABILITY: &str = "ext-soft-durability";
pub(super) const STAMP: &str = "ext-soft-stamp";
/// Of an image: the backup point that it is. Of a bitmap: the one its first segment began at.
pub(super) const POINT: &str = "ext-soft-point";
pub(super) const IN_USE: &str = "ext-hard-in-use";

pub(super) const GRANULARITY: &str = "granularity-bytes";
pub(super) const TYPE: &str = "type";
pub(super) const BACKING: &str = "backing";
pub(super) const DOUBT: &str = "ext-soft-doubt";
pub(super) const SEGMENTS: &str = "ext-hard-segments";
pub(super) const DISABLED: &str = "ext-hard-disabled";

pub(super) const SEAL: &str = "ext-soft-seal";
pub(super) const SEAL_GENERATION: &str = "generation";

pub(super) const SEGMENT_POINT: &str = "point";

pub(super) const STAMP_DEVICE: &str = "device";
pub(super) const STAMP_INODE: &str = "inode";
pub(super) const STAMP_SIZE: &str = "size";
pub(super) const STAMP_MODIFIED: &str = "modified-ns";

pub(super) const POINT_ID: &str = "id";
pub(super) const POINT_PARENT: &str = "parent";
pub(super) const POINT_CREATED: &str = "created";
pub(super) const POINT_IMAGE: &str = "image";
pub(super) const POINT_BITMAP: &str = "bitmap";
pub(super) const POINT_STORED: &str = "stored";
pub(super) const POINT_DIGEST: &str = "digest";
pub(super) const POINT_DIGESTS: &str = "digests";
pub(super) const POINT_BLOCK: &str = "block-bytes";

pub(super) const OPENER: &str = "opener";
pub(super) const PID: &str = "pid";
pub(super) const PROGRAM: &str = "program";
pub(super) const BOOT: &str = "boot";
pub(super) const SINCE: &str = "since";
pub(super) const DATA_SYNC_FAILED: &str = "data-sync-failed";
