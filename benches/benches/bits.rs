//! The bitmap in memory beside bitvec, at 2^28 granules: 16 TiB at 64 KiB.
//!
//! bitvec here is what a plain `BitVec<u64>` does for one thread; it cannot be set through a
//! shared reference, which the bitmap can. Every bench checks its answer before it is timed.

use std::hint::black_box;
use std::ops::Range;

use bitvec::order::Lsb0;
use bitvec::vec::BitVec;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use qbm_core::bits::{Bits, PAGE_BITS, PAGE_BYTES};

type Rival = BitVec<u64, Lsb0>;

const LEN: u64 = 1 << 28;

/// What is marked.
#[derive(Clone, Copy)]
enum Shape {
    /// One granule in every tenth page.
    Sparse,
    /// One granule in every page: the worst case of a scan that looks for little.
    Scattered,
    /// Half of all granules, in runs of 24 with 24 between.
    Dense,
    /// Every granule.
    Full,
}

impl Shape {
    const ALL: [Self; 4] = [Self::Sparse, Self::Scattered, Self::Dense, Self::Full];

    fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
            Self::Scattered => "scattered",
            Self::Dense => "dense",
            Self::Full => "full",
        }
    }

    fn runs(self) -> impl Iterator<Item = Range<u64>> {
        let (step, length) = match self {
            Self::Sparse => (10 * PAGE_BITS, 1),
            Self::Scattered => (PAGE_BITS, 1),
            Self::Dense => (48, 24),
            Self::Full => (LEN, LEN),
        };
        (0..LEN).step_by(index(step)).map(move |start| start..(start + length).min(LEN))
    }

    /// Both bitmaps, with the same granules marked.
    fn build(self) -> (Bits, Rival) {
        let bits = Bits::new(LEN);
        let mut rival = Rival::repeat(false, index(LEN));
        for run in self.runs() {
            bits.set(run.clone());
            rival[index(run.start)..index(run.end)].fill(true);
        }
        (bits, rival)
    }
}

fn index(bit: u64) -> usize {
    usize::try_from(bit).expect("a 64-bit machine")
}

/// Granules all over the bitmap, in an order that no cache foresees.
fn anywhere() -> impl FnMut() -> u64 {
    let mut at = 1;
    move || {
        at = (at * 1_103_515_245 + 12_345) % LEN;
        at
    }
}

/// The test on every guest write: is it marked already?
fn contains(c: &mut Criterion) {
    let (bits, rival) = Shape::Full.build();
    let mut group = c.benchmark_group("contains");
    for (name, granules) in [("1 granule", 1), ("16 granules", 16), ("1024 granules", 1024)] {
        let at = 5 * PAGE_BITS + 30;
        let range = at..at + granules;
        let slice = index(range.start)..index(range.end);
        assert!(bits.contains(range.clone()) && rival[slice.clone()].all());
        group.bench_function(format!("{name}/qbm"), |b| {
            b.iter(|| bits.contains(black_box(range.clone())));
        });
        group.bench_function(format!("{name}/bitvec"), |b| {
            b.iter(|| rival[black_box(slice.clone())].all());
        });
    }
    let mut next = anywhere();
    group.bench_function("1 granule anywhere/qbm", |b| b.iter(|| bits.get(next())));
    let mut next = anywhere();
    group.bench_function("1 granule anywhere/bitvec", |b| b.iter(|| rival[index(next())]));
    group.finish();
}

