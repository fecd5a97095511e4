//! For models only: loom's atomics, with every load in an order with every other access.
//!
//! Loom remembers one last access of an atomic, and takes two loads for independent. So a thread
//! that loads a value before it changes it hides the loads of others from loom, which then never
//! tries the change before them. Here each load first touches a second atomic, in a way that two
//! threads cannot do independently and that orders nothing between them.

macro_rules! atomic {
    ($name:ident, $value:ty, [$($change:ident),*]) => {
        /// In place of the standard one.
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            value: loom::sync::atomic::$name,
            loads: loom::sync::atomic::AtomicBool,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                let loads = loom::sync::atomic::AtomicBool::new(false);
                Self { value: loom::sync::atomic::$name::new(value), loads }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.loads.fetch_or(true, Ordering::Relaxed);
                self.value.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.value.store(value, order);
            }

            $(pub(crate) fn $change(&self, value: $value, order: Ordering) -> $value {
                self.value.$change(value, order)
            })*
        }
    };
}

pub(crate) use loom::sync::atomic::Ordering;

atomic!(AtomicU64, u64, [swap, fetch_add, fetch_or]);
atomic!(AtomicBool, bool, [swap]);

impl AtomicBool {
    pub(crate) fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        self.value.compare_exchange(current, new, success, failure)
    }
}
