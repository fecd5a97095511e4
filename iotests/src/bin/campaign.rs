//! `campaign kill|power-cut COUNT`: kills a writer, or cuts its power, and judges what is left.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use iotests::{Seed, campaign, rounds};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (run, count): (fn(u32, Seed) -> _, u32) = match arguments.as_slice() {
        [kind, count] if kind == "kill" => (campaign::kill, count.parse().unwrap_or(0)),
        [kind, count] if kind == "power-cut" => (campaign::power_cut, count.parse().unwrap_or(0)),
        _ => (campaign::kill, 0),
    };
    if count == 0 {
        eprintln!("usage: campaign kill|power-cut COUNT");
        return ExitCode::FAILURE;
    }
    rounds(1, |seed| {
        println!("QBM_SEED={seed}");
        println!("{:#?}", run(count, seed));
    });
    ExitCode::SUCCESS
}
