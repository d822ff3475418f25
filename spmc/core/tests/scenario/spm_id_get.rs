//! FFA_SPM_ID_GET (FF-A 1.2, section 13.11).

use crate::support::*;

#[test]
fn is_the_spmcs() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[SPM_ID_GET]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, success(SPMC)));
    system.ask(0, A);
    system.smc(0, &[SPM_ID_GET]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(SPMC)));
}

#[test]
fn is_not_there_before_ffa_1_1() {
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.version(1, 0)).build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[SPM_ID_GET], NOT_SUPPORTED);
}
