//! Random mutations of all manifests: nothing panics, what is refused is refused with an error, and what is accepted is
//! sound. Seeded, so that a failure repeats.

use crate::support::{
    check_manifest, check_partitions, check_spmc, compile, entries, manifests, package, reserved, sources,
};
use tantalum_core::addr::{PageRange, PhysAddr};
use tantalum_core::manifest::package::HEADER_BYTES;
use tantalum_core::manifest::partition::Placement;
use tantalum_core::manifest::system::{self, Candidate};
use tantalum_core::manifest::{Package, PartitionManifest, Report, SpmcManifest};

/// A small generator of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Changes up to four places: a bit, a byte, a word of an interesting value, or a copy from elsewhere.
    fn mutate(&mut self, blob: &mut [u8]) {
        const WORDS: [u32; 10] = [0, 1, 2, 3, 4, 9, 0x1000, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        for _ in 0..=self.below(4) {
            let at = self.below(blob.len());
            match self.below(4) {
                0 => blob[at] ^= 1 << self.below(8),
                1 => blob[at] = u8::try_from(self.below(256)).unwrap(),
                2 => {
                    let at = at & !3;
                    let value = WORDS[self.below(WORDS.len())].to_be_bytes();
                    blob.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new);
                }
                _ => {
                    let from = self.below(blob.len());
                    let bytes = self.below(32).min(blob.len() - from).min(blob.len() - at);
                    blob.copy_within(from..from + bytes, at);
                }
            }
        }
        // Most mutants should get past the first look.
        if self.below(8) != 0 {
            let total = u32::try_from(blob.len()).unwrap();
            blob[..8].copy_from_slice(&[[0xd0, 0x0d, 0xfe, 0xed], total.to_be_bytes()].concat());
        }
    }
}

/// All manifests that are accepted, compiled, those of SPMCs and those of partitions apart.
fn blobs() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut spmcs, mut partitions) = (Vec::new(), Vec::new());
    for folder in ["bad", "compat"].map(|name| manifests().join(name)) {
        let systems = entries(&folder, |path| path.join("spmc.dts").exists());
        for source in sources(&folder)
            .into_iter()
            .chain(systems.iter().flat_map(|system| sources(system)))
        {
            let blob = compile(&source);
            let spmc = source.file_stem().unwrap().to_str().unwrap().contains("spmc");
            if spmc { spmcs.push(blob) } else { partitions.push(blob) }
        }
    }
    spmcs.retain(|blob| SpmcManifest::parse(blob, &mut Report::new()).is_some());
    partitions.retain(|blob| PartitionManifest::parse("p", blob, &mut Report::new()).is_some());
    (spmcs, partitions)
}

/// With addresses for the regions that have none it is the same manifest but for these.
fn check_addresses(manifest: &PartitionManifest, blob: &[u8]) {
    let mut expected = manifest.clone();
    let mut addresses = Vec::new();
    for region in &mut expected.memory_regions {
        let place = PageRange::new(PhysAddr::new(0x0e80_0000), region.pages.into());
        let place = place.ok().filter(|_| region.placement == Placement::Any);
        addresses.push(place.map(|range| range.base()));
        region.placement = place.map_or(region.placement, Placement::Fixed);
    }
    let told = PartitionManifest::with_addresses(blob, &addresses).expect("small");
    let found = PartitionManifest::parse("p", &told, &mut Report::new());
    assert_eq!(found.as_ref(), Some(&expected));
}

#[test]
fn mutants_are_refused_or_sound() {
    let (spmcs, partitions) = blobs();
    let mut random = Random(0x5eed_0001);
    let (mut accepted, mut booted) = (0, 0);
    for _ in 0..15_000 {
        let mut report = Report::new();
        let mut blob = spmcs[random.below(spmcs.len())].clone();
        if random.below(2) == 0 {
            random.mutate(&mut blob);
        }
        let spmc = SpmcManifest::parse(&blob, &mut report);
        assert!(spmc.is_some() || report.errors() != 0);
        let mut candidates = Vec::new();
        for vm in 0..2 {
            let mut report = Report::new();
            let mut blob = partitions[random.below(partitions.len())].clone();
            random.mutate(&mut blob);
            let manifest = PartitionManifest::parse("p", &blob, &mut report);
            assert_eq!(manifest.is_none(), report.errors() != 0);
            if let Some(manifest) = manifest {
                check_manifest(&manifest);
                check_addresses(&manifest, &blob);
                accepted += 1;
                candidates.push(Candidate {
                    vm,
                    package: package(0x10_0000),
                    manifest,
                });
            }
        }
        if let Some(spmc) = spmc {
            check_spmc(&spmc);
            candidates.retain(|one| {
                spmc.partitions
                    .get(one.vm)
                    .is_some_and(|vm| vm.memory.bytes() >= 0x10_0000)
            });
            let list = system::check(&spmc, candidates, &reserved(), &mut report);
            check_partitions(&spmc, &list);
            booted += list.len();
        }
    }
    assert!(accepted > 2_000 && booted > 500, "{accepted} accepted, {booted} booted");
}

#[test]
fn random_package_headers_are_refused_or_sound() {
    let mut random = Random(0x5eed_0002);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let sizes = [
            0,
            24,
            32,
            72,
            0x600,
            0x1000,
            0x1800,
            0x4000,
            0x8000,
            0xf_c000,
            0x7fff_f000,
            0xffff_f000,
            u32::MAX,
        ];
        let mut header = Vec::new();
        header.extend(u32::from_le_bytes(*b"SPKG").to_le_bytes());
        header.extend(u32::try_from(random.below(4)).unwrap().to_le_bytes());
        for _ in 0..4 {
            header.extend((sizes[random.below(sizes.len())] ^ u32::from(random.below(32) == 0)).to_le_bytes());
        }
        assert_eq!(header.len(), HEADER_BYTES);
        let mem_size = [0, 0x1000, 0x10_0000, u64::MAX][random.below(4)];
        let mut report = Report::new();
        let package = Package::parse("p", &header, mem_size, &mut report);
        assert_eq!(package.is_none(), report.errors() != 0);
        let Some(package) = package else { continue };
        accepted += 1;
        assert!(package.manifest.offset >= 24 && package.manifest.end() <= package.image.offset);
        assert!(package.image.bytes > 0 && package.image.end() <= mem_size);
        if let Some(room) = package.boot_info {
            assert!(room.offset >= 24 && room.end() <= package.manifest.offset);
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}
