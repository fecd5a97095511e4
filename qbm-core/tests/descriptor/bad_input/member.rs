//! Members that are missing, of the wrong type, or where they do not belong.

use super::{BASE, Case, case, plus, plus_in_bitmap, with};
use crate::samples::FULL;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(21, "{}", "1:1: QBM: is missing"),
        case(21, "{\"QBM\": []}", "1:9: QBM: must be an object, and is an array"),
        case(21, with("\"version\": 1,", ""), "1:9: QBM.version: is missing"),
        case(21, with("\"image\": {\"file\": \"disk.raw\", \"format\": \"raw\"},", ""), "1:9: QBM.image: is missing"),
        case(21, "{\"QBM\": {\"version\": 1, \"image\": {\"file\": \"d\", \"format\": \"raw\"}}}", "1:9: QBM.bitmaps: is missing"),
        case(21, with("\"file\": \"disk.raw\", ", ""), "2:11: QBM.image.file: is missing"),
        case(21, with(", \"format\": \"raw\"", ""), "2:11: QBM.image.format: is missing"),
        case(21, with("\"file\": \"b.bits\", ", ""), "4:8: QBM.bitmaps.b.file: is missing"),
        case(21, with("\"granularity-bytes\": 65536, ", ""), "4:8: QBM.bitmaps.b.granularity-bytes: is missing"),
        case(21, with(", \"type\": \"dirty\"", ""), "4:8: QBM.bitmaps.b.type: is missing"),
        case(21, with("\"disk.raw\"", "null"), "2:20: QBM.image.file: must be a string, and is null"),
        case(21, plus("\"ext-soft-stamp\": 1"), "1:42: QBM.ext-soft-stamp: must be an object, and is 1"),
        case(20, plus("\"Image\": 1"), "1:24: QBM.Image: is not a member that the format has here"),
        case(20, with("\"format\"", "\"size\": 1, \"format\""), "2:32: QBM.image.size: is not a member that the format has here"),
        case(20, BASE.replace("}}\n", "}, \"qbm\": {}}\n"), "6:4: qbm: is not a member that the format has here"),
        case(20, plus_in_bitmap("\"backing\": {\"file\": \"x\", \"format\": \"raw\"}"), "5:4: QBM.bitmaps.b.backing: belongs to an allocation bitmap only"),
        case(20, with("\"b\":", "\"a\": {\"file\": \"a\", \"granularity-bytes\": 512, \"type\": \"allocation\"},\n  \"b\":").replace("dirty", "allocation"), "5:63: QBM.bitmaps.b.type: is \"allocation\" for a second bitmap"),
    ];
    for member in ["\"ext-hard-disabled\": true", "\"ext-soft-doubt\": \"not-stored\""] {
        let name = member.split('"').nth(1).expect("a name");
        let error = format!("5:4: QBM.bitmaps.b.{name}: belongs to a dirty bitmap only");
        cases.push(case(20, plus_in_bitmap(member).replace("\"dirty\"", "\"allocation\""), &error));
    }
    // Every member of the objects that have to be whole.
    for (object, member) in [
        ("ext-soft-stamp", "device"),
        ("ext-soft-stamp", "inode"),
        ("ext-soft-stamp", "size"),
        ("ext-soft-stamp", "modified-ns"),
        ("ext-soft-point", "id"),
        ("ext-soft-point", "parent"),
        ("ext-soft-point", "created"),
        ("ext-soft-point", "image"),
        ("ext-soft-point", "bitmap"),
        ("ext-soft-point", "stored"),
        ("ext-soft-point", "digest"),
        ("ext-soft-point", "digests"),
        ("ext-soft-point", "block-bytes"),
        ("ext-hard-in-use", "opener"),
        ("ext-hard-in-use", "pid"),
        ("ext-hard-in-use", "program"),
        ("ext-hard-in-use", "boot"),
        ("ext-hard-in-use", "since"),
    ] {
        let mut value: serde_json::Value = serde_json::from_str(FULL).expect("JSON for all");
        value["QBM"][object]
            .as_object_mut()
            .expect("an object")
            .shift_remove(member)
            .expect("it was there");
        let text = value.to_string();
        let path = format!("\"{object}\":{{");
        let (before, _) = text.rsplit_once(&path).expect("it is there");
        let column = before.chars().count() + path.len();
        cases.push(case(21, text, &format!("1:{column}: QBM.{object}.{member}: is missing")));
    }
    cases
}
