//! The ordering core: the code that decides what is durable when. Each line of it is reached by a test, and no
//! mutant of it survives.

/// Its files, from the root of the tree.
pub(crate) const FILES: &[&str] = &[
    "qbm-core/src/track/gate.rs",
    "qbm-core/src/track/segment.rs",
    "qbm-core/src/track/commit.rs",
    "qbm-core/src/track/wait.rs",
    "qbm-core/src/image/io.rs",
    "qbm-core/src/image/flush.rs",
    "qbm-core/src/image/switch.rs",
    "qbm-core/src/image/point.rs",
    "qbm-core/src/image/transaction.rs",
    "qbm-core/src/image/rotate.rs",
    "qbm-core/src/image/resize.rs",
    "qbm-core/src/image/recover.rs",
    "qbm-core/src/image/close.rs",
];
