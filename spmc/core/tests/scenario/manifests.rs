//! From compiled manifests and packages in memory to partitions that talk: the demonstration's system.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::LazyLock,
};

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    boot::{self, BootConfig, BootError},
    interrupt::distributor::Frames,
    machine::fake::FakeMachine,
    manifest::{PartitionManifest, Report, partition::Placement},
    spmc::Spmc,
};
use tantalum_stage2::{Access, Execute, Ipa, MemoryType};

use crate::support::*;

const ECHO: u64 = 0x8001;
const FORWARD: u64 = 0x8002;
const ATTACK: u64 = 0x8003;
const CLOCK: u64 = 0x0901_0000;
const UART: u64 = 0x0904_0000;
const MANIFEST_OFFSET: u64 = 0x1000;

/// Compiles a manifest of the tree, as the build does: C preprocessor, then dtc.
fn compile(source: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(source);
    let text = Command::new("cc")
        .args(["-E", "-P", "-nostdinc", "-undef", "-x", "assembler-with-cpp"])
        .arg(&source)
        .output()
        .expect("cc must be installed");
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let name = format!(
        "tantalum-scenario-{}-{}",
        process::id(),
        source.display().to_string().replace('/', "_")
    );
    let file: PathBuf = env::temp_dir().join(format!("{name}-{:?}", std::thread::current().id()));
    fs::write(&file, text.stdout).expect("a temporary file");
    let blob = Command::new(env::var("DTC").unwrap_or_else(|_| "dtc".into()))
        .args(["-q", "-I", "dts", "-O", "dtb", "-i"])
        .arg(source.parent().expect("it is in a folder"))
        .arg(&file)
        .output()
        .expect("dtc must be installed (`make setup`)");
    let _ = fs::remove_file(&file);
    assert!(blob.status.success(), "{}", String::from_utf8_lossy(&blob.stderr));
    blob.stdout
}

/// A package of version 2: header, room for boot information, manifest, image.
fn package(manifest: &[u8]) -> Vec<u8> {
    let word = |value: usize| u32::try_from(value).expect("small").to_le_bytes();
    let image = [0x14, 0, 0, 0];
    let mut package = b"SPKG".to_vec();
    for value in [2, 0x1000, manifest.len(), 0x4000, image.len()] {
        package.extend(word(value));
    }
    package.resize(0x1000, 0);
    package.extend(manifest);
    package.resize(0x4000, 0);
    package.extend(image);
    package
}

fn range(base: u64, pages: u64) -> PageRange {
    PageRange::new(PhysAddr::new(base), pages).expect("a range")
}

/// A machine into whose memory BL2 has loaded the demonstration's packages, but for the one at S-EL0.
pub fn loaded() -> FakeMachine {
    let mut machine = FakeMachine::new(4);
    for (name, base) in [("echo", 0x0e20_0000), ("forward", 0x0e30_0000), ("attack", 0x0e40_0000)] {
        load(&mut machine, name, base);
    }
    machine
}

/// Loads one of its packages.
fn load(machine: &mut FakeMachine, name: &str, base: u64) {
    machine.memory.add(World::Secure, range(base, 0x100));
    let package = package(&compile(&format!("qemu/demo/{name}.dts")));
    machine
        .memory
        .write(World::Secure, PhysAddr::new(base), &package)
        .expect("memory");
}

pub fn start(machine: &mut FakeMachine, boot_mpidr: u64, free_pages: usize) -> Result<Spmc, BootError> {
    static MANIFEST: LazyLock<Vec<u8>> = LazyLock::new(|| compile("qemu/demo/spmc.dts"));
    let manifest = &*MANIFEST;
    let config = BootConfig {
        manifest,
        spmc_memory: range(0x0e10_0000, 0x100),
        boot_mpidr,
        free_pages,
        pages_a_pe: 1,
        interrupt_controller: Frames::default(),
        devices: &[],
    };
    boot::start(&config, machine)
}

pub const PAGES: usize = 1024;

