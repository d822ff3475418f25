//! The normal world as one that speaks an older version of FF-A, with partitions of all versions: what is different then.
//!
//! The version can be agreed on once only, before any other call: each has a boot of its own, whose scenario says which.

use tantalum_agent::{Borrow, Command, DONE, FAILED, Probe};
use tantalum_partition::{
    ffa::{
        FfaError, SMC, ids,
        memory::{Layout, NORMAL, READ_WRITE, Transaction},
    },
    normal_world::fw_cfg,
    println, probe,
};

use crate::{
    buffers::{FREE, NORMAL_WORLD as MEMORY, PAGE, Pair},
    report::{Outcome, Score, check, expect_eq, fail},
    talk::{
        DIRECT_REQ, DIRECT_REQ2, DIRECT_RESP, ERROR, FEATURES, MEM_FRAG_RX, MEM_FRAG_TX, MEM_RECLAIM, MEM_RETRIEVE_REQ,
        MEM_RETRIEVE_RESP, MEM_SHARE, MSG_SEND2, NORMAL_WORLD, NOTIFICATION_GET, PARTITION_INFO_GET,
        PARTITION_INFO_GET_REGS, RX_ACQUIRE, RX_RELEASE, RXTX_MAP64, SPM_ID_GET, SUCCESS, VERSION, expect_error,
        expect_success, finish, smc, word,
    },
    visit::FILE,
};

/// A partition of these scenarios.
#[derive(Clone, Copy)]
struct Peer {
    id: u16,
    /// Its load address.
    base: u64,
    contexts: u64,
    /// It speaks FF-A 1.`minor`.
    minor: u64,
    /// It takes FFA_MSG_SEND2.
    indirect: bool,
}

const ECHO: Peer = peer(0x8001, 0x0e20_0000, 4, 2, true);
const FORWARD: Peer = peer(0x8002, 0x0e30_0000, 1, 2, true);
const MIDDLE: Peer = peer(0x8003, 0x0e40_0000, 1, 1, true);
const LEGACY: Peer = peer(0x8004, 0x0e70_0000, 1, 0, false);
const PEERS: [Peer; 4] = [ECHO, FORWARD, MIDDLE, LEGACY];

const fn peer(id: u16, base: u64, contexts: u64, minor: u64, indirect: bool) -> Peer {
    Peer {
        id,
        base,
        contexts,
        minor,
        indirect,
    }
}

/// Memory to share.
const SHARED: u64 = MEMORY + 0x20_0000;
/// Attributes of shared memory of the normal world as a response has them.
const NORMAL_NON_SECURE: u64 = NORMAL as u64 | 1 << 6;
/// Transaction type in the flags: shared.
const TYPE_SHARE: u64 = 1 << 3;

