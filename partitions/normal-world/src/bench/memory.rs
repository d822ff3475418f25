//! Sharing memory: one page, many pages, many shares.

use tantalum_agent::{BENCH, Borrow, Command, DONE};
use tantalum_partition::{
    arch,
    ffa::{
        Partition, SMC,
        memory::{Layout, NORMAL, READ_WRITE, Transaction},
        registers,
    },
    measure, println, probe,
};

use super::{REPEATS, WARM_UP, median};
use crate::{
    buffers::{NORMAL_WORLD, PAGE, Pair},
    report::{Outcome, check, expect_eq, fail},
    talk::{self, DIRECT_REQ, DIRECT_RESP, MEM_FRAG_RX, MEM_FRAG_TX, MEM_RECLAIM, MEM_SHARE, SUCCESS},
    world::World,
};

/// Memory to share.
const SHARED: u64 = NORMAL_WORLD + 0x10_0000;
/// More shares than the SPMC can have.
const MANY: u64 = 0x1_0000;

/// Measures everything.
pub fn run(world: &World) -> Outcome {
    let partition = world.need(BENCH[0])?;
    let _buffers = Pair::of_normal_world()?;
    one_page(partition)?;
    whole_cycle(partition)?;
    let scattered = many_pages(partition, 4096, 1)?;
    println!("bench mem_page_of_4096 {}", scattered.div_ceil(4096));
    println!(
        "bench mem_page_of_1024 {}",
        many_pages(partition, 1024, 1)?.div_ceil(1024)
    );
    println!(
        "bench mem_page_of_4096_contiguous {}",
        many_pages(partition, 1, 4096)?.div_ceil(4096)
    );
    many_shares(partition)
}

/// Writes words into TX.
fn put(words: &[u64]) -> Outcome {
    for (at, word) in (NORMAL_WORLD..).step_by(8).zip(words) {
        check!(probe::write64(at, *word).is_ok(), "TX to be writable");
    }
    Ok(())
}

/// Writes the start of a descriptor into TX; returns its words.
fn put_head(partition: Partition, ranges: u32, pages_each: u32) -> Outcome<u64> {
    let transaction = Transaction {
        layout: Layout::V1_2,
        sender: 0,
        attributes: NORMAL,
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers: &[(partition.id, READ_WRITE)],
        ranges: Some((ranges * pages_each, ranges)),
    };
    let head = transaction.head();
    put(head.words())?;
    Ok(head.words().len() as u64)
}

/// Shares ranges of so many pages each, every one with as many pages that are not shared behind it. Returns the ticks of the calls, and the handle.
fn share(partition: Partition, ranges: u32, pages_each: u32) -> Outcome<(u64, u64)> {
    let head = put_head(partition, ranges, pages_each)?;
    let total = 8 * head + 16 * u64::from(ranges);
    let (mut at, mut sent) = (8 * head, 0);
    let mut ticks = 0;
    for range in 0..ranges {
        let address = SHARED + u64::from(range) * 2 * u64::from(pages_each) * PAGE;
        for (offset, word) in [(0, address), (8, pages_each.into())] {
            check!(
                probe::write64(NORMAL_WORLD + at + offset, word).is_ok(),
                "TX to be writable"
            );
        }
        at += 16;
        if at < PAGE && range + 1 < ranges {
            continue;
        }
        let call = if sent == 0 {
            [MEM_SHARE, total, at, 0]
        } else {
            let handle = sent;
            [MEM_FRAG_TX, handle & 0xffff_ffff, handle >> 32, at]
        };
        let (more, answer) = measure::normal_world_call(&registers(&call));
        ticks += more;
        match answer[0] {
            SUCCESS => return Ok((ticks, answer[2] | answer[3] << 32)),
            MEM_FRAG_RX => sent = answer[1] | answer[2] << 32,
            _ => fail!("memory can't be shared: {:x?}", &answer[..8]),
        }
        at = 0;
    }
    fail!("all of a descriptor was sent, and the SPMC wants more")
}

/// Has the partition do something with a handle. Returns the ticks of its calls and what they returned.
fn borrow(partition: Partition, what: Borrow, handle: u64) -> Outcome<[u64; 2]> {
    let words = Command::Borrow.five_words(&[what as u64, handle]);
    let response = talk::finish(
        SMC.direct_req64(0, partition.id, words),
        "a partition that borrows memory",
    )?;
    let [done, ticks, result, ..] = *response.payload() else {
        unreachable!("a message has five words")
    };
    expect_eq!(done, DONE, "that it was done");
    check!(result != 0, "the partition to get the memory");
    Ok([ticks, result])
}