#[test]
fn demonstration_boots_and_talks() {
    let mut machine = loaded();
    load(&mut machine, "user", 0x0e50_0000);
    let spmc = start(&mut machine, 0x8000_0000, PAGES).expect("it starts");
    assert!(!machine.console.contains("error"), "{}", machine.console);
    let mut system = System::booted(&spmc, machine);
    let console = system.machine.take_console();
    assert!(console.contains("4 of 4 partitions ready"), "{console}");
    for pe in 0..4 {
        system.nwd(pe, &request(0, FORWARD));
        assert_eq!(system.owner(pe), runs(FORWARD, 0));
        system.forward(pe, FORWARD, ECHO);
        assert_eq!(system.owner(pe), runs(ECHO, u16::try_from(pe).expect("few")));
        system.respond(pe, ECHO, FORWARD);
        system.respond(pe, FORWARD, 0);
    }
    system.ask(3, ATTACK);
}

#[test]
fn each_partition_reaches_its_own_memory_and_nothing_else() {
    let mut machine = loaded();
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    for partition in spmc.partitions() {
        let tables = partition.tables.lock();
        tables.secure.check(&machine, |_| true).expect("well-formed tables");
        let mut reachable = Vec::new();
        for page in (0x0800_0000..0x1000_0000_u64).step_by(0x1000) {
            assert_eq!(tables.non_secure.translate(&machine, Ipa(page)), None);
            if let Some(mapping) = tables.secure.translate(&machine, Ipa(page)) {
                assert_eq!(mapping.output.0, page, "IPA and PA are the same");
                reachable.push((page, mapping.attributes));
            }
        }
        for page in (0x4000_0000..0x6000_0000_u64).step_by(0x20_0000) {
            assert_eq!(tables.secure.translate(&machine, Ipa(page)), None);
            assert_eq!(tables.non_secure.translate(&machine, Ipa(page)), None);
        }
        let (memory, others): (Vec<_>, Vec<_>) = reachable
            .iter()
            .partition(|(page, _)| partition.memory.contains(PhysAddr::new(*page)));
        assert_eq!(memory.len() as u64, partition.memory.pages(), "{}", partition.name);
        if u64::from(partition.id.as_u16()) == FORWARD {
            let [(CLOCK, _), (UART, attributes)] = others[..] else {
                panic!("{others:x?}")
            };
            assert_eq!(attributes.memory(), MemoryType::DeviceNGnRnE);
            assert_eq!(
                (attributes.access(), attributes.execute()),
                (Access::ReadWrite, Execute::Never)
            );
        } else {
            assert_eq!(others, [], "{}", partition.name);
        }
    }
}

/// A transfer list: an empty entry that has room for boot information, the manifest, blocks, and the image at 0x4000.
fn transfer_list(manifest: &[u8], blocks: Option<&[u8]>, room: usize) -> Vec<u8> {
    let word = |value: usize| u32::try_from(value).expect("small").to_le_bytes();
    let mut list = word(0x4a0f_b10b).to_vec();
    list.extend([0, 1, 24, 3]);
    list.resize(24, 0);
    let mut entry = |tag: usize, data: &[u8]| {
        list.resize(list.len().next_multiple_of(8), 0);
        list.extend(word(8 << 24 | tag));
        list.extend(word(data.len()));
        list.extend(data);
        list.len()
    };
    entry(0, &vec![0; room]);
    let mut end = entry(0x106, manifest);
    if let Some(blocks) = blocks {
        end = entry(3, blocks);
    }
    entry(0, &vec![0; 0x4000 - 16 - end.next_multiple_of(8)]);
    entry(0x103, &[0x14, 0, 0, 0]);
    let size = word(list.len());
    list[8..12].copy_from_slice(&size);
    list
}

