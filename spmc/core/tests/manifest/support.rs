//! What the tests of manifests have in common: compiling sources, reading a directory of them, a whole system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};
use tantalum_core::addr::{PageRange, PhysAddr};
use tantalum_core::manifest::package::{ByteRange, Package};
use tantalum_core::manifest::system::{self, Candidate, Partition, Reserved};
use tantalum_core::manifest::{Diagnostic, PartitionManifest, Report, SpmcManifest};

/// The tree's `manifests` folder.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

/// Compiles a device tree source. `dtc` is part of what `make setup` installs: that it is missing is a failure.
pub fn compile(source: &Path) -> Vec<u8> {
    if fs::read_to_string(source).unwrap().contains("#include") {
        return compile_with_macros(source);
    }
    let output = Command::new(env::var("DTC").unwrap_or_else(|_| "dtc".into()))
        .args(["-q", "-I", "dts", "-O", "dtb"])
        .arg(source)
        .output()
        .expect("dtc must be installed (`make setup`)");
    assert!(
        output.status.success(),
        "{}: {}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Compiles a device tree source that the C preprocessor has to see first, with the compiler that links this test.
fn compile_with_macros(source: &Path) -> Vec<u8> {
    let preprocessed = Command::new("cc")
        .args(["-E", "-P", "-nostdinc", "-undef", "-x", "assembler-with-cpp"])
        .arg(source)
        .output()
        .expect("cc must be installed");
    assert!(
        preprocessed.status.success(),
        "{}",
        String::from_utf8_lossy(&preprocessed.stderr)
    );
    let folder = env::temp_dir().join(format!("tantalum-manifests-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let output = folder.join(source.to_string_lossy().replace('/', "_"));
    fs::write(&output, preprocessed.stdout).unwrap();
    let blob = compile(&output);
    fs::remove_file(&output).unwrap();
    blob
}

/// The entries of `folder` that `accept` takes, in order of their names.
pub fn entries(folder: &Path, accept: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| accept(path))
        .collect();
    found.sort();
    found
}

/// The `.dts` files of `folder`.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    entries(folder, |path| {
        path.extension().is_some_and(|extension| extension == "dts")
    })
}

/// A file's name without its extension.
pub fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// What `// key: value` lines of a source say.
pub fn comments(source: &Path, key: &str) -> Vec<String> {
    let prefix = format!("// {key}: ");
    let text = fs::read_to_string(source).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(String::from)
        .collect()
}

/// Diagnostics as the console shows them.
pub fn shown(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic:#}")).collect()
}

/// The package that `sptool` makes by default, for a partition with `memory` bytes.
pub fn package(memory: u64) -> Package {
    package_of(2, memory)
}

/// A package of either version.
fn package_of(version: u32, memory: u64) -> Package {
    let (manifest, image) = if version == 1 { (24, 0x1000) } else { (0x1000, 0x4000) };
    let mut header = Vec::new();
    for word in [u32::from_le_bytes(*b"SPKG"), version, manifest, 0x600, image, 0x8000] {
        header.extend(word.to_le_bytes());
    }
    let mut report = Report::new();
    let package = Package::parse("test", &header, memory, &mut report);
    package.unwrap_or_else(|| panic!("{:?}", shown(report.diagnostics())))
}

/// What the tests hold to be the SPMC's own.
pub fn reserved() -> [Reserved; 2] {
    let range = |base, pages| PageRange::new(PhysAddr::new(base), pages).unwrap();
    [
        Reserved {
            range: range(0x0e10_0000, 0x100),
            owner: "the SPMC",
        },
        Reserved {
            range: range(0x0800_0000, 0x10),
            owner: "the GIC",
        },
    ]
}

/// Reads `folder/spmc.dts` and the manifest of each partition in it, `folder/<debug_name>.dts`, as a boot does. Returns
/// the partitions that boot.
pub fn boot(folder: &Path, report: &mut Report) -> Option<(SpmcManifest, Vec<Partition>)> {
    let spmc = SpmcManifest::parse(&compile(&folder.join("spmc.dts")), report)?;
    let mut candidates = Vec::new();
    for (index, vm) in spmc.partitions.iter().enumerate() {
        let source = folder.join(&vm.name).with_extension("dts");
        let blob = compile(&source);
        let version = if fs::read_to_string(&source).unwrap().contains("// package: 1") {
            1
        } else {
            2
        };
        if let Some(manifest) = PartitionManifest::parse(&vm.name, &blob, report) {
            candidates.push(Candidate {
                vm: index,
                package: package_of(version, vm.memory.bytes()),
                manifest,
            });
        }
    }
    let partitions = system::check(&spmc, candidates, &reserved(), report);
    check_partitions(&spmc, &partitions);
    Some((spmc, partitions))
}