fn reclaim(handle: u64) -> Outcome<u64> {
    let (ticks, answer) = measure::normal_world_call(&registers(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32]));
    expect_eq!(answer[0], SUCCESS, "x0 after FFA_MEM_RECLAIM");
    Ok(ticks)
}

fn one_page(partition: Partition) -> Outcome {
    let mut ticks = [[0; REPEATS]; 4];
    for repeat in 0..WARM_UP + REPEATS {
        let (shared, handle) = share(partition, 1, 1)?;
        let [retrieved, _] = borrow(partition, Borrow::Retrieve, handle)?;
        let [relinquished, answer] = borrow(partition, Borrow::Relinquish, handle)?;
        expect_eq!(answer, SUCCESS, "x0 after FFA_MEM_RELINQUISH");
        let reclaimed = reclaim(handle)?;
        if let Some(repeat) = repeat.checked_sub(WARM_UP) {
            for (row, figure) in ticks.iter_mut().zip([shared, retrieved, relinquished, reclaimed]) {
                row[repeat] = figure;
            }
        }
    }
    let names = ["mem_share", "mem_retrieve_release", "mem_relinquish", "mem_reclaim"];
    for (name, mut row) in names.into_iter().zip(ticks) {
        row.sort_unstable();
        println!("bench {name} {}", row[REPEATS / 2]);
    }
    Ok(())
}

/// From the share to the reclaim, with all that the normal world and the partition do between.
fn whole_cycle(partition: Partition) -> Outcome {
    let mut ticks = [0; REPEATS];
    for slot in &mut ticks {
        let start = arch::counter();
        let (_, handle) = share(partition, 1, 1)?;
        borrow(partition, Borrow::Retrieve, handle)?;
        borrow(partition, Borrow::Relinquish, handle)?;
        reclaim(handle)?;
        *slot = arch::counter() - start;
    }
    ticks.sort_unstable();
    println!("bench mem_cycle {}", ticks[REPEATS / 2]);
    Ok(())
}

/// The ticks of sharing and retrieving.
fn many_pages(partition: Partition, ranges: u32, pages_each: u32) -> Outcome<u64> {
    let (shared, handle) = share(partition, ranges, pages_each)?;
    let [retrieved, bytes] = borrow(partition, Borrow::Retrieve, handle)?;
    check!(bytes >= 16 * u64::from(ranges), "all ranges in the response");
    borrow(partition, Borrow::Relinquish, handle)?;
    reclaim(handle)?;
    Ok(shared + retrieved)
}

/// A message, and the share of a page, with as many open shares as fit.
fn many_shares(partition: Partition) -> Outcome {
    let head = put_head(partition, 1, 1)?;
    let total = 8 * head + 16;
    let open = |page: u64| {
        put_head(partition, 1, 1)?;
        for (offset, word) in [(0, SHARED + page * PAGE), (8, 1)] {
            let at = NORMAL_WORLD + 8 * head + offset;
            check!(probe::write64(at, word).is_ok(), "TX to be writable");
        }
        Ok(measure::normal_world_call(&registers(&[MEM_SHARE, total, total])))
    };
    let message = || {
        let (ticks, answer) = median(&registers(&[DIRECT_REQ, talk::to(partition)]));
        expect_eq!(answer[0], DIRECT_RESP, "x0 after FFA_MSG_SEND_DIRECT_REQ");
        Ok(ticks)
    };
    let (mut count, mut first, mut last) = (0, 0, 0);
    let mut handle_of_first = 0;
    while count < MANY {
        let (ticks, answer) = open(count)?;
        if answer[0] != SUCCESS {
            break;
        }
        let handle = answer[2] | answer[3] << 32;
        if count == 0 {
            (first, handle_of_first) = (ticks, handle);
        }
        last = ticks;
        count += 1;
    }
    println!("bench open_shares {count}");
    println!("bench mem_share_most_open {last}");
    println!("bench direct_message_most_shares {}", message()?);
    check!(
        count > 1 && last <= first + first / 4,
        "a share to cost what the first did: {first}, {last}"
    );
    reclaim(handle_of_first).map(drop)
}