/// A test, for a normal world that speaks FF-A 1.`minor`.
type Test = (&'static str, fn(u64) -> Outcome);

const TESTS: &[Test] = &[
    ("versions::calls_of_later_versions_are_not_supported", later_calls),
    ("versions::buffers_have_a_page_count_since_1_2", buffer_features),
    ("versions::partitions_are_described_as_the_version_has_it", descriptors),
    ("versions::direct_messages_reach_partitions_of_all_versions", direct),
    ("versions::memory_is_shared_with_partitions_of_all_versions", sharing),
    ("versions::memory_is_shared_in_fragments", fragments),
    (
        "versions::memory_is_shared_between_partitions_of_all_versions",
        sharing_between,
    ),
    ("versions::descriptors_of_other_versions_are_refused", other_layouts),
    ("versions::hypervisor_retrieves_in_its_own_version", hypervisor_retrieve),
    ("versions::message_headers_are_those_of_the_receiver", indirect),
    (
        "versions::messages_between_partitions_of_different_versions",
        indirect_between,
    ),
];

/// The minor version that the scenario wants us to speak, if it says so.
pub fn asked() -> Option<u64> {
    let mut file = [0; 2048];
    let text = str::from_utf8(fw_cfg::read(FILE, &mut file)?).ok()?;
    let minor = text.lines().find_map(|line| line.strip_prefix("version 1 "))?;
    minor.parse().ok()
}

/// Agrees on FF-A 1.`minor` and runs the tests.
pub fn run(minor: u64, score: &mut Score) {
    let answer = smc(&[VERSION, 1 << 16 | minor]);
    println!("tantalum: speaks FF-A 1.{minor}");
    score.record("versions::version_is_agreed_to", version(minor, answer[0]));
    for (name, test) in TESTS {
        score.record(name, test(minor));
    }
}

fn version(minor: u64, answer: u64) -> Outcome {
    expect_eq!(answer & 0xffff_ffff, 0x1_0002, "w0 after FFA_VERSION 1.{minor}");
    Ok(())
}

/// The layout of descriptors of FF-A 1.`minor`.
fn layout(minor: u64) -> Layout {
    match minor {
        0 => Layout::V1_0,
        1 => Layout::V1_1,
        _ => Layout::V1_2,
    }
}

/// Has a partition do something, by a message that all versions have; the words of its answer after [`DONE`].
fn tell(peer: Peer, command: Command, arguments: &[u64]) -> Outcome<[u64; 4]> {
    let answer = SMC.direct_req64(NORMAL_WORLD, peer.id, command.five_words(arguments));
    let answer = finish(answer, "a command to a partition")?;
    let [status, words @ ..] = answer.payload() else {
        fail!("partition {:#x}: an answer without words", peer.id);
    };
    if *status == FAILED || words.len() != 4 {
        fail!("partition {:#x} could not do {command:?}: {words:x?}", peer.id);
    }
    expect_eq!(
        *status,
        DONE,
        "the first word of the answer of {:#x} to {command:?}",
        peer.id
    );
    let mut result = [0; 4];
    result.copy_from_slice(words);
    Ok(result)
}

/// Has a partition make a call with x0-x2; x0-x4 of what it got.
fn call_from(peer: Peer, x: [u64; 3]) -> Outcome<[u64; 5]> {
    let answer = SMC.direct_req64(NORMAL_WORLD, peer.id, Command::Call.five_words(&[0, x[0], x[1], x[2]]));
    let answer = finish(answer, "a call by a partition")?;
    let mut result = [0; 5];
    result.copy_from_slice(answer.payload());
    Ok(result)
}

/// The 8 bytes at an address, as a partition reads them.
fn read(peer: Peer, address: u64) -> Outcome<u64> {
    let [faulted, value, ..] = tell(peer, Command::Read, &[address])?;
    check!(faulted == 0, "partition {:#x} to read at {address:#x}", peer.id);
    Ok(value)
}

fn write(peer: Peer, address: u64, value: u64) -> Outcome {
    let answer = tell(peer, Command::Write, &[address, value])?;
    check!(answer[0] == 0, "partition {:#x} to write at {address:#x}", peer.id);
    Ok(())
}

/// The address of a partition's TX; RX is the page behind it.
fn buffers(peer: Peer) -> Outcome<u64> {
    let [_, tx, ..] = tell(peer, Command::Borrow, &[Borrow::Buffers as u64])?;
    Ok(tx)
}

fn later_calls(minor: u64) -> Outcome {
    let since_1_1 = [MSG_SEND2, RX_ACQUIRE, NOTIFICATION_GET];
    let since_1_2 = [PARTITION_INFO_GET_REGS, DIRECT_REQ2];
    let later = since_1_1
        .iter()
        .filter(|_| minor < 1)
        .chain(since_1_2.iter().filter(|_| minor < 2));
    for call in later {
        expect_error(
            &smc(&[*call, ids(NORMAL_WORLD, ECHO.id)]),
            FfaError::NotSupported,
            "a call of a later version",
        )?;
        expect_error(
            &smc(&[FEATURES, *call]),
            FfaError::NotSupported,
            "FFA_FEATURES of a call of a later version",
        )?;
    }
    for peer in PEERS.iter().filter(|peer| peer.minor < 1) {
        let answer = call_from(*peer, [SPM_ID_GET, 0, 0])?;
        expect_eq!(
            answer[..3],
            [ERROR, 0, word(FfaError::NotSupported)],
            "FFA_SPM_ID_GET by a partition of 1.0"
        );
    }
    Ok(())
}

fn buffer_features(minor: u64) -> Outcome {
    let most = if minor < 2 { 0 } else { 63 << 16 };
    let answer = smc(&[FEATURES, RXTX_MAP64]);
    expect_eq!(
        answer[..8],
        [SUCCESS, 0, most, 0, 0, 0, 0, 0],
        "x0-x7 after FFA_FEATURES of FFA_RXTX_MAP"
    );
    Ok(())
}

fn descriptors(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    let answer = own.call(&[PARTITION_INFO_GET])?;
    // The size is told since 1.1.
    let size = if minor < 1 { 8 } else { 24 };
    let told = if minor < 1 { 0 } else { size };
    let count = PEERS.len() as u64;
    expect_eq!(
        answer[..8],
        [SUCCESS, 0, count, told, 0, 0, 0, 0],
        "x0-x7 after FFA_PARTITION_INFO_GET"
    );
    let known: u64 = match minor {
        0 => 0x7,
        1 => 0x1ff,
        _ => 0x7ff,
    };
    for (place, peer) in (0..).zip(PEERS) {
        let first = own.received(place * size)?;
        let (id, contexts, properties) = (first & 0xffff, first >> 16 & 0xffff, first >> 32);
        expect_eq!(
            [id, contexts],
            [u64::from(peer.id), peer.contexts],
            "id and contexts in descriptor {place}"
        );
        let indirect = if peer.indirect { 4 } else { 0 };
        expect_eq!(properties & 7, 1 | indirect, "messages that {:#x} takes", peer.id);
        expect_eq!(
            properties & !known,
            0,
            "properties of {:#x} that the version has not",
            peer.id
        );
        if minor > 0 {
            let (low, high) = (own.received(place * size + 8)?, own.received(place * size + 16)?);
            check!(low != 0 && high != 0, "the UUID of {:#x}", peer.id);
        }
    }
    // What comes behind is as it was.
    expect_eq!(own.received(count * size)?, u64::MAX, "RX behind the descriptors");
    own.release()
}

fn direct(minor: u64) -> Outcome {
    for peer in PEERS {
        let answer = smc(&[DIRECT_REQ, ids(NORMAL_WORLD, peer.id), 0, 1, 2, 3, 4, minor]);
        let expected = [DIRECT_RESP, ids(peer.id, NORMAL_WORLD), 0, 1, 2, 3, 4, minor];
        expect_eq!(answer[..8], expected, "x0-x7 of the response");
    }
    Ok(())
}

/// The descriptor of a share of single pages, and its words.
fn share(layout: Layout, sender: u16, borrowers: &[(u16, u8)], pages: &[u64]) -> ([u64; 64], usize) {
    let count = (pages.len() as u64 & 0xff) as u32;
    let head = Transaction {
        layout,
        sender,
        attributes: NORMAL,
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers,
        ranges: Some((count, count)),
    }
    .head();
    let mut words = [0; 64];
    let mut length = head.words().len();
    words[..length].copy_from_slice(head.words());
    for page in pages {
        words[length..length + 2].copy_from_slice(&[*page, 1]);
        length += 2;
    }
    (words, length)
}

fn handle_of(answer: &[u64]) -> Outcome<u64> {
    if answer[..2] != [SUCCESS, 0] || answer[4..8] != [0; 4] {
        fail!(
            "FFA_MEM_SHARE: expected FFA_SUCCESS and a handle, got {:x?}",
            &answer[..8]
        );
    }
    Ok(answer[2] | answer[3] << 32)
}

fn reclaim(own: &Pair, handle: u64) -> Outcome {
    let answer = own.call(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32])?;
    expect_success(&answer, "FFA_MEM_RECLAIM")
}

