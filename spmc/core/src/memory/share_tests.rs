//! Ranges that are put together, and the shares of everything that an owner may take.

use super::*;
use tantalum_stage2::fake::FakeMemory;

/// A partition, and two VMs.
const SP: EndpointId = EndpointId::new(0x8001);
const OTHER: EndpointId = EndpointId::new(0x8002);
const VM: EndpointId = EndpointId::new(1);
const VM2: EndpointId = EndpointId::new(2);

fn range(page: u64, pages: u64) -> Range {
    Range::new(page << PAGE_SHIFT, pages).unwrap()
}

/// One borrower, no ranges.
fn share(memory: &mut FakeMemory) -> Share {
    let mut share = Share::new(SP, Kind::Share, 0, 0);
    share.add_borrower(memory, OTHER, 2, [7, 8], &mut 0).unwrap();
    share
}

#[test]
fn ranges_that_touch_are_one() {
    let mut memory = FakeMemory::new();
    let mut share = share(&mut memory);
    // It begins where the last of none would end.
    assert_eq!(share.add_ranges(&mut memory, &[range(0, 1)], &mut 0), 1);
    assert_eq!((share.ranges(), share.pages, share.passed(&memory, 0)), (1, 1, [7, 8]));
    assert_eq!(
        share.add_ranges(&mut memory, &[range(1, 2), range(3, 1), range(9, 1)], &mut 0),
        3
    );
    assert_eq!((share.ranges(), share.pages), (2, 5));
    let mut ranges = share.ranges_from(&memory, 0);
    assert_eq!(ranges.next(&memory, &share), Some(range(0, 4)));
    assert_eq!(ranges.next(&memory, &share), Some(range(9, 1)));
    assert_eq!(ranges.next(&memory, &share), None);
}

#[test]
fn ranges_that_get_too_long_together_stay_two() {
    let mut memory = FakeMemory::new();
    let mut share = share(&mut memory);
    let half = 1 << (COUNT_BITS - 1);
    assert_eq!(Range::new(0, 2 * half), None);
    let ranges = [range(half, half), range(2 * half, half), range(3 * half, 1)];
    assert_eq!(share.add_ranges(&mut memory, &ranges, &mut 0), 3);
    assert_eq!((share.ranges(), share.pages), (2, 2 * half + 1));
    // There is no room for another: neither for one that touches and can't be joined, nor for one that is apart.
    let more: Vec<_> = (0..3).map(|number| range(8 * half + 2 * number, 1)).collect();
    assert_eq!(share.add_ranges(&mut memory, &more, &mut 0), 3);
    let end = 8 * half + 5;
    assert_eq!(share.add_ranges(&mut memory, &[range(end, 2 * half - 1)], &mut 0), 0);
    assert_eq!(share.add_ranges(&mut memory, &[range(end + 1, 1)], &mut 0), 0);
    assert_eq!(share.ranges(), 5);
}

/// Takes a place for a share of `owner` that takes `pages` pages of table memory.
fn take(shares: &mut Shares, memory: &mut FakeMemory, owner: EndpointId, pages: u64) -> Result<u64, FfaError> {
    let mut budget = shares.admit(owner)?;
    let handle = shares.take_place().unwrap();
    let mut share = Share::new(owner, Kind::Share, 0, 0);
    let ranges: Vec<_> = (0..pages * 511).map(|number| range(1 + 2 * number, 1)).collect();
    assert_eq!(share.add_ranges(memory, &ranges, &mut budget), ranges.len());
    assert_eq!(u64::from(share.store_pages()), pages);
    shares.put(handle, Some(share));
    Ok(handle)
}

fn limits(shares: u32, pages: u32, reserved: u32) -> Limits {
    Limits {
        shares,
        pages,
        reserved,
    }
}

#[test]
fn there_are_no_more_places_than_handles_tell_apart() {
    assert_eq!(Shares::new(limits(70_000, 0, 0)).limits().shares, 65_536);
}

#[test]
fn the_last_place_is_for_somebody_who_has_none() {
    let mut memory = FakeMemory::new();
    let mut shares = Shares::new(limits(3, 16, 0));
    for owner in [SP, OTHER] {
        take(&mut shares, &mut memory, owner, 0).unwrap();
        assert_eq!(
            shares.admit(SP),
            Err(FfaError::NoMemory),
            "as much as it leaves for others"
        );
    }
    let last = take(&mut shares, &mut memory, VM, 0).unwrap();
    assert_eq!(
        (shares.admit(VM2), shares.take_place()),
        (Err(FfaError::NoMemory), None)
    );
    let _ = shares.remove(last);
    assert!(take(&mut shares, &mut memory, VM2, 0).is_ok());
    assert_eq!(shares.len(), 3);
}

#[test]
fn partitions_have_places_and_pages_that_the_normal_world_can_not_take() {
    let mut memory = FakeMemory::new();
    let mut shares = Shares::new(limits(8, 16, 2));
    assert_eq!(
        (shares.admit(SP), shares.admit(VM)),
        (Ok(8), Ok(6)),
        "half of 16, half of 12"
    );
    let sp = take(&mut shares, &mut memory, SP, 5).unwrap();
    assert_eq!((shares.admit(VM), shares.admit(OTHER)), (Ok(6), Ok(6)), "11 are left");
    for number in 3..8 {
        take(&mut shares, &mut memory, EndpointId::new(number), 0).unwrap();
    }
    let vm = take(&mut shares, &mut memory, VM, 4).unwrap();
    assert_eq!(shares.admit(VM2), Err(FfaError::NoMemory), "six places");
    // What a partition gives back is not the normal world's.
    let _ = shares.remove(sp);
    assert_eq!((shares.admit(VM2), shares.admit(SP)), (Err(FfaError::NoMemory), Ok(6)));
    assert_eq!(shares.budget_of(VM2), 4, "half of 12 less 4");
    let _ = shares.remove(vm);
    assert_eq!(shares.admit(VM2), Ok(6));
}

#[test]
fn an_owner_may_take_half_of_what_is_left_with_what_it_has() {
    let mut memory = FakeMemory::new();
    let mut shares = Shares::new(limits(8, 16, 0));
    let first = take(&mut shares, &mut memory, SP, 3).unwrap();
    assert_eq!((shares.budget_of(SP), shares.budget_of(OTHER)), (5, 7), "of 13, less 3");
    let second = take(&mut shares, &mut memory, SP, 2).unwrap();
    assert_eq!((shares.budget_of(SP), shares.budget_of(OTHER)), (3, 6), "of 11, less 5");
    // What is taken out for a change is not counted meanwhile, and then as before.
    let share = shares.take_out(first).unwrap();
    assert_eq!((shares.budget_of(SP), shares.accounts.len()), (6, 1), "of 14, less 2");
    assert!(shares.get(first).is_none() && shares.get(second).is_some());
    shares.put(first, Some(share));
    assert_eq!((shares.budget_of(SP), shares.len()), (3, 2));
    assert_eq!(shares.account(SP).shares, 2);
    let _ = shares.remove(second);
    assert_eq!((shares.budget_of(SP), shares.accounts.len()), (5, 1));
    let _ = shares.remove(first);
    assert_eq!((shares.budget_of(SP), shares.accounts.len(), shares.len()), (8, 0, 0));
    assert!(shares.get(first).is_none() && shares.get(0).is_none() && shares.remove(0).is_none());
}
