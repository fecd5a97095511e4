//! Why a command was not done, as a client is told.

use serde_json::{Value, json};

/// The kind of an error. Clients should go by the description only for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Any that is none of the others.
    GenericError,
    /// There is no such command, or it is not its time.
    CommandNotFound,
    /// There is no such job.
    DeviceNotActive,
    /// There is no such node.
    DeviceNotFound,
}

impl Class {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
        }
    }
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// Of which kind it is.
    pub class: Class,
    /// What is the matter, for people.
    pub what: String,
}

impl Refusal {
    /// One of the class `class`.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into() }
    }

    /// One of the class `GenericError`.
    pub fn generic(what: impl Into<String>) -> Self {
        Self::new(Class::GenericError, what)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "class": self.class.name(), "desc": self.what })
    }
}
