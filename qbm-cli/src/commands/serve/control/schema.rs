//! `query-qmp-schema`: which commands and events there are, with what arguments, as QEMU's clients look it up.

use std::collections::BTreeSet;
use std::sync::Arc;

use qbm_qmp::{Call, Refusal};
use serde_json::{Value, json};

use super::Control;

/// The schema, a line for each entity: its kind and name, and then
///
/// * of a `command`, an `event` and an `object` its members as `NAME:TYPE`, where `NAME?` can be left out, or `=TYPE`
///   for the members of an object;
/// * of a `union` its tag, its members, and after `|` each value of the tag with the object of its members;
/// * of an `enum` its values, of an `alternate` its types.
///
/// Replies are not described. A test asks the server for each argument whether it takes it.
const SCHEMA: &str = "
command block-commit job-id?:str device:str base?:str base-node?:str top?:str top-node?:str speed?:int on-error?:BlockdevOnError filter-node-name?:str auto-finalize?:bool auto-dismiss?:bool
command block-dirty-bitmap-add =BlockDirtyBitmapAdd
command block-dirty-bitmap-clear =BlockDirtyBitmap
command block-dirty-bitmap-disable =BlockDirtyBitmap
command block-dirty-bitmap-enable =BlockDirtyBitmap
command block-dirty-bitmap-merge =BlockDirtyBitmapMerge
command block-dirty-bitmap-remove =BlockDirtyBitmap
command block-dirty-bitmap-set-persistent =BlockDirtyBitmapSetPersistent
command block-export-add type:BlockExportType id:str node-name:str name?:str description?:str writable?:bool bitmaps?:[str]
command block-export-del id:str mode?:BlockExportRemoveMode
command block-job-cancel device:str force?:bool
command block-job-complete device:str
command block-job-dismiss id:str
command block-job-finalize id:str
command block-job-pause device:str
command block-job-resume device:str
command block-job-set-speed device:str speed:int
command block-stream job-id?:str device:str speed?:int on-error?:BlockdevOnError filter-node-name?:str auto-finalize?:bool auto-dismiss?:bool
command block_resize device?:str node-name?:str size:int
command blockdev-add =BlockdevOptions
command blockdev-backup =BlockdevBackup
command blockdev-del node-name:str
command blockdev-mirror job-id?:str device:str target:str replaces?:str sync:MirrorSyncMode speed?:int granularity?:int buf-size?:int on-source-error?:BlockdevOnError on-target-error?:BlockdevOnError filter-node-name?:str copy-mode?:MirrorCopyMode auto-finalize?:bool auto-dismiss?:bool
command job-cancel id:str
command job-complete id:str
command job-dismiss id:str
command job-finalize id:str
command job-pause id:str
command job-resume id:str
command nbd-server-add device:str name?:str description?:str writable?:bool bitmap?:str
command nbd-server-remove name:str mode?:BlockExportRemoveMode
command nbd-server-start addr:SocketAddressLegacy max-connections?:int x-tls-certificates?:str
command nbd-server-stop
command qmp_capabilities enable?:[str]
command query-block
command query-block-exports
command query-block-jobs
command query-commands
command query-jobs
command query-named-block-nodes flat?:bool
command query-qmp-schema
command query-version
command quit
command transaction actions:[TransactionAction] properties?:TransactionProperties
command x-debug-block-dirty-bitmap-sha256 =BlockDirtyBitmap
command x-point-abort =PointSettle
command x-point-begin node:str bitmap:str fleece-limit?:int
command x-point-commit =PointSettle
command x-query-clients
event BLOCK_EXPORT_DELETED id:str
event BLOCK_JOB_CANCELLED =BlockJobFacts
event BLOCK_JOB_COMPLETED type:JobType device:str len:int offset:int speed:int error?:str x-point?:any
event BLOCK_JOB_ERROR device:str operation:IoOperationType action:BlockErrorAction
event BLOCK_JOB_PENDING type:JobType id:str
event BLOCK_JOB_READY =BlockJobFacts
event JOB_STATUS_CHANGE id:str status:JobStatus
object BlockDirtyBitmap node:str name:str
object BlockDirtyBitmapAdd node:str name:str granularity?:int persistent?:bool disabled?:bool
object BlockDirtyBitmapMerge node:str target:str bitmaps:[BlockDirtyBitmapOrStr]
object BlockDirtyBitmapSetPersistent node:str name:str persistent:bool
object BlockdevBackup job-id?:str device:str target:str sync:BackupSyncMode bitmap?:str bitmap-mode?:BitmapSyncMode speed?:int auto-finalize?:bool auto-dismiss?:bool x-fleece-limit?:int
object BlockJobFacts type:JobType device:str len:int offset:int speed:int
object BlockdevOptionsFile filename:str aio?:BlockdevAioOptions
object BlockdevOptionsNbd server:SocketAddress export?:str
object BlockdevOptionsQbm file:BlockdevRef data-file?:str
object BlockdevOptionsRaw file:BlockdevRef
object Empty
object InetSocketAddress host:str port:str
object InetSocketAddressWrapper data:InetSocketAddress
object PointSettle node:str bitmap:str id:str
object TransactionProperties completion-mode?:ActionCompletionMode
object UnixSocketAddress path:str
object UnixSocketAddressWrapper data:UnixSocketAddress
object AbortWrapper data:Empty
object BlockDirtyBitmapAddWrapper data:BlockDirtyBitmapAdd
object BlockDirtyBitmapMergeWrapper data:BlockDirtyBitmapMerge
object BlockDirtyBitmapSetPersistentWrapper data:BlockDirtyBitmapSetPersistent
object BlockDirtyBitmapWrapper data:BlockDirtyBitmap
object BlockdevBackupWrapper data:BlockdevBackup
union BlockdevOptions driver driver:BlockdevDriver node-name?:str read-only?:bool auto-read-only?:bool force-share?:bool detect-zeroes?:BlockdevDetectZeroesOptions discard?:BlockdevDiscardOptions | file=BlockdevOptionsFile host_device=BlockdevOptionsFile nbd=BlockdevOptionsNbd qbm=BlockdevOptionsQbm raw=BlockdevOptionsRaw
union SocketAddress type type:SocketAddressType | inet=InetSocketAddress unix=UnixSocketAddress
union SocketAddressLegacy type type:SocketAddressType | inet=InetSocketAddressWrapper unix=UnixSocketAddressWrapper
union TransactionAction type type:TransactionActionKind | abort=AbortWrapper block-dirty-bitmap-add=BlockDirtyBitmapAddWrapper block-dirty-bitmap-clear=BlockDirtyBitmapWrapper block-dirty-bitmap-disable=BlockDirtyBitmapWrapper block-dirty-bitmap-enable=BlockDirtyBitmapWrapper block-dirty-bitmap-merge=BlockDirtyBitmapMergeWrapper block-dirty-bitmap-remove=BlockDirtyBitmapWrapper block-dirty-bitmap-set-persistent=BlockDirtyBitmapSetPersistentWrapper blockdev-backup=BlockdevBackupWrapper
alternate BlockDirtyBitmapOrStr str BlockDirtyBitmap
alternate BlockdevRef str BlockdevOptions
enum ActionCompletionMode individual grouped
enum BackupSyncMode full incremental bitmap
enum BitmapSyncMode on-success
enum BlockErrorAction ignore report stop
enum BlockExportRemoveMode safe hard
enum BlockExportType nbd
enum BlockdevAioOptions threads native io_uring
enum BlockdevDetectZeroesOptions off
enum BlockdevDiscardOptions ignore off unmap on
enum BlockdevDriver file host_device nbd qbm raw
enum BlockdevOnError report ignore enospc stop auto
enum IoOperationType read write
enum JobStatus created running paused ready standby waiting pending aborting concluded null
enum JobType backup commit mirror stream
enum MirrorCopyMode background write-blocking
enum MirrorSyncMode full top none incremental bitmap
enum SocketAddressType inet unix
enum TransactionActionKind abort block-dirty-bitmap-add block-dirty-bitmap-clear block-dirty-bitmap-disable block-dirty-bitmap-enable block-dirty-bitmap-merge block-dirty-bitmap-remove block-dirty-bitmap-set-persistent blockdev-backup
";