/// The partition retrieves what `sender` shares, reads, and relinquishes.
fn borrow(peer: Peer, sender: u16, handle: u64, pages: &[u64]) -> Outcome {
    let layout = layout(peer.minor);
    let bytes = 8 * (layout.header() + layout.borrower()) + 16 + 16 * pages.len();
    let request = [Borrow::Retrieve as u64, handle, u64::from(sender) << 16];
    let [_, got, code, _] = tell(peer, Command::Borrow, &request)?;
    expect_eq!(
        [got, code],
        [bytes as u64, 0],
        "bytes of the response to {:#x}, and its error",
        peer.id
    );
    for page in pages {
        expect_eq!(
            read(peer, *page)?,
            *page + 1,
            "what {:#x} reads in shared memory",
            peer.id
        );
    }
    let [_, answer, ..] = tell(peer, Command::Borrow, &[Borrow::Relinquish as u64, handle])?;
    expect_eq!(answer, SUCCESS, "x0 after FFA_MEM_RELINQUISH");
    let words = Command::Read.five_words(&[pages[0]]);
    let answer = finish(SMC.direct_req64(NORMAL_WORLD, peer.id, words), "a read")?;
    let gone = matches!(Probe::from_words(answer.payload()), Some(Probe::Faulted { .. }));
    check!(gone, "{:#x} to be out of reach of {:#x} again", pages[0], peer.id);
    Ok(())
}

