//! A bitmap in memory.
