//! Memory of the normal world for partitions, and messages that travel in memory.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::TicketMutex;
use tantalum_agent::{Borrow, Command as Told};
use tantalum_partition::{
    ffa::{
        SMC,
        memory::{Layout, NEVER_EXECUTE, NORMAL, READ_ONLY, READ_WRITE, Transaction},
        registers,
    },
    normal_world::spare_memory,
    println, probe,
};

use crate::{
    commands::{Result, command_to, make},
    names::{Code, Function},
    peers::Peer,
    words::{Wrong, number, peer, wrong},
};

const RXTX_MAP: u64 = 0xc400_0066;
const MEM_DONATE: u64 = 0x8400_0071;
const MEM_LEND: u64 = 0x8400_0072;
const MEM_SHARE: u64 = 0x8400_0073;
const MEM_RECLAIM: u64 = 0x8400_0077;
const MSG_SEND2: u64 = 0x8400_0086;
const SUCCESS: u64 = 0x8400_0061;

/// Bytes in a page.
const PAGE: u64 = 0x1000;
/// Where the pages to share begin in the spare memory; the buffers are before them.
const SHARED: u64 = 0x10_0000;
/// The longest range to share: a megabyte.
const MOST: u64 = 256;
/// Bytes of the header of a message since FF-A 1.2.
const HEADER: usize = 40;

/// The normal world's TX buffer; RX is behind it.
fn tx() -> u64 {
    spare_memory()
}

/// Handles that were got here, the latest first, and what permissions may be asked for with them.
static HANDLES: TicketMutex<[(u64, u8); 16]> = TicketMutex::new([(0, 0); 16]);

/// The handle that a command has or else the latest, and its permissions.
fn handle(arguments: &[&str]) -> core::result::Result<(u64, u8), Wrong> {
    let handles = *HANDLES.lock();
    match arguments {
        [] => Ok(handles[0]),
        [handle] => {
            let handle = number(handle)?;
            let known = handles.into_iter().find(|(known, _)| *known == handle);
            Ok(known.unwrap_or((handle, 0)))
        }
        _ => Err(Wrong::Usage),
    }
}