fn set(c: &mut Criterion) {
    let mut group = c.benchmark_group("set");
    let (bits, mut rival) = Shape::Full.build();
    group.bench_function("marked already/qbm", |b| {
        b.iter(|| bits.set(black_box(777)..black_box(778)));
    });
    group.bench_function("marked already/bitvec", |b| b.iter(|| rival.set(black_box(777), true)));
    // A page's worth of clear bits, one by one, in pages that are there.
    let first = PAGE_BITS - 100;
    let clear_page = || {
        let bits = Bits::new(3 * PAGE_BITS);
        (0..3).for_each(|page| bits.set(page * PAGE_BITS..page * PAGE_BITS + 1));
        bits
    };
    let set_each = |bits: Bits| {
        (first..first + 1000).for_each(|bit| bits.set(bit..bit + 1));
        bits
    };
    assert_eq!(set_each(clear_page()).count(), 3 + 1000 - 1);
    group.bench_function("1000 clear bits/qbm", |b| {
        b.iter_batched(clear_page, set_each, BatchSize::SmallInput);
    });
    let clear_rival = || Rival::repeat(false, index(3 * PAGE_BITS));
    let set_each = |mut rival: Rival| {
        (first..first + 1000).for_each(|bit| rival.set(index(bit), true));
        rival
    };
    assert_eq!(set_each(clear_rival()).count_ones(), 1000);
    group.bench_function("1000 clear bits/bitvec", |b| {
        b.iter_batched(clear_rival, set_each, BatchSize::SmallInput);
    });
    group.bench_function("first bit of an absent page/qbm", |b| {
        b.iter_batched(
            || Bits::new(PAGE_BITS),
            |bits| {
                bits.set(5..6);
                bits
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("set all");
    group.sample_size(10);
    group.bench_function("qbm", |b| {
        b.iter_batched(
            || Bits::new(LEN),
            |bits| {
                bits.set_all();
                bits
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bitvec", |b| b.iter(|| Rival::repeat(true, index(LEN))));
    group.finish();
}

fn scans(c: &mut Criterion) {
    for shape in Shape::ALL {
        let (bits, rival) = shape.build();
        let mut group = c.benchmark_group(shape.name());
        group.sample_size(10);
        let marked: u64 = shape.runs().map(|run| run.end - run.start).sum();
        assert_eq!(bits.count(), marked);
        assert_eq!(rival.count_ones() as u64, marked);
        group.bench_function("count/qbm", |b| b.iter(|| bits.count()));
        group.bench_function("count/bitvec", |b| b.iter(|| rival.count_ones()));
        assert!(bits.areas().eq(shape.runs()));
        assert_eq!(rival_areas(&rival), shape.runs().count());
        group.bench_function("areas/qbm", |b| b.iter(|| bits.areas().count()));
        group.bench_function("areas/bitvec", |b| b.iter(|| rival_areas(&rival)));
        unions(&mut group, &bits, &rival);
        files(&mut group, &bits, &rival);
        group.finish();
    }
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Walks the runs as a program with a `BitVec` would.
fn rival_areas(rival: &Rival) -> usize {
    let (mut areas, mut from) = (0, 0);
    while let Some(start) = rival[from..].first_one() {
        let start = from + start;
        from = rival[start..].first_zero().map_or(rival.len(), |length| start + length);
        areas += 1;
    }
    areas
}

/// Into a bitmap that has every other page, so that pages are both made and united.
fn unions(group: &mut Group<'_>, bits: &Bits, rival: &Rival) {
    let into = || {
        let into = Bits::new(LEN);
        (0..into.page_count() as u64).step_by(2).for_each(|page| {
            into.set(page * PAGE_BITS + 1..page * PAGE_BITS + 2);
        });
        into
    };
    let unite = |into: Bits| {
        into.union(bits);
        into
    };
    let united = unite(into());
    assert!(bits.areas().all(|area| united.contains(area)));
    group.bench_function("union/qbm", |b| {
        b.iter_batched(into, unite, BatchSize::PerIteration);
    });
    let mut into = Rival::repeat(false, index(LEN));
    into |= rival;
    assert_eq!(&into, rival);
    group.bench_function("union/bitvec", |b| b.iter(|| into |= rival));
}

/// The whole file out of memory, and into it.
fn files(group: &mut Group<'_>, bits: &Bits, rival: &Rival) {
    let mut file = vec![0; index(bits.file_len())];
    write_file(bits, &mut file);
    assert!(file.chunks_exact(8).eq(rival.as_raw_slice().iter().map(|word| word.to_le_bytes())));
    let mut out = vec![0; file.len()];
    group.bench_function("to bytes/qbm", |b| b.iter(|| write_file(bits, &mut out)));
    group.bench_function("to bytes/bitvec", |b| {
        b.iter(|| {
            for (bytes, word) in out.chunks_exact_mut(8).zip(rival.as_raw_slice()) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        });
    });
    assert_eq!(read_file(&file).count(), bits.count());
    group.bench_function("from bytes/qbm", |b| {
        b.iter_batched(|| (), |()| read_file(&file), BatchSize::PerIteration);
    });
}

fn write_file(bits: &Bits, file: &mut [u8]) {
    for (page, bytes) in file.as_chunks_mut::<PAGE_BYTES>().0.iter_mut().enumerate() {
        bits.page_bytes(page, bytes);
    }
}

fn read_file(file: &[u8]) -> Bits {
    let bits = Bits::new(LEN);
    for (page, bytes) in file.chunks(PAGE_BYTES).enumerate() {
        bits.publish(page, bytes);
    }
    bits
}

criterion_group!(benches, contains, set, whole, scans);
criterion_main!(benches);
