//! Chains of points: no backup is made that could not be restored.

use std::sync::Arc;

use qbm_core::backup::{self, BackupOptions, FullReason, Kind};
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Granularity, Host, Image, Persist};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

/// The most images of a chain.
const MAX_LAYERS: usize = 32;

/// An image, and a target that gets points of it.
struct Scene {
    disk: Disk,
    target: Disk,
    host: Arc<dyn Host>,
}

impl Scene {
    fn new() -> Self {
        let (disk, target) = (Disk::new(Medium::new(), 1), Disk::immediate(Medium::new(), 2));
        let scene = Self { disk, target, host: Arc::new(SimHost::new(3)) };
        let file = "d.raw".to_owned();
        let options = CreateOptions { file, data: None, size: 5000, durability: Durability::Exact };
        let directory = SimDirectory::new(&scene.disk);
        let created = image::create(&directory, "i.qbm", options, &*scene.host);
        run(&scene.disk, 1, created).unwrap();
        scene
    }

    /// Makes the point `name`; returns what it holds.
    fn back_up(&self, name: usize) -> Kind {
        run(&self.disk, 2, async {
            let options = OpenOptions::new(Access::Write);
            let (directory, host) = (SimDirectory::new(&self.disk), Arc::clone(&self.host));
            let image = Image::open(directory, "i.qbm", options, host).await.unwrap();
            let byte = u8::try_from(name).unwrap() + 1;
            image.write(700, Buffer::from_slice(&[byte]), Persist::Later).await.unwrap();
            let options = BackupOptions {
                bitmap: "b".to_owned(),
                granularity: Granularity::MIN,
                name: name.to_string(),
                full: false,
                require_incremental: false,
            };
            let target = SimDirectory::new(&self.target);
            let report = backup::run(&image, &target, &options, &self.host, &mut |_| {}).await;
            image.close().await.unwrap();
            report.unwrap().kind
        })
    }

    /// The byte that `back_up` wrote, as the point `name` has it.
    fn byte_of(&self, name: usize) -> u8 {
        let (target, host) = (SimDirectory::new(&self.target), Arc::clone(&self.host));
        run(&self.target, 3, async {
            let options = OpenOptions::new(Access::Read);
            let point = Image::open(target, &format!("{name}.qbm"), options, host).await.unwrap();
            point.read(700, Buffer::zeroed(1)).await.unwrap()[0]
        })
    }
}

#[test]
fn a_chain_ends_with_the_last_point_that_can_be_opened() {
    let scene = Scene::new();
    assert_eq!(scene.back_up(0), Kind::Full(FullReason::NoParent));
    for name in 1..MAX_LAYERS {
        assert!(matches!(scene.back_up(name), Kind::Incremental { .. }), "{name}");
    }
    assert_eq!(scene.back_up(MAX_LAYERS), Kind::Full(FullReason::ChainTooLong));
    assert!(matches!(scene.back_up(MAX_LAYERS + 1), Kind::Incremental { .. }));
    for name in [0, 1, MAX_LAYERS - 1, MAX_LAYERS, MAX_LAYERS + 1] {
        assert_eq!(usize::from(scene.byte_of(name)), name + 1, "{name}");
    }
}

#[test]
fn nothing_is_added_to_points_that_are_behind_themselves() {
    let mut scene = Scene::new();
    scene.back_up(0);
    scene.back_up(1);
    let mut medium = scene.target.snapshot();
    let text = String::from_utf8(medium.read("1.qbm").unwrap().to_vec()).unwrap();
    let id = text.split("\"ext-soft-point\": {").nth(1).unwrap().split('"').nth(3).unwrap();
    medium.corrupt("0.qbm", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"parent\": null", &format!("\"parent\": \"{id}\"")).into_bytes();
    });
    scene.target = Disk::immediate(medium, 4);
    assert_eq!(scene.back_up(2), Kind::Full(FullReason::ChainTooLong));
    assert_eq!(scene.byte_of(2), 3);
}
