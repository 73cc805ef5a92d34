//! The command, run as a program on captures that are built here.

mod errors;
mod info;
mod print;
mod support;
