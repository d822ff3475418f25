//! Tests of the manifests in the tree and of what is made of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "manifest/files.rs"]
mod files;
#[path = "manifest/mutation.rs"]
mod mutation;
#[path = "manifest/properties.rs"]
mod properties;
#[path = "manifest/support.rs"]
mod support;
#[path = "manifest/tree.rs"]
mod tree;
