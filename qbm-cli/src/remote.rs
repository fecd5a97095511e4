//! An image that a running `qbm serve` holds: its control, by QMP.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use qbm_qmp::{Client, ClientError};
use serde_json::{Value, json};

/// How a server that holds the image is found.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    /// Let the server do it that is controlled at PATH; by default at IMAGE.qmp, if there is one
    #[arg(long, value_name = "PATH")]
    qmp: Option<PathBuf>,
}

/// The server that holds an image.
pub struct Remote {
    /// Its control.
    pub client: Client,
    /// The image, in its words.
    pub node: String,
}

/// Where the server of `image` is controlled, unless it is told otherwise.
pub fn socket_of(image: &Path) -> PathBuf {
    let mut path = OsString::from(image);
    path.push(".qmp");
    path.into()
}

impl RemoteArgs {
    /// The server that holds `image`; `None` if none is there, and none was asked for.
    ///
    /// # Errors
    ///
    /// If one was asked for and is not there, or what is there does not speak as it should.
    pub fn find(&self, image: &Path) -> anyhow::Result<Option<Remote>> {
        let path = self.qmp.clone().unwrap_or_else(|| socket_of(image));
        // Who owns the image may serve it: whoever can write it cannot be worse by a socket.
        let owner = fs::metadata(image).map(|metadata| metadata.uid());
        let client = match Client::connect(&path, &owner.into_iter().collect::<Vec<_>>()) {
            // Nobody serves it, or not for us. Then its locks decide.
            Err(ClientError::Io(_) | ClientError::Stranger(_)) if self.qmp.is_none() => {
                return Ok(None);
            }
            client => client,
        };
        let named = || path.display().to_string();
        let mut client = client.with_context(named)?;
        let nodes = client.execute("query-named-block-nodes", &json!({})).with_context(named)?;
        let facts = facts_of(&nodes, image).and_then(|facts| facts["node-name"].as_str());
        let none = || format!("{}: {} is no node there", named(), image.display());
        let node = facts.with_context(none)?.to_owned();
        Ok(Some(Remote { client, node }))
    }
}

/// The one of `nodes` that is `image`.
fn facts_of<'n>(nodes: &'n Value, image: &Path) -> Option<&'n Value> {
    let path = image.canonicalize().ok()?;
    let is_it = |node: &&Value| node["file"].as_str().is_some_and(|file| path == Path::new(file));
    nodes.as_array()?.iter().find(is_it)
}

impl Remote {
    /// What the server tells of the node.
    ///
    /// # Errors
    ///
    /// If it tells nothing.
    pub fn facts(&mut self) -> Result<Value, ClientError> {
        let nodes = self.client.execute("query-named-block-nodes", &json!({}))?;
        let is_it = |node: &&Value| node["node-name"] == json!(self.node);
        let found = nodes.as_array().and_then(|nodes| nodes.iter().find(is_it));
        Ok(found.cloned().unwrap_or_default())
    }
}