fn fill(pages: &[u64]) -> Outcome {
    for page in pages {
        check!(probe::write64(*page, *page + 1).is_ok(), "memory at {page:#x}");
    }
    Ok(())
}

fn sharing(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    fill(&[SHARED])?;
    for peer in PEERS {
        let (words, length) = share(layout(minor), NORMAL_WORLD, &[(peer.id, READ_WRITE)], &[SHARED]);
        own.send(&words[..length])?;
        let bytes = 8 * length as u64;
        let handle = handle_of(&own.call(&[MEM_SHARE, bytes, bytes])?)?;
        borrow(peer, NORMAL_WORLD, handle, &[SHARED])?;
        reclaim(&own, handle)?;
    }
    Ok(())
}

fn fragments(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    let pages = [SHARED, SHARED + 2 * PAGE, SHARED + 4 * PAGE];
    fill(&pages)?;
    for peer in PEERS {
        let (words, length) = share(layout(minor), NORMAL_WORLD, &[(peer.id, READ_WRITE)], &pages);
        let total = 8 * length as u64;
        own.send(&words[..length - 4])?;
        let answer = own.call(&[MEM_SHARE, total, total - 32])?;
        let (low, high) = (answer[1], answer[2]);
        expect_eq!(
            answer[..8],
            [MEM_FRAG_RX, low, high, total - 32, 0, 0, 0, 0],
            "x0-x7 after a first fragment"
        );
        own.send(&words[length - 4..length])?;
        let handle = handle_of(&own.call(&[MEM_FRAG_TX, low, high, 32])?)?;
        expect_eq!(handle, low | high << 32, "the handle of what came in fragments");
        borrow(peer, NORMAL_WORLD, handle, &pages)?;
        reclaim(&own, handle)?;
    }
    Ok(())
}

/// A page of a partition's own that its program does not use.
fn own_page(peer: Peer) -> u64 {
    peer.base + FREE + 4 * PAGE
}

fn map(peer: Peer, page: u64) -> Outcome {
    tell(peer, Command::Map, &[page, page, PAGE, 0]).map(drop)
}