/// Maps the normal world's buffers, if they are not.
fn need_buffers() -> Result {
    static MAPPED: AtomicBool = AtomicBool::new(false);

    if !MAPPED.load(Ordering::Relaxed) {
        let answer = SMC.call(&registers(&[RXTX_MAP, tx(), tx() + PAGE, 1]));
        if answer[0] != SUCCESS {
            return Err(wrong!(
                "FFA_RXTX_MAP: {}({})",
                Function(0x8400_0060),
                Code((answer[2] & 0xffff_ffff) as u32)
            ));
        }
        println!("(FFA_RXTX_MAP: TX {:#x}, RX {:#x})", tx(), tx() + PAGE);
        MAPPED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Writes words to an address of the spare memory.
fn put(address: u64, words: impl Iterator<Item = u64>) -> Result {
    for (at, word) in (address..).step_by(8).zip(words) {
        probe::write64(at, word).map_err(|fault| wrong!("{at:#x}: {fault}"))?;
    }
    Ok(())
}

/// Passes pages on: new ones of the spare memory, each time others.
fn pass(function: u64, arguments: &[&str]) -> Result {
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let (who, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    let (pages, read_only) = match rest {
        [] => (1, false),
        ["ro"] => (1, true),
        [pages] => (number(pages)?, false),
        [pages, "ro"] => (number(pages)?, true),
        _ => return Err(Wrong::Usage),
    };
    if pages == 0 || pages > MOST {
        return Err(wrong!("1 to {MOST} pages at a time"));
    }
    let borrower = peer(who)?;
    need_buffers()?;
    let address = spare_memory() + SHARED + NEXT.fetch_add(pages * PAGE, Ordering::Relaxed) % (8 * SHARED);
    let head = Transaction {
        layout: Layout::V1_2,
        sender: 0,
        // Only who keeps access says what the memory is.
        attributes: if function == MEM_SHARE { NORMAL } else { 0 },
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers: &[(borrower.id, permissions(function, read_only))],
        ranges: Some(((pages & 0xffff) as u32, 1)),
    }
    .head();
    let words = head.words().iter().copied().chain([address, pages]);
    let bytes = 8 * words.clone().count() as u64;
    put(tx(), words)?;
    println!("{pages} page(s) at {address:#x}");
    let answer = make(&[function, bytes, bytes]);
    if answer[0] == SUCCESS {
        let handle = answer[2] | answer[3] << 32;
        // Who is given memory for itself says whether it executes it; memory of the normal world it does not.
        let never = if function == MEM_SHARE { 0 } else { NEVER_EXECUTE };
        let access = if read_only { READ_ONLY } else { READ_WRITE };
        let mut handles = HANDLES.lock();
        handles.rotate_right(1);
        handles[0] = (handle, access | never);
        println!("the handle is {handle:#x}; {borrower} has no access before it retrieves it");
    }
    Ok(())
}

/// The permissions that the sender may give: whoever is given memory for good says itself what it wants.
fn permissions(function: u64, read_only: bool) -> u8 {
    match (function, read_only) {
        (MEM_DONATE, _) => 0,
        (_, true) => READ_ONLY,
        (_, false) => READ_WRITE,
    }
}

/// `FFA_MEM_SHARE`.
pub fn share(arguments: &[&str]) -> Result {
    pass(MEM_SHARE, arguments)
}

/// `FFA_MEM_LEND`.
pub fn lend(arguments: &[&str]) -> Result {
    pass(MEM_LEND, arguments)
}

/// `FFA_MEM_DONATE`.
pub fn donate(arguments: &[&str]) -> Result {
    pass(MEM_DONATE, arguments)
}

/// `FFA_MEM_RECLAIM`.
pub fn reclaim(arguments: &[&str]) -> Result {
    let (handle, _) = handle(arguments)?;
    make(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32]);
    Ok(())
}

fn borrow(who: &str, what: Borrow, (handle, permissions): (u64, u8)) -> core::result::Result<[u64; 3], Wrong> {
    let words = command_to(who, &Told::Borrow.words(&[what as u64, handle, permissions.into()]))?;
    match words {
        [tantalum_agent::DONE, ticks, result, code, ..] => Ok([ticks, result, code]),
        _ => Err(wrong!("{who} does not know how to do that")),
    }
}

/// Has a test partition retrieve memory.
pub fn retrieve(arguments: &[&str]) -> Result {
    let (who, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    match borrow(who, Borrow::Retrieve, handle(rest)?)? {
        [_, 0, code] => println!("{who} can't retrieve it: {}", Code((code & 0xffff_ffff) as u32)),
        [_, bytes, _] => println!("{who} has access: FFA_MEM_RETRIEVE_RESP of {bytes} bytes. tell {who} read ADDRESS"),
    }
    Ok(())
}

/// Has a test partition relinquish memory.
pub fn relinquish(arguments: &[&str]) -> Result {
    let (who, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    match borrow(who, Borrow::Relinquish, handle(rest)?)? {
        [_, SUCCESS, _] => println!("{who} has no access any more"),
        [_, _, code] => println!("{who} can't relinquish it: {}", Code((code & 0xffff_ffff) as u32)),
    }
    Ok(())
}

/// `FFA_MSG_SEND2`, with the words as text. A test partition gets its buffers mapped first.
pub fn message(arguments: &[&str]) -> Result {
    let (who, words) = arguments.split_first().ok_or(Wrong::Usage)?;
    let receiver: Peer = peer(who)?;
    need_buffers()?;
    if let Ok([_, rx, _]) = borrow(who, Borrow::Buffers, (0, 0)) {
        println!("({who} has RX at {:#x}: tell {who} read ADDRESS)", rx + PAGE);
    }
    let mut bytes = [0; 256];
    let mut end = HEADER;
    for byte in words.iter().flat_map(|word| word.bytes().chain([b' '])) {
        bytes[end] = byte;
        end += 1;
    }
    let size = end.saturating_sub(1).max(HEADER) - HEADER;
    let header = [0, 0, HEADER, usize::from(receiver.id), size];
    for (slot, word) in bytes.chunks_exact_mut(4).zip(header) {
        slot.copy_from_slice(&u32::try_from(word).unwrap_or(0).to_le_bytes());
    }
    put(tx(), bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)))?;
    make(&[MSG_SEND2]);
    Ok(())
}
