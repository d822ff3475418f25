//! Repeats one operation on translation tables, to count its instructions:
//!
//! ```text
//! cargo build --release -p tantalum-stage2 --example instructions
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/instructions unmap_map 10000
//! ```
//!
//! The count less that for 0 repetitions, divided by their number, is the cost of one. Without arguments lists the names.

use std::{env, hint::black_box, ops::ControlFlow};

use tantalum_stage2::{
    Access, Attributes, Error, Execute, Granule, Invalidate, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress,
    Ownership, TableAddr, TableMemory, Tables, Tlb,
};

/// Tables in one array, as plain as the target's.
struct Flat {
    pages: Vec<[u64; 512]>,
    free: Vec<u64>,
}

impl TableMemory for Flat {
    fn allocate_table(&mut self) -> Option<TableAddr> {
        let page = self.free.pop()?;
        self.pages[usize::try_from(page).ok()?] = [0; 512];
        Some(TableAddr(page << 12))
    }

    fn free_table(&mut self, table: TableAddr) {
        self.free.push(table.0 >> 12);
    }

    #[inline]
    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        self.pages[usize::try_from(table.0 >> 12).unwrap_or(0)][index % 512]
    }

    #[inline]
    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        self.pages[usize::try_from(table.0 >> 12).unwrap_or(0)][index % 512] = value;
    }
}

impl Tlb for Flat {
    fn invalidate(&mut self, _range: IpaRange) {}
}

const PAGE: u64 = 4096;
const BASE: u64 = 0x4000_0000;

fn pages(start: u64, pages: u64) -> IpaRange {
    IpaRange::new(Ipa(start), pages).expect("a range")
}

const fn data() -> Attributes {
    Attributes::new(
        MemoryType::NormalWriteBack,
        Access::ReadWrite,
        Execute::Never,
        Ownership::Owned,
    )
}

/// An operation, carried out once each time it is called; told how often it was before.
type Operation = fn(&mut Tables, &mut Flat, u64) -> Result<(), Error>;

/// Name, operation, pages that each repetition covers.
const OPERATIONS: [(&str, Operation, u64); 13] = [
    ("unmap_map", unmap_map, 1),
    ("translate", translate, 1),
    ("translate_elsewhere", translate_elsewhere, 1),
    ("entry_and_set_state", entry_and_set_state, 1),
    ("walk_page", |t, m, n| walk(t, m, BASE + n % 512 * PAGE, 1), 1),
    (
        "suspend_resume",
        |t, m, n| suspend_resume(t, m, BASE + n % 512 * PAGE, 1),
        1,
    ),
    ("suspend_resume_scattered", suspend_resume_scattered, 1),
    ("unmap_map_scattered", unmap_map_scattered, 1),
    ("walk_4096", |t, m, _| walk(t, m, BASE, 4096), 4096),
    ("suspend_resume_4096", |t, m, _| suspend_resume(t, m, BASE, 4096), 4096),
    ("unmap_map_4096", |t, m, _| map_much(t, m, Granule::Pages), 4096),
    ("unmap_map_4096_blocks", |t, m, _| map_much(t, m, Granule::Blocks), 4096),
    ("set_state_4096", |t, m, n| set_state(t, m, n, BASE, 4096), 4096),
];

fn unmap_map(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    let at = BASE + count % 512 * PAGE;
    let token = tables.unmap(memory, pages(at, 1), Ownership::None)?;
    token.complete(memory);
    tables.map(memory, pages(at, 1), OutputAddress(at), data(), Granule::Blocks)
}

/// A page of another 2 MiB each time.
fn elsewhere(count: u64) -> u64 {
    BASE + (count * 517) % 4096 * PAGE
}

fn unmap_map_scattered(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    let at = elsewhere(count);
    let token = tables.unmap(memory, pages(at, 1), Ownership::None)?;
    token.complete(memory);
    tables.map(memory, pages(at, 1), OutputAddress(at), data(), Granule::Blocks)
}

fn translate(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    black_box(tables.translate(memory, Ipa(BASE + count % 512 * PAGE)));
    Ok(())
}

fn translate_elsewhere(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    black_box(tables.translate(memory, Ipa(elsewhere(count))));
    Ok(())
}

fn entry_and_set_state(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    let at = BASE + count % 512 * PAGE;
    black_box(tables.entry(memory, Ipa(at)));
    set_state(tables, memory, count / 512, at, 1)
}

fn set_state(tables: &mut Tables, memory: &mut Flat, count: u64, at: u64, number: u64) -> Result<(), Error> {
    let states = [Ownership::Shared, Ownership::Owned];
    tables.set_state(memory, pages(at, number), states[usize::from(count % 2 == 1)])
}

fn walk(tables: &Tables, memory: &Flat, at: u64, number: u64) -> Result<(), Error> {
    let flow = tables.walk(memory, pages(at, number), |run| {
        black_box(run);
        ControlFlow::Continue(())
    });
    flow.map(|_| ())
}

fn suspend_resume(tables: &mut Tables, memory: &mut Flat, at: u64, number: u64) -> Result<(), Error> {
    let token = tables.suspend(memory, pages(at, number), Ownership::Lent)?;
    token.complete(memory);
    tables.resume(memory, pages(at, number), Ownership::Owned)
}

fn suspend_resume_scattered(tables: &mut Tables, memory: &mut Flat, count: u64) -> Result<(), Error> {
    suspend_resume(tables, memory, elsewhere(count), 1)
}

fn map_much(tables: &mut Tables, memory: &mut Flat, granule: Granule) -> Result<(), Error> {
    let much = pages(0x8000_0000, 4096);
    tables.map(memory, much, OutputAddress(0x8000_0000), data(), granule)?;
    let token: Invalidate = tables.unmap(memory, much, Ownership::None)?;
    token.complete(memory);
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let (Some(name), Some(times)) = (arguments.next(), arguments.next()) else {
        for (name, _, pages) in OPERATIONS {
            println!("{name} {pages}");
        }
        return Ok(());
    };
    let times: u64 = times.parse().expect("a number");
    let (_, operation, _) = OPERATIONS
        .into_iter()
        .find(|&(known, _, _)| known == name)
        .expect("the name of an operation");
    let mut memory = Flat {
        pages: vec![[0; 512]; 64],
        free: (1..64).collect(),
    };
    let mut tables = Tables::new(&mut memory, IpaSize::Bits39)?;
    let warm = pages(BASE, 4096);
    tables.map(&mut memory, warm, OutputAddress(BASE), data(), Granule::Pages)?;
    for count in 0..times {
        operation(&mut tables, &mut memory, black_box(count))?;
    }
    Ok(())
}
