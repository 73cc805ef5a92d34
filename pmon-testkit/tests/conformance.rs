//! The sources of the fake kernel conform.

use pmon_testkit::conformance::{conforms, fake};

#[test]
fn the_fake_kernels_socket() {
    conforms("the_fake_kernels_socket", || Ok(fake::InProcess::open(false)));
}

#[test]
fn the_fake_kernels_socket_without_enobufs() {
    conforms("the_fake_kernels_socket_without_enobufs", || Ok(fake::InProcess::open(true)));
}

#[test]
fn the_fake_kernels_descriptor() {
    conforms("the_fake_kernels_descriptor", || Ok(fake::Descriptor::open()));
}
