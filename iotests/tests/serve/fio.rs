//! fio's NBD engine: many requests in flight, whose contents it checks itself.

use iotests::{Served, folder_with_image};

use super::{MIB, in_folder, marked};

#[test]
fn fio_writes_at_random_and_reads_back_what_it_wrote() {
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let uri = format!("--uri={}", served.uri());
    let fio = |job: &[&str]| {
        let all = ["--ioengine=nbd", &uri, "--thread", "--size=4M", "--output-format=json"];
        let told = in_folder(folder, "fio", &[&all[..], job].concat()).success().stdout;
        // The engine says first that it is connected.
        let told: serde_json::Value = told[told.find('{').unwrap()..].parse().unwrap();
        let job = &told["jobs"][0];
        assert_eq!(job["error"], 0, "{told}");
        let count = |verb: &str| job[verb]["total_ios"].as_u64().unwrap();
        (count("read"), count("write"), count("trim"))
    };
    let random = ["--name=random", "--rw=randwrite", "--bs=4k", "--iodepth=32", "--verify=crc32c"];
    assert_eq!(fio(&[&random[..], &["--fsync=100", "--offset=4M"]].concat()), (1024, 1024, 0));
    let long = ["--name=long", "--rw=write", "--bs=1M", "--iodepth=4", "--verify=crc32c"];
    assert_eq!(fio(&[&long[..], &["--offset=8M"]].concat()), (4, 4, 0));
    let mixed = ["--name=mixed", "--rw=randrw", "--bs=64k", "--iodepth=8", "--offset=4M"];
    let (reads, writes, _) = fio(&mixed);
    assert_eq!(reads + writes, 64);
    let (_, _, trims) = fio(&["--name=trims", "--rw=trim", "--bs=64k", "--offset=8M"]);
    assert_eq!(trims, 64);
    let (status, complaints) = served.stop();
    assert!(status.success() && complaints.is_empty(), "{status} {complaints}");
    assert_eq!(marked(folder), (64..192).collect::<Vec<_>>(), "the granules written");
}