/// What must hold of an accepted SPMC manifest, whatever was in it.
pub fn check_spmc(spmc: &SpmcManifest) {
    assert!(!spmc.cpus.is_empty());
    assert!(
        spmc.cpus
            .iter()
            .enumerate()
            .all(|(index, cpu)| !spmc.cpus[..index].contains(cpu))
    );
    assert!(spmc.partitions.is_sorted_by(|a, b| a.number < b.number));
    for vm in &spmc.partitions {
        assert_eq!(vm.id.as_u16(), 0x8000 + vm.number);
        assert!(!vm.name.is_empty() && vm.name.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    for (index, a) in spmc.memory.iter().enumerate() {
        assert!(
            spmc.memory[..index]
                .iter()
                .all(|b| a.kind == b.kind || !a.range.overlaps(&b.range))
        );
    }
    if let Some(gic) = &spmc.interrupt_controller {
        assert!(!gic.distributors.is_empty() && !gic.redistributors.is_empty());
    }
}

/// What must hold of an accepted partition manifest, whatever was in it.
pub fn check_manifest(manifest: &PartitionManifest) {
    use tantalum_core::manifest::partition::{Access, ExceptionLevel, NsInterruptsAction};

    assert!(!manifest.services.is_empty());
    for (index, service) in manifest.services.iter().enumerate() {
        assert!(!service.uuid.is_nil());
        assert!(
            manifest.services[..index]
                .iter()
                .all(|other| other.uuid != service.uuid)
        );
    }
    assert!(manifest.execution_ctx_count >= 1);
    assert!(manifest.gp_register_num.is_none_or(|register| register <= 3));
    assert!(
        manifest
            .ffa_version
            .is_compatible_to(tantalum_core::manifest::FFA_VERSION)
    );
    assert!(manifest.load_address.is_none_or(PhysAddr::is_page_aligned));
    if manifest.exception_level == ExceptionLevel::SEl0 {
        assert_eq!(manifest.execution_ctx_count, 1);
        assert_ne!(manifest.ns_interrupts_action, NsInterruptsAction::ManagedExit);
        assert!(
            manifest
                .memory_regions
                .iter()
                .all(|region| region.access != Access::all())
        );
    }
    if let Some(rx_tx) = manifest.rx_tx {
        assert_ne!(rx_tx.rx, rx_tx.tx);
        assert_eq!(
            manifest.memory_regions[rx_tx.rx].pages,
            manifest.memory_regions[rx_tx.tx].pages
        );
        assert!(manifest.memory_regions[rx_tx.tx].access.contains(Access::WRITE));
    }
    for region in &manifest.memory_regions {
        assert!(region.pages >= 1 && region.access.contains(Access::READ));
        assert!(region.world == tantalum_core::addr::World::Secure || !region.access.contains(Access::EXECUTE));
    }
    let mut interrupts: Vec<_> = manifest
        .device_regions
        .iter()
        .flat_map(|region| &region.interrupts)
        .map(|interrupt| interrupt.id)
        .collect();
    interrupts.sort_unstable();
    assert!(interrupts.is_sorted_by(|a, b| a < b));
    for region in &manifest.device_regions {
        assert!(region.access.contains(Access::READ) && !region.access.contains(Access::EXECUTE));
    }
}

/// What must hold of the partitions that boot, whatever was in the manifests.
pub fn check_partitions(spmc: &SpmcManifest, partitions: &[Partition]) {
    use tantalum_core::manifest::spmc::MemoryKind;

    let order = |partition: &Partition| partition.manifest.boot_order.map_or(u32::MAX, u32::from);
    assert!(partitions.is_sorted_by_key(|partition| (order(partition), partition.vm)));
    let mut claims: Vec<(usize, PageRange, bool)> = Vec::new();
    for (owner, partition) in partitions.iter().enumerate() {
        let vm = &spmc.partitions[partition.vm];
        assert_eq!((&partition.name, partition.memory), (&vm.name, vm.memory));
        assert!(partition.manifest.id.is_none_or(|id| id == partition.id));
        assert!(partitions[..owner].iter().all(|other| other.id != partition.id));
        let contexts = usize::from(partition.execution_contexts);
        assert!((1..=spmc.cpus.len()).contains(&contexts));
        assert!(partition.manifest.entrypoint_offset < partition.memory.bytes());
        let inside = |part: &ByteRange| part.end() <= partition.memory.bytes();
        assert!(inside(&partition.package.image) && inside(&partition.package.manifest));
        assert!(
            spmc.ranges(MemoryKind::Memory)
                .any(|range| range.contains_range(&partition.memory))
        );
        claims.push((owner, partition.memory, false));
        assert_eq!(partition.region_ranges.len(), partition.manifest.memory_regions.len());
        for (region, range) in partition.manifest.memory_regions.iter().zip(&partition.region_ranges) {
            let Some(range) = range else { continue };
            assert_eq!(range.pages(), u64::from(region.pages));
            assert!(
                spmc.ranges(MemoryKind::memory(region.world))
                    .any(|declared| declared.contains_range(range))
            );
            claims.push((owner, *range, false));
        }
        for region in &partition.manifest.device_regions {
            assert!(
                spmc.ranges(MemoryKind::device(region.world))
                    .any(|range| range.contains_range(&region.range))
            );
            claims.push((owner, region.range, true));
        }
    }
    for (index, (owner, range, device)) in claims.iter().enumerate() {
        assert!(reserved().iter().all(|reserved| !reserved.range.overlaps(range)));
        for (other_owner, other, other_device) in &claims[..index] {
            assert!(owner == other_owner || !range.overlaps(other) || (*device && *other_device));
        }
    }
}
