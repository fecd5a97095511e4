//! The contract of the core, over the simulated medium.

use qbm_core::{Directory, conformance};
use qbm_sim::{Disk, Medium, SimDirectory, run};

#[test]
fn the_simulated_directory_keeps_the_contract_whatever_the_order() {
    for seed in 0..20 {
        let disk = Disk::new(Medium::new(), seed);
        run(&disk, seed, async {
            conformance::check_directory(async || {
                let directory = SimDirectory::new(&disk);
                for name in directory.list().await.unwrap() {
                    directory.remove(&name).await.unwrap();
                }
                directory
            })
            .await;
        });
    }
}