#[test]
fn package_may_be_a_transfer_list_with_hand_off_blocks() {
    let manifest = compile("compat/hob-list.dts");
    for blocks in [Some(&[7; 100][..]), None] {
        let list = transfer_list(&manifest, blocks, 300);
        let mut machine = loaded();
        machine
            .memory
            .write(World::Secure, PhysAddr::new(0x0e20_0000), &list)
            .expect("memory");
        let spmc = start(&mut machine, 0, PAGES).expect("it starts");
        let missing = "the package has no list of hand-off blocks: it is not passed";
        assert_eq!(machine.take_console().contains(missing), blocks.is_none());
        let mut system = System::new(&spmc, machine);
        // The demonstration's first partition has the lowest boot order; this one has none.
        system.online(0);
        while system.owner(0) != runs(ECHO, 0) {
            system.smc(0, &[MSG_WAIT]);
        }
        assert_eq!(system.ctx(0).pc, 0x0e20_4000);
        let address = system.regs(0)[0];
        let memory = &mut system.machine.memory;
        let mut blob = [0; 96];
        memory
            .read(World::Secure, PhysAddr::new(address), &mut blob)
            .expect("memory");
        let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().expect("4 bytes"));
        let count = 1 + u32::from(blocks.is_some());
        assert_eq!(
            [0, 4, 8, 12, 16, 20].map(word),
            [0xffa, 0x1_0001, 32 + 32 * count, 32, count, 32]
        );
        // Type (0 FDT, 1 a list of blocks) and size.
        assert_eq!([48, 52].map(word), [0, u32::try_from(manifest.len()).expect("small")]);
        if let Some(blocks) = blocks {
            assert_eq!([80, 84].map(word), [1, 100]);
            let mut there = [0; 100];
            let at = u64::from_le_bytes(blob[88..].try_into().expect("8 bytes"));
            memory
                .read(World::Secure, PhysAddr::new(at), &mut there)
                .expect("memory");
            assert_eq!(there, blocks);
        } else {
            assert_eq!(blob[64..], [0; 32]);
        }
    }
}

#[test]
fn boot_information_names_the_manifest() {
    let mut machine = loaded();
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    let mut system = System::new(&spmc, machine);
    for (pe, partition, register, base) in [(0, ECHO, 0, 0x0e20_0000), (0, FORWARD, 1, 0x0e30_0000_u64)] {
        if system.owner(pe) == Owner::Off {
            system.online(pe);
        } else {
            system.smc(pe, &[MSG_WAIT]);
        }
        assert_eq!(system.owner(pe), runs(partition, 0));
        assert_eq!(system.ctx(pe).pc, base + 0x4000);
        let address = system.regs(pe)[register];
        assert!(base < address && address < base + MANIFEST_OFFSET, "{address:#x}");
        let mut blob = [0; 64];
        system
            .machine
            .memory
            .read(World::Secure, PhysAddr::new(address), &mut blob)
            .expect("memory");
        let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().expect("4 bytes"));
        // FF-A 1.2, "Boot information header": signature, version, blob, descriptors, their size, number and offset.
        assert_eq!([0, 4, 8, 12, 16, 20].map(word), [0xffa, 0x1_0001, 64, 32, 1, 32]);
        // One descriptor: no name, standard, FDT, by address.
        assert_eq!(blob[24..52], [0; 28]);
        let fdt = u64::from_le_bytes(blob[56..].try_into().expect("8 bytes"));
        assert_eq!(fdt, base + MANIFEST_OFFSET);
        let mut magic = [0; 8];
        system
            .machine
            .memory
            .read(World::Secure, PhysAddr::new(fdt), &mut magic)
            .expect("memory");
        assert_eq!(magic[..4], 0xd00d_feed_u32.to_be_bytes());
        assert_eq!(word(52).to_be_bytes(), magic[4..], "the size is the tree's");
        // It was made visible to a partition that has its caches off.
        let page = range(address & !0xfff, 1);
        assert!(system.machine.synchronised.contains(&(World::Secure, page)));
    }
}

/// The demonstration with a partition in the place of "attack" that leaves addresses to the SPMC.
fn loaded_anywhere(pack: impl Fn(&[u8]) -> Vec<u8>) -> FakeMachine {
    let mut machine = loaded();
    let package = pack(&compile("compat/anywhere.dts"));
    let at = PhysAddr::new(0x0e40_0000);
    machine.memory.write(World::Secure, at, &package).expect("memory");
    let free = range(0x0e60_0000, 0x20);
    machine.memory.add(World::Secure, free);
    for page in free.page_addresses() {
        machine
            .memory
            .write(World::Secure, page, &[0xa5; 0x1000])
            .expect("memory");
    }
    machine
}

