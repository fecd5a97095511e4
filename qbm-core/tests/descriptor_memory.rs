//! The memory that a descriptor takes to read. Alone in its process, which it measures.

use qbm_core::descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES};

/// The most memory this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells this");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Whatever stands in the text, reading it takes at most 64 MiB.
#[test]
fn the_worst_text_takes_little_memory() {
    let before = peak_kib();
    for unit in
        ["0,", "[],", "[0],", "{},", "{\"\":0},", "\"\",", "\"\\n\",", "[[[[[[[[[[[[0]]]]]]]]]]]],"]
    {
        let units = unit.repeat((MAX_DESCRIPTOR_BYTES - 200) / unit.len());
        let text = format!(
            "{{\"QBM\":{{\"version\":1,\"image\":{{\"file\":\"d\",\"format\":\"raw\"}},\"bitmaps\":{{}},\
             \"ext-soft-many\":[{units}0]}}}}"
        );
        Descriptor::parse(text.as_bytes()).expect("it is long, and right");
        let names: String =
            (0..).map(|index| format!("\"ext-soft-{index}\":0,\n")).take(50_000).collect();
        let text = text.replace(
            &format!("\"ext-soft-many\":[{units}0]"),
            &format!("{names}\"ext-soft-last\":0"),
        );
        Descriptor::parse(text.as_bytes()).expect("it has many members, and is right");
        let grown = peak_kib() - before;
        println!("{unit:10} peak {grown} KiB");
        assert!(grown <= 64 << 10, "{unit} took {grown} KiB");
    }
}
