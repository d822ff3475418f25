//! Table memory and a TLB for tests on the host.
