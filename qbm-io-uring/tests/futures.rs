//! Futures that are dropped, moved between threads, and more than a ring has room for.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use fastrand::Rng;
use futures_executor::block_on;
use futures_util::future::{join, join_all};
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_io_std::StdFile;
use qbm_io_uring::UringFile;
use tempfile::NamedTempFile;

const PAGE: usize = 4096;
/// As `qbm_io_uring::ring::SLOTS`.
const SLOTS: usize = 64;

/// A file of `pages` zero pages on a disk.
fn file(pages: usize) -> (NamedTempFile, UringFile) {
    let path = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    path.as_file().set_len((pages * PAGE) as u64).unwrap();
    let file = UringFile::new(StdFile::open_operator(path.path(), Access::Write).unwrap());
    assert!(file.is_direct());
    (path, file)
}

fn page(value: u8) -> Buffer {
    Buffer::from_slice(&[value; PAGE])
}

fn at(page: usize) -> u64 {
    (page * PAGE) as u64
}

fn read(file: &UringFile, start: usize, length: usize) -> Buffer {
    block_on(file.read_at(start as u64, Buffer::zeroed(length))).unwrap()
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A write whose future is dropped happens or not, with its own bytes, before its memory is used for
/// anything else; so does a read.
#[test]
fn a_dropped_future_leaves_its_buffer_to_nobody() {
    let (_path, file) = file(64);
    for round in 0..60_u8 {
        let polls = round % 3;
        let place = usize::from(round);
        let mut write = Box::pin(file.write_at(at(place), page(round + 1), Persist::Later));
        let mut other = Box::pin(file.read_at(at(place), Buffer::zeroed(PAGE)));
        for _ in 0..polls {
            let (_written, _read) = (poll(&mut write).is_ready(), poll(&mut other).is_ready());
        }
        drop((write, other));
        // Likely the same memory.
        let (again, more) = (page(200), page(201));
        block_on(file.settle());
        assert!(again.iter().all(|byte| *byte == 200) && more.iter().all(|byte| *byte == 201));
        let found = read(&file, place * PAGE, PAGE);
        let expected = if polls == 0 { 0 } else { round + 1 };
        assert!(found.iter().all(|byte| *byte == expected), "{polls} polls: {}", found[0]);
    }
}

#[test]
fn more_operations_than_a_ring_has_room_for_are_all_done() {
    let count = 3 * SLOTS;
    let (_path, file) = file(count);
    block_on(async {
        let value = |index: usize| u8::try_from(index % 251 + 1).unwrap();
        let writes =
            (0..count).map(|index| file.write_at(at(index), page(value(index)), Persist::Later));
        join_all(writes).await.into_iter().for_each(|written| drop(written.unwrap()));
        let reads = (0..count).map(|index| file.read_at(at(index), Buffer::zeroed(PAGE)));
        for (index, found) in join_all(reads).await.into_iter().enumerate() {
            assert!(found.unwrap().iter().all(|byte| *byte == value(index)), "page {index}");
        }
    });
}

/// An operation that one thread has begun is done also when that thread ends, and another waits.
#[test]
fn operations_outlive_the_thread_that_began_them() {
    let (_path, file) = file(64);
    for round in 0..50_u8 {
        let mut writes: Vec<_> = (0..8_u8)
            .map(|index| {
                let (place, value) = (at(usize::from(index)), page(round * 4 + index));
                Some(Box::pin(file.write_at(place, value, Persist::Later)))
            })
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                // All are given to the kernel by the second poll of the first.
                for write in writes.iter_mut().flatten() {
                    assert!(poll(write).is_pending());
                }
                if poll(writes[0].as_mut().unwrap()).is_ready() {
                    writes[0] = None;
                }
            });
        });
        // The kernel may still be at it.
        writes.into_iter().flatten().for_each(|write| drop(block_on(write).unwrap()));
        for index in 0..8_u8 {
            let found = read(&file, usize::from(index) * PAGE, PAGE);
            assert!(found.iter().all(|byte| *byte == round * 4 + index), "page {index}");
        }
    }
}

/// A write to a part of a page never brings back what a direct write of that page has replaced, also
/// when both are under way together.
#[test]
fn a_write_to_a_part_of_a_page_undoes_no_direct_write() {
    let (_path, file) = file(2);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0_u32.. {
                let part = Buffer::from_slice(&[0; 100]);
                block_on(file.write_at(0, part, Persist::Later)).unwrap();
                if step % 4 == 0 {
                    block_on(file.sync()).unwrap();
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for step in 0..400_usize {
            let value = u8::try_from(step % 255 + 1).unwrap();
            // Two, so that a ring does them; a plain call would keep the file to itself meanwhile.
            let write = file.write_at(0, page(value), Persist::Later);
            let (written, _) = block_on(join(write, file.read_at(at(1), page(0))));
            written.unwrap();
            let found = read(&file, 0, PAGE);
            let kept = found[100..].iter().all(|byte| *byte == value);
            if !kept {
                done.store(true, Ordering::Relaxed);
            }
            assert!(kept, "step {step}: {value} became {}", found[100]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Random writes of whole pages and of parts of them, by threads that each have a few pages between
/// those of others; whatever a thread reads, it has written.
#[test]
fn direct_and_cached_writes_of_many_threads_stay_coherent() {
    const THREADS: usize = 4;
    const PAGES: usize = 5;
    let (_path, file) = file(THREADS * PAGES);
    let work = |thread: usize, mut random: Rng| {
        let base = thread * PAGES * PAGE;
        let mut model = vec![0; PAGES * PAGE];
        for step in 0..150 {
            let whole = random.bool();
            let unit = if whole { PAGE } else { 1 + random.usize(..700) };
            let start = random.usize(..PAGES * PAGE) / unit * unit;
            let end = (start + unit * random.usize(1..3)).min(PAGES * PAGE);
            let value = random.u8(1..);
            let persist = if random.u8(..20) == 0 { Persist::Now } else { Persist::Later };
            let buffer = Buffer::from_slice(&vec![value; end - start]);
            let write = file.write_at((base + start) as u64, buffer, persist);
            let (written, beside) = block_on(join(write, file.read_at(at(thread), page(0))));
            drop((written.unwrap(), beside.unwrap()));
            model[start..end].fill(value);
            let from = if random.bool() { start / PAGE * PAGE } else { start };
            let length = PAGE.min(PAGES * PAGE - from);
            let found = read(&file, base + from, length);
            assert!(*found == model[from..from + length], "thread {thread}, step {step}");
        }
        model
    };
    let mut random = Rng::with_seed(7);
    let mut models = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| (thread, random.fork()))
            .map(|(thread, random)| scope.spawn(move || work(thread, random)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let expected: Vec<u8> = models.drain(..).flatten().collect();
    block_on(file.sync()).unwrap();
    block_on(file.invalidate_cache()).unwrap();
    assert!(*read(&file, 0, expected.len()) == expected, "what was acknowledged is there");
}
