//! Programs that must not compile, with the compiler's messages. After a change of the messages or
//! of the compiler: `TRYBUILD=overwrite cargo test -p proxmox-compile`, and read the diff.

#[test]
fn compiler_errors_are_helpful() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