#[test]
fn regions_without_an_address_get_memory_that_nobody_has() {
    // The manifest grows where it is, or goes behind boot information where there is a list's next entry behind it.
    regions_are_placed(loaded_anywhere(package), 0x0e40_1000);
    let list = loaded_anywhere(|manifest| transfer_list(manifest, None, 0xf00));
    regions_are_placed(list, 0x0e40_0080 + 96);
}

fn regions_are_placed(mut machine: FakeMachine, manifest: u64) {
    let before = PartitionManifest::parse("attack", &compile("compat/anywhere.dts"), &mut Report::new());
    let mut expected = before.expect("it is one");
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    assert!(!machine.console.contains("\"attack\""), "{}", machine.console);
    let partition = &spmc.partitions()[2];
    // Behind the packages, in the order of the manifest; zeroed.
    for (name, index, base, pages) in [
        ("rx-buffer", 0, 0x0e60_0000, 1),
        ("tx-buffer", 2, 0x0e60_1000, 1),
        ("heap", 3, 0x0e60_2000, 0x10),
    ] {
        let region = partition.regions.iter().find(|region| region.name == name);
        assert_eq!(region.expect(name).range, range(base, pages));
        expected.memory_regions[index].placement = Placement::Fixed(range(base, pages));
        let tables = partition.tables.lock();
        assert!(tables.secure.translate(&machine, Ipa(base)).is_some());
    }
    for page in range(0x0e60_0000, 0x12).page_addresses() {
        let mut bytes = [1; 0x1000];
        machine.memory.read(World::Secure, page, &mut bytes).expect("memory");
        assert_eq!(bytes, [0; 0x1000]);
    }
    let mut behind = [0; 8];
    machine
        .memory
        .read(World::Secure, PhysAddr::new(0x0e61_2000), &mut behind)
        .expect("memory");
    assert_eq!(behind, [0xa5; 8]);
    let buffers = partition.mailbox.lock().expect("it has buffers");
    assert_eq!((buffers.rx, buffers.tx), (range(0x0e60_0000, 1), range(0x0e60_1000, 1)));
    // The partition learns of the addresses by its manifest, which says nothing else than it did.
    let mut blob = vec![0; 0x3000];
    machine
        .memory
        .read(World::Secure, PhysAddr::new(manifest), &mut blob)
        .expect("memory");
    let size = u32::from_be_bytes(blob[4..8].try_into().expect("4 bytes"));
    blob.truncate(usize::try_from(size).expect("small"));
    let mut report = Report::new();
    let found = PartitionManifest::parse("attack", &blob, &mut report);
    assert_eq!((found, report.diagnostics()), (Some(expected), &[][..]));
    dtoolkit::fdt::Fdt::new(&blob).expect("another reader takes it too");
    let (_, address) = partition.boot_info.expect("it asks for it");
    let mut information = [0; 64];
    machine
        .memory
        .read(World::Secure, PhysAddr::new(address), &mut information)
        .expect("memory");
    assert_eq!(information[52..56], size.to_le_bytes());
    assert_eq!(information[56..64], manifest.to_le_bytes());
    let mut pages = machine.synchronised.iter().map(|(_, range)| *range);
    assert!(pages.any(|pages| pages.contains_range(&range(manifest & !0xfff, 1))));
}

#[test]
fn regions_that_cannot_be_placed_leave_their_partition_out() {
    // No memory where some is declared; no room behind the manifest to write the addresses, in a transfer list.
    for (list, broken, what) in [
        (false, true, "cannot be written"),
        (true, false, "no room in the package"),
    ] {
        let pack = |manifest: &[u8]| {
            if list {
                transfer_list(manifest, None, 300)
            } else {
                package(manifest)
            }
        };
        let mut machine = loaded_anywhere(pack);
        machine
            .memory
            .set_broken(World::Secure, PhysAddr::new(0x0e60_2000), broken);
        let spmc = start(&mut machine, 0, PAGES).expect("it starts");
        assert_eq!(spmc.partitions().len(), 2);
        assert!(machine.console.contains(what), "{}", machine.console);
    }
}

