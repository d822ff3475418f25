//! Manifests: from flattened device trees and package headers to validated types.
//!
//! Everything here is hostile input that was copied into private memory. It is checked once, completely, and what
//! leaves this module needs no further check. Nothing here panics, recurses without bound or loops without bound.
//!
//! * [`spmc`]: the SPMC's own manifest (TF-A's `TOS_FW_CONFIG`).
//! * [`package`], [`transfer_list`]: what says where in a partition's package things are.
//! * [`partition`]: a partition's manifest, in the 1.0 and 1.1 forms of the FF-A manifest binding.
//! * [`system`]: checks across all of them, and the list of the partitions to boot.
//! * [`diagnostic`]: the errors and warnings that all of them report.
//!
//! An error leaves its partition out and says which partition, node, property, value and what was expected. A warning
//! leaves nothing out: a property that nobody knows, or one that is understood but changes nothing here.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod diagnostic;
mod dtb;
mod nearest;
pub mod package;
pub mod partition;
pub mod spmc;
pub mod system;
pub mod transfer_list;
mod tree;

use arm_ffa::Version;

pub use diagnostic::{Diagnostic, Report, Severity};
pub use package::Package;
pub use partition::PartitionManifest;
pub use spmc::SpmcManifest;

/// Largest device tree that is read, in bytes. TF-A gives the SPMC's manifest one page, and the manifests of today's
/// partitions are some 2 KiB; the bound keeps small what a malicious blob can take in time and in heap.
pub const MAX_DTB_BYTES: usize = 32 * 1024;

/// The FF-A version that the SPMC implements. A partition may expect this one or an older one of the same major
/// version.
pub const FFA_VERSION: Version = Version(1, 2);
