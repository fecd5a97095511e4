//! The arguments that several jobs have.

use qbm_core::job::{JobOptions, OnError};
use qbm_qmp::Refusal;
use serde::Deserialize;

/// What a job does about an error, as clients say it.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Policy {
    #[default]
    Report,
    Ignore,
    Enospc,
    Stop,
    /// What is the default otherwise.
    Auto,
}

impl Policy {
    fn on_error(self) -> OnError {
        match self {
            Self::Report | Self::Auto => OnError::Report,
            Self::Ignore => OnError::Ignore,
            Self::Enospc => OnError::Enospc,
            Self::Stop => OnError::Stop,
        }
    }
}

/// Bytes a second.
///
/// # Errors
///
/// If it is negative.
pub(super) fn speed(speed: i64) -> Result<u64, Refusal> {
    let refused = |_| Refusal::generic("Parameter 'speed' expects a non-negative value");
    u64::try_from(speed).map_err(refused)
}

/// How a job is done: its speed, what it does about errors, and whether it is finalized and dismissed
/// by itself.
///
/// # Errors
///
/// If the speed is negative.
pub(super) fn options(
    limit: i64,
    (source, target): (Policy, Policy),
    (auto_finalize, auto_dismiss): (bool, bool),
) -> Result<JobOptions, Refusal> {
    Ok(JobOptions {
        speed: speed(limit)?,
        auto_finalize,
        auto_dismiss,
        on_source_error: source.on_error(),
        on_target_error: target.on_error(),
    })
}

/// The default of what most jobs do.
pub(super) fn yes() -> bool {
    true
}