#[test]
fn partition_whose_memory_does_not_exist_is_left_out() {
    let mut machine = loaded();
    machine
        .memory
        .set_broken(World::Secure, PhysAddr::new(0x0e30_0000), true);
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    let names: Vec<_> = spmc
        .partitions()
        .iter()
        .map(|partition| partition.name.as_str())
        .collect();
    assert_eq!(names, ["echo", "attack"]);
    assert!(
        machine.console.contains("the memory cannot be read"),
        "{}",
        machine.console
    );
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &request(0, FORWARD), INVALID_PARAMETERS);
    system.ask(0, ATTACK);
}

#[test]
fn partition_whose_manifest_cannot_be_read_is_left_out() {
    let mut machine = loaded();
    machine
        .memory
        .set_broken(World::Secure, PhysAddr::new(0x0e30_1000), true);
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    assert_eq!(spmc.partitions().len(), 2);
}

#[test]
fn partition_that_was_not_loaded_is_left_out() {
    let mut machine = loaded();
    machine
        .memory
        .write(World::Secure, PhysAddr::new(0x0e20_0000), &[0; 24])
        .expect("memory");
    let spmc = start(&mut machine, 0, PAGES).expect("it starts");
    let names: Vec<_> = spmc
        .partitions()
        .iter()
        .map(|partition| partition.name.as_str())
        .collect();
    assert_eq!(names, ["forward", "attack"]);
    assert!(machine.console.contains("SPKG"), "{}", machine.console);
}

#[test]
fn too_few_tables_leave_partitions_out_and_leak_none() {
    // For each number of tables that there may be: those that boot are sound, the rest is freed.
    let needed = {
        let mut machine = loaded();
        start(&mut machine, 0, PAGES).expect("it starts");
        machine.tables.live()
    };
    let packages = loaded();
    for budget in 0..=needed {
        let mut machine = packages.clone();
        machine.tables.set_budget(Some(budget));
        let spmc = start(&mut machine, 0, PAGES).expect("it starts");
        let mut used = 0;
        for partition in spmc.partitions() {
            let tables = partition.tables.lock();
            for tables in [&tables.secure, &tables.non_secure] {
                used += machine.tables.check_one(tables).expect("well-formed tables");
            }
        }
        assert_eq!(used, machine.tables.live(), "with {budget} of {needed}");
        assert_eq!(spmc.partitions().len() == 3, budget == needed);
        if budget < needed {
            assert!(
                machine
                    .console
                    .contains("its translation tables take more than its share"),
                "{}",
                machine.console
            );
        }
    }
}

/// The test scenario of which nothing but echo and the partition at S-EL0 was loaded.
fn loaded_at_s_el0() -> (FakeMachine, Vec<u8>) {
    let mut machine = FakeMachine::new(4);
    for number in 2..9 {
        machine
            .memory
            .add(World::Secure, range(0x0e00_0000 + 0x10_0000 * number, 0x100));
    }
    // The copy for its restart.
    machine.memory.add(World::Secure, range(0x0e90_0000, 0x10));
    for (name, base) in [("echo", 0x0e20_0000), ("user", USER_BASE)] {
        let package = package(&compile(&format!("qemu/test/{name}.dts")));
        machine
            .memory
            .write(World::Secure, PhysAddr::new(base), &package)
            .expect("memory");
    }
    (machine, compile("qemu/test/spmc.dts"))
}

const USER_BASE: u64 = 0x0e80_0000;
const USER: u64 = 0x8007;
/// A page of vectors, and the tables of stage 1: the root, one for the normal world, three for what is below 1 GiB, two for the
/// vectors.
const SHARED: usize = 8;

fn start_at_s_el0(machine: &mut FakeMachine, manifest: &[u8]) -> Spmc {
    let config = BootConfig {
        manifest,
        spmc_memory: range(0x0e10_0000, 0x100),
        boot_mpidr: 0,
        free_pages: PAGES,
        pages_a_pe: 1,
        interrupt_controller: Frames::default(),
        devices: &[],
    };
    boot::start(&config, machine).expect("it starts")
}

