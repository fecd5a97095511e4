//! What the core asks of the program around it: the time, fresh ids, and who it is.

use std::fmt;
use std::str::FromStr;

/// Milliseconds since 1970-01-01T00:00:00Z. For people to read; nothing is ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A random 128-bit id, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u128);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() != 32 || !plain {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// Who has an image open for writing; kept in the descriptor while it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process id.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// The boot of the machine (`/proc/sys/kernel/random/boot_id`), so that a dead opener shows.
    pub boot: String,
}

/// The world as far as the core needs it. One value serves many images.
pub trait Host: fmt::Debug + Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;

    /// An id that nothing else has.
    fn fresh_id(&self) -> Id;

    /// This process.
    fn opener(&self) -> Opener;
}
