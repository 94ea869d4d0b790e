//! What does not compile, and what the compiler says of it. After a change of the messages, or of the compiler:
//! `TRYBUILD=overwrite cargo test -p proxmox-compile`, and read the difference.

#[test]
fn what_does_not_compile_says_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