#[test]
fn partition_at_s_el0_boots_and_talks() {
    let (mut machine, manifest) = loaded_at_s_el0();
    let spmc = start_at_s_el0(&mut machine, &manifest);
    let mut system = System::booted(&spmc, machine);
    let console = system.machine.take_console();
    assert!(console.contains("2 of 2 partitions ready"), "{console}");
    system.ask(3, USER);
    system.svc(3, &request(USER, ECHO));
    system.respond(3, ECHO, USER);
    system.svc(3, &response(USER, 0));
    assert_eq!(system.regs(3), response(USER, 0));
    // All of its memory is code until it says something else, and all else that it has is the environment.
    let partition = spmc
        .partitions()
        .iter()
        .find(|partition| partition.name == "user")
        .expect("it is there");
    let tables = partition.tables.lock();
    for page in partition.memory.page_addresses() {
        let found = tables
            .secure
            .translate(&system.machine, Ipa(page.as_u64()))
            .expect("mapped");
        let attributes = found.attributes;
        assert_eq!(
            (attributes.access(), attributes.execute()),
            (Access::ReadOnly, Execute::Always)
        );
    }
}

#[test]
fn regions_of_a_partition_at_s_el0_are_as_its_manifest_has_them() {
    const STMM: u64 = 0xff20_0000;
    let mut machine = FakeMachine::new(2);
    machine.memory.add(World::Secure, range(STMM, 0x300));
    let package = package(&compile("compat/system-stmm/stmm.dts"));
    machine
        .memory
        .write(World::Secure, PhysAddr::new(STMM), &package)
        .expect("memory");
    let config = BootConfig {
        manifest: &compile("compat/system-stmm/spmc.dts"),
        spmc_memory: range(0xff00_0000, 0x100),
        boot_mpidr: 0,
        free_pages: PAGES,
        pages_a_pe: 1,
        interrupt_controller: Frames::default(),
        devices: &[],
    };
    let spmc = boot::start(&config, &mut machine).expect("it starts");
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!(system.owner(0), runs(0x8001, 0), "{}", system.machine.console);
    // Image, heap, communication with the normal world; devices.
    let (code, data, constants) = (0b011, 0b101, 0b111);
    for (address, permissions) in [
        (STMM, code),
        (STMM + 0x2f_f000, code),
        (0xff50_0000, data),
        (0xff60_0000, data),
        (0xff61_0000, data),
        (0xffdf_e000, data),
        (0x1c00_0000, data),
        (0x2000_0000, constants),
        (0x10_5400_3000, data),
    ] {
        system.svc(0, &[0xc400_0088, address]);
        assert_eq!(system.regs(0), success(permissions), "{address:#x}");
    }
    for (address, pages, permissions, answer) in [
        (STMM + 0x1000, 0x100, data, success(0)),
        (STMM + 0x10_1000, 0x80, constants, success(0)),
        // Drivers that it loads into its heap.
        (0xff62_0000, 0x10, code, success(0)),
        (0xff60_0000, 1, code, error(DENIED)),
        (0x1c00_0000, 1, code, error(DENIED)),
        (0x2000_0000, 1, data, error(DENIED)),
        (0x10_5400_0000, 4, constants, success(0)),
    ] {
        system.svc(0, &[0xc400_0089, address, pages, permissions]);
        assert_eq!(system.regs(0), answer, "{address:#x}");
    }
    system.svc(0, &[MSG_WAIT]);
    assert!(system.machine.console.contains("1 of 1 partitions ready"));
}

