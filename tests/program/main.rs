//! `pmon replay FILE -- PROGRAM`: unmodified programs on a fake kernel, as an ordinary user. In `clients/` are small ones, one for each idea
//! that a program may have of receiving events; they are built here, and are as right about the real kernel, which is tried too.

mod day;
mod ends;
mod expect;
mod faults;
mod forbidden;
mod found;
mod live;
mod outside;
mod peers;
mod procfs;
mod rows;
mod stage;

use pmon_testkit::{guard, support};