fn sharing_between(_: u64) -> Outcome {
    for from in PEERS {
        let (page, tx) = (own_page(from), buffers(from)?);
        map(from, page)?;
        write(from, page, page + 1)?;
        for to in PEERS.into_iter().filter(|to| to.id != from.id) {
            map(to, page)?;
            let (words, length) = share(layout(from.minor), from.id, &[(to.id, READ_WRITE)], &[page]);
            for (offset, word) in (0..).step_by(8).zip(&words[..length]) {
                write(from, tx + offset, *word)?;
            }
            let bytes = 8 * length as u64;
            let [x0, x1, low, high, x4] = call_from(from, [MEM_SHARE, bytes, bytes])?;
            expect_eq!(
                [x0, x1, x4],
                [SUCCESS, 0, 0],
                "x0, x1 and x4 after FFA_MEM_SHARE by {:#x}",
                from.id
            );
            borrow(to, from.id, low | high << 32, &[page])?;
            let answer = call_from(from, [MEM_RECLAIM, low, high])?;
            expect_eq!(
                answer,
                [SUCCESS, 0, 0, 0, 0],
                "x0-x4 after FFA_MEM_RECLAIM by {:#x}",
                from.id
            );
        }
    }
    Ok(())
}

fn other_layouts(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    // From 1.1 on the length of what describes a borrower is stated, and either is understood.
    for other in [0, 1, 2].into_iter().filter(|other| (*other == 0) != (minor == 0)) {
        let (words, length) = share(layout(other), NORMAL_WORLD, &[(FORWARD.id, READ_WRITE)], &[SHARED]);
        own.send(&words[..length])?;
        let bytes = 8 * length as u64;
        let answer = own.call(&[MEM_SHARE, bytes, bytes])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_SHARE in the layout of another version",
        )?;
    }
    Ok(())
}

fn hypervisor_retrieve(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    let layout = layout(minor);
    let borrowers = [(LEGACY.id, READ_WRITE), (FORWARD.id, READ_WRITE)];
    let (words, length) = share(layout, NORMAL_WORLD, &borrowers, &[SHARED]);
    own.send(&words[..length])?;
    let bytes = 8 * length as u64;
    let handle = handle_of(&own.call(&[MEM_SHARE, bytes, bytes])?)?;
    let mut request = [0; 6];
    request[1] = handle;
    own.send(&request[..layout.header()])?;
    let asked = 8 * layout.header() as u64;
    let answer = own.call(&[MEM_RETRIEVE_REQ, asked, asked])?;
    expect_eq!(
        answer[..8],
        [MEM_RETRIEVE_RESP, bytes, bytes, 0, 0, 0, 0, 0],
        "x0-x7 after FFA_MEM_RETRIEVE_REQ"
    );
    // As it was sent, but for the handle, the type of the transaction, and the NS bit, whatever the version.
    let mut expected = words;
    expected[0] = NORMAL_NON_SECURE << 16 | TYPE_SHARE << 32;
    expected[1] = handle;
    for (offset, word) in (0..).step_by(8).zip(&expected[..length]) {
        expect_eq!(own.received(offset)?, *word, "byte {offset} and on of the response");
    }
    own.release()?;
    expect_error(
        &own.call(&[MEM_FRAG_RX, handle & 0xffff_ffff, handle >> 32, bytes])?,
        FfaError::InvalidParameters,
        "FFA_MEM_FRAG_RX of a response that is complete",
    )?;
    reclaim(&own, handle)
}

/// A message with a payload of 8 bytes, the header in the layout of FF-A 1.`minor`, the payload right behind it.
fn message(minor: u64, from: u16, to: u16, payload: u64) -> [u64; 6] {
    let route = ids(from, to);
    if minor < 2 {
        // 20 bytes of header.
        [0, 20 | route << 32, 8 | payload << 32, payload >> 32, 0, 0]
    } else {
        [0, 40 | route << 32, 8, 0, 0, payload]
    }
}