#[test]
fn too_few_tables_leave_a_partition_at_s_el0_out_and_leak_none() {
    let (packages, manifest) = loaded_at_s_el0();
    let needed = {
        let mut machine = packages.clone();
        start_at_s_el0(&mut machine, &manifest);
        machine.tables.live()
    };
    for budget in 0..=needed {
        let mut machine = packages.clone();
        machine.tables.set_budget(Some(budget));
        let config = BootConfig {
            manifest: &manifest,
            spmc_memory: range(0x0e10_0000, 0x100),
            boot_mpidr: 0,
            free_pages: PAGES,
            pages_a_pe: 1,
            interrupt_controller: Frames::default(),
            devices: &[],
        };
        let Ok(spmc) = boot::start(&config, &mut machine) else {
            continue;
        };
        let there = spmc.partitions().iter().any(|partition| partition.name == "user");
        let mut used = 0;
        for partition in spmc.partitions() {
            let tables = partition.tables.lock();
            for tables in [&tables.secure, &tables.non_secure] {
                used += machine.tables.check_one(tables).expect("well-formed tables");
            }
        }
        // What partitions at S-EL0 share is there or not, and never in part.
        let shared = machine.tables.live() - used;
        assert!(
            shared == 0 && !there || shared == SHARED,
            "{shared} with {budget} of {needed}"
        );
        assert_eq!(
            there,
            budget == needed,
            "with {budget} of {needed}: {}",
            machine.console
        );
        assert!(
            there || machine.console.contains("error: partition \"user\""),
            "{}",
            machine.console
        );
    }
}

#[test]
fn too_little_memory_leaves_partitions_out() {
    let packages = loaded();
    assert_eq!(start(&mut packages.clone(), 0, 3).err(), Some(BootError::OutOfMemory));
    let mut counts = Vec::new();
    // Four PEs take one page each.
    for pages in 4..100 {
        let mut machine = packages.clone();
        let spmc = start(&mut machine, 0, pages).expect("it starts");
        assert!(
            machine.tables.live() <= (pages - 4) / 2,
            "tables stay within the partitions' share"
        );
        let all = spmc.partitions().len() == 3;
        assert!(
            all || machine.console.contains("error: partition"),
            "{pages}: {}",
            machine.console
        );
        counts.push(spmc.partitions().len());
        // Those that are there work.
        let mut system = System::booted(&spmc, machine);
        for id in spmc
            .partitions()
            .iter()
            .map(|partition| u64::from(partition.id.as_u16()))
        {
            system.ask(0, id);
            system.respond(0, id, 0);
        }
    }
    counts.dedup();
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&3)));
    assert!(counts.len() > 2, "some are left out: {counts:?}");
}

#[test]
fn device_of_two_partitions_is_not_passed_on_by_either() {
    let mut machine = FakeMachine::new(4);
    for (name, base) in [("first", 0x0e30_0000), ("second", 0x0e40_0000)] {
        machine.memory.add(World::Secure, range(base, 0x100));
        let package = package(&compile(&format!("bad/system-device-shared/{name}.dts")));
        machine
            .memory
            .write(World::Secure, PhysAddr::new(base), &package)
            .expect("memory");
    }
    let config = BootConfig {
        manifest: &compile("bad/system-device-shared/spmc.dts"),
        spmc_memory: range(0x0e10_0000, 0x80),
        boot_mpidr: 0,
        free_pages: PAGES,
        pages_a_pe: 1,
        interrupt_controller: Frames::default(),
        devices: &[],
    };
    let spmc = boot::start(&config, &mut machine).expect("it starts");
    assert_eq!(spmc.partitions().len(), 2, "{}", machine.console);
    let mut system = System::booted(&spmc, machine);
    system.check_memory();
    // The buffers that their manifests name: RX may be one that the partition only reads.
    for partition in spmc.partitions() {
        let base = partition.memory.base().as_u64();
        let pair = partition.mailbox.lock().expect("it has buffers");
        assert_eq!(
            (pair.rx, pair.tx),
            (range(base + 0x4_0000, 1), range(base + 0x4_1000, 1))
        );
    }
    for (this, other) in [(0x8001, 0x8002), (0x8002, 0x8001)] {
        let buffers = range(if this == 0x8001 { 0x0e35_0000 } else { 0x0e45_0000 }, 2);
        system.ask(0, this);
        system.smc(0, &[0x8400_0067]);
        assert_eq!(system.regs(0), success(0));
        system.smc(
            0,
            &[
                0xc400_0066,
                buffers.base().as_u64(),
                buffers.base().as_u64() + 0x1000,
                1,
            ],
        );
        assert_eq!(system.regs(0), success(0));
        // LEND in the form of FF-A 1.1: sender, one borrower, RW; one range of one page.
        let mut words = [
            this,
            0,
            0,
            16 | 1 << 32,
            48,
            0,
            other | 0x2_0000 | 64 << 32,
            0,
            1 | 1 << 32,
            0,
            UART,
            1,
        ];
        for (page, expected) in [(UART, DENIED), (buffers.base().as_u64() + 0x2000, 0)] {
            words[10] = page;
            for (at, word) in (buffers.base().as_u64()..).step_by(8).zip(words) {
                let to = PhysAddr::new(at);
                system
                    .machine
                    .memory
                    .write(World::Secure, to, &word.to_le_bytes())
                    .expect("memory");
            }
            system.smc(0, &[0x8400_0072, 96, 96]);
            let [x0, _, x2, ..] = system.regs(0);
            let expected = if expected == 0 { SUCCESS } else { ERROR };
            assert_eq!(x0, expected, "{this:#x} {page:#x} {x2:#x}");
        }
        system.respond(0, this, 0);
    }
}