/// The types that need no line, with what they are in JSON.
const BUILTIN: [(&str, &str); 4] =
    [("any", "value"), ("bool", "boolean"), ("int", "int"), ("str", "string")];

pub(super) fn query(_: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    Ok(Value::Array(entities()))
}

/// The `SchemaInfo` of everything.
fn entities() -> Vec<Value> {
    let builtin = |(name, json): (&str, &str)| json!({ "name": name, "meta-type": "builtin", "json-type": json });
    let mut entities: Vec<Value> = BUILTIN.map(builtin).into();
    for line in SCHEMA.lines().filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_once(' ').expect("a kind and a name");
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        entities.extend(described(kind, name, rest));
    }
    let arrays: BTreeSet<&str> =
        SCHEMA.split([':', ' ', '\n']).filter(|word| word.starts_with('[')).collect();
    entities.extend(arrays.into_iter().map(|array| {
        let element = array.trim_matches(['[', ']']);
        json!({ "name": array, "meta-type": "array", "element-type": element })
    }));
    entities
}

/// What a line is about, and the object that it describes on the way.
fn described(kind: &str, name: &str, rest: &str) -> Vec<Value> {
    let mut entity = json!({ "name": name, "meta-type": kind });
    let mut words = rest.split_whitespace();
    let mut more = None;
    match kind {
        "command" | "event" => {
            let arguments = match rest.strip_prefix('=') {
                Some(there) => there.to_owned(),
                None => {
                    let own = format!("q_obj_{name}-arg");
                    let members = members(words);
                    more = Some(json!({ "name": own, "meta-type": "object", "members": members }));
                    own
                }
            };
            entity["arg-type"] = json!(arguments);
            if kind == "command" {
                entity["ret-type"] = json!("any");
                entity["allow-oob"] = json!(false);
            }
        }
        "union" => {
            let (head, cases) = rest.split_once(" | ").expect("its cases");
            let (tag, head) = head.split_once(' ').expect("its tag");
            let case = |case: &str| {
                let (value, members) = case.split_once('=').expect("the members of a case");
                json!({ "case": value, "type": members })
            };
            entity["meta-type"] = json!("object");
            entity["members"] = members(head.split_whitespace());
            entity["tag"] = json!(tag);
            entity["variants"] = cases.split_whitespace().map(case).collect();
        }
        "object" => entity["members"] = members(words),
        "alternate" => entity["members"] = words.map(|one| json!({ "type": one })).collect(),
        "enum" => {
            entity["members"] = words.clone().map(|value| json!({ "name": value })).collect();
            entity["values"] = words.by_ref().collect();
        }
        _ => unreachable!("the lines are ours"),
    }
    std::iter::once(entity).chain(more).collect()
}

fn members<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    let member = |word: &str| {
        let (name, of_type) = word.split_once(':').expect("a name and a type");
        match name.strip_suffix('?') {
            None => json!({ "name": name, "type": of_type }),
            // What it is then is not said.
            Some(name) => json!({ "name": name, "type": of_type, "default": null }),
        }
    };
    words.map(member).collect()
}