/// Fails unless words are a message; what is behind it is zero.
fn expect_message(words: [u64; 6], minor: u64, from: u16, to: u16, payload: u64) -> Outcome {
    expect_eq!(
        words,
        message(minor, from, to, payload),
        "the message from {from:#x} in RX of {to:#x}"
    );
    Ok(())
}

/// What is in RX of a partition.
fn received(peer: Peer, tx: u64) -> Outcome<[u64; 6]> {
    let mut words = [0; 6];
    for (offset, word) in (0..).step_by(8).zip(&mut words) {
        *word = read(peer, tx + PAGE + offset)?;
    }
    Ok(words)
}

/// Has a partition send a message; x0-x2 of what it got.
fn send_from(peer: Peer, tx: u64, to: u16, payload: u64) -> Outcome<[u64; 3]> {
    for (offset, word) in (0..).step_by(8).zip(message(peer.minor, peer.id, to, payload)) {
        write(peer, tx + offset, word)?;
    }
    let [x0, x1, x2, ..] = call_from(peer, [MSG_SEND2, 0, 0])?;
    Ok([x0, x1, x2])
}

fn release_rx(peer: Peer) -> Outcome {
    let answer = call_from(peer, [RX_RELEASE, 0, 0])?;
    expect_eq!(answer[..3], [SUCCESS, 0, 0], "x0-x2 after FFA_RX_RELEASE");
    Ok(())
}

/// Two payloads, so that none passes because of what was there before.
const PAYLOADS: [u64; 2] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];

fn indirect(minor: u64) -> Outcome {
    let own = Pair::of_normal_world()?;
    if minor < 1 {
        // It has no such messages; to it there are none either.
        let tx = buffers(FORWARD)?;
        let answer = send_from(FORWARD, tx, NORMAL_WORLD, 1)?;
        expect_eq!(
            answer,
            [ERROR, 0, word(FfaError::Denied)],
            "x0-x2 after FFA_MSG_SEND2 to a normal world of 1.0"
        );
        return Ok(());
    }
    for (peer, payload) in [FORWARD, MIDDLE]
        .into_iter()
        .flat_map(|peer| PAYLOADS.map(|payload| (peer, payload)))
    {
        let tx = buffers(peer)?;
        own.send(&message(minor, NORMAL_WORLD, peer.id, payload))?;
        expect_success(&own.call(&[MSG_SEND2])?, "FFA_MSG_SEND2")?;
        expect_message(received(peer, tx)?, peer.minor, NORMAL_WORLD, peer.id, payload)?;
        release_rx(peer)?;
        let answer = send_from(peer, tx, NORMAL_WORLD, payload)?;
        expect_eq!(answer, [SUCCESS, 0, 0], "x0-x2 after FFA_MSG_SEND2 by {:#x}", peer.id);
        let mut words = [0; 6];
        for (offset, word) in (0..).step_by(8).zip(&mut words) {
            *word = own.received(offset)?;
        }
        expect_message(words, minor, peer.id, NORMAL_WORLD, payload)?;
        own.release()?;
    }
    own.send(&message(minor, NORMAL_WORLD, LEGACY.id, 1))?;
    expect_error(
        &own.call(&[MSG_SEND2])?,
        FfaError::Denied,
        "FFA_MSG_SEND2 to a partition of 1.0",
    )
}

fn indirect_between(_: u64) -> Outcome {
    for (from, to) in [(FORWARD, MIDDLE), (MIDDLE, FORWARD)] {
        let (tx, rx) = (buffers(from)?, buffers(to)?);
        for payload in PAYLOADS {
            let answer = send_from(from, tx, to.id, payload)?;
            expect_eq!(answer, [SUCCESS, 0, 0], "x0-x2 after FFA_MSG_SEND2 by {:#x}", from.id);
            expect_message(received(to, rx)?, to.minor, from.id, to.id, payload)?;
            release_rx(to)?;
        }
    }
    Ok(())
}