#[test]
fn boot_pe_that_the_manifest_does_not_name_is_an_error() {
    assert_eq!(
        start(&mut loaded(), 0x8000_0100, PAGES).err(),
        Some(BootError::BootCpuUnknown(0x100))
    );
}

#[test]
fn manifest_that_is_none_is_an_error() {
    let mut machine = FakeMachine::new(1);
    for manifest in [&[][..], &[0; 4096], b"\xd0\x0d\xfe\xed"] {
        let config = BootConfig {
            manifest,
            spmc_memory: range(0x0e10_0000, 0x100),
            boot_mpidr: 0,
            free_pages: PAGES,
            pages_a_pe: 1,
            interrupt_controller: Frames::default(),
            devices: &[],
        };
        assert_eq!(boot::start(&config, &mut machine).err(), Some(BootError::Manifest));
        assert!(machine.take_console().contains("error"));
    }
}

#[test]
fn partition_gets_the_virtual_interrupt_controller_that_it_asks_for() {
    const PRIVATE: [u8; 8] = [0, 0, 0, 23, 0, 0, 5, 0x20];
    let manifest = compile("qemu/test-virtual-gic/spmc.dts");
    let clock = compile("qemu/test-virtual-gic/clock.dts");
    let at = clock
        .windows(8)
        .position(|word| word == PRIVATE)
        .expect("its second interrupt");
    // 16 is the managed exit's there.
    for (private, expected) in [(23, &[34, 23][..]), (16, &[34])] {
        let mut machine = FakeMachine::new(4);
        machine.memory.add(World::Secure, range(0x0e20_0000, 0x100));
        let mut clock = clock.clone();
        clock[at + 3] = private;
        machine
            .memory
            .write(World::Secure, PhysAddr::new(0x0e20_0000), &package(&clock))
            .expect("memory");
        let config = BootConfig {
            manifest: &manifest,
            spmc_memory: range(0x0e10_0000, 0x100),
            boot_mpidr: 0,
            free_pages: PAGES,
            pages_a_pe: 8,
            interrupt_controller: Frames::default(),
            devices: &[],
        };
        let spmc = boot::start(&config, &mut machine).expect("it starts");
        let [clock] = spmc.partitions() else {
            panic!("one was loaded")
        };
        let devices: Vec<_> = clock.devices.iter().map(|device| device.id).collect();
        assert_eq!((clock.gic.is_some(), &devices[..]), (true, expected));
        let warned = machine
            .console
            .contains("the virtual interrupt controller has another one of this number");
        assert_eq!(warned, private == 16, "{}", machine.console);
        // It is where the SPMC manifest has the board's, and each context has its redistributor.
        let mut system = System::booted(&spmc, machine);
        system.nwd(0, &request(0, 0x8001));
        for (address, last) in [(0x080a_0008, 0), (0x0810_0008, 1 << 4)] {
            system.exit(
                0,
                tantalum_core::spmc::Exit::Synchronous {
                    esr: 0x24 << 26 | 1 << 25 | 1 << 24 | 3 << 22 | 7 << 16 | 1 << 15 | 0x07,
                    far: address,
                    hpfar: address >> 12 << 4,
                },
            );
            assert_eq!(system.ctx(0).x[7] & 1 << 4, last);
        }
    }
}
