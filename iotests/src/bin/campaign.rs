//! `campaign kill|kill-server|power-cut COUNT`: kills a writer or a server, or cuts the power of one, and judges
//! what is left.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use iotests::{Seed, campaign, persistence, rounds};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (run, count): (fn(u32, Seed), u32) = match arguments.as_slice() {
        [kind, count] if kind == "kill" => (kill, count.parse().unwrap_or(0)),
        [kind, count] if kind == "kill-server" => (kill_server, count.parse().unwrap_or(0)),
        [kind, count] if kind == "power-cut" => (power_cut, count.parse().unwrap_or(0)),
        _ => (kill, 0),
    };
    if count == 0 {
        eprintln!("usage: campaign kill|kill-server|power-cut COUNT");
        return ExitCode::FAILURE;
    }
    rounds(1, |seed| {
        println!("QBM_SEED={seed}");
        run(count, seed);
    });
    ExitCode::SUCCESS
}

fn kill(count: u32, seed: Seed) {
    println!("{:#?}", campaign::kill(count, seed));
}

fn kill_server(count: u32, seed: Seed) {
    println!("{:#?}", persistence::kill(count, seed));
}

fn power_cut(count: u32, seed: Seed) {
    println!("{:#?}", campaign::power_cut(count, seed));
}
