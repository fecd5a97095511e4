//! The contracts of [`Storage`](crate::Storage) and [`Directory`](crate::Directory) in code.
